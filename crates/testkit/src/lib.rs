//! What tests of several crates share. Ships in nothing.
//!
//! - [`deciding`]: deciding a request as a proxy does.
//! - [`naive`]: a second matcher of Istio's routes, the oracle for the one in `model`.
//! - [`random`]: seeded random meshes and requests for it.

#![allow(clippy::unwrap_used, reason = "what stands in for a peer in a test fails by a panic")]

pub mod deciding;
pub mod naive;
pub mod random;
