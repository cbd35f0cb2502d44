//! A proxy beside a pod: in its network, with nothing but the right to mark its connections.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::Spawned;
use super::pod::PodSandbox;

/// Name of the stage.
pub(super) const STAGE: &str = "proxy-stage";

/// Lowest number that a descriptor may have in a proxy.
pub const FD_MIN: RawFd = 16;

/// What is started as a proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxySpec {
    /// Arguments of this same binary: `internal proxy --bootstrap-fd 16`.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// User that the proxy runs as. Only where the mesh was started by root.
    #[serde(default)]
    pub user: Option<u32>,
}

/// Starts this binary in a pod's network namespace, in the mesh's user namespace, with CAP_NET_RAW
/// and no other capability; the file system is read-only to it.
///
/// `descriptors` are found in it under their numbers, each at least [`FD_MIN`]. Standard input is
/// `/dev/null`, standard output and standard error are `log`. The child *is* the proxy.
///
/// # Errors
///
/// If no process could be made. All else is reported by `Spawned::status`.
pub fn spawn(
    pod: &PodSandbox,
    spec: &ProxySpec,
    log: BorrowedFd<'_>,
    descriptors: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<Spawned> {
    let _ = (pod, spec, log, descriptors);
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn stage() -> ExitCode {
    ExitCode::FAILURE
}
