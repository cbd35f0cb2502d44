//! Who depends on which cells: the reverse edges of recorded reads.

use std::collections::BTreeSet;
use std::hash::Hash;

use hashbrown::{HashMap, HashSet};
use smallvec::SmallVec;

use super::cell::{Cell, Touched};

/// What each reader read, and by cell who did.
#[derive(Clone, Debug)]
pub struct Readers<T> {
    reads: HashMap<T, Box<[Cell]>>,
    readers: HashMap<Cell, Few<T>>,
}

/// A set that mostly has one element.
#[derive(Clone, Debug)]
enum Few<T> {
    Some(SmallVec<[T; FEW_MAX]>),
    Many(Box<HashSet<T>>),
}

impl<T: Copy + Ord + Hash> Readers<T> {
    /// Notes that a reader read these cells (each once, in order) and no others.
    pub fn set(&mut self, reader: T, reads: Vec<Cell>) {
        let before = self.reads.insert(reader, reads.clone().into()).unwrap_or_default();
        // What was read before most often is read again.
        for cell in before.iter().filter(|cell| reads.binary_search(cell).is_err()) {
            self.leave(*cell, reader);
        }
        for cell in reads.iter().filter(|cell| before.binary_search(cell).is_err()) {
            self.readers.entry(*cell).or_insert_with(|| Few::Some(SmallVec::new())).add(reader);
        }
    }

    /// Forgets a reader.
    pub fn remove(&mut self, reader: T) {
        for cell in self.reads.remove(&reader).unwrap_or_default() {
            self.leave(cell, reader);
        }
    }

    /// The readers of any of the cells that a change touched, in order.
    pub fn of(&self, touched: &Touched) -> BTreeSet<T> {
        if touched.everything {
            return self.reads.keys().copied().collect();
        }
        let mut found = BTreeSet::new();
        for cell in &touched.cells {
            match self.readers.get(cell) {
                Some(Few::Some(readers)) => found.extend(readers.iter().copied()),
                Some(Few::Many(readers)) => found.extend(readers.iter().copied()),
                None => {}
            }
        }
        found
    }

    /// How many readers there are.
    pub fn len(&self) -> usize {
        self.reads.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    fn leave(&mut self, cell: Cell, reader: T) {
        if let Some(readers) = self.readers.get_mut(&cell)
            && readers.take(reader)
        {
            self.readers.remove(&cell);
        }
    }
}

impl<T: Copy + Eq + Hash> Few<T> {
    fn add(&mut self, reader: T) {
        match self {
            Self::Some(readers) if readers.len() < FEW_MAX => readers.push(reader),
            Self::Some(readers) => {
                let many = readers.iter().copied().chain([reader]).collect();
                *self = Self::Many(Box::new(many));
            }
            Self::Many(readers) => {
                readers.insert(reader);
            }
        }
    }

    /// Takes a reader out; whether none is left.
    fn take(&mut self, reader: T) -> bool {
        match self {
            Self::Some(readers) => {
                readers.retain(|own| *own != reader);
                readers.is_empty()
            }
            Self::Many(readers) => {
                readers.remove(&reader);
                readers.is_empty()
            }
        }
    }
}

impl<T> Default for Readers<T> {
    fn default() -> Self {
        Self { reads: HashMap::new(), readers: HashMap::new() }
    }
}

/// Readers of a cell that are kept in a list.
const FEW_MAX: usize = 4;
