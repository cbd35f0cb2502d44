//! By what objects are found beside their names, so that nothing walks over all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ironmesh_dialects::kubernetes::kinds::{AnyObject, Pod, Service};
use ironmesh_dialects::schema::Entries;
use ironmesh_model::Name;

use super::{Collection, Key};
use crate::object::{self, Object};

/// Objects by owner, by uid and by label.
#[derive(Debug, Default)]
pub(super) struct Index {
    counts: HashMap<Collection, usize>,
    /// Keys of the objects that name an owner of this uid.
    owned: BTreeMap<Name, BTreeSet<Key>>,
    /// Keys of the ReplicaSets that nothing controls.
    free_sets: BTreeSet<Key>,
    /// How many objects have this uid: one, unless a client chose it.
    uids: HashMap<Name, usize>,
    /// Names of the pods with a label.
    pods: BTreeMap<Term, BTreeSet<Name>>,
    /// Keys of the Services that have an address.
    addresses: BTreeMap<Name, BTreeSet<Key>>,
    /// Names of the Services whose selector begins with a label.
    services: BTreeMap<Term, BTreeSet<Name>>,
}

/// A namespace and a label in it, `KEY=VALUE`.
type Term = (Name, String);

impl Index {
    /// Notes an object.
    pub(super) fn add(&mut self, key: &Key, object: &Object) {
        *self.counts.entry(key.collection.clone()).or_default() += 1;
        for owner in owners(object) {
            self.owned.entry(owner.into()).or_default().insert(key.clone());
        }
        if is_free_set(key, object) {
            self.free_sets.insert(key.clone());
        }
        let uid = object::uid(object);
        if !uid.is_empty() {
            *self.uids.entry(uid.into()).or_default() += 1;
        }
        if let Some(address) = address(key, object) {
            self.addresses.entry(address.into()).or_default().insert(key.clone());
        }
        let (services, terms) = terms(key, object);
        let by_term = if services { &mut self.services } else { &mut self.pods };
        for term in terms {
            by_term.entry((key.namespace.clone(), term)).or_default().insert(key.name.clone());
        }
    }

    /// Forgets an object, given as it was noted.
    pub(super) fn remove(&mut self, key: &Key, object: &Object) {
        if let Some(count) = self.counts.get_mut(&key.collection) {
            *count -= 1;
        }
        for owner in owners(object) {
            if let Some(owned) = self.owned.get_mut(owner) {
                owned.remove(key);
                if owned.is_empty() {
                    self.owned.remove(owner);
                }
            }
        }
        if is_free_set(key, object) {
            self.free_sets.remove(key);
        }
        let uid = object::uid(object);
        if let Some(count) = self.uids.get_mut(uid) {
            *count -= 1;
            if *count == 0 {
                self.uids.remove(uid);
            }
        }
        if let Some(address) = address(key, object)
            && let Some(keys) = self.addresses.get_mut(address)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.addresses.remove(address);
            }
        }
        let (services, terms) = terms(key, object);
        let by_term = if services { &mut self.services } else { &mut self.pods };
        for term in terms {
            let term = (key.namespace.clone(), term);
            if let Some(names) = by_term.get_mut(&term) {
                names.remove(&key.name);
                if names.is_empty() {
                    by_term.remove(&term);
                }
            }
        }
    }

    /// How many objects a collection has.
    pub(super) fn count(&self, collection: &Collection) -> usize {
        self.counts.get(collection).copied().unwrap_or(0)
    }

    /// The objects that name an owner of this uid.
    pub(super) fn owned_by(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.owned.get(uid).into_iter().flatten()
    }

    /// The ReplicaSets that nothing controls.
    pub(super) fn free_sets(&self) -> impl Iterator<Item = &Key> {
        self.free_sets.iter()
    }

    /// Whether there is an object of this uid.
    pub(super) fn has_uid(&self, uid: &str) -> bool {
        self.uids.contains_key(uid)
    }

    /// The Services that have an address.
    pub(super) fn services_at(&self, address: &str) -> Vec<Key> {
        self.addresses.get(address).into_iter().flatten().cloned().collect()
    }

    /// Names of the pods that may have all these labels: those that have the rarest of them.
    pub(super) fn pods(&self, namespace: &str, labels: Entries<'_, String>) -> Vec<Name> {
        self.rarest(namespace, labels).into_iter().flatten().cloned().collect()
    }

    /// How many names [`Index::pods`] gives.
    pub(super) fn count_pods(&self, namespace: &str, labels: Entries<'_, String>) -> usize {
        self.rarest(namespace, labels).map_or(0, BTreeSet::len)
    }

    fn rarest(&self, namespace: &str, labels: Entries<'_, String>) -> Option<&BTreeSet<Name>> {
        let names = |label| self.pods.get(&(Name::from(namespace), term(label)));
        let all = labels.iter().map(names);
        all.min_by_key(|names| names.map_or(0, BTreeSet::len)).flatten()
    }

    /// Names of the Services that may select a pod with these labels.
    pub(super) fn services(&self, namespace: &str, labels: Entries<'_, String>) -> BTreeSet<Name> {
        let terms = labels.iter().map(term);
        terms
            .filter_map(|term| self.services.get(&(namespace.into(), term)))
            .flatten()
            .cloned()
            .collect()
    }
}

fn is_free_set(key: &Key, object: &Object) -> bool {
    key.collection.is("apps", "replicasets") && object::controller(object).is_none()
}

/// The address of a Service that has one.
fn address<'a>(key: &Key, object: &'a Object) -> Option<&'a str> {
    let address = Service::of(object).spec().cluster_ip();
    (key.collection.is("", "services") && !matches!(address, "" | "None")).then_some(address)
}

fn owners(object: &Object) -> BTreeSet<&str> {
    AnyObject::of(object).metadata().owner_references().map(|owner| owner.uid()).collect()
}

/// By which labels an object is found, and whether it is a Service.
fn terms(key: &Key, object: &Object) -> (bool, Vec<String>) {
    match &*key.collection.plural {
        "pods" if key.collection.group.is_empty() => {
            (false, Pod::of(object).metadata().labels().iter().map(term).collect())
        }
        // One of its labels is enough to find it.
        "services" if key.collection.group.is_empty() => {
            (true, Service::of(object).spec().selector().iter().map(term).take(1).collect())
        }
        _ => (false, Vec::new()),
    }
}

fn term((key, value): (&str, &str)) -> String {
    format!("{key}={value}")
}
