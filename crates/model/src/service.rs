//! Services, their endpoints, and the workloads behind them.

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chunk::Chunk;
use crate::name::{Identity, Labels, Name, ServiceId, WorkloadId};
use crate::place::Place;
use crate::policy::{ClientTls, Distribution, TlsMode};
use crate::resource::ResourceKey;

/// A name that callers use, and its ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id; `id.hostname` is the fully qualified name.
    pub id: ServiceId,
    /// Name of the object, for metric labels (`reviews`).
    pub name: Name,
    /// Virtual addresses; empty if headless.
    pub addresses: Vec<IpAddr>,
    /// Whether callers dial the endpoints themselves, so that the dialled one must be used.
    pub headless: bool,
    /// Where its connections go.
    pub discovery: Discovery,
    /// Which of its endpoints are preferred for being near.
    pub distribution: Distribution,
    /// Names of which the certificate of an endpoint has one where TLS is begun towards it, unless the
    /// policy of the caller says names itself (`ServiceEntry.subjectAltNames`); empty: nothing is said.
    pub certificate_names: Vec<Name>,
    /// Ports by which callers reach it.
    pub ports: Vec<ServicePort>,
    /// The chunks of its endpoints, in order. A snapshot fills them in.
    pub endpoint_chunks: Vec<Chunk>,
}

impl Service {
    /// The port with this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The keys of the chunks of its endpoints.
    pub fn endpoint_keys(&self) -> impl Iterator<Item = ResourceKey> {
        self.endpoint_chunks.iter().map(|chunk| ResourceKey::Endpoints(self.id.clone(), *chunk))
    }
}

/// Where the connections of a service go (Istio, `ServiceEntry.Resolution`; Envoy's discovery types).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// To its endpoints; to one that is a name, to all addresses of that.
    #[default]
    Endpoints,
    /// To the first address of an endpoint that is a name (`DNS_ROUND_ROBIN`).
    FirstAddress,
    /// To where the caller dialled (`NONE`).
    Dialled,
    /// To the host that the request names (`DYNAMIC_DNS`).
    Named,
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Number that callers use.
    pub number: u16,
    /// Its name; empty if it has none.
    pub name: Name,
    /// Protocol it declares.
    pub protocol: Protocol,
}

/// Application protocol of a port, by its name's prefix or `appProtocol`
/// (Istio, "Protocol Selection").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Not declared: found out from the first bytes.
    #[default]
    Undeclared,
    /// HTTP/1, or HTTP/2 if the connection begins with its preface.
    Http,
    /// HTTP/2 towards the workload, too.
    Http2,
    /// gRPC: HTTP/2, and local answers are trailers-only.
    Grpc,
    /// Bytes that the mesh does not look into.
    Tcp,
    /// The application's own TLS; opaque, but for its SNI.
    Tls,
}

impl Protocol {
    /// The word for it, as a port's name begins with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Undeclared => "undeclared",
            Self::Http => "http",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// Whether requests of this protocol are routed one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    /// What is spoken on a port for which several services declare a protocol: what all of it has in
    /// common, so that none of their callers is misread.
    pub fn in_common(self, other: Self) -> Self {
        match (self, other) {
            _ if self == other => self,
            (Self::Http2 | Self::Grpc, Self::Http2 | Self::Grpc) => Self::Http2,
            _ if self.is_http() && other.is_http() => Self::Http,
            _ if self.is_opaque() && other.is_opaque() => Self::Tcp,
            _ => Self::Undeclared,
        }
    }

    /// Whether one is read and the other is not.
    pub fn conflicts_with(self, other: Self) -> bool {
        (self.is_http() && other.is_opaque()) || (self.is_opaque() && other.is_http())
    }

    /// Whether the mesh forwards its bytes unread.
    pub fn is_opaque(self) -> bool {
        matches!(self, Self::Tcp | Self::Tls)
    }
}

/// A chunk of the endpoints of a service: those whose ids have hashes that begin alike, so that a
/// change to one moves one chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Whose endpoints.
    pub service: ServiceId,
    /// Which chunk.
    pub chunk: Chunk,
    /// In order of their ids.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One address that serves a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Stable across readiness changes: the uid of its workload.
    pub id: Name,
    /// Where it is.
    pub address: EndpointAddress,
    /// Service port to the port at `address`, for the ports that it serves.
    pub ports: Vec<PortMap>,
    /// Labels of its workload, by which subsets select.
    pub labels: Labels,
    /// The workload.
    pub workload: WorkloadId,
    /// Name of what owns the workload (`reviews-v1`), for metric labels.
    pub owner: Name,
    /// How callers in the mesh speak to it.
    pub tls: UpstreamTls,
    /// How they do at ports of its own of which policies say something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls_at: Vec<PortTls>,
    /// Whether it takes new requests. One that does not stays listed, so that order is stable.
    pub ready: bool,
    /// Share of requests relative to other endpoints; 1 unless set.
    pub weight: u32,
    /// Network it is on; empty for the mesh's own.
    pub network: Name,
    /// Cluster it is in.
    pub cluster: Name,
    /// `REGION/ZONE/SUBZONE`; empty if unknown.
    pub locality: Name,
    /// Name of its node; empty if unknown.
    pub node: Name,
}

impl Endpoint {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place {
            labels: &self.labels,
            locality: &self.locality,
            network: &self.network,
            cluster: &self.cluster,
            node: &self.node,
        }
    }

    /// Whether a subset with these labels has it.
    pub fn is_selected_by(&self, selector: &Labels) -> bool {
        self.place().is_selected_by(selector)
    }

    /// How callers in the mesh speak to it at a port of its own.
    pub fn tls_at(&self, port: u16) -> &UpstreamTls {
        at_port(&self.tls_at, port).unwrap_or(&self.tls)
    }

    /// Who it proves to be to its callers; `None`: nobody, at none of its ports.
    pub fn identity(&self) -> Option<&Identity> {
        let at_ports = || self.tls_at.iter().find_map(|own| own.tls.expected());
        self.tls.expected().or_else(at_ports)
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndpointAddress {
    /// At an address that the proxy can dial.
    Ip(IpAddr),
    /// At a name that the proxy resolves.
    Dns(Name),
    /// Behind a gateway of another network: dial the first, name the second.
    Gateway(IpAddr, Name),
}

/// A service port and where it is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMap {
    /// Port of the service.
    pub service: u16,
    /// Port at the endpoint.
    pub target: u16,
}

/// How a caller in the mesh speaks to a port of an endpoint or workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortTls {
    /// The port there.
    pub port: u16,
    /// How it is spoken to.
    pub tls: UpstreamTls,
}

fn at_port(ports: &[PortTls], port: u16) -> Option<&UpstreamTls> {
    ports.iter().find(|own| own.port == port).map(|own| &own.tls)
}

/// How a caller in the mesh speaks to an endpoint, and whom it expects there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpstreamTls {
    /// In plaintext: the endpoint has no proxy, or its policies turn mutual TLS off.
    #[default]
    None,
    /// In plaintext, unless a policy asks for the mesh's mutual TLS: a gateway, which ends it only
    /// where its servers say so.
    Asked(Identity),
    /// By the mesh's mutual TLS, with the workload that has this identity and with nobody else.
    Mesh(Identity),
    /// The same, naming the server: by that name a gateway chooses among its servers.
    Named(Arc<NamedMember>),
    /// By TLS as a policy says it, with whoever has the certificate that it asks for.
    Given(Arc<ClientTls>),
}

impl UpstreamTls {
    /// The identity that the peer must prove; `None` if it need not be a member.
    pub fn expected(&self) -> Option<&Identity> {
        match self {
            Self::None | Self::Asked(_) | Self::Given(_) => None,
            Self::Mesh(identity) => Some(identity),
            Self::Named(member) => Some(&member.identity),
        }
    }

    /// Whether nobody on the way can read it.
    pub fn is_encrypted(&self) -> bool {
        !matches!(self, Self::None | Self::Asked(_))
    }

    /// How an endpoint is spoken to that is spoken to like this in the mesh, under a policy.
    /// `host`: that of its service.
    pub fn under(&self, policy: Option<&ClientTls>, host: &Name) -> Self {
        let Some(policy) = policy else { return self.clone() };
        match policy.mode {
            TlsMode::Mesh => self.by_mesh(policy.sni.as_ref()),
            TlsMode::Disable => Self::None,
            TlsMode::Simple | TlsMode::Mutual => {
                let sni = policy.sni.clone().or_else(|| Some(host.clone()));
                Self::Given(Arc::new(ClientTls { sni, ..policy.clone() }))
            }
        }
    }

    /// By the mesh's mutual TLS where a member is, naming the server if there is a name.
    fn by_mesh(&self, name: Option<&Name>) -> Self {
        let (Self::Asked(identity) | Self::Mesh(identity)) = self else { return self.clone() };
        let identity = identity.clone();
        match name {
            None => Self::Mesh(identity),
            Some(name) => Self::Named(Arc::new(NamedMember { identity, name: name.clone() })),
        }
    }
}

/// A member of the mesh, and how it is named to it whom a connection is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamedMember {
    /// Who must be there.
    pub identity: Identity,
    /// The name of the server (SNI).
    pub name: Name,
}

/// Who lives at an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its id.
    pub id: WorkloadId,
    /// Name of what owns it (`reviews-v1`).
    pub owner: Name,
    /// Its identity.
    pub identity: Identity,
    /// Its labels.
    pub labels: Labels,
    /// Whether it has a proxy, so that mutual TLS is to be expected from it.
    pub meshed: bool,
    /// How callers in the mesh speak to it at ports that no service declares.
    pub tls: UpstreamTls,
    /// How they do at those of which policies say something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tls_at: Vec<PortTls>,
    /// `REGION/ZONE/SUBZONE`; empty if unknown.
    pub locality: Name,
    /// Network it is on; empty for the mesh's own.
    pub network: Name,
    /// Name of its node; empty if unknown.
    pub node: Name,
}

impl Workload {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place {
            labels: &self.labels,
            locality: &self.locality,
            network: &self.network,
            cluster: &self.id.cluster,
            node: &self.node,
        }
    }

    /// How callers in the mesh speak to it at a port that no service declares.
    pub fn tls_at(&self, port: u16) -> &UpstreamTls {
        at_port(&self.tls_at, port).unwrap_or(&self.tls)
    }

    /// `app` as Istio's metrics have it: `service.istio.io/canonical-name`, the recommended
    /// Kubernetes label, `app`, or the owner's name.
    pub fn canonical_service(&self) -> &str {
        canonical_service(&self.labels).unwrap_or(&self.owner)
    }

    /// The version that Istio's metrics show; `latest` if no label tells.
    pub fn canonical_revision(&self) -> &str {
        canonical_revision(&self.labels)
    }
}

/// The canonical service that labels tell, if they do.
pub fn canonical_service(labels: &Labels) -> Option<&str> {
    ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]
        .iter()
        .find_map(|name| labels.value(name))
}

/// The canonical revision that labels tell, `latest` if none does.
pub fn canonical_revision(labels: &Labels) -> &str {
    ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]
        .iter()
        .find_map(|name| labels.value(name))
        .unwrap_or("latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_is_spoken_to_by_mutual_tls_only_where_a_policy_asks_for_it() {
        let identity: Identity = "spiffe://cluster.local/ns/edge/sa/gateway".parse().unwrap();
        let host = Name::from("gateway.edge.svc.cluster.local");
        let asks = |mode, sni: Option<&str>| ClientTls {
            mode,
            sni: sni.map(Into::into),
            ..ClientTls::default()
        };
        let gateway = UpstreamTls::Asked(identity.clone());
        let sidecar = UpstreamTls::Mesh(identity.clone());
        assert!(!gateway.is_encrypted() && gateway.expected().is_none());
        assert_eq!(gateway.under(None, &host), gateway);
        assert_eq!(gateway.under(Some(&asks(TlsMode::Disable, None)), &host), UpstreamTls::None);
        for of in [&gateway, &sidecar] {
            assert_eq!(of.under(Some(&asks(TlsMode::Mesh, None)), &host), sidecar);
            let named = of.under(Some(&asks(TlsMode::Mesh, Some("out.test"))), &host);
            let member = NamedMember { identity: identity.clone(), name: "out.test".into() };
            assert_eq!(named, UpstreamTls::Named(Arc::new(member)));
            assert!(named.is_encrypted() && named.expected() == Some(&identity));
        }
        // Who is no member cannot be asked.
        let none = UpstreamTls::None;
        assert_eq!(none.under(Some(&asks(TlsMode::Mesh, Some("out.test"))), &host), none);
    }

    #[test]
    fn tls_that_a_policy_asks_for_names_the_host_of_the_service_unless_it_says_another() {
        let host = Name::from("api.example.com");
        for (sni, named) in [(None, "api.example.com"), (Some("other.test"), "other.test")] {
            for mode in [TlsMode::Simple, TlsMode::Mutual] {
                let sni = sni.map(Name::from);
                let policy = ClientTls { mode, sni, ..ClientTls::default() };
                let UpstreamTls::Given(given) = UpstreamTls::None.under(Some(&policy), &host)
                else {
                    panic!("it is none of the mesh's");
                };
                assert_eq!((given.sni.as_deref(), given.mode), (Some(named), mode));
            }
        }
    }
}
