//! Users of a container: a user namespace of its own where the mesh was started by root.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use ironmesh_fds as fds;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::SandboxError;
use super::error::AtStep;
use super::init;
use super::mesh::clone_into;

/// Users that each container has.
pub const USERS_PER_NAMESPACE: u32 = 65_536;

/// Makes a user namespace in which user 0 is `base` outside, and in which no further one can be
/// made. Needs one thread and root.
pub(crate) fn make_namespace(base: u32) -> Result<OwnedFd, SandboxError> {
    let (read_end, write_end) = fds::pipe().step("create", "a pipe")?;
    let (pid_read, pid_write) = fds::pipe().step("create", "a pipe")?;
    let child = clone_into(CloneFlags::CLONE_NEWUSER).step("create", "a user namespace")?;
    let Some(child) = child else {
        drop(write_end);
        // The parent counts in a PID namespace of its own, which is not that of `/proc`.
        let pid = init::agents_pid().map(|pid| pid.to_string()).unwrap_or_default();
        let _ = File::from(pid_write).write_all(pid.as_bytes());
        // It only has to be there while the maps are written. The limit is a precaution.
        let mut nothing = Vec::new();
        let _ = File::from(read_end).read_to_end(&mut nothing);
        let _ = fs::write("/proc/sys/user/max_user_namespaces", "0");
        std::process::exit(0);
    };
    drop(pid_write);
    let mut pid = String::new();
    let read = File::from(pid_read).read_to_string(&mut pid);
    let made = read.step("read", "a process id").and_then(|_| map_and_open(&pid, base));
    drop(write_end);
    let _ = waitpid(child, None);
    made
}

/// Whether this process's user namespace has a single user, whose rights are those of who started
/// the mesh.
pub(crate) fn is_only_one() -> Result<bool, SandboxError> {
    let path = "/proc/self/uid_map";
    let map = fs::read_to_string(path).step("read", path)?;
    Ok(map.split_ascii_whitespace().nth(2) == Some("1") && map.lines().count() == 1)
}

/// Enters a user namespace as its root.
pub(crate) fn enter_namespace(users: &OwnedFd) -> Result<(), SandboxError> {
    setns(users.as_fd(), CloneFlags::CLONE_NEWUSER).step("enter", "the user namespace")?;
    become_user(0, 0)
}

/// Becomes this user, of this group and no other. Capabilities stay permitted:
/// [`super::capabilities::keep_only`], which needs some of them, is to follow.
pub(crate) fn become_user(user: u32, group: u32) -> Result<(), SandboxError> {
    prctl::set_keepcaps(true).step("keep", "capabilities")?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(group));
    setgroups(&[]).step("leave", "all groups")?;
    setresgid(gid, gid, gid).step("become group", group)?;
    setresuid(uid, uid, uid).step("become user", user)
}

/// The step that fails where the users of a container cannot be had.
pub(crate) const MAP: &str = "give a pod users of its own by";

fn map_and_open(pid: &str, base: u32) -> Result<OwnedFd, SandboxError> {
    for kind in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{kind}");
        fs::write(&path, format!("0 {base} {USERS_PER_NAMESPACE}")).step(MAP, &path)?;
    }
    let path = format!("/proc/{pid}/ns/user");
    Ok(File::open(&path).step("open", &path)?.into())
}
