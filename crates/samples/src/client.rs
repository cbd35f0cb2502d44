//! The client that the applications use to call each other: one request with one deadline, over
//! kept connections.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
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
    /// Its header fields.
    pub(crate) headers: HeaderMap,
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
    sender: SendRequest<Full<Bytes>>,
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
        let mut request = Request::get(path).body(Bytes::new())?;
        *request.headers_mut() = headers.clone();
        self.send(server, request, timeout).await
    }

    /// Sends one request, whose URI is a path, and reads the whole response within `timeout`. A
    /// `Host` that is given stays.
    pub(crate) async fn send(
        &self,
        server: &str,
        mut request: Request<Bytes>,
        timeout: Duration,
    ) -> Result<Answer, Error> {
        if !request.headers().contains_key(HOST) {
            let host = HeaderValue::from_str(server).map_err(http::Error::from)?;
            request.headers_mut().insert(HOST, host);
        }
        let call = self.call(server, request.map(Full::new));
        tokio::time::timeout(timeout, call).await.unwrap_or(Err(Error::Timeout))
    }

    async fn call(&self, server: &str, request: Request<Full<Bytes>>) -> Result<Answer, Error> {
        // The server may have closed a kept connection in the meantime; a GET can be repeated.
        while let Some(mut sender) =
            Some(request.method()).filter(|m| *m == Method::GET).and_then(|_| self.kept(server))
        {
            if let Ok(answer) = exchange(&mut sender, request.clone()).await {
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
        let answer = exchange(&mut sender, request).await?;
        self.keep(server, sender);
        Ok(answer)
    }

    /// Takes a connection that is still open and was used within [`KEPT`].
    fn kept(&self, server: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let connections = idle.get_mut(server)?;
        connections.retain(|kept| kept.since.elapsed() < KEPT && kept.sender.is_ready());
        connections.pop().map(|kept| kept.sender)
    }

    fn keep(&self, server: &str, sender: SendRequest<Full<Bytes>>) {
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
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Error> {
    sender.ready().await?;
    let answer = sender.send_request(request).await?;
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
    Ok(Answer { status, headers, body: body.map_err(Error::Body)?.to_bytes() })
}

/// Whether a connection is open, and nothing has come that nobody asked for.
pub(crate) fn is_quiet(stream: &TcpStream) -> bool {
    let read = stream.try_read(&mut [0]);
    matches!(read, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
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
