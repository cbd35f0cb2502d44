//! A source in memory: what tests, and sources that read everything at once, are made of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ironmesh_dialects::{Object, StatusChange};
use serde_json::Value;
use tokio::sync::watch;

use super::{Change, Expired, ObjectKey, Source, StatusError, Writing};

/// Objects in memory, with the changes that led to them.
#[derive(Debug)]
pub struct Memory {
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
    /// Changes that are kept for those who follow.
    changes_max: usize,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<ObjectKey, Object>,
    /// The last changes; the last of them led to the present version.
    changes: Vec<Change>,
}

impl Memory {
    /// A source without objects that keeps so many changes.
    pub fn new(changes_max: usize) -> Self {
        Self { inner: Mutex::default(), version: watch::Sender::new(1), changes_max }
    }

    /// Adds an object, or changes it.
    pub fn put(&self, object: Object) {
        let mut inner = self.lock();
        let key = ObjectKey::of(&object);
        inner.objects.insert(key.clone(), object.clone());
        self.changed(inner, Change { key, object: Some(object) });
    }

    /// Removes an object; nothing happens if it is not there.
    pub fn remove(&self, key: &ObjectKey) {
        let mut inner = self.lock();
        if inner.objects.remove(key).is_some() {
            self.changed(inner, Change { key: key.clone(), object: None });
        }
    }

    fn change_status(&self, key: &ObjectKey, change: &StatusChange) -> Result<(), StatusError> {
        let mut inner = self.lock();
        let object = inner.objects.get_mut(key).ok_or(StatusError::Outdated)?;
        if object.generation() != change.generation {
            return Err(StatusError::Outdated);
        }
        let mut value = Value::clone(object.value());
        change.apply(&mut value);
        *object = Object::new(value).map_err(|error| StatusError::Refused(error.to_string()))?;
        let object = object.clone();
        self.changed(inner, Change { key: key.clone(), object: Some(object) });
        Ok(())
    }

    fn changed(&self, mut inner: MutexGuard<'_, Inner>, change: Change) {
        inner.changes.push(change);
        let surplus = inner.changes.len().saturating_sub(self.changes_max);
        inner.changes.drain(..surplus);
        self.version.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Memory {
    fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn list(&self) -> (Vec<Object>, u64) {
        let inner = self.lock();
        (inner.objects.values().cloned().collect(), *self.version.borrow())
    }

    fn changes_after(&self, version: u64) -> Result<(Vec<Change>, u64), Expired> {
        let inner = self.lock();
        let now = *self.version.borrow();
        let wanted = now.checked_sub(version).and_then(|wanted| usize::try_from(wanted).ok());
        let start = wanted.and_then(|wanted| inner.changes.len().checked_sub(wanted));
        Ok((inner.changes[start.ok_or(Expired)?..].to_vec(), now))
    }

    fn object(&self, key: &ObjectKey) -> Option<Arc<Value>> {
        self.lock().objects.get(key).map(|object| object.value().clone())
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        let inner = self.lock();
        let pods = inner.objects.range(ObjectKey::pod("", "")..);
        pods.take_while(|(key, _)| key.group.is_empty() && &*key.kind == "Pod")
            .map(|(_, object)| object.value().clone())
            .collect()
    }

    fn write_status<'a>(&'a self, key: &'a ObjectKey, change: &'a StatusChange) -> Writing<'a> {
        Box::pin(std::future::ready(self.change_status(key, change)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_follows_sees_every_change_or_is_told_to_list_again() {
        let source = Memory::new(2);
        let object = |name: &str| {
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "n"}});
            Object::new(pod).unwrap()
        };
        let start = source.version();
        source.put(object("a"));
        source.put(object("b"));
        let (changes, version) = source.changes_after(start).unwrap();
        assert_eq!((changes.len(), version), (2, start + 2));
        source.remove(&ObjectKey::pod("n", "a"));
        source.remove(&ObjectKey::pod("n", "a"));
        assert_eq!(source.changes_after(start).unwrap_err(), Expired);
        let (changes, version) = source.changes_after(version).unwrap();
        assert!(changes.len() == 1 && changes[0].object.is_none());
        assert!(source.changes_after(version).unwrap().0.is_empty());
        assert!(source.changes_after(version + 1).is_err());
        assert_eq!(source.list().0.len(), 1);
        assert_eq!(source.pods().len(), 1);
    }
}
