//! Mounts: fresh ones, binds, and clones with other owners.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::SandboxError;
use super::error::Step;

/// Nothing on this mount gives rights: no set-user-id, no devices.
pub(crate) const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// As [`SAFE`], and no programs.
pub(crate) const HARDENED: MsFlags = SAFE.union(MsFlags::MS_NOEXEC);

/// Makes no mount of this namespace visible to another.
pub(crate) fn make_private() -> Result<(), SandboxError> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).step("make private the mount", "/")
}

/// Mounts a file system without a device.
pub(crate) fn fresh(
    kind: &str,
    target: &Path,
    flags: MsFlags,
    options: &str,
) -> Result<(), SandboxError> {
    mount(Some(kind), target, Some(kind), flags, Some(options))
        .step("mount", format_args!("{kind} on {}", target.display()))
}

/// Shows a file or directory at another path too.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), SandboxError> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .step("bind", format_args!("{} to {}", source.display(), target.display()))
}

/// As [`bind`], with everything that is mounted below.
pub(crate) fn bind_recursive(source: &Path, target: &Path) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .step("bind", format_args!("{} to {}", source.display(), target.display()))
}

/// Makes a mount read-only; with `recursive`, and all below it.
#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
pub(crate) fn make_read_only(target: &Path, recursive: bool) -> Result<(), SandboxError> {
    let path = c_path(target)?;
    let attributes = Attributes { set: ATTR_READ_ONLY, ..Attributes::default() };
    let flags = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes live through the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    nix::Error::result(result).map(drop).step("make read-only", target.display())
}

/// A clone of the mount at `source`, not attached anywhere, on which files of user n belong to the
/// user that n is outside the namespace.
///
/// EINVAL where the file system cannot do this, such as an overlay.
pub(crate) fn clone_mapped(source: &Path, users: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let tree = clone_tree(source)?;
    let users = users.as_raw_fd() as u64;
    set_attributes(&tree, &Attributes { set: ATTR_ID_MAP, users, ..Attributes::default() })?;
    Ok(tree)
}

/// Opens a file by a mount of its own that nothing can be written through, whoever holds the
/// descriptor.
pub(crate) fn open_read_only(source: &Path) -> Result<File, SandboxError> {
    let tree = clone_tree(source).step("clone the mount of", source.display())?;
    set_attributes(&tree, &Attributes { set: ATTR_READ_ONLY, ..Attributes::default() })
        .step("make read-only", source.display())?;
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    File::open(path).step("open", source.display())
}

/// A clone of the mount at `source`, not attached anywhere.
#[expect(unsafe_code, reason = "open_tree has no wrapper")]
fn clone_tree(source: &Path) -> nix::Result<OwnedFd> {
    let path = CString::new(source.as_os_str().as_bytes()).map_err(|_| nix::Error::EINVAL)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: the path lives through the call.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let tree = nix::Error::result(tree)? as libc::c_int;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
}

/// Changes a mount that is known by a descriptor.
#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
fn set_attributes(tree: &OwnedFd, attributes: &Attributes) -> nix::Result<()> {
    // SAFETY: path and attributes live through the call, and the size is theirs.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    nix::Error::result(result).map(drop)
}

/// Attaches a clone at a path.
#[expect(unsafe_code, reason = "move_mount has no wrapper")]
pub(crate) fn attach(tree: &OwnedFd, target: &Path) -> Result<(), SandboxError> {
    let path = c_path(target)?;
    // SAFETY: both paths live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    nix::Error::result(result).map(drop).step("attach a mount at", target.display())
}

fn c_path(path: &Path) -> Result<CString, SandboxError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| SandboxError::new("use the path", path.display(), libc::EINVAL))
}

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

// From linux/mount.h.
const ATTR_READ_ONLY: u64 = 1;
const ATTR_ID_MAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
