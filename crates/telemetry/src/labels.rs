//! Caller and callee as metric labels, interned so that the key of a series is small and cheap to
//! hash and copy.

use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use ironmesh_model::{Identity, Name};

/// A workload at one end of a connection. An unknown field is `unknown` in metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// Name of its owner (`reviews-v1`).
    pub workload: Option<Name>,
    /// Its namespace.
    pub namespace: Option<Name>,
    /// Its identity, if mutual TLS proved it.
    pub principal: Option<Identity>,
    /// Its label `app`.
    pub app: Option<Name>,
    /// Its label `version`.
    pub version: Option<Name>,
    /// Its cluster.
    pub cluster: Option<Name>,
    /// Its canonical service.
    pub canonical_service: Option<Name>,
    /// Its canonical revision.
    pub canonical_revision: Option<Name>,
}

/// The service that was called. An unknown field is `unknown` in metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServiceLabels {
    /// Fully qualified host.
    pub host: Option<Name>,
    /// Name of the object; `PassthroughCluster` or `BlackHoleCluster` where there is none.
    pub name: Option<Name>,
    /// Its namespace.
    pub namespace: Option<Name>,
}

/// An interned [`Party`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartyId(pub(crate) u32);

impl PartyId {
    /// An unknown workload.
    pub const UNKNOWN: Self = Self(0);
}

/// Interned [`ServiceLabels`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceLabelsId(pub(crate) u32);

impl ServiceLabelsId {
    /// An unknown service.
    pub const UNKNOWN: Self = Self(0);
}

/// A value with its number. Both stay valid for as long as this is held.
#[derive(Clone, Debug)]
pub struct Interned<T> {
    number: u32,
    value: Arc<T>,
}

impl Interned<Party> {
    /// Identifies it in the key of a series.
    pub fn id(&self) -> PartyId {
        PartyId(self.number)
    }
}

impl Interned<ServiceLabels> {
    /// Identifies it in the key of a series.
    pub fn id(&self) -> ServiceLabelsId {
        ServiceLabelsId(self.number)
    }
}

/// Numbers for values. Number 0 is the default value; number 1 is shared by all values that do not
/// fit. A value that nobody holds any more can be dropped.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    table: Mutex<Table<T>>,
    max: usize,
}

#[derive(Debug)]
struct Table<T> {
    numbers: HashMap<Arc<T>, u32>,
    values: HashMap<u32, Arc<T>>,
    /// Numbers are not reused soon, so that one that was kept too long matches nothing.
    next: u32,
    /// Values that did not fit since the last one that did.
    refused: usize,
}

impl<T: Clone + Default + Eq + Hash> Interner<T> {
    /// Values beyond `max` become `other`.
    pub(crate) fn new(max: usize, other: T) -> Self {
        let mut table =
            Table { numbers: HashMap::new(), values: HashMap::new(), next: 0, refused: 0 };
        table.insert(T::default());
        table.insert(other);
        Self { table: Mutex::new(table), max: max.max(2) }
    }

    /// The number of a value.
    pub(crate) fn intern(&self, value: &T) -> Interned<T> {
        let mut table = self.lock();
        if let Some((value, number)) = table.numbers.get_key_value(value) {
            return Interned { number: *number, value: value.clone() };
        }
        if table.values.len() >= self.max {
            // Not every time, since it looks at all values.
            if table.refused.is_multiple_of(self.max) {
                table.forget_unused();
            }
            if table.values.len() >= self.max {
                table.refused += 1;
                return table.number(OTHER);
            }
        }
        table.refused = 0;
        let number = table.insert(value.clone());
        table.number(number)
    }

    /// The value of a number; the default for an unknown number.
    pub(crate) fn value(&self, number: u32) -> Arc<T> {
        self.lock().number(number).value
    }

    /// Drops the values that nobody holds.
    pub(crate) fn forget_unused(&self) {
        self.lock().forget_unused();
    }

    fn lock(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default + Eq + Hash> Table<T> {
    fn insert(&mut self, value: T) -> u32 {
        while self.values.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let (number, value) = (self.next, Arc::new(value));
        self.next = number.wrapping_add(1);
        self.values.insert(number, value.clone());
        self.numbers.insert(value, number);
        number
    }

    fn number(&self, number: u32) -> Interned<T> {
        match self.values.get(&number) {
            Some(value) => Interned { number, value: value.clone() },
            None => Interned { number: PartyId::UNKNOWN.0, value: Arc::default() },
        }
    }

    fn forget_unused(&mut self) {
        let is_kept = |number: u32, value: &Arc<T>| {
            // The two maps hold it as well.
            number <= OTHER || Arc::strong_count(value) > 2
        };
        self.numbers.retain(|value, number| is_kept(*number, value));
        let numbers = &self.numbers;
        self.values.retain(|_, value| numbers.contains_key(value));
    }
}

/// The number of all values that do not fit.
pub(crate) const OTHER: u32 = 1;

/// The label value for them.
pub(crate) const OTHER_WORD: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    fn intern(interner: &Interner<Party>, workload: &str) -> Interned<Party> {
        interner.intern(&Party { workload: Some(workload.into()), ..Party::default() })
    }

    #[test]
    fn what_nobody_holds_makes_room() {
        let other = Party { workload: Some(OTHER_WORD.into()), ..Party::default() };
        let interner = Interner::new(4, other);
        let held = intern(&interner, "held");
        for n in 0..1_000 {
            let number = intern(&interner, &format!("passing-{n}")).number;
            assert_ne!(number, held.number);
            assert_ne!(number, OTHER, "{n} had room");
        }
        let two = intern(&interner, "two");
        assert_eq!(intern(&interner, "three").number, OTHER);
        assert_eq!(intern(&interner, "held").number, held.number);
        drop(two);
        interner.forget_unused();
        assert_ne!(intern(&interner, "three").number, OTHER);
        assert_eq!(interner.value(held.number).workload.as_deref(), Some("held"));
        assert_eq!(interner.value(u32::MAX), Arc::default());
    }
}
