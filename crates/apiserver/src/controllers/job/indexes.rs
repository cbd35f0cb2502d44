//! Jobs whose pods have an index each (`completionMode: Indexed`).

use std::collections::BTreeMap;
use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::{CompletionMode, Job, JobSpec, Pod};
use ironmesh_dialects::schema::Fields;
use serde_json::{Value, json};

use super::policy;
use crate::indexes::Indexes;
use crate::object::{self, Object, entry};

/// How many indexes a Job has, if its pods have some.
pub(super) fn count(spec: Fields<'_, JobSpec>) -> Option<u32> {
    let is_indexed = spec.completion_mode() == CompletionMode::Indexed;
    is_indexed.then(|| spec.completions().map_or(0, |count| count.get()))
}

/// The index of a pod.
pub(super) fn of_pod(pod: &Object) -> Option<u32> {
    Pod::of(pod).metadata().annotations().get(INDEX)?.parse().ok()
}

/// How often pods of each index have failed, as far as those that are there know: each knows of those
/// before it.
pub(super) fn failures(job: &Object, pods: &[Arc<Object>]) -> BTreeMap<u32, u32> {
    let mut all = BTreeMap::new();
    for pod in pods {
        let Some(index) = of_pod(pod) else { continue };
        let before = Pod::of(pod).metadata().annotations().get(FAILURES);
        let before: u32 = before.and_then(|text| text.parse().ok()).unwrap_or(0);
        let failures = before.saturating_add(policy::counts(job, pod).into());
        let known: &mut u32 = all.entry(index).or_default();
        *known = failures.max(*known);
    }
    all
}

/// The indexes that have failed for good: more often than each may, or as the policy says.
pub(super) fn failed(job: &Object, pods: &[Arc<Object>]) -> Indexes {
    let read = Job::of(job);
    let Some(count) = count(read.spec()) else { return Indexes::default() };
    let mut failed = Indexes::parse(read.status().failed_indexes(), count);
    let Some(limit) = read.spec().backoff_limit_per_index() else { return failed };
    let too_often = failures(job, pods).into_iter().filter(|(_, times)| *times > limit.get());
    let given_up = pods.iter().filter(|pod| policy::fails_index(job, pod));
    let given_up = given_up.filter_map(|pod| of_pod(pod));
    for index in too_often.map(|(index, _)| index).chain(given_up).filter(|index| *index < count) {
        failed.insert(index);
    }
    failed
}

/// Gives a new pod its index: as an annotation, a label, a host name and a variable.
pub(super) fn mark(job: &Object, pod: &mut Object, index: u32, failures: Option<u32>) {
    let name = format!("{}-{index}", object::name(job));
    let metadata = object::metadata_mut(pod);
    metadata["generateName"] = format!("{name}-").into();
    entry(metadata, "labels")[INDEX] = index.to_string().into();
    let annotations = entry(metadata, "annotations");
    annotations[INDEX] = index.to_string().into();
    if let Some(failures) = failures {
        annotations[FAILURES] = failures.to_string().into();
    }
    let spec = entry(pod, "spec");
    spec["hostname"] = name.into();
    let path = format!("metadata.labels['{INDEX}']");
    let variable = json!({"name": VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            match entry(container, "env") {
                Value::Array(env) if env.iter().any(|one| one["name"] == VARIABLE) => {}
                Value::Array(env) => env.push(variable.clone()),
                other => *other = json!([variable]),
            }
        }
    }
}

const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";
