//! What the containers of a pod share: network, host name and IPC namespaces.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::SandboxError;

/// What a pod's namespaces are like.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Number of the pod, unique in the mesh as long as the pod lives; below 65 000. It names the
    /// pod's interface in the mesh's root namespace (`v7`).
    pub index: u32,
    /// Address of the pod.
    pub ip: Ipv4Addr,
    /// Address of the mesh, the pod's gateway.
    pub gateway: Ipv4Addr,
    /// Host name.
    pub hostname: String,
}

/// A pod's namespaces. They end when this is dropped and the pod's last process has ended.
#[derive(Debug)]
pub struct PodSandbox {
    ip: Ipv4Addr,
    netns: OwnedFd,
    utsns: OwnedFd,
    ipcns: OwnedFd,
}

impl PodSandbox {
    /// Makes the namespaces, and connects them to the caller's network namespace, which must be the
    /// mesh's root one. Blocks for a millisecond or two; may be called on any thread.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn create(spec: &PodSpec) -> Result<Self, SandboxError> {
        let _ = spec;
        Err(SandboxError::new("create", "the pod: not written yet", 0))
    }

    /// Address of the pod.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The network namespace.
    #[must_use]
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// The UTS namespace: host name.
    #[must_use]
    pub fn utsns(&self) -> BorrowedFd<'_> {
        self.utsns.as_fd()
    }

    /// The IPC namespace.
    #[must_use]
    pub fn ipcns(&self) -> BorrowedFd<'_> {
        self.ipcns.as_fd()
    }

    /// Runs `work` on a thread of its own in the pod's network namespace. Sockets made there stay
    /// there.
    ///
    /// # Errors
    ///
    /// The step that failed; `work`'s own result is inside.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SandboxError> {
        in_netns(self.netns.as_fd(), work)
    }

    /// A listening TCP socket in the pod: non-blocking, with `SO_REUSEADDR`.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn listen(&self, address: SocketAddrV4) -> Result<TcpListener, SandboxError> {
        let _ = address;
        Err(SandboxError::new("listen", "not written yet", 0))
    }

    /// An unconnected, non-blocking TCP socket of the pod's network with this mark, for a
    /// connection that capture leaves alone.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn marked_socket(&self, mark: u32) -> Result<OwnedFd, SandboxError> {
        let _ = mark;
        Err(SandboxError::new("make", "a socket: not written yet", 0))
    }
}

/// As [`PodSandbox::in_netns`], for a network namespace known by descriptor alone.
///
/// # Errors
///
/// The step that failed; `work`'s own result is inside.
pub fn in_netns<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T, SandboxError> {
    let _ = (netns, work);
    Err(SandboxError::new("enter", "not written yet", 0))
}
