//! Paths below a directory whose content others control: no symlink in them is followed.
//!
//! A volume is shared with containers that can put symlinks into it, before and while a path in it
//! is looked up. So paths are walked by descriptor, and what is found is used by its descriptor.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};

/// Opens a file or directory of any kind, only to name it (`O_PATH`).
///
/// `relative` has no `..`. ELOOP where a part of it is a symlink.
pub(crate) fn find(directory: impl AsFd, relative: &Path) -> nix::Result<OwnedFd> {
    open(directory, relative, OFlag::O_PATH)
}

/// Finds a directory (as [`find`], only to name it), and makes what is missing of it with `mode`;
/// `made` is called with each new one, opened.
///
/// As [`find`]; ENOTDIR where a part of it is a file.
pub(crate) fn make_directories(
    directory: impl AsFd,
    relative: &Path,
    mode: Mode,
    made: impl Fn(&OwnedFd) -> nix::Result<()>,
) -> nix::Result<OwnedFd> {
    // What is there need not be readable to be gone through.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut here = open(directory, Path::new("."), flags)?;
    for part in relative.components() {
        let Component::Normal(name) = part else { continue };
        let name = Path::new(name);
        here = match open(&here, name, flags) {
            Err(Errno::ENOENT) => match mkdirat(&here, name, Mode::S_IRWXU) {
                Ok(()) => {
                    let new = open(&here, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
                    // The mode of `mkdir` would be subject to the umask.
                    fchmod(&new, mode)?;
                    made(&new)?;
                    new
                }
                // Somebody else made it just now.
                Err(Errno::EEXIST) => open(&here, name, flags)?,
                Err(errno) => return Err(errno),
            },
            opened => opened?,
        };
    }
    Ok(here)
}

fn open(directory: impl AsFd, relative: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    openat2(directory, relative, how)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn make(root: &File, path: &str) -> nix::Result<OwnedFd> {
        make_directories(root, Path::new(path), Mode::from_bits_truncate(0o777), |_| Ok(()))
    }

    #[test]
    fn no_symlink_leads_out_or_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), folder.path().join("out")).unwrap();
        fs::create_dir(folder.path().join("real")).unwrap();
        symlink("real", folder.path().join("inner")).unwrap();
        let root = File::open(folder.path()).unwrap();
        for path in ["out", "out/made", "inner/made"] {
            assert_eq!(make(&root, path).unwrap_err(), Errno::ELOOP, "{path}");
        }
        assert_eq!(find(&root, Path::new("out")).unwrap_err(), Errno::ELOOP);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        make(&root, "real/a/b").unwrap();
        let mode = fs::metadata(folder.path().join("real/a/b")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o777);
        find(&root, Path::new("real/a")).unwrap();
    }
}
