//! Container images: their names, what is in them, and the store of a user, where they lie unpacked.
//!
//! ```text
//! ImageName     docker.io/library/redis:7                        (name)
//!  └ source     `docker save`, an OCI layout; a registry         (archive, registry)
//!     └ import  documents checked, layers unpacked as overlays'   (import, unpack)
//!        └ Store  what is there, held while it is used             (store)
//! ```
//!
//! Everything that comes from outside is checked by its digest before it has its place in the
//! store, and is bounded by [`ImageLimits`](ironmesh_model::limits::ImageLimits).

mod archive;
mod compression;
mod copy;
mod credentials;
mod digest;
mod error;
mod import;
mod manifest;
mod name;
mod registry;
mod store;
mod tree;
mod unpack;
mod users;

pub use archive::{Loaded, load, load_stream};
pub use copy::copy_layers;
pub use digest::{Digest, NoDigest};
pub use error::ImageError;
pub use manifest::ImageConfig;
pub use name::{BadImageName, ImageName, is_loopback};
pub use registry::{Progress, Pull, PullError, Pulled, pull};
pub use store::{Held, Image, Named, Store};
pub use users::{User, user};
