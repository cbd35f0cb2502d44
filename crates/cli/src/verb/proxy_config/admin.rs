//! The admin API of a proxy, reached through the agent, for it listens on the pod's loopback only.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ironmesh_model::bootstrap::ADMIN_PORT;
use tokio::net::UnixStream;

/// Reads a path of the admin API of a pod's proxy.
pub(super) async fn get(
    mesh: &str,
    namespace: &str,
    pod: &str,
    path: &str,
) -> anyhow::Result<Bytes> {
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
    let request = Request::get(path).header(HOST, "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.context("asking the proxy")?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK {
        bail!("the proxy answered {path} with {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(body)
}
