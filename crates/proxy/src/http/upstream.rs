//! A connection to an endpoint, over which one request goes and its answer comes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use ironmesh_model::Reason;
use tokio::time::Instant;

use crate::buffer::{Buffer, Buffers};
use crate::failure::{Failure, Stage};
use crate::http::body::{Sink, Source};
use crate::http::convert;
use crate::http1::{self, Asked, Framing, HeadError, Limits, ResponseParser};
use crate::message::{RequestHead, ResponseHead};
use crate::pool::{Place, Room};
use crate::stream::{Io, Stream};

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// By HTTP/1, for this request alone.
    Http1(Box<Http1Upstream>),
    /// By HTTP/2, shared.
    Http2(Http2Upstream),
}

/// A place on a shared HTTP/2 connection.
#[derive(Debug)]
pub(crate) struct Http2Upstream {
    pub(crate) connection: SendRequest<Bytes>,
    /// Whether it goes by mutual TLS.
    pub(crate) tls: bool,
    /// Whether it carried requests before this one.
    pub(crate) reused: bool,
    /// Counts this exchange as open.
    pub(crate) _place: Place,
}

/// An HTTP/1 connection.
#[derive(Debug)]
pub(crate) struct Http1Upstream {
    pub(crate) io: Io,
    /// What it has in the pool.
    pub(crate) room: Room,
    /// Its own address, asked once: it is a system call.
    pub(crate) local: Option<SocketAddr>,
    /// Since when it had been kept before this request; `None`: it is new.
    pub(crate) kept_since: Option<Instant>,
    pub(crate) input: Buffer,
    /// When it has become too old to be kept.
    pub(crate) expires: Option<Instant>,
    /// Requests that it carried to their end.
    pub(crate) carried: u32,
}

impl Http1Upstream {
    pub(crate) fn new(stream: Stream, room: Room, expires: Option<Instant>) -> Self {
        let local = stream.local_addr();
        let (io, input) = (Io::new(stream), Buffer::default());
        Self { io, room, local, kept_since: None, input, expires, carried: 0 }
    }

    /// How long it has been kept without a request.
    pub(crate) fn idle(&self) -> Duration {
        self.kept_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether it can carry another request: the endpoint has neither closed it nor said anything
    /// unasked.
    pub(crate) fn is_open(&mut self, spare: &Buffers) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.input.is_empty()
            && matches!(self.io.poll_fill(&mut context, &mut self.input, spare), Poll::Pending)
    }
}

/// The two directions of one exchange.
pub(crate) struct Directions<'a> {
    pub(crate) request: Sink<'a>,
    pub(crate) answer: Answer<'a>,
}

/// The answer that is to come.
pub(crate) enum Answer<'a> {
    Http1 {
        io: &'a Io,
        input: &'a mut Buffer,
        spare: &'a Buffers,
        parser: ResponseParser,
        limits: Limits,
        asked: Asked,
    },
    Http2 {
        response: ResponseFuture,
        header_count_max: usize,
    },
}

/// What the head of an answer says about what follows it.
#[derive(Debug)]
pub(crate) struct Following {
    /// How long the body is.
    pub(crate) framing: Framing,
    /// Whether an HTTP/1 connection can carry another request after it.
    pub(crate) reusable: bool,
    /// The protocol to which the endpoint switched.
    pub(crate) upgrade: Option<String>,
    body: Option<RecvStream>,
}

impl Default for Following {
    fn default() -> Self {
        Self { framing: Framing::None, reusable: false, upgrade: None, body: None }
    }
}

impl Upstream {
    /// Begins an exchange. The head goes out with the first bytes of the body.
    pub(crate) fn begin<'a>(
        &'a mut self,
        head: &RequestHead,
        framing: Framing,
        limits: Limits,
        spare: &'a Buffers,
        out: &'a mut Vec<u8>,
    ) -> Result<Directions<'a>, Failure> {
        match self {
            Self::Http1(connection) => {
                let Http1Upstream { io, input, .. } = &mut **connection;
                out.clear();
                http1::write_request(head, out);
                let asked = Asked::by(head.method());
                let parser = ResponseParser::new(limits);
                let request = Sink::http1(io, out, framing);
                let answer = Answer::Http1 { io, input, spare, parser, limits, asked };
                Ok(Directions { request, answer })
            }
            Self::Http2(Http2Upstream { connection, tls, .. }) => {
                let ended = framing.is_empty();
                let request = convert::request_to_http2(head, *tls)
                    .ok_or(Failure::downstream(Reason::BadRequest))?;
                let (answer, body) = connection
                    .send_request(request, ended)
                    .map_err(|_| Failure::upstream(Reason::UpstreamReset, Stage::NotSent))?;
                let Limits { header_count_max, .. } = limits;
                let answer = Answer::Http2 { response: answer, header_count_max };
                Ok(Directions { request: Sink::http2(body, ended), answer })
            }
        }
    }

    /// Whether the connection was made for this exchange.
    pub(crate) fn is_new(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.kept_since.is_none(),
            Self::Http2(connection) => !connection.reused,
        }
    }

    /// How an exchange on it failed. One that carried requests before may have been closed without a
    /// look at this one, from which the pool learns.
    pub(crate) fn failed(&self, failure: Failure) -> Failure {
        match self {
            Self::Http1(connection) => match connection.kept_since {
                Some(since) => {
                    if failure.stage == Stage::Unseen {
                        connection.room.was_closed(since);
                    }
                    failure
                }
                None => failure.seen(),
            },
            Self::Http2(connection) if connection.reused => failure,
            Self::Http2(_) => failure.seen(),
        }
    }
}

impl<'a> Answer<'a> {
    /// Waits for the next head. An informational one is followed by another.
    pub(crate) async fn head(&mut self, to: &mut ResponseHead) -> Result<Following, Failure> {
        match self {
            Self::Http1 { io, input, spare, parser, asked, .. } => loop {
                let parsed = parser.parse(input.unread(), *asked, to).map_err(refused)?;
                if let Some(traits) = parsed {
                    input.consume(traits.head_bytes);
                    let of_connection = convert::take_response_traits(&traits, &mut to.fields);
                    return Ok(Following {
                        framing: traits.framing,
                        reusable: traits.keep_alive,
                        upgrade: of_connection.upgrade,
                        body: None,
                    });
                }
                match io.fill(input, spare).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => {
                        let stage = if input.is_empty() { Stage::Unseen } else { Stage::Sent };
                        return Err(Failure::upstream(Reason::UpstreamReset, stage));
                    }
                }
            },
            Self::Http2 { response, header_count_max } => {
                let (parts, body) = match poll_fn(|cx| poll_http2(response, cx)).await? {
                    Either::Informational(response) => (response.into_parts().0, None),
                    Either::Final(response) => {
                        let (parts, body) = response.into_parts();
                        (parts, Some(body))
                    }
                };
                let ended = body.as_ref().is_none_or(RecvStream::is_end_stream);
                let framing = convert::response_from_http2(&parts, ended, *header_count_max, to)
                    .ok_or(Failure::upstream(Reason::UpstreamProtocol, Stage::Sent))?;
                Ok(Following { framing, body, ..Following::default() })
            }
        }
    }

    /// The body that follows the final head.
    pub(crate) fn body(self, following: &mut Following) -> Source<'a> {
        match (self, following.body.take()) {
            (Self::Http1 { io, input, spare, limits, .. }, _) => {
                Source::http1(io, input, spare, following.framing, limits)
            }
            (Self::Http2 { header_count_max, .. }, Some(body)) => {
                Source::http2(body, header_count_max)
            }
            (Self::Http2 { .. }, None) => Source::empty(),
        }
    }
}

enum Either {
    Informational(http::Response<()>),
    Final(http::Response<RecvStream>),
}

fn poll_http2(answer: &mut ResponseFuture, cx: &mut Context<'_>) -> Poll<Result<Either, Failure>> {
    if let Poll::Ready(Some(Ok(response))) = answer.poll_informational(cx) {
        return Poll::Ready(Ok(Either::Informational(response)));
    }
    Pin::new(answer).poll(cx).map_ok(Either::Final).map_err(|error| {
        // RFC 9113, section 8.7: a refused stream was not processed.
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away();
        // A reset is of this one request: the endpoint has seen it.
        let seen = if error.is_io() { Stage::Unseen } else { Stage::Sent };
        let stage = if refused && error.is_remote() { Stage::NotSent } else { seen };
        let reason =
            if error.is_library() { Reason::UpstreamProtocol } else { Reason::UpstreamReset };
        Failure::upstream(reason, stage)
    })
}

fn refused(_: HeadError) -> Failure {
    Failure::upstream(Reason::UpstreamProtocol, Stage::Sent)
}
