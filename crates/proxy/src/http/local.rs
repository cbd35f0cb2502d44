//! Answers that the mesh gives itself.

use bytes::Bytes;
use ironmesh_model::Reason;

use crate::http::body::BodyFailure;
use crate::http::responder::Responder;
use crate::http1::Framing;
use crate::message::ResponseHead;

/// Tells a caller's proxy that the request has not reached the application, so that it may go
/// elsewhere. Believed only over mutual TLS.
pub(crate) const NOT_DELIVERED: &str = "x-ironmesh-not-delivered";

/// Tells why the mesh answered itself: [`Reason::code`].
pub(crate) const REASON: &str = "x-ironmesh-reason";

/// Makes the head of an answer by the mesh.
pub(crate) fn head(to: &mut ResponseHead, reason: Reason, grpc: bool, not_delivered: bool) {
    to.clear();
    to.status = if grpc { 200 } else { reason.status() };
    to.fields.push(REASON.as_bytes(), reason.code().as_bytes());
    if not_delivered {
        to.fields.push(NOT_DELIVERED.as_bytes(), b"1");
    }
    if grpc {
        // gRPC over HTTP/2, "Responses": trailers-only.
        to.fields.push(b"content-type", b"application/grpc");
        to.fields.push(b"grpc-status", grpc_status(reason).as_bytes());
        to.fields.push(b"grpc-message", reason.text().as_bytes());
    } else {
        to.fields.push(b"content-type", b"text/plain");
    }
}

/// Sends the answer whose head was made; gives the length of its body.
pub(crate) async fn send(
    head: &mut ResponseHead,
    reason: Reason,
    grpc: bool,
    responder: &mut Responder<'_>,
) -> Result<u64, BodyFailure> {
    let body = if grpc { "" } else { text(reason) };
    if !grpc {
        head.fields.push(b"content-length", body.len().to_string().as_bytes());
    }
    let body = if responder.asked_head() { "" } else { body };
    let length = body.len() as u64;
    let framing = if body.is_empty() { Framing::None } else { Framing::Length(length) };
    let mut sink = responder.begin(head, framing, None)?;
    if !body.is_empty() {
        sink.data(Bytes::from_static(body.as_bytes())).await?;
    }
    sink.end(None).await?;
    Ok(length)
}

/// The body of an answer. The words that users of Envoy search for are kept.
fn text(reason: Reason) -> &'static str {
    match reason {
        Reason::NoEndpoints => "no healthy upstream",
        Reason::Timeout => "upstream request timeout",
        other => other.text(),
    }
}

/// The gRPC status for a reason, as gRPC's "HTTP to gRPC Status Code Mapping" has it, but for
/// timeouts, of which the mesh knows more.
fn grpc_status(reason: Reason) -> &'static str {
    match (reason, reason.status()) {
        (Reason::Timeout, _) => "4",
        (_, 400) => "13",
        (_, 401) => "16",
        (_, 403) => "7",
        (_, 404) => "12",
        (_, 429 | 502..=504) => "14",
        _ => "2",
    }
}
