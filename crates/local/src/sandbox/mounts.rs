//! Mounts: fresh ones, binds, and clones with other owners.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use super::SandboxError;
use super::error::AtStep;

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
pub(crate) fn make_read_only(target: &Path, recursive: bool) -> Result<(), SandboxError> {
    set(target, recursive, ATTR_READ_ONLY).step("make read-only", target.display())
}

/// Makes a mount of the host's read-only, and [`SAFE`]; with `recursive`, and all below it.
pub(crate) fn make_harmless(target: &Path, recursive: bool) -> Result<(), SandboxError> {
    let attributes = ATTR_READ_ONLY | ATTR_NO_SET_ID | ATTR_NO_DEVICES;
    set(target, recursive, attributes).step("make harmless", target.display())
}

/// Hides, in a directory of the upper layer of an overlay, what the lower layers have there.
#[expect(unsafe_code, reason = "setxattr has no wrapper")]
pub(crate) fn make_opaque(directory: &Path) -> nix::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes()).map_err(|_| nix::Error::EINVAL)?;
    let (name, value) = (c"user.overlay.opaque", b"y");
    // SAFETY: path, name and value live through the call, and the size is the value's.
    let result = unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    nix::Error::result(result).map(drop)
}

#[expect(unsafe_code, reason = "mount_setattr has no wrapper")]
fn set(target: &Path, recursive: bool, set: u64) -> nix::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes()).map_err(|_| nix::Error::EINVAL)?;
    let attributes = Attributes { set, ..Attributes::default() };
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
    nix::Error::result(result).map(drop)
}

/// A clone of the mount at `source`, not attached anywhere, on which files of user n belong to the
/// user that n is outside the namespace.
///
/// EINVAL where the file system cannot do this, such as an overlay.
pub(crate) fn clone_mapped(source: &Path, users: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let tree = clone_tree(source)?;
    map(&tree, users)?;
    Ok(tree)
}

/// Makes of a clone of a mount what [`clone_mapped`] gives.
pub(crate) fn map(tree: &OwnedFd, users: BorrowedFd<'_>) -> nix::Result<()> {
    let users = users.as_raw_fd() as u64;
    set_attributes(tree, &Attributes { set: ATTR_ID_MAP, users, ..Attributes::default() })
}

/// Opens a file by a mount of its own that nothing can be written through, whoever holds the
/// descriptor.
pub(crate) fn open_read_only(source: &Path) -> Result<File, SandboxError> {
    let tree = clone_tree(source).step("clone the mount of", source.display())?;
    set_read_only(&tree).step("make read-only", source.display())?;
    File::open(by_descriptor(&tree)).step("open", source.display())
}

/// The path by which a descriptor is known to this process.
fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Makes a clone of a mount read-only.
pub(crate) fn set_read_only(tree: &OwnedFd) -> nix::Result<()> {
    set_attributes(tree, &Attributes { set: ATTR_READ_ONLY, ..Attributes::default() })
}

/// Makes a clone of a mount [`SAFE`].
pub(crate) fn set_safe(tree: &OwnedFd) -> nix::Result<()> {
    let set = ATTR_NO_SET_ID | ATTR_NO_DEVICES;
    set_attributes(tree, &Attributes { set, ..Attributes::default() })
}

/// A clone of the mount at `source`, not attached anywhere, without what is mounted below.
pub(crate) fn clone_tree(source: &Path) -> nix::Result<OwnedFd> {
    let path = CString::new(source.as_os_str().as_bytes()).map_err(|_| nix::Error::EINVAL)?;
    open_tree(libc::AT_FDCWD, &path, OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint)
}

/// As [`clone_tree`], of what a descriptor of this mount namespace names.
pub(crate) fn clone_opened(source: &OwnedFd) -> nix::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_EMPTY_PATH) as libc::c_uint;
    open_tree(source.as_raw_fd(), c"", flags)
}

#[expect(unsafe_code, reason = "open_tree has no wrapper")]
fn open_tree(at: RawFd, path: &CStr, flags: libc::c_uint) -> nix::Result<OwnedFd> {
    // SAFETY: the path lives through the call.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, at, path.as_ptr(), flags) };
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
pub(crate) fn attach(tree: &OwnedFd, target: &Path) -> Result<(), SandboxError> {
    let path = c_path(target)?;
    move_mount(tree, libc::AT_FDCWD, &path, MOVE_MOUNT_F_EMPTY_PATH)
        .step("attach a mount at", target.display())
}

/// Attaches a clone to what a descriptor names.
pub(crate) fn attach_to(tree: &OwnedFd, target: &OwnedFd) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, target.as_raw_fd(), c"", flags)
}

#[expect(unsafe_code, reason = "move_mount has no wrapper")]
fn move_mount(tree: &OwnedFd, at: RawFd, path: &CStr, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: both paths live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at,
            path.as_ptr(),
            flags,
        )
    };
    nix::Error::result(result).map(drop)
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
const ATTR_NO_SET_ID: u64 = 2;
const ATTR_NO_DEVICES: u64 = 4;
const ATTR_ID_MAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
