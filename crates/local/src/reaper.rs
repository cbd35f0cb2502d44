//! The ends of child processes. As PID 1 of the mesh the agent inherits every orphan, so it waits
//! for any child, and tells the end to whoever expects it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a child ended: its exit status, 128 and the number of the signal if one ended it.
pub(crate) type ExitStatus = i32;

/// Waits for children. Children must be started and registered on the thread of the agent, without
/// an `await` in between, so that no end is missed.
#[derive(Clone, Default)]
pub(crate) struct Reaper {
    expected: Rc<RefCell<HashMap<i32, oneshot::Sender<ExitStatus>>>>,
}

impl Reaper {
    /// The end of a child that was just started.
    pub(crate) fn expect(&self, pid: i32) -> oneshot::Receiver<ExitStatus> {
        let (sender, receiver) = oneshot::channel();
        self.expected.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Waits for children, for ever.
    ///
    /// # Errors
    ///
    /// If the process cannot wait for signals.
    pub(crate) async fn run(self) -> io::Result<()> {
        let mut ended = signal(SignalKind::child())?;
        loop {
            self.reap();
            if ended.recv().await.is_none() {
                return Ok(());
            }
        }
    }

    fn reap(&self) {
        loop {
            let (pid, status) = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
                Ok(_) | Err(_) => continue,
            };
            if let Some(expecting) = self.expected.borrow_mut().remove(&pid.as_raw()) {
                // Whoever expected it may have lost interest.
                let _ = expecting.send(status);
            }
        }
    }
}
