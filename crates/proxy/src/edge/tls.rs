//! The TLS of a gateway's servers: made when their certificates come, and spoken with clients.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use ironmesh_identity::SystemClock;
use ironmesh_identity::edge::{self, ServerTlsError};
use ironmesh_model::listeners::{
    GatewayListener, GatewayProtocol, ListenerServer, Listeners, ServerTls, Termination, server_for,
};
use ironmesh_model::service::Protocol;
use ironmesh_model::{Reason, Seen, View};
use tokio::time::timeout;

use crate::connection::Connection;
use crate::detect::{self, Beginning, Declared, Detected};
use crate::failure::Failure;
use crate::opaque::Opaque;
use crate::park;
use crate::stream::Stream;
use crate::tls::{self, EDGE_ALPN, EdgeConnection, Inside, MeshConnection};
use crate::worker::Worker;

/// The TLS of all servers of a gateway.
#[derive(Debug, Default)]
pub(crate) struct EdgeTls {
    /// What it was made from.
    listeners: Arc<Listeners>,
    /// By listener and server; `None` where no TLS ends by a certificate of a user.
    made: Vec<Vec<Option<Made>>>,
}

/// The TLS of a server, or why it has none.
#[derive(Clone, Debug)]
struct Made {
    /// From these, which need not be those of now.
    by: Result<edge::ServerTls, ServerTlsError>,
}

impl EdgeTls {
    /// That of these listeners. What is as before is kept, with its sessions; so is what worked before
    /// where what came in its place does not. Also tells what does not work, and why.
    pub(crate) fn next(&self, listeners: &Arc<Listeners>) -> (Self, Vec<String>) {
        let mut flaws = Vec::new();
        let mut made = Vec::with_capacity(listeners.listeners.len());
        for listener in &listeners.listeners {
            let of_server = |server: &ListenerServer| {
                let Some(ServerTls::Terminate(given)) = &server.tls else { return None };
                let before = self.before(listener.port, server);
                let (now, flaw) = make(given, before);
                flaws.extend(flaw.map(|why| {
                    format!("Gateway {}, port {}: {why}", server.gateway, listener.port)
                }));
                Some(now)
            };
            made.push(listener.servers.iter().map(of_server).collect());
        }
        (Self { listeners: listeners.clone(), made }, flaws)
    }

    /// Whether it was made from these.
    pub(crate) fn is_of(&self, listeners: &Arc<Listeners>) -> bool {
        Arc::ptr_eq(&self.listeners, listeners)
    }

    /// What is spoken on a port.
    pub(crate) fn protocol(&self, port: u16) -> GatewayProtocol {
        self.listeners.at(port).map_or(GatewayProtocol::Http, |listener| listener.protocol)
    }

    /// What a server of the same Gateway and hosts was before.
    fn before(&self, port: u16, server: &ListenerServer) -> Option<(&Termination, &Made)> {
        let place = |listener: &GatewayListener| listener.port == port;
        let at = self.listeners.listeners.iter().position(place)?;
        let servers = self.listeners.listeners[at].servers.iter().zip(&self.made[at]);
        let mut same =
            servers.filter(|(own, _)| own.gateway == server.gateway && own.hosts == server.hosts);
        same.find_map(|(own, made)| match (&own.tls, made) {
            (Some(ServerTls::Terminate(given)), Some(made)) => Some((&**given, made)),
            _ => None,
        })
    }

    /// The server for a name, and its TLS.
    fn find(&self, port: u16, name: Option<&str>) -> Option<(&ListenerServer, Option<&Made>)> {
        let at = self.listeners.listeners.iter().position(|listener| listener.port == port)?;
        let servers = &self.listeners.listeners[at].servers;
        let server = server_for(servers, name)?;
        let index = servers.iter().position(|own| std::ptr::eq(own, server))?;
        Some((server, self.made[at].get(index)?.as_ref()))
    }
}

/// Makes the TLS of a server, and says what is wrong with it.
fn make(given: &Termination, before: Option<(&Termination, &Made)>) -> (Made, Option<String>) {
    if let Some((_, kept)) = before.filter(|(own, made)| *own == given && made.by.is_ok()) {
        return (kept.clone(), None);
    }
    let by = edge::ServerTls::new(given, EDGE_ALPN, Arc::new(SystemClock));
    let Err(error) = &by else { return (Made { by }, None) };
    let why = format!("{}: {error}", given.from);
    // What is only broken may be mended; what is gone is meant to be gone.
    let kept = before.filter(|(own, made)| {
        let is_broken = *error != ServerTlsError::NoCertificate;
        is_broken && own.from == given.from && own.client == given.client && made.by.is_ok()
    });
    match kept {
        Some((_, kept)) => (kept.clone(), Some(format!("{why}; the one before is used"))),
        None => (Made { by }, Some(why)),
    }
}

/// Finds out to which server a connection belongs, and what is spoken inside its TLS.
pub(crate) async fn accept(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    mut stream: Stream,
) -> Detected {
    let longest = worker.process.limits.handshake_timeout;
    let mut first = BytesMut::new();
    let begins = timeout(longest, detect::beginning(worker, &mut stream, &mut first)).await;
    connection.server_name = match begins {
        Ok(Ok(Beginning::Hello { server_name, .. })) => server_name.map_or(Seen::Absent, Seen::Is),
        Ok(Ok(Beginning::Other)) | Err(_) => {
            return Detected::Refused(Failure::downstream(Reason::HandshakeFailed));
        }
        Ok(Ok(Beginning::Nothing) | Err(_)) => return Detected::Gone,
    };
    let of_workload = connection.workload.edge_tls.load_full();
    let name = match &connection.server_name {
        Seen::Is(name) => Some(name.as_str()),
        Seen::NotRead | Seen::Absent => None,
    };
    let Some((server, made)) = of_workload.find(connection.destination.port(), name) else {
        return Detected::Refused(Failure::downstream(Reason::NoServer));
    };
    match (&server.tls, made) {
        (Some(ServerTls::Terminate(_)), Some(Made { by: Ok(tls) })) => {
            let over = stream.beginning_with(first).reading_ahead(&worker.buffers);
            match timeout(longest, tls::accept_at_edge(tls, over)).await {
                Ok(Ok(EdgeConnection { stream, inside: spoken, certificate, version })) => {
                    connection.certificate = certificate;
                    connection.tls_version = version;
                    inside(worker, connection, server, (stream, spoken)).await
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, peer = %connection.peer, "TLS handshake failed");
                    Detected::Refused(Failure::downstream(Reason::HandshakeFailed))
                }
                Err(_) => Detected::Refused(Failure::downstream(Reason::HandshakeFailed)),
            }
        }
        (Some(ServerTls::Mesh), _) => {
            let workload = connection.workload.clone();
            let held = |_: &View| workload.credentials.load_full().ok_or(None);
            let credentials = match park::until_found(worker, &workload, held).await {
                Ok(credentials) => credentials,
                Err(failure) => return Detected::Refused(failure),
            };
            let over = stream.beginning_with(first).reading_ahead(&worker.buffers);
            match timeout(longest, tls::accept(&credentials, over)).await {
                Ok(Ok(MeshConnection { stream, inside: spoken, peer, version })) => {
                    connection.tls_version = version;
                    if let Some(peer) = peer {
                        connection.certificate = peer.text(credentials.identity());
                        connection.peer_identity = Some(peer.identity);
                    }
                    inside(worker, connection, server, (stream, spoken)).await
                }
                Ok(Err(_)) | Err(_) => {
                    Detected::Refused(Failure::downstream(Reason::HandshakeFailed))
                }
            }
        }
        (Some(ServerTls::Passthrough | ServerTls::AutoPassthrough), _) => {
            passed_on(worker, connection, stream, first).await
        }
        (Some(ServerTls::Terminate(_)) | None, _) => {
            Detected::Refused(Failure::downstream(Reason::NoCertificate))
        }
    }
}

/// What is spoken inside.
async fn inside(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    server: &ListenerServer,
    (stream, spoken): (Stream, Option<Inside>),
) -> Detected {
    connection.https = true;
    if !server.http {
        return passed_on(worker, connection, stream, BytesMut::new()).await;
    }
    match spoken {
        Some(Inside::Http2) => Detected::Http2(stream),
        _ => {
            let declared = Declared { protocol: Protocol::Http, decision: None };
            detect::plaintext(worker, connection, stream, BytesMut::new(), declared).await
        }
    }
}

/// A connection whose bytes are passed on as rules say.
pub(crate) async fn passed_on(
    worker: &Rc<Worker>,
    connection: &Connection,
    stream: Stream,
    first: BytesMut,
) -> Detected {
    match detect::decided(worker, connection, Connection::seen).await {
        Ok(decision) => Detected::Opaque(Opaque { stream, first, decision, dialled: None }),
        Err(failure) => Detected::Refused(failure),
    }
}
