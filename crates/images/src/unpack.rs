//! Unpacks the tar of a layer into a folder of its own, as an overlay's layer.
//!
//! Nothing leaves the folder: names are walked by descriptor, one part at a time ([`tree`]), `..` in
//! a name is refused, and so is a symlink that would lead above the root. What others could use
//! against the host is not made: no devices, no set-user-id, no extended attributes. Whiteouts become
//! those of overlays (a device 0/0, `user.overlay.opaque`), so that a layer looks the same to root
//! and to an ordinary user.

use std::cell::Cell;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::rc::Rc;

use ironmesh_model::limits::ImageLimits;
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use tar::{Entry, EntryType};

use crate::error::ImageError;
use crate::tree::{self, Found};

/// What an image may still take.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    bytes: u64,
    files: u64,
    limits: ImageLimits,
}

impl Budget {
    pub(crate) fn new(limits: &ImageLimits) -> Self {
        let (bytes, files) = (limits.unpacked_bytes_max, limits.files_max);
        Self { bytes, files, limits: limits.clone() }
    }

    fn take_bytes(&mut self, count: u64) -> Result<(), ImageError> {
        let most = self.limits.unpacked_bytes_max;
        self.bytes = self.bytes.checked_sub(count).ok_or(ImageError::TooMuch {
            what: "bytes",
            most,
            limit: "unpacked_bytes_max",
        })?;
        Ok(())
    }

    fn take_file(&mut self) -> Result<(), ImageError> {
        let most = self.limits.files_max;
        self.files = self.files.checked_sub(1).ok_or(ImageError::TooMuch {
            what: "files",
            most,
            limit: "files_max",
        })?;
        Ok(())
    }

    /// Bytes of a tar that may still be read.
    pub(crate) fn tar_bytes_max(&self) -> u64 {
        // Each file has its head and what fills its last block, and a long name.
        self.bytes.saturating_add(self.files.saturating_mul(ENTRY_BYTES))
    }
}

/// What a layer came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unpacked {
    /// Of its files.
    pub(crate) bytes: u64,
    /// Devices that were not made.
    pub(crate) devices_left_out: u64,
}

/// Unpacks a tar into an empty folder; `below` are the layers under it, the uppermost first, and
/// `number` is which it is, from 1.
///
/// It is to be read to its end by the caller: what follows the last entry is not.
pub(crate) fn unpack(
    tar: impl Read,
    root: OwnedFd,
    below: &[OwnedFd],
    number: usize,
    budget: &mut Budget,
) -> Result<Unpacked, ImageError> {
    let heads = Rc::new(Cell::new(0));
    let mut archive = tar::Archive::new(Heads { inner: tar, left: Rc::clone(&heads) });
    archive.set_ignore_zeros(false);
    let mut layer = Layer {
        root,
        below,
        budget,
        is_root: rustix::process::geteuid().is_root(),
        last: None,
        unpacked: Unpacked::default(),
    };
    let in_layer = |path: &[u8], why: Refused| match why {
        Refused::Limit(error) => error,
        Refused::Entry(why) => {
            let shown = String::from_utf8_lossy(&path[..path.len().min(SHOWN_BYTES)]).into_owned();
            ImageError::Entry { layer: number, path: shown, why }
        }
    };
    let broken = |error: io::Error| ImageError::Invalid(format!("layer {number}: {error}"));
    let mut entries = archive.entries().map_err(broken)?;
    loop {
        heads.set(HEAD_BYTES_MAX);
        let Some(entry) = entries.next() else { return Ok(layer.unpacked) };
        let mut entry = entry.map_err(broken)?;
        heads.set(u64::MAX);
        let path = entry.path_bytes().into_owned();
        layer.entry(&mut entry, &path).map_err(|why| in_layer(&path, why))?;
        // What was not used of it is no head of the next.
        io::copy(&mut entry, &mut io::sink()).map_err(broken)?;
    }
}

/// Why an entry is not unpacked.
enum Refused {
    Entry(String),
    Limit(ImageError),
}

impl From<ImageError> for Refused {
    fn from(error: ImageError) -> Self {
        Self::Limit(error)
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Entry(error.to_string())
    }
}

impl From<rustix::io::Errno> for Refused {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Entry(why.into()))
}

/// A tar of whose heads, long names included, no one may be longer than what is left: they are read
/// into memory.
struct Heads<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Heads<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        let long =
            || io::Error::new(io::ErrorKind::FileTooLarge, "the head of an entry is too long");
        self.left.set(left.ok_or_else(long)?);
        Ok(count)
    }
}

/// A layer that is being unpacked.
struct Layer<'a> {
    root: OwnedFd,
    below: &'a [OwnedFd],
    budget: &'a mut Budget,
    /// Whether files can be given to users.
    is_root: bool,
    /// The folder of the last entry.
    last: Option<(Vec<OsString>, OwnedFd)>,
    unpacked: Unpacked,
}

/// Mode and owner of an entry.
struct Owned {
    mode: u32,
    user: u32,
    group: u32,
}

impl Layer<'_> {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>, path: &[u8]) -> Result<(), Refused> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        self.budget.take_file()?;
        let parts = self.parts(path)?;
        let owned = self.owned(entry)?;
        let Some((name, above)) = parts.split_last() else {
            if kind != EntryType::Directory {
                return refuse("the root of a layer is a folder");
            }
            let root = self.root.try_clone()?;
            return self.give(&root, &owned, true);
        };
        let folder = self.folder(above)?;
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(&folder, OsStr::from_bytes(hidden));
        }
        match kind {
            EntryType::Directory => self.directory(&folder, name, &owned),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&folder, name, &owned, entry)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.clear(&folder, name)?;
                fs::symlinkat(OsStr::from_bytes(&target), &folder, name.as_os_str())?;
                self.give_name(&folder, name, &owned)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.hard_link(&folder, name, &target)
            }
            EntryType::Fifo => {
                self.clear(&folder, name)?;
                let mode = Mode::from_raw_mode(owned.mode & 0o777);
                fs::mknodat(&folder, name.as_os_str(), FileType::Fifo, mode, 0)?;
                self.give_name(&folder, name, &owned)
            }
            EntryType::Char | EntryType::Block => {
                self.unpacked.devices_left_out += 1;
                Ok(())
            }
            other => refuse(format!("entries of type {:?} are not known", other.as_byte() as char)),
        }
    }

    /// The parts of a name. Like all names of a layer it counts from the layer's root.
    fn parts(&self, path: &[u8]) -> Result<Vec<OsString>, Refused> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
        let parts: Vec<OsString> = parts.map(|part| OsString::from_vec(part.to_vec())).collect();
        if parts.iter().any(|part| part == "..") {
            return refuse("its name leads out of the image");
        }
        if parts.iter().any(|part| part.as_bytes().contains(&0)) {
            return refuse("its name has a zero byte");
        }
        self.check_depth(parts.len())?;
        Ok(parts)
    }

    fn check_depth(&self, depth: usize) -> Result<(), Refused> {
        let most = self.budget.limits.depth_max;
        if depth > most {
            let (most, limit) = (most as u64, "depth_max");
            return Err(ImageError::TooMuch { what: "folders in one another", most, limit }.into());
        }
        Ok(())
    }

    fn owned<R: Read>(&self, entry: &Entry<'_, R>) -> Result<Owned, Refused> {
        let header = entry.header();
        // The users of a pod are 0 to 65 535.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id <= LAST_USER).unwrap_or(NOBODY);
        let (user, group) = (id(header.uid()?), id(header.gid()?));
        Ok(Owned { mode: header.mode()?, user, group })
    }

    /// A folder of the layer, made where it is missing: as the layers below have it, if they do.
    /// Symlinks of this layer are followed inside of it.
    fn folder(&mut self, path: &[OsString]) -> Result<OwnedFd, Refused> {
        if let Some((last, folder)) = &self.last
            && last == path
        {
            return Ok(folder.try_clone()?);
        }
        let mut left: Vec<OsString> = path.iter().rev().cloned().collect();
        let mut names: Vec<OsString> = Vec::new();
        let mut here = vec![self.root.try_clone()?];
        let mut links = 0;
        while let Some(part) = left.pop() {
            let Some(folder) = here.last() else { return refuse("it is nowhere") };
            if part == ".." {
                if names.pop().is_none() {
                    return refuse("a symlink on its way leads out of the image");
                }
                here.pop();
                continue;
            }
            match tree::look(folder, &part)? {
                Found::Folder(next) => here.push(next),
                Found::Link(target) => {
                    links += 1;
                    if links > SYMLINKS_MAX {
                        return refuse("too many symlinks are on its way");
                    }
                    if target.is_absolute() {
                        here.truncate(1);
                        names.clear();
                    }
                    left.extend(tree::reversed(&target));
                    continue;
                }
                found @ (Found::Nothing | Found::Whiteout) => {
                    names.push(part);
                    let made =
                        self.make_parent(folder, &names, matches!(found, Found::Whiteout))?;
                    here.push(made);
                    continue;
                }
                Found::Other => return refuse("what should be a folder on its way is a file"),
            }
            names.push(part);
            self.check_depth(names.len())?;
        }
        let Some(folder) = here.pop() else { return refuse("it is nowhere") };
        self.last = Some((path.to_vec(), folder.try_clone()?));
        Ok(folder)
    }

    /// A folder that the tar does not have before what is in it.
    fn make_parent(
        &mut self,
        folder: &OwnedFd,
        path: &[OsString],
        hides: bool,
    ) -> Result<OwnedFd, Refused> {
        self.check_depth(path.len())?;
        let mut owned = Owned { mode: 0o755, user: 0, group: 0 };
        if let Some((_, found)) = tree::find_below(self.below, path)?
            && tree::kind(&found) == FileType::Directory
            && !hides
        {
            owned = Owned { mode: found.st_mode, user: found.st_uid, group: found.st_gid };
        }
        let Some(name) = path.last() else { return refuse("it is nowhere") };
        self.directory(folder, name, &owned)?;
        Ok(tree::open_folder(folder, name)?)
    }

    fn directory(&mut self, folder: &OwnedFd, name: &OsStr, owned: &Owned) -> Result<(), Refused> {
        let found = tree::look(folder, name)?;
        if !matches!(found, Found::Folder(_)) {
            self.clear(folder, name)?;
            fs::mkdirat(folder, name, Mode::from_raw_mode(0o700))?;
        }
        let made = tree::open_folder(folder, name)?;
        if matches!(found, Found::Whiteout) {
            tree::make_opaque(&made)?;
        }
        self.give(&made, owned, true)
    }

    fn file<R: Read>(
        &mut self,
        folder: &OwnedFd,
        name: &OsStr,
        owned: &Owned,
        entry: &mut Entry<'_, R>,
    ) -> Result<(), Refused> {
        // Before a byte of it is written: what is sparse can say anything.
        let size = entry.size();
        self.budget.take_bytes(size)?;
        let time = entry.header().mtime().unwrap_or_default();
        let file = self.new_file(folder, name)?;
        let written = copy(entry, &file, size)?;
        if written != size {
            return refuse("it ends before its end");
        }
        self.unpacked.bytes += written;
        let time = Timespec { tv_sec: i64::try_from(time).unwrap_or_default(), tv_nsec: 0 };
        fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        self.give(&file.into(), owned, false)
    }

    fn new_file(&mut self, folder: &OwnedFd, name: &OsStr) -> Result<File, Refused> {
        self.clear(folder, name)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Ok(tree::open(folder, name, flags, Mode::from_raw_mode(0o600))?.into())
    }

    /// A second name of a file of this layer; of one of a layer below, a copy, as an overlay would make.
    fn hard_link(&mut self, folder: &OwnedFd, name: &OsStr, target: &[u8]) -> Result<(), Refused> {
        let parts = self.parts(target)?;
        let Some((target_name, above)) = parts.split_last() else {
            return refuse("a hard link to the root");
        };
        if let Some(there) = self.existing_folder(above)? {
            match tree::look(&there, target_name)? {
                Found::Folder(_) => return refuse("a hard link to a folder"),
                Found::Link(_) | Found::Other => {
                    let (one, other) = (fs::fstat(&there)?, fs::fstat(folder)?);
                    let same = (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino);
                    if same && target_name == name {
                        return Ok(());
                    }
                    self.clear(folder, name)?;
                    let flags = AtFlags::empty();
                    return Ok(fs::linkat(&there, target_name.as_os_str(), folder, name, flags)?);
                }
                Found::Whiteout => return refuse("a hard link to what the layer takes away"),
                Found::Nothing => {}
            }
        }
        let Some((there, found)) = tree::find_below(self.below, &parts)? else {
            return refuse("a hard link to what is not there");
        };
        let owned = Owned { mode: found.st_mode, user: found.st_uid, group: found.st_gid };
        match tree::kind(&found) {
            FileType::RegularFile => {
                let size = u64::try_from(found.st_size).unwrap_or_default();
                self.budget.take_bytes(size)?;
                let from = tree::open(&there, target_name, OFlags::RDONLY, Mode::empty())?;
                let file = self.new_file(folder, name)?;
                self.unpacked.bytes += copy(&mut File::from(from), &file, size)?;
                self.give(&file.into(), &owned, false)
            }
            _ => refuse("a hard link to what is no file"),
        }
    }

    /// A folder of this layer as its tar has it: through no symlink.
    fn existing_folder(&self, path: &[OsString]) -> Result<Option<OwnedFd>, Refused> {
        let mut here = self.root.try_clone()?;
        for part in path {
            match tree::look(&here, part)? {
                Found::Folder(next) => here = next,
                Found::Link(_) => return refuse("a hard link through a symlink"),
                _ => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn whiteout(&self, folder: &OwnedFd, hidden: &OsStr) -> Result<(), Refused> {
        if hidden == OPAQUE {
            return Ok(tree::make_opaque(folder)?);
        }
        // What aufs kept for itself.
        if hidden.as_bytes().starts_with(WHITEOUT) {
            return Ok(());
        }
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return refuse("it takes away what has no name");
        }
        match tree::look(folder, hidden)? {
            Found::Folder(here) => Ok(tree::make_opaque(&here)?),
            Found::Nothing => Ok(tree::make_whiteout(folder, hidden)?),
            // What this layer has there hides the layers below already.
            Found::Link(_) | Found::Whiteout | Found::Other => Ok(()),
        }
    }

    /// Makes room for an entry: the last one of a name counts.
    fn clear(&mut self, folder: &OwnedFd, name: &OsStr) -> Result<(), Refused> {
        if !matches!(tree::look(folder, name)?, Found::Nothing) {
            self.last = None;
            tree::remove(folder, name)?;
        }
        Ok(())
    }

    /// Gives what is open its owner and mode. A single user is the owner of all, and must be able to
    /// read it.
    fn give(&self, file: &OwnedFd, owned: &Owned, is_folder: bool) -> Result<(), Refused> {
        if self.is_root {
            fs::fchown(file, Some(uid(owned.user)), Some(gid(owned.group)))?;
        }
        let (kept, needed) = if is_folder { (0o3777, 0o700) } else { (0o777, 0o400) };
        let needed = if self.is_root { 0 } else { needed };
        Ok(fs::fchmod(file, Mode::from_raw_mode(owned.mode & kept | needed))?)
    }

    fn give_name(&self, folder: &OwnedFd, name: &OsStr, owned: &Owned) -> Result<(), Refused> {
        if self.is_root {
            let (user, group) = (Some(uid(owned.user)), Some(gid(owned.group)));
            fs::chownat(folder, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

/// Copies at most so many bytes; returns how many there were.
fn copy(from: &mut impl Read, mut to: &File, most: u64) -> io::Result<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut copied = 0;
    let mut from = from.take(most);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(copied);
        }
        to.write_all(&buffer[..count])?;
        copied += count as u64;
    }
}

fn uid(id: u32) -> Uid {
    Uid::from_raw(id)
}

fn gid(id: u32) -> Gid {
    Gid::from_raw(id)
}

/// What the name of a whiteout begins with.
const WHITEOUT: &[u8] = b".wh.";
/// The rest of that of a folder that hides all below.
const OPAQUE: &str = ".wh..opq";
/// As in the kernel.
const SYMLINKS_MAX: u32 = 40;
/// The last user of a pod.
const LAST_USER: u32 = 65_535;
/// Who has what belongs to a later one.
const NOBODY: u32 = 65_534;
/// Bytes of the head of an entry with its long names.
const HEAD_BYTES_MAX: u64 = 256 << 10;
/// Bytes of a tar that an entry takes besides its content, more or less.
const ENTRY_BYTES: u64 = 4 << 10;
/// Bytes of a name that are shown.
const SHOWN_BYTES: usize = 200;
const COPY_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests;
