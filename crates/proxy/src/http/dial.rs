//! Connections to endpoints: from the pool, or new ones.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::Http2Keepalive;
use ironmesh_model::service::UpstreamTls;
use ironmesh_model::{Reason, group};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use crate::failure::{Failure, Stage};
use crate::given_tls;
use crate::http::upstream::{Http1Upstream, Http2Upstream, Upstream};
use crate::http::window::Window;
use crate::park;
use crate::pool::{Counted, DialGuard, Kept, Key, Pool, Room, Target, Waits};
use crate::proxy_protocol;
use crate::stream::Stream;
use crate::tls::{self, Inside};
use crate::worker::Worker;

/// A connection to an endpoint that speaks HTTP.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    to: Target<'_>,
    kept: Kept,
) -> Result<Upstream, Failure> {
    if to.http2 {
        let newer_than = if kept == Kept::None { worker.pool.last_number() } else { 0 };
        return http2(worker, to, newer_than).await.map(Upstream::Http2);
    }
    if let Some(idle) = worker.pool.take_http1(to, kept, &worker.buffers) {
        return Ok(Upstream::Http1(idle));
    }
    // Boxed: rare, and otherwise it would make every request's future larger.
    Box::pin(http1(worker, to, kept)).await.map(Upstream::Http1)
}

/// Gives a connection that can carry another request back to the pool.
pub(crate) fn give_back(worker: &Worker, upstream: Upstream) {
    if let Upstream::Http1(mut connection) = upstream
        && connection.input.is_empty()
    {
        connection.input.rest(&worker.buffers);
        Pool::give_http1(connection, worker.process.limits.idle_connections_per_endpoint_max);
    }
}

/// A connection that speaks HTTP/1, most likely a new one. Where the limits of the endpoint or of its
/// group allow no more, the request waits for one of this worker's to be free or gone.
async fn http1(
    worker: &Rc<Worker>,
    to: Target<'_>,
    kept: Kept,
) -> Result<Box<Http1Upstream>, Failure> {
    let found = match find_http1(worker, to, kept) {
        Some(found) => found,
        None => {
            let waiting = Waiting::begin(worker, to)?;
            loop {
                let freed = waiting.waits.freed();
                if let Some(found) = find_http1(worker, to, kept) {
                    break found;
                }
                freed.await;
            }
        }
    };
    let room = match found {
        Http1::Idle(connection) => return Ok(connection),
        Http1::Room(room) => room,
    };
    let stream = stream(worker, to, Inside::Http1).await?;
    Ok(Box::new(Http1Upstream::new(stream, room, expires(worker, to))))
}

/// When a connection that is made now will have become too old, if ever.
fn expires(worker: &Worker, to: Target<'_>) -> Option<Instant> {
    let own = to.pool().and_then(|pool| Instant::now().checked_add(pool.connection_age_max?));
    own.into_iter().chain(worker.expires()).min()
}

/// What a request by HTTP/1 may have.
enum Http1 {
    /// A connection that nobody uses.
    Idle(Box<Http1Upstream>),
    /// Another connection.
    Room(Room),
}

fn find_http1(worker: &Worker, to: Target<'_>, kept: Kept) -> Option<Http1> {
    let connections_max = worker.process.limits.endpoint_connections_max;
    let room = || worker.pool.room_http1(to, connections_max).map(Http1::Room);
    if kept != Kept::None {
        return worker.pool.take_http1(to, kept, &worker.buffers).map(Http1::Idle).or_else(room);
    }
    room().or_else(|| {
        // It may have none of those that are kept, and they are most likely dead.
        worker.pool.close_idle(to);
        room()
    })
}

/// A request that waits for a connection, counted by the worker, and where there are limits by the
/// group.
struct Waiting {
    waits: Waits,
    _by_group: Option<group::Waiting>,
}

impl Waiting {
    fn begin(worker: &Worker, to: Target<'_>) -> Result<Self, Failure> {
        let by_group = to.limited.map(|group| group.wait().map_err(Failure::mesh)).transpose()?;
        let waits = worker.pool.wait(to, worker.process.limits.endpoint_pending_max)?;
        Ok(Self { waits, _by_group: by_group })
    }
}

/// A place on a shared connection made after `newer_than`. Where the limits of the endpoint or of its
/// group allow no more connections, the request waits for room on one of this worker's.
async fn http2(
    worker: &Rc<Worker>,
    to: Target<'_>,
    newer_than: u64,
) -> Result<Http2Upstream, Failure> {
    if let Some(found) = find_http2(worker, to, newer_than).await? {
        return Ok(found);
    }
    // Boxed: as above.
    Box::pin(async move {
        let waiting = Waiting::begin(worker, to)?;
        loop {
            let freed = waiting.waits.freed();
            if let Some(found) = find_http2(worker, to, newer_than).await? {
                return Ok(found);
            }
            freed.await;
        }
    })
    .await
}

/// See [`http2`]; `None`: there is no room. One request dials at a time; the others wait for it.
async fn find_http2(
    worker: &Rc<Worker>,
    to: Target<'_>,
    newer_than: u64,
) -> Result<Option<Http2Upstream>, Failure> {
    let connections_max = worker.process.limits.endpoint_connections_max;
    loop {
        if let Some((number, mut connection, place)) = worker.pool.http2(to, newer_than) {
            if poll_fn(|cx| connection.poll_ready(cx)).await.is_ok() {
                let tls = to.tls.is_encrypted();
                return Ok(Some(Http2Upstream { connection, tls, reused: true, _place: place }));
            }
            worker.pool.forget_http2(to, number);
            continue;
        }
        if worker.pool.takes_none(to) {
            return Err(Failure::mesh(Reason::Overloaded));
        }
        if worker.pool.is_full(to, connections_max) {
            return Ok(None);
        }
        let dialling = match worker.pool.dial_http2(to) {
            Ok(dialling) => dialling,
            Err(other) => {
                other.wait().await?;
                continue;
            }
        };
        let counted = match to.limited.map(|group| worker.pool.count(to, group, true)) {
            Some(None) => return Ok(None),
            counted => counted.flatten(),
        };
        // Boxed: as above.
        return Box::pin(dialled(worker, to, dialling, counted)).await.map(Some);
    }
}

/// Makes a shared connection, on which others have room, too.
async fn dialled(
    worker: &Rc<Worker>,
    to: Target<'_>,
    dialling: DialGuard<'_>,
    counted: Option<Counted>,
) -> Result<Http2Upstream, Failure> {
    let window = Window::first(&worker.process).ok_or(Failure::mesh(Reason::Overloaded))?;
    match handshake(worker, to, dialling.streams_max()).await {
        Err(failure) => {
            dialling.failed(failure);
            Err(failure)
        }
        Ok((connection, driver)) => {
            let tls = to.tls.is_encrypted();
            let key = dialling.key().clone();
            let (number, place, open) = dialling.made(connection.clone(), expires(worker, to));
            let of_connection = (open, window, counted);
            spawn_local(drive(worker.clone(), key, number, driver, of_connection));
            Ok(Http2Upstream { connection, tls, reused: false, _place: place })
        }
    }
}

type Driver = h2::client::Connection<Stream>;

async fn handshake(
    worker: &Rc<Worker>,
    to: Target<'_>,
    streams_max: Option<usize>,
) -> Result<(SendRequest<Bytes>, Driver), Failure> {
    let stream = stream(worker, to, Inside::Http2).await?;
    let failed = |_| Failure::upstream(Reason::ConnectFailed, Stage::NotSent);
    let mut builder = builder(&worker.process.limits);
    streams_max.map(|streams| builder.initial_max_send_streams(streams));
    let (connection, driver) = builder.handshake(stream).await.map_err(failed)?;
    Ok((connection.ready().await.map_err(failed)?, driver))
}

/// Moves the frames of a connection until it ends, or its peer is gone.
async fn drive(
    worker: Rc<Worker>,
    to: Arc<Key>,
    number: u64,
    mut driver: Driver,
    (open, mut window, counted): (Rc<Cell<usize>>, Window, Option<Counted>),
) {
    let to = to.target();
    let pings = driver.ping_pong();
    let streams_max = Cell::new(usize::MAX);
    let frames = poll_fn(|cx| {
        if let Some(bytes) = window.grow(open.get()) {
            driver.set_target_window_size(bytes);
        }
        let polled = Pin::new(&mut driver).poll(cx);
        let now = driver.max_concurrent_send_streams();
        if streams_max.replace(now) < now {
            worker.pool.wake_http2(to);
        }
        polled
    });
    tokio::select! {
        ended = frames => if let Err(error) = ended {
            tracing::debug!(%error, address = %to.address, "HTTP/2 connection ended");
        },
        // Dropping the connection fails the requests on it.
        () = gone(pings, to, &open, &streams_max, worker.process.limits.keepalive) => {
            tracing::debug!(address = %to.address, "HTTP/2 connection given up");
        }
    }
    drop(counted);
    worker.pool.forget_http2(to, number);
}

/// Waits until a peer does not answer any more, or keeps to taking no requests while some wait for it.
/// One for which none wait is asked only where its policy says so.
async fn gone(
    pings: Option<PingPong>,
    to: Target<'_>,
    open: &Cell<usize>,
    streams_max: &Cell<usize>,
    silence: Duration,
) {
    let Some(mut pings) = pings else { return pending().await };
    let begun = Instant::now();
    loop {
        let given = to.pool().and_then(|pool| pool.http2_keepalive);
        let keepalive = given.unwrap_or(Http2Keepalive { interval: silence, timeout: silence });
        sleep(keepalive.interval.max(PING_INTERVAL_MIN)).await;
        if open.get() == 0 && given.is_none() {
            continue;
        }
        match timeout(keepalive.timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) if open.get() > 0 && streams_max.get() == 0 && begun.elapsed() >= silence => {
                return;
            }
            Ok(Ok(_)) => {}
            // The connection has ended, which the driver tells.
            Ok(Err(_)) => pending().await,
            Err(_) => return,
        }
    }
}

/// A new connection, with the handshake that the destination expects.
pub(crate) async fn stream(
    worker: &Worker,
    to: Target<'_>,
    inside: Inside,
) -> Result<Stream, Failure> {
    let not_sent = |reason| Failure::upstream(reason, Stage::NotSent);
    let pool = to.pool();
    let own = pool.as_ref().and_then(|pool| pool.connect_timeout);
    let of_mesh = || to.workload.views.load().settings().connect_timeout;
    let connect_timeout = own.unwrap_or_else(of_mesh);
    let keepalive = pool.as_ref().and_then(|pool| pool.keepalive.as_ref());
    let connector = &worker.process.connector;
    let dialled = connector.connect(to.listener, *to.address, connect_timeout, keepalive).await;
    let tcp = dialled.map_err(|error| {
        tracing::debug!(%error, address = %to.address, "connection failed");
        not_sent(Reason::ConnectFailed)
    })?;
    let mut stream = Stream::tcp(tcp);
    if let Some(origin) = to.origin {
        Box::pin(proxy_protocol::tell(&mut stream, origin)).await?;
    }
    let (expected, name) = match to.tls {
        UpstreamTls::None | UpstreamTls::Asked(_) => return Ok(stream),
        UpstreamTls::Mesh(expected) => (expected, None),
        UpstreamTls::Named(member) => (&member.identity, Some(&*member.name)),
        UpstreamTls::Given(given) => {
            let stream = stream.reading_ahead(&worker.buffers);
            return Box::pin(given_tls::connect(worker, given, stream, inside, connect_timeout))
                .await;
        }
    };
    let credentials =
        park::until_found(worker, to.workload, |_| to.workload.credentials.load_full().ok_or(None))
            .await?;
    let stream = stream.reading_ahead(&worker.buffers);
    let handshake = tls::connect(&credentials, stream, inside, expected, name, *to.address);
    let connected: io::Result<Stream> = timeout(connect_timeout, handshake)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error| {
        tracing::debug!(%error, address = %to.address, "TLS handshake failed");
        let untrusted = tls::is_untrusted(&error);
        not_sent(if untrusted { Reason::PeerUntrusted } else { Reason::ConnectFailed })
    })
}

fn builder(limits: &ProxyLimits) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(window(limits.h2_stream_window_bytes))
        .max_frame_size(frame_bytes(limits.h2_frame_bytes_max))
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(0)
        .max_concurrent_reset_streams(limits.h2_reset_streams_max)
        .max_send_buffer_size(limits.h2_send_buffer_bytes_max);
    builder
}

/// Pause between pings, however short a policy has it, as Envoy's least.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(1);

/// A window as HTTP/2 can have it (RFC 9113, section 6.9.1).
pub(crate) fn window(bytes: u32) -> u32 {
    bytes.min(i32::MAX as u32)
}

/// A largest frame as HTTP/2 can have it (RFC 9113, section 6.5.2).
pub(crate) fn frame_bytes(max: u32) -> u32 {
    max.clamp(1 << 14, (1 << 24) - 1)
}
