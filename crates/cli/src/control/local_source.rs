//! The API server of this machine as a source.

use std::sync::Arc;

use ironmesh_apiserver::ApiServer;
use ironmesh_apiserver::store::{Collection, Event, EventKind};
use ironmesh_control::source::{Change, Expired, ObjectKey, Source, StatusError, Writing};
use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::{Object, StatusChange};
use serde_json::Value;
use tokio::sync::watch;

/// Objects of the API server.
#[derive(Debug)]
pub(super) struct LocalSource(pub(super) ApiServer);

impl Source for LocalSource {
    fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.store().subscribe()
    }

    fn list(&self) -> (Vec<Object>, u64) {
        let store = self.0.store();
        // What changes meanwhile is seen again.
        let version = store.revision();
        let collections = store.collections().into_iter().filter(concerns_mesh);
        let objects = collections.flat_map(|collection| store.list(&collection, None).0);
        (objects.filter_map(|object| Object::new(object).ok()).collect(), version)
    }

    fn changes_after(&self, version: u64) -> Result<(Vec<Change>, u64), Expired> {
        let events = self.0.store().events_after(version, usize::MAX).map_err(|_| Expired)?;
        let last = events.last().map_or(version, |event| event.revision);
        let change = |event: &Event| {
            let object = Object::new(event.object()).ok()?;
            let key = ObjectKey::of(&object);
            let object = (event.kind != EventKind::Deleted).then_some(object);
            Some(Change { key, object })
        };
        let concern = |event: &&Event| concerns_mesh(&event.key.collection);
        Ok((events.iter().filter(concern).filter_map(change).collect(), last))
    }

    fn object(&self, key: &ObjectKey) -> Option<Arc<Value>> {
        let resource = resource_of(key);
        self.0.store().object(&Collection::from(&resource).key(&key.namespace, &key.name))
    }

    fn pods(&self) -> Vec<Arc<Value>> {
        self.0.store().list(&Collection::core("pods"), None).0
    }

    fn write_status<'a>(&'a self, key: &'a ObjectKey, change: &'a StatusChange) -> Writing<'a> {
        let resource = resource_of(key);
        let key = Collection::from(&resource).key(&key.namespace, &key.name);
        let written = self.0.update_status(&resource, &key, change.generation, |object| {
            change.apply(object);
        });
        let result = written.map_err(|failure| match failure.code {
            404 | 409 => StatusError::Outdated,
            _ => StatusError::Refused(failure.message),
        });
        Box::pin(std::future::ready(result))
    }
}

/// The collection of an object.
fn resource_of(key: &ObjectKey) -> Resource {
    let api_version = format!("{}{}v1", key.group, if key.group.is_empty() { "" } else { "/" });
    Resource::of(&api_version, &key.kind)
}

/// Whether objects of this collection may have a part in the mesh, or findings.
fn concerns_mesh(collection: &Collection) -> bool {
    match (&*collection.group, &*collection.plural) {
        ("", plural) => !matches!(plural, "events" | "serviceaccounts"),
        _ => true,
    }
}
