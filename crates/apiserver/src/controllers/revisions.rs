//! The templates that a DaemonSet or a StatefulSet has had, as ControllerRevisions: one for each, of
//! which the highest is the present one. As in Kubernetes what one holds is a patch by which its owner goes
//! back to it, and it is found by the labels of its pods: `kubectl rollout` relies on both.

use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{ControllerRevision, Pod};
use serde_json::{Map, Value, json};

use super::template;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::store::{Collection, Key};

/// The revision of an owner's present template, which is made if there is none.
pub(super) fn of_template(
    registry: &Registry,
    owner: &Object,
    template: &Value,
) -> Result<Arc<Object>, Failure> {
    let all = all(registry, owner);
    let highest = all.iter().map(|revision| number(revision)).max().unwrap_or(0);
    let is_it = |revision: &&Arc<Object>| template::is_same(&template_of(revision), template);
    match all.iter().find(is_it) {
        Some(found) if number(found) == highest => Ok(found.clone()),
        // Back to an earlier one.
        Some(found) => registry.update(&resource(), &key(found), Part::Main, |old| {
            let mut new = old.clone();
            new["revision"] = (highest + 1).into();
            Ok(new)
        }),
        None => create(registry, owner, template, highest + 1),
    }
}

/// The template of a revision.
pub(super) fn template_of(revision: &Object) -> Value {
    let mut template = revision.pointer("/data/spec/template").cloned().unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.shift_remove(PATCH);
    }
    template
}

/// The template of the revision of this name, if the owner still has it.
pub(super) fn template_named(registry: &Registry, owner: &Object, name: &str) -> Option<Value> {
    let key = collection().key(object::namespace(owner), name);
    let revision = registry.store().object(&key)?;
    object::is_controlled_by(&revision, object::uid(owner)).then(|| template_of(&revision))
}

/// Removes the oldest revisions beyond `kept` that no pod has, nor is one of `used`.
pub(super) fn prune(
    registry: &Registry,
    owner: &Object,
    kept: usize,
    pods: &[Arc<Object>],
    used: &[&str],
) -> Result<(), Failure> {
    let has_pods = |name: &str| pods.iter().any(|pod| of_pod(pod) == name);
    let mut idle = all(registry, owner);
    idle.retain(|revision| {
        let name = object::name(revision);
        !used.contains(&name) && !has_pods(name)
    });
    idle.sort_by_key(|revision| number(revision));
    for revision in &idle[..idle.len().saturating_sub(kept)] {
        registry.delete(&resource(), &key(revision), &DeleteOptions::default())?;
    }
    Ok(())
}

/// Name of the revision that a pod was made from.
pub(super) fn of_pod(pod: &Object) -> &str {
    Pod::of(pod).metadata().labels().get(LABEL).unwrap_or_default()
}

/// Notes in a new pod which revision it is made from.
pub(super) fn label(pod: &mut Object, revision: &str) {
    object::entry(object::metadata_mut(pod), "labels")[LABEL] = revision.into();
}

fn all(registry: &Registry, owner: &Object) -> Vec<Arc<Object>> {
    let owned = registry.store().owned_by(object::uid(owner)).into_iter();
    let revisions = owned.filter(|(key, revision)| {
        key.collection == collection() && object::is_controlled_by(revision, object::uid(owner))
    });
    revisions.map(|(_, revision)| revision).collect()
}

fn create(
    registry: &Registry,
    owner: &Object,
    template: &Value,
    number: i64,
) -> Result<Arc<Object>, Failure> {
    let mut labels = template["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    let cause = object::annotation(owner, CHANGE_CAUSE);
    let annotations: Map<String, Value> =
        cause.map(|cause| (CHANGE_CAUSE.to_owned(), cause.into())).into_iter().collect();
    let mut whole = template.clone();
    if let Some(fields) = whole.as_object_mut() {
        fields.insert(PATCH.to_owned(), "replace".into());
    }
    let mut attempt = 0;
    loop {
        let name = format!("{}-{}", object::name(owner), template::hash(template, attempt));
        labels.insert(LABEL.to_owned(), name.as_str().into());
        let revision = json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [object::owner_reference(owner)],
            },
            "data": {"spec": {"template": whole}},
            "revision": number,
        });
        match registry.create(&resource(), object::namespace(owner), revision) {
            Err(failure) if failure.code == 409 && attempt < template::COLLISIONS_MAX => {
                attempt += 1;
            }
            made => return made,
        }
    }
}

fn number(revision: &Object) -> i64 {
    ControllerRevision::of(revision).revision()
}

fn resource() -> Resource {
    Resource::of("apps/v1", "ControllerRevision")
}

fn collection() -> Collection {
    Collection::new("apps", "controllerrevisions")
}

fn key(revision: &Object) -> Key {
    collection().key(object::namespace(revision), object::name(revision))
}

/// Label of a pod with the name of its revision.
const LABEL: &str = "controller-revision-hash";
/// Says of a map in a strategic merge patch that it takes the place of the old one.
const PATCH: &str = "$patch";
/// Annotation that says why a workload was changed.
const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
