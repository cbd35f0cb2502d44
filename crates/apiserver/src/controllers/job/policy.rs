//! What the failure of a Job's pod means (`podFailurePolicy`), and what is enough for its success
//! (`successPolicy`).

use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::{
    ExitCodeOperator, ExitCodes, FailureAction, FailureRule, Job, Pod, PodConditionPattern,
};
use ironmesh_dialects::schema::Fields;

use super::{indexes, tracking};
use crate::indexes::Indexes;
use crate::object::{self, Object};

/// Whether a pod has failed in a way that counts.
pub(super) fn counts(job: &Object, pod: &Object) -> bool {
    has_failed(pod) && action(job, pod).is_none_or(|(_, action)| action != FailureAction::Ignore)
}

/// Whether the failure of a pod is that of its index.
pub(super) fn fails_index(job: &Object, pod: &Object) -> bool {
    has_failed(pod)
        && action(job, pod).is_some_and(|(_, action)| action == FailureAction::FailIndex)
}

/// Why the Job fails by the failure of one of its pods, if it does.
pub(super) fn failure(job: &Object, pods: &[Arc<Object>]) -> Option<String> {
    pods.iter().filter(|pod| has_failed(pod)).find_map(|pod| {
        let (rule, action) = action(job, pod)?;
        let pod = format!("{}/{}", object::namespace(pod), object::name(pod));
        let message = format!("Pod {pod} failed, matching FailJob rule at index {rule}");
        (action == FailureAction::FailJob).then_some(message)
    })
}

/// The first rule that is met by the indexes that have succeeded.
pub(super) fn success(job: &Object, succeeded: &Indexes, count: u32) -> Option<usize> {
    Job::of(job).spec().success_policy().rules().position(|rule| {
        let (of, given) = match rule.succeeded_indexes() {
            "" => (count, succeeded.len()),
            text => {
                let wanted = Indexes::parse(text, count);
                (wanted.len(), succeeded.common(&wanted))
            }
        };
        given >= rule.succeeded_count().map_or(of, |least| least.get())
    })
}

fn has_failed(pod: &Object) -> bool {
    tracking::has_ended(pod) && Pod::of(pod).status().phase() != "Succeeded"
}

/// The first rule for a failed pod, and what follows from it.
fn action(job: &Object, pod: &Object) -> Option<(usize, FailureAction)> {
    let mut rules = Job::of(job).spec().pod_failure_policy().rules().enumerate();
    let (at, rule) = rules.find(|(_, rule)| is_for(*rule, pod))?;
    Some((at, rule.action()))
}

fn is_for(rule: Fields<'_, FailureRule>, pod: &Object) -> bool {
    let status = Pod::of(pod).status();
    if let Some(codes) = rule.on_exit_codes() {
        let mut containers = status.init_container_statuses().chain(status.container_statuses());
        return containers.any(|container| {
            let ended = container.state().terminated();
            let name = codes.container_name();
            let is_meant = name.is_empty() || name == container.name();
            is_meant && ended.is_some_and(|ended| has_code(codes, ended.exit_code()))
        });
    }
    let holds = |pattern: Fields<'_, PodConditionPattern>| {
        let wanted = if pattern.status().is_empty() { "True" } else { pattern.status() };
        status.conditions().any(|c| c.of() == pattern.of() && c.status() == wanted)
    };
    rule.on_pod_conditions().any(holds)
}

fn has_code(codes: Fields<'_, ExitCodes>, code: i64) -> bool {
    let is_listed = codes.values().any(|value| value == code);
    code != 0 && is_listed == (codes.operator() == ExitCodeOperator::In)
}

/// The indexes of a Job that have succeeded.
pub(super) fn succeeded(job: &Object) -> Option<(Indexes, u32)> {
    let read = Job::of(job);
    let count = indexes::count(read.spec())?;
    Some((Indexes::parse(read.status().completed_indexes(), count), count))
}
