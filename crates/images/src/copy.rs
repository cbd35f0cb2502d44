//! A copy of an image's layers as one tree, for where there can be no overlay of them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid};

use crate::tree::{self, Found};

/// Copies layers, the uppermost first, into an empty folder, as an overlay would show them. With
/// `base`, which needs root, user n of the layers is user `base + n` there.
///
/// Files that are one by hard links are several then.
///
/// # Errors
///
/// If something cannot be read or written; ENOSPC where there is no room.
pub fn copy_layers(layers: &[PathBuf], into: &Path, base: Option<u32>) -> io::Result<()> {
    let into = OwnedFd::from(File::open(into)?);
    for layer in layers.iter().rev() {
        let from = OwnedFd::from(File::open(layer)?);
        give(&into, &fs::fstat(&from)?, base)?;
        copy_folder(&from, &into, base)?;
    }
    Ok(())
}

fn copy_folder(from: &OwnedFd, into: &OwnedFd, base: Option<u32>) -> io::Result<()> {
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !tree::is_dots(name) {
            copy_entry(from, into, OsStr::from_bytes(name.to_bytes()), base)?;
        }
    }
    Ok(())
}

fn copy_entry(from: &OwnedFd, into: &OwnedFd, name: &OsStr, base: Option<u32>) -> io::Result<()> {
    let found = fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let kind = tree::kind(&found);
    if kind == FileType::Directory {
        let source = tree::open_folder(from, name)?;
        let there = tree::look(into, name)?;
        if !matches!(there, Found::Folder(_)) || tree::is_opaque(&source) {
            tree::remove(into, name)?;
            fs::mkdirat(into, name, Mode::from_raw_mode(0o700))?;
        }
        let target = tree::open_folder(into, name)?;
        copy_folder(&source, &target, base)?;
        return give(&target, &found, base);
    }
    tree::remove(into, name)?;
    match kind {
        FileType::RegularFile => {
            let source = tree::open(from, name, OFlags::RDONLY, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let target = tree::open(into, name, flags, Mode::from_raw_mode(0o600))?;
            let (mut source, mut target) = (File::from(source), File::from(target));
            io::copy(&mut source, &mut target)?;
            give(&target.into(), &found, base)
        }
        FileType::Symlink => {
            let target = fs::readlinkat(from, name, Vec::new())?;
            let target = OsString::from_vec(target.into_bytes());
            fs::symlinkat(target.as_os_str(), into, name)?;
            give_name(into, name, &found, base)
        }
        FileType::Fifo => {
            let mode = Mode::from_raw_mode(found.st_mode & 0o777);
            fs::mknodat(into, name, FileType::Fifo, mode, 0)?;
            give_name(into, name, &found, base)
        }
        // A whiteout.
        _ => Ok(()),
    }
}

fn give(file: &OwnedFd, as_is: &Stat, base: Option<u32>) -> io::Result<()> {
    if let Some(base) = base {
        let (user, group) = owners(as_is, base);
        fs::fchown(file, Some(user), Some(group))?;
    }
    Ok(fs::fchmod(file, Mode::from_raw_mode(as_is.st_mode & 0o3777))?)
}

fn give_name(folder: &OwnedFd, name: &OsStr, as_is: &Stat, base: Option<u32>) -> io::Result<()> {
    if let Some(base) = base {
        let (user, group) = owners(as_is, base);
        fs::chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

fn owners(as_is: &Stat, base: u32) -> (Uid, Gid) {
    (Uid::from_raw(base + as_is.st_uid), Gid::from_raw(base + as_is.st_gid))
}

#[cfg(test)]
mod tests {
    use std::fs::{create_dir_all, read_to_string, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_is_what_an_overlay_would_show() {
        let folder = tempfile::tempdir().unwrap();
        let [low, high, into] = ["low", "high", "into"].map(|name| folder.path().join(name));
        for path in [low.join("a"), low.join("b"), high.join("a"), high.join("b"), into.clone()] {
            create_dir_all(path).unwrap();
        }
        write(low.join("a/kept"), "kept").unwrap();
        write(low.join("a/gone"), "gone").unwrap();
        write(low.join("b/hidden"), "hidden").unwrap();
        write(low.join("file"), "low").unwrap();
        symlink("/outside", low.join("link")).unwrap();
        let at = |path: &Path| OwnedFd::from(File::open(path).unwrap());
        tree::make_whiteout(at(&high.join("a")), OsStr::new("gone")).unwrap();
        tree::make_opaque(at(&high.join("b"))).unwrap();
        write(high.join("file"), "high").unwrap();
        std::fs::set_permissions(high.join("file"), PermissionsExt::from_mode(0o4711)).unwrap();
        copy_layers(&[high, low], &into, None).unwrap();
        assert_eq!(read_to_string(into.join("a/kept")).unwrap(), "kept");
        assert!(!into.join("a/gone").exists() && !into.join("b/hidden").exists());
        assert_eq!(read_to_string(into.join("file")).unwrap(), "high");
        let mode = std::fs::metadata(into.join("file")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o711);
        assert_eq!(std::fs::read_link(into.join("link")).unwrap(), Path::new("/outside"));
    }
}
