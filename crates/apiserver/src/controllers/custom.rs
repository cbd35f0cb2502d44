//! Definitions of kinds: one that is deleted takes the objects of its kind with it.

use ironmesh_dialects::kinds::Defined;

use super::{Controller, ObjectName, none};
use crate::custom;
use crate::failure::Failure;
use crate::object;
use crate::registry::{DeleteOptions, Registry, resource_of};
use crate::store::{Collection, Event, EventKind};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("apiextensions.k8s.io", "customresourcedefinitions"),
    owner: None,
    watches,
    patience: none,
    lacks: &[],
    reconcile: |registry, _, name| reconcile(registry, name).map(|()| None),
};

/// The definition of an object that has gone: it may have been the last of its kind.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    if event.kind != EventKind::Deleted {
        return Vec::new();
    }
    let Collection { group, plural } = &event.key.collection;
    let definition = custom::collection().key("", &format!("{plural}.{group}"));
    let is_defined = registry.store().object(&definition).is_some();
    is_defined.then(|| ("".into(), definition.name)).into_iter().collect()
}

/// Reconciles one definition.
fn reconcile(registry: &Registry, name: &str) -> Result<(), Failure> {
    let key = custom::collection().key("", name);
    let Some(definition) = registry.store().object(&key) else { return Ok(()) };
    if !object::is_terminating(&definition) {
        return Ok(());
    }
    let mut left = 0;
    if let Some(Defined { resource, .. }) = Defined::of(&definition) {
        let collection = Collection::from(&resource);
        for object in registry.store().list(&collection, None).0 {
            left += 1;
            if !object::is_terminating(&object) {
                let key = collection.key(object::namespace(&object), object::name(&object));
                registry.delete(&resource, &key, &DeleteOptions::default())?;
            }
        }
    }
    if left > 0 {
        return Ok(());
    }
    registry.release(&resource_of(&definition), &key, custom::FINALIZER)
}
