//! Deployments: one ReplicaSet per version of the pod template, and pods moved from old to new.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Deployment, ReplicaSet, StrategyType};
use serde_json::{Value, json};

use super::rollout::{Set, Wanted};
use super::{Controller, ObjectName, events, none, progress, template};
use crate::failure::Failure;
use crate::object::{self, Object, entry};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::selector;
use crate::store::{Collection, Event, EventKind, Key};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("apps", "deployments"),
    owner: Some("Deployment"),
    watches,
    patience: none,
    lacks: &[],
    reconcile,
};

/// The Deployments that may take over a ReplicaSet that nothing controls.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    let is_set = event.key.collection.is("apps", "replicasets");
    if !is_set || event.kind == EventKind::Deleted {
        return Vec::new();
    }
    let set = event.object();
    if object::controller(&set).is_some() {
        return Vec::new();
    }
    let namespace = &event.key.namespace;
    let deployments = Collection::new("apps", "deployments");
    let (all, _) = registry.store().list(&deployments, Some(namespace));
    let means = |deployment: &&Arc<Object>| is_meant(deployment, &set);
    all.iter().filter(means).map(|found| (namespace.clone(), object::name(found).into())).collect()
}

fn is_meant(deployment: &Object, set: &Object) -> bool {
    let selector = Deployment::of(deployment).spec().selector();
    selector::selects(selector, ReplicaSet::of(set).metadata().labels())
}

/// Takes over the ReplicaSets that the Deployment's selector means and nothing controls, such as those
/// of one that was deleted without them.
fn adopt(registry: &Registry, deployment: &Object) -> Result<(), Failure> {
    for set in registry.store().free_sets(object::namespace(deployment)) {
        if object::is_terminating(&set) || !is_meant(deployment, &set) {
            continue;
        }
        registry.update(&set_resource(), &set_key(&set), Part::Main, |old| {
            let mut new = old.clone();
            let owners = entry_list(object::metadata_mut(&mut new), "ownerReferences");
            owners.push(object::owner_reference(deployment));
            Ok(new)
        })?;
    }
    Ok(())
}

/// A list of an object, made if it is not there.
fn entry_list<'a>(parent: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    let list = &mut parent[key];
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut().expect("it was made a list above")
}

/// Reconciles one Deployment. Returns after how long it is to be looked at again if nothing happens.
fn reconcile(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, Failure> {
    let key = Collection::new("apps", "deployments").key(namespace, name);
    let Some(deployment) = registry.store().object(&key) else { return Ok(None) };
    if object::is_terminating(&deployment) {
        return Ok(None);
    }
    adopt(registry, &deployment)?;
    let mut sets = owned_sets(registry, &deployment);
    let spec = Deployment::of(&deployment).spec();
    let (paused, template) = (spec.paused(), spec.template().json());
    let mut new_name = sets
        .iter()
        .find(|set| template::is_same(ReplicaSet::of(set).spec().template().json(), template))
        .map(|set| object::name(set).to_owned());
    if new_name.is_none() && !paused {
        let made = create_set(registry, &deployment, &sets)?;
        new_name = Some(object::name(&made).to_owned());
        sets.push(made);
    }
    let (new, old): (Vec<_>, Vec<_>) =
        sets.into_iter().partition(|set| Some(object::name(set)) == new_name.as_deref());
    let new = new.into_iter().next();
    if paused {
        scale_paused(registry, &deployment, new.as_deref(), &old)?;
    } else if let Some(new) = &new {
        note_revision(registry, &deployment, new, &old)?;
        roll(registry, &deployment, new, &old)?;
        prune_history(registry, &deployment, &old)?;
    }
    progress::write_status(registry, &key, new.as_deref(), &old)
}

/// The ReplicaSets of a Deployment, oldest first.
fn owned_sets(registry: &Registry, deployment: &Object) -> Vec<Arc<Object>> {
    let collection = Collection::new("apps", "replicasets");
    let owned = registry.store().owned_by(object::uid(deployment)).into_iter();
    let mut sets: Vec<_> = owned
        .filter(|(key, set)| {
            key.collection == collection
                && object::is_controlled_by(set, object::uid(deployment))
                && !object::is_terminating(set)
        })
        .map(|(_, set)| set)
        .collect();
    sets.sort_by_key(|set| revision(set));
    sets
}

/// Makes the set of the Deployment's present template, without pods yet.
fn create_set(
    registry: &Registry,
    deployment: &Object,
    others: &[Arc<Object>],
) -> Result<Arc<Object>, Failure> {
    let spec = Deployment::of(deployment).spec();
    let mut template = spec.template().json().clone();
    let resource = set_resource();
    let namespace = object::namespace(deployment);
    let mut attempt = 0u32;
    loop {
        // Names collide if a hash does; then the next one is tried, as in Kubernetes.
        let hash = template::hash(spec.template().json(), attempt);
        let name = format!("{}-{hash}", object::name(deployment));
        entry(entry(&mut template, "metadata"), "labels")[template::HASH_LABEL] =
            hash.clone().into();
        let mut selector = spec.selector().json().clone();
        entry(&mut selector, "matchLabels")[template::HASH_LABEL] = hash.into();
        let next = others.iter().map(|set| revision(set)).max().unwrap_or(0) + 1;
        let set = json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "labels": template["metadata"]["labels"],
                "annotations": {REVISION: next.to_string()},
                "ownerReferences": [object::owner_reference(deployment)],
            },
            "spec": {"replicas": 0, "selector": selector, "template": template},
        });
        match registry.create(&resource, namespace, set) {
            Err(failure) if failure.code == 409 && attempt < template::COLLISIONS_MAX => {
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// A set that is current has the highest revision, also after a rollback to it; the Deployment
/// shows the same number.
fn note_revision(
    registry: &Registry,
    deployment: &Object,
    new: &Object,
    old: &[Arc<Object>],
) -> Result<(), Failure> {
    let highest = old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let current = if revision(new) > highest { revision(new) } else { highest + 1 };
    let annotate = |resource: &Resource, key: &Key| {
        registry.update(resource, key, Part::Main, |object| {
            let mut changed = object.clone();
            entry(object::metadata_mut(&mut changed), "annotations")[REVISION] =
                current.to_string().into();
            Ok(changed)
        })
    };
    if revision(new) != current {
        annotate(&set_resource(), &set_key(new))?;
    }
    if revision(deployment) != current {
        let key = Collection::new("apps", "deployments")
            .key(object::namespace(deployment), object::name(deployment));
        annotate(&Resource::of("apps/v1", "Deployment"), &key)?;
    }
    Ok(())
}

/// Moves pods from the old sets to the new one, as far as the strategy allows now.
fn roll(
    registry: &Registry,
    deployment: &Object,
    new: &Object,
    old: &[Arc<Object>],
) -> Result<(), Failure> {
    let spec = Deployment::of(deployment).spec();
    let replicas = spec.replicas().0;
    let scale = |set: &Object, replicas| scale(registry, deployment, set, replicas);
    if spec.strategy().of() == StrategyType::Recreate {
        for set in old {
            scale(set, 0)?;
        }
        // The pods of the old version must have ended, not only be told to.
        let all_gone = old.iter().all(|set| !has_pods(registry, set));
        return if all_gone { scale(new, replicas) } else { Ok(()) };
    }
    let wanted = Wanted::new(replicas, spec.strategy().rolling_update());
    let old_sizes: Vec<Set> = old.iter().map(|set| size(set)).collect();
    let mut new_size = size(new);
    let next = wanted.next_new(new_size, &old_sizes);
    scale(new, next)?;
    new_size.replicas = next;
    new_size.available = new_size.available.min(next);
    for (set, next) in old.iter().zip(wanted.next_old(new_size, &old_sizes)) {
        scale(set, next)?;
    }
    Ok(())
}

/// A paused Deployment makes no new version, but follows `replicas`: with its one set that has pods;
/// if none has, with the newest; if several have, each keeps its share, and the newest gets the rest.
fn scale_paused(
    registry: &Registry,
    deployment: &Object,
    new: Option<&Object>,
    old: &[Arc<Object>],
) -> Result<(), Failure> {
    let replicas = Deployment::of(deployment).spec().replicas().0;
    // The newest first.
    let sets: Vec<&Object> = new.into_iter().chain(old.iter().rev().map(|set| &**set)).collect();
    let mut active: Vec<&Object> =
        sets.iter().copied().filter(|set| size(set).replicas > 0).collect();
    if active.is_empty() {
        active.extend(sets.first());
    }
    let total: i64 = active.iter().map(|set| size(set).replicas).sum();
    let share = |set: &Object| (size(set).replicas * replicas).checked_div(total).unwrap_or(0);
    let others: i64 = active.iter().skip(1).map(|set| share(set)).sum();
    for (index, set) in active.into_iter().enumerate() {
        let wanted = if index == 0 { replicas - others } else { share(set) };
        scale(registry, deployment, set, wanted)?;
    }
    Ok(())
}

fn has_pods(registry: &Registry, set: &Object) -> bool {
    let owned = registry.store().owned_by(object::uid(set));
    owned.iter().any(|(key, pod)| {
        key.collection.is("", "pods") && object::is_controlled_by(pod, object::uid(set))
    })
}

fn scale(
    registry: &Registry,
    deployment: &Object,
    set: &Object,
    replicas: i64,
) -> Result<(), Failure> {
    let before = size(set).replicas;
    if before == replicas {
        return Ok(());
    }
    registry.update(&set_resource(), &set_key(set), Part::Main, |old| {
        let mut new = old.clone();
        new["spec"]["replicas"] = replicas.into();
        Ok(new)
    })?;
    let direction = if replicas > before { "up" } else { "down" };
    let name = object::name(set);
    let message = format!("Scaled {direction} replica set {name} from {before} to {replicas}");
    events::record(registry, deployment, "Normal", "ScalingReplicaSet", &message);
    Ok(())
}

/// Removes old sets without pods beyond `revisionHistoryLimit`.
fn prune_history(
    registry: &Registry,
    deployment: &Object,
    old: &[Arc<Object>],
) -> Result<(), Failure> {
    let kept = Deployment::of(deployment).spec().revision_history_limit().0;
    let is_idle = |set: &&Arc<Object>| {
        size(set).replicas == 0 && ReplicaSet::of(set).status().replicas().0 == 0
    };
    let idle: Vec<_> = old.iter().filter(is_idle).collect();
    let surplus = idle.len().saturating_sub(usize::try_from(kept).unwrap_or(0));
    for set in &idle[..surplus] {
        registry.delete(&set_resource(), &set_key(set), &DeleteOptions::default())?;
    }
    Ok(())
}

fn size(set: &Object) -> Set {
    let set = ReplicaSet::of(set);
    Set { replicas: set.spec().replicas().0, available: set.status().available_replicas().0 }
}

fn revision(object: &Object) -> i64 {
    object::annotation(object, REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn set_resource() -> Resource {
    Resource::of("apps/v1", "ReplicaSet")
}

fn set_key(set: &Object) -> Key {
    Collection::new("apps", "replicasets").key(object::namespace(set), object::name(set))
}

const REVISION: &str = "deployment.kubernetes.io/revision";
