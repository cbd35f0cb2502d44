//! Each pod of a Job counts once: it is held by a finalizer until it is counted, as in Kubernetes, so
//! that one that is deleted meanwhile, or a control plane that ends, loses or doubles none.

use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::{Job, Pod};
use serde_json::{Value, json};

use super::{indexes, policy, resource};
use crate::controllers::pods;
use crate::failure::Failure;
use crate::object::{self, Object, entry};
use crate::registry::{Part, Registry};
use crate::store::Key;

/// Makes a new pod one that is counted and found.
pub(super) fn mark(job: &Object, pod: &mut Object) {
    let metadata = object::metadata_mut(pod);
    let labels = entry(metadata, "labels");
    labels[NAME_LABEL] = object::name(job).into();
    match entry(metadata, "finalizers") {
        Value::Array(finalizers) => finalizers.push(FINALIZER.into()),
        other => *other = json!([FINALIZER]),
    }
}

/// Whether none of a pod's containers runs, nor will again: it ended by itself, or was deleted and only
/// its finalizers keep it.
pub(super) fn has_ended(pod: &Object) -> bool {
    let read = Pod::of(pod);
    let is_gone = read.metadata().deletion_timestamp().is_some()
        && read.metadata().deletion_grace_period_seconds().unwrap_or(0) == 0;
    read.is_finished() || is_gone
}

/// Counts the pods that have ended since, in steps of which each can be the last: first they are
/// written down, then let go, then counted. Returns the Job with its counts.
pub(super) fn count(
    registry: &Registry,
    key: &Key,
    job: &Arc<Object>,
    pods: &[Arc<Object>],
) -> Result<Arc<Object>, Failure> {
    let uncounted = Job::of(job).status().uncounted_terminated_pods();
    let mut succeeded: Vec<&str> = uncounted.succeeded().collect();
    let mut failed: Vec<&str> = uncounted.failed().collect();
    let mut ignored = Vec::new();
    let mut indexes = policy::succeeded(job).map(|(indexes, _)| indexes);
    for pod in pods.iter().filter(|pod| is_held(pod) && has_ended(pod)) {
        let uid = object::uid(pod);
        let list = match Pod::of(pod).status().phase() {
            "Succeeded" => {
                if let Some((indexes, index)) = indexes.as_mut().zip(indexes::of_pod(pod)) {
                    indexes.insert(index);
                }
                &mut succeeded
            }
            _ if policy::counts(job, pod) => &mut failed,
            _ => &mut ignored,
        };
        if !uncounted.succeeded().chain(uncounted.failed()).any(|counted| counted == uid) {
            list.push(uid);
        }
    }
    if succeeded.is_empty() && failed.is_empty() && ignored.is_empty() {
        return Ok(job.clone());
    }
    let write = |change: &dyn Fn(&mut Value)| {
        registry.update(&resource(), key, Part::Status, |old| {
            let mut new = old.clone();
            change(entry(&mut new, "status"));
            Ok(new)
        })
    };
    write(&|status| {
        status["uncountedTerminatedPods"] = json!({"succeeded": succeeded, "failed": failed});
        if let Some(indexes) = &indexes {
            status["completedIndexes"] = indexes.to_string().into();
        }
    })?;
    for pod in pods.iter().filter(|pod| is_held(pod) && has_ended(pod)) {
        release(registry, &pods::key(pod))?;
    }
    write(&|status| {
        for (field, list) in [("succeeded", &succeeded), ("failed", &failed)] {
            let before = status[field].as_u64().unwrap_or(0);
            status[field] = (before + list.len() as u64).into();
        }
        // Of an index one is enough.
        if let Some(indexes) = &indexes {
            status["succeeded"] = indexes.len().into();
        }
        status["uncountedTerminatedPods"] = json!({});
    })
}

/// Lets go the pods that were made for a Job of this name which is gone, or is another by now.
pub(super) fn release_others(
    registry: &Registry,
    namespace: &str,
    name: &str,
    job: Option<&Object>,
) -> Result<(), Failure> {
    let labels = json!({"metadata": {"labels": {NAME_LABEL: name}}});
    let labels = Pod::of(&labels).metadata().labels();
    let own = |pod: &Object| job.is_some_and(|job| object::is_controlled_by(pod, object::uid(job)));
    for pod in registry.store().pods_with(namespace, labels) {
        if is_held(&pod) && !own(&pod) {
            release(registry, &pods::key(&pod))?;
        }
    }
    Ok(())
}

/// Lets a pod go, which may be gone already.
pub(super) fn release(registry: &Registry, key: &Key) -> Result<(), Failure> {
    let released = registry.update(&pods::resource(), key, Part::Main, |old| {
        let mut new = old.clone();
        let metadata = object::metadata_mut(&mut new);
        let mut finalizers = metadata["finalizers"].take();
        if let Some(list) = finalizers.as_array_mut() {
            list.retain(|finalizer| finalizer != FINALIZER);
        }
        match (finalizers.as_array().is_some_and(|list| !list.is_empty()), metadata.as_object_mut())
        {
            (true, _) => metadata["finalizers"] = finalizers,
            (false, Some(metadata)) => drop(metadata.shift_remove("finalizers")),
            (false, None) => {}
        }
        Ok(new)
    });
    match released {
        Err(failure) if failure.code == 404 => Ok(()),
        released => released.map(drop),
    }
}

fn is_held(pod: &Object) -> bool {
    Pod::of(pod).metadata().finalizers().any(|finalizer| finalizer == FINALIZER)
}

const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
const NAME_LABEL: &str = "batch.kubernetes.io/job-name";
