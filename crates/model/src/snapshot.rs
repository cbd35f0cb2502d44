//! A snapshot: all objects of the mesh at one instant, and the answers to every resource key.
//!
//! A snapshot never changes. [`Snapshot::edited`] makes the next one, which shares with it all that
//! the edits leave alone, and tells the cells that they touched. Answers tell the cells that they
//! read, misses included: one of which no cell was touched is as it was. So whoever keeps answers
//! computes anew what a change can have changed, and nothing else; and what comes out is always what
//! a snapshot made from nothing would answer.

use std::net::IpAddr;

use crate::credential::CredentialSource;
use crate::finding::Finding;
use crate::listeners::{ClientCertificate, GatewayProtocol, TlsVersion};
use crate::name::{Labels, Name, ObjectId, ServiceId, WorkloadId};
use crate::network::Network;
use crate::policy::{DestinationPolicy, InboundPolicy, Policy};
use crate::resource::{
    EVERY_PORT, ListenerKind, Resolution, ResolutionKey, Resource, ResourceKey, Target,
    references_of,
};
use crate::route::Route;
use crate::service::{Endpoint, Endpoints, PortMap, Service, Workload};
use crate::settings::Settings;

mod cell;
mod check;
mod delegate;
mod destination;
mod edit;
mod findings;
mod gateway;
mod inbound;
mod index;
mod objects;
mod outbound;
mod reader;
mod readers;
mod scope;
mod sidecar;

pub use cell::{Cell, Touched};
pub use edit::Edit;
pub use findings::Findings;
pub use gateway::ingress_gateway_name;
use index::{Index, exported};
use reader::Reader;
pub use readers::Readers;
pub use scope::Scope;
pub use sidecar::{EgressHosts, IngressPort, SidecarSource};

/// When an object was created: seconds since the Unix epoch, as Kubernetes keeps it.
pub type Created = i64;

/// Everything that the dialects made of the users' objects; order does not matter.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// Settings of the mesh.
    pub settings: Settings,
    /// Services with their endpoints.
    pub services: Vec<ServiceSource>,
    /// Workloads by address.
    pub workloads: Vec<(IpAddr, Workload)>,
    /// Routes.
    pub routes: Vec<RouteSource>,
    /// Policies of destinations.
    pub destination_policies: Vec<DestinationPolicySource>,
    /// Policies of workloads.
    pub inbound_policies: Vec<InboundPolicySource>,
    /// Gateways.
    pub gateways: Vec<GatewaySource>,
    /// Certificates and keys of the users.
    pub credentials: Vec<CredentialSource>,
    /// Sidecars.
    pub sidecars: Vec<SidecarSource>,
    /// What was found in objects when they were translated together with others.
    pub found: Vec<(ObjectId, Vec<Finding>)>,
}

/// A service and its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSource {
    /// The service.
    pub service: Service,
    /// Its endpoints, in order of their ids.
    pub endpoints: Vec<Endpoint>,
    /// Who reaches it how.
    pub reach: Reach,
}

/// Who reaches a service, and by which addresses beside those that it names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Age, for ties.
    pub created: Created,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<Name>,
    /// Networks whose addresses lead to it, unless a service has one of them for its own.
    pub networks: Vec<Network>,
}

impl Reach {
    /// That of a service which all see since then.
    pub fn since(created: Created) -> Self {
        Self { created, ..Self::default() }
    }
}

/// A route and where it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSource {
    /// The route.
    pub route: Route,
    /// Hosts: fully qualified, or `*`, or `*.suffix`.
    pub hosts: Vec<Name>,
    /// What it is attached to: `mesh`, or `NAMESPACE/NAME` of Gateways.
    pub gateways: Vec<Name>,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<Name>,
    /// Rules for which those of another route stand, by number, and that route. A route without hosts
    /// is there for others to delegate to.
    pub delegations: Vec<(u32, ObjectId)>,
    /// Age.
    pub created: Created,
    /// With which precedence it joins others that do so, where no route for the same hosts takes them
    /// alone: the highest first, ties by namespace and name. `None`: it takes its hosts alone.
    pub precedence: Option<i32>,
    /// What was found in other objects when it was made.
    pub found: Vec<Finding>,
    /// Where its parts stand in the object, for findings.
    pub fields: RouteFields,
}

/// Field names by which a finding points into the object that a route was made from: rule 0 of a
/// `VirtualService` stands at `spec.http[0]`, its first backend at `spec.http[0].route[0]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteFields {
    /// Path of the list of hosts.
    pub hosts: &'static str,
    /// Path of the list of what it is attached to; empty: the object says nothing of it.
    pub gateways: &'static str,
    /// Path of the list of rules, one for each of [`Route::rules`]; of the rule if `is_one_rule`.
    pub rules: &'static str,
    /// Whether the object is one rule.
    pub is_one_rule: bool,
    /// Path of what [`crate::route::ConnectionRule::place`] begins at.
    pub connection_rules: &'static str,
    /// Within a rule: list of its backends.
    pub backends: &'static str,
    /// Within a backend: its destination; empty if it is that itself.
    pub destination: &'static str,
    /// Within a destination: its host.
    pub host: &'static str,
    /// Within a destination: its port.
    pub port: &'static str,
    /// Within a destination: its subset.
    pub subset: &'static str,
    /// Within a rule: list of its alternatives, one for each of [`crate::route::Rule::matches`].
    pub matches: &'static str,
    /// Within an alternative: the list of the gateways that it holds at.
    pub match_gateways: &'static str,
    /// Within a rule: the route that it delegates to.
    pub delegate: &'static str,
}

impl RouteFields {
    /// Those of Istio's `VirtualService`.
    pub const VIRTUAL_SERVICE: Self = Self {
        hosts: "spec.hosts",
        gateways: "spec.gateways",
        rules: "spec.http",
        is_one_rule: false,
        connection_rules: "spec",
        backends: "route",
        destination: "destination",
        host: "host",
        port: "port.number",
        subset: "subset",
        matches: "match",
        match_gateways: "gateways",
        delegate: "delegate",
    };

    /// Those of the `RouteRule` of Istio up to 0.8.
    pub const ROUTE_RULE: Self = Self {
        hosts: "spec.destination",
        gateways: "",
        rules: "spec",
        is_one_rule: true,
        connection_rules: "spec",
        backends: "route",
        destination: "",
        host: "destination.name",
        port: "",
        subset: "labels",
        matches: "match",
        match_gateways: "",
        delegate: "",
    };

    /// Those of SMI's `TrafficSplit`.
    pub const TRAFFIC_SPLIT: Self = Self {
        hosts: "spec.service",
        backends: "backends",
        host: "service",
        subset: "",
        matches: "matches",
        ..Self::ROUTE_RULE
    };

    /// Path of a host.
    fn host_at(&self, at: usize) -> String {
        match self.is_one_rule {
            true => self.hosts.to_owned(),
            false => format!("{}[{at}]", self.hosts),
        }
    }

    /// Path of a rule for requests.
    fn rule(&self, at: usize) -> String {
        match self.is_one_rule {
            true => self.rules.to_owned(),
            false => format!("{}[{at}]", self.rules),
        }
    }

    /// Path of a rule for connections.
    fn connection_rule(&self, place: &str) -> String {
        match self.is_one_rule {
            true => self.rules.to_owned(),
            false => format!("{}.{place}", self.connection_rules),
        }
    }

    /// Path of the destination of a backend.
    fn backend(&self, rule: &str, at: usize) -> String {
        let dot = if self.destination.is_empty() { "" } else { "." };
        format!("{rule}.{}[{at}]{dot}{}", self.backends, self.destination)
    }
}

/// A destination policy and where it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationPolicySource {
    /// The policy.
    pub policy: DestinationPolicy,
    /// Host: fully qualified, or `*.suffix`.
    pub host: Name,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<Name>,
    /// Workloads of its namespace for whose calls it is; `None`: it is for all that see it.
    pub selector: Option<Labels>,
    /// Age.
    pub created: Created,
    /// Paths of the fields of its object that ask for the mesh's mutual TLS, for findings.
    pub mutual_tls_at: Vec<String>,
    /// The Secrets that it names.
    pub credentials: Vec<NamedSecret>,
}

/// A Secret that TLS towards a destination names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedSecret {
    /// Its name.
    pub name: Name,
    /// The field that names it, for findings.
    pub place: String,
    /// Whether its certificate is shown, beside its authorities.
    pub is_shown: bool,
}

/// An inbound policy and where it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundPolicySource {
    /// The policy.
    pub policy: InboundPolicy,
    /// Workloads of its namespace that any of these selects; `None`: all of the namespace, or of the
    /// mesh if it is the root namespace.
    pub selectors: Option<Vec<Labels>>,
    /// Whether of all that are as wide for a workload only the oldest counts (`PeerAuthentication`), so
    /// that others are as if they were not there. Else each port goes by the oldest that names it.
    pub only_oldest: bool,
    /// What was found when other objects were looked at.
    pub found: Vec<Finding>,
    /// Paths of its fields, for findings.
    pub fields: InboundFields,
    /// Age.
    pub created: Created,
}

/// Where an object says what an inbound policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboundFields {
    /// Which workloads.
    pub selector: &'static str,
    /// Which of their ports: a map by their numbers, if it has one.
    pub ports: Option<&'static str>,
}

/// A gateway: which workloads serve it, on which ports, for which hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySource {
    /// The object.
    pub id: ObjectId,
    /// Labels of the gateway workloads, in any namespace.
    pub selector: Labels,
    /// Its servers.
    pub servers: Vec<GatewayServer>,
    /// Age.
    pub created: Created,
}

/// One server of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayServer {
    /// Port.
    pub port: u16,
    /// Name of the port.
    pub name: Name,
    /// Protocol.
    pub protocol: GatewayProtocol,
    /// Hosts: names, `*` or `*.suffix`, each with the namespace from which routes may attach
    /// (`None`: any).
    pub hosts: Vec<(Option<Name>, Name)>,
    /// How TLS is spoken, if it is.
    pub tls: Option<Box<GatewayTls>>,
    /// Whether all requests are sent to HTTPS.
    pub redirects: bool,
}

/// How TLS is spoken with a server of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayTls {
    /// Where it ends, and what is asked of the client.
    pub mode: GatewayTlsMode,
    /// Whether requests are inside; otherwise bytes.
    pub http: bool,
    /// Names of the Secrets with its certificates, in the namespace of the gateway's workload, each
    /// with the field that names it.
    pub certificates: Vec<(String, Name)>,
    /// Another namespace in which they are looked for, if they are not in the first.
    pub also_in: Option<Name>,
    /// The same of the one with the authorities that are trusted; `None`: what stands in the first of
    /// `certificates`, or in that of its name with `-cacert`.
    pub trusted: Option<(String, Name)>,
    /// As in [`crate::listeners::Termination`].
    pub names: Vec<Name>,
    /// As in [`crate::listeners::Termination`].
    pub key_hashes: Vec<Name>,
    /// As in [`crate::listeners::Termination`].
    pub certificate_hashes: Vec<Name>,
    /// The lowest version and the highest.
    pub versions: (TlsVersion, TlsVersion),
}

/// Where the TLS of a gateway's client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayTlsMode {
    /// Here, with certificates of the user.
    Terminate(ClientCertificate),
    /// Here, with those of the mesh.
    Mesh,
    /// Behind the gateway; rules tell where.
    Passthrough,
    /// Behind the gateway; its SNI tells where.
    AutoPassthrough,
}

/// Who asks for a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subscriber {
    /// Namespace of its workload.
    pub namespace: Name,
    /// Labels of its workload.
    pub labels: Labels,
    /// Addresses of its workload.
    pub addresses: Vec<IpAddr>,
}

/// All objects of the mesh at one instant, indexed. Cheap to clone; never changes.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    index: Index,
}

/// What is under a key.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The resource; `None` if there is none that the asker may see.
    pub resource: Option<Resource>,
    /// Every key that it refers to, directly: what travels with it.
    pub references: Vec<ResourceKey>,
    /// What it depends on, in order, each once.
    pub reads: Vec<Cell>,
}

impl Snapshot {
    /// A snapshot of these objects. Pure: equal objects in any order give equal answers. The
    /// findings are those that only all objects together show (a host taken twice, an undefined
    /// subset, ...).
    pub fn new(objects: Objects) -> (Self, Vec<Finding>) {
        let (snapshot, _) = Self::default().edited(objects.into_edits());
        let mut findings = Findings::default();
        findings.note(&Touched::everything());
        let found = findings.of(&snapshot);
        (snapshot, found)
    }

    /// This snapshot with changes, and what they touched.
    pub fn edited(&self, edits: impl IntoIterator<Item = Edit>) -> (Self, Touched) {
        let mut next = self.clone();
        let mut touched = Touched::default();
        for edit in edits {
            next.index.edit(edit, &mut touched);
        }
        (next, touched)
    }

    /// Settings of the mesh.
    pub fn settings(&self) -> &Settings {
        &self.index.settings
    }

    /// As whom the proxy of a workload asks, by the labels that it has now, and what that depends
    /// on; `None` if the workload is not known.
    pub fn subscriber(&self, workload: &WorkloadId) -> (Option<Subscriber>, Vec<Cell>) {
        let reader = Reader::new(&self.index);
        let known = reader.workload_of(&workload.uid);
        let subscriber = known.map(|known| Subscriber {
            namespace: known.id.namespace.clone(),
            labels: known.labels.clone(),
            addresses: reader.addresses_of(&workload.uid).to_vec(),
        });
        (subscriber, reader.into_reads())
    }

    /// The services of which the workload at an address is an endpoint, the oldest first, and to which
    /// of its ports theirs lead.
    pub fn services_at(&self, ip: IpAddr) -> Vec<(ServiceId, Vec<PortMap>)> {
        let reader = Reader::new(&self.index);
        let of = reader.endpoints_at(ip);
        of.map(|(entry, own)| (entry.service.id.clone(), own.ports.clone())).collect()
    }

    /// The resource under a key as `subscriber` sees it; `None` if there is none (a
    /// [`crate::resource::Resolution`] of its namespace and a [`ResourceKey::Workload`] always have
    /// an answer).
    pub fn resource(&self, key: &ResourceKey, subscriber: &Subscriber) -> Option<Resource> {
        let (scope, _) = self.scope(subscriber, None);
        self.answer(key, &scope.narrowed(key, false)).resource
    }

    /// Every key that a resource refers to, directly: what travels with it in the same answer. For
    /// a Resolution: its routes, policies, services, and the chunks of the endpoints of its
    /// destinations; for listeners the chunks of their domains; for others nothing.
    pub fn references(&self, resource: &Resource) -> Vec<ResourceKey> {
        references(&Reader::new(&self.index), resource)
    }

    /// What is under a key in a scope (see [`Scope::narrowed`]).
    pub fn answer(&self, key: &ResourceKey, scope: &Scope) -> Answer {
        let reader = Reader::of_caller(&self.index, &scope.selecting_policies);
        let resource = resource(&reader, key, scope);
        let references = resource.iter().flat_map(|r| references(&reader, r)).collect();
        Answer { resource, references, reads: reader.into_reads() }
    }
}

fn resource(reader: &Reader<'_>, key: &ResourceKey, scope: &Scope) -> Option<Resource> {
    if scope.refusal(key).is_some() {
        return None;
    }
    match key {
        ResourceKey::Settings => {
            let settings = reader.index(&[cell::Name::Settings]).settings.clone();
            let sidecar = scope.sidecar.as_ref().and_then(|id| reader.sidecar(id));
            Some(Resource::Settings(match sidecar.and_then(|sidecar| sidecar.outbound_policy) {
                None => settings,
                Some(outbound_policy) => Settings { outbound_policy, ..(*settings).clone() }.into(),
            }))
        }
        ResourceKey::Listeners => {
            Some(Resource::Listeners(gateway::listeners(reader, scope).into()))
        }
        ResourceKey::Domains(port, chunk) => {
            Some(Resource::Domains(gateway::domains(reader, scope, *port, *chunk).into()))
        }
        ResourceKey::Resolution(key) => {
            Some(Resource::Resolution(resolve(reader, key, scope).into()))
        }
        ResourceKey::Route(id) => {
            let entry = reader.route(id)?;
            let seen = scope.sees(|namespace| {
                reader.attachment(id).is_some_and(|entry| entry.visible_from(namespace))
            });
            seen.then(|| Resource::Route(delegate::joined(reader, entry)))
        }
        ResourceKey::Service(id) => {
            reader.chunks(id);
            Some(Resource::Service(reader.service(id)?.service.clone()))
        }
        ResourceKey::Policy(id) => {
            let policy = reader.policy(id)?;
            let seen = scope.sees(|namespace| is_policy_seen(reader, policy, namespace));
            seen.then(|| Resource::Policy(policy.clone()))
        }
        ResourceKey::Workload(ip) => Some(Resource::Workload(reader.workload(*ip).cloned())),
        ResourceKey::Endpoints(id, chunk) => {
            let index = reader.index(&[cell::Name::Endpoints(id, *chunk)]);
            let entries = index.services.get(id)?.endpoints.chunk(*chunk)?;
            let endpoints = entries.iter().map(|entry| entry.seen.clone()).collect();
            let service = id.clone();
            Some(Resource::Endpoints(Endpoints { service, chunk: *chunk, endpoints }.into()))
        }
    }
}

/// Whether a policy may concern proxies of a namespace: it is exported to them, or is theirs, or
/// holds for the whole mesh.
fn is_policy_seen(reader: &Reader<'_>, policy: &Policy, namespace: &str) -> bool {
    let id = policy.id();
    let exported = match policy {
        Policy::Destination(_) => {
            reader.destination_policy(id).is_some_and(|entry| exported(&entry.export_to, namespace))
        }
        Policy::Inbound(_) => id.namespace == *reader.root_namespace(),
    };
    exported || *id.namespace == *namespace
}

/// What applies at a key that the asker may ask for.
fn resolve(reader: &Reader<'_>, key: &ResolutionKey, scope: &Scope) -> Resolution {
    let namespace = &key.namespace;
    let sidecar = || scope.sidecar.as_ref().and_then(|id| reader.sidecar(id));
    let mut applies = match (key.listener, &key.target) {
        (ListenerKind::Outbound, Target::Host(host, port)) => {
            outbound::host(reader, host, *port, &outbound::Caller { namespace, sidecar: sidecar() })
        }
        (ListenerKind::Outbound, Target::Address(ip, port)) => {
            let from = outbound::Caller { namespace, sidecar: sidecar() };
            outbound::address(reader, *ip, *port, &from)
        }
        (ListenerKind::Inbound, Target::Address(ip, EVERY_PORT)) => {
            Some(inbound::address(reader, *ip, scope, sidecar()))
        }
        (ListenerKind::Gateway, Target::Host(domain, port)) => {
            gateway::domain(reader, domain, *port, scope)
        }
        (ListenerKind::Inbound, Target::Address(..) | Target::Host(..))
        | (ListenerKind::Gateway, Target::Address(..)) => None,
    };
    for to in applies.iter_mut().flat_map(|applies| &mut applies.destinations) {
        to.credentials = destination::credentials(reader, &to.policies, key.listener, namespace);
    }
    applies.map_or(Resolution::Absent, |applies| Resolution::Present(applies.into()))
}

fn references(reader: &Reader<'_>, resource: &Resource) -> Vec<ResourceKey> {
    match resource {
        Resource::Resolution(resolution) => {
            let Resolution::Present(applies) = &**resolution else { return Vec::new() };
            let mut keys = references_of(applies);
            let mut services: Vec<&ServiceId> =
                applies.destinations.iter().filter_map(|d| d.service.as_ref()).collect();
            services.sort_unstable();
            services.dedup();
            for id in services {
                let chunks = reader.chunks(id).iter();
                keys.extend(chunks.map(|chunk| ResourceKey::Endpoints(id.clone(), *chunk)));
            }
            keys
        }
        Resource::Listeners(listeners) => {
            let chunks = listeners.listeners.iter().flat_map(|listener| {
                listener.domain_chunks.iter().map(|c| ResourceKey::Domains(listener.port, *c))
            });
            chunks.collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
