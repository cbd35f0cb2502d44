//! Resources: what the control plane sends to a proxy, each alone, under a key and a version.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chunk::Chunk;
use crate::credential::ClientCredential;
use crate::listeners::{Domains, Listeners};
use crate::name::{Name, ObjectId, ServiceId};
use crate::policy::{ConnectionPool, Policy};
use crate::route::Route;
use crate::service::{Endpoints, Protocol, Service, Workload};
use crate::settings::Settings;

/// The key under which a proxy subscribes to a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKey {
    /// Settings of the mesh.
    Settings,
    /// The listeners of the subscribing gateway.
    Listeners,
    /// What applies at an address or a host name; brings what it refers to in the same answer.
    Resolution(ResolutionKey),
    /// One route object.
    Route(ObjectId),
    /// One service, without its endpoints.
    Service(ServiceId),
    /// One policy object.
    Policy(ObjectId),
    /// Who lives at an IP address.
    Workload(IpAddr),
    /// One chunk of the endpoints of a service; the service has the list of them.
    Endpoints(ServiceId, Chunk),
    /// One chunk of the domains that the subscribing gateway serves on a port; its listeners have
    /// the list of them.
    Domains(u16, Chunk),
}

impl ResourceKey {
    /// The kind, as `proxy-config` names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Listeners => "listeners",
            Self::Resolution(_) => "resolution",
            Self::Route(_) => "route",
            Self::Service(_) => "service",
            Self::Policy(_) => "policy",
            Self::Workload(_) => "workload",
            Self::Endpoints(..) => "endpoints",
            Self::Domains(..) => "domains",
        }
    }
}

impl fmt::Display for ResourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings | Self::Listeners => f.write_str(self.kind()),
            Self::Resolution(key) => write!(f, "resolution {key}"),
            Self::Route(id) => write!(f, "route {id}"),
            Self::Service(id) => write!(f, "service {id}"),
            Self::Policy(id) => write!(f, "policy {id}"),
            Self::Workload(ip) => write!(f, "workload {ip}"),
            Self::Endpoints(id, chunk) => write!(f, "endpoints {id} #{chunk}"),
            Self::Domains(port, chunk) => write!(f, "domains {port} #{chunk}"),
        }
    }
}

/// The listener through which a request entered the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ListenerKind {
    /// From the workload, towards others.
    Outbound,
    /// From others, towards the workload.
    Inbound,
    /// Into the mesh at a gateway.
    Gateway,
}

impl ListenerKind {
    /// The word for it in logs and output.
    pub fn word(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
            Self::Gateway => "gateway",
        }
    }
}

/// What a proxy saw and asks about: an address or a host name, at a listener, from a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ResolutionKey {
    /// Where it was seen.
    pub listener: ListenerKind,
    /// What was seen.
    pub target: Target,
    /// Namespace of the asking proxy: short names and visibility depend on it.
    pub namespace: Name,
}

impl ResolutionKey {
    /// The key under which a connection to an address is asked about.
    pub fn of_address(listener: ListenerKind, address: SocketAddr, namespace: &Name) -> Self {
        let port = match listener {
            ListenerKind::Inbound => EVERY_PORT,
            ListenerKind::Outbound | ListenerKind::Gateway => address.port(),
        };
        let target = Target::Address(address.ip(), port);
        Self { listener, target, namespace: namespace.clone() }
    }
}

impl fmt::Display for ResolutionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", self.listener.word(), self.target, self.namespace)
    }
}

/// An address or a host name with a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Target {
    /// Original destination of a connection; at an inbound listener its address and
    /// [`EVERY_PORT`], so that whoever scans ports makes no proxy hold more.
    Address(IpAddr, u16),
    /// Host of a request (lower case, without port) and the port of the original destination; at
    /// a gateway the domain that covers the host (see [`crate::View::domain`]) and the port of the
    /// server.
    Host(Name, u16),
}

/// The port that stands for all of an address.
pub const EVERY_PORT: u16 = 0;

impl Target {
    /// The address, unless it is a host.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Address(ip, _) => Some(*ip),
            Self::Host(..) => None,
        }
    }

    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(_, port) | Self::Host(_, port) => *port,
        }
    }

    /// Feeds a host target to a hasher; a borrowed host hashes as an owned one.
    #[inline]
    pub(crate) fn hash_host<H: Hasher>(host: &str, port: u16, state: &mut H) {
        (1u8, host, port).hash(state);
    }
}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Address(ip, port) => (0u8, ip, port).hash(state),
            Self::Host(host, port) => Self::hash_host(host, *port, state),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(ip, port) => write!(f, "{}", SocketAddr::new(*ip, *port)),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// What applies at a [`ResolutionKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resolution {
    /// The mesh knows nothing there. An answer like any other, kept up to date.
    Absent,
    /// These objects apply.
    Present(Box<Applies>),
}

/// The ordered references of a [`Resolution`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applies {
    /// Protocol that the port declares.
    pub protocol: Protocol,
    /// Service that was named, where one was (at a gateway often none).
    pub service: Option<ServiceId>,
    /// Where traffic goes if no route applies to the caller; at a gateway `None`.
    pub default_backend: Option<DefaultBackend>,
    /// Route objects, in the order in which their rules are tried.
    pub routes: Vec<ObjectId>,
    /// How the rules of several routes join.
    pub join: Join,
    /// What the routes are attached to here: `mesh` at a sidecar, `NAMESPACE/NAME` of Gateways at a
    /// gateway. A rule that names gateways applies only if it names one of these.
    pub attached_to: Vec<Name>,
    /// Every destination that `routes` and `default_backend` name.
    pub destinations: Vec<Destination>,
    /// Policies of an inbound listener, most specific first.
    pub inbound_policies: Vec<ObjectId>,
    /// Ports of an inbound listener that services serve or a Sidecar names, in order; what `protocol` and
    /// `service` say holds for the others.
    pub inbound_ports: Vec<InboundPort>,
    /// Where connections go whose TLS names a host (a name, or `*.suffix`) of these, the most specific
    /// first, if no route says otherwise: their services are reached at any address.
    pub by_server_name: Vec<DefaultBackend>,
    /// Address of the member of the mesh that was dialled, if no service is served there.
    pub member: Option<IpAddr>,
}

/// A port of a workload that a service serves, or that a Sidecar names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundPort {
    /// Port of the workload.
    pub number: u16,
    /// Protocol that the service declares for it.
    pub protocol: Protocol,
    /// The service; `None`: none is served there, but a Sidecar names the port.
    pub service: Option<ServiceId>,
    /// Where its connections go, instead of to where they were going; an unspecified address is that.
    pub to: Option<SocketAddr>,
    /// Limits of connections and requests to the workload there.
    pub pool: Option<ConnectionPool>,
}

/// The backend of a service that no route redirects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultBackend {
    /// Host name as in [`Destination::host`].
    pub host: Name,
    /// Port of the service.
    pub port: u16,
    /// Subset, as [`crate::route::Backend::subset`] has it.
    pub subset: Option<Name>,
}

/// How the rules of several route objects for one host join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Join {
    /// One after the other.
    InOrder,
    /// As Istio at a gateway: in order, but rules that match everything go last.
    CatchAllLast,
    /// One after the other; what none of them matches goes where it would go without them.
    OrDefault,
}

/// A destination that a route names, resolved for the asking namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Fully qualified host, as [`crate::route::Backend::host`] has it.
    pub host: Name,
    /// The service of that name, if there is one that the asker may see.
    pub service: Option<ServiceId>,
    /// Destination policies that apply, joined: the first that has settings for the whole destination
    /// gives those, and of each subset the first that names it.
    pub policies: Vec<ObjectId>,
    /// What the Secrets have that these policies name, as far as the asker may have it: a gateway all,
    /// a workload those of policies that select it.
    pub credentials: Vec<ClientCredential>,
}

/// A resource with its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// See [`ResourceKey::Settings`].
    Settings(Arc<Settings>),
    /// See [`ResourceKey::Listeners`].
    Listeners(Arc<Listeners>),
    /// See [`ResourceKey::Resolution`].
    Resolution(Arc<Resolution>),
    /// See [`ResourceKey::Route`].
    Route(Arc<Route>),
    /// See [`ResourceKey::Service`].
    Service(Arc<Service>),
    /// See [`ResourceKey::Policy`].
    Policy(Arc<Policy>),
    /// See [`ResourceKey::Workload`]; `None`: nobody lives there.
    Workload(Option<Arc<Workload>>),
    /// See [`ResourceKey::Endpoints`].
    Endpoints(Arc<Endpoints>),
    /// See [`ResourceKey::Domains`].
    Domains(Arc<Domains>),
}

/// Version of a resource: a hash of its encoded bytes. Equal content, equal version, on every
/// replica of the control plane and after every restart.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Version(pub u64);

impl Version {
    /// The version of these encoded bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(twox_hash::XxHash3_64::oneshot(bytes))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Keys that a resolution refers to, each once, but for endpoints, whose chunks the services tell.
pub(crate) fn references_of(applies: &Applies) -> Vec<ResourceKey> {
    let services = applies.destinations.iter().filter_map(|d| d.service.as_ref());
    let services =
        services.chain(applies.inbound_ports.iter().filter_map(|port| port.service.as_ref()));
    let policies = applies.destinations.iter().flat_map(|d| &d.policies);
    let routes = applies.routes.iter().cloned().map(ResourceKey::Route);
    let mut seen = hashbrown::HashSet::new();
    routes
        .chain(services.chain(&applies.service).cloned().map(ResourceKey::Service))
        .chain(policies.chain(&applies.inbound_policies).cloned().map(ResourceKey::Policy))
        .chain(applies.member.map(ResourceKey::Workload))
        .filter(|key| seen.insert(key.clone()))
        .collect()
}
