//! The mesh as the proxies know it: a snapshot that follows the store, and the server that pushes
//! it.
//!
//! Each object is translated when it changes, and only then. The snapshot is built from all
//! translations on another thread; what changes meanwhile goes into the next one, and nothing is
//! delayed to collect changes. The first is built from the whole store, so that no proxy is told
//! less than it holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::{Translated, join, translate_one};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Finding, Snapshot};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::context::Context;
use crate::failure::Failure;
use crate::object::Object;
use crate::store::{EventKind, Key, Store};

mod members;
mod pods;
mod push;

pub(crate) use members::{Members, Trust, TrustError, subscriber};
pub(crate) use push::serve;

/// The mesh at one version of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published {
    /// What the proxies are told from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// Findings about all objects, in order.
    pub(crate) findings: Arc<[Finding]>,
    /// Version of the store up to which this is current; 0: nothing was built yet.
    pub(crate) revision: u64,
}

/// The present state of the mesh.
#[derive(Debug)]
pub(crate) struct Mesh {
    published: watch::Sender<Published>,
    /// Serves the proxies.
    pub(crate) server: Arc<ironmesh_wire::Server<Members>>,
}

impl Mesh {
    /// A mesh that knows nothing yet; proxies wait for its first snapshot.
    pub(crate) fn new(server: Arc<ironmesh_wire::Server<Members>>) -> Self {
        Self { published: watch::Sender::default(), server }
    }

    /// The mesh once it has caught up with a version of the store.
    ///
    /// # Errors
    ///
    /// If it has not within `longest` (`snapshot_wait`).
    pub(crate) async fn at(&self, revision: u64, longest: Duration) -> Result<Published, Failure> {
        let mut published = self.published.subscribe();
        let caught_up = published.wait_for(|published| published.revision >= revision);
        match timeout(longest, caught_up).await {
            // The sender lives as long as `self`, so waiting never fails.
            Ok(caught_up) => Ok(caught_up.map(|published| published.clone()).unwrap_or_default()),
            Err(_) => Err(Failure::internal(format!(
                "the mesh has not caught up with the latest change within {longest:?} \
                 (limits.control.snapshot_wait); ask again"
            ))),
        }
    }

    /// Notes that what was published holds for a later version of the store, too.
    fn caught_up(&self, revision: u64) {
        self.published.send_modify(|published| published.revision = revision);
    }
}

/// Keeps the mesh current until the process ends.
pub(crate) async fn follow(context: Arc<Context>) {
    let store = context.registry.store();
    let mut changes = store.subscribe();
    let mut translations = Translations { parts: BTreeMap::new(), user_ids: context.user_ids };
    let mut revision = translations.read_all(store);
    let mut is_stale = true;
    loop {
        if is_stale {
            let parts = translations.all();
            let settings = context.settings.clone();
            let build = move || build(&parts, &settings, revision);
            match tokio::task::spawn_blocking(build).await {
                Ok(next) => {
                    context.mesh.server.publish(next.snapshot.clone());
                    context.mesh.published.send_replace(next);
                }
                Err(error) => {
                    // The last one goes on, until a change lets another be built.
                    tracing::error!(%error, "snapshot not built");
                    context.mesh.caught_up(revision);
                }
            }
        } else {
            context.mesh.caught_up(revision);
        }
        if store.revision() == revision && changes.changed().await.is_err() {
            return;
        }
        is_stale = false;
        match store.events_after(revision, usize::MAX) {
            Ok(events) => {
                for event in events {
                    revision = event.revision;
                    is_stale |= match event.kind {
                        EventKind::Deleted => translations.forget(&event.key),
                        _ => translations.take(&event.key, &event.object),
                    };
                }
            }
            Err(_) => {
                revision = translations.read_all(store);
                is_stale = true;
            }
        }
    }
}

/// What was made of each object that the mesh has something to say about.
#[derive(Debug)]
struct Translations {
    parts: BTreeMap<Key, Arc<Translated>>,
    /// See [`Context::user_ids`].
    user_ids: bool,
}

impl Translations {
    /// Begins anew from all objects. Returns the version at which they were read.
    fn read_all(&mut self, store: &Store) -> u64 {
        self.parts.clear();
        let revision = store.revision();
        for collection in store.collections() {
            for object in store.list(&collection, None).0 {
                let (namespace, name) =
                    (crate::object::namespace(&object), crate::object::name(&object));
                self.take(&collection.key(namespace, name), &object);
            }
        }
        revision
    }

    /// Takes an object in. Returns whether the mesh may be another now.
    fn take(&mut self, key: &Key, object: &Arc<Object>) -> bool {
        if !concerns_mesh(key) {
            return false;
        }
        match ironmesh_dialects::Object::new(object.clone()) {
            Ok(object) => {
                let mut translated = translate_one(&object);
                translated.findings.extend(pods::findings(&object, self.user_ids));
                let translated = Arc::new(translated);
                let before = self.parts.insert(key.clone(), translated.clone());
                // Much of what changes, such as most of a pod's status, is nothing to the mesh.
                before.unwrap_or_default() != translated
            }
            Err(_) => self.forget(key),
        }
    }

    fn forget(&mut self, key: &Key) -> bool {
        self.parts.remove(key).is_some_and(|before| *before != Translated::default())
    }

    fn all(&self) -> Vec<Arc<Translated>> {
        self.parts.values().cloned().collect()
    }
}

/// Whether objects of this collection may have a part in the mesh, or findings.
fn concerns_mesh(key: &Key) -> bool {
    match (&*key.collection.group, &*key.collection.plural) {
        ("", plural) => !matches!(plural, "events" | "namespaces" | "nodes" | "serviceaccounts"),
        _ => true,
    }
}

fn build(parts: &[Arc<Translated>], settings: &Settings, revision: u64) -> Published {
    let translation = join(parts.iter().map(|part| &**part), settings);
    let (snapshot, together) = Snapshot::new(translation.objects);
    let mut findings = translation.findings;
    findings.extend(together);
    findings.sort();
    Published { snapshot: Arc::new(snapshot), findings: findings.into(), revision }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Collection;

    #[test]
    fn what_the_mesh_does_not_see_makes_no_new_one() {
        let mut translations = Translations { parts: BTreeMap::new(), user_ids: true };
        let key = Collection::core("pods").key("default", "a");
        let pod = |version: u32, phase: &str, condition: &str| {
            Arc::new(json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "namespace": "default", "resourceVersion": version.to_string()},
                "spec": {"containers": [{"name": "c"}]},
                "status": {"phase": phase, "podIP": "10.77.0.1", "conditions": [
                    {"type": condition, "status": "True"}]},
            }))
        };
        assert!(translations.take(&key, &pod(1, "Running", "Initialized")));
        assert!(!translations.take(&key, &pod(2, "Running", "ContainersReady")));
        assert!(translations.take(&key, &pod(3, "Running", "Ready")), "it takes requests now");
        assert!(translations.forget(&key));
        assert!(!translations.forget(&key));
    }
}
