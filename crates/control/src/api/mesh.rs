//! What `/ironmesh/...` answers beside `explain`.

use std::net::SocketAddr;

use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::{Finding, Name, Severity};
use serde::{Deserialize, Serialize};

/// One item of `GET /ironmesh/findings`. The query may name `namespace`, `kind` and `name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingItem {
    /// The finding.
    #[serde(flatten)]
    pub finding: Finding,
    /// How bad it is.
    pub severity: Severity,
}

/// One item of `GET /ironmesh/proxies`: the proxy of a pod, connected or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyItem {
    /// Name of the pod.
    pub name: Name,
    /// Its namespace.
    pub namespace: Name,
    /// What the proxy is.
    pub kind: ProxyKind,
    /// Whether it is connected to the control plane. If not, the other fields are 0.
    pub connected: bool,
    /// Resources that it holds or is being sent.
    pub resources: usize,
    /// How many of them it acknowledged in the version that was sent last.
    pub acknowledged: usize,
    /// Resources pushed since it connected, each time counted.
    pub resources_pushed: u64,
    /// Bytes of resources pushed since it connected.
    pub bytes_pushed: u64,
    /// Whether it acknowledged all that there is for it.
    pub synced: bool,
    /// Identity that its certificate carries.
    pub identity: Option<String>,
    /// What one side could not use of what the other says, and why.
    pub errors: Vec<ResourceError>,
}

/// A resource that a proxy could not use, or a key of a proxy that the control plane could not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceError {
    /// Its key.
    pub resource: String,
    /// Why.
    pub message: String,
    /// Whether it is the control plane that does not understand what the proxy asks for; one of the
    /// two is of a newer version.
    #[serde(default)]
    pub by_control_plane: bool,
}

/// `GET /ironmesh/proxies/NAMESPACE/POD/endpoints`: the groups of endpoints that the proxy of a pod
/// uses, and what it knows of them, as it tells now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyEndpoints {
    /// Why nothing is known, if nothing is: the proxy is not connected, or does not answer in time.
    pub not_known: Option<String>,
    /// The groups, in order of service, port and subset.
    pub groups: Vec<GroupItem>,
    /// Endpoints that found no room in the proxy's answer (`limits.wire.answer_bytes_max`).
    pub left_out: u64,
}

/// The endpoints of one port of a service, or of a subset of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupItem {
    /// Host of the service.
    pub host: Name,
    /// Port of the service.
    pub port: u16,
    /// The subset; `None`: all endpoints.
    pub subset: Option<Name>,
    /// Connections that are open, where the DestinationRule's `connectionPool` limits them.
    pub connections: Option<u32>,
    /// Requests that wait for one, likewise.
    pub waiting: Option<u32>,
    /// The endpoints.
    pub endpoints: Vec<GroupEndpoint>,
}

/// What a proxy knows of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEndpoint {
    /// Where it is dialled.
    pub address: SocketAddr,
    /// Its pod, as `NAME.NAMESPACE`.
    pub workload: String,
    /// Its state.
    #[serde(flatten)]
    pub state: EndpointState,
}

/// How an endpoint stands with a proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointState {
    /// Whether it takes requests.
    pub ready: bool,
    /// How long it gets none yet, in milliseconds, since it failed too often (`outlierDetection`); 0:
    /// it is not ejected.
    pub ejected_for_ms: u64,
    /// Failures one after the other; counted where there is an `outlierDetection`.
    pub failures_in_a_row: u32,
    /// Attempts that failed since the proxy knows it: by a 5xx, or without an answer.
    pub failures: u64,
    /// Connections that the proxy has to it, idle ones included; groups without limits share them.
    /// `None`: a worker of the proxy has not told in time.
    pub connections: Option<u32>,
    /// Requests, and opaque connections, that are under way on those.
    pub requests: Option<u32>,
}
