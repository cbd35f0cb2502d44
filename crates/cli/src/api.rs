//! The client of the control plane's API: HTTP/1.1 over the mesh's abstract unix socket.

mod path;

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdUnixStream};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

pub(crate) use path::Query;

/// Why the API did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nobody listens.
    #[error("no mesh {mesh:?} is running; start one with: {}", start_command(mesh))]
    NotRunning {
        /// The name that was asked for.
        mesh: String,
    },
    /// The server refused, as a Kubernetes `Status`.
    #[error("Error from server ({reason}): {message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// One word for it.
        reason: String,
        /// For people.
        message: String,
        /// Path of each field that is wrong, and what is, if the server names them.
        causes: Vec<(String, String)>,
    },
    /// The connection broke.
    #[error("the control plane went away: {0}")]
    Connection(#[from] hyper::Error),
    /// The socket cannot be used.
    #[error("the control plane cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The answer is not what the API promises.
    #[error("the control plane's answer to {path} is not JSON: {error}")]
    NotJson {
        /// What was asked.
        path: String,
        /// Why.
        error: serde_json::Error,
    },
    /// The server has not answered.
    #[error(
        "the control plane of mesh {mesh:?} does not answer; `ironmesh status` shows whether it runs"
    )]
    Silent {
        /// The mesh.
        mesh: String,
    },
    /// The answer is longer than the limit, or cut off.
    #[error("the answer to {0} is cut off, or longer than {ANSWER_BYTES_MAX} bytes")]
    Body(String),
    /// Somebody else has the mesh's socket: names of abstract sockets are free for all.
    #[error("the socket of mesh {mesh:?} belongs to user {uid}, not to you; nothing was sent")]
    Stranger {
        /// The mesh.
        mesh: String,
        /// Who listens.
        uid: u32,
    },
    /// A name that cannot be part of a path.
    #[error("the request for {0:?} cannot be sent")]
    Path(String),
}

impl ApiError {
    /// Whether the object or path does not exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether somebody else changed the object first.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, reason, .. } if reason == "Conflict")
    }
}

/// The API of one mesh. Cheap; every request has a connection of its own.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    mesh: String,
    /// Abstract name, without the leading NUL.
    socket: String,
    answer_timeout: Duration,
}

impl Api {
    /// The API of a mesh of the calling user.
    pub(crate) fn of_mesh(mesh: &str) -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        let socket = ironmesh_platform::local::agent_api::api_socket(uid, mesh);
        Self::of_socket(mesh, &socket)
    }

    /// The API behind an abstract socket.
    pub(crate) fn of_socket(mesh: &str, socket: &str) -> Self {
        Self { mesh: mesh.to_owned(), socket: socket.to_owned(), answer_timeout: ANSWER_TIMEOUT }
    }

    /// Reads an object or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.json(Method::GET, path, JSON, None).await
    }

    /// Reads an object or a list as the server renders it for people.
    pub(crate) async fn table(&self, path: &str) -> Result<Value, ApiError> {
        self.json(Method::GET, path, TABLE, None).await
    }

    /// Creates an object.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.json(Method::POST, path, JSON, Some((JSON, body))).await
    }

    /// Replaces an object.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.json(Method::PUT, path, JSON, Some((JSON, body))).await
    }

    /// Changes the fields of an object that `patch` names; `null` removes one.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        self.json(Method::PATCH, path, JSON, Some((MERGE_PATCH, patch))).await
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.json(Method::DELETE, path, JSON, None).await
    }

    /// Reads an answer that comes bit by bit: a log, or the events of a watch.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Stream, ApiError> {
        let response = self.in_time(self.send(Method::GET, path, accept, None)).await?;
        if !response.status().is_success() {
            return Err(self.in_time(async { Ok(refused(response, path).await) }).await?);
        }
        Ok(Stream { body: response.into_body(), buffer: Vec::new() })
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, ApiError> {
        let answer = async {
            let response = self.send(method, path, accept, body).await?;
            if !response.status().is_success() {
                return Err(refused(response, path).await);
            }
            collect(response.into_body(), path).await
        };
        let bytes = self.in_time(answer).await?;
        serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::NotJson { path: path.to_owned(), error })
    }

    /// Waits for an answer, but not for ever.
    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        let silent = |_| ApiError::Silent { mesh: self.mesh.clone() };
        tokio::time::timeout(self.answer_timeout, answer).await.map_err(silent)?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Response<Incoming>, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "ironmesh")
            .header(ACCEPT, accept);
        let mut bytes = Bytes::new();
        if let Some((content_type, value)) = body {
            request = request.header(CONTENT_TYPE, content_type);
            bytes = Bytes::from(value.to_string());
        }
        let request =
            request.body(Full::new(bytes)).map_err(|_| ApiError::Path(path.to_owned()))?;
        let stream = TokioIo::new(self.connect()?);
        let (mut sender, connection) = http1::handshake(stream).await?;
        // How it ends, its sender tells.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender.send_request(request).await?)
    }

    fn connect(&self) -> Result<UnixStream, ApiError> {
        let address = SocketAddr::from_abstract_name(&self.socket)?;
        let stream = StdUnixStream::connect_addr(&address).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ApiError::NotRunning { mesh: self.mesh.clone() },
            _ => ApiError::Io(error),
        })?;
        stream.set_nonblocking(true)?;
        let stream = UnixStream::from_std(stream)?;
        // Whom the kernel noted when the socket began to listen.
        let uid = stream.peer_cred()?.uid();
        if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
            return Err(ApiError::Stranger { mesh: self.mesh.clone(), uid });
        }
        Ok(stream)
    }
}

/// An answer that comes bit by bit.
#[derive(Debug)]
pub(crate) struct Stream {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Stream {
    /// The next bytes, as they come; `None` at the end.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// The next line as JSON; `None` at the end.
    pub(crate) async fn next_json(&mut self) -> Result<Option<Value>, ApiError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| ApiError::NotJson { path: "a watch".to_owned(), error });
            }
            match self.next_bytes().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }
}

async fn collect(body: Incoming, path: &str) -> Result<Bytes, ApiError> {
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
    body.map(Collected::to_bytes).map_err(|_| ApiError::Body(path.to_owned()))
}

async fn refused(response: Response<Incoming>, path: &str) -> ApiError {
    let code = response.status().as_u16();
    let bytes = match collect(response.into_body(), path).await {
        Ok(bytes) => bytes,
        Err(error) => return error,
    };
    let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let text = |field: &str| status[field].as_str().map(str::to_owned);
    let cause = |cause: &Value| {
        let text = |field: &str| cause[field].as_str().unwrap_or_default().to_owned();
        (text("field"), text("message"))
    };
    ApiError::Refused {
        code,
        reason: text("reason").unwrap_or_else(|| "InternalError".to_owned()),
        causes: status["details"]["causes"].as_array().into_iter().flatten().map(cause).collect(),
        message: text("message").unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn start_command(mesh: &str) -> String {
    if mesh == "default" { "ironmesh up".to_owned() } else { format!("ironmesh --mesh {mesh} up") }
}

/// How long an answer may take, or the head of one that comes bit by bit. Longer than the control
/// plane waits for its own snapshot.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Asks for objects.
pub(crate) const JSON: &str = "application/json";
/// Asks for tables.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_control_plane_that_is_silent_is_not_waited_for_for_ever() {
        let name = format!("ironmesh-silent-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        // It takes connections and says nothing, as a stopped process does.
        let listener = UnixListener::bind_addr(&address).unwrap();
        let mut api = Api::of_socket("quiet", &name);
        api.answer_timeout = Duration::from_millis(50);
        for failed in [api.get("/api/v1/pods").await.err(), api.stream("/x", JSON).await.err()] {
            let said = failed.unwrap().to_string();
            assert!(
                said.starts_with("the control plane of mesh \"quiet\" does not answer"),
                "{said}"
            );
        }
        drop(listener);
        assert!(matches!(api.get("/").await, Err(ApiError::NotRunning { .. })));
    }
}
