//! Connections to endpoints: from the pool, or new ones.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use ironmesh_model::Reason;
use ironmesh_model::limits::ProxyLimits;
use tokio::time::timeout;

use crate::failure::{Failure, Stage};
use crate::http::upstream::{Upstream, Upstream1};
use crate::park;
use crate::pool::Destination;
use crate::stream::{Begun, Stream};
use crate::tls::{self, Inside};
use crate::worker::Worker;

/// A connection to an endpoint that speaks HTTP.
pub(crate) async fn connect(worker: &Rc<Worker>, to: &Destination) -> Result<Upstream, Failure> {
    if to.http2 {
        if let Some(shared) = worker.pool.http2(to) {
            match shared.ready().await {
                Ok(ready) => return Ok(Upstream::Http2(ready, Arc::new(to.clone()))),
                Err(_) => worker.pool.forget_http2(to),
            }
        }
    } else if let Some(idle) = worker.pool.take_http1(to, &worker.buffers) {
        return Ok(Upstream::Http1(idle));
    }
    // Boxed: rare, and otherwise it would make every request's future larger.
    Box::pin(dial(worker, to)).await
}

async fn dial(worker: &Rc<Worker>, to: &Destination) -> Result<Upstream, Failure> {
    let inside = if to.http2 { Inside::Http2 } else { Inside::Http1 };
    let stream = stream(worker, to, inside).await?;
    let to = Arc::new(to.clone());
    if !to.http2 {
        return Ok(Upstream::Http1(Box::new(Upstream1::new(stream, to))));
    }
    let failed = |_| Failure::upstream(Reason::ConnectFailed, Stage::NotSent);
    let handshake = http2(&worker.process.limits).handshake(stream);
    let (send, connection) = handshake.await.map_err(failed)?;
    worker.pool.share_http2(to.clone(), send.clone());
    let (worker, key) = (worker.clone(), to.clone());
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, address = %key.address, "HTTP/2 connection ended");
        }
        worker.pool.forget_http2(&key);
    });
    let ready = send.ready().await.map_err(failed)?;
    Ok(Upstream::Http2(ready, to))
}

/// A new connection, with the handshake that the destination expects.
pub(crate) async fn stream(
    worker: &Worker,
    to: &Destination,
    inside: Inside,
) -> Result<Stream, Failure> {
    let not_sent = |reason| Failure::upstream(reason, Stage::NotSent);
    let connect_timeout = worker.process.views.load().settings().connect_timeout;
    let dialled = worker.process.dialler.connect(to.listener, to.address, connect_timeout).await;
    let tcp = dialled.map_err(|error| {
        tracing::debug!(%error, address = %to.address, "connection failed");
        not_sent(Reason::ConnectFailed)
    })?;
    let Some(expected) = &to.expected else { return Ok(Stream::plain(tcp)) };
    let credentials =
        park::until_found(worker, |_| to.workload.credentials.load_full().ok_or(None)).await?;
    let begun = Begun::reading_ahead(tcp, BytesMut::new(), &worker.buffers);
    let handshake = tls::connect(&credentials, begun, inside, expected, to.address);
    let connected: io::Result<Stream> = timeout(connect_timeout, handshake)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map_err(|error| {
        tracing::debug!(%error, address = %to.address, "TLS handshake failed");
        let untrusted = tls::is_untrusted(&error);
        not_sent(if untrusted { Reason::PeerUntrusted } else { Reason::ConnectFailed })
    })
}

fn http2(limits: &ProxyLimits) -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(0)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX);
    builder
}

/// What one stream may send before we have read it.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// What all streams of a connection may send before we have read it.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
/// Largest frame that we take.
pub(crate) const FRAME_BYTES_MAX: u32 = 64 << 10;
/// Streams remembered after they were reset.
pub(crate) const RESET_STREAMS_MAX: usize = 64;
/// What one stream may hold that the peer does not take.
pub(crate) const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;
