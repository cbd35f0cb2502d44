//! Garbage collection: what is owned goes when its last owner is gone.

use std::collections::BTreeSet;

use crate::failure::Failure;
use crate::object;
use crate::registry::{DeleteOptions, Registry, resource_of};
use crate::store::Key;

/// Deletes what the object of this uid, which is gone, owned alone.
pub(super) fn collect(registry: &Registry, uid: &str) -> Result<(), Failure> {
    let candidates = registry.dependents(uid);
    if candidates.is_empty() {
        return Ok(());
    }
    let live = live_uids(registry);
    for (_, key) in candidates {
        delete_if_orphaned(registry, &key, &live)?;
    }
    Ok(())
}

/// Deletes all that names owners of which none is left.
pub(super) fn collect_all(registry: &Registry) -> Result<(), Failure> {
    let live = live_uids(registry);
    for collection in registry.store().collections() {
        for object in registry.store().list(&collection, None).0 {
            let key = collection.key(object::namespace(&object), object::name(&object));
            delete_if_orphaned(registry, &key, &live)?;
        }
    }
    Ok(())
}

fn delete_if_orphaned(
    registry: &Registry,
    key: &Key,
    live: &BTreeSet<String>,
) -> Result<(), Failure> {
    let Some(object) = registry.store().object(key) else { return Ok(()) };
    let owners = object::list(&object, "/metadata/ownerReferences");
    let has_owner = owners.iter().any(|owner| live.contains(object::text(owner, "/uid")));
    if owners.is_empty() || has_owner || object::is_terminating(&object) {
        return Ok(());
    }
    registry.delete(&resource_of(&object), key, &DeleteOptions::default())?;
    Ok(())
}

fn live_uids(registry: &Registry) -> BTreeSet<String> {
    let store = registry.store();
    store
        .collections()
        .iter()
        .flat_map(|collection| store.list(collection, None).0)
        .map(|object| object::uid(&object).to_owned())
        .collect()
}
