//! One more command inside a running container.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::Spawned;

/// Name of the stage.
pub(super) const STAGE: &str = "exec";

/// What is executed, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// First process of the container, as [`super::StageStatus::wait`] gave it.
    pub init: i32,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Working directory. Default `/`.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// User and group, as of the container.
    #[serde(default)]
    pub user: Option<(u32, u32)>,
    /// Whether the command gets a terminal of the container, rows and columns. Its master is sent
    /// over [`ExecIo::terminal`] before the command starts.
    #[serde(default)]
    pub terminal: Option<(u16, u16)>,
}

/// Descriptors that a command begins with; those not given are `/dev/null`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecIo<'a> {
    /// Standard input.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Where the master of the terminal is sent, with one byte: a unix socket.
    pub terminal: Option<BorrowedFd<'a>>,
}

/// Starts a command in a running container.
///
/// The child ends with the command's status (`128 + n` after signal n), passes signals on as
/// [`super::container::spawn`]'s does, and when it is killed the command dies.
///
/// # Errors
///
/// If no process could be made. All else is reported by `Spawned::status`.
pub fn spawn(spec: &ExecSpec, io: ExecIo<'_>) -> io::Result<Spawned> {
    let _ = (spec, io);
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn stage() -> ExitCode {
    ExitCode::FAILURE
}
