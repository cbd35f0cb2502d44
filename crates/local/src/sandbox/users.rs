//! Users of a container: those of its pod's user namespace, which are many where the mesh was started
//! by root.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::SandboxError;
use super::error::AtStep;

/// Users that the containers of a pod have.
pub const USERS_PER_NAMESPACE: u32 = 65_536;

/// What a pod's user namespace calls the user of the pod's proxy, so that capture can tell it. Nobody
/// inside becomes it: `system_calls` refuses this number, no file there gives its owner's rights to who
/// runs it, and no further user namespace can be made.
pub const PROXY_USER: u32 = USERS_PER_NAMESPACE;

/// Whether this process's user namespace has a single user, whose rights are those of who started
/// the mesh.
pub(crate) fn is_only_one() -> Result<bool, SandboxError> {
    let path = "/proc/self/uid_map";
    let map = fs::read_to_string(path).step("read", path)?;
    Ok(map.split_ascii_whitespace().nth(2) == Some("1") && map.lines().count() == 1)
}

/// Enters the user namespace of a pod as its root, with all capabilities there. Who is the only user
/// is that one already. Until it executes a program, this process is closed to those of the pod,
/// whatever capabilities they have.
pub(crate) fn enter_namespace(users: &OwnedFd, is_only_one: bool) -> Result<(), SandboxError> {
    prctl::set_dumpable(false).step("close", "this process to others")?;
    setns(users.as_fd(), CloneFlags::CLONE_NEWUSER).step("enter", "the user namespace")?;
    if is_only_one { Ok(()) } else { become_user(0, 0) }
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
