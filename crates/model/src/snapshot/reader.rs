//! Looking things up in the indexes, and noting what was looked at.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::cell::{Cell, Map, Name as CellName};
use super::index::{
    Aged, DestinationPolicyEntry, GatewayRoutes, HostMap, InboundPolicyEntry, Index, MESH,
    RouteEntry, ServiceEntry,
};
use super::{GatewaySource, SidecarSource};
use crate::chunk::Chunk;
use crate::credential::CredentialSource;
use crate::name::{Labels, Name, ObjectId, ServiceId};
use crate::policy::Policy;
use crate::service::{Endpoint, Workload};

/// The indexes as one question sees them. Each method notes the cells that its answer depends on,
/// also where it finds nothing.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    index: &'a Index,
    reads: RefCell<HashSet<Cell>>,
    /// Destination policies that are for some workloads only, the asker's among them.
    selecting: &'a [ObjectId],
}

impl<'a> Reader<'a> {
    pub(super) fn new(index: &'a Index) -> Self {
        Self::of_caller(index, &[])
    }

    /// For an asker whom these destination policies select.
    pub(super) fn of_caller(index: &'a Index, selecting: &'a [ObjectId]) -> Self {
        Self { index, reads: RefCell::default(), selecting }
    }

    /// Whether a destination policy that is for some workloads only selects the asker's.
    pub(super) fn is_selecting(&self, policy: &ObjectId) -> bool {
        self.selecting.contains(policy)
    }

    /// What was looked at, in order.
    pub(super) fn into_reads(self) -> Vec<Cell> {
        let mut reads: Vec<Cell> = self.reads.into_inner().into_iter().collect();
        reads.sort_unstable();
        reads
    }

    /// The indexes themselves, for what `cells` say is looked at.
    pub(super) fn index(&self, cells: &[CellName<'_>]) -> &'a Index {
        let mut reads = self.reads.borrow_mut();
        reads.extend(cells.iter().map(|name| name.cell()));
        self.index
    }

    pub(super) fn root_namespace(&self) -> &'a Name {
        &self.index(&[CellName::RootNamespace]).settings.root_namespace
    }

    /// A service; not its endpoints.
    pub(super) fn service(&self, id: &ServiceId) -> Option<&'a ServiceEntry> {
        self.index(&[CellName::Service(id)]).services.get(id).map(|entry| &**entry)
    }

    /// The chunks of a service's endpoints.
    pub(super) fn chunks(&self, id: &ServiceId) -> &'a [Chunk] {
        let entry = self.index(&[CellName::Chunks(id)]).services.get(id);
        entry.map_or(&[], |entry| &entry.service.endpoint_chunks)
    }

    /// An endpoint of a service, if it has any. Of its endpoints only the chunk of that one is looked
    /// at.
    pub(super) fn some_endpoint(&self, id: &ServiceId) -> Option<&'a Endpoint> {
        self.chunks(id).iter().find_map(|&chunk| {
            let entry = self.index(&[CellName::Endpoints(id, chunk)]).services.get(id)?;
            entry.endpoints.chunk(chunk)?.first().map(|endpoint| &*endpoint.seen)
        })
    }

    /// The service of that fully qualified name, as seen from `namespace`: its own if it declares
    /// one, else the oldest.
    pub(super) fn service_named(
        &self,
        hostname: &str,
        namespace: &str,
    ) -> Option<&'a ServiceEntry> {
        let index = self.index(&[CellName::ServicesOfHost(hostname)]);
        self.seen(index.services_by_host.of(hostname), namespace)
    }

    /// Of these services that which proxies of a namespace mean: its own, else the oldest that they
    /// see.
    fn seen(&self, services: &[Aged<ServiceId>], namespace: &str) -> Option<&'a ServiceEntry> {
        self.all_seen(services, namespace).next()
    }

    /// The services of these that a namespace sees, its own first, then the oldest.
    fn all_seen<'s>(
        &'s self,
        services: &'s [Aged<ServiceId>],
        namespace: &'s str,
    ) -> impl Iterator<Item = &'a ServiceEntry> + 's {
        let is_own = move |service: &&Aged<ServiceId>| *service.id.namespace == *namespace;
        let own = services.iter().filter(is_own);
        let others = services.iter().filter(move |service| !is_own(service));
        let all = own.chain(others).filter_map(|aged| self.service(&aged.id));
        all.filter(move |entry| entry.visible_from(namespace))
    }

    /// The service that a fully qualified name means: that of this name, else that of the most
    /// specific wildcard.
    pub(super) fn service_meant(&self, name: &str, namespace: &str) -> Option<&'a ServiceEntry> {
        let of_wildcard = |(at, _)| self.service_named(&format!("*{}", &name[at..]), namespace);
        let named = self.service_named(name, namespace);
        named.or_else(|| name.match_indices('.').find_map(of_wildcard))
    }

    /// The service that has this virtual address; of several one with the port, the namespace's own,
    /// else the oldest.
    pub(super) fn service_at(
        &self,
        ip: IpAddr,
        port: u16,
        namespace: &str,
    ) -> Option<&'a ServiceEntry> {
        let services = self.index(&[CellName::ServicesAt(ip)]).services_by_address.of(&ip);
        let with_port = |entry: &&ServiceEntry| entry.service.port(port).is_some();
        let found = self.all_seen(services, namespace).find(with_port);
        found.or_else(|| self.seen(services, namespace))
    }

    /// The service with this port to which a network leads that has this address, the narrowest first.
    pub(super) fn service_around(
        &self,
        ip: IpAddr,
        port: u16,
        namespace: &str,
    ) -> Option<&'a ServiceEntry> {
        let index = self.index(&[CellName::Networks]);
        let networks = index.services_by_network.iter();
        let mut around: Vec<_> = networks.filter(|(network, _)| network.contains(ip)).collect();
        around.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
        around.into_iter().find_map(|(_, services)| {
            let mut services = self.all_seen(services, namespace);
            services.find(|entry| entry.service.port(port).is_some())
        })
    }

    /// The services that are reached on a port at any address and that proxies of a namespace see,
    /// the oldest first.
    pub(super) fn services_anywhere(&self, port: u16, namespace: &str) -> Vec<&'a ServiceEntry> {
        let index = self.index(&[CellName::ServicesAnywhere(port)]);
        let services = index.services_anywhere.of(&port).iter();
        let services = services.filter_map(|aged| self.service(&aged.id));
        services.filter(|entry| entry.visible_from(namespace)).collect()
    }

    /// The endpoints with this address, each with its service, the oldest service first. Of an
    /// endpoint only address and ports are looked at.
    pub(super) fn endpoints_at(
        &self,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&'a ServiceEntry, &'a Endpoint)> {
        let endpoints = self.index(&[CellName::EndpointsAt(ip)]).endpoints_by_ip.of(&ip);
        endpoints.iter().filter_map(|(service, id)| {
            let entry = self.service(&service.id)?;
            Some((entry, &*entry.endpoints.get(id)?.given))
        })
    }

    /// All endpoints of a service, in order of their ids.
    pub(super) fn all_endpoints(&self, entry: &'a ServiceEntry) -> Vec<&'a Endpoint> {
        // Read anew: `entry` may have been read for something else.
        self.index(&[CellName::AllEndpoints(&entry.service.id)]);
        let mut endpoints: Vec<&Endpoint> = entry.endpoints.iter().map(|e| &*e.seen).collect();
        endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        endpoints
    }

    /// The services of that fully qualified name, the oldest first.
    pub(super) fn services_named(&self, hostname: &str) -> Vec<&'a ServiceEntry> {
        let index = self.index(&[CellName::ServicesOfHost(hostname)]);
        let services = index.services_by_host.of(hostname).iter();
        services.filter_map(|service| self.service(&service.id)).collect()
    }

    /// All services, the oldest first.
    pub(super) fn services(&self) -> Vec<&'a ServiceEntry> {
        let index = self.index(&[CellName::Services]);
        let mut services: Vec<&ServiceEntry> = index.services.values().map(|e| &**e).collect();
        services.sort_by_key(|entry| entry.aged());
        services
    }

    pub(super) fn workload(&self, ip: IpAddr) -> Option<&'a Arc<Workload>> {
        let entry = self.index(&[CellName::Workload(ip)]).workloads.get(&ip);
        entry.map(|entry| &entry.seen)
    }

    /// The workload of this uid, as it was given.
    pub(super) fn workload_of(&self, uid: &str) -> Option<&'a Arc<Workload>> {
        let index = self.index(&[CellName::WorkloadOf(uid)]);
        let ip = index.workloads_by_uid.of(uid).first()?;
        index.workloads.get(ip).map(|entry| &entry.given)
    }

    /// The addresses of the workload of this uid.
    pub(super) fn addresses_of(&self, uid: &str) -> &'a [IpAddr] {
        self.index(&[CellName::WorkloadOf(uid)]).workloads_by_uid.of(uid)
    }

    /// The namespaces in which a workload has labels that a selector selects.
    pub(super) fn namespaces_selected(&self, selector: &Labels) -> impl Iterator<Item = &'a Name> {
        let index = self.index(&[CellName::Labels]);
        index.labels.iter().filter_map(|(namespace, labels)| {
            labels.iter().any(|(labels, _)| selector.selects(labels)).then_some(namespace)
        })
    }

    /// The labels of the workloads that a selector selects, each once for a namespace.
    pub(super) fn labels_selected(&self, selector: &Labels) -> impl Iterator<Item = &'a Labels> {
        let index = self.index(&[CellName::Labels]);
        let all = index.labels.iter().flat_map(|(_, labels)| labels.iter());
        all.map(|(labels, _)| labels).filter(|labels| selector.selects(labels))
    }

    /// Whether a selector selects a workload of a namespace.
    pub(super) fn is_selected_in(&self, namespace: &str, selector: &Labels) -> bool {
        let labels = self.index(&[CellName::LabelsIn(namespace)]).labels.get(namespace);
        labels.is_some_and(|labels| labels.iter().any(|(labels, _)| selector.selects(labels)))
    }

    /// Whether two selectors select one and the same workload of a namespace.
    pub(super) fn is_selected_by_both(
        &self,
        namespace: &str,
        one: &Labels,
        other: &Labels,
    ) -> bool {
        let labels = self.index(&[CellName::LabelsIn(namespace)]).labels.get(namespace);
        let by_both = |labels: &Labels| one.selects(labels) && other.selects(labels);
        labels.is_some_and(|labels| labels.iter().any(|(labels, _)| by_both(labels)))
    }

    /// What a route says.
    pub(super) fn route(&self, id: &ObjectId) -> Option<&'a RouteEntry> {
        self.index(&[CellName::Route(id)]).routes.get(id).map(|entry| &**entry)
    }

    /// A route and who sees it, but not what it says.
    pub(super) fn attachment(&self, id: &ObjectId) -> Option<&'a RouteEntry> {
        self.index(&[CellName::Attachment(id)]).routes.get(id).map(|entry| &**entry)
    }

    /// The hosts that a route sends requests to, those of what it delegates to included.
    pub(super) fn destinations_of(&self, id: &ObjectId) -> Vec<&'a Name> {
        let entry = |id| self.index(&[CellName::DestinationsOf(id)]).routes.get(id);
        let Some(own) = entry(id) else { return Vec::new() };
        let delegates = own.delegations.iter().filter_map(|(_, to)| entry(to));
        own.destinations.iter().chain(delegates.flat_map(|to| &to.destinations)).collect()
    }

    /// The map of patterns that `map` names.
    fn map(&self, map: Map<'_>) -> Option<&'a HostMap> {
        let index = self.index;
        match map {
            Map::Mesh => Some(&index.mesh_routes),
            Map::Gateway(name) => index.gateway_routes.get(name).map(|routes| &routes.hosts),
            Map::Destination(namespace) => index.destination_policies_in.get(namespace),
            Map::Destinations => Some(&index.destination_policies_by_host),
        }
    }

    /// The objects of exactly a pattern, oldest first.
    pub(super) fn of_pattern(&self, map: Map<'_>, pattern: &str) -> &'a [Aged<ObjectId>] {
        self.index(&[CellName::Pattern(map, pattern)]);
        self.map(map).map_or(&[], |map| map.of_pattern(pattern))
    }

    /// The objects of each pattern that covers `host`, the most specific pattern first.
    pub(super) fn covering(
        &self,
        map: Map<'_>,
        host: &str,
    ) -> impl Iterator<Item = &'a [Aged<ObjectId>]> {
        self.index(&[CellName::OddWildcards(map)]);
        let none = HostMap::default();
        let candidates = self.map(map).unwrap_or(&none).candidates(host);
        candidates.into_iter().map(move |pattern| self.of_pattern(map, &pattern))
    }

    /// The patterns of the routes of a gateway that are in a chunk of them. How many they are
    /// is looked at, too.
    pub(super) fn gateway_patterns(
        &self,
        gateway: &str,
        chunk: Chunk,
    ) -> Option<&'a GatewayRoutes> {
        self.index(&[CellName::GatewayPatterns(gateway, chunk)]).gateway_routes.get(gateway)
    }

    /// A policy.
    pub(super) fn policy(&self, id: &ObjectId) -> Option<&'a Arc<Policy>> {
        let index = self.index(&[CellName::Policy(id)]);
        let destination = index.destination_policies.get(id).map(|entry| &entry.policy);
        destination.or_else(|| index.inbound_policies.get(id).map(|entry| &entry.policy))
    }

    /// A destination policy and where it counts, but not what it says.
    pub(super) fn destination_policy(&self, id: &ObjectId) -> Option<&'a DestinationPolicyEntry> {
        let index = self.index(&[CellName::Reach(id)]);
        index.destination_policies.get(id).map(|entry| &**entry)
    }

    /// The destination policies of a namespace that select a workload with these labels, oldest first;
    /// without those that are for all.
    pub(super) fn policies_selecting(&self, namespace: &str, labels: &Labels) -> Vec<ObjectId> {
        let index = self.index(&[CellName::SelectingPoliciesIn(namespace)]);
        let selects = |id: &&ObjectId| {
            let entry = index.destination_policies.get(*id);
            entry.and_then(|e| e.selector.as_ref()).is_some_and(|s| s.selects(labels))
        };
        let ids = index.selecting_policies_in.of(namespace).iter().map(|policy| &policy.id);
        ids.filter(selects).cloned().collect()
    }

    /// Inbound policies of a namespace, oldest first, and whom they select.
    pub(super) fn inbound_policies_in(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a InboundPolicyEntry> {
        inbound_policies_in(self.index(&[CellName::InboundPoliciesIn(namespace)]), namespace)
    }

    /// A Sidecar.
    pub(super) fn sidecar(&self, id: &ObjectId) -> Option<&'a SidecarSource> {
        self.index(&[CellName::Sidecar(id)]).sidecars.get(id).map(|sidecar| &**sidecar)
    }

    /// The Sidecars of a namespace, the oldest first, and whom they select.
    pub(super) fn sidecars_in(&self, namespace: &str) -> Vec<&'a SidecarSource> {
        let index = self.index(&[CellName::SidecarsIn(namespace)]);
        let ids = index.sidecars_in.of(namespace).iter();
        ids.filter_map(|aged| index.sidecars.get(&aged.id)).map(|sidecar| &**sidecar).collect()
    }

    /// A gateway.
    pub(super) fn gateway(&self, id: &ObjectId) -> Option<&'a GatewaySource> {
        self.index(&[CellName::Gateway(id)]).gateways.get(id).map(|gateway| &**gateway)
    }

    /// Gateways of a name (`NAMESPACE/NAME`), oldest first.
    pub(super) fn gateways_named(&self, name: &str) -> impl Iterator<Item = &'a GatewaySource> {
        let index = self.index(&[CellName::GatewayNamed(name)]);
        let named = index.gateways_by_name.of(name);
        named.iter().filter_map(|gateway| index.gateways.get(&gateway.id)).map(|gateway| &**gateway)
    }

    /// A certificate or key of a user, by namespace and name.
    pub(super) fn credential(&self, namespace: &Name, name: &Name) -> Option<&'a CredentialSource> {
        let index = self.index(&[CellName::Credential(namespace, name)]);
        index.credentials.get(&(namespace.clone(), name.clone())).map(|source| &**source)
    }

    /// Whether routes can be attached to something of this name.
    pub(super) fn is_attachable(&self, name: &str) -> bool {
        *name == *MESH || self.gateways_named(name).next().is_some()
    }

    /// All gateways, oldest first.
    pub(super) fn gateways(&self) -> Vec<&'a GatewaySource> {
        let index = self.index(&[CellName::Gateways]);
        in_order(index, index.gateways_by_name.all())
    }

    /// Gateways that select a workload with these labels, oldest first.
    pub(super) fn gateways_selecting(&self, labels: &Labels) -> Vec<&'a GatewaySource> {
        let own = labels.0.iter().map(|(label, value)| (label.clone(), value.clone()));
        let places = own.chain([<(Name, Name)>::default()]);
        let mut found: Vec<&Aged<ObjectId>> = Vec::new();
        for place in places {
            let index = self.index(&[CellName::GatewaysByLabel(&place.0, &place.1)]);
            found.extend(index.gateways_by_label.of(&place));
        }
        let mut gateways = in_order(self.index, found.into_iter());
        gateways.retain(|gateway| gateway.selector.selects(labels));
        gateways
    }
}

fn in_order<'a>(
    index: &'a Index,
    gateways: impl Iterator<Item = &'a Aged<ObjectId>>,
) -> Vec<&'a GatewaySource> {
    let mut gateways: Vec<&Aged<ObjectId>> = gateways.collect();
    gateways.sort_unstable();
    let of = |gateway: &Aged<ObjectId>| index.gateways.get(&gateway.id).map(|gateway| &**gateway);
    gateways.into_iter().filter_map(of).collect()
}

/// Inbound policies of a namespace, oldest first.
pub(super) fn inbound_policies_in<'a>(
    index: &'a Index,
    namespace: &str,
) -> impl Iterator<Item = &'a InboundPolicyEntry> {
    let ids = index.inbound_policies_in.of(namespace).iter();
    ids.filter_map(|policy| index.inbound_policies.get(&policy.id)).map(|entry| &**entry)
}
