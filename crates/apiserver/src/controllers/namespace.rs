//! Namespaces: each has a service account `default`; one that ends takes all its content with it.

use ironmesh_dialects::kinds::Resource;
use serde_json::json;

use super::{Controller, none};
use crate::failure::Failure;
use crate::object;
use crate::registry::{DeleteOptions, Registry, resource_of};
use crate::store::{Collection, EventKind};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("", "namespaces"),
    owner: None,
    watches: |_, event| {
        // What is gone may have been the last of its namespace, or its service account.
        let namespace = &event.key.namespace;
        let is_gone = event.kind == EventKind::Deleted && !namespace.is_empty();
        is_gone.then(|| ("".into(), namespace.clone())).into_iter().collect()
    },
    patience: none,
    lacks: &[],
    reconcile: |registry, _, name| reconcile(registry, name).map(|()| None),
};

/// Reconciles one namespace.
fn reconcile(registry: &Registry, name: &str) -> Result<(), Failure> {
    let store = registry.store();
    let key = Collection::core("namespaces").key("", name);
    let Some(namespace) = store.object(&key) else { return Ok(()) };
    if !object::is_terminating(&namespace) {
        return default_account(registry, name);
    }
    let mut left = 0;
    // Deployments and ReplicaSets go before their pods, so that none is made anew.
    let mut collections = store.collections();
    collections.sort_by_key(|collection| collection.is("", "pods"));
    for collection in collections {
        for object in store.list(&collection, Some(name)).0 {
            left += 1;
            if !object::is_terminating(&object) {
                let key = collection.key(name, object::name(&object));
                registry.delete(&resource_of(&object), &key, &DeleteOptions::default())?;
            }
        }
    }
    if left == 0 {
        store.remove(&key)?;
    }
    Ok(())
}

fn default_account(registry: &Registry, namespace: &str) -> Result<(), Failure> {
    let key = Collection::core("serviceaccounts").key(namespace, "default");
    if registry.store().object(&key).is_some() {
        return Ok(());
    }
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    registry.create(&Resource::of("v1", "ServiceAccount"), namespace, account)?;
    Ok(())
}
