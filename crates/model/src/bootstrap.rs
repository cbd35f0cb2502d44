//! What a process of the mesh is started with: one JSON document on an inherited descriptor.
//!
//! Who starts it (the local agent, an init container) and what runs (proxy, control plane) share
//! nothing but these types.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::limits::{Limits, ProxyLimits, WireLimits};
use crate::name::{Labels, Name, WorkloadId};
use crate::settings::Settings;
use crate::topology::OwnTopology;

/// Mark of connections that an outbound proxy makes; capture lets them pass.
pub const OUTBOUND_MARK: u32 = 1;
/// Mark of connections that an inbound proxy makes to its workload, and of probes.
pub const INBOUND_MARK: u32 = 2;

/// Where captured outbound connections arrive.
pub const OUTBOUND_PORT: u16 = 15001;
/// Where captured inbound connections arrive.
pub const INBOUND_PORT: u16 = 15006;
/// Admin API, on loopback only.
pub const ADMIN_PORT: u16 = 15000;
/// Metrics, in Prometheus' format (`/stats/prometheus`).
pub const METRICS_PORT: u16 = 15090;
/// Metrics of proxy and application together; for now the proxy's own.
pub const MERGED_METRICS_PORT: u16 = 15020;
/// Health (`/healthz/ready`).
pub const HEALTH_PORT: u16 = 15021;
/// Where a proxy asks the local platform for names, as they are on the host.
pub const OUTSIDE_NAMES_PORT: u16 = 15053;
/// Push protocol and certificates of the control plane.
pub const CONTROL_PORT: u16 = 15012;

/// What a proxy is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyBootstrap {
    /// What it is.
    pub kind: ProxyKind,
    /// The workload that it serves.
    pub workload: WorkloadId,
    /// Address of the workload.
    pub ip: IpAddr,
    /// Name of what owns the workload (`reviews-v1`).
    pub owner: Name,
    /// Labels of the workload.
    pub labels: Labels,
    /// Service account of the workload.
    pub service_account: Name,
    /// Where the control plane is.
    pub control: ControlAddress,
    /// Proves to the control plane which workload this is. Secret.
    pub token: String,
    /// Listening sockets, made by who started the proxy.
    pub listeners: Vec<InheritedListener>,
    /// Descriptor of a `SOCK_SEQPACKET` socket to the local agent (see [`ToAgent`]); none on
    /// Kubernetes.
    #[serde(default)]
    pub agent_fd: Option<i32>,
    /// Descriptor of a stream socket on which who started the proxy asks `GET /healthz/ready`, so that
    /// nobody can keep it from being heard; none on Kubernetes.
    #[serde(default)]
    pub probe_fd: Option<i32>,
    /// Networks, such as `10.77.0.0/16`, that the proxy dials from its own network namespace. With
    /// `agent_fd`, everything else is dialled from sockets of the host's network.
    #[serde(default)]
    pub mesh_networks: Vec<String>,
    /// Name servers for endpoints that are names, asked in this order; none: those are never reached.
    #[serde(default)]
    pub name_servers: Vec<SocketAddr>,
    /// What it says of itself of what stands in front of it, if it is a gateway.
    #[serde(default)]
    pub topology: OwnTopology,
    /// Worker threads; default: 2 for a sidecar, all cores for a gateway, never more than cores.
    #[serde(default)]
    pub workers: Option<usize>,
    /// Limits.
    #[serde(default)]
    pub limits: ProxyLimits,
    /// Limits of the push protocol.
    #[serde(default)]
    pub wire_limits: WireLimits,
}

/// What a proxy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyKind {
    /// Beside one workload.
    Sidecar,
    /// At the edge.
    Gateway,
}

impl ProxyKind {
    /// The word for it in messages and names of limits.
    pub fn word(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Gateway => "gateway",
        }
    }
}

/// Where the control plane is and whom to believe there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlAddress {
    /// Address of the push protocol.
    pub address: SocketAddr,
    /// Trust anchors for it, in PEM.
    pub anchors_pem: String,
}

/// A listening socket that a proxy inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InheritedListener {
    /// What is to be served on it.
    pub role: ListenerRole,
    /// The descriptor.
    pub fd: i32,
}

/// What a proxy serves on an inherited listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListenerRole {
    /// Captured outbound connections.
    Outbound,
    /// Captured inbound connections.
    Inbound,
    /// The admin API.
    Admin,
    /// Prometheus metrics.
    Metrics,
    /// Health.
    Health,
    /// A port of a gateway. There may be several sockets for one port.
    Gateway(u16),
}

/// What a proxy asks its local agent for; one JSON message a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToAgent {
    /// Unconnected TCP sockets of the host's network, for traffic that leaves the mesh.
    Egress {
        /// How many, at most 16.
        count: u8,
        /// Whether for IPv6.
        v6: bool,
    },
    /// Listening sockets for a port of the gateway.
    Listen {
        /// The port.
        port: u16,
    },
}

/// What the local agent gives; descriptors come with the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromAgent {
    /// As many sockets as descriptors came; none if the mesh has no egress.
    Egress {
        /// Whether for IPv6.
        v6: bool,
        /// Why there are none.
        refused: Option<String>,
    },
    /// Listening sockets: in the pod, and published on the host.
    Listen {
        /// The port.
        port: u16,
        /// Why there is none.
        refused: Option<String>,
    },
    /// Unasked: the workload is told to end. Callers are to be sent elsewhere while the proxy still
    /// serves what they send; it is ended itself after the applications.
    WorkloadEnds,
    /// Unasked: ports of the gateway have other sockets on the host than before. It is to ask for its
    /// ports again, and to go on with the sockets that it has already.
    PortsMoved,
}

/// What the control plane is started with on the local platform.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlBootstrap {
    /// Name of the mesh.
    pub mesh: String,
    /// Listening unix sockets of the API.
    pub api_fds: Vec<i32>,
    /// Listening TCP sockets of the API, which is served there over TLS to those who have a token: the
    /// first on the host's loopback, as `ironmesh kubeconfig` tells it, the others for pods.
    #[serde(default)]
    pub secure_api_fds: Vec<i32>,
    /// Where the agent listens, for commands in containers and connections to pods; none: there are none.
    #[serde(default)]
    pub agent_socket: Option<PathBuf>,
    /// Where ports 80 and 443 of the ingress gateway are reached from outside.
    pub gateway_ports: [u16; 2],
    /// Listening TCP socket of the push protocol.
    pub push_fd: i32,
    /// Where it writes why it cannot start, before it ends; none: nobody reads that.
    #[serde(default)]
    pub report_fd: Option<i32>,
    /// Address of the push protocol as proxies reach it.
    pub push_address: SocketAddr,
    /// Where the journal and the CA are kept: `--state`, or a private tmpfs.
    pub state: PathBuf,
    /// Where the agent writes the logs of containers: `NAMESPACE_POD/CONTAINER.log`.
    pub logs: PathBuf,
    /// Key with which the agent signs the tokens of proxies, in hex. Secret.
    pub token_key: String,
    /// Settings of the mesh.
    pub settings: Settings,
    /// Network from which Services get their addresses, such as `10.96.0.0/16`.
    pub service_network: String,
    /// Whether containers may have user ids of their own: only root can give them.
    pub user_ids: bool,
    /// Whether the files of claims outlive the mesh.
    pub keeps_claims: bool,
    /// Limits of the mesh.
    #[serde(default)]
    pub limits: Limits,
}
