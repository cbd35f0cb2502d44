//! A client's connection that speaks HTTP/1: one request after the other.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use ironmesh_model::Reason;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use crate::buffer::Buffer;
use crate::connection::Connection;
use crate::http::body::Source;
use crate::http::exchange::Exchange;
use crate::http::local::LocalAnswer;
use crate::http::responder::{Responder, Responder1};
use crate::http::upstream::{Http1Upstream, Upstream};
use crate::http::{ClientSide, RequestBody, Served, convert, serve};
use crate::http1::{HeadError, Limits, RequestParser, RequestTraits, TargetForm};
use crate::l4;
use crate::message::{ResponseHead, Version};
use crate::stream::{Io, Stream};
use crate::worker::{Scratch, Worker};

/// Serves a connection until either side ends it. `first` was read from it already.
///
/// What it is given is turned into what it keeps before its future is made, which would hold both.
pub(crate) fn serve_connection(
    worker: &Rc<Worker>,
    connection: &Connection,
    stream: Stream,
    first: BytesMut,
) -> impl Future<Output = ()> {
    let (io, mut input) = (Io::new(stream), Buffer::with(first));
    let mut parser = RequestParser::new(Limits::from(&worker.process.limits));
    async move {
        let idle_timeout = worker.process.limits.downstream_idle_timeout;
        let since = Instant::now();
        let expires = connection.expires;
        let sleep = pin!(sleep_until(first_of(since + idle_timeout, expires)));
        let ends = pin!(worker.ends(connection.inbound()));
        let mut idle = Idle { sleep, since, idle_timeout, expires, ends };
        loop {
            let next = match read_head(worker, &io, &mut input, &mut parser, &mut idle).await {
                Ok(Head::None) => return,
                Ok(Head::NoMore) => Next::Close,
                Ok(Head::Request(scratch, traits)) => {
                    request(worker, connection, &io, &mut input, scratch, &traits).await
                }
                Err(refusal) => {
                    refuse(worker, connection, &io, refusal).await;
                    Next::Close
                }
            };
            match next {
                Next::Request => input.rest(&worker.buffers),
                Next::Close => return linger(worker, &io, &mut input).await,
                Next::Break => return,
                Next::Reset => return l4::reset_on_close(&io),
            }
        }
    }
}

/// What happens to the connection after a request.
enum Next {
    Request,
    Close,
    Break,
    /// Break off so that the client does not take it for the answer's end.
    Reset,
}

/// Why a head is refused.
enum Refusal {
    Head(HeadError),
    TooSlow,
}

/// What came of waiting for a head.
enum Head {
    /// A request.
    Request(Box<Scratch>, RequestTraits),
    /// The client has ended the connection.
    None,
    /// The connection is to be ended: the client does not use it, or the proxy is going away.
    NoMore,
}

/// Waits for the next request's head.
async fn read_head(
    worker: &Worker,
    io: &Io,
    input: &mut Buffer,
    parser: &mut RequestParser,
    idle: &mut Idle<'_, impl Future<Output = ()>>,
) -> Result<Head, Refusal> {
    idle.since = Instant::now();
    // Taken with the first byte: an idle connection holds none.
    let mut scratch = None;
    // From the first byte, however many reads the head takes.
    let mut latest = None;
    loop {
        if !input.is_empty() {
            let mut lent = scratch.take().unwrap_or_else(|| worker.take_scratch());
            let parsed = parser.parse(input.unread(), &mut lent.request);
            if let Some(traits) = parsed.map_err(Refusal::Head)? {
                input.consume(traits.head_bytes);
                return Ok(Head::Request(lent, traits));
            }
            scratch = Some(lent);
        }
        let filled = if input.is_empty() {
            tokio::select! {
                biased;
                filled = io.fill(input, &worker.buffers) => filled,
                () = idle.ended() => return Ok(Head::NoMore),
            }
        } else {
            // A head in several pieces is rare, and so is this timer.
            let head_timeout = worker.process.limits.head_timeout;
            let latest = *latest.get_or_insert_with(|| Instant::now() + head_timeout);
            let rest = io.fill(input, &worker.buffers);
            timeout_at(latest, rest).await.map_err(|_| Refusal::TooSlow)?
        };
        if matches!(filled, Ok(0) | Err(_)) {
            return Ok(Head::None);
        }
    }
}

async fn request(
    worker: &Rc<Worker>,
    connection: &Connection,
    io: &Io,
    input: &mut Buffer,
    mut scratch: Box<Scratch>,
    traits: &RequestTraits,
) -> Next {
    let Scratch { request, response, out, upstream_out, watch } = &mut *scratch;
    let of_connection = convert::take_request_traits(traits, &mut request.fields);
    let limits = Limits::from(&worker.process.limits);
    let is_connect = traits.target_form == TargetForm::Authority;
    let refused = is_connect.then_some(Reason::UnsupportedForm);
    let mut source = Source::http1(io, input, &worker.buffers, traits.framing, limits);
    let mut responder = Responder::Http1(Responder1 {
        io,
        out,
        client: request.version,
        asked_head: request.method() == "HEAD",
        keep_alive: traits.keep_alive,
        until_close: false,
        connection,
    });
    let mut exchange = Exchange::begin(worker, connection, request, watch, refused);
    let body = RequestBody {
        source: &mut source,
        framing: traits.framing,
        upgrade: of_connection.upgrade.as_deref(),
        out: upstream_out,
    };
    let mut client = ClientSide { body, response: &mut *response, responder: &mut responder };
    let served = serve(&mut exchange, &mut client).await;
    let kept = matches!(&responder, Responder::Http1(to) if to.keep_alive) && source.is_ended();
    let ends_it = matches!(&responder, Responder::Http1(to) if to.until_close);
    let next = match served {
        Served::Answered if kept => Next::Request,
        Served::Answered => Next::Close,
        Served::Broken if ends_it => Next::Reset,
        Served::Broken => Next::Break,
        Served::Switched(upstream) => {
            if let Upstream::Http1(upstream) = upstream {
                // Boxed: rare, and otherwise it would make every request's future larger.
                Box::pin(tunnel(&mut exchange, response, io, input, upstream)).await;
            }
            Next::Break
        }
    };
    worker.give_scratch(scratch);
    next
}

/// Relays what is spoken after a switch of protocols, and notes it with the request.
async fn tunnel(
    exchange: &mut Exchange<'_>,
    response: &ResponseHead,
    io: &Io,
    input: &mut Buffer,
    mut upstream: Box<Http1Upstream>,
) {
    let (worker, upstream) = (exchange.worker, &mut *upstream);
    // What was read behind the heads belongs to the tunnel.
    let ahead = (input.unread().len() as u64, upstream.input.unread().len() as u64);
    let before = (io.received(), upstream.io.received());
    let idle_timeout = worker.process.limits.opaque_idle_timeout;
    let server = (&upstream.io, &mut upstream.input);
    tokio::select! {
        _ = l4::relay((io, input), server, &worker.buffers, idle_timeout) => {}
        () = exchange.connection.expired() => {
            // An end would say that all bytes have come.
            l4::reset_on_close(io);
            l4::reset_on_close(&upstream.io);
        }
    }
    exchange.outcome.request_bytes += ahead.0 + io.received() - before.0;
    exchange.outcome.response_bytes += ahead.1 + upstream.io.received() - before.1;
    exchange.observe(response);
}

async fn refuse(worker: &Rc<Worker>, connection: &Connection, io: &Io, refusal: Refusal) {
    let (reason, status) = match refusal {
        Refusal::Head(error) => {
            tracing::debug!(%error, peer = %connection.peer, "request refused");
            match error.status() {
                431 | 414 => (Reason::HeadTooLarge, error.status()),
                status => (Reason::BadRequest, status),
            }
        }
        Refusal::TooSlow => (Reason::RequestTimeout, 408),
    };
    let mut scratch = worker.take_scratch();
    let Scratch { request, response, out, watch, .. } = &mut *scratch;
    request.clear();
    let mut exchange = Exchange::begin(worker, connection, request, watch, None);
    exchange.outcome.reason = reason;
    exchange.outcome.status = status;
    let answer = LocalAnswer { status, ..LocalAnswer::of(reason) };
    answer.head(response, false);
    response.fields.push(b"date", &worker.date());
    let client = Version::Http11;
    let to = Responder1 {
        io,
        out,
        client,
        asked_head: false,
        keep_alive: false,
        until_close: false,
        connection,
    };
    let mut responder = Responder::Http1(to);
    let longest = worker.process.limits.stream_idle_timeout;
    let sent = timeout(longest, answer.send(response, false, &mut responder));
    if let Ok(Ok(bytes)) = sent.await {
        exchange.outcome.response_bytes = bytes;
    }
    exchange.observe(response);
    worker.give_scratch(scratch);
}

/// Ends a connection so that the client gets the whole answer: what it still sends is read for a
/// while, since a reset would destroy what it has not read.
async fn linger(worker: &Worker, io: &Io, input: &mut Buffer) {
    let limits = &worker.process.limits;
    let drain = async {
        if io.shutdown().await.is_err() {
            return;
        }
        let mut left = limits.linger_bytes_max;
        while left > 0 {
            input.consume(input.unread().len());
            match io.fill(input, &worker.buffers).await {
                Ok(0) | Err(_) => return,
                Ok(count) => left = left.saturating_sub(count),
            }
        }
    };
    // Either way the connection ends now.
    let _ = timeout(limits.linger_timeout, drain).await;
    input.consume(input.unread().len());
    input.rest(&worker.buffers);
}

/// What ends an idle connection.
///
/// The timer is armed once and looked at again only when it fires, so that a busy connection does
/// not pay for it.
struct Idle<'a, E> {
    sleep: Pin<&'a mut Sleep>,
    since: Instant,
    idle_timeout: Duration,
    expires: Option<Instant>,
    /// Ends when the connection is to, whether or not it is idle for long.
    ends: Pin<&'a mut E>,
}

impl<E: Future<Output = ()>> Idle<'_, E> {
    /// Waits until nothing has happened for the idle timeout, or the connection is to end. Cancel
    /// safe.
    async fn ended(&mut self) {
        loop {
            tokio::select! {
                biased;
                () = self.ends.as_mut() => return,
                () = self.sleep.as_mut() => {}
            }
            let end = first_of(self.since + self.idle_timeout, self.expires);
            if Instant::now() >= end {
                return;
            }
            self.sleep.as_mut().reset(end);
        }
    }
}

fn first_of(at: Instant, or_at: Option<Instant>) -> Instant {
    or_at.map_or(at, |other| at.min(other))
}
