//! The one module of this crate that draws random numbers.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

/// A generator of ids that need not be secret (SplitMix64). Each worker has its own, seeded from
/// the operating system's randomness.
#[derive(Debug)]
pub(crate) struct Random(Cell<u64>);

impl Random {
    /// A generator with a seed of its own.
    pub(crate) fn new() -> Self {
        // The keys of a RandomState come from the operating system.
        Self(Cell::new(RandomState::new().hash_one(0)))
    }

    /// The next 64 bits.
    pub(crate) fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next 128 bits.
    pub(crate) fn wide(&self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}
