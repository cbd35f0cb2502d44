//! One connection from a client: whose it is, where it was going, and who called.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use ironmesh_model::topology::Topology;
use ironmesh_model::traffic::{self, Local, Seen};
use ironmesh_model::{Draw, Identity, ListenerKind};
use tokio::time::{Instant, sleep_until};

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
    /// Its address as headers tell it, at a gateway. Made once, as it is the same for all its requests.
    pub(crate) client: String,
    /// The certificate that it showed, as an element of `x-forwarded-client-cert`; empty: none.
    pub(crate) certificate: String,
    /// What is believed of what stands in front of a gateway.
    pub(crate) topology: Topology,
    /// Version of the TLS that was ended here; `None`: none was.
    pub(crate) tls_version: Option<&'static str>,
    /// Whether requests on it came by HTTPS, at a gateway.
    pub(crate) https: bool,
    /// When it has become too old to carry another request; `None`: never.
    pub(crate) expires: Option<Instant>,
    /// Whom the client's TLS names (SNI), whoever ends it.
    pub(crate) server_name: Seen<String>,
    /// All chance in what is decided about it; each of its requests has its own.
    pub(crate) draw: Draw,
}

impl Connection {
    /// Whether it has become too old to carry another request.
    pub(crate) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| Instant::now() >= expires)
    }

    /// Waits until it has become too old.
    pub(crate) async fn expired(&self) {
        match self.expires {
            Some(expires) => sleep_until(expires).await,
            None => pending().await,
        }
    }

    /// What a decision sees of it, made for the workload as it is now. Before it is known how the
    /// connection begins, see [`Connection::unread`].
    pub(crate) fn seen<'a>(&'a self, local: &'a Local) -> traffic::Connection<'a> {
        traffic::Connection {
            listener: self.kind,
            local,
            destination: self.destination,
            peer: self.peer_identity.as_ref().map_or(Seen::Absent, Seen::Is),
            server_name: match &self.server_name {
                Seen::NotRead => Seen::NotRead,
                Seen::Absent => Seen::Absent,
                Seen::Is(name) => Seen::Is(name),
            },
        }
    }

    /// The same, before a byte of it was read.
    pub(crate) fn unread<'a>(&'a self, local: &'a Local) -> traffic::Connection<'a> {
        traffic::Connection { peer: Seen::NotRead, server_name: Seen::NotRead, ..self.seen(local) }
    }

    /// Whom the client's TLS names, if it is known.
    pub(crate) fn named_host(&self) -> Option<&str> {
        match &self.server_name {
            Seen::Is(name) => Some(name),
            Seen::NotRead | Seen::Absent => None,
        }
    }

    /// Itself, if it comes into a workload.
    pub(crate) fn inbound(&self) -> Option<&Self> {
        (self.kind == ListenerKind::Inbound).then_some(self)
    }
}
