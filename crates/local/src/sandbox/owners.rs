//! Files of a folder that outlives pods, given to the users of another pod, where the file system
//! cannot show them as that one's.
//!
//! The folder's content is its containers': it is walked by descriptor, and no symlink is followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{Gid, Uid, fchownat};

use super::users::USERS_PER_NAMESPACE;

/// Gives all files of a folder to the pod whose users begin at `base`: what belonged to user n of the
/// pod that had it before, or to user n outside, belongs to user n of this one.
///
/// E2BIG where folders are nested too deeply.
pub(super) fn give(folder: &OwnedFd, base: u32) -> nix::Result<()> {
    let here = fstat(folder)?;
    shift(folder.as_fd(), c".", &here, base)?;
    if is_directory(&here) {
        let opened = nix::fcntl::openat(folder, ".", FLAGS, Mode::empty())?;
        give_below(opened, base, DEPTH_MAX)?;
    }
    Ok(())
}

fn give_below(folder: OwnedFd, base: u32, depth: u32) -> nix::Result<()> {
    let left = depth.checked_sub(1).ok_or(Errno::E2BIG)?;
    let at = folder.try_clone().map_err(|_| Errno::EMFILE)?;
    for entry in Dir::from_fd(folder)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        // One that has gone meanwhile needs no owner.
        let Ok(found) = fstatat(&at, name, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
        shift(at.as_fd(), name, &found, base)?;
        if is_directory(&found) {
            match nix::fcntl::openat(&at, name, FLAGS, Mode::empty()) {
                Ok(below) => give_below(below, base, left)?,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

fn shift(
    at: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    found: &FileStat,
    base: u32,
) -> nix::Result<()> {
    let shifted = |id: u32| base + id % USERS_PER_NAMESPACE;
    let (user, group) = (shifted(found.st_uid), shifted(found.st_gid));
    if (user, group) == (found.st_uid, found.st_gid) {
        return Ok(());
    }
    let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
    match fchownat(at, name, user, group, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => Ok(()),
        given => given,
    }
}

fn is_directory(found: &FileStat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFDIR
}

const FLAGS: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Folders in folders that are gone into.
const DEPTH_MAX: u32 = 256;
