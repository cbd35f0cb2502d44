//! ReplicaSets: as many pods as asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Pod, ReplicaSet};
use serde_json::{Value, json};

use super::{Controller, events, none, nothing};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::selector;
use crate::store::Collection;

pub(super) const CONTROLLER: Controller = Controller {
    of: ("apps", "replicasets"),
    owner: Some("ReplicaSet"),
    watches: nothing,
    patience: none,
    // Pods may not be made before there is their service account.
    lacks: &[("", "serviceaccounts")],
    reconcile: |registry, namespace, name| reconcile(registry, namespace, name).map(|()| None),
};

/// Reconciles one ReplicaSet.
fn reconcile(registry: &Registry, namespace: &str, name: &str) -> Result<(), Failure> {
    let key = Collection::new("apps", "replicasets").key(namespace, name);
    let Some(set) = registry.store().object(&key) else { return Ok(()) };
    if object::is_terminating(&set) {
        return Ok(());
    }
    let mut pods = active_pods(registry, &set)?;
    let wanted = usize::try_from(ReplicaSet::of(&set).spec().replicas().get()).unwrap_or(0);
    let mut outcome = Ok(());
    for _ in pods.len()..wanted {
        match registry.create(&pod_resource(), namespace, pod_of(&set)) {
            Ok(pod) => {
                let message = format!("Created pod: {}", object::name(&pod));
                events::record(registry, &set, "Normal", "SuccessfulCreate", &message);
                pods.push(pod);
            }
            Err(failure) => {
                let message = format!("Error creating: {failure}");
                events::record(registry, &set, "Warning", "FailedCreate", &message);
                outcome = Err(failure);
                break;
            }
        }
    }
    if pods.len() > wanted {
        pods.sort_by_key(|pod| worth(pod));
        for pod in pods.drain(..pods.len() - wanted) {
            let key = Collection::core("pods").key(namespace, object::name(&pod));
            registry.delete(&pod_resource(), &key, &DeleteOptions::default())?;
            let message = format!("Deleted pod: {}", object::name(&pod));
            events::record(registry, &set, "Normal", "SuccessfulDelete", &message);
        }
    }
    let status = status(&set, &pods, outcome.as_ref().err());
    registry.update(&Resource::of("apps/v1", "ReplicaSet"), &key, Part::Status, |old| {
        let mut new = old.clone();
        new["status"] = status.clone();
        Ok(new)
    })?;
    outcome
}

/// The pods that count for a ReplicaSet. Pods without an owner that its selector means are taken
/// over, and those that it does not mean any more are let go.
fn active_pods(registry: &Registry, set: &Object) -> Result<Vec<Arc<Object>>, Failure> {
    let mut active = Vec::new();
    for pod in candidates(registry, set) {
        let read = Pod::of(&pod);
        if object::is_terminating(&pod) || read.is_finished() {
            continue;
        }
        let is_meant =
            selector::selects(ReplicaSet::of(set).spec().selector(), read.metadata().labels());
        let is_owned = object::is_controlled_by(&pod, object::uid(set));
        match (is_owned, is_meant) {
            (true, true) => active.push(pod),
            (true, false) => drop(set_owner(registry, &pod, None)?),
            (false, true) if object::controller(&pod).is_none() => {
                active.push(set_owner(registry, &pod, Some(set))?);
            }
            (false, _) => {}
        }
    }
    Ok(active)
}

/// The pods that a ReplicaSet owns, and those that its selector may mean, in order of their names.
fn candidates(registry: &Registry, set: &Object) -> Vec<Arc<Object>> {
    let (store, namespace) = (registry.store(), object::namespace(set));
    let labels = ReplicaSet::of(set).spec().selector().match_labels();
    let meant = match labels.is_empty() {
        false => store.pods_with(namespace, labels),
        true => store.list(&Collection::core("pods"), Some(namespace)).0,
    };
    let owned = store.owned_by(object::uid(set)).into_iter();
    let owned = owned.filter(|(key, _)| key.collection.is("", "pods")).map(|(_, pod)| pod);
    let by_name = |pod: Arc<Object>| (object::name(&pod).to_owned(), pod);
    let all: BTreeMap<_, _> = meant.into_iter().chain(owned).map(by_name).collect();
    all.into_values().collect()
}

/// Makes a set the owner of a pod, or takes its controlling owner away.
fn set_owner(
    registry: &Registry,
    pod: &Object,
    owner: Option<&Object>,
) -> Result<Arc<Object>, Failure> {
    let key = Collection::core("pods").key(object::namespace(pod), object::name(pod));
    registry.update(&pod_resource(), &key, Part::Main, |old| {
        let owners = Pod::of(old).metadata().owner_references();
        let others = owners.filter(|other| !other.controller());
        let mut owners: Vec<Value> = others.map(|other| other.json().clone()).collect();
        owners.extend(owner.map(object::owner_reference));
        let mut new = old.clone();
        object::metadata_mut(&mut new)["ownerReferences"] = owners.into();
        Ok(new)
    })
}

fn pod_resource() -> Resource {
    Resource::of("v1", "Pod")
}

fn pod_of(set: &Object) -> Object {
    let template = ReplicaSet::of(set).spec().template();
    let metadata = template.metadata().json();
    let mut metadata = if metadata.is_object() { metadata.clone() } else { json!({}) };
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|key, _| matches!(key.as_str(), "labels" | "annotations" | "finalizers"));
    }
    metadata["generateName"] = format!("{}-", object::name(set)).into();
    metadata["ownerReferences"] = json!([object::owner_reference(set)]);
    let spec = template.spec().json();
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

/// Of two pods the one of less worth is deleted first: not yet running, not ready, younger.
fn worth(pod: &Object) -> (bool, bool, std::cmp::Reverse<String>) {
    let pod = Pod::of(pod);
    let created = pod.metadata().creation_timestamp().to_owned();
    (pod.status().phase() == "Running", pod.is_ready(), std::cmp::Reverse(created))
}

fn status(set: &Object, pods: &[Arc<Object>], failure: Option<&Failure>) -> Value {
    let ready = pods.iter().filter(|pod| Pod::of(pod).is_ready()).count();
    let mut status = json!({
        "replicas": pods.len(),
        "fullyLabeledReplicas": pods.len(),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": ReplicaSet::of(set).metadata().generation().max(1),
    });
    if let Some(failure) = failure {
        status["conditions"] = json!([{
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": failure.message,
        }]);
    }
    status
}

#[cfg(test)]
mod tests {
    use ironmesh_model::limits::ControlLimits;

    use super::*;
    use crate::store::Store;

    #[test]
    fn a_refusal_that_lasts_is_noted_once_and_changes_nothing_more() {
        let directory = tempfile::tempdir().unwrap();
        let limits = ControlLimits::default();
        let store = Store::open(directory.path(), &limits).unwrap();
        let registry = Registry::new(store, "10.96.0.0/16".parse().unwrap(), limits);
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
        registry.create(&Resource::of("v1", "Namespace"), "", namespace).unwrap();
        let sets = Resource::of("apps/v1", "ReplicaSet");
        let set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "web"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {
                        "serviceAccountName": "later",
                        "containers": [{"name": "app", "image": "app:1"}],
                    },
                },
            },
        });
        registry.create(&sets, "default", set).unwrap();
        let key = Collection::new("apps", "replicasets").key("default", "web");

        reconcile(&registry, "default", "web").unwrap_err();
        let first = registry.object(&sets, &key).unwrap();
        let message = object::text(&first, "/status/conditions/0/message");
        assert!(message.starts_with(r#"pods "web-" is forbidden: "#), "{message}");
        reconcile(&registry, "default", "web").unwrap_err();
        // An unchanged version is no event that would have it tried again at once.
        assert_eq!(registry.object(&sets, &key).unwrap(), first);
        let (events, _) = registry.store().list(&Collection::core("events"), Some("default"));
        let counts: Vec<_> = events.iter().map(|event| object::number(event, "/count")).collect();
        assert_eq!(counts, [Some(2)]);

        // Also what is refused for other reasons is named by the base of its name.
        let invalid = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "web-"},
            "spec": {"containers": []},
        });
        let refused = registry.create(&pod_resource(), "default", invalid).unwrap_err();
        assert!(refused.message.starts_with(r#"Pod "web-" is invalid: "#), "{refused}");
    }
}
