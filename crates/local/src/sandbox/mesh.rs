//! The way into a mesh: from `ironmesh up` to an agent that is PID 1 of namespaces of its own.

use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::Path;

use ironmesh_capture::netlink::{Batch, Connection, Subsystem};
use ironmesh_fds as fds;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid};

use super::SandboxError;
use super::error::AtStep;
use super::route::{self, LOOPBACK, NextHop};
use super::{capabilities, mounts, root};

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
/// forwarding is on; the host's other directories are as outside. The child dies with its parent:
/// by a parent-death signal, and by the lifeline, as there is no other way to see that the parent
/// died before the signal was asked for. It returns only when the inside is ready.
///
/// To be called from the main thread of a process that has no other: the parent-death signal is
/// sent when that *thread* ends.
///
/// # Errors
///
/// The step that failed, and nothing is left of it.
pub fn enter_mesh(spec: &MeshSpec) -> Result<Entered, SandboxError> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let root = may_administer();
    let (lifeline_read, lifeline_write) = fds::pipe().step("create", "a pipe")?;
    let (report_read, report_write) = fds::pipe().step("create", "a pipe")?;
    let mut flags = NAMESPACES;
    if !root {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    let Some(agent) = clone_into(flags).step("create namespaces", describe(flags))? else {
        drop((lifeline_write, report_read));
        let outcome = inside(spec, (!root).then_some((uid, gid)));
        report(report_write, &outcome);
        outcome?;
        return Ok(Entered::Inside { lifeline: lifeline_read, root });
    };
    drop((lifeline_read, report_write));
    let mut text = String::new();
    let read = fs::File::from(report_read).read_to_string(&mut text);
    let outcome: Result<(), SandboxError> = match serde_json::from_str(&text) {
        Ok(outcome) => outcome,
        Err(_) => Err(SandboxError::new("start", format!("the agent ({read:?})"), 0)),
    };
    if let Err(error) = outcome {
        // It exits by itself; nothing is to be learned from how.
        let _ = waitpid(agent, None);
        return Err(error);
    }
    Ok(Entered::Outside { agent: agent.as_raw(), lifeline: lifeline_write })
}

/// Whether this process is root with the right to make namespaces and to open those of others, and so
/// needs no user namespace.
pub(crate) fn may_administer() -> bool {
    let needed = [capabilities::SYS_ADMIN, capabilities::SYS_PTRACE];
    Uid::effective().is_root() && needed.into_iter().all(capabilities::has)
}

/// Maps the one user inside a fresh user namespace, as root, to the user outside.
pub(crate) fn map_single_user(uid: Uid, gid: Gid) -> Result<(), SandboxError> {
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {uid} 1")),
        ("/proc/self/gid_map", format!("0 {gid} 1")),
    ] {
        fs::write(path, text).step("write", path)?;
    }
    Ok(())
}

/// Writes the settings that all network namespaces of a mesh have, in that of the calling thread.
pub(super) fn write_network_settings() -> Result<(), SandboxError> {
    for (name, value) in NETWORK_SETTINGS {
        write_setting(name, value)?;
    }
    // Absent where the kernel has no IPv6. Loopback keeps it: only later interfaces are without.
    let _ = write_setting("net/ipv6/conf/default/disable_ipv6", "1");
    // Entries of ended connections would fill a table that the whole machine shares. Absent where
    // the kernel has no conntrack yet; the first rule then brings it.
    let _ = write_setting("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1");
    Ok(())
}

/// Writes a kernel setting. Those of the network are the calling thread's network namespace's.
pub(crate) fn write_setting(name: &str, value: &str) -> Result<(), SandboxError> {
    let path = Path::new("/proc/sys").join(name);
    fs::write(&path, value).step("write", path.display())
}

/// Forks; the child begins in new namespaces. `None` in the child, which may make system calls only,
/// on memory prepared before, unless this process has a single thread.
pub(crate) fn clone_into(flags: CloneFlags) -> nix::Result<Option<Pid>> {
    clone(flags.bits() as libc::c_ulong | libc::SIGCHLD as libc::c_ulong)
}

/// Forks a child whose end is told to nobody but who waits for it with `__WALL`. In the child as in
/// [`clone_into`].
pub(crate) fn clone_silently() -> nix::Result<Option<Pid>> {
    clone(0)
}

#[expect(unsafe_code, reason = "clone, so that the child is PID 1 without a process between")]
fn clone(flags: libc::c_ulong) -> nix::Result<Option<Pid>> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: without CLONE_VM and with no stack given this is fork(2). By the contract the child
    // uses nothing that another thread may have held.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    let pid = nix::Error::result(pid)?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// What the child does before it is the agent.
fn inside(spec: &MeshSpec, user: Option<(Uid, Gid)>) -> Result<(), SandboxError> {
    if let Some((uid, gid)) = user {
        map_single_user(uid, gid)?;
    }
    mounts::make_private()?;
    mounts::fresh("proc", Path::new("/proc"), mounts::HARDENED, "")?;
    mounts::fresh("sysfs", Path::new("/sys"), mounts::HARDENED, "")?;
    mounts::fresh("tmpfs", Path::new("/run"), mounts::SAFE, "mode=0755")?;
    for directory in [RUN_DIRECTORY, root::STAGING] {
        fs::create_dir(directory).step("create", directory)?;
    }
    nix::unistd::sethostname(&spec.hostname).step("set host name", &spec.hostname)?;
    write_setting("net/ipv4/ip_forward", "1")?;
    write_network_settings()?;
    for (name, value) in LINK_SETTINGS {
        write_setting(name, value)?;
    }
    let mut batch = Batch::new();
    route::link_up(&mut batch, LOOPBACK);
    route::address(&mut batch, LOOPBACK, spec.address, 32);
    let (network, prefix) = spec.services;
    route::route(&mut batch, network, prefix, NextHop::Link(LOOPBACK));
    Connection::open(Subsystem::Route)?.transact(&batch)?;
    if user.is_some() {
        // What this user may not read is not found in any case.
        root::write_skeleton(|_mode| true)?;
    } else {
        root::write_skeleton(root::is_open_to_others)?;
    }
    // Last, since a change of credentials clears it.
    prctl::set_pdeathsig(Signal::SIGKILL).step("ask for", "the parent-death signal")
}

fn report(pipe: OwnedFd, outcome: &Result<(), SandboxError>) {
    if let Ok(text) = serde_json::to_vec(outcome) {
        // If the parent is gone, so are we.
        let _ = std::io::Write::write_all(&mut fs::File::from(pipe), &text);
    }
}

fn describe(flags: CloneFlags) -> &'static str {
    if flags.contains(CloneFlags::CLONE_NEWUSER) {
        "(user, mount, pid, net, uts, ipc)"
    } else {
        "(mount, pid, net, uts, ipc)"
    }
}

/// The namespaces of a mesh, but for the user namespace.
pub(crate) const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC);

/// Settings of the mesh's root network namespace, where the links to pods begin: what comes from a pod
/// has that pod's address as its source, or is dropped, whatever the pod has done to its end of the
/// link.
const LINK_SETTINGS: [(&str, &str); 6] = [
    ("net/ipv4/conf/default/rp_filter", "1"),
    ("net/ipv4/conf/all/accept_local", "0"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/all/accept_source_route", "0"),
    ("net/ipv4/conf/all/proxy_arp", "0"),
    ("net/ipv4/conf/all/route_localnet", "0"),
];

/// Settings of all network namespaces of a mesh. None is left to a default, as new namespaces inherit
/// some of the host's.
const NETWORK_SETTINGS: [(&str, &str); 7] = [
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/arp_ignore", "0"),
    ("net/ipv4/conf/default/arp_ignore", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    // Applications bind port 80 without a capability.
    ("net/ipv4/ip_unprivileged_port_start", "0"),
];
