//! What is found about the objects, and the statuses that say it to their owners.
//!
//! Both are answers that change only with what they are made from: an object is looked at again when a
//! change touches what its findings depend on, and its status is made again when they or the object
//! are others. What is not asked about is not looked at.

use std::collections::{BTreeMap, BTreeSet};

use ironmesh_dialects::{Object, Status, StatusChange};
use ironmesh_model::finding::joined;
use ironmesh_model::snapshot::{Findings, Touched};
use ironmesh_model::{Finding, ObjectId, Snapshot};

use super::bare::Bare;
use crate::source::ObjectKey;

/// What is found about all objects.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// About single objects, of those that have any.
    alone: BTreeMap<ObjectKey, Vec<Finding>>,
    /// About pods without a sidecar.
    bare: Bare,
    /// About several together.
    together: Findings,
    /// The objects that have a status of the mesh.
    statuses: BTreeMap<ObjectId, (ObjectKey, Status)>,
    /// Those of which the status may be to change.
    stale: BTreeSet<ObjectId>,
    /// How many statuses were made: what work cost, for tests.
    #[cfg(test)]
    made: u64,
}

impl Found {
    /// An object came or changed, and this is found about it alone.
    pub(super) fn put(
        &mut self,
        object: &Object,
        key: &ObjectKey,
        findings: Vec<Finding>,
        status: Option<Status>,
    ) {
        self.bare.put(object);
        let id = object.id();
        match status {
            None => self.forget_status(key),
            Some(status) => {
                self.statuses.insert(id.clone(), (key.clone(), status));
                self.stale.insert(id.clone());
            }
        }
        if findings.is_empty() {
            self.alone.remove(key);
        } else {
            self.alone.insert(key.clone(), findings);
        }
    }

    /// An object is gone.
    pub(super) fn take(&mut self, key: &ObjectKey) {
        self.bare.take(&id_of(key));
        self.alone.remove(key);
        self.forget_status(key);
    }

    /// The objects of which something is kept.
    pub(super) fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.alone.keys().chain(self.statuses.values().map(|(key, _)| key))
    }

    /// Notes what a change touched.
    pub(super) fn note(&mut self, touched: &Touched) {
        self.together.note(touched);
    }

    /// The findings about all objects of a snapshot up to which every change was noted, in order.
    pub(super) fn all(&mut self, snapshot: &Snapshot) -> Vec<Finding> {
        let together = self.together.of(snapshot);
        let all = joined(self.alone.values().flatten(), together.iter());
        let mut findings: Vec<Finding> = all.into_iter().cloned().collect();
        findings.extend(self.bare.findings());
        findings.sort();
        findings
    }

    /// The findings about one object of such a snapshot, in order. The others cost nothing.
    pub(super) fn about(&mut self, snapshot: &Snapshot, key: &ObjectKey) -> Vec<Finding> {
        self.together.update(snapshot, usize::MAX);
        let id = id_of(key);
        let mut findings: Vec<Finding> = self.noted(key, &id).into_iter().cloned().collect();
        findings.extend(self.bare.about(&id));
        findings.sort();
        findings
    }

    /// What is to change in statuses, as of a snapshot up to which every change was noted, and whether
    /// that is all: no more than `looks_max` objects are looked at.
    pub(super) fn status_changes(
        &mut self,
        snapshot: &Snapshot,
        looks_max: usize,
        bytes_max: usize,
    ) -> (Vec<(ObjectKey, StatusChange)>, bool) {
        let is_all = self.together.update(snapshot, looks_max);
        if !is_all {
            return (Vec::new(), false);
        }
        self.stale.append(&mut self.together.take_changed());
        let mut changes = Vec::new();
        for _ in 0..looks_max {
            let Some(id) = self.stale.pop_first() else { break };
            changes.extend(self.status_change(&id, bytes_max));
            self.note_made(&id);
        }
        (changes, self.stale.is_empty())
    }

    /// Makes the status of an object again with the next changes.
    pub(super) fn look_again(&mut self, key: &ObjectKey) {
        let id = id_of(key);
        if self.statuses.get(&id).is_some_and(|(own, _)| own == key) {
            self.stale.insert(id);
        }
    }

    /// What is kept about an object, as of the last look.
    fn noted(&self, key: &ObjectKey, id: &ObjectId) -> Vec<&Finding> {
        joined(self.alone.get(key).into_iter().flatten(), self.together.about(id).iter())
    }

    fn status_change(&self, id: &ObjectId, bytes_max: usize) -> Option<(ObjectKey, StatusChange)> {
        let (key, status) = self.statuses.get(id)?;
        let mut findings = self.noted(key, id);
        findings.sort();
        Some((key.clone(), status.change(&findings, bytes_max)?))
    }

    #[cfg(test)]
    fn note_made(&mut self, id: &ObjectId) {
        self.made += u64::from(self.statuses.contains_key(id));
    }

    #[cfg(not(test))]
    fn note_made(&self, _: &ObjectId) {}

    fn forget_status(&mut self, key: &ObjectKey) {
        let id = id_of(key);
        if self.statuses.get(&id).is_some_and(|(own, _)| own == key) {
            self.statuses.remove(&id);
        }
    }
}

fn id_of(key: &ObjectKey) -> ObjectId {
    ObjectId { kind: key.kind.clone(), namespace: key.namespace.clone(), name: key.name.clone() }
}

#[cfg(test)]
mod tests {
    use ironmesh_dialects::{Join, translate_one};
    use ironmesh_model::settings::Settings;
    use serde_json::{Value, json};

    use super::*;

    /// A mesh as the control plane keeps it, without IO.
    struct World {
        join: Join<ObjectKey>,
        snapshot: Snapshot,
        found: Found,
    }

    impl World {
        /// So many services, each with a VirtualService in order.
        fn of(services: usize) -> Self {
            let (join, edits) = Join::new(Settings::default());
            let (snapshot, touched) = Snapshot::default().edited(edits);
            let mut world = Self { join, snapshot, found: Found::default() };
            world.found.note(&touched);
            for n in 0..services {
                world.put(service(&format!("s{n}")));
                world.put(virtual_service(&format!("s{n}"), &format!("s{n}")));
            }
            assert_eq!(world.changes(), []);
            world
        }

        fn put(&mut self, object: Value) {
            let object = Object::new(object).unwrap();
            let key = ObjectKey::of(&object);
            let mut translated = translate_one(&object);
            let findings = std::mem::take(&mut translated.findings);
            self.found.put(&object, &key, findings, translated.status.take());
            let edits = self.join.put(key, translated);
            let (snapshot, touched) = self.snapshot.edited(edits);
            self.snapshot = snapshot;
            self.found.note(&touched);
        }

        /// Names of the objects with what their status is to say: codes.
        fn changes(&mut self) -> Vec<(String, Vec<String>)> {
            let mut all = Vec::new();
            loop {
                let (changes, is_all) = self.found.status_changes(&self.snapshot, 7, 10_000);
                for (key, change) in changes {
                    let messages = change.fields["validationMessages"].as_array().cloned();
                    let code =
                        |message: Value| message["type"]["code"].as_str().unwrap().to_owned();
                    let codes = messages.unwrap_or_default().into_iter().map(code).collect();
                    all.push((key.name.to_string(), codes));
                }
                if is_all {
                    return all;
                }
            }
        }

        /// Objects looked at and statuses made while something was done.
        fn cost(&mut self, work: impl FnOnce(&mut Self)) -> (u64, u64) {
            let before = (self.found.together.looks(), self.found.made);
            work(self);
            (self.found.together.looks() - before.0, self.found.made - before.1)
        }
    }

    fn service(name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "n"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "http", "port": 80}]},
        })
    }

    fn virtual_service(name: &str, to: &str) -> Value {
        let route = json!([{"destination": {"host": to}}]);
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": {"name": name, "namespace": "n", "generation": 1},
            "spec": {"hosts": [name], "http": [{"route": route}]},
        })
    }

    #[test]
    fn what_is_found_about_several_objects_together_reaches_the_status_and_leaves_it() {
        let mut world = World::of(3);
        world.put(virtual_service("s1", "missing"));
        assert_eq!(world.changes(), [("s1".to_owned(), vec!["IM0104".to_owned()])]);
        assert_eq!(world.changes(), [], "it was told once");
        // Nobody touches the object itself, and its status is another one.
        world.put(service("missing"));
        assert_eq!(world.changes(), [], "it is as the object has it");
        let mut written = virtual_service("s1", "missing");
        written["status"] = json!({"observedGeneration": 1, "validationMessages": [{}]});
        world.put(written);
        assert_eq!(world.changes(), [("s1".to_owned(), vec![])]);
    }

    #[test]
    fn a_status_is_made_again_only_if_what_it_is_made_from_has_changed() {
        let costs = |services| {
            let mut world = World::of(services);
            let broken = world.cost(|world| {
                world.put(virtual_service("s1", "missing"));
                assert_eq!(world.changes().len(), 1);
            });
            let other = world.cost(|world| {
                world.put(service("another"));
                world.changes();
            });
            let mended = world.cost(|world| {
                world.put(service("missing"));
                world.changes();
            });
            let nothing = world.cost(|world| {
                world.changes();
            });
            assert_eq!(nothing, (0, 0));
            [broken, other, mended]
        };
        let small = costs(20);
        assert_eq!(small, costs(300), "it does not grow with the mesh");
        assert_eq!(small.map(|(_, made)| made), [1, 0, 1]);
    }

    #[test]
    fn what_is_found_about_one_object_is_what_all_findings_say_of_it() {
        let mut world = World::of(3);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": "n"},
            "spec": {"containers": [{"name": "app", "image": "a"}]},
        });
        let labels = json!({"istio-injection": "enabled"});
        let meta = json!({"name": "n", "labels": labels});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": meta});
        let mut bad = virtual_service("s1", "missing");
        bad["spec"]["bogus"] = json!(1);
        let objects = [bad, virtual_service("s2", "missing"), service("s2"), pod, namespace];
        objects.iter().for_each(|object| world.put(object.clone()));
        let all = world.found.all(&world.snapshot);
        let mut parts = Vec::new();
        for object in objects {
            let key = ObjectKey::of(&Object::new(object).unwrap());
            let (looks, _) = world.cost(|world| {
                parts.extend(world.found.about(&world.snapshot, &key));
            });
            assert_eq!(looks, 0, "nothing has changed");
        }
        parts.sort();
        assert_eq!(parts, all);
        let codes: BTreeSet<&str> = all.iter().map(|finding| finding.code.code()).collect();
        assert!(codes.is_superset(&["IM0104", "IM0134"].into()), "{codes:?}");
    }

    #[test]
    fn objects_that_are_gone_have_no_status() {
        let mut world = World::of(3);
        let bad = virtual_service("s1", "missing");
        let key = ObjectKey::of(&Object::new(bad.clone()).unwrap());
        world.put(bad);
        world.found.take(&key);
        assert_eq!(world.changes(), []);
        world.found.look_again(&key);
        assert_eq!(world.changes(), []);
        assert!(world.found.keys().all(|own| *own != key));
    }
}
