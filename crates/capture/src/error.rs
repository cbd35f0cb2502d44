//! What the kernel refused.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// A step that the kernel refused, or an object that was not as it must be.
///
/// It travels as JSON from the process where it happened to the one that tells a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelError {
    /// What was tried, to be read after "cannot": `create interface`.
    pub step: String,
    /// On what: an interface, a chain of rules, a path.
    pub object: String,
    /// The kernel's error number; 0 where the kernel was not asked.
    pub errno: i32,
}

impl KernelError {
    /// An error of this step.
    pub fn new(step: &str, object: impl fmt::Display, errno: i32) -> Self {
        Self { step: step.to_owned(), object: object.to_string(), errno }
    }
}

impl fmt::Display for KernelError {
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

impl std::error::Error for KernelError {}
