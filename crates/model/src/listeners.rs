//! The ports on which a gateway listens.

use serde::{Deserialize, Serialize};

use crate::name::Name;

/// The listeners of one gateway workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// In order of their ports; one per port.
    pub listeners: Vec<GatewayListener>,
}

/// One port of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayListener {
    /// Port number, as the `Gateway` says.
    pub port: u16,
    /// Name that the first server on this port gives it.
    pub name: Name,
    /// What is spoken on it.
    pub protocol: GatewayProtocol,
}

/// What a gateway speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayProtocol {
    /// Plaintext HTTP/1 and HTTP/2.
    Http,
}
