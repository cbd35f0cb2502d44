//! Why an image cannot be had.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::manifest::{ARCHITECTURE, OS};

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Its documents are not as they should be.
    #[error("{0}")]
    Invalid(String),
    /// It has none for this machine.
    #[error("it is not made for {OS}/{ARCHITECTURE}: there is {known}")]
    Platform {
        /// What it is made for.
        known: String,
    },
    /// Something in it is not what its digest says.
    #[error("{what} has the digest {is} and not {wanted}")]
    Digest {
        /// What it is.
        what: String,
        /// Its digest.
        is: Digest,
        /// What the digest should be.
        wanted: Digest,
    },
    /// An entry of a layer that is not unpacked.
    #[error("entry {path:?} of layer {layer}: {why}")]
    Entry {
        /// Which layer, from 1.
        layer: usize,
        /// Its name, as far as it can be shown.
        path: String,
        /// Why.
        why: String,
    },
    /// It is more than a limit allows.
    #[error("it has more than {most} {what} (limits.images.{limit})")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: u64,
        /// Name of the limit.
        limit: &'static str,
    },
    /// There is no room in the store.
    #[error(
        "the store holds {most} bytes at most (limits.images.store_bytes_max), and this image with those \
         that are in use or were loaded has more: take some away with `ironmesh image rm`"
    )]
    Full {
        /// The limit.
        most: u64,
    },
    /// A file or folder cannot be used.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why; as it is shown with the path, it is no source to be shown once more.
        error: io::Error,
    },
    /// Anything else that failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}
