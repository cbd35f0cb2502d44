//! What a connection speaks, and whether it comes from a member of the mesh.
//!
//! A port that declares its protocol is believed: HTTP is looked at only to tell HTTP/1 from
//! HTTP/2, opaque bytes are not looked at, but for the mesh's own TLS on the inbound side.
//! Elsewhere the first bytes tell. A server that speaks first must not be kept waiting for a client
//! that will not: after a short silence the destination is dialled, and whoever speaks first
//! decides.

use std::rc::Rc;

use bytes::BytesMut;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::recorder::Silent;
use ironmesh_model::service::Protocol;
use ironmesh_model::{
    Decision, ListenerKind, Reason, ResourceKey, View, decide::ConnectionDecision, decide::Verdict,
    decide_connection,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::client_hello::{self, Parsed};
use crate::connection::Connection;
use crate::failure::Failure;
use crate::http1::{Sniffed, sniff};
use crate::opaque::{self, Opaque};
use crate::park;
use crate::stream::{Begun, Stream};
use crate::tls::{self, Accepted, Inside, Peer};
use crate::worker::Worker;

/// What a connection turned out to be.
#[expect(clippy::large_enum_variant, reason = "there is one a connection, moved once")]
pub(crate) enum Detected {
    /// HTTP/1, of which some bytes were read.
    Http1(Stream, BytesMut),
    /// HTTP/2.
    Http2(Stream),
    /// Bytes that nobody looks at.
    Opaque(Opaque),
    /// It may not go on.
    Refused(Failure),
    /// The client left before it said anything.
    Gone,
}

/// Finds out what a connection speaks; terminates the mesh's TLS and notes who called.
pub(crate) async fn detect(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    tcp: TcpStream,
) -> Detected {
    if connection.kind == ListenerKind::Gateway {
        let declared = ConnectionDeclared { protocol: Protocol::Http, ..Default::default() };
        return plaintext(worker, connection, tcp, BytesMut::new(), declared).await;
    }
    if connection.kind == ListenerKind::Inbound {
        ask_for_caller(worker, connection);
    }
    let declared = match declared(worker, connection).await {
        Ok(declared) => declared,
        Err(failure) => return Detected::Refused(failure),
    };
    match connection.kind {
        ListenerKind::Inbound => inbound(worker, connection, tcp, declared).await,
        _ => plaintext(worker, connection, tcp, BytesMut::new(), declared).await,
    }
}

/// What is known about a connection before its first byte.
#[derive(Default)]
struct ConnectionDeclared {
    protocol: Protocol,
    mtls: MtlsMode,
    decision: Option<Decision>,
}

/// Asks who calls, so that the answer is there when the first request is recorded.
fn ask_for_caller(worker: &Worker, connection: &Connection) {
    let (views, ip) = (&worker.process.views, connection.peer.ip());
    if views.load().workload(ip).is_none() {
        views.want(ResourceKey::Workload(ip));
    }
}

async fn declared(worker: &Worker, connection: &Connection) -> Result<ConnectionDeclared, Failure> {
    let namespace = &connection.workload.id.namespace;
    let decide = |view: &View| {
        let ConnectionDecision { protocol, decision, mtls } = decide_connection(
            view,
            connection.kind,
            connection.destination,
            namespace,
            &mut Silent,
        );
        match decision.verdict {
            Verdict::Needs(key) => Err(Some(key)),
            _ => Ok(ConnectionDeclared { protocol, mtls, decision: Some(decision) }),
        }
    };
    let now = decide(&worker.process.views.load());
    match now {
        Ok(declared) => Ok(declared),
        Err(_) => Box::pin(park::until_found(worker, decide)).await,
    }
}

/// An inbound connection: first, whether it is the mesh's TLS.
async fn inbound(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    tcp: TcpStream,
    declared: ConnectionDeclared,
) -> Detected {
    let mut first = BytesMut::new();
    let strict = declared.mtls == MtlsMode::Strict;
    let mut beginning = tokio::select! {
        biased;
        beginning = beginning(worker, &tcp, &mut first) => beginning,
        () = Box::pin(patience(worker, connection, &declared)) => Ok(Beginning::Other),
        // The proxy goes away, and nobody has asked it anything here.
        () = worker.parts() => Err(Left),
    };
    if let Ok(Beginning::Hello { server_name, .. }) = &mut beginning {
        connection.server_name = server_name.take();
    }
    match beginning {
        Ok(Beginning::Hello { of_mesh: true, .. }) => {
            terminate(worker, connection, tcp, first, declared).await
        }
        Ok(Beginning::Nothing) if strict => Detected::Gone,
        Ok(_) if strict => Detected::Refused(Failure::mesh(Reason::PlaintextRefused)),
        // The client was to speak first, and was silent for as long as it may be.
        Ok(Beginning::Other) if declared.protocol.is_http() && first.is_empty() => Detected::Gone,
        Ok(_) => plaintext(worker, connection, tcp, first, declared).await,
        Err(Left) => Detected::Gone,
    }
}

/// Waits as long as a ClientHello is to be awaited. A member of the mesh sends one; who is known
/// not to be one is not waited for, since it may be waiting for the server.
async fn patience(worker: &Worker, connection: &Connection, declared: &ConnectionDeclared) {
    let limits = &worker.process.limits;
    if declared.mtls == MtlsMode::Strict {
        return sleep(limits.handshake_timeout).await;
    }
    if declared.protocol.is_http() {
        // The client of such a port speaks first in any case.
        return sleep(limits.downstream_idle_timeout).await;
    }
    if declared.mtls == MtlsMode::Disable {
        // Only a caller that has not learned of it yet sends one, and that at once.
        return sleep(limits.outbound_silence).await;
    }
    let key = ResourceKey::Workload(connection.peer.ip());
    let meshed = |view: &View| {
        let known = view.workload(connection.peer.ip()).ok_or(Some(key.clone()))?;
        Ok(known.is_some_and(|workload| workload.meshed))
    };
    let detect_timeout = worker.process.views.load().settings().detect_timeout;
    let unknown_until = Instant::now() + detect_timeout;
    match timeout_at(unknown_until, park::until_found(worker, meshed)).await {
        Ok(Ok(true)) => sleep(limits.handshake_timeout).await,
        Ok(Ok(false)) => sleep(limits.outbound_silence).await,
        Ok(Err(_)) | Err(_) => sleep_until(unknown_until).await,
    }
}

/// The connection is broken.
struct Left;

/// How an inbound connection begins.
enum Beginning {
    /// With a ClientHello.
    Hello {
        /// Whether it offers the mesh's protocols.
        of_mesh: bool,
        /// Whom it wants to reach.
        server_name: Option<String>,
    },
    /// With something else, or with silence.
    Other,
    /// It has ended without a byte.
    Nothing,
}

async fn beginning(
    worker: &Worker,
    tcp: &TcpStream,
    first: &mut BytesMut,
) -> Result<Beginning, Left> {
    let limits = &worker.process.limits;
    let bytes_max = limits.client_hello_bytes_max;
    // Of one that has begun.
    let mut latest = None;
    loop {
        match client_hello::parse(first, bytes_max) {
            Parsed::Hello(hello) => {
                let of_mesh = hello.alpn.iter().any(|protocol| tls::is_of_mesh(protocol));
                return Ok(Beginning::Hello { of_mesh, server_name: hello.server_name });
            }
            Parsed::Malformed => return Ok(Beginning::Other),
            Parsed::Incomplete if first.is_empty() => {
                if read_more(worker, tcp, first).await? == Read::End {
                    return Ok(Beginning::Nothing);
                }
            }
            Parsed::Incomplete => {
                let end = Instant::now() + limits.handshake_timeout;
                let more = read_more(worker, tcp, first);
                match timeout_at(*latest.get_or_insert(end), more).await {
                    Ok(Ok(Read::Bytes)) => {}
                    Ok(Ok(Read::End)) | Err(_) => return Ok(Beginning::Other),
                    Ok(Err(left)) => return Err(left),
                }
            }
        }
    }
}

/// Takes part in the mesh's TLS.
async fn terminate(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    tcp: TcpStream,
    first: BytesMut,
    declared: ConnectionDeclared,
) -> Detected {
    let credentials = connection.workload.clone();
    let credentials =
        park::until_found(worker, |_| credentials.credentials.load_full().ok_or(None)).await;
    let credentials = match credentials {
        Ok(credentials) => credentials,
        Err(failure) => return Detected::Refused(failure),
    };
    let handshake = tls::accept(&credentials, Begun::reading_ahead(tcp, first, &worker.buffers));
    let handshake = timeout(worker.process.limits.handshake_timeout, Box::pin(handshake));
    let Accepted { stream, inside, peer } = match handshake.await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %connection.peer, "TLS handshake failed");
            return Detected::Refused(Failure::downstream(Reason::HandshakeFailed));
        }
        Err(_) => return Detected::Refused(Failure::downstream(Reason::HandshakeFailed)),
    };
    if let Some(peer) = peer {
        let own = credentials.identity();
        let Peer { identity, certificate_sha256: hash } = peer;
        // As Istio's proxies write it; certificates of the mesh have no subject.
        connection.client = format!("By={own};Hash={hash};Subject=\"\";URI={identity}");
        connection.peer_identity = Some(identity);
    }
    match (inside, declared.protocol.is_http()) {
        (Some(Inside::Http1), _) => Detected::Http1(stream, BytesMut::new()),
        (Some(Inside::Http2), _) => Detected::Http2(stream),
        (_, true) => Detected::Http1(stream, BytesMut::new()),
        (_, false) => opaque_of(stream, BytesMut::new(), declared),
    }
}

fn opaque_of(stream: Stream, first: BytesMut, declared: ConnectionDeclared) -> Detected {
    Detected::Opaque(Opaque { stream, first, decision: declared.decision, dialled: None })
}

/// Notes whom a ClientHello names, if it is here whole: it is not waited for.
fn note_server_name(connection: &mut Connection, first: &[u8], bytes_max: usize) {
    if let Parsed::Hello(hello) = client_hello::parse(first, bytes_max) {
        connection.server_name = hello.server_name;
    }
}

/// A plaintext connection, of which `first` was read.
async fn plaintext(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    tcp: TcpStream,
    mut first: BytesMut,
    declared: ConnectionDeclared,
) -> Detected {
    if declared.protocol.is_opaque() || worker.is_learned_opaque(connection) {
        return opaque_of(Stream::plain(tcp), first, declared);
    }
    let is_http = declared.protocol.is_http();
    let limits = &worker.process.limits;
    let mut longest = Instant::now() + limits.downstream_idle_timeout;
    let mut begun = false;
    loop {
        match sniff(&first, limits.sniff_bytes_max) {
            Sniffed::Http1 => return Detected::Http1(Stream::plain(tcp), first),
            Sniffed::Http2 => return Detected::Http2(Stream::Plain(Begun::new(tcp, first))),
            // The application's own TLS, which is its own affair whatever the port declares.
            Sniffed::Tls if connection.kind == ListenerKind::Inbound || !is_http => {
                note_server_name(connection, &first, limits.client_hello_bytes_max);
                return opaque_of(Stream::plain(tcp), first, declared);
            }
            // The codec says what is wrong with it.
            Sniffed::Tls | Sniffed::Other if is_http => {
                return Detected::Http1(Stream::plain(tcp), first);
            }
            Sniffed::Tls | Sniffed::Other => {
                return opaque_of(Stream::plain(tcp), first, declared);
            }
            Sniffed::Undecided if is_http => {
                if !first.is_empty() && !std::mem::replace(&mut begun, true) {
                    longest = Instant::now() + limits.head_timeout;
                }
                let silent = first.is_empty();
                let read = tokio::select! {
                    biased;
                    read = timeout_at(longest, read_more(worker, &tcp, &mut first)) => read,
                    () = worker.parts(), if silent => return Detected::Gone,
                };
                match read {
                    Ok(Ok(Read::Bytes)) => {}
                    Ok(Ok(Read::End) | Err(Left)) | Err(_) => return Detected::Gone,
                }
            }
            Sniffed::Undecided => {
                let more = read_more(worker, &tcp, &mut first);
                match timeout(limits.outbound_silence, more).await {
                    Ok(Ok(Read::Bytes)) => {}
                    // It has said what it has to say; the rest is the server's.
                    Ok(Ok(Read::End)) => return opaque_of(Stream::plain(tcp), first, declared),
                    Ok(Err(Left)) => return Detected::Gone,
                    Err(_) => return undecided(worker, connection, tcp, first, declared).await,
                }
            }
        }
    }
}

/// Dials after a silence; whoever speaks first decides.
async fn undecided(
    worker: &Rc<Worker>,
    connection: &Connection,
    tcp: TcpStream,
    mut first: BytesMut,
    declared: ConnectionDeclared,
) -> Detected {
    let Some(decision) = &declared.decision else { return Detected::Gone };
    let mut dialled = match Box::pin(opaque::dial(worker, connection, decision)).await {
        Ok(dialled) => dialled,
        Err(failure) => return Detected::Refused(failure),
    };
    let limits = &worker.process.limits;
    loop {
        let silent = first.is_empty();
        // Whether the bytes so far tell; once a side has ended, no others will.
        let told = tokio::select! {
            biased;
            read = read_more(worker, &tcp, &mut first) => match read {
                Ok(read) => read == Read::End,
                Err(Left) => return Detected::Gone,
            },
            spoke = dialled.spoke(&worker.buffers) => {
                if spoke {
                    worker.learn_opaque(connection);
                }
                true
            }
            () = sleep(limits.opaque_idle_timeout) => return Detected::Gone,
            () = worker.parts(), if silent => return Detected::Gone,
        };
        match sniff(&first, limits.sniff_bytes_max) {
            _ if told => {}
            // The connection that was dialled is for opaque bytes: HTTP makes its own.
            Sniffed::Http1 => return Detected::Http1(Stream::plain(tcp), first),
            Sniffed::Http2 => return Detected::Http2(Stream::Plain(Begun::new(tcp, first))),
            Sniffed::Undecided => continue,
            Sniffed::Tls | Sniffed::Other => {}
        }
        let stream = Stream::plain(tcp);
        let decision = declared.decision;
        return Detected::Opaque(Opaque { stream, first, decision, dialled: Some(dialled) });
    }
}

/// What reading gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// Some bytes.
    Bytes,
    /// The client's direction has ended; it may still want an answer.
    End,
}

/// Reads more behind `first`. Holds a buffer only while there is something to read.
async fn read_more(worker: &Worker, tcp: &TcpStream, first: &mut BytesMut) -> Result<Read, Left> {
    loop {
        tcp.readable().await.map_err(|_| Left)?;
        if first.capacity() == 0 {
            *first = worker.buffers.take();
        }
        match tcp.try_read_buf(first) {
            Ok(0) => return Ok(Read::End),
            Ok(_) => return Ok(Read::Bytes),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Left),
        }
    }
}
