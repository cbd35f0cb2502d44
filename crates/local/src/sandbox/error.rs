//! What failed while a sandbox was made.

use std::fmt;
use std::io;

use ironmesh_capture::KernelError;

/// A step on the way to a sandbox that failed: told as capture tells its own.
pub type SandboxError = KernelError;

/// Names the step that an error of the kernel belongs to.
pub(crate) trait AtStep<T> {
    /// The step, to be read after "cannot", and what it was done to.
    fn step(self, step: &str, object: impl fmt::Display) -> Result<T, SandboxError>;
}

impl<T> AtStep<T> for nix::Result<T> {
    fn step(self, step: &str, object: impl fmt::Display) -> Result<T, SandboxError> {
        self.map_err(|errno| SandboxError::new(step, object, errno as i32))
    }
}

impl<T> AtStep<T> for io::Result<T> {
    fn step(self, step: &str, object: impl fmt::Display) -> Result<T, SandboxError> {
        self.map_err(|error| {
            let errno = error.raw_os_error();
            match errno {
                Some(errno) => SandboxError::new(step, object, errno),
                None => SandboxError::new(step, format!("{object}: {error}"), 0),
            }
        })
    }
}
