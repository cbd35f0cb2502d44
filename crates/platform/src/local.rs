//! The local platform: a mesh on one Linux machine, made of namespaces.

pub mod agent_api;
mod backoff;
mod base64;
mod clock;
mod environment;
mod images;
mod object;
mod options;

use std::process::ExitCode;

pub use options::{Apply, UpOptions};

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
}

/// Starts a mesh and keeps it until it is told to end; with `detach` only until all is ready.
/// To be called before the process has any thread or runtime.
///
/// # Errors
///
/// If the machine does not allow it, with the remedy.
pub fn up(options: UpOptions) -> Result<ExitCode, UpError> {
    Err(UpError::Running { mesh: options.mesh })
}

/// Runs a stage of the local platform: `ironmesh internal STAGE ...`, `args` without `internal`.
/// To be called before the process has any thread or runtime.
pub fn internal(args: &[std::ffi::OsString]) -> ExitCode {
    let _ = args;
    ExitCode::FAILURE
}
