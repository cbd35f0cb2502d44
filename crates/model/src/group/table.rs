//! From a hash to an endpoint: Ketama's ring and Maglev's table, both built as Envoy builds them, so
//! that a proxy of either kind sends a key to the same endpoint.

use twox_hash::XxHash64;

use crate::policy::HashTable;

/// An endpoint that a table is made of.
pub(super) struct Entry {
    /// What its hashes are made from: its address and port.
    pub(super) key: String,
    /// Its weight relative to the others; not 0.
    pub(super) weight: f64,
    /// What the table gives for it.
    pub(super) value: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) enum Table {
    /// Points in order, and whose each is.
    Ring { points: Box<[u64]>, values: Box<[u32]> },
    /// The value of each place.
    Maglev(Box<[u32]>),
}

impl Table {
    /// A table of these entries. `None` without any.
    pub(super) fn of(kind: HashTable, mut entries: Vec<Entry>) -> Option<Self> {
        let total: f64 = entries.iter().map(|entry| entry.weight).sum();
        if entries.is_empty() || total <= 0.0 {
            return None;
        }
        for entry in &mut entries {
            entry.weight /= total;
        }
        Some(match kind {
            HashTable::Ring { points_min } => ring(&entries, points_min),
            HashTable::Maglev { size } => maglev(entries, size),
        })
    }

    /// The values for a hash, the best first; some come more than once. What is behind the first is
    /// for attempts that pass over those before.
    pub(super) fn values(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        (0..STEPS_MAX).filter_map(move |step| self.value(hash, step))
    }

    fn value(&self, hash: u64, step: usize) -> Option<u32> {
        match self {
            Self::Ring { points, values } => {
                let first = points.partition_point(|point| *point < hash);
                // The end of the ring is its beginning.
                let first = if first == points.len() { 0 } else { first };
                values.get((first + step) % points.len()).copied()
            }
            Self::Maglev(places) => {
                let step = step as u64;
                let hash = if step == 0 { hash } else { hash ^ (!0 - step + 1) };
                places.get((hash % places.len() as u64) as usize).copied()
            }
        }
    }
}

/// Each endpoint has points in proportion to its weight, so that the least has a whole number.
fn ring(entries: &[Entry], points_min: u32) -> Table {
    let least = entries.iter().map(|entry| entry.weight).fold(1.0, f64::min);
    let scale = ((least * f64::from(points_min.max(1))).ceil() / least)
        .min(f64::from(HashTable::RING_POINTS_MAX));
    let mut points = Vec::with_capacity(scale.ceil() as usize);
    let (mut made, mut wanted) = (0.0, 0.0);
    for entry in entries {
        wanted += scale * entry.weight;
        let mut number = 0u32;
        while made < wanted {
            let point = XxHash64::oneshot(0, format!("{}_{number}", entry.key).as_bytes());
            points.push((point, entry.value));
            number += 1;
            made += 1.0;
        }
    }
    points.sort_by_key(|(point, _)| *point);
    let (points, values): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
    Table::Ring { points: points.into(), values: values.into() }
}

/// Each endpoint takes places in an order of its own, and in turn, as often as its weight says.
fn maglev(mut entries: Vec<Entry>, size: u32) -> Table {
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    let size = u64::from(size.max(2));
    let most = entries.iter().map(|entry| entry.weight).fold(0.0, f64::max);
    let mut takers: Vec<Taker> = entries.iter().map(|entry| Taker::of(entry, size)).collect();
    let mut places: Vec<Option<u32>> = vec![None; size as usize];
    let mut left = places.len();
    let mut round = 0.0;
    while left > 0 {
        round += 1.0;
        for taker in &mut takers {
            if left == 0 {
                break;
            }
            if round * taker.weight < taker.due {
                continue;
            }
            taker.due += most;
            let free = loop {
                let place = taker.next_place(size);
                if places[place].is_none() {
                    break place;
                }
            };
            places[free] = Some(taker.value);
            left -= 1;
        }
    }
    Table::Maglev(places.into_iter().flatten().collect())
}

/// An endpoint while it takes places in Maglev's table.
struct Taker {
    offset: u64,
    skip: u64,
    looked_at: u64,
    weight: f64,
    /// What the rounds times its weight must reach for its next place.
    due: f64,
    value: u32,
}

impl Taker {
    fn of(entry: &Entry, size: u64) -> Self {
        let hash = |seed| XxHash64::oneshot(seed, entry.key.as_bytes());
        let (offset, skip) = (hash(0) % size, hash(1) % (size - 1) + 1);
        Self { offset, skip, looked_at: 0, weight: entry.weight, due: 0.0, value: entry.value }
    }

    /// The next place in its order. As the size is a prime it sees each before any twice.
    fn next_place(&mut self, size: u64) -> usize {
        let place = (self.offset + self.skip * self.looked_at) % size;
        self.looked_at += 1;
        place as usize
    }
}

/// Values that are looked at for one hash. Whoever still finds none scans the endpoints instead.
const STEPS_MAX: usize = 64;

#[cfg(test)]
mod tests;
