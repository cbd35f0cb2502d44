//! The series of one metric family, shared by all workers. In each series every worker has counters
//! of its own, which only it writes. A series shows their sum, plus what has been counted by workers
//! that have since dropped theirs, so a counter never goes down while its series exists.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

/// The labels of a series, in a form that is cheap to compare.
pub(super) trait Key: Copy + Eq + Hash {
    /// The key of the series that counts it when the family is full. There are only a few such keys.
    fn overflow(self) -> Self;
}

/// What is counted in a series.
pub(super) trait Counters: Default {
    /// Adds these counts to `sum`.
    fn add_to(&self, sum: &Self);

    /// A number that changes whenever something is counted.
    fn events(&self) -> u64;

    /// Whether everything that was counted has ended, so that the series may be dropped.
    fn is_at_rest(&self) -> bool;
}

/// A family. Its lock is taken when a worker starts or drops a series, and to list all series.
#[derive(Debug)]
pub(super) struct Family<K, L, C> {
    series: Mutex<All<K, L, C>>,
    series_max: usize,
}

type All<K, L, C> = HashMap<Slot<K>, Arc<Series<K, L, C>>>;

/// Where a series is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot<K> {
    key: K,
    /// Whether it is an overflow series, which counts what did not fit.
    overflow: bool,
}

/// One series.
#[derive(Debug)]
pub(super) struct Series<K, L, C> {
    pub(super) key: K,
    /// What the numbers in `key` stand for; `None` in an overflow series.
    pub(super) labels: Option<L>,
    parts: Mutex<Parts<C>>,
}

#[derive(Debug)]
struct Parts<C> {
    /// Counters of the workers that count here.
    live: Vec<Arc<C>>,
    /// Totals of the workers that no longer do.
    ended: C,
}

impl<K, L, C: Counters> Series<K, L, C> {
    /// The totals over all workers.
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

    /// All series, in no particular order.
    pub(super) fn list(&self) -> Vec<Arc<Series<K, L, C>>> {
        self.lock().values().cloned().collect()
    }

    /// Counters for one more worker in a series; `None` if the family is full.
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

    /// Drops a worker's counters, and the series with them if they were the last.
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
    /// Whether the part belongs to an overflow series, because the family was full.
    borrowed: bool,
    /// [`Counters::events`] at the last check.
    events: u64,
}

impl<K: Key, L, C: Counters> WorkerFamily<K, L, C> {
    pub(super) fn new(family: Arc<Family<K, L, C>>) -> Self {
        Self { family, own: HashMap::new(), overflow: HashMap::new() }
    }

    /// The counters for a key, if there are any.
    pub(super) fn counters(&self, key: &K) -> Option<&C> {
        self.own.get(key).map(|own| &*own.part)
    }

    /// Creates the counters for a key that has none.
    #[cold]
    pub(super) fn begin(&mut self, key: &K, labels: impl FnOnce() -> L) -> &C {
        let Self { family, own, overflow } = self;
        // Keys that did not fit are remembered too, so that requests do not contend for the lock.
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
            // Overflow series always fit.
            let part = family.begin(slot, || None).unwrap_or_default();
            Own { part, borrowed: false, events: 0 }
        });
        if may_remember {
            own.insert(*key, Own { part: shared.part.clone(), borrowed: true, events: 0 });
        }
        &shared.part
    }

    /// Drops this worker's part of every series in which it has counted nothing since the last call.
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
        // What did not fit before may fit now.
        own.retain(|key, own| !own.borrowed && is_kept(key, own, false));
        overflow.retain(|key, own| is_kept(key, own, true));
    }
}

/// Room kept for overflow series: one per reporter and protocol.
const OVERFLOWS_MAX: usize = 4;
