//! From held resources to what a request needs in one lookup.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};

use hashbrown::{HashMap, HashSet};

use super::names::Found;
use super::sections::completed;
use super::turns::join;
use super::{
    ApplyError, Body, Change, Held, InboundPolicies, LastUse, Linked, LinkedApplies, LinkedBackend,
    LinkedRoute, RuleIndex, Turn, View, compile,
};
use crate::group::{Group, GroupKey, GroupPolicy};
use crate::name::{Labels, Name, ObjectId, ServiceId};
use crate::policy::{Balancer, DestinationPolicy, HashKey, Policy};
use crate::reason::Reason;
use crate::resource::{
    Applies, DefaultBackend, Destination, Join, ListenerKind, Resolution, ResolutionKey, Resource,
    ResourceKey, Target, references_of,
};
use crate::route::Backend;
use crate::service::{EndpointAddress, Protocol, Service};
use crate::shared_map::SharedMap;

pub(super) fn apply(before: &View, changes: Vec<Change>) -> (View, Vec<ApplyError>) {
    let mut view = before.clone();
    let mut errors = Vec::new();
    let mut changed: HashSet<ResourceKey> = HashSet::new();
    let mut refreshed: HashSet<ServiceId> = HashSet::new();
    for Change { key, version, body } in changes {
        let was_there = view.resource(&key).is_some();
        view.endpoint_changes += u64::from(matches!(key, ResourceKey::Endpoints(..)));
        view.replace_domains(&key, &body);
        view.replace_names(&key, &body);
        let last_use = view.held.get(&key).map(|held| held.last_use.clone()).unwrap_or_default();
        match body {
            Body::Forget => {
                view.held.remove(&key);
            }
            Body::Nothing => {
                view.held
                    .insert(key.clone(), Held { version, resource: None, last_use, route: None });
            }
            Body::Is(resource) => {
                let before = view.held.get(&key).and_then(|held| held.route.as_deref());
                let route = compile_if_route(&key, &resource, before, &mut errors);
                let held = Held { version, resource: Some(resource), last_use, route };
                view.held.insert(key.clone(), held);
            }
        }
        let is_there = view.resource(&key).is_some();
        match (key, was_there && is_there) {
            // Other members of the same groups: what is linked to those needs no other link.
            (ResourceKey::Endpoints(service, _), true) => _ = refreshed.insert(service),
            (key, _) => _ = changed.insert(key),
        }
    }
    view.keep_singletons();
    if view.learn_caller() {
        // To how near endpoints are, as after a change of the settings.
        changed.insert(ResourceKey::Settings);
    }
    view.relink(&changed);
    view.refresh_groups(&refreshed);
    (view, errors)
}

fn compile_if_route(
    key: &ResourceKey,
    resource: &Resource,
    before: Option<&compile::CompiledRoute>,
    errors: &mut Vec<ApplyError>,
) -> Option<Arc<compile::CompiledRoute>> {
    let Resource::Route(route) = resource else { return None };
    let (compiled, bad) = compile::route(route, before);
    errors.extend(bad.into_iter().map(|why| ApplyError { key: key.clone(), why }));
    Some(compiled)
}

impl View {
    /// Takes the domains of a chunk that changes out, and those that it has now in.
    fn replace_domains(&mut self, key: &ResourceKey, body: &Body) {
        if let Some(Resource::Domains(before)) =
            self.held.get(key).and_then(|h| h.resource.as_ref())
        {
            self.domains.remove(before);
        }
        if let Body::Is(Resource::Domains(now)) = body {
            self.domains.add(now);
        }
    }

    fn keep_singletons(&mut self) {
        if let Some(Resource::Settings(settings)) = self.resource(&ResourceKey::Settings) {
            self.settings = settings.clone();
        }
        if let Some(Resource::Listeners(listeners)) = self.resource(&ResourceKey::Listeners) {
            self.listeners = listeners.clone();
        }
    }

    fn resource(&self, key: &ResourceKey) -> Option<&Resource> {
        self.held.get(key)?.resource.as_ref()
    }

    /// Links anew every resolution that changed or refers to something that did.
    fn relink(&mut self, changed: &HashSet<ResourceKey>) {
        let stale = self.stale(changed);
        for key in changed {
            if let ResourceKey::Resolution(resolution) = key {
                self.unlink(resolution);
            }
        }
        let mut linker = Linker { view: self, changed, groups: HashMap::new() };
        for key in stale {
            linker.relink(key);
        }
        self.drop_unused_groups();
        // Of what [`crate::decide()`] refuses connections by.
        let labels = self.caller.as_ref().map(|own| &own.labels);
        let settings = &self.settings;
        let own = hash_of(&(settings.mtls_mode, settings.outbound_policy, labels));
        self.policies = own ^ self.inbound_modes;
    }

    /// Replaces what a key is linked to.
    fn replace_linked(&mut self, key: &ResolutionKey, linked: Option<Arc<Linked>>) {
        let before = match linked.clone() {
            Some(linked) => self.linked.insert(key.clone(), linked),
            None => self.linked.remove(key),
        };
        if key.listener == ListenerKind::Inbound {
            for linked in before.iter().chain(&linked) {
                let policies = linked.applies.as_ref().map(|applies| &applies.inbound);
                self.inbound_modes ^= hash_of(&(key, policies));
            }
        }
    }

    /// Resolutions that changed or refer to something that did.
    fn stale(&self, changed: &HashSet<ResourceKey>) -> Vec<ResolutionKey> {
        if changed.contains(&ResourceKey::Settings) {
            let all = self.held.iter().filter_map(|(key, _)| resolution_of(key));
            return all.cloned().collect();
        }
        let referring = changed.iter().flat_map(|key| self.references.to(key));
        let stale: HashSet<&ResolutionKey> =
            changed.iter().filter_map(resolution_of).chain(referring).collect();
        stale.into_iter().cloned().collect()
    }

    /// Forgets what was made of a resolution.
    fn unlink(&mut self, key: &ResolutionKey) {
        self.replace_linked(key, None);
        for number in self.inbound_ports.remove(key).iter().flat_map(|ports| ports.iter()) {
            if let Target::Address(ip, _) = key.target {
                let target = Target::Address(ip, *number);
                self.replace_linked(&ResolutionKey { target, ..key.clone() }, None);
            }
        }
    }

    /// Everything that a resolution refers to, directly or as endpoints of a service.
    fn references_of(&self, applies: &Applies) -> Vec<ResourceKey> {
        let mut references = references_of(applies);
        let services =
            applies.destinations.iter().filter_map(|d| self.service(d.service.as_ref()?));
        references.extend(services.flat_map(|service| service.endpoint_keys()));
        references
    }

    fn service(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        match self.resource(&ResourceKey::Service(id.clone()))? {
            Resource::Service(service) => Some(service),
            _ => None,
        }
    }

    pub(super) fn policy(&self, id: &ObjectId) -> Option<&Arc<Policy>> {
        match self.resource(&ResourceKey::Policy(id.clone()))? {
            Resource::Policy(policy) => Some(policy),
            _ => None,
        }
    }

    fn destination_policies<'a>(
        &'a self,
        destination: &'a Destination,
    ) -> impl Iterator<Item = &'a DestinationPolicy> {
        destination.policies.iter().filter_map(|id| match &**self.policy(id)? {
            Policy::Destination(policy) => Some(policy),
            Policy::Inbound(_) => None,
        })
    }

    /// The endpoints of a service that a selector selects, in order of their ids.
    fn endpoints(&self, service: &Service, selector: Option<&Labels>) -> Found {
        let mut found = Found::default();
        let endpoints = service
            .endpoint_keys()
            .filter_map(|key| match self.resource(&key)? {
                Resource::Endpoints(endpoints) => Some(endpoints),
                _ => None,
            })
            .flat_map(|chunk| &chunk.endpoints)
            .filter(|endpoint| selector.is_none_or(|labels| endpoint.is_selected_by(labels)));
        let mut in_order = service.endpoint_chunks.len() <= 1;
        for endpoint in endpoints {
            if let EndpointAddress::Dns(name) = &endpoint.address {
                in_order = false;
                self.names.add_endpoints(name, endpoint, service.discovery, &mut found);
            } else {
                found.endpoints.push(endpoint.clone());
            }
        }
        if !in_order {
            found.endpoints.sort_by(|a, b| a.id.cmp(&b.id));
        }
        found
    }

    /// Gives the groups of these services the endpoints of now.
    pub(super) fn refresh_groups(&self, services: &HashSet<ServiceId>) {
        for id in services {
            let Some(service) = self.service(id) else { continue };
            let groups = self.groups.get(id).into_iter().flat_map(|groups| groups.iter());
            let groups = groups.filter_map(Weak::upgrade);
            for group in groups {
                let selector = group.policy().selector.clone();
                self.endpoints(service, selector.as_ref()).give_to(&group);
            }
        }
    }

    /// The group of this key, as it was in an earlier view if a request may still see that.
    fn group(&mut self, key: GroupKey, policy: GroupPolicy) -> Arc<Group> {
        let of_service = self.groups.get(&key.service).cloned().unwrap_or_default();
        let known = of_service.iter().filter_map(Weak::upgrade).find(|group| group.key == key);
        let group = known.unwrap_or_else(|| {
            let service = key.service.clone();
            let group = Arc::new(Group::new(key, policy.clone()));
            let used = of_service.iter().filter(|group| group.strong_count() > 0).cloned();
            self.groups.insert(service, used.chain([Arc::downgrade(&group)]).collect());
            group
        });
        let (service, selector) = (policy.service.clone(), policy.selector.clone());
        group.set_policy(policy);
        // These are prepared for the policy, which says how they are spoken to, too.
        self.endpoints(&service, selector.as_ref()).give_to(&group);
        group
    }

    /// Forgets groups that nothing uses, once there may be as many of those as of others: so a proxy
    /// that lives for months does not keep those of every service it ever called, and a change does
    /// not look through all.
    fn drop_unused_groups(&mut self) {
        if self.groups.len() <= self.groups_max {
            return;
        }
        let is_used = |group: &&Weak<Group>| group.strong_count() > 0;
        let mut groups = SharedMap::default();
        for (service, of_service) in self.groups.iter() {
            let used: Arc<[Weak<Group>]> = of_service.iter().filter(is_used).cloned().collect();
            if !used.is_empty() {
                groups.insert(service.clone(), used);
            }
        }
        self.groups_max = GROUPS_MIN.max(2 * groups.len());
        self.groups = groups;
    }
}

/// Links resolutions of one view. Backends that mean the same endpoints share their group.
struct Linker<'v> {
    view: &'v mut View,
    changed: &'v HashSet<ResourceKey>,
    /// Those that are up to date already.
    groups: HashMap<GroupKey, Arc<Group>>,
}

impl Linker<'_> {
    /// Links one resolution anew, if it is held.
    fn relink(&mut self, key: ResolutionKey) {
        if let Some(linked) = self.with_changed_routes(&key) {
            self.view.replace_linked(&key, Some(Arc::new(linked)));
            return;
        }
        let held = self.view.held.get(&ResourceKey::Resolution(key.clone()));
        let Some((body, last_use)) =
            held.map(|held| (held.resource.clone(), held.last_use.clone()))
        else {
            self.view.references.set(&key, Vec::new());
            return;
        };
        let before = self.view.linked.get(&key).cloned();
        // Of a port that is served no longer nothing may stay.
        self.view.unlink(&key);
        let applies = match &body {
            Some(Resource::Resolution(body)) => match &**body {
                Resolution::Absent => None,
                Resolution::Present(applies) => {
                    let before = before.as_ref().and_then(|linked| linked.applies.as_ref());
                    let linked = self.link(&key, applies, before);
                    self.link_inbound_ports(&key, applies, &last_use);
                    Some(linked)
                }
            },
            _ => Some(nothing_usable(ResourceKey::Resolution(key.clone()))),
        };
        if !matches!(&body, Some(Resource::Resolution(body)) if **body != Resolution::Absent) {
            self.view.references.set(&key, Vec::new());
        }
        let linked = Arc::new(Linked { key: key.clone(), applies, last_use });
        self.view.replace_linked(&key, Some(linked));
    }

    /// What applies at a resolution of which nothing but routes has changed, so that an edit of one of
    /// thousands does not link the others anew; `None` if there is more to do.
    fn with_changed_routes(&mut self, key: &ResolutionKey) -> Option<Linked> {
        let itself = ResourceKey::Resolution(key.clone());
        if self.changed.contains(&ResourceKey::Settings) || self.changed.contains(&itself) {
            return None;
        }
        let linked = self.view.linked.get(key)?.clone();
        let before = linked.applies.as_ref()?;
        let Some(Resource::Resolution(body)) = self.view.resource(&itself).cloned() else {
            return None;
        };
        let Resolution::Present(applies) = &*body else { return None };
        let was_whole = before.missing.is_none() && before.unusable.is_none();
        if !was_whole || before.routes.len() != applies.routes.len() {
            return None;
        }
        let mut now = before.clone();
        for id in self.changed {
            if !self.view.references.has(key, id) {
                continue;
            }
            let ResourceKey::Route(id) = id else { return None };
            let at = applies.routes.iter().position(|route| route == id)?;
            now.routes[at] = Arc::new(self.link_route(applies, key.target.port(), id)?);
        }
        now.order = join(&now.routes, applies, key.target.port());
        now.index = index(Some(before), &now.order, &now.routes);
        Some(Linked { key: key.clone(), applies: Some(now), last_use: linked.last_use.clone() })
    }

    /// Links each port of an inbound listener that a service serves.
    fn link_inbound_ports(&mut self, key: &ResolutionKey, applies: &Applies, of: &LastUse) {
        let Target::Address(ip, _) = key.target else { return };
        for port in &applies.inbound_ports {
            let of_port = LinkedApplies {
                protocol: port.protocol,
                service: port.service.as_ref().and_then(|id| self.view.service(id).cloned()),
                to: port.to,
                inbound_group: self.view.inbound_group(key, port),
                ..self.link(key, applies, None)
            };
            let key = ResolutionKey { target: Target::Address(ip, port.number), ..key.clone() };
            let (applies, last_use) = (Some(of_port), of.clone());
            let linked = Arc::new(Linked { key: key.clone(), applies, last_use });
            self.view.replace_linked(&key, Some(linked));
        }
        let numbers: Vec<u16> = applies.inbound_ports.iter().map(|port| port.number).collect();
        if !numbers.is_empty() {
            self.view.inbound_ports.insert(key.clone(), numbers.into());
        }
    }

    /// `before`: what was linked under this key until now.
    fn link(
        &mut self,
        key: &ResolutionKey,
        applies: &Applies,
        before: Option<&LinkedApplies>,
    ) -> LinkedApplies {
        let references = self.view.references_of(applies);
        let held = |key: &ResourceKey| self.view.held.get(key);
        let missing = references.iter().find(|key| held(key).is_none()).cloned();
        let is_unusable = |key: &&ResourceKey| held(key).is_some_and(|h| h.resource.is_none());
        let unusable = references.iter().find(is_unusable).cloned();
        self.view.references.set(key, references);
        let dialled = key.target.port();
        let default_backend = applies.default_backend.as_ref().map(|backend| {
            let subset = backend.subset.as_ref();
            self.backend(applies, dialled, &backend.host, Some(backend.port), subset, 1)
        });
        let mut named =
            |b: &DefaultBackend| self.backend(applies, dialled, &b.host, Some(b.port), None, 1);
        let by_server_name = applies.by_server_name.iter().map(&mut named).collect();
        let mut routes = Vec::new();
        for id in &applies.routes {
            if let Some(route) = self.link_route(applies, dialled, id) {
                routes.push(Arc::new(route));
            }
        }
        let order = join(&routes, applies, dialled);
        LinkedApplies {
            protocol: applies.protocol,
            service: applies.service.as_ref().and_then(|id| self.view.service(id).cloned()),
            default_backend,
            index: index(before, &order, &routes),
            join: applies.join,
            order,
            routes,
            attached_to: applies.attached_to.clone(),
            by_server_name,
            member: applies.member.and_then(|ip| self.view.workload(ip)?.cloned()),
            inbound: self.view.inbound_policies(applies),
            to: None,
            inbound_group: None,
            missing,
            unusable,
        }
    }

    fn link_route(
        &mut self,
        applies: &Applies,
        dialled: u16,
        id: &ObjectId,
    ) -> Option<LinkedRoute> {
        let held = self.view.held.get(&ResourceKey::Route(id.clone()))?;
        let (route, version) = (held.route.clone()?, held.version);
        let mut link = |b: &Backend| {
            let named = || Some(self.port_named(applies, &b.host, b.port_name.as_ref()?));
            let port = b.port.or_else(named);
            self.backend(applies, dialled, &b.host, port, b.subset.as_ref(), b.weight)
        };
        let rules = || route.rules.iter().map(|compiled| &compiled.rule);
        let of_requests =
            rules().map(|rule| rule.action.backends().iter().map(&mut link).collect());
        let request_backends = of_requests.collect();
        let of_connections = route.connection_rules.iter();
        let of_connections =
            of_connections.map(|rule| rule.backends.iter().map(&mut link).collect());
        let connection_backends = of_connections.collect();
        let mirrors = rules().map(|rule| rule.mirrors.iter().map(|m| link(&m.to)).collect());
        let mirrors = mirrors.collect();
        let name = format!("{}/{}", id.namespace, id.name).into();
        Some(LinkedRoute { route, version, name, request_backends, connection_backends, mirrors })
    }

    /// The port of a name; 0, which no service has, if there is none.
    fn port_named(&self, applies: &Applies, host: &Name, name: &Name) -> u16 {
        let destination = applies.destinations.iter().find(|d| d.host == *host);
        let service = destination.and_then(|d| self.view.service(d.service.as_ref()?));
        let port = service.and_then(|service| service.ports.iter().find(|p| p.name == *name));
        port.map_or(0, |port| port.number)
    }

    fn backend(
        &mut self,
        applies: &Applies,
        dialled: u16,
        host: &Name,
        port: Option<u16>,
        subset: Option<&Name>,
        weight: u32,
    ) -> LinkedBackend {
        let destination = applies.destinations.iter().find(|d| d.host == *host);
        let service = destination
            .and_then(|d| d.service.as_ref())
            .and_then(|id| self.view.service(id))
            .cloned();
        let port = port.unwrap_or_else(|| match service.as_deref().map(|s| &s.ports[..]) {
            Some([only]) => only.number,
            _ => dialled,
        });
        let group = match (destination, service) {
            (Some(destination), Some(service)) => self.group(destination, &service, port, subset),
            _ => Err(Reason::UnknownDestination),
        };
        let hash = group.as_ref().ok().and_then(|group| hash_key(group));
        let by = |group: &Arc<Group>| *group.policy().traffic.balancer() == Balancer::PeakEwma;
        let is_timed = group.as_ref().is_ok_and(by);
        let (host, subset) = (host.clone(), subset.cloned());
        LinkedBackend { host, port, subset, weight, group, hash, is_timed }
    }

    fn group(
        &mut self,
        destination: &Destination,
        service: &Arc<Service>,
        port: u16,
        subset: Option<&Name>,
    ) -> Result<Arc<Group>, Reason> {
        let declared = service.port(port).ok_or(Reason::UnknownDestination)?;
        let key = GroupKey { service: service.id.clone(), port, subset: subset.cloned() };
        if let Some(group) = self.groups.get(&key) {
            return Ok(group.clone());
        }
        let policies = || self.view.destination_policies(destination);
        let wider = DestinationPolicy::joined(policies, port);
        let (selector, traffic) = match subset {
            None => (None, wider),
            Some(name) => {
                let mut subsets = policies().flat_map(|policy| &policy.subsets);
                match subsets.find(|subset| subset.name == *name) {
                    Some(subset) => (Some(subset.labels.clone()), subset.traffic.at(port, &wider)),
                    None => (Some(Labels::parse(name).ok_or(Reason::UndefinedSubset)?), wider),
                }
            }
        };
        let traffic = completed(traffic, destination, service);
        let protocol = declared.protocol;
        let near = self.view.nearness(service, &traffic);
        let policy = GroupPolicy { service: service.clone(), protocol, selector, traffic, near };
        let group = self.view.group(key.clone(), policy);
        self.groups.insert(key, group.clone());
        Ok(group)
    }
}

/// What a group's requests are known by, if its endpoints are chosen by that.
fn hash_key(group: &Group) -> Option<Arc<HashKey>> {
    group.policy().traffic.balance.as_ref()?.hash_key().cloned().map(Arc::new)
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn resolution_of(key: &ResourceKey) -> Option<&ResolutionKey> {
    match key {
        ResourceKey::Resolution(resolution) => Some(resolution),
        _ => None,
    }
}

/// Services with groups below which none are looked for that nothing uses.
const GROUPS_MIN: usize = 16;

/// What applies where the answer itself cannot be used.
fn nothing_usable(key: ResourceKey) -> LinkedApplies {
    LinkedApplies {
        protocol: Protocol::Undeclared,
        service: None,
        default_backend: None,
        routes: Vec::new(),
        join: Join::InOrder,
        order: Vec::new(),
        index: None,
        attached_to: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
        inbound: InboundPolicies::default(),
        to: None,
        inbound_group: None,
        missing: None,
        unusable: Some(key),
    }
}

/// The index of rules that are tried in this order: that of before, if they ask for the same.
fn index(
    before: Option<&LinkedApplies>,
    order: &[Turn],
    routes: &[Arc<LinkedRoute>],
) -> Option<Arc<RuleIndex>> {
    let same_rules = |before: &&LinkedApplies| {
        before.order == order
            && before.routes.len() == routes.len()
            && before.routes.iter().zip(routes).all(|(a, b)| a.route.asks_as(&b.route))
    };
    match before.filter(same_rules) {
        Some(before) => before.index.clone(),
        None => RuleIndex::of(order, routes),
    }
}
