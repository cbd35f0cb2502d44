//! From the parts of an image to the store: what they are is checked, what is missing is unpacked.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use ironmesh_model::limits::ImageLimits;

use crate::compression::decompressed;
use crate::digest::{Digest, Hashing};
use crate::error::ImageError;
use crate::manifest::ConfigFile;
use crate::name::ImageName;
use crate::store::{Image, NewLayer, Store, Work};
use crate::unpack::{Budget, unpack};

/// The content of a layer, as it lies in an archive or came from a registry.
pub(crate) struct Blob {
    /// Its bytes.
    pub(crate) content: Box<dyn Read>,
    /// What they are to be, where it is said.
    pub(crate) digest: Option<Digest>,
}

/// An image that is being taken in.
pub(crate) struct Import<'a> {
    pub(crate) store: &'a Store,
    pub(crate) limits: &'a ImageLimits,
    pub(crate) work: &'a Work,
}

/// Where an image is from.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) names: &'a [ImageName],
    /// The digest of its manifest.
    pub(crate) digest: Option<&'a Digest>,
    /// Whether the user loaded it.
    pub(crate) is_loaded: bool,
}

/// What was taken in.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) image: Image,
    /// Devices of its layers, which are left out.
    pub(crate) devices_left_out: u64,
}

impl Import<'_> {
    /// Takes an image in. `blob` gives the layer of a number, from 0, and is asked
    /// only for those that are not in the store.
    pub(crate) fn take(
        &self,
        config: &[u8],
        layers: usize,
        origin: Origin<'_>,
        mut blob: impl FnMut(usize) -> Result<Blob, ImageError>,
    ) -> Result<Imported, ImageError> {
        check_layers(layers, self.limits)?;
        let id = Digest::of(config);
        let config = ConfigFile::parse(config, layers)?;
        let mut budget = Budget::new(self.limits);
        let (mut new, mut below, mut chain) = (Vec::new(), Vec::<OwnedFd>::new(), Vec::new());
        let mut devices_left_out = 0;
        for (number, diff) in config.rootfs.diff_ids.iter().enumerate() {
            let layer = chain_id(chain.last(), diff);
            if let Some(held) = self.store.hold_layer(&layer)? {
                below.insert(0, held.into());
            } else {
                let name = format!("layer-{number}-{}", new.len());
                let folder = self.work.folder(&name)?;
                let blob = blob(number)?;
                let own = folder.try_clone()?;
                let layer_of = Layer { number: number + 1, diff };
                let unpacked = layer_of.unpack(blob, own, &below, &mut budget)?;
                devices_left_out += unpacked.devices_left_out;
                // So that it is not taken away between its commit and its first use.
                let held = File::from(folder);
                held.lock_shared()?;
                below.insert(0, held.into());
                new.push(NewLayer { id: layer.clone(), name, bytes: unpacked.bytes });
            }
            chain.push(layer);
        }
        let image = Image {
            id,
            digest: origin.digest.cloned(),
            config: config.config.unwrap_or_default(),
            layers: chain,
            bytes: 0,
            loaded: origin.is_loaded,
        };
        let image = self.store.commit(self.work, image, &new, origin.names, self.limits)?;
        Ok(Imported { image, devices_left_out })
    }
}

/// Whether an image may have so many layers.
pub(crate) fn check_layers(count: usize, limits: &ImageLimits) -> Result<(), ImageError> {
    let most = limits.layers_max;
    if count > most {
        return Err(ImageError::TooMuch { what: "layers", most: most as u64, limit: "layers_max" });
    }
    Ok(())
}

/// The layers, of those named by a configuration, that are not in the store.
pub(crate) fn chain_id(below: Option<&Digest>, diff: &Digest) -> Digest {
    match below {
        None => diff.clone(),
        Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
    }
}

/// Which layer it is.
struct Layer<'a> {
    number: usize,
    diff: &'a Digest,
}

impl Layer<'_> {
    fn unpack(
        &self,
        blob: Blob,
        folder: OwnedFd,
        below: &[OwnedFd],
        budget: &mut Budget,
    ) -> Result<crate::unpack::Unpacked, ImageError> {
        let number = self.number;
        let broken = |error: io::Error| ImageError::Invalid(format!("layer {number}: {error}"));
        let most = budget.tar_bytes_max();
        let mut content = Hashing::new(blob.content, most, "what is compressed");
        let mut tar = Hashing::new(
            decompressed(&mut content).map_err(broken)?,
            most,
            "what is unpacked (limits.images.unpacked_bytes_max)",
        );
        let unpacked = unpack(&mut tar, folder, below, number, budget)?;
        let is = tar.finish().map_err(broken)?;
        check(is, self.diff, format!("layer {number}, decompressed,"))?;
        let is = content.finish().map_err(broken)?;
        if let Some(wanted) = &blob.digest {
            check(is, wanted, format!("layer {number}"))?;
        }
        Ok(unpacked)
    }
}

/// Whether something has the digest that it is to have.
pub(crate) fn check(is: Digest, wanted: &Digest, what: String) -> Result<(), ImageError> {
    match is == *wanted {
        true => Ok(()),
        false => Err(ImageError::Digest { what, is, wanted: wanted.clone() }),
    }
}
