//! Namespaces, roots and processes of the local platform.
//!
//! - [`mesh`]: from `ironmesh up` into the namespaces of the mesh, whose PID 1 is the agent.
//! - [`pod`]: the user, network, host name and IPC namespaces that the containers of a pod share.
//! - [`container`]: one container: its own root, its own processes, and the capabilities of a container,
//!   which count in the pod's namespaces alone.
//! - [`exec`]: one more command inside a running container.
//! - [`proxy`]: a proxy in a pod's network, with nothing but the right to mark its connections.
//!
//! What must happen between `fork` and `exec` is more than a process with threads may do, so each
//! child begins as a *stage*: this same binary, executed as `internal STAGE`, single-threaded, with
//! its instructions and descriptors under fixed numbers. [`stage`] runs it.

pub(crate) mod beneath;
pub(crate) mod capabilities;
pub mod container;
pub(crate) mod error;
pub mod exec;
mod init;
pub mod mesh;
pub(crate) mod mounts;
pub mod namespaces;
mod owners;
pub mod pod;
mod program;
pub mod proxy;
mod root;
pub(crate) mod route;
mod spawn;
mod system_calls;
pub(crate) mod user_ranges;
pub(crate) mod users;

use std::process::ExitCode;

pub use error::SandboxError;
pub use program::ProgramFile;
pub(crate) use spawn::spawn_stage;
pub use spawn::{Spawned, StageStatus};
pub use users::{PROXY_USER, USERS_PER_NAMESPACE};

/// Runs the stage of this name in this process, which must be freshly executed and have one thread:
/// `container`, `exec` or `proxy-stage`. `None` if the name is none of these.
///
/// The stage that becomes a proxy returns only when it failed.
#[must_use]
pub fn stage(name: &str) -> Option<ExitCode> {
    match name {
        container::STAGE => Some(container::stage()),
        exec::STAGE => Some(exec::stage()),
        proxy::STAGE => Some(proxy::stage()),
        _ => None,
    }
}
