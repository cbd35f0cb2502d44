//! What a proxy holds and has made of it, as its admin API tells it under `/config_dump`: all of it
//! read from its own view, nothing worked out anew.
//!
//! A proxy holds what its workload has asked for. A host that it never called is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ironmesh_model::bootstrap::ListenerRole;
use ironmesh_model::group::{Group, GroupKey};
use ironmesh_model::policy::{MtlsMode, TrafficPolicy};
use ironmesh_model::service::Protocol;
use ironmesh_model::view::{Held, Linked, LinkedApplies, LinkedBackend};
use ironmesh_model::{
    ListenerKind, Name, ObjectId, ResolutionKey, Resource, ResourceKey, ServiceId, View,
};
use serde::{Deserialize, Serialize};

/// The document. Every list is in order of its keys.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dump {
    /// Where it takes connections.
    pub listeners: Vec<HeldListener>,
    /// The endpoints that it balances over, by service, port and subset (Envoy's clusters).
    pub groups: Vec<HeldGroup>,
    /// What applies at the hosts and addresses that it was asked about.
    pub linked: Vec<HeldLinked>,
    /// The resources that it got from the control plane.
    pub resources: Vec<HeldResource>,
    /// Entries of these lists for which there was no room (`limits.proxy.dump_bytes_max`).
    pub left_out: u64,
}

/// A socket that it listens on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldListener {
    /// What for.
    pub role: ListenerRole,
    /// Where.
    pub address: SocketAddr,
}

/// A resource.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldResource {
    /// Its kind.
    pub kind: String,
    /// Its key in words, without its kind.
    pub key: String,
    /// The key.
    pub id: ResourceKey,
    /// Its version.
    pub version: String,
    /// The resource; `None`: the control plane said that there is none.
    pub body: Option<Resource>,
}

/// A group of endpoints.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldGroup {
    /// The service.
    pub service: ServiceId,
    /// Port of the service.
    pub port: u16,
    /// The subset; `None`: all endpoints.
    pub subset: Option<Name>,
    /// Protocol that the port declares.
    pub protocol: Protocol,
    /// Whether callers choose the endpoint themselves.
    pub headless: bool,
    /// What the destination policies say.
    pub traffic: TrafficPolicy,
    /// How many endpoints there are.
    pub endpoints: usize,
    /// How many of these are ready.
    pub ready: usize,
}

/// What applies at a host or an address.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldLinked {
    /// Where.
    pub key: ResolutionKey,
    /// What; `None`: the mesh knows nothing there.
    pub applies: Option<HeldApplies>,
}

/// See [`LinkedApplies`].
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldApplies {
    /// Protocol that the port declares.
    pub protocol: Protocol,
    /// The service that was named.
    pub service: Option<ServiceId>,
    /// Where traffic goes if no route applies.
    pub default_backend: Option<HeldBackend>,
    /// The rules for requests, in the order in which they are tried.
    pub rules: Vec<HeldRule>,
    /// The routes that have rules for connections, in the order in which they are tried.
    pub connection_routes: Vec<ObjectId>,
    /// Mutual TLS at an inbound listener: there, or at the port.
    pub mtls: MtlsMode,
    /// The same of ports that no service serves, where policies say something of them.
    pub mtls_at: BTreeMap<u16, MtlsMode>,
    /// What is waited for, or cannot be used, so that nothing is decided here.
    pub lacks: Option<String>,
}

/// A backend.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldBackend {
    /// Fully qualified host.
    pub host: Name,
    /// Port of the service.
    pub port: u16,
    /// The subset, if one is named.
    pub subset: Option<Name>,
    /// Why it cannot be used, if it cannot.
    pub unusable: Option<String>,
}

/// Alternatives of one rule that are tried together.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeldRule {
    /// The route; it is among the resources.
    pub route: ObjectId,
    /// Index of the rule in it.
    pub rule: u32,
    /// Indices of the alternatives; none: it matches every request.
    pub alternatives: Vec<u32>,
}

/// A part of the document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Groups,
    Linked,
    /// Resources of this kind, as [`ResourceKey::kind`] names it.
    Kind(String),
}

/// Which parts are wanted: `only=groups,linked,Route` of a query; all without it.
pub(crate) struct Parts(Option<BTreeSet<Part>>);

impl Parts {
    pub(crate) fn of_query(query: Option<&str>) -> Self {
        let only = query.and_then(|query| query.strip_prefix("only="));
        let part = |word: &str| match word {
            "groups" => Part::Groups,
            "linked" => Part::Linked,
            kind => Part::Kind(kind.to_owned()),
        };
        Self(only.map(|only| only.split(',').map(part).collect()))
    }

    fn has(&self, part: Part) -> bool {
        self.0.as_ref().is_none_or(|parts| parts.contains(&part))
    }
}

/// Writes a [`Dump`] of no more than `bytes_max` and what its frame takes.
pub(crate) fn write(
    view: &View,
    listeners: &[HeldListener],
    parts: &Parts,
    bytes_max: usize,
) -> Vec<u8> {
    let mut page = Page { text: b"{".to_vec(), bytes_max, left_out: 0 };
    page.list("listeners", listeners.iter());
    if parts.has(Part::Groups) {
        let mut groups: Vec<_> = view.groups().collect();
        groups.sort_by(|a, b| a.key.cmp(&b.key));
        page.list("groups", groups.iter().map(|group| HeldGroup::of(group)));
    }
    if parts.has(Part::Linked) {
        let mut linked: Vec<_> = view.linked().collect();
        linked.sort_by(|a, b| a.key.cmp(&b.key));
        page.list("linked", linked.into_iter().map(|linked| HeldLinked::of(view, linked)));
    }
    let is_wanted = |key: &ResourceKey| parts.has(Part::Kind(key.kind().to_owned()));
    let mut held: Vec<_> = view.held().filter(|(key, _)| is_wanted(key)).collect();
    held.sort_by(|a, b| a.0.cmp(b.0));
    page.list("resources", held.into_iter().map(|(key, held)| HeldResource::of(key, held)));
    page.end()
}

/// A document in the making, one entry a line.
struct Page {
    text: Vec<u8>,
    bytes_max: usize,
    left_out: u64,
}

impl Page {
    fn list(&mut self, name: &str, entries: impl Iterator<Item = impl Serialize>) {
        self.text.extend_from_slice(format!("\n\"{name}\": [").as_bytes());
        let mut separator: &[u8] = b"\n  ";
        for entry in entries {
            // Of plain data with text keys, so that this does not fail; if it did, it would be
            // counted as left out.
            let entry = serde_json::to_vec(&entry).unwrap_or_default();
            if entry.is_empty() || self.text.len() + entry.len() > self.bytes_max {
                self.left_out += 1;
                continue;
            }
            self.text.extend_from_slice(separator);
            self.text.extend_from_slice(&entry);
            separator = b",\n  ";
        }
        self.text.extend_from_slice(b"],");
    }

    fn end(mut self) -> Vec<u8> {
        self.text.extend_from_slice(format!("\n\"left_out\": {}}}\n", self.left_out).as_bytes());
        self.text
    }
}

impl HeldResource {
    fn of(key: &ResourceKey, held: &Held) -> Self {
        let kind = key.kind();
        let text = key.to_string();
        Self {
            kind: kind.to_owned(),
            key: text.strip_prefix(kind).map_or(&*text, str::trim_start).to_owned(),
            id: key.clone(),
            version: held.version.to_string(),
            body: held.resource.clone(),
        }
    }
}

impl HeldGroup {
    fn of(group: &Group) -> Self {
        let GroupKey { service, port, subset } = group.key.clone();
        let (policy, members) = (group.policy(), group.members());
        Self {
            service,
            port,
            subset,
            protocol: policy.protocol,
            headless: policy.service.headless,
            traffic: policy.traffic.clone(),
            endpoints: members.all.len(),
            ready: members.ready.len(),
        }
    }
}

impl HeldLinked {
    fn of(view: &View, linked: &Linked) -> Self {
        let of = |applies| HeldApplies::of(view, &linked.key, applies);
        Self { key: linked.key.clone(), applies: linked.applies.as_ref().map(of) }
    }
}

impl HeldApplies {
    fn of(view: &View, key: &ResolutionKey, applies: &LinkedApplies) -> Self {
        let mode = |port| view.inbound_mode(applies, port);
        // Of a port that a service serves an entry of its own tells.
        let is_here = |port: &u16| {
            let address = key.target.ip().map(|ip| SocketAddr::new(ip, *port));
            let at = |to| view.at_address(ListenerKind::Inbound, to, &key.namespace);
            address.and_then(at).is_some_and(|linked| linked.key == *key)
        };
        let ports = applies.inbound.ports().into_iter().filter(is_here);
        let others = ports.filter(|port| *port != key.target.port());
        let rules = applies.order.iter().filter_map(|turn| {
            Some(HeldRule {
                route: applies.routes.get(turn.route as usize)?.route.id.clone(),
                rule: turn.rule,
                alternatives: turn.alternatives.clone().collect(),
            })
        });
        let with_connections =
            applies.routes.iter().filter(|route| !route.route.connection_rules.is_empty());
        let lacks = match (&applies.missing, &applies.unusable) {
            (_, Some(key)) => Some(format!("{key} cannot be used")),
            (Some(key), None) => Some(format!("{key} has not arrived")),
            (None, None) => None,
        };
        Self {
            protocol: applies.protocol,
            service: applies.service.as_ref().map(|service| service.id.clone()),
            default_backend: applies.default_backend.as_ref().map(HeldBackend::of),
            rules: rules.collect(),
            connection_routes: with_connections.map(|route| route.route.id.clone()).collect(),
            mtls: mode(key.target.port()),
            mtls_at: others.map(|port| (port, mode(port))).collect(),
            lacks,
        }
    }
}

impl HeldBackend {
    fn of(backend: &LinkedBackend) -> Self {
        Self {
            host: backend.host.clone(),
            port: backend.port,
            subset: backend.subset.clone(),
            unusable: backend.group.as_ref().err().map(|reason| reason.code().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
