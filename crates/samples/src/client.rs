//! The client that the applications use to call each other: one GET with one deadline, over kept
//! connections.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The deadline has passed.
    #[error("no answer in time")]
    Timeout,
    /// The name is unknown, or nobody listens.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection broke.
    #[error("the call failed: {0}")]
    Http(#[from] hyper::Error),
    /// The path cannot be sent.
    #[error("the request cannot be sent: {0}")]
    Request(#[from] http::Error),
    /// The body is too large, or ended early.
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its body.
    pub(crate) body: Bytes,
}

/// Calls servers by `HOST:PORT`. A connection is kept for a second after its last call: load does
/// not open thousands, but a person who reloads a page still sees a Service balance without a mesh,
/// as with the original applications.
#[derive(Debug, Default)]
pub(crate) struct Client {
    idle: Mutex<HashMap<String, Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Empty<Bytes>>,
    since: Instant,
}

impl Client {
    /// Sends one GET and reads the whole response within `timeout`.
    pub(crate) async fn get(
        &self,
        server: &str,
        path: &str,
        headers: &HeaderMap,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        let call = self.call(server, path, headers);
        tokio::time::timeout(timeout, call).await.unwrap_or(Err(Error::Timeout))
    }

    async fn call(&self, server: &str, path: &str, headers: &HeaderMap) -> Result<Answer, Error> {
        while let Some(mut sender) = self.kept(server) {
            // The server may have closed it in the meantime; a GET can be repeated.
            if let Ok(answer) = exchange(&mut sender, request(server, path, headers)?).await {
                self.keep(server, sender);
                return Ok(answer);
            }
        }
        let stream = TcpStream::connect(with_port(server)).await?;
        // If this fails, small requests are merely slower.
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Its sender reports how it ends.
        tokio::spawn(async move { drop(connection.await) });
        let answer = exchange(&mut sender, request(server, path, headers)?).await?;
        self.keep(server, sender);
        Ok(answer)
    }

    /// Takes a connection that is still open and was used within [`KEPT`].
    fn kept(&self, server: &str) -> Option<SendRequest<Empty<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let connections = idle.get_mut(server)?;
        connections.retain(|kept| kept.since.elapsed() < KEPT && kept.sender.is_ready());
        connections.pop().map(|kept| kept.sender)
    }

    fn keep(&self, server: &str, sender: SendRequest<Empty<Bytes>>) {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let connections = idle.entry(server.to_owned()).or_default();
        connections.retain(|kept| kept.since.elapsed() < KEPT && !kept.sender.is_closed());
        if connections.len() < KEPT_MAX && !sender.is_closed() {
            connections.push(Idle { sender, since: Instant::now() });
        }
    }
}

/// Sends one request on a connection and reads the response.
async fn exchange(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<Answer, Error> {
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
    Ok(Answer { status, body: body.map_err(Error::Body)?.to_bytes() })
}

fn request(server: &str, path: &str, headers: &HeaderMap) -> Result<Request<Empty<Bytes>>, Error> {
    let mut request = Request::get(path).body(Empty::new())?;
    *request.headers_mut() = headers.clone();
    let host = HeaderValue::from_str(server).map_err(http::Error::from)?;
    request.headers_mut().insert(HOST, host);
    Ok(request)
}

/// A server's name with a port, by default 80.
fn with_port(server: &str) -> String {
    if server.contains(':') { server.to_owned() } else { format!("{server}:80") }
}

/// How long a connection is kept after a call.
const KEPT: Duration = Duration::from_secs(1);
/// Connections kept for one server.
const KEPT_MAX: usize = 64;
/// Bytes of a response's body.
const BODY_BYTES_MAX: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::details::Details;
    use crate::server::tests::start;

    #[tokio::test]
    async fn a_second_call_uses_the_kept_connection() {
        let address = start(Details).await.to_string();
        let client = Client::default();
        for _ in 0..2 {
            let answer = client
                .get(&address, "/details/0", &HeaderMap::new(), Duration::from_secs(5))
                .await
                .unwrap();
            assert_eq!(answer.status, 200);
        }
        assert_eq!(client.idle.lock().unwrap()[&address].len(), 1);
    }

    #[tokio::test]
    async fn silence_ends_with_the_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let outcome = Client::default()
            .get(&address, "/", &HeaderMap::new(), Duration::from_millis(50))
            .await;
        assert!(matches!(outcome, Err(Error::Timeout)), "{outcome:?}");
    }
}
