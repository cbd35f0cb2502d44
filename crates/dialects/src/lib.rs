//! From the resources that people have to the model of the mesh, and what is wrong with them.
//!
//! Everything here is a pure function: no IO, no clock. Translation never fails; what cannot be
//! used, or is not honoured, is a finding about the object and field.
//!
//! # Layout
//!
//! - [`manifest`]: the text of a manifest file to JSON values with line numbers.
//! - [`object`]: a Kubernetes-shaped object, and old forms of it made new.
//! - [`mod@translate`]: objects to the model, one by one ([`translate_one`]).
//! - [`Join`]: what single objects are together, as edits of a snapshot.
//! - [`mod@status`]: what the mesh says about an object in its `status`.
//! - [`istio`], [`kubernetes`], [`smi`]: the dialects, with the tables of their kinds.
//! - [`kinds`]: the table of kinds, one row each.
//! - [`columns`]: how their objects are shown in tables.
//! - [`mod@install`]: how Istio is installed, as what that asks of the mesh.
//! - [`schema`]: what a table is, and the check and the types that come from it.

pub mod columns;
pub mod install;
pub mod istio;
pub(crate) mod join;
pub mod kinds;
pub mod kubernetes;
pub mod manifest;
pub mod object;
mod path;
pub mod schema;
pub mod smi;
pub mod status;
pub mod translate;

pub use join::Join;
pub use object::Object;
pub use status::{Status, StatusChange};
pub use translate::{Translated, Translation, translate, translate_one, validate};
