//! Whether this machine allows a mesh, and what to change where it does not.
//!
//! Kernels, distributions and container runtimes forbid namespaces in many ways, and the error
//! numbers alone tell nobody which. So each thing that a mesh needs is tried once, in a child that
//! ends with its namespaces; the first that fails is named, with the setting to look at.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::path::Path;

use ironmesh_capture::CaptureSpec;
use ironmesh_capture::forwarding::{ForwardedPort, Forwarding, Transport};
use ironmesh_capture::netlink::{Batch, Connection, Subsystem};
use ironmesh_fds as fds;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Uid};

use crate::addresses::{PROXY_PORTS, marks};
use crate::sandbox::error::AtStep;
use crate::sandbox::mesh::{clone_into, map_single_user, may_administer, write_setting};
use crate::sandbox::namespaces::Namespaces;
use crate::sandbox::route::{self, LOOPBACK, VethEnd, VethPair};
use crate::sandbox::{PROXY_USER, SandboxError};
use crate::sandbox::{mounts, user_ranges, users};

/// Why a mesh cannot run here, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The step that failed.
    pub error: SandboxError,
    /// What to do.
    pub remedy: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this machine does not let ironmesh run: {}; {}", self.error, self.remedy)
    }
}

impl std::error::Error for Refusal {}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self { remedy: remedy(&error), error }
    }
}

/// Tries each step that a mesh needs, in a child, and leaves nothing behind. To be called from a
/// process with one thread. It takes some milliseconds.
///
/// # Errors
///
/// The first step that fails.
pub fn check() -> Result<(), Refusal> {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let user = (!may_administer()).then_some((uid, gid));
    let flags = if user.is_some() { CloneFlags::CLONE_NEWUSER } else { CloneFlags::empty() };
    in_child(flags, USER_NAMESPACE, || {
        if let Some((uid, gid)) = user {
            map_single_user(uid, gid)?;
        }
        // One at a time, as a limit for any of them gives the same error for all together.
        for (namespace, name) in [
            (CloneFlags::CLONE_NEWNS, MOUNT_NAMESPACE),
            (CloneFlags::CLONE_NEWNET, NETWORK_NAMESPACE),
            (CloneFlags::CLONE_NEWUTS, UTS_NAMESPACE),
            (CloneFlags::CLONE_NEWIPC, IPC_NAMESPACE),
        ] {
            unshare(namespace).step("create", name)?;
        }
        // The users of the last pod that there can be: then all others can be, too.
        Namespaces::make(user.is_none().then_some(user_ranges::LAST))?;
        try_network()?;
        in_child(CloneFlags::CLONE_NEWPID, PID_NAMESPACE, try_mounts)
    })
    .map_err(Refusal::from)
}

/// Runs `steps` in a child with new namespaces.
fn in_child(
    flags: CloneFlags,
    what: &str,
    steps: impl FnOnce() -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let (outcome_read, outcome_write) = fds::pipe().step("create", "a pipe")?;
    let Some(child) = clone_into(flags).step("create", what)? else {
        tell(outcome_write, &steps());
        std::process::exit(0);
    };
    drop(outcome_write);
    let mut text = String::new();
    let read = fs::File::from(outcome_read).read_to_string(&mut text);
    // Its namespaces end with it; how it ended says nothing more.
    let _ = waitpid(child, None);
    read.step("hear from", "the preflight's child")?;
    serde_json::from_str(&text)
        .unwrap_or_else(|_| Err(SandboxError::new("finish", "the preflight's child", 0)))
}

fn tell(pipe: OwnedFd, outcome: &Result<(), SandboxError>) {
    if let Ok(text) = serde_json::to_vec(outcome) {
        // Without a parent nobody wants to know.
        let _ = fs::File::from(pipe).write_all(&text);
    }
}

fn try_network() -> Result<(), SandboxError> {
    let mut batch = Batch::new();
    route::link_up(&mut batch, LOOPBACK);
    let here = fs::File::open("/proc/self/ns/net").step("open", "/proc/self/ns/net")?;
    let here = OwnedFd::from(here);
    let end = |name, index, last| VethEnd { name, index, mac: [2, 0, 0, 0, 0, last] };
    let (near, peer) = (end("v0", 1_000, 1), end("eth0", 1_001, 2));
    let peer_netns = std::os::fd::AsFd::as_fd(&here);
    route::veth(&mut batch, &VethPair { near, peer, peer_netns, mtu: 1_500 });
    Connection::open(Subsystem::Route)?.transact(&batch)?;
    let exemption = marks(Some(PROXY_USER));
    let spec = CaptureSpec { ports: PROXY_PORTS, exemption, pod: None, resolver: None };
    ironmesh_capture::apply_here(&spec)?;
    // What plain Services need: maps of verdicts, numbering, reject and masquerade.
    let service = ForwardedPort {
        address: SocketAddrV4::new(TRIAL_NETWORK.0, 80),
        transport: Transport::Tcp,
        endpoints: vec![SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80)],
        sticky: false,
    };
    Forwarding::new(TRIAL_NETWORK).apply(&[service])?;
    write_setting("net/ipv4/ip_forward", "1")
}

fn try_mounts() -> Result<(), SandboxError> {
    mounts::make_private()?;
    mounts::fresh("proc", Path::new("/proc"), mounts::HARDENED, "")?;
    mounts::fresh("sysfs", Path::new("/sys"), mounts::HARDENED, "")?;
    let base = Path::new("/run");
    mounts::fresh("tmpfs", base, mounts::SAFE, "mode=0755,size=1m")?;
    for directory in ["upper", "work", "merged"] {
        let path = base.join(directory);
        fs::create_dir(&path).step("create", path.display())?;
    }
    let options = "lowerdir=/etc,upperdir=/run/upper,workdir=/run/work,userxattr";
    let merged = base.join("merged");
    mounts::fresh("overlay", &merged, MsFlags::empty(), options)?;
    // It is the marks of what was deleted that need extended attributes of users on tmpfs.
    let directory = merged.join("ironmesh");
    fs::create_dir(&directory).step("create", directory.display())?;
    fs::remove_dir(&directory).step("remove", directory.display())
}

/// What a person can do about a failure, by the step and the error number.
fn remedy(error: &SandboxError) -> &'static str {
    let about = |words: &str| error.step.contains(words) || error.object.contains(words);
    match error.errno {
        libc::ENOSPC if about("user") && !about("net") => {
            "raise the limit, as root: sysctl -w user.max_user_namespaces=15000"
        }
        libc::ENOSPC if about("namespace") => {
            "raise the limit, as root: sysctl -a | grep user.max_ shows which of them is 0; or this \
             is 32 PID namespaces deep"
        }
        libc::EPERM if about(USER_NAMESPACE) => {
            "run it as root, or allow user namespaces: sysctl -w kernel.unprivileged_userns_clone=1 \
             (Debian), a container's seccomp profile, or a chroot may forbid them"
        }
        libc::EPERM if about(users::MAP) => {
            "each pod gets 65 536 users that no one else has, from 1073741824 on, and this root may \
             not give them, as in a container with users of its own: start it outside, or as an \
             ordinary user"
        }
        libc::EPERM | libc::EACCES if about("proc on") => {
            "/proc is partly hidden here, as in a container: start the container with an unmasked \
             /proc (docker run --security-opt systempaths=unconfined)"
        }
        libc::EPERM | libc::EACCES => {
            "user namespaces have no rights here: on Ubuntu, as root, sysctl -w \
             kernel.apparmor_restrict_unprivileged_userns=0, or run it as root; in a container, \
             allow unshare and mount (docker run --privileged)"
        }
        libc::EINVAL | libc::ENODEV if about("overlay") => {
            "it needs overlay file systems in user namespaces with extended attributes on tmpfs: \
             Linux 6.6 or later with CONFIG_OVERLAY_FS"
        }
        libc::ENOENT | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT => {
            "the kernel lacks a part: as root, modprobe -a veth overlay nf_tables nft_chain_nat \
             nft_redir nft_masq nft_numgen nft_reject_ipv4 nf_conntrack"
        }
        _ => "the kernel's log (dmesg) may say more",
    }
}

/// A network of Services for the trial; nothing is ever sent to it.
const TRIAL_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(192, 0, 2, 0), 24);
const USER_NAMESPACE: &str = "a user namespace";
const MOUNT_NAMESPACE: &str = "a mount namespace";
const NETWORK_NAMESPACE: &str = "a network namespace";
const UTS_NAMESPACE: &str = "a UTS namespace";
const IPC_NAMESPACE: &str = "an IPC namespace";
const PID_NAMESPACE: &str = "a PID namespace";

#[cfg(test)]
mod tests {
    use super::*;

    fn remedy_of(step: &str, object: &str, errno: i32) -> &'static str {
        remedy(&SandboxError::new(step, object, errno))
    }

    #[test]
    fn each_known_cause_names_its_setting() {
        let limit = remedy_of("create", USER_NAMESPACE, libc::ENOSPC);
        assert!(limit.contains("user.max_user_namespaces"));
        // As `enter_mesh` names it, where all are made at once.
        let limit = remedy_of("create namespaces", "(user, mount, pid, net)", libc::ENOSPC);
        assert!(limit.contains("sysctl"));
        let forbidden = remedy_of("create", USER_NAMESPACE, libc::EPERM);
        assert!(forbidden.contains("unprivileged_userns_clone"));
        let few = remedy_of(users::MAP, "/proc/7/uid_map", libc::EPERM);
        assert!(few.contains("65 536 users"), "{few}");
        let apparmor = remedy_of("write", "/proc/self/uid_map", libc::EPERM);
        assert!(apparmor.contains("apparmor_restrict_unprivileged_userns"));
        assert!(remedy_of("mount", "proc on /proc", libc::EPERM).contains("unmasked"));
        assert!(remedy_of("mount", "overlay on /run/merged", libc::EINVAL).contains("6.6"));
        let table = remedy_of("create", "table of ironmesh", libc::EOPNOTSUPP);
        assert!(table.contains("modprobe"));
    }

    #[test]
    fn a_refusal_is_one_sentence_with_its_remedy() {
        let refusal = Refusal::from(SandboxError::new("create", USER_NAMESPACE, libc::ENOSPC));
        assert_eq!(
            refusal.to_string(),
            "this machine does not let ironmesh run: cannot create a user namespace: No space left \
             on device (os error 28); raise the limit, as root: sysctl -w \
             user.max_user_namespaces=15000"
        );
    }
}
