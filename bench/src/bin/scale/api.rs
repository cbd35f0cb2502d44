//! A client of the control plane's API that keeps its connection.

use std::path::Path;

use anyhow::ensure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// One connection.
#[derive(Debug)]
pub(crate) struct Api(SendRequest<Full<Bytes>>);

impl Api {
    pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(Self(sender))
    }

    /// Creates an object under the path of its collection.
    pub(crate) async fn create(&mut self, path: &str, object: &Value) -> anyhow::Result<Value> {
        self.request(Method::POST, path, "application/json", Some(object)).await
    }

    /// Changes parts of an object.
    pub(crate) async fn merge(&mut self, path: &str, patch: &Value) -> anyhow::Result<Value> {
        self.request(Method::PATCH, path, "application/merge-patch+json", Some(patch)).await
    }

    pub(crate) async fn delete(&mut self, path: &str) -> anyhow::Result<Value> {
        self.request(Method::DELETE, path, "application/json", None).await
    }

    /// Whether there is an object.
    pub(crate) async fn exists(&mut self, path: &str) -> anyhow::Result<bool> {
        let (status, bytes) = self.answer(Method::GET, path, "application/json", None).await?;
        ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "{path}: {status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(status.is_success())
    }

    async fn request(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let (status, bytes) = self.answer(method, path, kind, body).await?;
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&bytes));
        Ok(serde_json::from_slice(&bytes)?)
    }

    async fn answer(
        &mut self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "ironmesh")
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
