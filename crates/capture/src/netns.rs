//! Work in another network namespace.

use std::os::fd::BorrowedFd;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::KernelError;

/// Runs `work` in a network namespace, on a thread that ends with it: a thread cannot be trusted to come
/// back.
///
/// # Errors
///
/// The step that failed; `work`'s own result is inside.
pub fn in_netns<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, KernelError> {
    let entered = || {
        setns(netns, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| KernelError::new("enter", "a network namespace", errno as i32))?;
        Ok(work())
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, entered)
            .map_err(|error| {
                KernelError::new("start", "a thread", error.raw_os_error().unwrap_or(0))
            })?;
        thread.join().map_err(|_| KernelError::new("finish", "the thread in a namespace", 0))?
    })
}
