//! Claims of volumes: each is bound at once, as all of them are folders, and one that is deleted goes
//! when no pod uses it any more.

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};

use super::{Controller, ObjectName, none};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{CLAIM_FINALIZER, Part, Registry};
use crate::store::{Collection, Event, Key};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("", "persistentvolumeclaims"),
    owner: None,
    watches,
    patience: none,
    lacks: &[],
    reconcile: |registry, namespace, name| reconcile(registry, namespace, name).map(|()| None),
};

/// The claims of a pod that changed: it may have been the last that used them.
fn watches(_: &Registry, event: &Event) -> Vec<ObjectName> {
    if !event.key.collection.is("", "pods") {
        return Vec::new();
    }
    let pod = event.object();
    claims_of(&pod).map(|claim| (event.key.namespace.clone(), claim.into())).collect()
}

fn claims_of(pod: &Object) -> impl Iterator<Item = &str> {
    let volumes = Pod::of(pod).spec().volumes();
    volumes.filter_map(|volume| Some(volume.persistent_volume_claim()?.claim_name()))
}

/// Reconciles one claim.
fn reconcile(registry: &Registry, namespace: &str, name: &str) -> Result<(), Failure> {
    let key = Collection::core("persistentvolumeclaims").key(namespace, name);
    let Some(claim) = registry.store().object(&key) else { return Ok(()) };
    if !object::is_terminating(&claim) {
        return bind(registry, &key, &claim);
    }
    let (pods, _) = registry.store().list(&Collection::core("pods"), Some(namespace));
    let uses =
        |pod: &Object| !Pod::of(pod).is_finished() && claims_of(pod).any(|claim| claim == name);
    if pods.iter().any(|pod| uses(pod)) {
        return Ok(());
    }
    registry.release(&resource(), &key, CLAIM_FINALIZER)
}

/// Gives a claim its volume.
fn bind(registry: &Registry, key: &Key, claim: &Object) -> Result<(), Failure> {
    let read = PersistentVolumeClaim::of(claim);
    if read.status().phase() == "Bound" && !read.spec().volume_name().is_empty() {
        return Ok(());
    }
    let volume = format!("pvc-{}", object::uid(claim));
    registry.update(&resource(), key, Part::Main, |old| {
        let mut new = old.clone();
        if PersistentVolumeClaim::of(old).spec().volume_name().is_empty() {
            new["spec"]["volumeName"] = volume.clone().into();
        }
        Ok(new)
    })?;
    registry.update(&resource(), key, Part::Status, |old| {
        let mut new = old.clone();
        let requests = &old["spec"]["resources"]["requests"];
        let size = requests.get("storage").map_or(Value::Null, Value::clone);
        new["status"] = json!({
            "phase": "Bound",
            "accessModes": old["spec"]["accessModes"],
            "capacity": {"storage": size},
        });
        Ok(new)
    })?;
    Ok(())
}

fn resource() -> Resource {
    Resource::of("v1", "PersistentVolumeClaim")
}
