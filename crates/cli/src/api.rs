//! The API of a mesh, for verbs: the client, and errors that say what to do.

mod path;

use std::io;

use http::Method;
use ironmesh_client::{Address, Client, Error, Limits};
use serde_json::Value;

pub(crate) use ironmesh_client::JSON;
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
    /// The socket cannot be used.
    #[error("the control plane cannot be reached: {0}")]
    Io(#[from] io::Error),
    /// The server has not answered.
    #[error(
        "the control plane of mesh {mesh:?} does not answer; `ironmesh status` shows whether it runs"
    )]
    Silent {
        /// The mesh.
        mesh: String,
    },
    /// Somebody else has the mesh's socket: names of abstract sockets are free for all.
    #[error("the socket of mesh {mesh:?} belongs to user {uid}, not to you; nothing was sent")]
    Stranger {
        /// The mesh.
        mesh: String,
        /// Who listens.
        uid: u32,
    },
    /// Something else.
    #[error("the control plane: {0}")]
    Other(Error),
}

impl ApiError {
    fn of(error: Error, mesh: &str) -> Self {
        let mesh = mesh.to_owned();
        match error {
            Error::NotRunning => Self::NotRunning { mesh },
            Error::Stranger(uid) => Self::Stranger { mesh, uid },
            Error::Silent => Self::Silent { mesh },
            Error::Io(error) => Self::Io(error),
            Error::Refused { code, reason, message, causes } => {
                Self::Refused { code, reason, message, causes }
            }
            other => Self::Other(other),
        }
    }

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
    client: Client,
}

impl Api {
    /// The API of a mesh of the calling user.
    pub(crate) fn of_mesh(mesh: &str) -> Self {
        Self::of_mesh_within(mesh, Limits::default())
    }

    /// The same, within limits.
    pub(crate) fn of_mesh_within(mesh: &str, limits: Limits) -> Self {
        let uid = nix::unistd::geteuid().as_raw();
        let socket = ironmesh_local::agent_api::api_socket(uid, mesh);
        Self::within(mesh, &socket, limits)
    }

    /// The API behind an abstract socket.
    pub(crate) fn of_socket(mesh: &str, socket: &str) -> Self {
        Self::within(mesh, socket, Limits::default())
    }

    fn within(mesh: &str, socket: &str, limits: Limits) -> Self {
        let client = Client::new(Address::Abstract(socket.to_owned()), limits);
        Self { mesh: mesh.to_owned(), client }
    }

    /// Reads an object or a list.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.request(Method::GET, path, JSON, None).await
    }

    /// Reads an object or a list as the server renders it for people.
    pub(crate) async fn table(&self, path: &str) -> Result<Value, ApiError> {
        self.request(Method::GET, path, TABLE, None).await
    }

    /// Creates an object.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.request(Method::POST, path, JSON, Some((JSON, body))).await
    }

    /// Replaces an object.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.request(Method::PUT, path, JSON, Some((JSON, body))).await
    }

    /// Changes the fields of an object that `patch` names; `null` removes one.
    pub(crate) async fn merge(&self, path: &str, patch: &Value) -> Result<Value, ApiError> {
        self.request(Method::PATCH, path, JSON, Some((MERGE_PATCH, patch))).await
    }

    /// Changes an object by a patch of a media type.
    pub(crate) async fn patch(
        &self,
        path: &str,
        media_type: &str,
        patch: &Value,
    ) -> Result<Value, ApiError> {
        self.request(Method::PATCH, path, JSON, Some((media_type, patch))).await
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.request(Method::DELETE, path, JSON, None).await
    }

    /// Reads an answer that comes bit by bit: a log, or the events of a watch.
    pub(crate) async fn stream(&self, path: &str, accept: &str) -> Result<Stream, ApiError> {
        let stream = self.noticed(self.client.stream(path, accept)).await;
        let stream = stream.map_err(|error| ApiError::of(error, &self.mesh))?;
        Ok(Stream { mesh: self.mesh.clone(), stream })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<Value, ApiError> {
        let answer = self.noticed(self.client.request(method, path, accept, body)).await;
        answer.map_err(|error| ApiError::of(error, &self.mesh))
    }

    /// Waits for an answer, and tells its user if that takes long.
    async fn noticed<T>(&self, answer: impl Future<Output = T>) -> T {
        let mut answer = std::pin::pin!(answer);
        if let Ok(answer) = tokio::time::timeout(NOTICE_AFTER, &mut answer).await {
            return answer;
        }
        let mesh = &self.mesh;
        crate::say::notice(&format!(
            "the control plane of mesh {mesh:?} has not answered yet; still waiting"
        ));
        answer.await
    }
}

/// An answer that comes bit by bit.
#[derive(Debug)]
pub(crate) struct Stream {
    mesh: String,
    stream: ironmesh_client::Stream,
}

impl Stream {
    /// The next bytes, as they come; `None` at the end.
    pub(crate) async fn next_bytes(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        self.stream.next_bytes().await.map_err(|error| ApiError::of(error, &self.mesh))
    }

    /// The next line as JSON; `None` at the end.
    pub(crate) async fn next_json(&mut self) -> Result<Option<Value>, ApiError> {
        self.stream.next_json().await.map_err(|error| ApiError::of(error, &self.mesh))
    }
}

/// What starts a mesh of a name.
pub(crate) fn start_command(mesh: &str) -> String {
    if mesh == "default" { "ironmesh up".to_owned() } else { format!("ironmesh --mesh {mesh} up") }
}

/// How long an answer may take before its user is told that it is waited for.
const NOTICE_AFTER: std::time::Duration = std::time::Duration::from_secs(5);
/// Asks for tables.
pub(crate) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io, application/json";
/// The media type of a merge patch (RFC 7386).
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
/// The media type of a JSON patch (RFC 6902).
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";
/// The media type of a configuration that the server applies.
pub(crate) const APPLY_PATCH: &str = "application/apply-patch+yaml";
/// The media type of Kubernetes' own patch, which merges lists by the keys of their items.
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_control_plane_that_is_silent_is_not_waited_for_for_ever() {
        let name = format!("ironmesh-silent-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        // It takes connections and says nothing, as a stopped process does.
        let listener = UnixListener::bind_addr(&address).unwrap();
        let limits = Limits { answer_timeout: Duration::from_millis(50), ..Limits::default() };
        let api = Api::within("quiet", &name, limits);
        for failed in [api.get("/api/v1/pods").await.err(), api.stream("/x", JSON).await.err()] {
            let said = failed.unwrap().to_string();
            assert!(
                said.starts_with("the control plane of mesh \"quiet\" does not answer"),
                "{said}"
            );
        }
        // Also when not even a connection can be made, since the queue of connections is full.
        let mut waiting = Vec::new();
        while let Ok(stream) = tokio::net::UnixStream::connect(format!("\0{name}")).await {
            waiting.push(stream);
        }
        let said = api.get("/api/v1/pods").await.unwrap_err().to_string();
        assert!(said.starts_with("the control plane of mesh \"quiet\" does not answer"), "{said}");
        drop(listener);
        assert!(matches!(api.get("/").await, Err(ApiError::NotRunning { .. })));
    }
}
