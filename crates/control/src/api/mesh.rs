//! What `/ironmesh/...` answers beside `explain`.

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
