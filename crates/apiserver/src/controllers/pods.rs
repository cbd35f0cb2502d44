//! What controllers do with pods: find those that are theirs, make them from a template, delete them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{LabelSelector, Pod, PodTemplate};
use ironmesh_dialects::schema::Fields;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::events;
use crate::clock;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::selector;
use crate::store::{Collection, Key};

/// The pods of an owner among those that are candidates. Pods without an owner that its selector means
/// are taken over, and those that it does not mean any more are let go.
pub(super) fn owned(
    registry: &Registry,
    owner: &Object,
    selector: Fields<'_, LabelSelector>,
    is_candidate: impl Fn(&Object) -> bool,
) -> Result<Vec<Arc<Object>>, Failure> {
    let mut own = Vec::new();
    for pod in candidates(registry, owner, selector) {
        if !is_candidate(&pod) {
            continue;
        }
        let is_meant = selector::selects(selector, Pod::of(&pod).metadata().labels());
        let is_owned = object::is_controlled_by(&pod, object::uid(owner));
        let stays = !object::is_terminating(&pod);
        match (is_owned, is_meant) {
            (true, true) => own.push(pod),
            (true, false) if stays => drop(set_owner(registry, &pod, None)?),
            (false, true) if stays && object::controller(&pod).is_none() => {
                own.push(set_owner(registry, &pod, Some(owner))?);
            }
            (_, _) => {}
        }
    }
    Ok(own)
}

/// The pods that an object owns, and those that its selector may mean, in order of their names.
fn candidates(
    registry: &Registry,
    owner: &Object,
    selector: Fields<'_, LabelSelector>,
) -> Vec<Arc<Object>> {
    let (store, namespace) = (registry.store(), object::namespace(owner));
    let labels = selector.match_labels();
    let meant = match labels.is_empty() {
        false => store.pods_with(namespace, labels),
        true => store.list(&Collection::core("pods"), Some(namespace)).0,
    };
    let owned = store.owned_by(object::uid(owner)).into_iter();
    let owned = owned.filter(|(key, _)| key.collection.is("", "pods")).map(|(_, pod)| pod);
    let by_name = |pod: Arc<Object>| (object::name(&pod).to_owned(), pod);
    let all: BTreeMap<_, _> = meant.into_iter().chain(owned).map(by_name).collect();
    all.into_values().collect()
}

/// Makes an object the owner of a pod, or takes the pod's controlling owner away.
fn set_owner(
    registry: &Registry,
    pod: &Object,
    owner: Option<&Object>,
) -> Result<Arc<Object>, Failure> {
    registry.update(&resource(), &key(pod), Part::Main, |old| {
        let owners = Pod::of(old).metadata().owner_references();
        let others = owners.filter(|other| !other.controller());
        let mut owners: Vec<Value> = others.map(|other| other.json().clone()).collect();
        owners.extend(owner.map(object::owner_reference));
        let mut new = old.clone();
        object::metadata_mut(&mut new)["ownerReferences"] = owners.into();
        Ok(new)
    })
}

/// A pod of an owner as its template has it, with a name that the server completes.
pub(super) fn from_template(owner: &Object, template: Fields<'_, PodTemplate>) -> Object {
    let metadata = template.metadata().json();
    let mut metadata = if metadata.is_object() { metadata.clone() } else { json!({}) };
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|key, _| matches!(key.as_str(), "labels" | "annotations" | "finalizers"));
    }
    metadata["generateName"] = format!("{}-", object::name(owner)).into();
    metadata["ownerReferences"] = json!([object::owner_reference(owner)]);
    let spec = template.spec().json();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Makes a pod of an owner, which gets an Event of what became of it.
pub(super) fn create(
    registry: &Registry,
    owner: &Object,
    pod: Object,
) -> Result<Arc<Object>, Failure> {
    match registry.create(&resource(), object::namespace(owner), pod) {
        Ok(pod) => {
            let message = format!("Created pod: {}", object::name(&pod));
            events::record(registry, owner, "Normal", "SuccessfulCreate", &message);
            Ok(pod)
        }
        Err(failure) => {
            let message = format!("Error creating: {failure}");
            events::record(registry, owner, "Warning", "FailedCreate", &message);
            Err(failure)
        }
    }
}

/// Deletes a pod of an owner, which gets an Event of it.
pub(super) fn delete(registry: &Registry, owner: &Object, pod: &Object) -> Result<(), Failure> {
    match registry.delete(&resource(), &key(pod), &DeleteOptions::default()) {
        // It went by itself meanwhile.
        Err(failure) if failure.code == 404 => return Ok(()),
        deleted => deleted?,
    };
    let message = format!("Deleted pod: {}", object::name(pod));
    events::record(registry, owner, "Normal", "SuccessfulDelete", &message);
    Ok(())
}

/// Deletes a pod that ended by itself and is to be there for good, so that another is made; not at once,
/// for that may end as soon. Returns after how long it is to be looked at again.
pub(super) fn replace(
    registry: &Registry,
    owner: &Object,
    pod: &Object,
) -> Result<Option<Duration>, Failure> {
    let made = Pod::of(pod).metadata().creation_timestamp().parse();
    let made = made.unwrap_or(Timestamp::UNIX_EPOCH);
    let left = clock::until(made, REPLACE_PAUSE_SECONDS, clock::now());
    if left.is_zero() {
        delete(registry, owner, pod)?;
    }
    Ok(Some(left).filter(|left| !left.is_zero()))
}

/// What a pod is stored as.
pub(super) fn resource() -> Resource {
    Resource::of("v1", "Pod")
}

/// What a pod is stored under.
pub(super) fn key(pod: &Object) -> Key {
    Collection::core("pods").key(object::namespace(pod), object::name(pod))
}

/// Age before which a pod that ended by itself is not replaced.
const REPLACE_PAUSE_SECONDS: i64 = 10;
