//! Checks of Jobs.

use ironmesh_dialects::kubernetes::kinds::{
    CompletionMode, ExitCodeOperator, FailureAction, Job, JobSpec, RestartPolicy,
};
use ironmesh_dialects::schema::Fields;

use super::{REPLICAS_MAX, labels, pods};
use crate::failure::Cause;
use crate::indexes::Indexes;
use crate::object::{self, Object};
use crate::selector;

/// The pods of a Job end, and how often they are started again is the Job's to say.
pub(super) fn job(object: &Object, causes: &mut Vec<Cause>) {
    let spec = Job::of(object).spec();
    let template = spec.template();
    labels::selector(spec.selector(), "spec.selector", causes);
    labels::metadata(template.metadata(), "spec.template.metadata", causes);
    if !selector::selects(spec.selector(), template.metadata().labels()) {
        let value = template.metadata().json()["labels"].clone();
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", &value, why));
    }
    if let Some(parallelism) = spec.parallelism().filter(|count| count.get() > REPLICAS_MAX) {
        let why = format!("must be a whole number from 0 to {REPLICAS_MAX}");
        causes.push(Cause::invalid("spec.parallelism", &parallelism.get().into(), &why));
    }
    let policies = [RestartPolicy::OnFailure, RestartPolicy::Never];
    indexed(object, causes);
    failures(spec, causes);
    pods::spec(template.spec(), "spec.template.spec", &policies, &[], causes);
}

/// What only pods with an index can have, and what these need.
fn indexed(object: &Object, causes: &mut Vec<Cause>) {
    let spec = Job::of(object).spec();
    let count = spec.completions().map(|count| count.get());
    if spec.completion_mode() == CompletionMode::NonIndexed {
        for (is_set, field) in [
            (spec.backoff_limit_per_index().is_some(), "backoffLimitPerIndex"),
            (spec.success_policy().rules().len() > 0, "successPolicy"),
        ] {
            if is_set {
                let why = "Invalid value: requires indexed completion mode";
                causes.push(cause(format!("spec.{field}"), why));
            }
        }
        return;
    }
    let Some(count) = count else {
        let why = "Required value: when completion mode is Indexed";
        causes.push(cause("spec.completions", why));
        return;
    };
    if count > INDEXES_MAX {
        let why = format!("must be at most {INDEXES_MAX} when completion mode is Indexed");
        causes.push(Cause::invalid("spec.completions", &count.into(), &why));
    }
    // Each pod has a host name of its own, which is a label of DNS.
    let longest = object::name(object).len() + 1 + count.saturating_sub(1).to_string().len();
    if longest > HOST_NAME_MAX {
        let why = format!(
            "with an index the name of a pod's host would have more than {HOST_NAME_MAX} characters"
        );
        causes.push(Cause::invalid("metadata.name", &object::name(object).into(), &why));
    }
    for (at, rule) in spec.success_policy().rules().enumerate() {
        let path = format!("spec.successPolicy.rules[{at}]");
        let (text, least) = (rule.succeeded_indexes(), rule.succeeded_count());
        if text.is_empty() && least.is_none() {
            let why = "Required value: at least one of succeededCount or succeededIndexes";
            causes.push(cause(path, why));
        } else if !text.is_empty() && !Indexes::is_list(text, count.min(INDEXES_MAX)) {
            let why = "must be ascending indexes below completions, such as 0,2-4";
            causes.push(Cause::invalid(format!("{path}.succeededIndexes"), &text.into(), why));
        } else if let Some(least) = least.filter(|least| least.get() > count) {
            let why = "must be at most completions";
            let path = format!("{path}.succeededCount");
            causes.push(Cause::invalid(path, &least.get().into(), why));
        }
    }
}

/// What failures mean.
fn failures(spec: Fields<'_, JobSpec>, causes: &mut Vec<Cause>) {
    let per_index = spec.backoff_limit_per_index().is_some();
    let policy = spec.pod_failure_policy().rules();
    let ends = spec.template().spec().restart_policy() == RestartPolicy::Never;
    for (is_set, field) in
        [(per_index, "backoffLimitPerIndex"), (policy.len() > 0, "podFailurePolicy")]
    {
        if is_set && !ends {
            let why = format!("Invalid value: only Never is supported when {field} is specified");
            causes.push(cause("spec.template.spec.restartPolicy", &why));
        }
    }
    if spec.max_failed_indexes().is_some() && !per_index {
        let why = "Required value: when maxFailedIndexes is specified";
        causes.push(cause("spec.backoffLimitPerIndex", why));
    }
    for (at, rule) in policy.enumerate() {
        let path = format!("spec.podFailurePolicy.rules[{at}]");
        let (codes, conditions) = (rule.on_exit_codes(), rule.on_pod_conditions().len());
        if codes.is_some() == (conditions > 0) {
            let why =
                "Invalid value: specifying one of onExitCodes and onPodConditions is required";
            causes.push(cause(path.clone(), why));
        }
        if rule.action() == FailureAction::FailIndex && !per_index {
            let why = "Invalid value: FailIndex requires backoffLimitPerIndex";
            causes.push(cause(format!("{path}.action"), why));
        }
        let Some(codes) = codes else { continue };
        let path = format!("{path}.onExitCodes.values");
        if codes.values().next().is_none() {
            causes.push(Cause::required(path));
        } else if codes.operator() == ExitCodeOperator::In && codes.values().any(|code| code == 0) {
            causes.push(Cause::invalid(path, &0.into(), "must not be 0 for the In operator"));
        }
    }
}

fn cause(field: impl Into<String>, message: &str) -> Cause {
    Cause { field: field.into(), message: message.to_owned() }
}

/// Completions of a Job with indexes, as in Kubernetes.
const INDEXES_MAX: u32 = 100_000;
/// Characters of the name of a host.
const HOST_NAME_MAX: usize = 63;
