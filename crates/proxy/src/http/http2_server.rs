//! A client's connection that speaks HTTP/2: many requests at once, each a task of its own.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as H2Reason, RecvStream};
use http::{Method, Request};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until, timeout};

use ironmesh_model::Reason;
use ironmesh_model::limits::ProxyLimits;

use crate::connection::Connection;
use crate::failure::Failure;
use crate::http::body::Source;
use crate::http::dial::{frame_bytes, window};
use crate::http::exchange::Exchange;
use crate::http::responder::{Responder, Responder2};
use crate::http::window::Window;
use crate::http::{ClientSide, RequestBody, Served, convert, serve};
use crate::opaque;
use crate::stream::Stream;
use crate::worker::{Scratch, Worker};

/// Serves a connection until either side ends it.
pub(crate) async fn serve_connection(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    stream: Stream,
) {
    let limits = &worker.process.limits;
    let Some(mut window) = Window::first(&worker.process) else {
        return opaque::refused(worker, connection, Failure::mesh(Reason::Overloaded));
    };
    let handshake = timeout(limits.head_timeout, builder(limits).handshake(stream));
    let Ok(Ok(mut h2)) = handshake.await else { return };
    let streams = Rc::new(Streams { open: Cell::new(0), changed: Cell::new(Instant::now()) });
    let mut leaves = pin!(async {
        tokio::select! {
            () = worker.ends(connection.inbound()) => {}
            () = worker.sends_away(connection) => {}
            () = streams.idle(limits.downstream_idle_timeout) => {}
            () = connection.expired() => {}
        }
    });
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = h2.accept() => accepted,
            () = &mut leaves, if !leaving => {
                leaving = true;
                h2.graceful_shutdown();
                continue;
            }
        };
        match accepted {
            Some(Ok((request, respond))) => {
                let (worker, connection) = (worker.clone(), connection.clone());
                let stream = Open::new(&streams);
                if let Some(bytes) = window.grow(streams.open.get() as usize) {
                    h2.set_target_window_size(bytes);
                }
                spawn_local(async move {
                    serve_stream(&worker, &connection, request, respond).await;
                    drop(stream);
                });
            }
            Some(Err(error)) => {
                tracing::debug!(%error, peer = %connection.peer, "HTTP/2 connection failed");
                return;
            }
            None => return,
        }
    }
}

/// The streams of a connection.
struct Streams {
    open: Cell<u32>,
    /// When the last one ended.
    changed: Cell<Instant>,
}

impl Streams {
    /// Waits until none has been open for so long.
    async fn idle(&self, idle_timeout: Duration) {
        loop {
            let now = Instant::now();
            let since = if self.open.get() == 0 { self.changed.get() } else { now };
            if now >= since + idle_timeout {
                return;
            }
            sleep_until(since + idle_timeout).await;
        }
    }
}

/// Counts a stream as open.
struct Open(Rc<Streams>);

impl Open {
    fn new(streams: &Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        Self(streams.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.changed.set(Instant::now());
    }
}

/// Serves one stream, to its end.
pub(crate) async fn serve_stream(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let mut scratch = worker.take_scratch();
    let Scratch { request, response, upstream_out, watch, .. } = &mut *scratch;
    let header_count_max = worker.process.limits.header_count_max;
    let taken = convert::request_from_http2(&parts, header_count_max, request);
    let framing = convert::framing_of_http2(&parts.headers, body.is_end_stream());
    let mut source = Source::http2(body, header_count_max);
    let asked_head = parts.method == Method::HEAD;
    let mut responder = Responder::Http2(Responder2 { respond, asked_head });
    let mut exchange = Exchange::begin(worker, connection, request, watch, taken.err());
    let body = RequestBody { source: &mut source, framing, upgrade: None, out: upstream_out };
    let mut client = ClientSide { body, response, responder: &mut responder };
    let served = serve(&mut exchange, &mut client).await;
    if let (Served::Broken, Responder::Http2(mut to)) = (served, responder) {
        to.respond.send_reset(H2Reason::INTERNAL_ERROR);
    }
    worker.give_scratch(scratch);
}

fn builder(limits: &ProxyLimits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(window(limits.h2_stream_window_bytes))
        .max_frame_size(frame_bytes(limits.h2_frame_bytes_max))
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.h2_streams_max)
        .max_concurrent_reset_streams(limits.h2_reset_streams_max)
        .max_pending_accept_reset_streams(limits.h2_reset_streams_max)
        .max_send_buffer_size(limits.h2_send_buffer_bytes_max);
    builder
}
