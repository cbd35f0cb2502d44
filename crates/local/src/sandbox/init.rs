//! The process between the agent and a program: it passes signals down, and the status up.
//!
//! ```text
//! agent ── init (PID 1 of the container) ── program
//! agent ── stage of an exec ── command
//! ```
//!
//! A program that were PID 1 itself would ignore every signal that it does not handle, SIGTERM
//! included, and would have to reap orphans.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::ExitCode;

use ironmesh_fds as fds;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout};

use super::SandboxError;
use super::error::AtStep;
use super::spawn::{Report, STATUS_FD};

/// Runs a stage that starts a program and stays until it has ended. `start` gets the pipe that the
/// stage reports on; its result is the exit code, and its failure is reported.
pub(crate) fn stage(
    start: impl FnOnce(&mut Option<OwnedFd>) -> Result<u8, SandboxError>,
) -> ExitCode {
    let Ok(status) = fds::take_inherited(STATUS_FD) else { return ExitCode::FAILURE };
    let mut status = Some(status);
    match start(&mut status) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            fail(status.as_ref(), error);
            ExitCode::from(FAILED)
        }
    }
}

/// What is left for a stage to do after its fork: reports the child, lets go of what is the child's
/// alone, and stays until it has ended. `kept` is the end of a pipe by which the child knows that
/// this process lives.
pub(crate) fn stay<T>(
    status: &mut Option<OwnedFd>,
    child: Pid,
    childs: T,
    kept: OwnedFd,
) -> Result<u8, SandboxError> {
    report(status.take(), &Report::Started(child.as_raw()));
    release_streams()?;
    drop(childs);
    let code = supervise(child);
    drop(kept);
    Ok(code)
}

/// Keeps every signal for [`supervise`], which also makes PID 1 receive them at all.
pub(crate) fn block_signals() -> Result<(), SandboxError> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&forwarded()), None).step("block", "signals")
}

/// Passes signals on to `child` and reaps what ends, until `child` has ended; the result is its
/// status as a shell tells it.
pub(crate) fn supervise(child: Pid) -> u8 {
    let signals = forwarded();
    loop {
        if let Some(status) = reap(child) {
            return status;
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) | Err(_) => {}
            Ok(signal) => {
                // It may have ended just now.
                let _ = kill(child, signal);
            }
        }
    }
}

/// Has this process, and those that it forks from now on, be in a cgroup; `number` is that of the
/// descriptor of `cgroup.procs`, which is inherited.
pub(crate) fn join_cgroup(number: RawFd) -> Result<(), SandboxError> {
    let cgroup = fds::take_inherited(number).step("take", "the cgroup")?;
    File::from(cgroup).write_all(b"0").step("join", "the cgroup")
}

/// This process's id as the agent's PID namespace counts, whose `/proc` must still be mounted.
pub(crate) fn agents_pid() -> Result<i32, SandboxError> {
    let link = fs::read_link("/proc/self").step("read", "/proc/self")?;
    let number = link.to_str().and_then(|name| name.parse().ok());
    number.ok_or_else(|| SandboxError::new("read", "/proc/self as a number", libc::EINVAL))
}

/// Has the kernel kill this process when its parent dies. `lifeline` ends when the parent has died
/// before this was asked for.
pub(crate) fn die_with_parent(lifeline: &OwnedFd) -> Result<(), SandboxError> {
    prctl::set_pdeathsig(Signal::SIGKILL).step("ask for", "the parent-death signal")?;
    let mut polled = [PollFd::new(lifeline.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::ZERO) {
        Ok(0) => Ok(()),
        _ => Err(SandboxError::new("go on", "without the parent", libc::ESRCH)),
    }
}

/// Lets go of the standard streams, so that they end when the program's do.
pub(crate) fn release_streams() -> Result<(), SandboxError> {
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.step("open", "/dev/null")?;
    dup2_stdin(&null).step("release", "standard input")?;
    dup2_stdout(&null).step("release", "standard output")?;
    dup2_stderr(&null).step("release", "standard error")
}

/// Writes a line of the stage's report, and closes this process's end of it.
pub(crate) fn report(status: Option<OwnedFd>, line: &Report) {
    let (Some(status), Ok(mut text)) = (status, serde_json::to_vec(line)) else { return };
    text.push(b'\n');
    // Who does not read it any more does not want it.
    let _ = File::from(status).write_all(&text);
}

/// Reports a failure.
pub(crate) fn fail(status: Option<&OwnedFd>, error: SandboxError) {
    let copy = status.and_then(|status| status.try_clone().ok());
    report(copy, &Report::Failed(error));
}

fn reap(child: Pid) -> Option<u8> {
    let mut ended = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => ended = Some(code as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                ended = Some(128_u8.wrapping_add(signal as u8));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// All signals but those that a fault of this process itself would raise.
fn forwarded() -> SigSet {
    let mut signals = SigSet::all();
    for fault in [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP]
    {
        signals.remove(fault);
    }
    signals
}

/// Exit code of what failed before there was a program.
pub(crate) const FAILED: u8 = 125;
