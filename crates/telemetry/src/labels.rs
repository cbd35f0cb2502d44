//! Who called and who was called, as metric labels. Interned, so that a series is found by a small
//! key that is cheap to hash and to copy.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::HashMap;
use ironmesh_model::{Identity, Name};

/// One end of a connection: a workload. A part that is not known is `unknown` in metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Party {
    /// Name of what owns it (`reviews-v1`).
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

/// The service that was called. A part that is not known is `unknown` in metrics.
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
    /// Nobody known.
    pub const UNKNOWN: Self = Self(0);
}

/// Interned [`ServiceLabels`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceLabelsId(pub(crate) u32);

impl ServiceLabelsId {
    /// No service known.
    pub const UNKNOWN: Self = Self(0);
}

/// Values with numbers. Number 0 is the default value; when there are too many, all further ones
/// share the number of the one given for that.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    values: Mutex<Interned<T>>,
    max: usize,
}

#[derive(Debug)]
struct Interned<T> {
    numbers: HashMap<Arc<T>, u32>,
    values: Vec<Arc<T>>,
}

impl<T: Default + Eq + Hash> Interner<T> {
    /// Values beyond `max` become `other`.
    pub(crate) fn new(max: usize, other: T) -> Self {
        let values = vec![Arc::new(T::default()), Arc::new(other)];
        let numbers = values.iter().cloned().zip(0..).collect();
        Self { values: Mutex::new(Interned { numbers, values }), max: max.max(2) }
    }

    /// The number of a value.
    pub(crate) fn intern(&self, value: &T) -> u32
    where
        T: Clone,
    {
        let mut interned = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = interned.numbers.get(value) {
            return *number;
        }
        if interned.values.len() >= self.max {
            return OTHER;
        }
        let number = u32::try_from(interned.values.len()).unwrap_or(OTHER);
        let value = Arc::new(value.clone());
        interned.values.push(value.clone());
        interned.numbers.insert(value, number);
        number
    }

    /// All values, by their numbers.
    pub(crate) fn values(&self) -> Vec<Arc<T>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).values.clone()
    }
}

/// The number of what was too much.
pub(crate) const OTHER: u32 = 1;

/// The word for it.
pub(crate) const OTHER_WORD: &str = "other";
