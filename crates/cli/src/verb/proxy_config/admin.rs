//! The admin API of a proxy, reached through the agent, for it listens on the pod's loopback only.

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::header::HOST;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ironmesh_model::bootstrap::ADMIN_PORT;
use ironmesh_proxy::dump::Dump;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::split;
use crate::cli::Context;
use crate::verb::{pods_of, text};

/// The proxy of a pod.
pub(crate) struct Proxy {
    mesh: String,
    pub(super) namespace: String,
    pub(super) pod: String,
}

impl Proxy {
    /// The one that a word means: `POD`, `POD.NAMESPACE`, or `KIND/NAME` of what has pods.
    pub(super) async fn find(word: &str, context: &Context) -> anyhow::Result<Self> {
        let (word, namespace) = split(word, context);
        let pods = pods_of(&context.api(), &namespace, &word).await?;
        let pod = text(&pods[0], "/metadata/name").to_owned();
        Ok(Self { mesh: context.mesh.clone(), namespace, pod })
    }

    /// That of a pod of this name.
    pub(crate) fn of(pod: &str, namespace: &str, context: &Context) -> Self {
        Self { mesh: context.mesh.clone(), namespace: namespace.to_owned(), pod: pod.to_owned() }
    }

    /// What it holds: the parts that `only` names, else all.
    pub(super) async fn dump(&self, only: Option<&str>) -> anyhow::Result<Dump> {
        let query = only.map(|only| format!("?only={only}")).unwrap_or_default();
        self.json(&format!("/config_dump{query}")).await
    }

    /// Reads a path whose answer is JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let body = self.get(path).await?;
        serde_json::from_slice(&body).context("the proxy's answer cannot be read")
    }

    /// Reads a path.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, path).await
    }

    /// Has it do what a path says.
    pub(super) async fn post(&self, path: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::POST, path).await
    }

    /// Asks it by any method.
    pub(crate) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        let Self { mesh, namespace, pod } = self;
        let client = crate::cli::agent(mesh)?;
        // The agent says one line, then is silent until it is asked: nothing is lost with the buffer.
        let stream = client
            .forward(namespace, pod, ADMIN_PORT)
            .with_context(|| format!("pod {pod} has no proxy that answers"))?
            .into_inner();
        stream.set_nonblocking(true)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(UnixStream::from_std(stream)?)).await?;
        // How it ends, its sender tells.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let response = sender
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await
            .context("asking the proxy")?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| anyhow!("reading the proxy's answer: {error}"))?.to_bytes();
        if status != StatusCode::OK {
            let why = String::from_utf8_lossy(&body);
            let why: String = why.trim_end().chars().filter(|c| !c.is_control()).collect();
            bail!("the proxy answered {path} with {status}: {why}");
        }
        Ok(body)
    }
}

/// Bytes of an answer that are read: many times what proxies answer
/// (`limits.proxy.dump_bytes_max`), for the limit may be set higher.
const ANSWER_BYTES_MAX: usize = 1 << 30;
