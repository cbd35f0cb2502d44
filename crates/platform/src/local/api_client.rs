//! A client of the mesh's Kubernetes-shaped API: get, list, create, replace, delete, watch.
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
use serde_json::Value;
use tokio::net::UnixStream;

/// Where the API is.
#[derive(Clone, Debug)]
pub(crate) enum ApiClient {
    /// The socket in the mesh's private mount namespace.
    Path(PathBuf),
    /// The abstract socket in the host's network namespace, without the leading NUL.
    Abstract(String),
}

/// Why a request of the API was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("API of the mesh: {0}")]
    Io(#[from] io::Error),
    #[error("API of the mesh: {0}")]
    Http(#[from] hyper::Error),
    #[error("API of the mesh: no answer in time")]
    Timeout,
    #[error("API of the mesh: unreadable answer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("API of the mesh: answer is cut off or longer than the limit")]
    Body,
    #[error("{message}")]
    Status { code: StatusCode, message: String },
}

impl ApiError {
    /// Whether the object is not there any more, or another has its name.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Status { code: StatusCode::NOT_FOUND | StatusCode::CONFLICT, .. })
    }

    /// Whether the request itself is refused, so that asking again is of no use.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self, Self::Status { code, .. } if code.is_client_error())
    }
}

impl ApiClient {
    /// Whether the API answers and is ready.
    pub(crate) async fn is_healthy(&self) -> bool {
        self.request(Method::GET, "/healthz", None).await.is_ok()
    }

    /// Gets an object or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        parse(&self.request(Method::GET, path, None).await?)
    }

    /// Creates an object in a collection.
    pub(crate) async fn post(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        parse(&self.request(Method::POST, path, Some(object)).await?)
    }

    /// Replaces an object, or its status.
    pub(crate) async fn put(&self, path: &str, object: &Value) -> Result<Value, ApiError> {
        parse(&self.request(Method::PUT, path, Some(object)).await?)
    }

    /// Deletes an object; the options are Kubernetes' `DeleteOptions`.
    pub(crate) async fn delete(&self, path: &str, options: &Value) -> Result<(), ApiError> {
        self.request(Method::DELETE, path, Some(options)).await.map(drop)
    }

    /// Opens a watch; `path` has its query. The events are read by [`Watch::next`].
    pub(crate) async fn watch(&self, path: &str) -> Result<Watch, ApiError> {
        let send = self.send(Method::GET, path, None);
        let body = tokio::time::timeout(ANSWER_TIMEOUT, send)
            .await
            .map_err(|_elapsed| ApiError::Timeout)??;
        Ok(Watch { body, buffer: Vec::new(), searched: 0 })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<Bytes, ApiError> {
        let answer = async {
            let body = self.send(method, path, object).await?;
            collect(body).await
        };
        tokio::time::timeout(ANSWER_TIMEOUT, answer).await.map_err(|_elapsed| ApiError::Timeout)?
    }

    /// Sends a request and returns the body of a successful answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        object: Option<&Value>,
    ) -> Result<Incoming, ApiError> {
        let stream = match self {
            Self::Path(path) => UnixStream::connect(path).await?,
            Self::Abstract(name) => UnixStream::connect(format!("\0{name}")).await?,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let body = object.map_or_else(|| Ok(Vec::new()), serde_json::to_vec)?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "ironmesh")
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(io::Error::other)?;
        let response = sender.send_request(request).await?;
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let body = collect(response.into_body()).await?;
        let message = serde_json::from_slice::<Value>(&body)
            .ok()
            .and_then(|status| status["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| format!("{path}: {code}"));
        Err(ApiError::Status { code, message })
    }
}

/// An open watch.
#[derive(Debug)]
pub(crate) struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of the buffer holds no line end.
    searched: usize,
}

impl Watch {
    /// The next event as it was sent, such as `{"type": "ADDED", "object": ...}`; `None` when the
    /// watch ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: what arrived stays in the buffer.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, ApiError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return parse(&line).map(Some);
            }
            self.searched = self.buffer.len();
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(bytes) = frame?.into_data() {
                        self.buffer.extend_from_slice(&bytes);
                    }
                }
            }
            if self.buffer.len() > BODY_BYTES_MAX {
                return Err(ApiError::Body);
            }
        }
    }
}

async fn collect(body: Incoming) -> Result<Bytes, ApiError> {
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|_error| ApiError::Body)
}

fn parse(body: &[u8]) -> Result<Value, ApiError> {
    Ok(serde_json::from_slice(body)?)
}

/// How long an answer may take; the API is a process on the same machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one answer, or of one event of a watch.
const BODY_BYTES_MAX: usize = 256 << 20;
