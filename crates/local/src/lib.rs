//! The local platform: a mesh on one Linux machine, made of namespaces.
//!
//! ```text
//! ironmesh up           host side: sockets on the loopback and for egress  (host)
//!  └ agent              PID 1 of the mesh, kubelet, names, plain Services   (agent, kubelet, dns)
//!     ├ control         API, CA, push; restarted by the agent               (control_process)
//!     ├ proxy           one per injected pod and per gateway                (kubelet::proxy)
//!     └ containers      each with its own root and processes                (kubelet::launch)
//! ```
//!
//! The command line speaks with the agent by [`agent_api`].

mod addresses;
mod agent;
pub mod agent_api;
mod agent_server;
mod backoff;
pub mod carry;
mod clock;
mod control_process;
mod directory;
mod dns;
mod egress;
mod environment;
mod events;
mod exposure;
mod externals;
mod gateways;
mod health;
mod host;
mod host_link;
mod images;
mod kubelet;
mod logs;
mod node;
mod object;
mod options;
mod path_name;
mod pod_status;
pub mod preflight;
mod reaper;
mod reflector;
mod relay;
pub mod sandbox;
mod seqpacket;
mod usage;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub use addresses::{PROXY_PORTS, marks};
pub use externals::{External, NotExternal};
pub use host::programs::image_store;
pub use images::{BadImageMapping, image_mapping_in};
pub use options::{Apply, UpOptions};

use crate::preflight::Refusal;
use crate::sandbox::SandboxError;
use crate::sandbox::user_ranges::NoUsers;

/// Why a mesh could not be started or came to an end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpError {
    /// A mesh of this name runs already.
    #[error("a mesh called {mesh:?} is running already (`ironmesh --mesh {mesh} down` ends it)")]
    Running {
        /// Name of the mesh.
        mesh: String,
    },
    /// The name of the mesh is none: it is part of the paths of its folders, and of its host name.
    #[error(
        "{mesh:?} is no name of a mesh: letters, digits, '-', '_' and '.', at most \
         {MESH_NAME_BYTES_MAX}, and a letter or digit at the beginning"
    )]
    Name {
        /// What was given.
        mesh: String,
    },
    /// The machine does not allow a mesh.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The namespaces could not be made, although a trial could.
    #[error("{0}")]
    Enter(SandboxError),
    /// A mapping of images cannot be read.
    #[error(transparent)]
    Image(#[from] BadImageMapping),
    /// A folder cannot be used.
    #[error("folder {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manifests could not be applied.
    #[error("{message}")]
    Apply {
        /// Why.
        message: String,
    },
    /// The agent, and with it the mesh, ended with an error.
    #[error("the mesh ended: {message}")]
    Agent {
        /// Why.
        message: String,
    },
    /// There are more names of `--external` than there may be.
    #[error("--external: {message}")]
    External {
        /// Why.
        message: String,
    },
    /// There are no users for the pods.
    #[error(transparent)]
    Users(#[from] NoUsers),
    /// The host refused something else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Whether a text is the name of a mesh: letters, digits, `-`, `_` and `.`, with a letter or digit at
/// the beginning, at most [`MESH_NAME_BYTES_MAX`] bytes. It becomes a part of paths, and of the mesh's
/// host name.
pub fn is_mesh_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= MESH_NAME_BYTES_MAX
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(is_part)
}

/// Bytes of the longest name of a mesh: with `ironmesh-` before it, it is a host name of Linux.
pub const MESH_NAME_BYTES_MAX: usize = 55;

/// Starts a mesh and keeps it until it is told to end; with `detach` only until all is ready.
/// To be called from the main thread, before the process has any other thread or a runtime.
///
/// # Errors
///
/// If the machine does not allow it, with the remedy; if a mesh of this name runs; if the manifests
/// cannot be applied.
pub fn up(options: UpOptions) -> Result<ExitCode, UpError> {
    host::up(options)
}

/// Waits, as `up` with `detach` does, until everything of a mesh that runs is ready, and says so. False:
/// something is not, and nothing has become so for `progress_timeout`; it was named.
pub async fn await_ready(mesh: &str, page: &str, progress_timeout: Duration) -> bool {
    host::await_ready(mesh, page, progress_timeout).await
}

/// What of a mesh that runs is not ready, or runs again after it has crashed in the last ten minutes, each
/// in a line with what was last reported of it.
pub async fn troubles(mesh: &str) -> Vec<String> {
    host::troubles(mesh).await
}

/// Runs a stage of the local platform: `ironmesh internal STAGE ...`, `args` without `internal`.
/// To be called before the process has any thread or runtime.
pub fn internal(args: &[OsString]) -> ExitCode {
    let Some(stage) = args.first().and_then(|stage| stage.to_str()) else {
        return ExitCode::FAILURE;
    };
    match (stage, args.get(1)) {
        (control_process::STAGE, _) => return control_process::stage(),
        (host::pull::STAGE, _) => return host::pull::stage(),
        (host::memory::STAGE, Some(folder)) => return host::memory::sweep(Path::new(folder)),
        _ => {}
    }
    sandbox::stage(stage).unwrap_or(ExitCode::FAILURE)
}
