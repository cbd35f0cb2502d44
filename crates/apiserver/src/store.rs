//! The store: objects as they were sent, under one resource version that survives a restart.
//!
//! Every change is written to the journal before it is acknowledged, so that a process killed
//! at any time loses nothing that it confirmed. An answer does not wait for the disk: the journal is
//! synced behind it (`Store::tend`), and a machine that loses its power may lose the last changes
//! (never half of one, nor one before them). Watchers have no queues: each keeps the version it
//! has seen and reads on from the one bounded history; who falls behind its end is told that
//! the version is gone and lists again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::schema::Entries;
use ironmesh_model::Name;
use ironmesh_model::limits::ControlLimits;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::object::{self, Object};

mod history;
mod index;
mod journal;
mod kept;
mod record;
mod tend;

use history::History;
pub use history::{Event, EventKind, Gone};
use index::Index;
use journal::{Journal, Opened};
use kept::{Kept, Recent};
use record::{Change, Record};

/// Why the store refused something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is an object of that name.
    #[error("{0} already exists")]
    Exists(Key),
    /// There is no such object.
    #[error("{0} not found")]
    Missing(Key),
    /// A limit is reached.
    #[error("the store holds objects_max = {0} objects; delete some")]
    Full(usize),
    /// An object is larger than any may be.
    #[error("{key} has more bytes than object_bytes_max = {most}")]
    TooLarge {
        /// The object.
        key: Key,
        /// The limit.
        most: usize,
    },
    /// Readers of JSON would refuse an object.
    #[error("{0} is nested deeper than {most} levels", most = object::DEPTH_MAX)]
    TooDeep(Key),
    /// The journal cannot be written.
    #[error("journal: {0}; nothing was changed")]
    Journal(#[from] std::io::Error),
}

/// A collection of objects: group and plural. Versions do not matter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Collection {
    /// Group; empty for the core group.
    pub group: Name,
    /// Plural.
    pub plural: Name,
}

impl Collection {
    /// A collection by its names.
    pub fn new(group: &str, plural: &str) -> Self {
        Self { group: group.into(), plural: plural.into() }
    }

    /// A collection of the core group.
    pub fn core(plural: &str) -> Self {
        Self::new("", plural)
    }

    /// Whether it is that of this group and plural.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        *self.plural == *plural && *self.group == *group
    }

    /// The object of this name in it.
    pub fn key(&self, namespace: &str, name: &str) -> Key {
        Key { collection: self.clone(), namespace: namespace.into(), name: name.into() }
    }
}

impl From<&Resource> for Collection {
    fn from(resource: &Resource) -> Self {
        Self { group: resource.group.clone(), plural: resource.plural.clone() }
    }
}

impl std::fmt::Display for Collection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.plural)
        } else {
            write!(f, "{}.{}", self.plural, self.group)
        }
    }
}

/// What an object is stored under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// Its collection.
    #[serde(flatten)]
    pub collection: Collection,
    /// Its namespace; empty for objects of the cluster.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} \"{}\"", self.collection, self.name)
    }
}

/// Objects with a journal behind them and watchers before them.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    revision: watch::Sender<u64>,
    limits: ControlLimits,
    /// What the journal had lost when it was opened, for people.
    losses: Vec<String>,
    /// One thread at a time tends the journal.
    tending: Mutex<()>,
}

#[derive(Debug)]
struct Inner {
    objects: BTreeMap<Key, Stored>,
    index: Index,
    recent: Recent,
    live_bytes: u64,
    revision: u64,
    history: History,
    journal: Journal,
    /// Length of the journal up to which compaction is not tried again after it failed.
    compact_beyond: u64,
    /// Objects that were handed out: what work cost, for tests.
    #[cfg(test)]
    visited: u64,
}

#[derive(Clone, Debug)]
struct Stored {
    object: Kept,
    /// Resource version in which it was stored.
    revision: u64,
    /// Length of its line in the journal.
    bytes: u64,
}

impl Store {
    /// Opens the store in a directory, which is made if need be, and replays its journal.
    ///
    /// # Errors
    ///
    /// If the journal cannot be read or written, is of a format that this version does not know, or
    /// is damaged before its last record.
    pub(crate) fn open(directory: &Path, limits: &ControlLimits) -> Result<Self, journal::Error> {
        let Opened { journal, records, mut losses, mark } = Journal::open(directory)?;
        let mut inner = Inner {
            objects: BTreeMap::new(),
            index: Index::default(),
            recent: Recent::default(),
            live_bytes: 0,
            revision: 0,
            history: History::new(limits),
            journal,
            compact_beyond: 0,
            #[cfg(test)]
            visited: 0,
        };
        for (record, bytes) in records.iter() {
            inner.replay(record, bytes);
        }
        if !losses.is_empty() {
            if inner.revision < mark.revision {
                let (had, has) = (mark.objects, inner.objects.len());
                losses.push(format!("it had {had} objects and has {has}; apply what is missing"));
            }
            // Watchers of versions that are lost list again.
            inner.revision = inner.revision.max(mark.revision);
            inner.history.forget(inner.revision);
            let path = inner.journal.path().display();
            losses = vec![format!("the journal {path} is not whole: {}", losses.join("; "))];
        }
        let revision = watch::Sender::new(inner.revision);
        let (limits, tending) = (limits.clone(), Mutex::default());
        Ok(Self { inner: Mutex::new(inner), revision, limits, losses, tending })
    }

    /// What the journal had lost when it was opened, for people; empty if it was whole.
    pub fn losses(&self) -> &[String] {
        &self.losses
    }

    /// The current resource version; its receiver wakes after each change.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The current resource version.
    pub fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// One object.
    pub fn object(&self, key: &Key) -> Option<Arc<Object>> {
        self.lock().visit(key)
    }

    /// All objects of a collection, or those in one namespace, in order of namespace and name, and
    /// the version at which this was so.
    pub fn list(
        &self,
        collection: &Collection,
        namespace: Option<&str>,
    ) -> (Vec<Arc<Object>>, u64) {
        let mut inner = self.lock();
        let from = collection.key(namespace.unwrap_or_default(), "");
        let objects: Vec<Kept> = inner
            .objects
            .range(from..)
            .take_while(|(key, _)| {
                key.collection == *collection
                    && namespace.is_none_or(|wanted| *key.namespace == *wanted)
            })
            .map(|(_, stored)| stored.object.clone())
            .collect();
        inner.visited(objects.len());
        let revision = inner.revision;
        // Nobody waits while many of them become values.
        drop(inner);
        (objects.iter().map(Kept::value).collect(), revision)
    }

    /// The collections that hold objects.
    pub fn collections(&self) -> Vec<Collection> {
        let inner = self.lock();
        let mut found: Vec<Collection> = Vec::new();
        let mut next = inner.objects.first_key_value();
        while let Some((key, _)) = next {
            let collection = key.collection.clone();
            // Behind all keys of the collection: no plural ends so.
            let behind = Collection::new(&collection.group, &format!("{}\0", collection.plural));
            found.push(collection);
            next = inner.objects.range(behind.key("", "")..).next();
        }
        found
    }

    /// How many objects a collection has.
    pub(crate) fn count(&self, collection: &Collection) -> usize {
        self.lock().index.count(collection)
    }

    /// The objects that name an owner of this uid.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<(Key, Arc<Object>)> {
        let mut inner = self.lock();
        let keys: Vec<Key> = inner.index.owned_by(uid).cloned().collect();
        keys.into_iter().filter_map(|key| inner.visit(&key).map(|object| (key, object))).collect()
    }

    /// The ReplicaSets of a namespace that nothing controls.
    pub(crate) fn free_sets(&self, namespace: &str) -> Vec<Arc<Object>> {
        let mut inner = self.lock();
        let free = inner.index.free_sets().filter(|key| &*key.namespace == namespace);
        let keys: Vec<Key> = free.cloned().collect();
        keys.iter().filter_map(|key| inner.visit(key)).collect()
    }

    /// Whether there is an object of this uid.
    pub(crate) fn has_uid(&self, uid: &str) -> bool {
        self.lock().index.has_uid(uid)
    }

    /// The pods of a namespace that may have all these labels; all that have are among them.
    pub(crate) fn pods_with(
        &self,
        namespace: &str,
        labels: Entries<'_, String>,
    ) -> Vec<Arc<Object>> {
        let mut inner = self.lock();
        let names = inner.index.pods(namespace, labels);
        let pods = Collection::core("pods");
        names.iter().filter_map(|name| inner.visit(&pods.key(namespace, name))).collect()
    }

    /// How many pods of a namespace may have all these labels, at most.
    pub(crate) fn count_pods_with(&self, namespace: &str, labels: Entries<'_, String>) -> usize {
        self.lock().index.count_pods(namespace, labels)
    }

    /// The Services that have an address.
    pub(crate) fn services_at(&self, address: &str) -> Vec<Key> {
        self.lock().index.services_at(address)
    }

    /// The Services of a namespace that may select a pod with these labels.
    pub(crate) fn services_for(
        &self,
        namespace: &str,
        labels: Entries<'_, String>,
    ) -> Vec<Arc<Object>> {
        let mut inner = self.lock();
        let names = inner.index.services(namespace, labels);
        let services = Collection::core("services");
        names.iter().filter_map(|name| inner.visit(&services.key(namespace, name))).collect()
    }

    /// Changes after `revision`, at most `count` of them, oldest first.
    ///
    /// # Errors
    ///
    /// If some of them are no longer kept, or `revision` is in the future.
    pub fn events_after(&self, revision: u64, count: usize) -> Result<Vec<Event>, Gone> {
        let inner = self.lock();
        inner.history.after(revision, inner.revision, count)
    }

    /// Adds an object; the store gives it its resource version.
    ///
    /// # Errors
    ///
    /// If it exists, the store is full, or the journal cannot be written.
    pub(crate) fn create(&self, key: &Key, object: Object) -> Result<Arc<Object>, Error> {
        let mut inner = self.lock();
        if inner.stored(key).is_some() {
            return Err(Error::Exists(key.clone()));
        }
        if inner.objects.len() >= self.limits.objects_max {
            return Err(Error::Full(self.limits.objects_max));
        }
        let object = self.put(&mut inner, key, object, EventKind::Added)?;
        self.committed(inner);
        Ok(object)
    }

    /// Changes an object in one step: `change` sees it as it is and makes what it shall be. If that
    /// is the same, nothing is written. `generation` counts changes beside metadata and status.
    ///
    /// # Errors
    ///
    /// What `change` returns, or if there is no such object, or the journal cannot be written.
    pub(crate) fn update<E: From<Error>>(
        &self,
        key: &Key,
        change: impl FnOnce(&Object) -> Result<Object, E>,
    ) -> Result<Arc<Object>, E> {
        let mut inner = self.lock();
        let Some(old) = inner.value(key) else {
            return Err(Error::Missing(key.clone()).into());
        };
        let mut new = change(&old)?;
        object::metadata_mut(&mut new)["resourceVersion"] =
            old["metadata"]["resourceVersion"].clone();
        if new == *old {
            return Ok(old);
        }
        if !same_intent(&old, &new) {
            let generation = object::number(&old, "/metadata/generation").unwrap_or(1) + 1;
            new["metadata"]["generation"] = generation.into();
        }
        let object = self.put(&mut inner, key, new, EventKind::Modified)?;
        self.committed(inner);
        Ok(object)
    }

    /// Removes an object and returns its last state.
    ///
    /// # Errors
    ///
    /// If there is none, or the journal cannot be written.
    pub(crate) fn remove(&self, key: &Key) -> Result<Arc<Object>, Error> {
        let mut inner = self.lock();
        let object = inner.remove(key)?;
        self.committed(inner);
        Ok(object)
    }

    /// Stores an object, if it may be: many small patches must not make what no request may bring.
    fn put(
        &self,
        inner: &mut Inner,
        key: &Key,
        mut object: Object,
        kind: EventKind,
    ) -> Result<Arc<Object>, Error> {
        if object::depth(&object) > object::DEPTH_MAX {
            return Err(Error::TooDeep(key.clone()));
        }
        let revision = inner.revision + 1;
        object::metadata_mut(&mut object)["resourceVersion"] = revision.to_string().into();
        let (object, most) = (Arc::new(object), self.limits.object_bytes_max);
        let kept =
            Kept::of(&object, most).ok_or_else(|| Error::TooLarge { key: key.clone(), most })?;
        let bytes = inner.journal.put(revision, key, &kept)?;
        inner.recent.note(object.clone(), kept.json().len());
        inner.insert(key, Stored { object: kept, revision, bytes }, kind);
        Ok(object)
    }

    fn committed(&self, inner: MutexGuard<'_, Inner>) {
        let revision = inner.revision;
        drop(inner);
        self.revision.send_replace(revision);
    }

    /// Objects that were handed out since the last question.
    #[cfg(test)]
    pub(crate) fn take_visited(&self) -> u64 {
        std::mem::take(&mut self.lock().visited)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside leaves no half of a change: the maps are written after the journal, and
        // each change to them is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn stored(&self, key: &Key) -> Option<&Stored> {
        self.objects.get(key)
    }

    fn visit(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.visited(1);
        self.value(key)
    }

    fn value(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.objects.get(key).map(|stored| self.recent.value(&stored.object))
    }

    #[cfg_attr(
        not(test),
        expect(clippy::unused_self, clippy::needless_pass_by_ref_mut, reason = "tests count")
    )]
    fn visited(&mut self, _count: usize) {
        #[cfg(test)]
        {
            self.visited += _count as u64;
        }
    }

    fn insert(&mut self, key: &Key, stored: Stored, kind: EventKind) {
        let Stored { object, revision, bytes } = stored.clone();
        let old = self.objects.insert(key.clone(), stored);
        self.live_bytes += bytes;
        if let Some(old) = &old {
            self.live_bytes -= old.bytes;
            self.index.remove(key, &old.object.value());
        }
        self.index.add(key, &object.value());
        self.revision = revision;
        let old = old.map(|stored| stored.object);
        self.history.push(Event { revision, kind, key: key.clone(), object, old }, bytes);
    }

    fn remove(&mut self, key: &Key) -> Result<Arc<Object>, Error> {
        let Some(stored) = self.stored(key).cloned() else {
            return Err(Error::Missing(key.clone()));
        };
        let revision = self.revision + 1;
        let record = Record { revision, key: key.clone(), change: Change::Delete };
        self.journal.append(&record)?;
        Ok(self.take_out(key, stored, revision))
    }

    fn take_out(&mut self, key: &Key, stored: Stored, revision: u64) -> Arc<Object> {
        let object = stored.object.value();
        self.objects.remove(key);
        self.index.remove(key, &object);
        self.live_bytes -= stored.bytes;
        self.revision = revision;
        // The last state carries the version of its deletion, from which a watch goes on.
        let mut last = (*object).clone();
        object::metadata_mut(&mut last)["resourceVersion"] = revision.to_string().into();
        let last = Arc::new(last);
        self.recent.note(last.clone(), stored.object.json().len());
        if let Some(object) = Kept::of(&last, usize::MAX) {
            let (kind, old) = (EventKind::Deleted, Some(stored.object));
            self.history
                .push(Event { revision, kind, key: key.clone(), object, old }, stored.bytes);
        }
        last
    }

    fn replay(&mut self, record: Record, bytes: u64) {
        let Record { revision, key, change } = record;
        match change {
            Change::Put(object) => {
                let kind = match self.stored(&key) {
                    Some(_) => EventKind::Modified,
                    None => EventKind::Added,
                };
                self.replay_object(&key, &object, (revision, bytes), kind);
            }
            Change::Delete => {
                if let Some(stored) = self.stored(&key).cloned() {
                    self.take_out(&key, stored, revision);
                }
                self.revision = revision;
            }
            // These are no changes, and what went before is not known.
            Change::Live(object) => {
                self.replay_object(&key, &object, (revision, bytes), EventKind::Added);
            }
            Change::Compacted { .. } | Change::Lost => {
                self.revision = revision;
                self.history.forget(revision);
            }
        }
    }

    fn replay_object(
        &mut self,
        key: &Key,
        object: &Arc<Object>,
        (revision, bytes): (u64, u64),
        kind: EventKind,
    ) {
        if let Some(object) = Kept::of(object, usize::MAX) {
            self.insert(key, Stored { object, revision, bytes }, kind);
        }
    }
}

/// Whether two states of an object ask for the same: all but metadata and status is equal.
fn same_intent(old: &Object, new: &Object) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let asks = |key: &str| !matches!(key, "metadata" | "status");
    let asked = |object: &Map<String, Value>| object.keys().filter(|key| asks(key)).count();
    asked(old) == asked(new)
        && old.iter().all(|(key, value)| !asks(key) || new.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
