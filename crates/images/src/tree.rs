//! Folders whose content others chose, walked by descriptor: names are looked up one by one, and
//! no symlink is followed by the kernel.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    self, AtFlags, Dir, FileType, Mode, OFlags, RawMode, ResolveFlags, Stat, XattrFlags,
};
use rustix::io::Errno;

/// What is at a name of a folder.
pub(crate) enum Found {
    Nothing,
    Folder(OwnedFd),
    Link(PathBuf),
    /// Hides what lower layers have at this name.
    Whiteout,
    Other,
}

/// Looks at a name of a folder.
pub(crate) fn look(folder: &OwnedFd, name: &OsStr) -> io::Result<Found> {
    let found = match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => found,
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        Err(error) => return Err(error.into()),
    };
    Ok(match kind(&found) {
        FileType::Directory => Found::Folder(open_folder(folder, name)?),
        FileType::Symlink => {
            let target = fs::readlinkat(folder, name, Vec::new())?;
            Found::Link(OsString::from_vec(target.into_bytes()).into())
        }
        FileType::CharacterDevice if found.st_rdev == 0 => Found::Whiteout,
        _ => Found::Other,
    })
}

/// Opens a folder by its name in another.
pub(crate) fn open_folder(folder: impl AsFd, name: impl AsRef<OsStr>) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    open(folder, name, flags, Mode::empty())
}

/// Opens a name of a folder; symlinks are refused, and what would wait for another is not waited for.
pub(crate) fn open(
    folder: impl AsFd,
    name: impl AsRef<OsStr>,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    Ok(fs::openat2(folder, name.as_ref(), flags, mode, resolve)?)
}

/// Opens a file for reading by a path in a folder; symlinks lead nowhere outside of it. `None` where
/// there is no such file.
pub(crate) fn open_file_in(folder: impl AsFd, path: &Path) -> io::Result<Option<std::fs::File>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match fs::openat2(folder, path, flags, Mode::empty(), resolve) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.metadata()?.is_file() {
        true => Ok(Some(file)),
        false => Err(io::Error::other(format!("{} is no file", path.display()))),
    }
}

/// What kind of file it is.
pub(crate) fn kind(found: &Stat) -> FileType {
    FileType::from_raw_mode(found.st_mode as RawMode)
}

/// Takes away what is at a name of a folder, whatever it is.
pub(crate) fn remove(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    let folder = folder.as_fd();
    match fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    empty(open_folder(folder, name)?)?;
    Ok(fs::unlinkat(folder, name, AtFlags::REMOVEDIR)?)
}

/// Takes everything out of a folder. As deep as it goes it is held open, one level at a time.
fn empty(folder: OwnedFd) -> io::Result<()> {
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !is_dots(name) {
            remove(&folder, OsStr::from_bytes(name.to_bytes()))?;
        }
    }
    Ok(())
}

/// Whether a name is `.` or `..`.
pub(crate) fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// The parts of a path from the last one to the first, for a stack; `..` is one.
pub(crate) fn reversed(path: &Path) -> impl Iterator<Item = OsString> {
    let is_part =
        |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().rev().filter(is_part).map(|part| part.as_os_str().to_owned())
}

/// Hides what lower layers have in a folder.
pub(crate) fn make_opaque(folder: impl AsFd) -> io::Result<()> {
    Ok(fs::fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())?)
}

/// Whether what lower layers have in a folder is hidden.
pub(crate) fn is_opaque(folder: impl AsFd) -> bool {
    let mut value = [0_u8; 1];
    matches!(fs::fgetxattr(folder, OPAQUE, &mut value), Ok(1)) && value == *b"y"
}

/// Hides what lower layers have at a name.
pub(crate) fn make_whiteout(folder: impl AsFd, name: &OsStr) -> io::Result<()> {
    Ok(fs::mknodat(folder, name, FileType::CharacterDevice, Mode::empty(), 0)?)
}

/// What a file is found as in earlier layers, the uppermost first; none if it is not there or hidden.
pub(crate) fn find_below(
    layers: &[OwnedFd],
    path: &[OsString],
) -> io::Result<Option<(OwnedFd, Stat)>> {
    'layers: for layer in layers {
        let Some((name, above)) = path.split_last() else { return Ok(None) };
        let mut here = layer.try_clone()?;
        let mut hides = is_opaque(&here);
        for part in above {
            match look(&here, part)? {
                Found::Folder(next) => here = next,
                Found::Nothing if hides => return Ok(None),
                Found::Nothing => continue 'layers,
                _ => return Ok(None),
            }
            hides |= is_opaque(&here);
        }
        match fs::statat(&here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                let is_whiteout = kind(&found) == FileType::CharacterDevice;
                return Ok((!is_whiteout).then_some((here, found)));
            }
            Err(Errno::NOENT) if hides => return Ok(None),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The name by which overlays of a user namespace know an opaque folder.
const OPAQUE: &CStr = c"user.overlay.opaque";
