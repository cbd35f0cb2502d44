//! The control plane.

pub mod api;
mod clock;
mod failure;
mod object;
mod patch;
mod registry;
mod selector;
mod store;
