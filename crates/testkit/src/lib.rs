//! What tests of several crates share. Ships in nothing.
//!
//! - [`naive`]: a second matcher of Istio's routes, the oracle for the one in `model`.
//! - [`random`]: seeded random meshes and requests for it.

pub mod naive;
pub mod random;
