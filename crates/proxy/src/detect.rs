//! What a connection speaks, and whether it comes from a member of the mesh.
//!
//! A port that declares its protocol is believed: HTTP is looked at only to tell HTTP/1 from
//! HTTP/2, opaque bytes are not looked at, but for the mesh's own TLS on the inbound side.
//! Elsewhere the first bytes tell. A server that speaks first must not be kept waiting for a client
//! that will not: after a short silence the destination is dialled, and whoever speaks first
//! decides.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::recorder::Silent;
use ironmesh_model::service::Protocol;
use ironmesh_model::traffic::{self, Local, Seen, Traffic};
use ironmesh_model::{Decision, ListenerKind, Plan, Reason, ResourceKey, View, decide};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::client_hello::{self, HelloReader, Parsed};
use crate::connection::Connection;
use crate::edge::tls as edge;
use crate::failure::Failure;
use crate::http1::{Sniffed, Sniffer};
use crate::opaque::{self, Opaque};
use crate::park;
use crate::proxy_protocol;
use crate::stream::Stream;
use crate::tls::{self, Inside, MeshConnection};
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
    mut stream: Stream,
) -> Detected {
    if connection.kind == ListenerKind::Gateway {
        if connection.workload.expects_proxy_protocol() {
            stream = match Box::pin(proxy_protocol::read(worker, connection, stream)).await {
                Ok(stream) => stream,
                Err(failure) => return Detected::Refused(failure),
            };
        }
        let spoken = connection.workload.edge_tls.load().protocol(connection.destination.port());
        match spoken {
            GatewayProtocol::Http => {}
            GatewayProtocol::Tls => {
                return Box::pin(edge::accept(worker, connection, stream)).await;
            }
            GatewayProtocol::Tcp => {
                return Box::pin(edge::passed_on(worker, connection, stream, BytesMut::new()))
                    .await;
            }
        }
        let declared = Declared { protocol: Protocol::Http, decision: None };
        return plaintext(worker, connection, stream, BytesMut::new(), declared).await;
    }
    if connection.kind == ListenerKind::Inbound {
        ask_for_caller(worker, connection);
    }
    let decision = match decided(worker, connection, Connection::unread).await {
        Ok(decision) => decision,
        Err(failure) => return Detected::Refused(failure),
    };
    match decision.plan {
        Plan::ToWorkload(mode) => inbound(worker, connection, stream, mode, decision).await,
        _ => {
            let declared = Declared { protocol: decision.protocol(), decision: Some(decision) };
            plaintext(worker, connection, stream, BytesMut::new(), declared).await
        }
    }
}

/// What is known about a connection before its first byte.
pub(crate) struct Declared {
    pub(crate) protocol: Protocol,
    /// What becomes of it if its bytes stay opaque; none at a gateway, where none do.
    pub(crate) decision: Option<Decision>,
}

/// Asks who calls, so that the answer is there when the first request is recorded.
fn ask_for_caller(worker: &Worker, connection: &Connection) {
    let (views, ip) = (&connection.workload.views, connection.peer.ip());
    if views.load().use_workload(ip, worker.watches.now()).is_none() {
        views.want(ResourceKey::Workload(ip));
    }
}

/// Waits until it is known who a member of the mesh is that calls, or that nothing is known of it. The
/// answer was asked for when the connection came, and mostly is here once its handshake is over.
async fn caller(worker: &Worker, connection: &Connection) {
    let ip = connection.peer.ip();
    let known = |view: &View| match view.workload(ip) {
        Some(_) => Ok(()),
        None => Err(Some(ResourceKey::Workload(ip))),
    };
    let is_known = known(&connection.workload.views.load()).is_ok();
    if !is_known && ip != connection.destination.ip() {
        // Whom nobody could tell of is recorded by identity alone.
        let _ = Box::pin(park::until_found(worker, &connection.workload, known)).await;
    }
}

/// What is decided about a connection as `seen`, waiting for what the view lacks.
pub(crate) async fn decided(
    worker: &Worker,
    connection: &Connection,
    seen: for<'a> fn(&'a Connection, &'a Local) -> traffic::Connection<'a>,
) -> Result<Decision, Failure> {
    let look = |view: &View| {
        let local = connection.workload.local.load();
        let traffic = Traffic::Connection(seen(connection, &local));
        let decision = decide(view, &traffic, connection.draw, &mut Silent);
        match decision.plan {
            Plan::Needs(key) => Err(Some(key)),
            _ => Ok(decision),
        }
    };
    let now = look(&connection.workload.views.load());
    match now {
        Ok(decision) => {
            decision.note_use(worker.watches.now());
            Ok(decision)
        }
        Err(_) => Box::pin(park::until_found(worker, &connection.workload, look)).await,
    }
}

/// An inbound connection: first, whether it is the mesh's TLS.
async fn inbound(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    mut stream: Stream,
    mode: MtlsMode,
    decision: Decision,
) -> Detected {
    let mut first = BytesMut::new();
    let protocol = decision.protocol();
    let mut beginning = tokio::select! {
        biased;
        beginning = beginning(worker, &mut stream, &mut first) => beginning,
        () = Box::pin(patience(worker, connection, mode, protocol)) => Ok(Beginning::Other),
        // The proxy goes away, and nobody has asked it anything here.
        () = worker.ends(None) => Err(Left),
    };
    if let Ok(Beginning::Hello { server_name, .. }) = &mut beginning {
        connection.server_name = server_name.take().map_or(Seen::Absent, Seen::Is);
    }
    match beginning {
        Ok(Beginning::Hello { of_mesh: true, .. }) => {
            return terminate(worker, connection, stream, first, decision).await;
        }
        Ok(Beginning::Nothing) if mode == MtlsMode::Strict => return Detected::Gone,
        // The client was to speak first, and was silent for as long as it may be.
        Ok(Beginning::Other) if protocol.is_http() && first.is_empty() => return Detected::Gone,
        Ok(_) => {}
        Err(Left) => return Detected::Gone,
    }
    let decision = match decided(worker, connection, Connection::seen).await {
        Ok(decision) => decision,
        Err(failure) => return Detected::Refused(failure),
    };
    if let Plan::Answer(_) = decision.plan {
        return Detected::Refused(Failure::mesh(decision.reason));
    }
    let declared = Declared { protocol, decision: Some(decision) };
    plaintext(worker, connection, stream, first, declared).await
}

/// Waits as long as a ClientHello is to be awaited. A member of the mesh sends one; who is known
/// not to be one is not waited for, since it may be waiting for the server.
async fn patience(worker: &Worker, connection: &Connection, mode: MtlsMode, protocol: Protocol) {
    let limits = &worker.process.limits;
    if mode == MtlsMode::Strict {
        return sleep(limits.handshake_timeout).await;
    }
    if protocol.is_http() {
        // The client of such a port speaks first in any case.
        return sleep(limits.downstream_idle_timeout).await;
    }
    if mode == MtlsMode::Disable {
        // Only a caller that has not learned of it yet sends one, and that at once.
        return sleep(limits.outbound_silence).await;
    }
    let key = ResourceKey::Workload(connection.peer.ip());
    let meshed = |view: &View| {
        let known = view.workload(connection.peer.ip()).ok_or(Some(key.clone()))?;
        Ok(known.is_some_and(|workload| workload.meshed))
    };
    let detect_timeout = connection.workload.views.load().settings().detect_timeout;
    let unknown_until = Instant::now() + detect_timeout;
    match timeout_at(unknown_until, park::until_found(worker, &connection.workload, meshed)).await {
        Ok(Ok(true)) => sleep(limits.handshake_timeout).await,
        Ok(Ok(false)) => sleep(limits.outbound_silence).await,
        Ok(Err(_)) | Err(_) => sleep_until(unknown_until).await,
    }
}

/// The connection is broken.
pub(crate) struct Left;

/// How a connection begins.
pub(crate) enum Beginning {
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

pub(crate) async fn beginning(
    worker: &Worker,
    stream: &mut Stream,
    first: &mut BytesMut,
) -> Result<Beginning, Left> {
    let limits = &worker.process.limits;
    let mut hello = HelloReader::new(limits.client_hello_bytes_max);
    // Of one that has begun.
    let mut latest = None;
    loop {
        match hello.read(first) {
            Parsed::Hello(hello) => {
                let of_mesh = hello.alpn.iter().any(|protocol| tls::is_of_mesh(protocol));
                return Ok(Beginning::Hello { of_mesh, server_name: hello.server_name });
            }
            Parsed::Malformed => return Ok(Beginning::Other),
            Parsed::Incomplete if first.is_empty() => {
                if read_more(worker, stream, first).await? == Read::End {
                    return Ok(Beginning::Nothing);
                }
            }
            Parsed::Incomplete => {
                let end = Instant::now() + limits.handshake_timeout;
                let more = read_more(worker, stream, first);
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
    stream: Stream,
    first: BytesMut,
    decision: Decision,
) -> Detected {
    let workload = connection.workload.clone();
    let held = |_: &View| workload.credentials.load_full().ok_or(None);
    let credentials = park::until_found(worker, &workload, held).await;
    let credentials = match credentials {
        Ok(credentials) => credentials,
        Err(failure) => return Detected::Refused(failure),
    };
    let over = stream.beginning_with(first).reading_ahead(&worker.buffers);
    let handshake = tls::accept(&credentials, over);
    let handshake = timeout(worker.process.limits.handshake_timeout, Box::pin(handshake));
    let MeshConnection { stream, inside, peer, version } = match handshake.await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => {
            tracing::debug!(%error, peer = %connection.peer, "TLS handshake failed");
            return Detected::Refused(Failure::downstream(Reason::HandshakeFailed));
        }
        Err(_) => return Detected::Refused(Failure::downstream(Reason::HandshakeFailed)),
    };
    connection.tls_version = version;
    if let Some(peer) = peer {
        connection.certificate = peer.text(credentials.identity());
        connection.peer_identity = Some(peer.identity);
        let _ = timeout(CALLER_PATIENCE, caller(worker, connection)).await;
    }
    match (inside, decision.protocol().is_http()) {
        (Some(Inside::Http1), _) => Detected::Http1(stream, BytesMut::new()),
        (Some(Inside::Http2), _) => Detected::Http2(stream),
        (_, true) => Detected::Http1(stream, BytesMut::new()),
        (_, false) => {
            Detected::Opaque(Opaque { stream, first: BytesMut::new(), decision, dialled: None })
        }
    }
}

/// A plaintext connection whose bytes stay opaque. Where a rule depends on the server name of its
/// TLS, that is read before it is decided where the connection goes.
async fn opaque_of(
    worker: &Worker,
    connection: &mut Connection,
    mut stream: Stream,
    mut first: BytesMut,
    declared: Declared,
) -> Detected {
    let Some(mut decision) = declared.decision else { return Detected::Gone };
    if decision.plan == Plan::ReadHello {
        let read = Box::pin(read_server_name(worker, connection, &mut stream, &mut first)).await;
        if let Err(Left) = read {
            return Detected::Gone;
        }
        decision = match decided(worker, connection, Connection::seen).await {
            Ok(decision) => decision,
            Err(failure) => return Detected::Refused(failure),
        };
    }
    Detected::Opaque(Opaque { stream, first, decision, dialled: None })
}

/// Reads whom the client's TLS names. A client that is silent speaks none: the server is to begin.
async fn read_server_name(
    worker: &Worker,
    connection: &mut Connection,
    stream: &mut Stream,
    first: &mut BytesMut,
) -> Result<(), Left> {
    connection.server_name = Seen::Absent;
    if first.is_empty() {
        let read = read_more(worker, stream, first);
        match timeout(worker.process.limits.outbound_silence, read).await {
            Ok(Ok(Read::Bytes)) => {}
            Ok(Ok(Read::End)) | Err(_) => return Ok(()),
            Ok(Err(left)) => return Err(left),
        }
    }
    if let Beginning::Hello { server_name: Some(name), .. } =
        beginning(worker, stream, first).await?
    {
        connection.server_name = Seen::Is(name);
    }
    Ok(())
}

/// Notes whom a ClientHello names, if it is here whole: it is not waited for.
fn note_server_name(connection: &mut Connection, first: &[u8], bytes_max: usize) {
    if let Parsed::Hello(hello) = client_hello::parse(first, bytes_max) {
        connection.server_name = hello.server_name.map_or(Seen::Absent, Seen::Is);
    }
}

/// A plaintext connection, of which `first` was read.
pub(crate) async fn plaintext(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    mut stream: Stream,
    mut first: BytesMut,
    declared: Declared,
) -> Detected {
    if declared.protocol.is_opaque() || worker.is_learned_opaque(connection) {
        return opaque_of(worker, connection, stream, first, declared).await;
    }
    let is_http = declared.protocol.is_http();
    let limits = &worker.process.limits;
    let mut longest = Instant::now() + limits.downstream_idle_timeout;
    let mut begun = false;
    let mut sniffer = Sniffer::new(limits.sniff_bytes_max);
    let silence_max = silence_max(worker, connection, declared.decision.as_ref());
    loop {
        match sniffer.look(&first) {
            Sniffed::Http1 => return Detected::Http1(stream, first),
            Sniffed::Http2 => return Detected::Http2(stream.beginning_with(first)),
            // The application's own TLS, which is its own affair whatever the port declares.
            Sniffed::Tls if connection.kind == ListenerKind::Inbound || !is_http => {
                note_server_name(connection, &first, limits.client_hello_bytes_max);
                return opaque_of(worker, connection, stream, first, declared).await;
            }
            // The codec says what is wrong with it.
            Sniffed::Tls | Sniffed::Other if is_http => {
                return Detected::Http1(stream, first);
            }
            Sniffed::Tls | Sniffed::Other => {
                return opaque_of(worker, connection, stream, first, declared).await;
            }
            Sniffed::Undecided if is_http => {
                if !first.is_empty() && !std::mem::replace(&mut begun, true) {
                    longest = Instant::now() + limits.head_timeout;
                }
                let silent = first.is_empty();
                let read = tokio::select! {
                    biased;
                    read = timeout_at(longest, read_more(worker, &mut stream, &mut first)) => read,
                    () = worker.ends(connection.inbound()), if silent => return Detected::Gone,
                };
                match read {
                    Ok(Ok(Read::Bytes)) => {}
                    Ok(Ok(Read::End) | Err(Left)) | Err(_) => return Detected::Gone,
                }
            }
            Sniffed::Undecided => {
                let more = read_more(worker, &mut stream, &mut first);
                match timeout(silence_max, more).await {
                    Ok(Ok(Read::Bytes)) => {}
                    // It has said what it has to say; the rest is the server's.
                    Ok(Ok(Read::End)) => {
                        return opaque_of(worker, connection, stream, first, declared).await;
                    }
                    Ok(Err(Left)) => return Detected::Gone,
                    Err(_) => return undecided(worker, connection, stream, first, declared).await,
                }
            }
        }
    }
}

/// How long a client may be silent before the destination is dialled. If that may not be dialled there
/// is nobody to speak first, and a request may still name a host that is known.
fn silence_max(worker: &Worker, connection: &Connection, decision: Option<&Decision>) -> Duration {
    match decision.map(|decision| &decision.plan) {
        Some(Plan::Answer(_)) => connection.workload.views.load().settings().detect_timeout,
        _ => worker.process.limits.outbound_silence,
    }
}

/// Dials after a silence; whoever speaks first decides.
async fn undecided(
    worker: &Rc<Worker>,
    connection: &mut Connection,
    mut stream: Stream,
    mut first: BytesMut,
    declared: Declared,
) -> Detected {
    let Some(mut decision) = declared.decision else { return Detected::Gone };
    if decision.plan == Plan::ReadHello {
        // Who is silent names nobody.
        connection.server_name = Seen::Absent;
        decision = match decided(worker, connection, Connection::seen).await {
            Ok(decision) => decision,
            Err(failure) => return Detected::Refused(failure),
        };
    }
    let connection = &*connection;
    let mut dialled = match Box::pin(opaque::dial(worker, connection, &decision)).await {
        Ok(dialled) => dialled,
        Err(failure) => return Detected::Refused(failure),
    };
    let limits = &worker.process.limits;
    let mut sniffer = Sniffer::new(limits.sniff_bytes_max);
    loop {
        let silent = first.is_empty();
        // Whether the bytes so far tell; once a side has ended, no others will.
        let told = tokio::select! {
            biased;
            read = read_more(worker, &mut stream, &mut first) => match read {
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
            () = worker.ends(connection.inbound()), if silent => return Detected::Gone,
        };
        match sniffer.look(&first) {
            _ if told => {}
            // The connection that was dialled is for opaque bytes: HTTP makes its own.
            Sniffed::Http1 => return Detected::Http1(stream, first),
            Sniffed::Http2 => return Detected::Http2(stream.beginning_with(first)),
            Sniffed::Undecided => continue,
            Sniffed::Tls | Sniffed::Other => {}
        }
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
async fn read_more(
    worker: &Worker,
    stream: &mut Stream,
    first: &mut BytesMut,
) -> Result<Read, Left> {
    poll_fn(|cx| {
        if first.capacity() == 0 {
            *first = worker.buffers.take();
        }
        let polled = pin!(stream.read_buf(first)).poll(cx);
        if polled.is_pending() && first.is_empty() {
            worker.buffers.give(std::mem::take(first));
        }
        polled.map(|read| match read {
            Ok(0) => Ok(Read::End),
            Ok(_) => Ok(Read::Bytes),
            Err(_) => Err(Left),
        })
    })
    .await
}

/// How long the answer about a caller is waited for once its handshake is over. Without it the caller
/// would be recorded by its identity alone.
const CALLER_PATIENCE: Duration = Duration::from_millis(100);
