//! The one client of a mesh's Kubernetes-shaped API: HTTP/1.1 over a unix socket, for the command
//! line, the local platform and tests.
//!
//! Requests that follow one another use one connection; streams, and requests at the same time, have
//! connections of their own. The control plane may be killed and restarted at any time, so a connection
//! that was not used for a moment is not used again.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::Instant;

/// Where the API is.
#[derive(Clone, Debug)]
pub enum Address {
    /// A socket of the file system, in the mesh's private mount namespace.
    Path(PathBuf),
    /// An abstract socket, without the leading NUL. Names of abstract sockets are anybody's to take,
    /// so whoever listens there must be the calling user, or root.
    Abstract(String),
}

/// Bounds of what a client waits for and takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time an answer may take, or the beginning of one that comes bit by bit. Default: 40 s, longer
    /// than the control plane waits for its own snapshot.
    pub answer_timeout: Duration,
    /// Bytes of one answer, or of one line of one that comes bit by bit. Default: 256 MiB.
    pub answer_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { answer_timeout: Duration::from_secs(40), answer_bytes_max: 256 << 20 }
    }
}

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody listens.
    #[error("nobody listens on the API's socket")]
    NotRunning,
    /// Somebody else has the socket.
    #[error("user {0} listens on the API's socket, which is not you; nothing was sent")]
    Stranger(u32),
    /// The socket cannot be used.
    #[error("the API cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The connection broke.
    #[error("the API went away: {0}")]
    Connection(#[from] hyper::Error),
    /// No answer came in time.
    #[error("the API does not answer")]
    Silent,
    /// The answer is not what the API promises.
    #[error("the answer to {path} is not JSON: {error}")]
    NotJson {
        /// What was asked.
        path: String,
        /// Why.
        error: serde_json::Error,
    },
    /// The answer was cut off, or is longer than the limit.
    #[error("the answer to {0} is cut off, or longer than {1} bytes")]
    Body(String, usize),
    /// A text that cannot be part of a path.
    #[error("the request for {0:?} cannot be sent")]
    Path(String),
    /// The API refused, as a Kubernetes `Status`.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// One word for it, such as `NotFound`.
        reason: String,
        /// For people.
        message: String,
        /// Path of each field that is wrong, and what is, if the API names them.
        causes: Vec<(String, String)>,
    },
}

impl Error {
    /// Whether the object is not there any more, or another has its name.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Refused { code: 404 | 409, .. })
    }

    /// Whether the request itself is refused, so that asking again is of no use.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { code: 400..=499, .. })
    }
}

/// A client of the API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    limits: Limits,
    /// The connection of the last request, for the next.
    kept: Arc<Mutex<Option<Kept>>>,
}

type Sender = http1::SendRequest<Full<Bytes>>;

/// A connection without a request.
#[derive(Debug)]
struct Kept {
    sender: Sender,
    since: Instant,
}

impl Client {
    /// A client of the API at an address.
    #[must_use]
    pub fn new(address: Address, limits: Limits) -> Self {
        Self { address, limits, kept: Arc::default() }
    }

    /// Whether the API answers and is ready.
    pub async fn is_healthy(&self) -> bool {
        self.bytes(Method::GET, "/healthz", JSON, None).await.is_ok()
    }

    /// Gets an object or a list.
    ///
    /// # Errors
    ///
    /// If the API is away or refuses.
    pub async fn get(&self, path: &str) -> Result<Value, Error> {
        self.request(Method::GET, path, JSON, None).await
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.request(Method::POST, path, JSON, Some((JSON, object))).await
    }

    /// Replaces an object, or its status.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn put(&self, path: &str, object: &Value) -> Result<Value, Error> {
        self.request(Method::PUT, path, JSON, Some((JSON, object))).await
    }

    /// Deletes an object; the options are Kubernetes' `DeleteOptions`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn delete(&self, path: &str, options: Option<&Value>) -> Result<Value, Error> {
        self.request(Method::DELETE, path, JSON, options.map(|options| (JSON, options))).await
    }

    /// Sends any request: `accept` says in which form the answer is wanted, the body comes with
    /// its type.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, Error> {
        let bytes = self.bytes(method, path, accept, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::NotJson { path: path.to_owned(), error })
    }

    /// Reads an answer that comes bit by bit: a log, or the events of a watch. `path` has its
    /// query.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn stream(&self, path: &str, accept: &str) -> Result<Stream, Error> {
        let request = request(Method::GET, path, accept, None)?;
        let body = self.in_time(async {
            // Nothing follows it on its connection.
            let mut sender = self.connected().await?;
            self.answer(sender.send_request(request).await?, path).await
        });
        let body = body.await?;
        let bytes_max = self.limits.answer_bytes_max;
        Ok(Stream { path: path.to_owned(), body, buffer: Vec::new(), searched: 0, bytes_max })
    }

    async fn bytes(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Bytes, Error> {
        let request = request(method, path, accept, body)?;
        self.in_time(async {
            let (response, sender) = self.send(request).await?;
            let code = response.status();
            let body = self.collect(response.into_body(), path).await?;
            self.keep(sender);
            if code.is_success() { Ok(body) } else { Err(refusal(code, path, &body)) }
        })
        .await
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let answer = tokio::time::timeout(self.limits.answer_timeout, answer);
        answer.await.map_err(|_elapsed| Error::Silent)?
    }

    /// Sends a request, over the connection of the last one where that still serves.
    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
    ) -> Result<(Response<Incoming>, Sender), Error> {
        if let Some(mut sender) = self.take_kept()
            && sender.ready().await.is_ok()
        {
            let is_safe = request.method().is_safe();
            let again = request.clone();
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                // The other side closed it first: nothing of this request was sent, or it changes nothing.
                Err(mut refused) => match refused.take_message() {
                    Some(unsent) => request = unsent,
                    None if is_safe => request = again,
                    None => return Err(refused.into_error().into()),
                },
            }
        }
        let mut sender = self.connected().await?;
        Ok((sender.send_request(request).await?, sender))
    }

    /// A connection of its own.
    async fn connected(&self) -> Result<Sender, Error> {
        let (sender, connection) = http1::handshake(TokioIo::new(self.connect().await?)).await?;
        // How it ends, its sender tells.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn take_kept(&self) -> Option<Sender> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        (kept.since.elapsed() < KEPT_MAX && !kept.sender.is_closed()).then_some(kept.sender)
    }

    fn keep(&self, sender: Sender) {
        if !sender.is_closed() {
            let kept = Kept { sender, since: Instant::now() };
            *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(kept);
        }
    }

    /// The body of a successful answer.
    async fn answer(&self, response: Response<Incoming>, path: &str) -> Result<Incoming, Error> {
        let code = response.status();
        if code.is_success() {
            return Ok(response.into_body());
        }
        let body = self.collect(response.into_body(), path).await?;
        Err(refusal(code, path, &body))
    }

    async fn connect(&self) -> Result<UnixStream, Error> {
        let stream = loop {
            let connected = match &self.address {
                Address::Path(path) => UnixStream::connect(path).await,
                Address::Abstract(name) => UnixStream::connect(format!("\0{name}")).await,
            };
            match connected {
                Ok(stream) => break stream,
                // As many connections wait to be accepted as may.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(CONNECT_PAUSE).await;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(Error::NotRunning);
                }
                Err(error) => return Err(error.into()),
            }
        };
        if let Address::Abstract(_) = self.address {
            // Whom the kernel noted when the socket began to listen.
            let uid = stream.peer_cred()?.uid();
            if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
                return Err(Error::Stranger(uid));
            }
        }
        Ok(stream)
    }

    async fn collect(&self, body: Incoming, path: &str) -> Result<Bytes, Error> {
        let bytes_max = self.limits.answer_bytes_max;
        let body = Limited::new(body, bytes_max).collect().await;
        let cut = |_error| Error::Body(path.to_owned(), bytes_max);
        body.map(http_body_util::Collected::to_bytes).map_err(cut)
    }
}

fn request(
    method: Method,
    path: &str,
    accept: &str,
    body: Option<(&str, &Value)>,
) -> Result<Request<Full<Bytes>>, Error> {
    let mut request =
        Request::builder().method(method).uri(path).header(HOST, "ironmesh").header(ACCEPT, accept);
    let mut bytes = Bytes::new();
    if let Some((content_type, value)) = body {
        request = request.header(CONTENT_TYPE, content_type);
        bytes = value.to_string().into();
    }
    request.body(Full::new(bytes)).map_err(|_| Error::Path(path.to_owned()))
}

/// What an answer says that is no success.
fn refusal(code: StatusCode, path: &str, body: &[u8]) -> Error {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let cause = |cause: &Value| {
        let text = |field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        (text("field"), text("message"))
    };
    Error::Refused {
        code: code.as_u16(),
        reason: text(&status["reason"]).unwrap_or_else(|| "InternalError".to_owned()),
        message: text(&status["message"]).unwrap_or_else(|| format!("{path}: {code}")),
        causes: status["details"]["causes"].as_array().into_iter().flatten().map(cause).collect(),
    }
}

/// An answer that comes bit by bit.
#[derive(Debug)]
pub struct Stream {
    path: String,
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
    pub async fn next_bytes(&mut self) -> Result<Option<Bytes>, Error> {
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
    pub async fn next_json(&mut self) -> Result<Option<Value>, Error> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return self.parsed(&line).map(Some);
            }
            self.searched = self.buffer.len();
            let Some(bytes) = self.next_bytes().await? else { return Ok(None) };
            self.buffer.extend_from_slice(&bytes);
            if self.buffer.len() > self.bytes_max {
                return Err(Error::Body(self.path.clone(), self.bytes_max));
            }
        }
    }

    fn parsed(&self, line: &[u8]) -> Result<Value, Error> {
        let path = || self.path.clone();
        serde_json::from_slice(line).map_err(|error| Error::NotJson { path: path(), error })
    }
}

/// Pause before a full queue of connections is tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How long a connection is kept without a request: much less than the API lets one idle.
const KEPT_MAX: Duration = Duration::from_secs(1);
/// Asks for objects, and says that one is sent.
pub const JSON: &str = "application/json";

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[test]
    fn a_refusal_says_why_and_where() {
        let body = br#"{"reason": "Invalid", "message": "no", "details": {"causes": [{"field": "spec.x", "message": "bad"}]}}"#;
        let error = refusal(StatusCode::UNPROCESSABLE_ENTITY, "/x", body);
        let Error::Refused { reason, message, causes, .. } = &error else { panic!("{error}") };
        assert_eq!((reason.as_str(), message.as_str()), ("Invalid", "no"));
        assert_eq!(causes, &[("spec.x".to_owned(), "bad".to_owned())]);
        assert!(error.is_refused() && !error.is_gone());
        let error = refusal(StatusCode::BAD_GATEWAY, "/x", b"oops");
        assert_eq!(error.to_string(), "/x: 502 Bad Gateway");
    }

    /// An API on an abstract socket. Each connection takes `requests_max` requests without a body, and
    /// closes; how many connections came stands in the answers.
    fn api(name: &str, requests_max: usize) -> Client {
        let name = format!("ironmesh-client-{name}-{}", std::process::id());
        let listener = UnixListener::bind(format!("\0{name}")).unwrap();
        tokio::spawn(async move {
            for number in 1.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    for _ in 0..requests_max {
                        let mut head = Vec::new();
                        while !head.ends_with(b"\r\n\r\n") {
                            let Ok(byte) = stream.read_u8().await else { return };
                            head.push(byte);
                        }
                        let answer =
                            format!("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{number}");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Client::new(Address::Abstract(name), Limits::default())
    }

    #[tokio::test]
    async fn requests_that_follow_one_another_use_one_connection() {
        let client = api("kept", usize::MAX);
        for _ in 0..3 {
            assert_eq!(client.get("/x").await.unwrap(), 1);
            assert_eq!(client.clone().delete("/x", None).await.unwrap(), 1);
        }
        let (one, other) = tokio::join!(client.get("/x"), client.get("/x"));
        let mut both = [one.unwrap(), other.unwrap()].map(|number| number.as_u64().unwrap());
        both.sort_unstable();
        assert_eq!(both, [1, 2], "at the same time they need two");
        assert_eq!(client.stream("/x", JSON).await.unwrap().next_json().await.unwrap(), None);
        assert!(client.get("/x").await.unwrap().as_u64() < Some(3), "a stream takes none away");
    }

    #[tokio::test]
    async fn a_connection_that_the_api_closes_costs_no_request() {
        let client = api("closed", 1);
        for number in 1..5 {
            assert_eq!(client.get("/x").await.unwrap(), number);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_a_path_is_not_sent() {
        let client = Client::new(Address::Path("/nowhere".into()), Limits::default());
        assert!(matches!(client.get("/a b").await, Err(Error::Path(_))));
    }
}
