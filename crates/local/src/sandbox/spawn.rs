//! Starting a stage: fork, descriptors to their agreed numbers, exec of this very binary.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use ironmesh_fds as fds;
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::mesh::clone_into;

/// Number under which a stage finds its instructions (JSON).
pub(crate) const SPEC_FD: RawFd = 3;
/// Number under which a stage finds the pipe that it reports on.
pub(crate) const STATUS_FD: RawFd = 4;

/// A stage that was started.
#[derive(Debug)]
pub struct Spawned {
    /// The child. Its exit status is that of what it runs, `128 + n` after signal n.
    pub pid: i32,
    /// What becomes of it.
    pub status: StageStatus,
}

/// The reports of a stage: ended by the stage's success or failure.
#[derive(Debug)]
pub struct StageStatus(OwnedFd);

/// One line of a stage's report.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// The first process of the container or command, as the agent's PID namespace counts.
    Started(i32),
    /// It did not work.
    Failed(SandboxError),
}

impl StageStatus {
    pub(crate) fn new(read_end: OwnedFd) -> Self {
        Self(read_end)
    }

    /// Waits until the program runs, or did not come to run.
    ///
    /// The result is the process id of the container's first process (its init), by which
    /// [`super::exec`] finds the container. This blocks for some milliseconds.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn wait(self) -> Result<i32, SandboxError> {
        let mut text = String::new();
        File::from(self.0)
            .read_to_string(&mut text)
            .map_err(|error| SandboxError::new("read the stage's report:", error, 0))?;
        Self::parse(&text)
    }

    /// The descriptor, for who waits for its end otherwise; what was read goes to
    /// [`parse`](Self::parse).
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Reads a whole report.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn parse(text: &str) -> Result<i32, SandboxError> {
        let mut started = None;
        for line in text.lines() {
            match serde_json::from_str(line) {
                Ok(Report::Started(pid)) => started = Some(pid),
                Ok(Report::Failed(error)) => return Err(error),
                Err(error) => {
                    return Err(SandboxError::new("understand the stage's report:", error, 0));
                }
            }
        }
        started.ok_or_else(|| SandboxError::new("start", "the stage: it ended at once", 0))
    }
}

/// Starts `internal STAGE`. Each descriptor is found there under its number; 0, 1 and 2 are
/// `/dev/null` unless given, and nothing else is inherited.
pub(crate) fn spawn_stage(
    stage: &str,
    environment: &[CString],
    descriptors: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<i32> {
    spawn_into(CloneFlags::empty(), stage, environment, descriptors)
}

/// Starts `internal STAGE` as PID 1 of a new PID namespace. All signals are blocked there, so that
/// none is lost before the stage waits for them: PID 1 ignores what it neither handles nor blocks.
pub(crate) fn spawn_init_stage(
    stage: &str,
    descriptors: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<i32> {
    spawn_into(CloneFlags::CLONE_NEWPID, stage, &[], descriptors)
}

fn spawn_into(
    namespaces: CloneFlags,
    stage: &str,
    environment: &[CString],
    descriptors: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<i32> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let mut moves: Vec<(RawFd, RawFd)> = (0..3).map(|number| (null.as_raw_fd(), number)).collect();
    moves.extend(descriptors.iter().map(|(fd, number)| (fd.as_raw_fd(), *number)));
    let highest = moves.iter().map(|(_, number)| *number).max().unwrap_or(2);
    let arguments = [c"ironmesh".to_owned(), c"internal".to_owned(), CString::new(stage)?];
    let (argv, envp) = (pointers(&arguments), pointers(environment));
    let is_init = namespaces.contains(CloneFlags::CLONE_NEWPID);
    let blocked = if is_init { SigSet::all() } else { SigSet::empty() };
    if let Some(child) = clone_into(namespaces)? {
        return Ok(child.as_raw());
    }
    let kept_none = fds::close_on_exec_from(3);
    if kept_none.and_then(|()| arrange(&mut moves, highest)).is_ok() {
        // The stage decides for itself which signals it takes.
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None);
        execute(&argv, &envp);
    }
    exit_at_once(127)
}

/// Becomes another run of this binary; comes back if that fails.
#[expect(unsafe_code, reason = "exec with memory prepared before the fork")]
fn execute(argv: &[*const libc::c_char], envp: &[*const libc::c_char]) {
    // SAFETY: both arrays end with null, and their strings live in the caller's frame.
    unsafe { libc::execve(c"/proc/self/exe".as_ptr(), argv.as_ptr(), envp.as_ptr()) };
}

/// Ends a child without running its parent's exit handlers.
#[expect(unsafe_code, reason = "_exit")]
fn exit_at_once(code: i32) -> ! {
    // SAFETY: it takes a number and ends the process.
    unsafe { libc::_exit(code) }
}

/// The array of pointers that `execve(2)` takes.
pub(crate) fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

/// Puts every descriptor under its number, in two rounds, as numbers and sources may overlap.
/// Makes system calls only: this runs between fork and exec.
#[expect(unsafe_code, reason = "descriptors by number, between fork and exec")]
fn arrange(moves: &mut [(RawFd, RawFd)], highest: RawFd) -> nix::Result<()> {
    for (source, _) in moves.iter_mut() {
        // SAFETY: the source is open; the copy is this process's own.
        let copy = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, highest + 1) };
        *source = nix::Error::result(copy)?;
    }
    for (source, number) in moves.iter() {
        // SAFETY: what was open under the number is not used by this process any more.
        nix::Error::result(unsafe { libc::dup2(*source, *number) })?;
    }
    Ok(())
}
