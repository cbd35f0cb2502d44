//! A client's connection that speaks HTTP/2: many requests at once, each a task of its own.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason as H2Reason, RecvStream};
use http::Request;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use ironmesh_model::limits::ProxyLimits;

use crate::connection::Connection;
use crate::http::body::Source;
use crate::http::dial::{frame_bytes, window};
use crate::http::exchange::Exchange;
use crate::http::responder::Responder;
use crate::http::{RequestBody, Served, convert, serve};
use crate::stream::Stream;
use crate::worker::{Scratch, Worker};

/// Serves a connection until either side ends it.
pub(crate) async fn serve_connection(
    worker: &Rc<Worker>,
    connection: &Rc<Connection>,
    stream: Stream,
) {
    let limits = &worker.process.limits;
    let handshake = timeout(limits.head_timeout, builder(limits).handshake(stream));
    let Ok(Ok(mut h2)) = handshake.await else { return };
    let open = Rc::new(Cell::new(0_u32));
    let drained = worker.process.drained();
    tokio::pin!(drained);
    let mut leaving = false;
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = h2.accept() => accepted,
            () = &mut drained, if !leaving => {
                leaving = true;
                h2.graceful_shutdown();
                continue;
            }
            () = sleep(limits.downstream_idle_timeout), if open.get() == 0 && !leaving => {
                leaving = true;
                h2.graceful_shutdown();
                continue;
            }
        };
        match accepted {
            Some(Ok((request, respond))) => {
                let (worker, connection) = (worker.clone(), connection.clone());
                let stream = Open::new(&open);
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

/// Counts a stream as open.
struct Open(Rc<Cell<u32>>);

impl Open {
    fn new(open: &Rc<Cell<u32>>) -> Self {
        open.set(open.get() + 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

async fn serve_stream(
    worker: &Rc<Worker>,
    connection: &Connection,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    let mut scratch = worker.take_scratch();
    let Scratch { request, response, upstream_out, .. } = &mut *scratch;
    let form_served = convert::request_from_http2(&parts, request).is_some();
    let framing = convert::framing_of_http2(&parts.headers, body.is_end_stream());
    let mut source = Source::http2(body);
    let mut responder = Responder::Http2(respond);
    let mut exchange = Exchange::begin(worker, connection, request, form_served);
    let body = RequestBody { source: &mut source, framing, upgrade: None, out: upstream_out };
    let served = serve(&mut exchange, body, response, &mut responder).await;
    if let (Served::Broken, Responder::Http2(mut respond)) = (served, responder) {
        respond.send_reset(H2Reason::INTERNAL_ERROR);
    }
    worker.give_scratch(scratch);
}

fn builder(limits: &ProxyLimits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(window(limits.h2_stream_window_bytes))
        .initial_connection_window_size(window(limits.h2_connection_window_bytes))
        .max_frame_size(frame_bytes(limits.h2_frame_bytes_max))
        .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.h2_streams_max)
        .max_concurrent_reset_streams(limits.h2_reset_streams_max)
        .max_pending_accept_reset_streams(limits.h2_reset_streams_max)
        .max_send_buffer_size(limits.h2_send_buffer_bytes_max);
    builder
}
