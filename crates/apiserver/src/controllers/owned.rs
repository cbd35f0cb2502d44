//! Garbage collection: what is owned goes when its last owner is gone, or before an owner that is to go
//! last.

use ironmesh_dialects::kubernetes::kinds::AnyObject;

use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, FOREGROUND, Registry, resource_of};
use crate::store::Key;

/// Deletes what the object of this uid, which is gone, owned alone.
pub(super) fn collect(registry: &Registry, uid: &str) -> Result<(), Failure> {
    for (key, object) in registry.store().owned_by(uid) {
        delete_if_orphaned(registry, &key, &object)?;
    }
    Ok(())
}

/// Deletes all that names owners of which none is left.
pub(super) fn collect_all(registry: &Registry) -> Result<(), Failure> {
    for collection in registry.store().collections() {
        for object in registry.store().list(&collection, None).0 {
            let key = collection.key(object::namespace(&object), object::name(&object));
            delete_if_orphaned(registry, &key, &object)?;
        }
    }
    Ok(())
}

/// Deletes what an object owns that is to go last, and lets it go once nothing is left that it waits
/// for.
pub(super) fn foreground(registry: &Registry, key: &Key) -> Result<(), Failure> {
    let Some(owner) = registry.store().object(key) else { return Ok(()) };
    if !object::is_terminating(&owner) || !is_foreground(&owner) {
        return Ok(());
    }
    let mut waits = false;
    for (key, object) in registry.store().owned_by(object::uid(&owner)) {
        let mut owners = AnyObject::of(&object).metadata().owner_references();
        let others = owners.clone().any(|other| {
            other.uid() != object::uid(&owner) && registry.store().has_uid(other.uid())
        });
        if others {
            // It stays with another owner, and nobody waits for it.
            continue;
        }
        waits |= owners.any(|own| own.uid() == object::uid(&owner) && own.block_owner_deletion());
        if !object::is_terminating(&object) {
            let uid = Some(object::uid(&object).to_owned());
            delete(
                registry,
                &key,
                &object,
                DeleteOptions { uid, foreground: true, ..DeleteOptions::default() },
            )?;
        }
    }
    if waits {
        return Ok(());
    }
    registry.release(&resource_of(&owner), key, FOREGROUND)
}

/// Whether an object is to go after what it owns.
pub(super) fn is_foreground(object: &Object) -> bool {
    AnyObject::of(object).metadata().finalizers().any(|finalizer| finalizer == FOREGROUND)
}

fn delete(
    registry: &Registry,
    key: &Key,
    object: &Object,
    options: DeleteOptions,
) -> Result<(), Failure> {
    match registry.delete(&resource_of(object), key, &options) {
        Err(failure) if matches!(failure.code, 404 | 409) => Ok(()),
        deleted => deleted.map(drop),
    }
}

fn delete_if_orphaned(registry: &Registry, key: &Key, object: &Object) -> Result<(), Failure> {
    let owners = AnyObject::of(object).metadata().owner_references();
    let has_owner = owners.clone().any(|owner| registry.store().has_uid(owner.uid()));
    if owners.len() == 0 || has_owner || object::is_terminating(object) {
        return Ok(());
    }
    // Another of the same name may be there by now.
    let uid = Some(object::uid(object).to_owned());
    delete(registry, key, object, DeleteOptions { uid, ..DeleteOptions::default() })
}
