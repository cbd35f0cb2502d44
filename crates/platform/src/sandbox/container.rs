//! One container: a root of its own, PID and mount namespaces of its own, no capabilities.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::Spawned;
use super::pod::PodSandbox;

/// Name of the stage.
pub const STAGE: &str = "container";

/// What a container is like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The program and its arguments. A program without a slash is looked for in `PATH` of
    /// `environment`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Working directory, made if absent. Default `/`.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// User and group. Honoured where the mesh was started by root; elsewhere there is only 0.
    #[serde(default)]
    pub user: Option<(u32, u32)>,
    /// First of the 65 536 users of the mesh's root that stand for the users of this container.
    /// Only where the mesh was started by root; none: the container's root is the mesh's.
    #[serde(default)]
    pub uid_base: Option<u32>,
    /// What is mounted over the root. Targets are made.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Files written into the root before anything runs, such as `/etc/hosts`.
    #[serde(default)]
    pub files: Vec<RootFile>,
    /// Directories of the host whose content is not to be seen, such as the user's home.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
    /// Bytes that the container may write outside its volumes; they are in memory.
    pub writable_bytes_max: u64,
}

/// Something mounted at a path of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// What.
    pub source: VolumeSource,
    /// Where, absolute.
    pub target: PathBuf,
    /// Whether it can only be read.
    #[serde(default)]
    pub read_only: bool,
}

/// What a volume is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A file or directory of the mesh's mount namespace, such as an emptyDir that containers share.
    Path(PathBuf),
    /// A fresh directory in memory, of this container alone, with at most so many bytes.
    Memory(u64),
}

/// A file of a container's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootFile {
    /// Where, absolute.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

/// Descriptors that a container begins with; those not given are `/dev/null`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainerIo<'a> {
    /// Standard input.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
    /// The program itself, where it is not in the container's root; `argv[0]` is then only a name.
    pub program: Option<BorrowedFd<'a>>,
}

/// Starts a container in a pod.
///
/// The child (`Spawned::pid`) lives as long as the container and ends with the status of its
/// program, `128 + n` after signal n. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and
/// SIGWINCH sent to it reach the program; SIGKILL ends the whole container. It may be called on any
/// thread of the agent.
///
/// # Errors
///
/// If no process could be made. All else is reported by `Spawned::status`.
pub fn spawn(pod: &PodSandbox, spec: &ContainerSpec, io: ContainerIo<'_>) -> io::Result<Spawned> {
    let _ = (pod, spec, io);
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn stage() -> ExitCode {
    ExitCode::FAILURE
}
