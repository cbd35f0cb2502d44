//! The table of kinds, which servers and clients share with the dialects.

pub use ironmesh_dialects::kinds::{ALL, KINDS, Kind, Resource, plural_of, split_api_version};
