//! Code shared by the tests of several crates. It is not part of any release.
//!
//! - [`deciding`]: decides requests like a proxy.
//! - [`fields`]: what each field of random objects decides.
//! - [`naive`]: a second matcher of Istio's routes, the oracle of the one in `model`.
//! - [`random`]: seeded random meshes and requests for it.

#![allow(clippy::unwrap_used, reason = "what stands in for a peer in a test fails by a panic")]

pub mod deciding;
pub mod fields;
pub mod naive;
pub mod random;
