//! Responses in the few forms that the applications need.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use serde_json::Value;

/// Plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// HTML.
pub(crate) fn html(body: impl Into<Bytes>) -> Response<Bytes> {
    with_type(StatusCode::OK, "text/html; charset=utf-8", body)
}

/// One JSON document, without spaces.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response<Bytes> {
    with_type(status, "application/json", value.to_string())
}

/// The error object that these applications use.
pub(crate) fn json_error(status: StatusCode, error: &str) -> Response<Bytes> {
    json(status, &serde_json::json!({ "error": error }))
}

/// 404.
pub(crate) fn not_found() -> Response<Bytes> {
    text(StatusCode::NOT_FOUND, "not found\n")
}

/// 405.
pub(crate) fn method_not_allowed() -> Response<Bytes> {
    text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n")
}

/// A redirect after a form was sent.
pub(crate) fn redirect(to: HeaderValue) -> Response<Bytes> {
    let mut answer = text(StatusCode::FOUND, "");
    answer.headers_mut().insert(LOCATION, to);
    answer
}

/// A body of any type.
pub(crate) fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Bytes> {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
