//! What the containers of a pod share: network, host name and IPC namespaces.
//!
//! A pod hangs on the mesh's root network namespace by a veth pair with host routes on both ends
//! and no bridge:
//!
//! ```text
//! mesh   lo 10.77.0.1/32          v7 ── route 10.77.0.9 dev v7
//!                                  │
//! pod    eth0 10.77.0.9/32 ────────┘    routes 10.77.0.1 dev eth0, default via 10.77.0.1
//! ```

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::thread;

use ironmesh_capture::netlink::{Batch, Connection, Subsystem};
use ironmesh_capture::{CaptureSpec, Exemption, OwnRules, in_netns};
use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

use super::SandboxError;
use super::error::AtStep;
use super::mesh::{write_network_settings, write_setting};
use super::namespaces::{Namespaces, PodUsers};
use super::route::{self, LOOPBACK, Mac, NextHop, VethEnd, VethPair};
use super::users::PROXY_USER;
use crate::addresses::{PROXY_PORTS, marks};

/// What a pod's namespaces are like.
#[derive(Clone, Debug)]
pub struct PodSpec {
    /// Number of the pod, below 65 000. It names the pod's interface in the mesh's root namespace
    /// (`v7`). Neither number nor address can be used again until the kernel has taken down the old
    /// pod's namespaces, which goes on for up to a second after its end.
    pub index: u32,
    /// Address of the pod.
    pub ip: Ipv4Addr,
    /// Address of the mesh, the pod's gateway.
    pub gateway: Ipv4Addr,
    /// Host name.
    pub hostname: String,
    /// Settings of the kernel that concern the pod's network alone, by name
    /// (`net.ipv4.tcp_syncookies`).
    pub sysctls: Vec<(&'static str, String)>,
    /// Its users, where root started the mesh; elsewhere it has the mesh's single one.
    pub users: Option<PodUsers>,
}

/// A pod's namespaces. They end when this is dropped and the pod's last process has ended.
#[derive(Debug)]
pub struct PodSandbox {
    ip: Ipv4Addr,
    gateway: Ipv4Addr,
    users: Option<PodUsers>,
    namespaces: Namespaces,
    /// Capture's rules, once they are there.
    rules: Mutex<Option<OwnRules>>,
}

impl PodSandbox {
    /// Makes the namespaces, and connects them to the caller's network namespace, which must be the
    /// mesh's root one. Blocks for a millisecond or two; may be called on any thread.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn create(spec: &PodSpec) -> Result<Self, SandboxError> {
        on_own_thread(|| Self::create_here(spec))?
    }

    /// Address of the pod.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// The network namespace.
    #[must_use]
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.namespaces.net.as_fd()
    }

    /// The user namespace, which owns the others.
    #[must_use]
    pub fn userns(&self) -> BorrowedFd<'_> {
        self.namespaces.users.as_fd()
    }

    /// What tells the pod's proxy and probes from its applications, in capture's rules.
    #[must_use]
    pub fn exemption(&self) -> Exemption {
        marks(self.users.map(|_| PROXY_USER))
    }

    /// Leads the pod's traffic through its proxy, by rules that only this sandbox can change: those
    /// of its applications that may change the pod's network leave them there when they flush theirs.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn capture(&self) -> Result<(), SandboxError> {
        let spec = CaptureSpec {
            ports: PROXY_PORTS,
            exemption: self.exemption(),
            pod: Some(self.ip),
            resolver: Some(self.gateway),
        };
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        match &*rules {
            Some(rules) => rules.replace(&spec),
            None => OwnRules::install(self.netns(), &spec).map(|new| *rules = Some(new)),
        }
    }

    /// The UTS namespace: host name.
    #[must_use]
    pub fn utsns(&self) -> BorrowedFd<'_> {
        self.namespaces.uts.as_fd()
    }

    /// The IPC namespace.
    #[must_use]
    pub fn ipcns(&self) -> BorrowedFd<'_> {
        self.namespaces.ipc.as_fd()
    }

    /// Runs `work` on a thread of its own in the pod's network namespace. Sockets made there stay
    /// there.
    ///
    /// # Errors
    ///
    /// The step that failed; `work`'s own result is inside.
    pub fn in_netns<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, SandboxError> {
        in_netns(self.namespaces.net.as_fd(), work)
    }

    /// A listening TCP socket in the pod: non-blocking, with `SO_REUSEADDR`.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn listen(&self, address: SocketAddrV4) -> Result<TcpListener, SandboxError> {
        self.in_netns(|| {
            let socket = tcp_socket()?;
            socket.set_reuse_address(true).step("reuse", address)?;
            socket.bind(&address.into()).step("bind", address)?;
            socket.listen(BACKLOG).step("listen on", address)?;
            Ok(socket.into())
        })?
    }

    /// An unconnected, non-blocking TCP socket of the pod's network with this mark, which belongs to
    /// the proxy's user: for a connection that capture leaves alone.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn marked_socket(&self, mark: u32) -> Result<OwnedFd, SandboxError> {
        self.in_netns(|| {
            if let Some(users) = self.users {
                own_files_as(users.proxy)?;
            }
            let socket = tcp_socket()?;
            socket.set_mark(mark).step("mark", "a socket")?;
            Ok(socket.into())
        })?
    }

    /// Enters the pod's namespaces by this thread, which is not used for anything else.
    fn create_here(spec: &PodSpec) -> Result<Self, SandboxError> {
        // Netlink sockets belong to the namespace in which they were made: this one to the mesh's.
        let outside = Connection::open(Subsystem::Route)?;
        let namespaces = Namespaces::make(spec.users)?;
        let rules = Mutex::default();
        let pod = Self { ip: spec.ip, gateway: spec.gateway, users: spec.users, namespaces, rules };
        for (namespace, kind) in
            [(pod.netns(), CloneFlags::CLONE_NEWNET), (pod.utsns(), CloneFlags::CLONE_NEWUTS)]
        {
            setns(namespace, kind).step("enter", "a namespace of the pod")?;
        }
        nix::unistd::sethostname(&spec.hostname).step("set host name", &spec.hostname)?;
        write_settings()?;
        for (name, value) in &spec.sysctls {
            write_setting(&name.replace('.', "/"), value)?;
        }
        pod.connect(spec, &outside, &Connection::open(Subsystem::Route)?)?;
        Ok(pod)
    }

    /// The wire between pod and mesh: one batch on each side.
    fn connect(
        &self,
        spec: &PodSpec,
        outside: &Connection,
        inside: &Connection,
    ) -> Result<(), SandboxError> {
        let name = format!("v{}", spec.index);
        let near = VethEnd {
            name: &name,
            index: FIRST_INTERFACE_INDEX + spec.index,
            mac: mac(NEAR, spec.index),
        };
        let peer = VethEnd { name: "eth0", index: POD_INTERFACE_INDEX, mac: mac(PEER, spec.index) };
        let (near_index, near_mac, peer_mac) = (near.index, near.mac, peer.mac);
        let mut batch = Batch::new();
        let pair = VethPair { near, peer, peer_netns: self.namespaces.net.as_fd(), mtu: MTU };
        route::veth(&mut batch, &pair);
        route::route(&mut batch, spec.ip, 32, NextHop::Link(near_index));
        route::neighbour(&mut batch, near_index, spec.ip, peer_mac);
        outside.transact(&batch)?;

        let mut batch = Batch::new();
        route::link_up(&mut batch, LOOPBACK);
        route::link_up(&mut batch, POD_INTERFACE_INDEX);
        route::address(&mut batch, POD_INTERFACE_INDEX, spec.ip, 32);
        route::route(&mut batch, spec.gateway, 32, NextHop::Link(POD_INTERFACE_INDEX));
        let default = NextHop::Gateway(spec.gateway, POD_INTERFACE_INDEX);
        route::route(&mut batch, Ipv4Addr::UNSPECIFIED, 0, default);
        route::neighbour(&mut batch, POD_INTERFACE_INDEX, spec.gateway, near_mac);
        inside.transact(&batch)
    }
}

/// Runs `work` on a thread that ends with it, as its namespaces are changed for good.
fn on_own_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, SandboxError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("namespace".to_owned())
            .spawn_scoped(scope, work)
            .step("start", "a thread")?;
        thread.join().map_err(|_| SandboxError::new("finish", "the thread in a namespace", 0))
    })
}

/// Settings of the pod's network namespace, which is the calling thread's.
fn write_settings() -> Result<(), SandboxError> {
    write_network_settings()?;
    // The range of groups may be wider only where more than one exists.
    write_setting("net/ipv4/ping_group_range", "0 2147483647")
        .or_else(|_| write_setting("net/ipv4/ping_group_range", "0 0"))
}

/// Has what this thread opens belong to a user of the machine, by which capture tells it.
#[expect(unsafe_code, reason = "setfsuid has no wrapper that tells whether it worked")]
fn own_files_as(user: u32) -> Result<(), SandboxError> {
    // SAFETY: these take numbers. The second changes nothing, and tells the user that there is.
    let now = unsafe {
        libc::setfsuid(user);
        libc::setfsuid(libc::uid_t::MAX)
    };
    match now as u32 == user {
        true => Ok(()),
        false => Err(SandboxError::new("own files as user", user, libc::EPERM)),
    }
}

fn tcp_socket() -> Result<Socket, SandboxError> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP));
    let socket = socket.step("make", "a socket")?;
    socket.set_nonblocking(true).step("make non-blocking", "a socket")?;
    Ok(socket)
}

/// A locally administered address: which end, and the pod's number.
fn mac(end: u8, index: u32) -> Mac {
    let [a, b, c, d] = index.to_be_bytes();
    [end, 0x4d, a, b, c, d]
}

/// First byte of the mesh's end's MAC address.
const NEAR: u8 = 0x02;
/// First byte of the pod's end's.
const PEER: u8 = 0x06;
/// Index of `eth0` in a pod.
const POD_INTERFACE_INDEX: u32 = 2;
/// Index of pod 0's interface in the mesh; lower ones are the kernel's to give.
const FIRST_INTERFACE_INDEX: u32 = 1_000;
/// The most that a veth takes; it triples what one connection transfers, against 1500.
const MTU: u32 = 65_535;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;
