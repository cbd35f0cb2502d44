//! Changes of objects, and what each touches in the indexes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::cell::{Map, Name as Cell, Touched};
use super::index::{
    Aged, Attachment, DestinationPolicyEntry, HostMap, InboundPolicyEntry, Index, MESH,
    PatternChange, RouteEntry, WorkloadEntry,
};
use super::{
    DestinationPolicySource, GatewaySource, InboundPolicySource, Reach, RouteSource, SidecarSource,
    destination,
};
use crate::chunk::Chunk;
use crate::credential::CredentialSource;
use crate::finding::Finding;
use crate::name::{Labels, Name, ObjectId, ServiceId};
use crate::policy::Policy;
use crate::service::{Endpoint, Service, Workload};
use crate::settings::Settings;
use crate::shared_map::SharedMap;

mod services;

/// A change of one object. What is the same as before changes nothing.
#[derive(Clone, Debug)]
pub enum Edit {
    /// The settings are these.
    Settings(Box<Settings>),
    /// A service is this, or gone with its endpoints. Its endpoints stay.
    Service(ServiceId, Option<(Box<Service>, Reach)>),
    /// A service has these endpoints and no others.
    Endpoints(ServiceId, Vec<Endpoint>),
    /// A service has this endpoint under an id, or none.
    Endpoint(ServiceId, Name, Option<Box<Endpoint>>),
    /// This one lives at an address, or nobody.
    Workload(IpAddr, Option<Box<Workload>>),
    /// A route is this, or gone.
    Route(ObjectId, Option<Box<RouteSource>>),
    /// A destination policy is this, or gone.
    DestinationPolicy(ObjectId, Option<Box<DestinationPolicySource>>),
    /// An inbound policy is this, or gone.
    InboundPolicy(ObjectId, Option<Box<InboundPolicySource>>),
    /// A gateway is this, or gone.
    Gateway(ObjectId, Option<Box<GatewaySource>>),
    /// A certificate or key of a user is this, or gone.
    Credential(ObjectId, Option<Box<CredentialSource>>),
    /// A Sidecar is this, or gone.
    Sidecar(ObjectId, Option<Box<SidecarSource>>),
    /// This was found in an object when others were looked at while it was translated.
    Found(ObjectId, Vec<Finding>),
}

impl Index {
    /// Applies a change, and notes what it touches.
    pub(super) fn edit(&mut self, edit: Edit, touched: &mut Touched) {
        match edit {
            Edit::Settings(settings) => self.edit_settings(*settings, touched),
            Edit::Service(id, service) => self.edit_service(&id, service, touched),
            Edit::Endpoints(id, endpoints) => self.edit_endpoints(&id, endpoints, touched),
            Edit::Endpoint(id, endpoint_id, endpoint) => {
                self.edit_endpoint(&id, &endpoint_id, endpoint.map(|e| *e), touched);
            }
            Edit::Workload(ip, workload) => self.edit_workload(ip, workload, touched),
            Edit::Route(id, source) => self.edit_route(id, source, touched),
            Edit::DestinationPolicy(id, source) => {
                self.edit_destination_policy(id, source, touched);
            }
            Edit::InboundPolicy(id, source) => self.edit_inbound_policy(id, source, touched),
            Edit::Gateway(id, source) => self.edit_gateway(id, source, touched),
            Edit::Credential(id, source) => self.edit_credential(&id, source, touched),
            Edit::Sidecar(id, source) => self.edit_sidecar(id, source, touched),
            Edit::Found(id, found) => {
                match found.is_empty() {
                    true => self.found.remove(&id),
                    false => self.found.insert(id.clone(), found.into()),
                };
                touched.objects.insert(id);
            }
        }
    }

    fn edit_settings(&mut self, settings: Settings, touched: &mut Touched) {
        if *self.settings == settings {
            return;
        }
        let before = std::mem::replace(&mut self.settings, Arc::new(settings));
        touched.touch(Cell::Settings);
        let root_moved = before.root_namespace != self.settings.root_namespace;
        if root_moved {
            touched.touch(Cell::RootNamespace);
        }
        if root_moved || before.mtls_mode != self.settings.mtls_mode {
            self.look_again_at_members(None, touched);
        }
    }

    fn edit_workload(
        &mut self,
        ip: IpAddr,
        workload: Option<Box<Workload>>,
        touched: &mut Touched,
    ) {
        let before = self.workloads.get(&ip).cloned();
        let after = workload.map(|workload| {
            let given = Arc::new(*workload);
            WorkloadEntry { seen: self.workload_seen(&given), given }
        });
        if before == after {
            return;
        }
        touched.touch(Cell::Workload(ip));
        match &after {
            Some(after) => self.workloads.insert(ip, after.clone()),
            None => self.workloads.remove(&ip),
        };
        let (before, after) = (before.map(|entry| entry.given), after.map(|entry| entry.given));
        if before == after {
            return;
        }
        if let Some(before) = &before {
            self.workloads_by_uid.remove(&before.id.uid, &ip);
            self.workloads_in.remove(&before.id.namespace, &ip);
            touched.touch(Cell::WorkloadOf(&before.id.uid));
        }
        if let Some(after) = &after {
            self.workloads_by_uid.insert(after.id.uid.clone(), ip);
            self.workloads_in.insert(after.id.namespace.clone(), ip);
            touched.touch(Cell::WorkloadOf(&after.id.uid));
        }
        let group =
            |workload: &Arc<Workload>| (workload.id.namespace.clone(), workload.labels.clone());
        let (before, after) = (before.as_ref().map(group), after.as_ref().map(group));
        if before != after {
            if let Some((namespace, labels)) = before {
                self.count_labels(&namespace, labels, false, touched);
            }
            if let Some((namespace, labels)) = after {
                self.count_labels(&namespace, labels, true, touched);
            }
        }
    }

    /// Counts one workload more or less that has these labels.
    fn count_labels(
        &mut self,
        namespace: &Name,
        labels: Labels,
        more: bool,
        touched: &mut Touched,
    ) {
        if count(&mut self.labels, namespace, labels, more) {
            touched.touch(Cell::LabelsIn(namespace));
            touched.touch(Cell::Labels);
        }
    }

    fn edit_route(
        &mut self,
        id: ObjectId,
        source: Option<Box<RouteSource>>,
        touched: &mut Touched,
    ) {
        let before = self.routes.get(&id).cloned();
        let after = source.map(|source| Arc::new(route_entry(*source)));
        if before == after {
            return;
        }
        let (old, new) = (before.as_deref(), after.as_deref());
        let delegates_anew = old.map(|e| &e.delegations) != new.map(|e| &e.delegations);
        if delegates_anew || old.map(|e| &e.route) != new.map(|e| &e.route) {
            touched.touch(Cell::Route(&id));
        }
        if delegates_anew || old.map(|e| &e.destinations) != new.map(|e| &e.destinations) {
            touched.touch(Cell::DestinationsOf(&id));
        }
        let seen = |entry: &RouteEntry| {
            let Attachment { hosts, export_to, created, precedence, has_connection_rules, .. } =
                &entry.attachment;
            let gateways = entry.fields.gateways;
            let is_delegate = hosts.is_empty();
            let seen = (export_to.clone(), *created, *precedence, *has_connection_rules);
            (seen, is_delegate, gateways)
        };
        let as_before = old.map(seen) == new.map(seen);
        if !as_before {
            touched.touch(Cell::Attachment(&id));
        }
        // Where it stays as it was nobody need look again.
        let (was, is) = (places(old), places(new));
        let kept = |others: &BTreeSet<Place>, place: &Place| as_before && others.contains(place);
        if let Some(old) = old {
            let aged = Aged::new(old.attachment.created, &id);
            for place in was.iter().filter(|place| !kept(&is, place)) {
                self.attach(&aged, place, false, touched);
            }
        }
        if let Some(new) = new {
            let aged = Aged::new(new.attachment.created, &id);
            for place in is.iter().filter(|place| !kept(&was, place)) {
                self.attach(&aged, place, true, touched);
            }
        }
        match after {
            Some(after) => self.routes.insert(id.clone(), after),
            None => self.routes.remove(&id),
        };
        touched.objects.insert(id);
    }

    /// Attaches a route for a host to a gateway or the mesh, or takes it away from there.
    fn attach(
        &mut self,
        route: &Aged<ObjectId>,
        (gateway, host): &Place,
        on: bool,
        touched: &mut Touched,
    ) {
        if **gateway == *MESH {
            let change = place(&mut self.mesh_routes, host, route, on);
            touch_pattern(Map::Mesh, host, change, touched);
            return;
        }
        let mut routes = self.gateway_routes.remove(gateway).unwrap_or_default();
        let change = place(&mut routes.hosts, host, route, on);
        touch_pattern(Map::Gateway(gateway), host, change, touched);
        if change.pattern {
            for chunk in Chunk::all_of(host) {
                touched.touch(Cell::GatewayPatterns(gateway, chunk));
            }
            if on {
                routes.patterns.insert(host.clone());
            } else {
                routes.patterns.remove(host);
            }
        }
        if !routes.hosts.is_empty() {
            self.gateway_routes.insert(gateway.clone(), routes);
        }
    }

    fn edit_destination_policy(
        &mut self,
        id: ObjectId,
        source: Option<Box<DestinationPolicySource>>,
        touched: &mut Touched,
    ) {
        let before = self.destination_policies.get(&id).cloned();
        let after = source.map(|source| {
            let DestinationPolicySource {
                policy,
                host,
                export_to,
                selector,
                created,
                mutual_tls_at,
                credentials,
            } = *source;
            let policy = Arc::new(Policy::Destination(policy));
            Arc::new(DestinationPolicyEntry {
                policy,
                host,
                export_to,
                selector,
                created,
                mutual_tls_at,
                credentials,
            })
        });
        if before == after {
            return;
        }
        if before.as_ref().map(|e| &e.policy) != after.as_ref().map(|e| &e.policy) {
            touched.touch(Cell::Policy(&id));
        }
        let reach = |e: &Arc<DestinationPolicyEntry>| {
            let reach = (e.host.clone(), e.export_to.clone(), e.selector.clone(), e.created);
            (reach, e.credentials.clone())
        };
        if before.as_ref().map(reach) != after.as_ref().map(reach) {
            touched.touch(Cell::Reach(&id));
            for (entry, on) in [(&before, false), (&after, true)] {
                let Some(entry) = entry else { continue };
                let aged = Aged::new(entry.created, &id);
                let namespace = &id.namespace;
                let mut of_namespace =
                    self.destination_policies_in.remove(namespace).unwrap_or_default();
                let change = place(&mut of_namespace, &entry.host, &aged, on);
                touch_pattern(Map::Destination(namespace), &entry.host, change, touched);
                if !of_namespace.is_empty() {
                    self.destination_policies_in.insert(namespace.clone(), of_namespace);
                }
                let change = place(&mut self.destination_policies_by_host, &entry.host, &aged, on);
                touch_pattern(Map::Destinations, &entry.host, change, touched);
                if entry.selector.is_none() {
                    continue;
                }
                touched.touch(Cell::SelectingPoliciesIn(namespace));
                match on {
                    true => self.selecting_policies_in.insert(namespace.clone(), aged),
                    false => self.selecting_policies_in.remove(namespace, &aged),
                };
            }
        }
        match after {
            Some(after) => self.destination_policies.insert(id.clone(), after),
            None => self.destination_policies.remove(&id),
        };
        touched.objects.insert(id);
    }

    fn edit_inbound_policy(
        &mut self,
        id: ObjectId,
        source: Option<Box<InboundPolicySource>>,
        touched: &mut Touched,
    ) {
        let before = self.inbound_policies.get(&id).cloned();
        let after = source.map(|source| {
            let InboundPolicySource { policy, selectors, only_oldest, found, fields, created } =
                *source;
            let policy = Arc::new(Policy::Inbound(policy));
            Arc::new(InboundPolicyEntry { policy, selectors, only_oldest, found, fields, created })
        });
        if before == after {
            return;
        }
        if before.as_ref().map(|e| &e.policy) != after.as_ref().map(|e| &e.policy) {
            touched.touch(Cell::Policy(&id));
        }
        let reach = |e: &Arc<InboundPolicyEntry>| (e.selectors.clone(), e.only_oldest, e.created);
        if before.as_ref().map(reach) != after.as_ref().map(reach) {
            touched.touch(Cell::InboundPoliciesIn(&id.namespace));
            if let Some(before) = &before {
                let aged = Aged::new(before.created, &id);
                self.inbound_policies_in.remove(&id.namespace, &aged);
            }
            if let Some(after) = &after {
                let aged = Aged::new(after.created, &id);
                self.inbound_policies_in.insert(id.namespace.clone(), aged);
            }
        }
        match after {
            Some(after) => self.inbound_policies.insert(id.clone(), after),
            None => self.inbound_policies.remove(&id),
        };
        let of_root = id.namespace == self.settings.root_namespace;
        let namespace = (!of_root).then(|| id.namespace.clone());
        self.look_again_at_members(namespace.as_ref(), touched);
        touched.objects.insert(id);
    }

    fn edit_credential(
        &mut self,
        id: &ObjectId,
        source: Option<Box<CredentialSource>>,
        touched: &mut Touched,
    ) {
        let place = (id.namespace.clone(), id.name.clone());
        let after = source.map(|source| Arc::new(*source));
        if self.credentials.get(&place) == after.as_ref() {
            return;
        }
        touched.touch(Cell::Credential(&id.namespace, &id.name));
        match after {
            Some(after) => self.credentials.insert(place, after),
            None => self.credentials.remove(&place),
        };
    }

    fn edit_sidecar(
        &mut self,
        id: ObjectId,
        source: Option<Box<SidecarSource>>,
        touched: &mut Touched,
    ) {
        let before = self.sidecars.get(&id).cloned();
        let after = source.map(|source| Arc::new(*source));
        if before == after {
            return;
        }
        touched.touch(Cell::Sidecar(&id));
        let reach = |sidecar: &Arc<SidecarSource>| (sidecar.selector.clone(), sidecar.created);
        if before.as_ref().map(reach) != after.as_ref().map(reach) {
            touched.touch(Cell::SidecarsIn(&id.namespace));
            if let Some(before) = &before {
                self.sidecars_in.remove(&id.namespace, &Aged::new(before.created, &id));
            }
            if let Some(after) = &after {
                self.sidecars_in.insert(id.namespace.clone(), Aged::new(after.created, &id));
            }
        }
        match after {
            Some(after) => self.sidecars.insert(id.clone(), after),
            None => self.sidecars.remove(&id),
        };
        touched.objects.insert(id);
    }

    fn edit_gateway(
        &mut self,
        id: ObjectId,
        source: Option<Box<GatewaySource>>,
        touched: &mut Touched,
    ) {
        let before = self.gateways.get(&id).cloned();
        let after = source.map(|source| Arc::new(*source));
        if before == after {
            return;
        }
        touched.touch(Cell::Gateway(&id));
        let name: Name = super::gateway::name_of(&id).into();
        touched.touch(Cell::GatewayNamed(&name));
        touched.touch(Cell::Gateways);
        let place_of = |gateway: &GatewaySource| {
            let first = gateway.selector.0.iter().next();
            first.map(|(label, value)| (label.clone(), value.clone())).unwrap_or_default()
        };
        if let Some(before) = &before {
            let (aged, place) = (Aged::new(before.created, &id), place_of(before));
            self.gateways_by_name.remove(&name, &aged);
            self.gateways_by_label.remove(&place, &aged);
            touched.touch(Cell::GatewaysByLabel(&place.0, &place.1));
        }
        if let Some(after) = &after {
            let (aged, place) = (Aged::new(after.created, &id), place_of(after));
            self.gateways_by_name.insert(name, aged.clone());
            touched.touch(Cell::GatewaysByLabel(&place.0, &place.1));
            self.gateways_by_label.insert(place, aged);
        }
        match after {
            Some(after) => self.gateways.insert(id.clone(), after),
            None => self.gateways.remove(&id),
        };
        touched.objects.insert(id);
    }
}

fn route_entry(source: RouteSource) -> RouteEntry {
    let RouteSource { route, hosts, gateways, export_to, delegations, created, .. } = source;
    let (precedence, found, fields) = (source.precedence, source.found, source.fields);
    RouteEntry {
        destinations: destination::named(&route),
        attachment: Attachment {
            has_connection_rules: !route.connection_rules.is_empty(),
            hosts,
            gateways,
            export_to,
            created,
            precedence,
        },
        route: Arc::new(route),
        found,
        delegations,
        fields,
    }
}

/// A gateway, or the mesh, and a host.
type Place = (Name, Name);

/// Where a route is attached.
fn places(entry: Option<&RouteEntry>) -> BTreeSet<Place> {
    let attachments = entry.into_iter().map(|entry| &entry.attachment);
    attachments
        .flat_map(|to| {
            to.gateways.iter().flat_map(|g| to.hosts.iter().map(|h| (g.clone(), h.clone())))
        })
        .collect()
}

/// Puts an object under a pattern, or takes it away.
fn place(map: &mut HostMap, pattern: &Name, object: &Aged<ObjectId>, on: bool) -> PatternChange {
    if on { map.insert(pattern, object.clone()) } else { map.remove(pattern, object) }
}

fn touch_pattern(map: Map<'_>, pattern: &Name, change: PatternChange, touched: &mut Touched) {
    touched.touch(Cell::Pattern(map, pattern));
    if change.odd {
        touched.touch(Cell::OddWildcards(map));
    }
}

/// Counts one more or less of something that belongs to a namespace. Returns whether it is new, or
/// no longer there.
fn count<K: std::hash::Hash + Eq + Clone>(
    counts: &mut SharedMap<Name, SharedMap<K, usize>>,
    namespace: &Name,
    key: K,
    more: bool,
) -> bool {
    let mut of_namespace = counts.remove(namespace).unwrap_or_default();
    let before = of_namespace.get(&key).copied().unwrap_or(0);
    let after = if more { before + 1 } else { before.saturating_sub(1) };
    match after {
        0 => of_namespace.remove(&key),
        _ => of_namespace.insert(key, after),
    };
    if !of_namespace.is_empty() {
        counts.insert(namespace.clone(), of_namespace);
    }
    (before == 0) != (after == 0)
}
