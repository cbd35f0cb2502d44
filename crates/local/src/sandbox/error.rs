//! What failed while a sandbox was made.

use std::fmt;
use std::io;

use ironmesh_capture::KernelError;
use serde::{Deserialize, Serialize};

/// A step on the way to a sandbox that the kernel refused, or an object that was not as it must be.
///
/// It travels as JSON from the process where it happened to the one that tells a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxError {
    /// What was tried, to be read after "cannot": `mount overlay`.
    pub step: String,
    /// On what: a path, an interface, a program.
    pub object: String,
    /// The kernel's error number; 0 where the kernel was not asked.
    pub errno: i32,
}

impl SandboxError {
    /// An error of this step.
    pub fn new(step: &str, object: impl fmt::Display, errno: i32) -> Self {
        Self { step: step.to_owned(), object: object.to_string(), errno }
    }
}

impl fmt::Display for SandboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.step)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        if self.errno != 0 {
            write!(f, ": {}", io::Error::from_raw_os_error(self.errno))?;
        }
        Ok(())
    }
}

impl std::error::Error for SandboxError {}

impl From<KernelError> for SandboxError {
    fn from(KernelError { step, object, errno }: KernelError) -> Self {
        Self { step, object, errno }
    }
}

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
