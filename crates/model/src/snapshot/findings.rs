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
        if std::mem::take(&mut self.everything) {
            self.stale.extend(self.numbers.keys().cloned());
            self.stale.extend(check::objects(&snapshot.index));
        }
        for id in std::mem::take(&mut self.stale) {
            self.look(snapshot, id);
        }
        self.found.values().flatten().cloned().collect()
    }

    /// How often an object was looked at.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    fn look(&mut self, snapshot: &Snapshot, id: ObjectId) {
        self.looks += 1;
        let Some((found, reads)) = check::of(&snapshot.index, &id) else {
            self.found.remove(&id);
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
        if found.is_empty() {
            self.found.remove(&id);
        } else {
            self.found.insert(id, found);
        }
    }
}
