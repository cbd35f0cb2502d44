//! Answers that the mesh gives itself.

use bytes::Bytes;
use ironmesh_model::decide::https_location;
use ironmesh_model::route::AbortStatus;
use ironmesh_model::{Decision, Plan, Reason};

use crate::http::body::BodyFailure;
use crate::http::exchange::Exchange;
use crate::http::responder::Responder;
use crate::http1::Framing;
use crate::message::ResponseHead;

/// Tells a caller's proxy that the request has not reached the application, so that it may go
/// elsewhere. Believed only over mutual TLS.
pub(crate) const NOT_DELIVERED: &str = "x-ironmesh-not-delivered";

/// Tells why the mesh answered itself: [`Reason::code`].
pub(crate) const REASON: &str = "x-ironmesh-reason";

/// An answer that the mesh gives itself.
#[derive(Debug)]
pub(crate) struct LocalAnswer {
    pub(crate) status: u16,
    /// Why, as the client is told.
    pub(crate) reason: Reason,
    pub(crate) body: Bytes,
    /// Where the client is to go, if elsewhere.
    pub(crate) location: Option<String>,
    /// The status that gRPC is told, if it is not the one that stands for `status`.
    pub(crate) grpc_status: Option<u8>,
    /// Whether it tells a caller's proxy that the application has not seen the request.
    pub(crate) not_delivered: bool,
}

impl LocalAnswer {
    /// The mesh's own word for a reason.
    pub(crate) fn of(reason: Reason) -> Self {
        let text = Bytes::from_static(text(reason).as_bytes());
        Self::new(reason.status(), reason, text)
    }

    /// What the winning rule answers by itself; `None`: it does not.
    pub(crate) fn by_rule(exchange: &Exchange<'_>, decision: &Decision) -> Option<Self> {
        let reason = decision.reason;
        let Plan::Answer(status) = decision.plan else { return None };
        Some(match reason {
            Reason::DirectResponse => {
                let body = Bytes::from_owner(decision.direct_response()?.body.clone());
                Self::new(status, reason, body)
            }
            Reason::Redirect => {
                let dialled = exchange.connection.destination.port();
                let location = Some(decision.location(&exchange.request(), dialled)?);
                Self { location, ..Self::new(status, reason, Bytes::new()) }
            }
            Reason::HttpsRedirect => {
                let connection = exchange.connection;
                let (view, port) =
                    (connection.workload.views.load(), connection.destination.port());
                let at = connection.destination.ip();
                let published = |to| connection.workload.published(to, at);
                let location = https_location(&view, &exchange.request(), port, published);
                let location = Some(location);
                Self { location, ..Self::new(status, reason, Bytes::new()) }
            }
            Reason::Preflight => Self::new(status, reason, Bytes::new()),
            Reason::FaultAbort => {
                let grpc_status = match decision.abort()?.with {
                    AbortStatus::Grpc(status) => Some(status),
                    AbortStatus::Http(_) => None,
                };
                let text = Bytes::from_static(text(reason).as_bytes());
                Self { grpc_status, ..Self::new(status, reason, text) }
            }
            _ => return None,
        })
    }

    fn new(status: u16, reason: Reason, body: Bytes) -> Self {
        Self { status, reason, body, location: None, grpc_status: None, not_delivered: false }
    }

    /// Makes its head.
    pub(crate) fn head(&self, to: &mut ResponseHead, grpc: bool) {
        to.clear();
        to.status = if grpc { 200 } else { self.status };
        to.fields.push(REASON.as_bytes(), self.reason.code().as_bytes());
        if self.reason == Reason::UpstreamOverflow {
            // As Envoy tells it, to callers that can do something about it.
            to.fields.push(b"x-envoy-overloaded", b"true");
        }
        if let Some(location) = &self.location {
            to.fields.push(b"location", location.as_bytes());
        }
        if self.not_delivered {
            to.fields.push(NOT_DELIVERED.as_bytes(), b"1");
        }
        if grpc {
            // gRPC over HTTP/2, "Responses": trailers-only.
            to.fields.push(b"content-type", b"application/grpc");
            let status = match self.grpc_status {
                Some(status) => status.to_string(),
                None => grpc_status(self.reason, self.status).to_owned(),
            };
            to.fields.push(b"grpc-status", status.as_bytes());
            to.fields.push(b"grpc-message", grpc_message(&self.body).as_bytes());
        } else if !self.body.is_empty() {
            to.fields.push(b"content-type", b"text/plain");
        }
    }

    /// Sends it behind the head that was made; gives the length of its body.
    pub(crate) async fn send(
        &self,
        head: &mut ResponseHead,
        grpc: bool,
        responder: &mut Responder<'_>,
    ) -> Result<u64, BodyFailure> {
        // RFC 9110, section 8.6: neither has a body, nor a length.
        let bodiless = grpc || matches!(self.status, 204 | 304);
        if !bodiless {
            head.fields.push(b"content-length", self.body.len().to_string().as_bytes());
        }
        let silent = bodiless || responder.asked_head();
        let body = if silent { Bytes::new() } else { self.body.clone() };
        let length = body.len() as u64;
        let framing = if body.is_empty() { Framing::None } else { Framing::Length(length) };
        let mut sink = responder.begin(head, framing, None)?;
        if !body.is_empty() {
            sink.data(body).await?;
        }
        sink.end(None).await?;
        Ok(length)
    }
}

/// The body of an answer. The words that users of Envoy search for are kept.
fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::NoEndpoints => "no healthy upstream",
        Reason::Timeout => "upstream request timeout",
        Reason::FaultAbort => "fault filter abort",
        other => other.text(),
    }
}

/// The gRPC status for a reason, as gRPC's "HTTP to gRPC Status Code Mapping" has it, but for
/// timeouts, of which the mesh knows more.
fn grpc_status(reason: Reason, status: u16) -> &'static str {
    match (reason, status) {
        (Reason::Timeout, _) => "4",
        (_, 400) => "13",
        (_, 401) => "16",
        (_, 403) => "7",
        (_, 404) => "12",
        (_, 429 | 502..=504) => "14",
        _ => "2",
    }
}

/// A text as `grpc-message` has it: percent-encoded but for printable ASCII (gRPC over HTTP/2,
/// "Responses").
fn grpc_message(text: &[u8]) -> String {
    let mut message = String::with_capacity(text.len());
    for &byte in text.iter().take(GRPC_MESSAGE_BYTES_MAX) {
        match byte {
            b' '..=b'~' if byte != b'%' => message.push(char::from(byte)),
            _ => message.push_str(&format!("%{byte:02X}")),
        }
    }
    message
}

/// Bytes of a text that `grpc-message` repeats: it is a header, and clients bound those.
const GRPC_MESSAGE_BYTES_MAX: usize = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// As gRPC's "HTTP to gRPC Status Code Mapping" has them.
    #[test]
    fn statuses_have_their_grpc_statuses() {
        for (status, expected) in [
            (400, "13"),
            (401, "16"),
            (403, "7"),
            (404, "12"),
            (429, "14"),
            (502, "14"),
            (503, "14"),
            (504, "14"),
            (500, "2"),
            (418, "2"),
        ] {
            assert_eq!(grpc_status(Reason::DirectResponse, status), expected, "{status}");
        }
        assert_eq!(grpc_status(Reason::Timeout, 504), "4");
        assert_eq!(grpc_status(Reason::NoEndpoints, 503), "14");
    }

    #[test]
    fn a_grpc_message_is_a_field_that_clients_take() {
        assert_eq!(grpc_message(b"no healthy upstream"), "no healthy upstream");
        assert_eq!(grpc_message("100 % \u{e9}\r\n".as_bytes()), "100 %25 %C3%A9%0D%0A");
        assert_eq!(grpc_message(&[b'x'; 9_000]).len(), GRPC_MESSAGE_BYTES_MAX);
    }
}
