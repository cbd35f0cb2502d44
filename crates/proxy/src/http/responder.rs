//! The way back to the client, by either codec.

use bytes::Bytes;
use h2::server::SendResponse;

use crate::connection::Connection;
use crate::http::body::{BodyFailure, Sink};
use crate::http::convert;
use crate::http1::{self, Framing};
use crate::message::{ResponseHead, Version};
use crate::stream::Io;

/// Answers one request.
#[derive(Debug)]
pub(crate) enum Responder<'a> {
    /// To a client that speaks HTTP/1.
    Http1(Responder1<'a>),
    /// To a client that speaks HTTP/2.
    Http2(Responder2),
}

/// See [`Responder::Http2`].
#[derive(Debug)]
pub(crate) struct Responder2 {
    pub(crate) respond: SendResponse<Bytes>,
    /// Whether the request was HEAD.
    pub(crate) asked_head: bool,
}

/// See [`Responder::Http1`].
#[derive(Debug)]
pub(crate) struct Responder1<'a> {
    pub(crate) io: &'a Io,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) client: Version,
    /// Whether the request was HEAD, whose answer may keep silent about its length.
    pub(crate) asked_head: bool,
    /// Whether the connection is kept after this answer; cleared when it cannot be.
    pub(crate) keep_alive: bool,
    /// Whether the end of the connection ends the answer.
    pub(crate) until_close: bool,
    pub(crate) connection: &'a Connection,
}

impl Responder<'_> {
    /// Passes on a 1xx. A client of HTTP/1.0 gets none (RFC 9110, section 15.2).
    pub(crate) async fn informational(&mut self, head: &ResponseHead) -> Result<(), BodyFailure> {
        match self {
            Self::Http1(to) if to.client == Version::Http11 => {
                http1::write_response(head, to.out);
                to.io.write_both(to.out, &[]).await?;
                to.out.clear();
                Ok(())
            }
            Self::Http1(_) => Ok(()),
            Self::Http2(to) => {
                if let Some(response) = convert::response_to_http2(head) {
                    to.respond.send_informational(response)?;
                }
                Ok(())
            }
        }
    }

    /// Begins the answer, whose body is framed so as it comes. The head is written together with
    /// the body's first bytes.
    pub(crate) fn begin(
        &mut self,
        head: &mut ResponseHead,
        framing: Framing,
        upgrade: Option<&str>,
    ) -> Result<Sink<'_>, BodyFailure> {
        match self {
            Self::Http1(to) => {
                let connection = to.connection;
                let is_sent_away = connection.workload.sends_away(connection.kind);
                to.keep_alive &= !is_sent_away && !connection.is_expired();
                let framing = match (framing, to.client) {
                    (Framing::Chunked | Framing::UntilClose, Version::Http11 | Version::Http2) => {
                        Framing::Chunked
                    }
                    (Framing::Chunked | Framing::UntilClose, Version::Http10) => {
                        to.keep_alive = false;
                        to.until_close = true;
                        Framing::UntilClose
                    }
                    (other, _) => other,
                };
                // A proxy tells that there is no body, so that the client need not guess.
                let none_said = framing == Framing::None
                    && !to.asked_head
                    && !matches!(head.status, 100..=199 | 204 | 304)
                    && !head.fields.contains("content-length");
                if none_said {
                    head.fields.push(b"content-length", b"0");
                }
                convert::state_for_http1(&mut head.fields, framing, upgrade);
                match (to.client, to.keep_alive) {
                    _ if upgrade.is_some() => {}
                    (Version::Http10, true) => head.fields.push(b"connection", b"keep-alive"),
                    (Version::Http11, false) => head.fields.push(b"connection", b"close"),
                    _ => {}
                }
                head.version = Version::Http11;
                http1::write_response(head, to.out);
                Ok(match framing {
                    Framing::None => Sink::http1(to.io, to.out, Framing::Length(0)),
                    _ => Sink::http1(to.io, to.out, framing),
                })
            }
            Self::Http2(to) => {
                let ended = framing.is_empty();
                let response = convert::response_to_http2(head).ok_or(BodyFailure::Malformed)?;
                Ok(Sink::http2(to.respond.send_response(response, ended)?, ended))
            }
        }
    }

    /// Whether the request was HEAD, so that the answer has no body.
    pub(crate) fn asked_head(&self) -> bool {
        match self {
            Self::Http1(to) => to.asked_head,
            Self::Http2(to) => to.asked_head,
        }
    }

    /// Sees to it that an HTTP/1 connection ends after this answer.
    pub(crate) fn close_after(&mut self) {
        if let Self::Http1(to) = self {
            to.keep_alive = false;
        }
    }

    /// Waits until the client has given up this request; for HTTP/1 never, as only reading tells.
    pub(crate) async fn reset(&mut self) {
        match self {
            Self::Http1(_) => std::future::pending().await,
            Self::Http2(to) => {
                // Either way the stream is of no more use.
                let _ = std::future::poll_fn(|cx| to.respond.poll_reset(cx)).await;
            }
        }
    }
}
