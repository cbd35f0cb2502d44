//! Garbage collection: what is owned goes when its last owner is gone.

use ironmesh_dialects::kubernetes::kinds::AnyObject;

use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, Registry, resource_of};
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

fn delete_if_orphaned(registry: &Registry, key: &Key, object: &Object) -> Result<(), Failure> {
    let owners = AnyObject::of(object).metadata().owner_references();
    let has_owner = owners.clone().any(|owner| registry.store().has_uid(owner.uid()));
    if owners.len() == 0 || has_owner || object::is_terminating(object) {
        return Ok(());
    }
    // Another of the same name may be there by now.
    let uid = Some(object::uid(object).to_owned());
    let options = DeleteOptions { uid, ..DeleteOptions::default() };
    match registry.delete(&resource_of(object), key, &options) {
        Err(failure) if matches!(failure.code, 404 | 409) => Ok(()),
        deleted => deleted.map(drop),
    }
}
