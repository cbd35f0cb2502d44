//! The way into a mesh: from `ironmesh up` to an agent that is PID 1 of namespaces of its own.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use super::SandboxError;

/// What the mesh's own namespaces are like.
#[derive(Clone, Debug)]
pub struct MeshSpec {
    /// Address of the mesh itself, on its loopback interface: the pods' gateway.
    pub address: Ipv4Addr,
    /// Network of the Services (address, prefix length), which gets a route, so that processes of
    /// the mesh's root network namespace reach them too.
    pub services: (Ipv4Addr, u8),
    /// Host name inside.
    pub hostname: String,
}

/// On which side of the fork this process is.
#[derive(Debug)]
pub enum Entered {
    /// The process that called, outside as before.
    Outside {
        /// The agent, as seen from here.
        agent: i32,
        /// While this is open the mesh lives; the agent sees its end.
        lifeline: OwnedFd,
    },
    /// The new process: PID 1, in the namespaces of the mesh.
    Inside {
        /// At its end the process outside has died, and this one must exit.
        lifeline: OwnedFd,
        /// Whether the mesh was started by real root, so that it has no user namespace of its own
        /// and pods can have users of their own.
        root: bool,
    },
}

/// Directory that exists in a mesh, private to it, empty and in memory.
pub const RUN_DIRECTORY: &str = "/run/ironmesh";

/// Forks into new namespaces: user (unless root), mount, PID, network, UTS and IPC.
///
/// Inside, `/proc`, `/sys` and `/run` are the mesh's own, `lo` is up with the mesh's address, and
/// forwarding is on; the host's other directories are as outside. The child dies with its parent.
/// It returns only when the inside is ready.
///
/// To be called from the main thread of a process that has no other.
///
/// # Errors
///
/// The step that failed, and nothing is left of it.
pub fn enter_mesh(spec: &MeshSpec) -> Result<Entered, SandboxError> {
    let _ = spec;
    Err(SandboxError::new("enter", "the mesh: not written yet", 0))
}
