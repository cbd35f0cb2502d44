//! A client of the mesh's Kubernetes-shaped API.
//!
//! Every request has a connection of its own: they are cheap on a unix socket, and the control
//! plane may be killed and restarted at any time.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ironmesh_model::limits::PlatformLimits;
use serde_json::Value;
use tokio::net::UnixStream;

use super::agent_api::is_trusted;

/// Where the API is.
#[derive(Clone, Debug)]
pub(crate) enum ApiAddress {
    /// The socket in the mesh's private mount namespace.
    Path(PathBuf),
    /// The abstract socket in the host's network namespace, without the leading NUL: see
    /// [`super::agent_api::api_socket`]. Whoever listens there must be the calling user, or root.
    Abstract(String),
}

/// A client of the API. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct ApiClient {
    address: ApiAddress,
    answer_timeout: Duration,
    body_bytes_max: usize,
}

/// Why a request of the API was not answered as hoped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ApiError {
    /// The socket cannot be used; of kind `ConnectionRefused` if nobody listens.
    #[error("API of the mesh: {0}")]
    Io(#[from] io::Error),
    /// The connection broke.
    #[error("API of the mesh: {0}")]
    Http(#[from] hyper::Error),
    /// No answer came in time.
    #[error("API of the mesh: no answer in time")]
    Timeout,
    /// The answer is not what the API promises.
    #[error("API of the mesh: unreadable answer: {0}")]
    Json(#[from] serde_json::Error),
    /// The answer was cut off, or is longer than the limit.
    #[error("API of the mesh: answer is cut off or longer than the limit")]
    Body,
    /// The API refused, as a Kubernetes `Status`.
    #[error("{message}")]
    Status {
        /// HTTP status.
        code: StatusCode,
        /// One word for it, such as `NotFound`.
        reason: String,
        /// For people.
        message: String,
        /// Path of the first field that is wrong, if the API names one.
        field: Option<String>,
    },
}

impl ApiError {
    /// Whether the object is not there any more, or another has its name.
    #[must_use]
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Status { code: StatusCode::NOT_FOUND | StatusCode::CONFLICT, .. })
    }

    /// Whether the request itself is refused, so that asking again is of no use.
    #[must_use]
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Status { code, .. } if code.is_client_error())
    }
}

impl ApiClient {
    /// A client of the API at an address, with the limits on its answers.
    #[must_use]
    pub(crate) fn new(address: ApiAddress, limits: &PlatformLimits) -> Self {
        Self {
            address,
            answer_timeout: limits.api_answer_timeout,
            body_bytes_max: limits.api_body_bytes_max,
        }
    }

    /// Whether the API answers and is ready.
    pub(crate) async fn is_healthy(&self) -> bool {
        self.bytes(Method::GET, "/healthz", JSON, None).await.is_ok()
    }

    /// Gets an object or a list.
    ///
    /// # Errors
    ///
    /// If the API is away or refuses.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.request(Method::GET, path, JSON, None).await
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn post(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.request(Method::POST, path, JSON, Some((JSON, object))).await
    }

    /// Replaces an object, or its status.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn put(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        self.request(Method::PUT, path, JSON, Some((JSON, object))).await
    }

    /// Deletes an object; the options are Kubernetes' `DeleteOptions`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<Value, ApiError> {
        self.request(Method::DELETE, path, JSON, Some((JSON, options))).await
    }

    /// Sends any request: `accept` says in which form the answer is wanted, the body comes with
    /// its type.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, ApiError> {
        Ok(serde_json::from_slice(&self.bytes(method, path, accept, body).await?)?)
    }

    /// Reads an answer that comes bit by bit: a log, or the events of a watch. `path` has its
    /// query.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Stream, ApiError> {
        let send = self.send(Method::GET, path, accept, None);
        let body = tokio::time::timeout(self.answer_timeout, send)
            .await
            .map_err(|_elapsed| ApiError::Timeout)??;
        let bytes_max = self.body_bytes_max;
        Ok(Stream { body, buffer: Vec::new(), searched: 0, bytes_max })
    }

    async fn bytes(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Bytes, ApiError> {
        let answer = async {
            let body = self.send(method, path, accept, body).await?;
            collect(body, self.body_bytes_max).await
        };
        tokio::time::timeout(self.answer_timeout, answer)
            .await
            .map_err(|_elapsed| ApiError::Timeout)?
    }

    /// Sends a request and returns the body of a successful answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Incoming, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "ironmesh")
            .header("accept", accept);
        let mut bytes = Vec::new();
        if let Some((content_type, value)) = body {
            request = request.header("content-type", content_type);
            bytes = serde_json::to_vec(value)?;
        }
        let request = request.body(Full::new(Bytes::from(bytes))).map_err(io::Error::other)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await?;
        // How it ends, its sender tells.
        tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let body = collect(response.into_body(), self.body_bytes_max).await?;
        Err(refusal(code, path, &body))
    }

    async fn connect(&self) -> io::Result<UnixStream> {
        match &self.address {
            ApiAddress::Path(path) => UnixStream::connect(path).await,
            ApiAddress::Abstract(name) => {
                let stream = UnixStream::connect(format!("\0{name}")).await?;
                is_trusted(stream.peer_cred()?.uid())?;
                Ok(stream)
            }
        }
    }
}

/// What an answer says that is no success.
fn refusal(code: StatusCode, path: &str, body: &[u8]) -> ApiError {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    ApiError::Status {
        code,
        reason: text(&status["reason"]).unwrap_or_else(|| "InternalError".to_owned()),
        message: text(&status["message"]).unwrap_or_else(|| format!("{path}: {code}")),
        field: text(&status["details"]["causes"][0]["field"]),
    }
}

/// An answer that comes bit by bit.
#[derive(Debug)]
pub(crate) struct Stream {
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of the buffer holds no line end.
    searched: usize,
    /// Bytes of one line.
    bytes_max: usize,
}

impl Stream {
    /// The next bytes, as they come; `None` at the end.
    ///
    /// # Errors
    ///
    /// If the connection broke.
    ///
    /// # Cancel safety
    ///
    /// Safe: what has not been returned comes with the next call.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(bytes) = frame?.into_data() {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The next line as JSON, such as `{"type": "ADDED", "object": ...}` of a watch; `None` at the
    /// end.
    ///
    /// # Errors
    ///
    /// If the connection broke, or the line is longer than the limit or no JSON.
    ///
    /// # Cancel safety
    ///
    /// Safe: what arrived stays in the buffer.
    pub(crate) async fn next_json(&mut self) -> Result<Option<Value>, ApiError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            self.searched = self.buffer.len();
            let Some(bytes) = self.next_bytes().await? else { return Ok(None) };
            self.buffer.extend_from_slice(&bytes);
            if self.buffer.len() > self.bytes_max {
                return Err(ApiError::Body);
            }
        }
    }
}

async fn collect(body: Incoming, bytes_max: usize) -> Result<Bytes, ApiError> {
    let body = Limited::new(body, bytes_max).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|_error| ApiError::Body)
}

/// Asks for objects, and says that one is sent.
pub(crate) const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_where() {
        let body = br#"{"reason": "Invalid", "message": "no", "details": {"causes": [{"field": "spec.x"}]}}"#;
        let error = refusal(StatusCode::UNPROCESSABLE_ENTITY, "/x", body);
        let ApiError::Status { reason, message, field, .. } = &error else { panic!("{error}") };
        assert_eq!((reason.as_str(), message.as_str()), ("Invalid", "no"));
        assert_eq!(field.as_deref(), Some("spec.x"));
        assert!(error.is_refused() && !error.is_gone());
        let error = refusal(StatusCode::BAD_GATEWAY, "/x", b"oops");
        assert_eq!(error.to_string(), "/x: 502 Bad Gateway");
    }
}
