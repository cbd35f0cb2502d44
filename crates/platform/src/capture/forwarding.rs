//! Plain Services for who has no proxy: each connection to a Service's address goes to the next of
//! its endpoints, by nf_tables rules in the mesh's root network namespace.

use std::net::SocketAddrV4;

use crate::sandbox::SandboxError;

/// Transport protocol of a Service's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedPort {
    /// Address and port that callers use.
    pub address: SocketAddrV4,
    /// Its protocol.
    pub transport: Transport,
    /// Where its connections go, strictly in turn. None: they are refused.
    pub endpoints: Vec<SocketAddrV4>,
}

/// The rules of all Services, as they are in the kernel.
#[derive(Debug, Default)]
pub struct Forwarding {}

impl Forwarding {
    /// Makes the rules of the calling thread's network namespace those of `ports`. Only what differs
    /// from the last call is sent. Open connections stay where they are, and a changed list of
    /// endpoints goes on after the last one that was begun with.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn apply(&mut self, ports: &[ForwardedPort]) -> Result<(), SandboxError> {
        let _ = ports;
        Err(SandboxError::new("install", "Service rules: not written yet", 0))
    }
}
