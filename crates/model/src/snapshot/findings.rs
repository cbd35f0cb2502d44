//! Findings between objects, kept and brought up to date.

use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;

use super::cell::Touched;
use super::readers::Readers;
use super::{Snapshot, check};
use crate::finding::Finding;
use crate::name::ObjectId;

/// The findings that only several objects together show. Those of an object are looked for again
/// when someone asks, if since the last time a change touched what they depend on.
#[derive(Debug, Default)]
pub struct Findings {
    everything: bool,
    stale: BTreeSet<ObjectId>,
    /// Of the objects that have any.
    found: BTreeMap<ObjectId, Vec<Finding>>,
    numbers: HashMap<ObjectId, u32>,
    objects: HashMap<u32, ObjectId>,
    last_number: u32,
    readers: Readers<u32>,
    looks: u64,
    /// Objects of which the findings are others than when it was asked last.
    changed: BTreeSet<ObjectId>,
}

impl Findings {
    /// Notes what a change touched.
    pub fn note(&mut self, touched: &Touched) {
        self.everything |= touched.everything;
        self.stale.extend(touched.objects.iter().cloned());
        let readers = self.readers.of(touched);
        self.stale.extend(readers.iter().filter_map(|number| self.objects.get(number)).cloned());
    }

    /// The findings about a snapshot, in order. Every change up to it must have been noted.
    pub fn of(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        self.update(snapshot, usize::MAX);
        self.found.values().flatten().cloned().collect()
    }

    /// Looks at no more than `looks_max` of the objects that were not looked at since a change. Returns
    /// whether that were all. Every change up to the snapshot must have been noted.
    pub fn update(&mut self, snapshot: &Snapshot, looks_max: usize) -> bool {
        if std::mem::take(&mut self.everything) {
            self.stale.extend(self.numbers.keys().cloned());
            self.stale.extend(check::objects(&snapshot.index));
        }
        for _ in 0..looks_max {
            let Some(id) = self.stale.pop_first() else { break };
            self.look(snapshot, id);
        }
        self.stale.is_empty()
    }

    /// The findings about one object, as of the last look.
    pub fn about(&self, id: &ObjectId) -> &[Finding] {
        self.found.get(id).map_or(&[], Vec::as_slice)
    }

    /// The objects of which the findings have changed since this was asked last, as far as they were
    /// looked at.
    pub fn take_changed(&mut self) -> BTreeSet<ObjectId> {
        std::mem::take(&mut self.changed)
    }

    /// How often an object was looked at.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    fn look(&mut self, snapshot: &Snapshot, id: ObjectId) {
        self.looks += 1;
        let Some((found, reads)) = check::of(&snapshot.index, &id) else {
            if self.found.remove(&id).is_some() {
                self.changed.insert(id.clone());
            }
            if let Some(number) = self.numbers.remove(&id) {
                self.objects.remove(&number);
                self.readers.remove(number);
            }
            return;
        };
        let number = self.numbers.get(&id).copied().unwrap_or_else(|| {
            self.last_number += 1;
            self.numbers.insert(id.clone(), self.last_number);
            self.objects.insert(self.last_number, id.clone());
            self.last_number
        });
        self.readers.set(number, reads);
        if self.about(&id) == found {
            return;
        }
        self.changed.insert(id.clone());
        if found.is_empty() {
            self.found.remove(&id);
        } else {
            self.found.insert(id, found);
        }
    }
}
