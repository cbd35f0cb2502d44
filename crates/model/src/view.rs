//! A view: the part of a snapshot that one proxy holds, compiled and linked.
//!
//! A view never changes. [`View::apply`] makes the next one from changed resources; what did not
//! change is shared. A request reads one view, once, and keeps it to its end.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hashbrown::Equivalent;

use crate::decide::{RuleAt, RuleList};
use crate::group::{Group, Tick};
use crate::listeners::{DomainSet, Listeners};
use crate::name::{Name, ServiceId};
use crate::policy::HashKey;
use crate::reason::Reason;
use crate::resource::{
    EVERY_PORT, Join, ListenerKind, ResolutionKey, Resource, ResourceKey, Target, Version,
};
use crate::service::{Protocol, Service, Workload};
use crate::settings::Settings;
use crate::shared_map::SharedMap;

mod compile;
mod inbound;
mod link;
mod names;
mod near;
mod references;
mod rule_index;
mod sections;
mod turns;

pub use compile::{CallerMatch, CompiledMatch, CompiledRoute, CompiledRule};
pub use inbound::InboundPolicies;
use names::Names;
use references::References;
pub use rule_index::RuleIndex;

/// The resources that one proxy holds. Making the next view copies no map that grows with them.
#[derive(Clone, Debug, Default)]
pub struct View {
    held: SharedMap<ResourceKey, Held>,
    references: References,
    linked: SharedMap<ResolutionKey, Arc<Linked>>,
    /// Ports that are linked beside the resolution of an inbound listener.
    inbound_ports: SharedMap<ResolutionKey, Arc<[u16]>>,
    /// Those of them that have limits: what counts there outlives changes of the configuration.
    inbound_groups: SharedMap<ResolutionKey, Arc<Group>>,
    /// Owned by what is linked to them, so that those which nothing uses end.
    groups: SharedMap<ServiceId, Arc<[Weak<Group>]>>,
    /// How many services may have groups before those that nothing uses are looked for.
    groups_max: usize,
    /// Address and uid of the workload whose view it is; `None`: of nobody who is anywhere.
    own: Option<(IpAddr, Name)>,
    /// That workload, once it is known.
    caller: Option<Arc<Workload>>,
    settings: Arc<Settings>,
    listeners: Arc<Listeners>,
    domains: DomainSet,
    names: Names,
    /// See [`View::endpoint_changes`].
    endpoint_changes: u64,
    /// Of the modes of inbound listeners, whatever their order.
    inbound_modes: u64,
    /// See [`View::policies`].
    policies: u64,
}

/// When a resource was last used, as exactly as whoever uses it looks at the clock. What is made of
/// the resource, and the versions of it that follow, share it.
#[derive(Clone, Debug, Default)]
pub struct LastUse(Arc<AtomicU64>);

impl LastUse {
    /// Notes a use. Many threads may do so all the time: only the first at each tick writes.
    pub fn note(&self, now: Tick) {
        if self.0.load(Ordering::Relaxed) != now.0 {
            self.0.store(now.0, Ordering::Relaxed);
        }
    }

    /// When it was used last; [`Tick::default`]: never yet.
    pub fn at(&self) -> Tick {
        Tick(self.0.load(Ordering::Relaxed))
    }
}

/// A resource as it is held.
#[derive(Clone, Debug)]
pub struct Held {
    /// Its version.
    pub version: Version,
    /// The resource; `None`: the control plane said that there is none.
    pub resource: Option<Resource>,
    /// Noted of resolutions and workloads.
    pub last_use: LastUse,
    /// Compiled form of a route.
    route: Option<Arc<CompiledRoute>>,
}

/// One changed resource.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its key.
    pub key: ResourceKey,
    /// Its version.
    pub version: Version,
    /// What it is now.
    pub body: Body,
}

/// What a changed resource is now.
#[derive(Clone, Debug)]
pub enum Body {
    /// This.
    Is(Resource),
    /// There is none under this key, and the key stays subscribed.
    Nothing,
    /// No longer held.
    Forget,
}

/// A part of a resource that could not be compiled. Nothing else is affected by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct ApplyError {
    /// The resource.
    pub key: ResourceKey,
    /// What is wrong with it.
    pub why: String,
}

/// What applies at one host or address, with all references followed.
#[derive(Debug)]
pub struct Linked {
    /// The key it was asked under.
    pub key: ResolutionKey,
    /// What applies; `None`: the mesh knows nothing there.
    pub applies: Option<LinkedApplies>,
    /// That of the resolution.
    pub last_use: LastUse,
}

impl LinkedApplies {
    /// Whether all that is known of an address is who lives there: no service is served at it.
    pub(crate) fn is_only_member(&self) -> bool {
        self.member.is_some() && self.service.is_none() && self.default_backend.is_none()
    }
}

/// See [`crate::resource::Applies`].
#[derive(Clone, Debug)]
pub struct LinkedApplies {
    /// Protocol that the port declares.
    pub protocol: Protocol,
    /// The service that was named.
    pub service: Option<Arc<Service>>,
    /// Where traffic goes if no route applies.
    pub default_backend: Option<LinkedBackend>,
    /// The routes.
    pub routes: Vec<Arc<LinkedRoute>>,
    /// How their rules join.
    pub join: Join,
    /// What is tried, in this order.
    pub order: Vec<Turn>,
    /// Where to look in `order`, if it is long.
    pub index: Option<Arc<RuleIndex>>,
    /// What the routes are attached to here.
    pub attached_to: Vec<Name>,
    /// Where connections go whose TLS names a host of these.
    pub by_server_name: Vec<LinkedBackend>,
    /// The member of the mesh that lives at the address.
    pub member: Option<Arc<Workload>>,
    /// The policies of an inbound listener.
    pub inbound: InboundPolicies,
    /// Where connections to the port of an inbound listener go; `None`: to where they were going.
    pub to: Option<SocketAddr>,
    /// Limits of what enters the workload at the port; a group without endpoints.
    pub inbound_group: Option<Arc<Group>>,
    /// A referenced resource that has not arrived yet.
    pub missing: Option<ResourceKey>,
    /// A referenced resource that will not arrive, since it is too large or this build cannot read
    /// it. What the others say would be something else without it, so nothing is decided by them.
    pub unusable: Option<ResourceKey>,
}

/// Alternatives of one rule that are tried together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Index into [`LinkedApplies::routes`].
    pub route: u32,
    /// Index into the route's rules.
    pub rule: u32,
    /// Indices of the alternatives; empty if the rule has none and matches every request.
    pub alternatives: Range<u32>,
}

impl Turn {
    /// Each alternative, or the rule itself if it has none.
    pub(crate) fn places(&self) -> impl Iterator<Item = RuleAt> {
        let itself = self.alternatives.is_empty().then_some(None);
        itself.into_iter().chain(self.alternatives.clone().map(Some)).map(|at| self.at(at))
    }

    /// The place of an alternative.
    pub(crate) fn at(&self, alternative: Option<u32>) -> RuleAt {
        let Self { route, rule, .. } = *self;
        RuleAt { route, list: RuleList::Requests, rule, alternative }
    }

    /// Whether it is this one's turn.
    pub(crate) fn has(&self, at: RuleAt) -> bool {
        let has_alternative = at.alternative.is_none_or(|at| self.alternatives.contains(&at));
        at.route == self.route && at.rule == self.rule && has_alternative
    }
}

/// A route and the backends of its rules.
#[derive(Debug)]
pub struct LinkedRoute {
    /// The compiled route.
    pub route: Arc<CompiledRoute>,
    /// Its version.
    pub version: Version,
    /// `NAMESPACE/NAME`, as the access log writes it.
    pub name: Name,
    /// Backends of the rules for requests, by rule, in the rule's order.
    pub request_backends: Vec<Vec<LinkedBackend>>,
    /// Backends of the rules for connections.
    pub connection_backends: Vec<Vec<LinkedBackend>>,
    /// Where copies go, by rule for requests.
    pub mirrors: Vec<Vec<LinkedBackend>>,
}

impl LinkedRoute {
    /// The backends of a rule; none if there is no such rule.
    pub fn backends(&self, list: RuleList, rule: u32) -> &[LinkedBackend] {
        let backends = match list {
            RuleList::Requests => &self.request_backends,
            RuleList::Connections => &self.connection_backends,
        };
        backends.get(rule as usize).map_or(&[], Vec::as_slice)
    }

    /// A rule as the access log writes it: `NAMESPACE/NAME#0`, `NAMESPACE/NAME#tcp[0]`.
    pub fn name_of(&self, list: RuleList, rule: u32) -> String {
        let at = rule as usize;
        let place: Option<&str> = match list {
            RuleList::Requests => self.route.rules.get(at).map(|own| own.rule.place.as_str()),
            RuleList::Connections => self.route.connection_rules.get(at).map(|own| &*own.place),
        };
        match place.filter(|place| !place.is_empty()) {
            None => format!("{}#{rule}", self.name),
            Some(place) => format!("{}#{place}", self.name),
        }
    }
}

/// A backend that can be used, or the reason why not.
#[derive(Clone, Debug)]
pub struct LinkedBackend {
    /// Fully qualified host.
    pub host: Name,
    /// Port of the service.
    pub port: u16,
    /// Subset, if one is named.
    pub subset: Option<Name>,
    /// Weight.
    pub weight: u32,
    /// Its endpoints.
    pub group: Result<Arc<Group>, Reason>,
    /// What its requests are known by, if its endpoints are chosen by that.
    pub hash: Option<Arc<HashKey>>,
    /// Whether its endpoints are chosen by how long their answers take.
    pub is_timed: bool,
}

impl View {
    /// That of the workload with this address and uid, which holds nothing yet. Once it holds the
    /// workload itself, endpoints are near to it or far.
    pub fn of(ip: IpAddr, uid: Name) -> Self {
        Self { own: Some((ip, uid)), ..Self::default() }
    }

    /// The next view, with these changes, and what of them could not be compiled. Never fails as a
    /// whole: a part that cannot be used is dead, the rest works.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> (Self, Vec<ApplyError>) {
        link::apply(self, changes.into_iter().collect())
    }

    /// Settings of the mesh; defaults until they arrive.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Differs from that of another view if open connections may be under other policies there, so
    /// that they must be decided about again.
    pub fn policies(&self) -> u64 {
        self.policies
    }

    /// Differs from that of another view if endpoints may be others there.
    pub fn endpoint_changes(&self) -> u64 {
        self.endpoint_changes
    }

    /// Listeners of a gateway; none until they arrive.
    pub fn listeners(&self) -> &Arc<Listeners> {
        &self.listeners
    }

    /// The domain of this gateway that covers a host (lower case, without port) on a port; `None` if
    /// none does.
    pub fn domain(&self, host: &str, port: u16) -> Option<&Name> {
        self.domains.find(host, port)
    }

    /// What applies at an address, if the view holds an answer. For the port of an inbound listener
    /// that no service serves it is the answer for all such ports.
    pub fn at_address(
        &self,
        listener: ListenerKind,
        address: SocketAddr,
        namespace: &str,
    ) -> Option<&Arc<Linked>> {
        let at = |port| {
            let address = SocketAddr::new(address.ip(), port);
            self.linked.get(&AddressQuery { listener, address, namespace })
        };
        match listener {
            ListenerKind::Inbound => at(address.port()).or_else(|| at(EVERY_PORT)),
            ListenerKind::Outbound | ListenerKind::Gateway => at(address.port()),
        }
    }

    /// What applies at a host (lower case, without port; at a gateway one of its domains), if the
    /// view holds an answer.
    pub fn at_host(
        &self,
        listener: ListenerKind,
        host: &str,
        port: u16,
        namespace: &str,
    ) -> Option<&Arc<Linked>> {
        self.linked.get(&HostQuery { listener, host, port, namespace })
    }

    /// Whether the control plane has said that there is nothing at this host or address.
    pub fn is_absent(&self, key: &ResolutionKey) -> bool {
        self.linked.get(key).is_some_and(|linked| linked.applies.is_none())
    }

    /// Who lives at an address. The outer `None`: not known, subscribe to find out.
    pub fn workload(&self, ip: IpAddr) -> Option<Option<&Arc<Workload>>> {
        match self.held.get(&ResourceKey::Workload(ip))?.resource.as_ref() {
            Some(Resource::Workload(workload)) => Some(workload.as_ref()),
            _ => Some(None),
        }
    }

    /// The same, which counts as a use of what is known.
    pub fn use_workload(&self, ip: IpAddr, now: Tick) -> Option<Option<&Arc<Workload>>> {
        let held = self.held.get(&ResourceKey::Workload(ip))?;
        held.last_use.note(now);
        match held.resource.as_ref() {
            Some(Resource::Workload(workload)) => Some(workload.as_ref()),
            _ => Some(None),
        }
    }

    /// Everything that is held, in no order.
    pub fn held(&self) -> impl Iterator<Item = (&ResourceKey, &Held)> {
        self.held.iter()
    }

    /// The groups that something is linked to, in no order.
    pub fn groups(&self) -> impl Iterator<Item = Arc<Group>> {
        self.groups.values().flat_map(|groups| groups.iter()).filter_map(Weak::upgrade)
    }

    /// What applies at each host and address that is held, in no order.
    pub fn linked(&self) -> impl Iterator<Item = &Arc<Linked>> {
        self.linked.iter().map(|(_, linked)| linked)
    }

    /// What is held under one key.
    pub fn get(&self, key: &ResourceKey) -> Option<&Held> {
        self.held.get(key)
    }
}

/// Borrowed forms of [`ResolutionKey`], so that a request's lookup allocates nothing. Each hashes
/// exactly as the derived `Hash` of the owned key does; a test holds them to it.
struct HostQuery<'a> {
    listener: ListenerKind,
    host: &'a str,
    port: u16,
    namespace: &'a str,
}

impl std::hash::Hash for HostQuery<'_> {
    #[inline]
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.listener.hash(state);
        Target::hash_host(self.host, self.port, state);
        self.namespace.hash(state);
    }
}

impl Equivalent<ResolutionKey> for HostQuery<'_> {
    fn equivalent(&self, key: &ResolutionKey) -> bool {
        matches!(&key.target, Target::Host(host, port) if **host == *self.host && *port == self.port)
            && key.listener == self.listener
            && *key.namespace == *self.namespace
    }
}

struct AddressQuery<'a> {
    listener: ListenerKind,
    address: SocketAddr,
    namespace: &'a str,
}

impl std::hash::Hash for AddressQuery<'_> {
    #[inline]
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.listener.hash(state);
        Target::Address(self.address.ip(), self.address.port()).hash(state);
        self.namespace.hash(state);
    }
}

impl Equivalent<ResolutionKey> for AddressQuery<'_> {
    fn equivalent(&self, key: &ResolutionKey) -> bool {
        key.target == Target::Address(self.address.ip(), self.address.port())
            && key.listener == self.listener
            && *key.namespace == *self.namespace
    }
}

#[cfg(test)]
mod tests;
