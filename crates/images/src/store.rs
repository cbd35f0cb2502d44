//! The images of a user: names, configurations, and layers unpacked once for all that have them.
//!
//! ```text
//! lock          held by who changes what follows
//! index.json    names, images, layers; replaced as a whole
//! layers/ID/    a layer, by the digest of itself and all below it; who uses it has it locked (shared)
//! work/N/       what is being unpacked, locked by who does it
//! ```
//!
//! All locks are the kernel's, so that they end with their process however it ends. A layer is in
//! its place only when it is whole.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ironmesh_model::limits::ImageLimits;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::manifest::ImageConfig;
use crate::name::ImageName;
use crate::tree;

/// The images of a user.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// An image of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its configuration: what it is, wherever it came from.
    pub id: Digest,
    /// The digest of its manifest, if it came with one.
    pub digest: Option<Digest>,
    /// What its containers run.
    pub config: ImageConfig,
    /// Its layers, the lowest first, each by the digest of itself and all below it.
    pub layers: Vec<Digest>,
    /// Bytes of the files of its layers.
    pub bytes: u64,
    /// Whether it was loaded: then it goes only when it is taken away.
    pub loaded: bool,
}

/// A name of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The name in full, with a tag or a digest.
    pub name: String,
    /// What has the name.
    pub image: Image,
}

/// What the store has, as in its file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Index {
    names: BTreeMap<String, Digest>,
    images: BTreeMap<Digest, Image>,
    /// Bytes of each layer.
    layers: BTreeMap<Digest, u64>,
}

/// An image that is in use: its layers stay as long as this does.
#[derive(Debug)]
pub struct Held {
    /// The image.
    pub image: Image,
    /// The folders of its layers, the uppermost first.
    pub layers: Vec<PathBuf>,
    _locks: Vec<File>,
}

/// A folder to unpack in; it goes with this.
#[derive(Debug)]
pub(crate) struct Work {
    path: PathBuf,
    folder: File,
}

/// A layer that is in a [`Work`] folder yet.
#[derive(Debug)]
pub(crate) struct NewLayer {
    pub(crate) id: Digest,
    /// Its folder there.
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

impl Store {
    /// The store in this folder, which is made with the mode 0700, with those above it.
    ///
    /// # Errors
    ///
    /// If it cannot be made, or belongs to another user.
    pub fn open(folder: &Path) -> Result<Self, ImageError> {
        let at = |error| ImageError::File { path: folder.to_owned(), error };
        for folder in [folder, &folder.join(LAYERS), &folder.join(WORK)] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| ImageError::File { path: folder.to_owned(), error })?;
        }
        let metadata = fs::symlink_metadata(folder).map_err(at)?;
        let own = rustix::process::geteuid().as_raw();
        if !metadata.is_dir() || metadata.uid() != own || metadata.mode() & 0o077 != 0 {
            return Err(at(io::Error::other("it is to be a folder of yours with the mode 0700")));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What a name means.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn find(&self, name: &ImageName) -> Result<Option<Image>, ImageError> {
        let index = self.index()?;
        let id = index.names.get(&name.to_string());
        Ok(id.and_then(|id| index.images.get(id)).cloned())
    }

    /// All names, in order.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn list(&self) -> Result<Vec<Named>, ImageError> {
        let index = self.index()?;
        let named = index
            .names
            .into_iter()
            .filter_map(|(name, id)| Some(Named { name, image: index.images.get(&id)?.clone() }));
        Ok(named.collect())
    }

    /// Takes a name away, and what has no name then. Containers that run keep their layers.
    ///
    /// Whether there was such a name.
    ///
    /// # Errors
    ///
    /// If the store cannot be changed.
    pub fn remove(&self, name: &ImageName) -> Result<bool, ImageError> {
        let _lock = self.lock()?;
        let mut index = self.index()?;
        let Some(id) = index.names.remove(&name.to_string()) else { return Ok(false) };
        let is_tag = |name: &str| !name.contains('@');
        if !index.names.iter().any(|(name, other)| *other == id && is_tag(name)) {
            index.forget(&id);
        }
        self.write(&index)?;
        self.sweep(&index)?;
        Ok(true)
    }

    /// Keeps an image from being taken away; `None` if it just was.
    ///
    /// # Errors
    ///
    /// If its layers cannot be opened.
    pub fn hold(&self, image: Image) -> Result<Option<Held>, ImageError> {
        let (mut locks, mut layers) = (Vec::new(), Vec::new());
        for id in image.layers.iter().rev() {
            let path = self.layer(id);
            let Some(lock) = self.hold_layer(id)? else { return Ok(None) };
            // When it was used last; that it cannot be noted is no reason not to use it.
            let _ = rustix::fs::futimens(&lock, &NOW);
            locks.push(lock);
            layers.push(path);
        }
        Ok(Some(Held { image, layers, _locks: locks }))
    }

    /// Keeps a layer; none if it is not here.
    pub(crate) fn hold_layer(&self, id: &Digest) -> Result<Option<File>, ImageError> {
        let path = self.layer(id);
        let at = |error| ImageError::File { path: path.clone(), error };
        let folder = match File::open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at(error)),
        };
        folder.lock_shared().map_err(at)?;
        // It may have been taken away before the lock was had.
        let is_there = fs::metadata(&path).is_ok_and(|now| {
            folder.metadata().is_ok_and(|held| (now.dev(), now.ino()) == (held.dev(), held.ino()))
        });
        Ok(is_there.then_some(folder))
    }

    /// The folder of a layer.
    fn layer(&self, id: &Digest) -> PathBuf {
        self.folder.join(LAYERS).join(id.hex())
    }

    /// A folder to unpack in. What others left there is taken away.
    pub(crate) fn begin(&self) -> Result<Work, ImageError> {
        let _lock = self.lock()?;
        let all = self.folder.join(WORK);
        let at = |error| ImageError::File { path: all.clone(), error };
        self.sweep_folder(&all, |_| false)?;
        for number in 0..WORKS_MAX {
            let path = all.join(number.to_string());
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let folder = File::open(&path).map_err(at)?;
                    folder.lock().map_err(at)?;
                    return Ok(Work { path, folder });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(at(error)),
            }
        }
        Err(at(io::Error::other("too many images are being unpacked")))
    }

    /// Puts layers into their places, and an image with its names into the index. Where there is no room
    /// for it, all stays as it was.
    pub(crate) fn commit(
        &self,
        work: &Work,
        mut image: Image,
        new: &[NewLayer],
        names: &[ImageName],
        limits: &ImageLimits,
    ) -> Result<Image, ImageError> {
        let _lock = self.lock()?;
        let before = self.index()?;
        let mut index = before.clone();
        for layer in new {
            let to = self.layer(&layer.id);
            let at = |error| ImageError::File { path: to.clone(), error };
            match fs::rename(work.path.join(&layer.name), &to) {
                // Another has put the same there meanwhile.
                Err(_) if to.is_dir() => {}
                outcome => outcome.map_err(at)?,
            }
            index.layers.insert(layer.id.clone(), layer.bytes);
        }
        image.loaded |= index.images.get(&image.id).is_some_and(|known| known.loaded);
        image.bytes = image.layers.iter().filter_map(|id| index.layers.get(id)).sum();
        index.images.insert(image.id.clone(), image.clone());
        for name in names {
            let other = index.names.insert(name.to_string(), image.id.clone());
            if let Some(other) = other.filter(|other| *other != image.id)
                && !index.names.values().any(|id| *id == other)
            {
                index.forget(&other);
            }
        }
        if let Err(error) = self.make_room(&mut index, &image.id, limits.store_bytes_max) {
            self.sweep(&before)?;
            return Err(error);
        }
        self.write(&index)?;
        self.sweep(&index)?;
        Ok(image)
    }

    /// Takes images away until the rest fits: the one that was used longest ago first, but none that
    /// is in use, was loaded, or is new.
    fn make_room(&self, index: &mut Index, new: &Digest, most: u64) -> Result<(), ImageError> {
        while index.bytes() > most {
            let may_go = |image: &&Image| image.id != *new && !image.loaded && !self.is_used(image);
            let used = |image: &&Image| {
                let top = image.layers.last().and_then(|id| fs::metadata(self.layer(id)).ok());
                top.map(|top| (top.mtime(), top.mtime_nsec()))
            };
            let oldest = index.images.values().filter(may_go).min_by_key(used);
            let oldest = oldest.map(|image| image.id.clone());
            index.forget(&oldest.ok_or(ImageError::Full { most })?);
        }
        Ok(())
    }

    /// Whether a container has it.
    fn is_used(&self, image: &Image) -> bool {
        let top = image.layers.last().and_then(|id| File::open(self.layer(id)).ok());
        top.is_some_and(|top| matches!(top.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Takes layers away that no image has and nobody uses.
    fn sweep(&self, index: &Index) -> Result<(), ImageError> {
        let wanted: BTreeSet<&str> = index.layers.keys().map(Digest::hex).collect();
        self.sweep_folder(&self.folder.join(LAYERS), |name| {
            name.to_str().is_some_and(|name| wanted.contains(name))
        })
    }

    fn sweep_folder(
        &self,
        folder: &Path,
        stays: impl Fn(&OsStr) -> bool,
    ) -> Result<(), ImageError> {
        let at = |error| ImageError::File { path: folder.to_owned(), error };
        let opened = File::open(folder).map_err(at)?;
        for entry in fs::read_dir(folder).map_err(at)? {
            let name = entry.map_err(at)?.file_name();
            if stays(&name) {
                continue;
            }
            let Ok(found) = tree::open_folder(&opened, &name) else { continue };
            // Locked, it is somebody's.
            if File::from(found).try_lock().is_ok() {
                tree::remove(&opened, &name).map_err(at)?;
            }
        }
        Ok(())
    }

    fn index(&self) -> Result<Index, ImageError> {
        let path = self.folder.join(INDEX);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            Err(error) => return Err(ImageError::File { path, error }),
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            let why = format!("{error}: take the folder away, and load or pull the images again");
            ImageError::File { path, error: io::Error::other(why) }
        })
    }

    fn write(&self, index: &Index) -> Result<(), ImageError> {
        let (path, new) = (self.folder.join(INDEX), self.folder.join(NEW_INDEX));
        let bytes = serde_json::to_vec(index).map_err(io::Error::other)?;
        let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, &path));
        written.map_err(|error| ImageError::File { path, error })
    }

    fn lock(&self) -> Result<File, ImageError> {
        let path = self.folder.join("lock");
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o600);
        let locked = options.open(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| ImageError::File { path, error })
    }
}

impl Index {
    /// Takes an image out, with its names and the layers that no other has.
    fn forget(&mut self, id: &Digest) {
        self.images.remove(id);
        self.names.retain(|_, other| other != id);
        let wanted: BTreeSet<&Digest> = self.images.values().flat_map(|i| &i.layers).collect();
        self.layers.retain(|layer, _| wanted.contains(layer));
    }

    /// Bytes of all layers.
    fn bytes(&self) -> u64 {
        self.layers.values().sum()
    }
}

impl Work {
    /// Makes a folder in it.
    pub(crate) fn folder(&self, name: &str) -> Result<OwnedFd, ImageError> {
        let path = self.path.join(name);
        let made = DirBuilder::new().mode(0o755).create(&path).and_then(|()| File::open(&path));
        made.map(OwnedFd::from).map_err(|error| ImageError::File { path, error })
    }
}

impl Work {
    /// Makes a file in it, to be written and read.
    pub(crate) fn file(&self, name: &str) -> Result<File, ImageError> {
        let path = self.path.join(name);
        let mut options = File::options();
        let made = options.read(true).write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|error| ImageError::File { path, error })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What stays is taken away by the next one.
        let above = self.path.parent().and_then(|above| File::open(above).ok());
        if let (Some(above), Some(name)) = (above, self.path.file_name()) {
            let _ = tree::remove(above.as_fd(), name);
        }
        let _ = self.folder.unlock();
    }
}

const LAYERS: &str = "layers";
const WORK: &str = "work";
const INDEX: &str = "index.json";
const NEW_INDEX: &str = "index.json.new";
/// Images that are unpacked at a time.
const WORKS_MAX: u32 = 1_000;
/// The present, whatever it is.
const NOW: rustix::fs::Timestamps = rustix::fs::Timestamps {
    last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW as _ },
    last_modification: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW as _ },
};

#[cfg(test)]
mod tests;
