//! Random numbers and names.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// A number in [0, 1), from the hasher's random keys.
pub(crate) fn draw() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

/// A random UUID from the kernel.
pub(crate) fn uuid() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim().to_owned()
}
