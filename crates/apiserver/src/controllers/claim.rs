//! Claims of volumes: each is bound at once, as all of them are folders, and one that is deleted goes
//! when no pod uses it any more, with the object of its volume.

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{PersistentVolumeClaim, Pod};
use ironmesh_dialects::kubernetes::{PROVISIONED_BY, PROVISIONER};
use serde_json::{Value, json};

use super::{Controller, ObjectName, none};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{CLAIM_FINALIZER, DeleteOptions, Part, Registry};
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
    let Some(claim) = registry.store().object(&key) else {
        return remove_volumes(registry, namespace, name);
    };
    if !object::is_terminating(&claim) {
        return bind(registry, &key, &claim);
    }
    let (pods, _) = registry.store().list(&Collection::core("pods"), Some(namespace));
    let uses =
        |pod: &Object| !Pod::of(pod).is_finished() && claims_of(pod).any(|claim| claim == name);
    if pods.iter().any(|pod| uses(pod)) {
        return Ok(());
    }
    remove(registry, &volume_name(&claim))?;
    registry.release(&resource(), &key, CLAIM_FINALIZER)
}

/// Removes the volumes of a claim that went without its finalizer.
fn remove_volumes(registry: &Registry, namespace: &str, name: &str) -> Result<(), Failure> {
    let (volumes, _) = registry.store().list(&volumes(), None);
    for volume in volumes {
        let of = &volume["spec"]["claimRef"];
        if is_own(&volume) && of["namespace"] == namespace && of["name"] == name {
            remove(registry, object::name(&volume))?;
        }
    }
    Ok(())
}

fn remove(registry: &Registry, volume: &str) -> Result<(), Failure> {
    let key = volumes().key("", volume);
    if !registry.store().object(&key).is_some_and(|volume| is_own(&volume)) {
        return Ok(());
    }
    match registry.delete(&Resource::of("v1", "PersistentVolume"), &key, &DeleteOptions::default())
    {
        Err(failure) if failure.code == 404 => Ok(()),
        removed => removed.map(drop),
    }
}

fn is_own(volume: &Object) -> bool {
    volume["metadata"]["annotations"][PROVISIONED_BY] == PROVISIONER
}

fn volumes() -> Collection {
    Collection::core("persistentvolumes")
}

/// The name of the volume of a claim.
fn volume_name(claim: &Object) -> String {
    format!("pvc-{}", object::uid(claim))
}

/// Makes the object of a claim's volume, which is for who looks: its folder needs none.
fn make_volume(registry: &Registry, claim: &Object) -> Result<(), Failure> {
    let (name, spec) = (volume_name(claim), &claim["spec"]);
    let key = volumes().key("", &name);
    // A manifest may have named another, which is its author's.
    let is_other = spec["volumeName"].as_str().is_some_and(|of| !of.is_empty() && of != name);
    if is_other || registry.store().object(&key).is_some() {
        return Ok(());
    }
    let size = spec.pointer("/resources/requests/storage").map_or(Value::Null, Value::clone);
    let resource = Resource::of("v1", "PersistentVolume");
    let volume = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": spec["storageClassName"].as_str().unwrap_or_default(),
            "volumeMode": spec["volumeMode"].as_str().unwrap_or("Filesystem"),
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": object::namespace(claim),
                "name": object::name(claim),
                "uid": object::uid(claim),
            },
        },
    });
    match registry.create(&resource, "", volume) {
        Err(failure) if failure.code == 409 => return Ok(()),
        made => made?,
    };
    registry.update(&resource, &key, Part::Status, |old| {
        let mut new = old.clone();
        new["status"] = json!({"phase": "Bound"});
        Ok(new)
    })?;
    Ok(())
}

/// Gives a claim its volume.
fn bind(registry: &Registry, key: &Key, claim: &Object) -> Result<(), Failure> {
    let read = PersistentVolumeClaim::of(claim);
    if read.status().phase() == "Bound" && !read.spec().volume_name().is_empty() {
        return make_volume(registry, claim);
    }
    let volume = volume_name(claim);
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
    make_volume(registry, claim)
}

fn resource() -> Resource {
    Resource::of("v1", "PersistentVolumeClaim")
}
