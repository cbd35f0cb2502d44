//! A histogram with the buckets of Envoy and Istio, written by one thread.

use std::sync::atomic::{AtomicU64, Ordering};

use super::add;

/// Upper bounds of the buckets, Envoy's default for all histograms. One more bucket holds the rest.
pub(super) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Counts by bucket, and a sum in a unit that the caller chooses.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Histogram {
    /// Counts one value.
    pub(super) fn observe(&self, value: f64, to_sum: u64) {
        let bucket = BOUNDS.partition_point(|bound| *bound < value);
        add(&self.counts[bucket], 1);
        add(&self.sum, to_sum);
    }

    /// Adds these counts to `sum`.
    pub(super) fn add_to(&self, sum: &Self) {
        for (count, into) in self.counts.iter().zip(&sum.counts) {
            add(into, count.load(Ordering::Relaxed));
        }
        add(&sum.sum, self.sum.load(Ordering::Relaxed));
    }

    /// How many values each bucket has.
    pub(super) fn counts(&self) -> impl Iterator<Item = u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed))
    }

    /// Their sum.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}
