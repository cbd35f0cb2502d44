//! The indexes of a snapshot. Every list in them has one order whatever the order of the objects:
//! oldest first, ties by `NAME.NAMESPACE` as Istio breaks them.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use super::{
    Created, GatewaySource, InboundFields, NamedSecret, Reach, RouteFields, SidecarSource,
};
use crate::chunk::{Chunked, Identified};
use crate::credential::CredentialSource;
use crate::finding::Finding;
use crate::host::suffixes;
use crate::name::{Labels, Name, ObjectId, ServiceId};
use crate::network::Network;
use crate::policy::Policy;
use crate::route::Route;
use crate::service::{Discovery, Endpoint, Service, Workload};
use crate::settings::Settings;
use crate::shared_map::SharedMap;

/// What routes inside the mesh are attached to.
pub(super) const MESH: &str = "mesh";

/// All objects, and where to find them. A copy shares all that no edit of it touches.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) settings: Arc<Settings>,
    pub(super) services: SharedMap<ServiceId, Arc<ServiceEntry>>,
    pub(super) services_by_host: Lists<Name, Aged<ServiceId>>,
    pub(super) services_by_address: Lists<IpAddr, Aged<ServiceId>>,
    pub(super) services_by_network: Lists<Network, Aged<ServiceId>>,
    /// Services on a port that is not HTTP and that have no address at all.
    pub(super) services_anywhere: Lists<u16, Aged<ServiceId>>,
    /// With the ids of the endpoints.
    pub(super) endpoints_by_ip: Lists<IpAddr, (Aged<ServiceId>, Name)>,
    /// Services with endpoints in a namespace, and how many.
    pub(super) services_by_endpoint_namespace: SharedMap<Name, SharedMap<ServiceId, usize>>,
    pub(super) workloads: SharedMap<IpAddr, WorkloadEntry>,
    pub(super) workloads_in: Lists<Name, IpAddr>,
    pub(super) workloads_by_uid: Lists<Name, IpAddr>,
    /// By namespace the labels that workloads have, and how many.
    pub(super) labels: SharedMap<Name, SharedMap<Labels, usize>>,
    pub(super) routes: SharedMap<ObjectId, Arc<RouteEntry>>,
    pub(super) mesh_routes: HostMap,
    pub(super) gateway_routes: SharedMap<Name, GatewayRoutes>,
    pub(super) destination_policies: SharedMap<ObjectId, Arc<DestinationPolicyEntry>>,
    pub(super) destination_policies_in: SharedMap<Name, HostMap>,
    pub(super) destination_policies_by_host: HostMap,
    /// Those that are for some workloads only.
    pub(super) selecting_policies_in: Lists<Name, Aged<ObjectId>>,
    pub(super) inbound_policies: SharedMap<ObjectId, Arc<InboundPolicyEntry>>,
    pub(super) inbound_policies_in: Lists<Name, Aged<ObjectId>>,
    pub(super) sidecars: SharedMap<ObjectId, Arc<SidecarSource>>,
    pub(super) sidecars_in: Lists<Name, Aged<ObjectId>>,
    pub(super) gateways: SharedMap<ObjectId, Arc<GatewaySource>>,
    pub(super) gateways_by_name: Lists<Name, Aged<ObjectId>>,
    /// By the first label of their selectors; by empty texts if those have none.
    pub(super) gateways_by_label: Lists<(Name, Name), Aged<ObjectId>>,
    /// By namespace and name.
    pub(super) credentials: SharedMap<(Name, Name), Arc<CredentialSource>>,
    /// What was found in objects when they were translated together with others.
    pub(super) found: SharedMap<ObjectId, Arc<[Finding]>>,
}

/// A service as it is indexed.
#[derive(Clone, Debug)]
pub(super) struct ServiceEntry {
    /// With the list of its chunks.
    pub(super) service: Arc<Service>,
    pub(super) reach: Reach,
    pub(super) endpoints: Chunked<EndpointEntry>,
}

impl ServiceEntry {
    pub(super) fn aged(&self) -> Aged<ServiceId> {
        Aged { created: self.reach.created, text: Name::default(), id: self.service.id.clone() }
    }

    /// Whether proxies of `namespace` see it.
    pub(super) fn visible_from(&self, namespace: &str) -> bool {
        exported(&self.reach.export_to, namespace)
    }

    /// Whether it is reached at whatever address: it has none, and goes where its callers dial.
    pub(super) fn is_anywhere(&self) -> bool {
        let Service { addresses, discovery, .. } = &*self.service;
        addresses.is_empty()
            && self.reach.networks.is_empty()
            && matches!(discovery, Discovery::Dialled | Discovery::Named)
    }
}

/// An endpoint as it is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointEntry {
    /// As it was given.
    pub(super) given: Arc<Endpoint>,
    /// As callers see it: it listens as its inbound policies let it.
    pub(super) seen: Arc<Endpoint>,
}

impl Identified for EndpointEntry {
    fn id(&self) -> &str {
        &self.given.id
    }
}

/// A workload as it is indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WorkloadEntry {
    /// As it was given.
    pub(super) given: Arc<Workload>,
    /// As callers see it: it listens as its inbound policies let it.
    pub(super) seen: Arc<Workload>,
}

/// A route as it is indexed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RouteEntry {
    pub(super) route: Arc<Route>,
    pub(super) attachment: Attachment,
    /// Hosts that it sends requests to, each once, in order.
    pub(super) destinations: Vec<Name>,
    /// What was found when it was made.
    pub(super) found: Vec<Finding>,
    pub(super) delegations: Vec<(u32, ObjectId)>,
    pub(super) fields: RouteFields,
}

/// What a route is for, and who sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    pub(super) hosts: Vec<Name>,
    pub(super) gateways: Vec<Name>,
    pub(super) export_to: Vec<Name>,
    pub(super) created: Created,
    /// With which precedence it joins others.
    pub(super) precedence: Option<i32>,
    /// Whether connections go by it, so that it counts for addresses, too.
    pub(super) has_connection_rules: bool,
}

impl RouteEntry {
    /// Whether proxies of `namespace` see it.
    pub(super) fn visible_from(&self, namespace: &str) -> bool {
        exported(&self.attachment.export_to, namespace)
    }
}

/// A destination policy as it is indexed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DestinationPolicyEntry {
    pub(super) policy: Arc<Policy>,
    pub(super) host: Name,
    pub(super) export_to: Vec<Name>,
    pub(super) selector: Option<Labels>,
    pub(super) created: Created,
    pub(super) mutual_tls_at: Vec<String>,
    pub(super) credentials: Vec<NamedSecret>,
}

/// An inbound policy as it is indexed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InboundPolicyEntry {
    pub(super) policy: Arc<Policy>,
    pub(super) selectors: Option<Vec<Labels>>,
    pub(super) only_oldest: bool,
    pub(super) found: Vec<Finding>,
    pub(super) fields: InboundFields,
    pub(super) created: Created,
}

/// Routes attached to a gateway.
#[derive(Clone, Debug, Default)]
pub(super) struct GatewayRoutes {
    pub(super) hosts: HostMap,
    /// The patterns of these, in chunks.
    pub(super) patterns: Chunked<Name>,
}

/// Whether an object with this `exportTo` is seen from `namespace`.
pub(super) fn exported(export_to: &[Name], namespace: &str) -> bool {
    export_to.is_empty() || export_to.iter().any(|n| **n == *namespace)
}

/// An id that is sorted by age, then by a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aged<I> {
    created: Created,
    text: Name,
    pub(super) id: I,
}

impl Aged<ObjectId> {
    /// By age, then by `NAME.NAMESPACE`.
    pub(super) fn new(created: Created, id: &ObjectId) -> Self {
        let text = format!("{}.{}", id.name, id.namespace).into();
        Self { created, text, id: id.clone() }
    }
}

/// Lists under keys, each in order.
#[derive(Clone, Debug)]
pub(super) struct Lists<K, T>(SharedMap<K, Arc<[T]>>);

impl<K: Hash + Eq + Clone, T: Ord + Clone> Lists<K, T> {
    /// The list under a key.
    pub(super) fn of<Q: Hash + hashbrown::Equivalent<K> + ?Sized>(&self, key: &Q) -> &[T] {
        self.0.get(key).map_or(&[], |list| list)
    }

    /// Puts an element into a list.
    pub(super) fn insert(&mut self, key: K, element: T) {
        let list = self.of(&key);
        let Err(at) = list.binary_search(&element) else { return };
        let list = list[..at].iter().chain([&element]).chain(&list[at..]).cloned().collect();
        self.0.insert(key, list);
    }

    /// Takes an element out of a list.
    pub(super) fn remove(&mut self, key: &K, element: &T) {
        let list = self.of(key);
        let Ok(at) = list.binary_search(element) else { return };
        if list.len() == 1 {
            self.0.remove(key);
        } else {
            let list = list[..at].iter().chain(&list[at + 1..]).cloned().collect();
            self.0.insert(key.clone(), list);
        }
    }

    /// The lists and their keys, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &[T])> {
        self.0.iter().map(|(key, list)| (key, &**list))
    }

    /// All elements of all lists.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.values().flat_map(|list| list.iter())
    }
}

impl<K, T> Default for Lists<K, T> {
    fn default() -> Self {
        Self(SharedMap::default())
    }
}

/// Objects by host pattern, each list in order of age.
#[derive(Clone, Debug, Default)]
pub(super) struct HostMap {
    patterns: Lists<Name, Aged<ObjectId>>,
    /// How long the suffixes are of wildcards that do not begin with a label, and how many there
    /// are of a length.
    odd: BTreeMap<usize, usize>,
}

/// How an edit of a [`HostMap`] changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PatternChange {
    /// Whether the pattern is new, or no longer there.
    pub(super) pattern: bool,
    /// Whether wildcards that do not begin with a label are of other lengths now.
    pub(super) odd: bool,
}

impl HostMap {
    /// Whether nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.0.is_empty()
    }

    /// Puts an object under a pattern.
    pub(super) fn insert(&mut self, pattern: &Name, object: Aged<ObjectId>) -> PatternChange {
        let is_new = self.patterns.of(pattern).is_empty();
        self.patterns.insert(pattern.clone(), object);
        let mut change = PatternChange { pattern: is_new, odd: false };
        if is_new && let Some(length) = odd_length(pattern) {
            let times = self.odd.entry(length).or_default();
            *times += 1;
            change.odd = *times == 1;
        }
        change
    }

    /// Takes an object away from a pattern.
    pub(super) fn remove(&mut self, pattern: &Name, object: &Aged<ObjectId>) -> PatternChange {
        let was_there = !self.patterns.of(pattern).is_empty();
        self.patterns.remove(pattern, object);
        let is_gone = was_there && self.patterns.of(pattern).is_empty();
        let mut change = PatternChange { pattern: is_gone, odd: false };
        if is_gone && let Some(length) = odd_length(pattern) {
            match self.odd.get_mut(&length) {
                Some(times) if *times > 1 => *times -= 1,
                _ => {
                    self.odd.remove(&length);
                    change.odd = true;
                }
            }
        }
        change
    }

    /// The objects of exactly this pattern.
    pub(super) fn of_pattern(&self, pattern: &str) -> &[Aged<ObjectId>] {
        self.patterns.of(pattern)
    }

    /// The patterns by which `host` (a name or a wildcard) may be covered, the most specific first:
    /// itself, wildcards that begin with a label, and those others whose lengths there are.
    pub(super) fn candidates(&self, host: &str) -> Vec<Name> {
        let of_label = |suffix: &&str| suffix.is_empty() || suffix.starts_with('.');
        let is_odd = |suffix: &&str| self.odd.contains_key(&suffix.len());
        let wildcards = suffixes(host)
            .filter(|suffix| of_label(suffix) || is_odd(suffix))
            .map(|suffix| Name::from(format!("*{suffix}")))
            .filter(|pattern| **pattern != *host);
        std::iter::once(Name::from(host)).chain(wildcards).collect()
    }
}

/// The length of the suffix of a wildcard that does not begin with a label.
fn odd_length(pattern: &str) -> Option<usize> {
    let suffix = pattern.strip_prefix('*')?;
    (!suffix.is_empty() && !suffix.starts_with('.')).then_some(suffix.len())
}
