//! ReplicaSets: as many pods as asked for.

use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Pod, ReplicaSet};
use serde_json::{Value, json};

use super::{Controller, none, nothing, pods};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{Part, Registry, replica_set_of};
use crate::store::Collection;

pub(super) const CONTROLLER: Controller = Controller {
    of: ("apps", "replicasets"),
    owner: Some("ReplicaSet"),
    watches: nothing,
    patience: none,
    // Pods may not be made before there is their service account.
    lacks: &[("", "serviceaccounts")],
    reconcile: |registry, namespace, name| {
        let resource = Resource::of("apps/v1", "ReplicaSet");
        reconcile(registry, &resource, namespace, name).map(|()| None)
    },
};

/// Replication controllers are the same but for the form of their selector.
pub(super) const REPLICATION_CONTROLLER: Controller = Controller {
    of: ("", "replicationcontrollers"),
    owner: Some("ReplicationController"),
    reconcile: |registry, namespace, name| {
        let resource = Resource::of("v1", "ReplicationController");
        reconcile(registry, &resource, namespace, name).map(|()| None)
    },
    ..CONTROLLER
};

/// Reconciles one ReplicaSet or replication controller.
fn reconcile(
    registry: &Registry,
    resource: &Resource,
    namespace: &str,
    name: &str,
) -> Result<(), Failure> {
    let key = Collection::from(resource).key(namespace, name);
    let Some(set) = registry.store().object(&key) else { return Ok(()) };
    if object::is_terminating(&set) {
        return Ok(());
    }
    let set = match resource.group.is_empty() {
        true => Arc::new(replica_set_of(&set)),
        false => set,
    };
    let spec = ReplicaSet::of(&set).spec();
    let mut pods = pods::owned(registry, &set, spec.selector(), counts)?;
    let wanted = usize::try_from(spec.replicas().get()).unwrap_or(0);
    let mut outcome = Ok(());
    for _ in pods.len()..wanted {
        match pods::create(registry, &set, pods::from_template(&set, spec.template())) {
            Ok(pod) => pods.push(pod),
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
    }
    if pods.len() > wanted {
        pods.sort_by_key(|pod| worth(pod));
        for pod in pods.drain(..pods.len() - wanted) {
            pods::delete(registry, &set, &pod)?;
        }
    }
    let status = status(&set, &pods, outcome.as_ref().err());
    registry.update(resource, &key, Part::Status, |old| {
        let mut new = old.clone();
        new["status"] = status.clone();
        Ok(new)
    })?;
    outcome
}

/// Pods that have ended, or are about to, do not count.
fn counts(pod: &Object) -> bool {
    !object::is_terminating(pod) && !Pod::of(pod).is_finished()
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

        reconcile(&registry, &sets, "default", "web").unwrap_err();
        let first = registry.object(&sets, &key).unwrap();
        let message = object::text(&first, "/status/conditions/0/message");
        assert!(message.starts_with(r#"pods "web-" is forbidden: "#), "{message}");
        reconcile(&registry, &sets, "default", "web").unwrap_err();
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
        let refused = registry.create(&pods::resource(), "default", invalid).unwrap_err();
        assert!(refused.message.starts_with(r#"Pod "web-" is invalid: "#), "{refused}");
    }
}
