//! Images from files: tars of `docker save`, and OCI layouts as folders or tars.
//!
//! A tar is unpacked first, as safely as a layer is; a folder is the same as its tar. Paths in its
//! documents lead nowhere outside of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
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
    let at = |error| ImageError::File { path: source.to_owned(), error };
    let work = store.begin()?;
    let file = File::open(source).map_err(at)?;
    let import = Import { store, limits, work: &work };
    let folder = match file.metadata().map_err(at)?.is_dir() {
        true => OwnedFd::from(file),
        false => unpacked(file, source, &import)?,
    };
    Archive { folder, limits, import }.load(source, name)
}

/// The same of a tar that comes from a stream, such as standard input, and is called `source` in
/// messages. It may have as many bytes as its content may.
///
/// # Errors
///
/// As there.
pub fn load_stream(
    store: &Store,
    stream: impl Read,
    source: &Path,
    name: Option<&ImageName>,
    limits: &ImageLimits,
) -> Result<Vec<Loaded>, ImageError> {
    let work = store.begin()?;
    let import = Import { store, limits, work: &work };
    let most = Budget::new(limits).tar_bytes_max();
    let mut stream = stream.take(most.saturating_add(1));
    let folder = unpacked(&mut stream, source, &import).and_then(|folder| {
        // Who writes it is not to find that nobody reads what stands behind its end.
        let rest = io::copy(&mut stream, &mut io::sink());
        rest.map_err(|error| ImageError::File { path: source.to_owned(), error })?;
        Ok(folder)
    });
    if stream.limit() == 0 {
        return Err(ImageError::TooMuch { what: "bytes", most, limit: "unpacked_bytes_max" });
    }
    Archive { folder: folder?, limits, import }.load(source, name)
}

/// A folder with the content of a tar, which may be compressed.
fn unpacked(
    tar: impl Read,
    source: &Path,
    Import { limits, work, .. }: &Import<'_>,
) -> Result<OwnedFd, ImageError> {
    let at = |error| ImageError::File { path: source.to_owned(), error };
    let folder = work.folder("archive")?;
    let own = folder.try_clone()?;
    let mut tar = decompressed(tar).map_err(at)?;
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
    Ok(folder)
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
    fn load(&self, source: &Path, name: Option<&ImageName>) -> Result<Vec<Loaded>, ImageError> {
        let saved = self.read(Path::new("manifest.json"))?;
        let index = self.read(Path::new("index.json"))?;
        match (saved, index) {
            (Some(saved), _) => self.load_saved(&saved, name),
            (None, Some(index)) => self.load_layout(&index, name),
            (None, None) => Err(ImageError::Invalid(format!(
                "{} has neither the manifest.json of `docker save` nor the index.json of an OCI layout",
                source.display()
            ))),
        }
    }

    fn load_saved(
        &self,
        manifest: &[u8],
        name: Option<&ImageName>,
    ) -> Result<Vec<Loaded>, ImageError> {
        let all: Vec<Saved> = serde_json::from_slice(manifest)
            .map_err(|error| ImageError::Invalid(format!("manifest.json: {error}")))?;
        check_name(all.len(), name)?;
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
        let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
        for descriptor in index.manifests {
            let of_name = by_name.entry(named(&descriptor).map(str::to_owned)).or_default();
            of_name.push(descriptor);
        }
        let mut by_digest: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
        for manifests in by_name.into_values() {
            // Several of one name, or of none, are one image for several platforms.
            let of_name = Document::index(manifests);
            let chosen = match &of_name.manifests[..] {
                [only] => Some(only),
                _ => of_name.for_this_machine()?,
            };
            let Some(chosen) = chosen else { continue };
            by_digest.entry(chosen.digest.clone()).or_default().push(chosen.clone());
        }
        check_name(by_digest.len(), name)?;
        by_digest.values().map(|same| self.load_manifest(same, name)).collect()
    }

    /// The image of a manifest, or of an index of manifests, which has a name for each of `same`.
    fn load_manifest(
        &self,
        same: &[Descriptor],
        name: Option<&ImageName>,
    ) -> Result<Loaded, ImageError> {
        let names = names(same.iter().filter_map(named), name)?;
        let mut document = Document::parse(&self.document(&same[0])?)?;
        let mut digest = same[0].digest.clone();
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
        let at = |error| ImageError::File { path: path.to_owned(), error };
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
        let at = |error| ImageError::File { path: path.to_owned(), error };
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

/// Whether the name that was given can be that of so many images.
fn check_name(images: usize, given: Option<&ImageName>) -> Result<(), ImageError> {
    match given {
        Some(name) if images > 1 => Err(ImageError::Invalid(format!(
            "it has {images} images, which cannot all be called {name}"
        ))),
        _ => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::manifest::{ARCHITECTURE, OS};

    /// A layout of images without layers: the platform and the name of each.
    fn layout(images: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let blobs = folder.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |document: &Value| {
            let text = document.to_string();
            let digest = Digest::of(text.as_bytes());
            std::fs::write(blobs.join(digest.hex()), &text).unwrap();
            json!({"digest": digest.to_string(), "size": text.len()})
        };
        let manifests = images.iter().map(|(architecture, name)| {
            let platform = json!({"os": OS, "architecture": architecture});
            let mut config = platform.clone();
            config["config"] = json!({"Env": [format!("NAME={name:?}")]});
            config["rootfs"] = json!({"diff_ids": []});
            let config = put(&config);
            let mut described = put(&json!({"schemaVersion": 2, "config": config, "layers": []}));
            described["platform"] = platform;
            if let Some(name) = name {
                described["annotations"] = json!({"org.opencontainers.image.ref.name": name});
            }
            described
        });
        let manifests: Vec<Value> = manifests.collect();
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        std::fs::write(folder.path().join("index.json"), index.to_string()).unwrap();
        folder
    }

    fn load_as(images: &[(&str, Option<&str>)], name: Option<&str>) -> Result<Vec<String>, String> {
        let (store, layout) = (tempfile::tempdir().unwrap(), layout(images));
        let store = Store::open(&store.path().join("images")).unwrap();
        let name = name.map(|name| name.parse::<ImageName>().unwrap());
        let limits = ImageLimits::default();
        load(&store, layout.path(), name.as_ref(), &limits).map_err(|error| error.to_string())?;
        Ok(store.list().unwrap().into_iter().map(|image| image.name).collect())
    }

    #[test]
    fn of_one_name_for_several_platforms_that_for_this_machine_is_loaded() {
        let (one, two) = (Some("example.com/a:1"), Some("example.com/b:1"));
        for images in [
            &[("s390x", one), (ARCHITECTURE, one)][..],
            &[(ARCHITECTURE, one), ("s390x", one)],
            &[(ARCHITECTURE, one)],
        ] {
            assert_eq!(load_as(images, None).unwrap(), ["example.com/a:1"], "{images:?}");
        }
        let all = [("s390x", one), (ARCHITECTURE, two), (ARCHITECTURE, one), ("s390x", two)];
        assert_eq!(load_as(&all, None).unwrap(), ["example.com/a:1", "example.com/b:1"]);
        let without = [("s390x", None), (ARCHITECTURE, None)];
        assert_eq!(load_as(&without, one).unwrap(), ["example.com/a:1"]);
        let others = [("s390x", one), ("riscv64", one)];
        let why = load_as(&others, None).unwrap_err();
        assert!(why.contains("there is linux/s390x, linux/riscv64"), "{why}");
    }

    #[test]
    fn a_stream_is_loaded_like_a_file_and_is_no_larger_than_it_may_be() {
        let layout = layout(&[(ARCHITECTURE, Some("example.com/a:1"))]);
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", layout.path()).unwrap();
        let tar = tar.into_inner().unwrap();
        let load = |stream: &mut dyn Read, limits: &ImageLimits| {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(&folder.path().join("images")).unwrap();
            let loaded = load_stream(&store, stream, Path::new("standard input"), None, limits);
            loaded.map(|all| all.len()).map_err(|error| error.to_string())
        };
        let limits = ImageLimits::default();
        let mut behind = tar.chain(&b"what nobody reads"[..]);
        assert_eq!(load(&mut behind, &limits), Ok(1));
        let mut rest = Vec::new();
        behind.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"", "all of it was taken");
        let neither = "standard input is neither a tar of `docker save` nor an OCI layout";
        assert_eq!(load(&mut &b"no tar at all"[..], &limits), Err(neither.to_owned()));
        let nothing = load(&mut &b""[..], &limits).unwrap_err();
        assert!(nothing.starts_with("standard input "), "{nothing}");
        let small = ImageLimits { unpacked_bytes_max: 1 << 20, files_max: 10, ..limits };
        let endless = load(&mut io::repeat(0), &small).unwrap_err();
        assert!(endless.contains("limits.images.unpacked_bytes_max"), "{endless}");
    }

    #[test]
    fn several_images_do_not_get_one_name() {
        let images = [(ARCHITECTURE, Some("a:1")), (ARCHITECTURE, Some("b:1"))];
        let why = load_as(&images, Some("c:1")).unwrap_err();
        assert_eq!(why, "it has 2 images, which cannot all be called docker.io/library/c:1");
    }
}
