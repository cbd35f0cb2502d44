//! The series of one family, which all workers count in. Each worker has counters of its own in a
//! series, which only it writes; what a series shows is their sum, and what those have counted that
//! are gone. So a counter never goes down while its series is kept.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

/// The labels of a series, in a form that is cheap to compare.
pub(super) trait Key: Copy + Eq + Hash {
    /// The key of the series in which it is counted when there is no room. Few keys have another.
    fn overflow(self) -> Self;
}

/// What is counted in a series.
pub(super) trait Counters: Default {
    /// Adds all of it to another.
    fn add_to(&self, sum: &Self);

    /// A number that differs whenever something was counted.
    fn events(&self) -> u64;

    /// Whether nothing that was counted goes on, so that the series may end.
    fn is_at_rest(&self) -> bool;
}

/// A family. Its lock is taken when a worker begins or ends a series, and to list the series.
#[derive(Debug)]
pub(super) struct Family<K, L, C> {
    series: Mutex<All<K, L, C>>,
    series_max: usize,
}

type All<K, L, C> = HashMap<Slot<K>, Arc<Series<K, L, C>>>;

/// The place of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot<K> {
    key: K,
    /// Whether what finds no room is counted there.
    overflow: bool,
}

/// One series.
#[derive(Debug)]
pub(super) struct Series<K, L, C> {
    pub(super) key: K,
    /// What the numbers in `key` stand for; `None`: the series of what found no room.
    pub(super) labels: Option<L>,
    parts: Mutex<Parts<C>>,
}

#[derive(Debug)]
struct Parts<C> {
    /// Of each worker that counts here.
    live: Vec<Arc<C>>,
    /// What workers have counted that do so no longer.
    ended: C,
}

impl<K, L, C: Counters> Series<K, L, C> {
    /// What all workers have counted.
    pub(super) fn sum(&self) -> C {
        let sum = C::default();
        let parts = self.parts();
        parts.ended.add_to(&sum);
        for part in &parts.live {
            part.add_to(&sum);
        }
        sum
    }

    fn parts(&self) -> MutexGuard<'_, Parts<C>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Key, L, C: Counters> Family<K, L, C> {
    /// A family of at most `series_max` series.
    pub(super) fn new(series_max: usize) -> Self {
        Self { series: Mutex::default(), series_max: series_max.max(OVERFLOWS_MAX + 1) }
    }

    /// The series there are, in no order.
    pub(super) fn list(&self) -> Vec<Arc<Series<K, L, C>>> {
        self.lock().values().cloned().collect()
    }

    /// Counters of one more worker in the series of a key; `None` if there is no room for it.
    fn begin(&self, slot: Slot<K>, labels: impl FnOnce() -> Option<L>) -> Option<Arc<C>> {
        let mut all = self.lock();
        let has_room = slot.overflow || all.len() < self.series_max - OVERFLOWS_MAX;
        if !has_room && !all.contains_key(&slot) {
            return None;
        }
        let series = all.entry(slot).or_insert_with(|| {
            let parts = Mutex::new(Parts { live: Vec::new(), ended: C::default() });
            Arc::new(Series { key: slot.key, labels: labels(), parts })
        });
        let part = Arc::<C>::default();
        series.parts().live.push(part.clone());
        Some(part)
    }

    /// Takes the counters of a worker back, and ends the series if they were the last.
    fn end(&self, slot: Slot<K>, part: &Arc<C>) {
        let mut all = self.lock();
        let Some(series) = all.get(&slot) else { return };
        let mut parts = series.parts();
        parts.live.retain(|live| !Arc::ptr_eq(live, part));
        part.add_to(&parts.ended);
        let is_last = parts.live.is_empty();
        drop(parts);
        if is_last {
            all.remove(&slot);
        }
    }

    fn lock(&self) -> MutexGuard<'_, All<K, L, C>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counters of one worker in a family.
#[derive(Debug)]
pub(super) struct WorkerFamily<K, L, C> {
    family: Arc<Family<K, L, C>>,
    own: HashMap<K, Own<C>>,
    overflow: HashMap<K, Own<C>>,
}

#[derive(Debug)]
struct Own<C> {
    part: Arc<C>,
    /// Whether the part is that of the overflow series, since there was no room.
    borrowed: bool,
    /// [`Counters::events`] when it was looked at last.
    events: u64,
}

impl<K: Key, L, C: Counters> WorkerFamily<K, L, C> {
    pub(super) fn new(family: Arc<Family<K, L, C>>) -> Self {
        Self { family, own: HashMap::new(), overflow: HashMap::new() }
    }

    /// The counters for a key, if there are.
    pub(super) fn counters(&self, key: &K) -> Option<&C> {
        self.own.get(key).map(|own| &*own.part)
    }

    /// The counters for a key for which there were none.
    #[cold]
    pub(super) fn begin(&mut self, key: &K, labels: impl FnOnce() -> L) -> &C {
        let Self { family, own, overflow } = self;
        // Keys that found no room are remembered, too, so that requests do not meet at the lock.
        let may_remember = own.len() < family.series_max;
        let part = match may_remember {
            true => family.begin(Slot { key: *key, overflow: false }, || Some(labels())),
            false => None,
        };
        if let Some(part) = part {
            return &own
                .entry(*key)
                .insert(Own { part, borrowed: false, events: 0 })
                .into_mut()
                .part;
        }
        let slot = Slot { key: key.overflow(), overflow: true };
        let shared = overflow.entry(slot.key).or_insert_with(|| {
            // There is always room for it.
            let part = family.begin(slot, || None).unwrap_or_default();
            Own { part, borrowed: false, events: 0 }
        });
        if may_remember {
            own.insert(*key, Own { part: shared.part.clone(), borrowed: true, events: 0 });
        }
        &shared.part
    }

    /// Ends the series in which this worker has counted nothing since it was called last.
    pub(super) fn end_idle(&mut self) {
        let Self { family, own, overflow } = self;
        let is_kept = |key: &K, own: &mut Own<C>, overflow: bool| {
            let events = own.part.events();
            let is_idle = events == std::mem::replace(&mut own.events, events);
            if is_idle && own.part.is_at_rest() {
                family.end(Slot { key: *key, overflow }, &own.part);
                return false;
            }
            true
        };
        // What found no room may find it now.
        own.retain(|key, own| !own.borrowed && is_kept(key, own, false));
        overflow.retain(|key, own| is_kept(key, own, true));
    }
}

/// Series of what found no room, that room is kept for: one per reporter and protocol.
const OVERFLOWS_MAX: usize = 4;
