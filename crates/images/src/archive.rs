//! Images from files: tars of `docker save`, and OCI layouts as folders or tars.
//!
//! A tar is unpacked first, as safely as a layer is; a folder is the same as its tar. Paths in its
//! documents lead nowhere outside of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ironmesh_model::limits::ImageLimits;
use serde::Deserialize;

use crate::compression::decompressed;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::import::{Blob, Import, Imported, Origin, check};
use crate::manifest::{Descriptor, Document};
use crate::name::ImageName;
use crate::store::{Image, Store};
use crate::tree;
use crate::unpack::{Budget, unpack};

/// An image that was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Its names.
    pub names: Vec<ImageName>,
    /// What it is.
    pub image: Image,
    /// Devices of its layers, which are left out: containers have those of `/dev`.
    pub devices_left_out: u64,
}

/// Takes all images of a tar or folder into the store. `name` is for one that has none in it.
///
/// # Errors
///
/// If it cannot be read, or one of its images is not as it should be; those before it are there then.
pub fn load(
    store: &Store,
    source: &Path,
    name: Option<&ImageName>,
    limits: &ImageLimits,
) -> Result<Vec<Loaded>, ImageError> {
    let at = |error| ImageError::File { path: source.to_owned(), source: error };
    let work = store.begin()?;
    let file = File::open(source).map_err(at)?;
    let folder = if file.metadata().map_err(at)?.is_dir() {
        OwnedFd::from(file)
    } else {
        let folder = work.folder("archive")?;
        let own = folder.try_clone()?;
        let mut tar = decompressed(file).map_err(at)?;
        unpack(&mut tar, own, &[], 0, &mut Budget::new(limits)).map_err(|error| match error {
            ImageError::Entry { path, why, .. } => {
                ImageError::Invalid(format!("entry {path:?}: {why}"))
            }
            ImageError::Invalid(_) => ImageError::Invalid(format!(
                "{} is neither a tar of `docker save` nor an OCI layout",
                source.display()
            )),
            other => other,
        })?;
        folder
    };
    let archive = Archive { folder, limits, import: Import { store, limits, work: &work } };
    let saved = archive.read(Path::new("manifest.json"))?;
    let index = archive.read(Path::new("index.json"))?;
    match (saved, index) {
        (Some(saved), _) => archive.load_saved(&saved, name),
        (None, Some(index)) => archive.load_layout(&index, name),
        (None, None) => Err(ImageError::Invalid(format!(
            "{} has neither the manifest.json of `docker save` nor the index.json of an OCI layout",
            source.display()
        ))),
    }
}

struct Archive<'a> {
    folder: OwnedFd,
    limits: &'a ImageLimits,
    import: Import<'a>,
}

/// An image in the `manifest.json` of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: PathBuf,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<PathBuf>,
}

impl Archive<'_> {
    fn load_saved(
        &self,
        manifest: &[u8],
        name: Option<&ImageName>,
    ) -> Result<Vec<Loaded>, ImageError> {
        let all: Vec<Saved> = serde_json::from_slice(manifest)
            .map_err(|error| ImageError::Invalid(format!("manifest.json: {error}")))?;
        let load = |saved: &Saved| {
            let names = names(saved.repo_tags.iter().flatten().map(String::as_str), name)?;
            let missing = || no_file(&saved.config);
            let config = self.read(&saved.config)?.ok_or_else(missing)?;
            let named = saved.config.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let hex = named.strip_suffix(".json").unwrap_or(named);
            if let Ok(wanted) = format!("sha256:{hex}").parse() {
                check(Digest::of(&config), &wanted, "its configuration".to_owned())?;
            }
            let origin = Origin { names: &names, digest: None, is_loaded: true };
            let imported = self.import.take(&config, saved.layers.len(), origin, |number| {
                let path = &saved.layers[number];
                // What it is, decompressed, the configuration says.
                self.blob(path, None)
            })?;
            Ok(loaded(names, imported))
        };
        all.iter().map(load).collect()
    }

    fn load_layout(
        &self,
        index: &[u8],
        name: Option<&ImageName>,
    ) -> Result<Vec<Loaded>, ImageError> {
        let index = Document::parse(index)?;
        let mut by_name: BTreeMap<Digest, Vec<&Descriptor>> = BTreeMap::new();
        for descriptor in &index.manifests {
            by_name.entry(descriptor.digest.clone()).or_default().push(descriptor);
        }
        let has_names = by_name.len() > 1 && by_name.values().flatten().any(|d| named(d).is_some());
        if by_name.len() > 1 && !has_names {
            // Several platforms of one image.
            let chosen = index.for_this_machine()?.cloned();
            return chosen.iter().map(|one| self.load_manifest(one, &[one], name)).collect();
        }
        by_name.values().map(|same| self.load_manifest(same[0], same, name)).collect()
    }

    /// The image of a manifest, or of an index of manifests.
    fn load_manifest(
        &self,
        descriptor: &Descriptor,
        same: &[&Descriptor],
        name: Option<&ImageName>,
    ) -> Result<Loaded, ImageError> {
        let names = names(same.iter().filter_map(|descriptor| named(descriptor)), name)?;
        let mut document = Document::parse(&self.document(descriptor)?)?;
        let mut digest = descriptor.digest.clone();
        if let Some(manifest) = document.for_this_machine()? {
            digest = manifest.digest.clone();
            document = Document::parse(&self.document(manifest)?)?;
        }
        let config = document.config.as_ref();
        let config = config.ok_or_else(|| ImageError::Invalid("it is no image".to_owned()))?;
        let config = self.document(config)?;
        let origin = Origin { names: &names, digest: Some(&digest), is_loaded: true };
        let imported = self.import.take(&config, document.layers.len(), origin, |number| {
            let descriptor = &document.layers[number];
            self.blob(&path_of(&descriptor.digest), Some(descriptor.digest.clone()))
        })?;
        Ok(loaded(names, imported))
    }

    /// A document of a layout, which must be what its digest says.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let path = path_of(&descriptor.digest);
        let bytes = self.read(&path)?.ok_or_else(|| no_file(&path))?;
        check(Digest::of(&bytes), &descriptor.digest, path.display().to_string())?;
        if bytes.len() as u64 != descriptor.size {
            let text =
                format!("{} has {} bytes and not {}", path.display(), bytes.len(), descriptor.size);
            return Err(ImageError::Invalid(text));
        }
        Ok(bytes)
    }

    /// A small file; none if it is not there.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, ImageError> {
        let at = |source| ImageError::File { path: path.to_owned(), source };
        let Some(file) = tree::open_file_in(&self.folder, path).map_err(at)? else {
            return Ok(None);
        };
        let most = self.limits.manifest_bytes_max;
        let mut bytes = Vec::new();
        file.take(most as u64 + 1).read_to_end(&mut bytes).map_err(at)?;
        if bytes.len() > most {
            let limit = "manifest_bytes_max";
            return Err(ImageError::TooMuch {
                what: "bytes of a document",
                most: most as u64,
                limit,
            });
        }
        Ok(Some(bytes))
    }

    fn blob(&self, path: &Path, digest: Option<Digest>) -> Result<Blob, ImageError> {
        let at = |source| ImageError::File { path: path.to_owned(), source };
        let file = tree::open_file_in(&self.folder, path).map_err(at)?;
        let content = Box::new(file.ok_or_else(|| no_file(path))?);
        Ok(Blob { content, digest })
    }
}

fn loaded(names: Vec<ImageName>, imported: Imported) -> Loaded {
    let Imported { image, devices_left_out } = imported;
    Loaded { names, image, devices_left_out }
}

/// Where a layout has what has this digest.
fn path_of(digest: &Digest) -> PathBuf {
    Path::new("blobs/sha256").join(digest.hex())
}

/// The name that a layout gives to an image: in full by containerd and its like, else by others.
fn named(descriptor: &Descriptor) -> Option<&str> {
    let names = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
    names.iter().find_map(|name| descriptor.annotations.get(*name)).map(String::as_str)
}

/// The names of an image: those of its archive, and the one that was given. A tag alone is no name.
fn names<'a>(
    found: impl Iterator<Item = &'a str>,
    given: Option<&ImageName>,
) -> Result<Vec<ImageName>, ImageError> {
    if let Some(given) = given {
        return Ok(vec![given.clone()]);
    }
    let names = found.filter(|name| name.contains(['/', ':'])).map(|name| {
        name.parse().map_err(|error: crate::BadImageName| ImageError::Invalid(error.to_string()))
    });
    let names: Vec<ImageName> = names.collect::<Result<_, _>>()?;
    if names.is_empty() {
        let text = "it has no name: give one with --name NAME:TAG".to_owned();
        return Err(ImageError::Invalid(text));
    }
    Ok(names)
}

fn no_file(path: &Path) -> ImageError {
    ImageError::Invalid(format!("{} is missing", path.display()))
}
