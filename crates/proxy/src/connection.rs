//! One connection from a client: whose it is, where it was going, and who called.

use std::net::SocketAddr;
use std::sync::Arc;

use ironmesh_model::{Identity, ListenerKind};

use crate::workload::LocalWorkload;

/// What holds for all requests of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Through which kind of listener it came.
    pub(crate) kind: ListenerKind,
    /// The workload for which it is served.
    pub(crate) workload: Arc<LocalWorkload>,
    /// Address of the client.
    pub(crate) peer: SocketAddr,
    /// Where the client wanted to go; at a gateway the port by which routes know it.
    pub(crate) destination: SocketAddr,
    /// Who called, if by mutual TLS.
    pub(crate) peer_identity: Option<Identity>,
    /// The client as headers tell it: its address at a gateway, an element of
    /// `x-forwarded-client-cert` if it proved who it is. Made once, as it is the same for all its
    /// requests.
    pub(crate) client: String,
    /// Whom the client's TLS names (SNI), whoever ends it.
    pub(crate) server_name: Option<String>,
}
