//! The namespaces of a pod: a user namespace, and network, host name and IPC namespaces that it owns,
//! so that capabilities of the pod's containers count there and nowhere else.
//!
//! A child makes them, since who has threads cannot; it is gone when they are open. The mesh's own
//! processes stay in the mesh's user namespace, above those of pods.
//!
//! Where root started the mesh, the child is the pod's first user when it does so. All processes of
//! the pod, whichever user they become, then count as that user's, so that the limit of processes
//! binds all of them together. Who is user 0 of the machine would have no limit.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use ironmesh_fds as fds;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::SandboxError;
use super::capabilities;
use super::error::AtStep;
use super::mesh::clone_silently;
use super::users::{MAP, PROXY_USER, USERS_PER_NAMESPACE};

/// The users of a pod, as the machine counts, where root started the mesh.
#[derive(Clone, Copy, Debug)]
pub struct PodUsers {
    /// The first of the [`USERS_PER_NAMESPACE`] users of its containers: their root.
    pub base: u32,
    /// What its proxy runs as. Containers can name it ([`PROXY_USER`]) but not become it.
    pub proxy: u32,
    /// Processes and threads of all its containers.
    pub processes_max: u32,
}

/// What was made.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) users: OwnedFd,
    pub(crate) net: OwnedFd,
    pub(crate) uts: OwnedFd,
    pub(crate) ipc: OwnedFd,
}

impl Namespaces {
    /// Makes them, with the one user of the mesh where no others are given. In the user namespace no
    /// further one can be made. May be called on any thread.
    pub(crate) fn make(users: Option<PodUsers>) -> Result<Self, SandboxError> {
        let (outcome, write_end) = fds::pipe().step("create", "a pipe")?;
        let child = clone_silently().step("fork", "the child that makes namespaces")?;
        let Some(child) = child else { make_and_stay(users, write_end.as_raw_fd()) };
        let child = Child(child);
        drop(write_end);
        let mut text = [0; REPORT_BYTES];
        File::from(outcome).read_exact(&mut text).step("hear from", "the child")?;
        let [step, errno @ ..] = text;
        let errno = i32::from_ne_bytes(errno);
        if errno != 0 {
            let step = STEPS.get(usize::from(step)).unwrap_or(&"namespaces");
            return Err(SandboxError::new("create", step, errno));
        }
        child.map(users)?;
        let open = |name: &str| -> Result<OwnedFd, SandboxError> {
            let path = format!("/proc/{}/ns/{name}", child.0);
            Ok(File::open(&path).step("open", &path)?.into())
        };
        Ok(Self { users: open("user")?, net: open("net")?, uts: open("uts")?, ipc: open("ipc")? })
    }
}

/// The child, which ends when this is dropped.
struct Child(Pid);

impl Child {
    fn map(&self, users: Option<PodUsers>) -> Result<(), SandboxError> {
        let (uids, gids) = match users {
            Some(PodUsers { base, proxy, .. }) => {
                let containers = format!("0 {base} {USERS_PER_NAMESPACE}\n");
                (format!("{containers}{PROXY_USER} {proxy} 1\n"), containers)
            }
            None => ("0 0 1\n".to_owned(), "0 0 1\n".to_owned()),
        };
        for (kind, map) in [("uid_map", uids), ("gid_map", gids)] {
            let path = format!("/proc/{}/{kind}", self.0);
            fs::write(&path, map).step(MAP, &path)?;
        }
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It does nothing else than to wait for this.
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, Some(WaitPidFlag::__WALL));
    }
}

/// What the child does: makes the namespaces, says so, and stays until it is killed. It may have
/// been forked by one of many threads, so it makes system calls only.
fn make_and_stay(users: Option<PodUsers>, report: RawFd) -> ! {
    let mut step = 0;
    let errno = make_here(users, report, &mut step).err().map_or(0, |errno| errno as i32);
    let [a, b, c, d] = errno.to_ne_bytes();
    let report = [step, a, b, c, d];
    write_to(REPORT_FD, &report);
    loop {
        nix::unistd::pause();
    }
}

fn make_here(users: Option<PodUsers>, report: RawFd, step: &mut u8) -> nix::Result<()> {
    keep_alone(report)?;
    if let Some(users) = users {
        limit_processes(users.processes_max)?;
        become_first(users.base)?;
    }
    // Whoever forked it may be gone, and a change of user forgets this.
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    *step = 1;
    unshare(CloneFlags::CLONE_NEWUSER)?;
    *step = 2;
    let owned = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
    unshare(owned)?;
    *step = 3;
    forbid_more()
}

/// Closes all descriptors but the report's: the others belong to the process that was forked.
#[expect(unsafe_code, reason = "descriptors by number, after the fork")]
fn keep_alone(report: RawFd) -> nix::Result<()> {
    // SAFETY: what is closed is this process's copy, of which nothing here makes use.
    unsafe {
        Errno::result(libc::dup2(report, REPORT_FD))?;
        let first = (REPORT_FD + 1) as libc::c_uint;
        Errno::result(libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0)).map(drop)
    }
}

/// The limit that the user namespace remembers for all that is in it.
fn limit_processes(most: u32) -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
    let most = u64::from(most);
    setrlimit(Resource::RLIMIT_NPROC, soft.min(most), hard.min(most))
}

/// Becomes this user, with the capabilities as before. The C library's calls would have all threads
/// follow, of which there are none left.
#[expect(unsafe_code, reason = "calls that change this thread alone")]
fn become_first(base: u32) -> nix::Result<()> {
    prctl::set_keepcaps(true)?;
    // SAFETY: these take numbers, and a null pointer for no groups.
    unsafe {
        Errno::result(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        Errno::result(libc::syscall(libc::SYS_setresgid, base, base, base))?;
        Errno::result(libc::syscall(libc::SYS_setresuid, base, base, base))?;
    }
    capabilities::use_permitted()
}

/// Nobody in it makes a further user namespace. Absent where the kernel has no such limits.
#[expect(unsafe_code, reason = "a write without memory of its own")]
fn forbid_more() -> nix::Result<()> {
    let path = c"/proc/sys/user/max_user_namespaces";
    // SAFETY: the path ends with a zero byte.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    match Errno::result(file) {
        Ok(file) => {
            write_to(file, b"0");
            Ok(())
        }
        Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[expect(unsafe_code, reason = "descriptors by number, after the fork")]
fn write_to(descriptor: RawFd, bytes: &[u8]) {
    // SAFETY: the bytes live through the call. Who does not hear of it asks no further.
    let _ = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
}

/// What the child was about when it failed, by the number in its report.
const STEPS: [&str; 4] = [
    "the owner of a pod's namespaces",
    "a user namespace",
    "namespaces (net, uts, ipc)",
    "a user namespace without others in it",
];
/// A step, and an error number; 0 for success.
const REPORT_BYTES: usize = 5;
/// Under which number the child reports.
const REPORT_FD: RawFd = 3;
