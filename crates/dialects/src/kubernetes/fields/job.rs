//! Fields of a `Job`.

use super::kinds::{Condition, LabelSelector, PodTemplate};
use crate::schema::{Bounded, Count, fields, kind, words};

kind! {
    kubernetes;
    /// Pods that run to their end.
    pub struct Job "Job" {
        /// Which pods, and how often.
        required spec: JobSpec,
        /// How it is.
        honoured status: JobStatus,
    }
}

fields! {
    kubernetes;
    /// What a `Job` says.
    pub struct JobSpec "Job.spec" {
        /// How many pods may run at once; 1 if left out.
        honoured parallelism: Option<Count>,
        /// How many pods must succeed; if left out, one that succeeds is enough.
        honoured completions: Option<Count>,
        /// Whether the pods that must succeed are alike or have an index each.
        honoured completion_mode "completionMode": CompletionMode = CompletionMode::NonIndexed,
        /// How many failures are borne.
        honoured backoff_limit "backoffLimit": Count = Bounded(6),
        /// Seconds that it may take.
        honoured active_deadline_seconds "activeDeadlineSeconds": Option<Count>,
        /// Seconds after its end at which it is deleted with its pods.
        honoured ttl_seconds_after_finished "ttlSecondsAfterFinished": Option<Count>,
        /// Whether it has no pods for now.
        honoured suspend: bool,
        /// Which pods are its own; the server says it, unless `manualSelector` is set.
        honoured selector: LabelSelector,
        /// Whether `selector` is the user's.
        honoured manual_selector "manualSelector": bool,
        /// What its pods are made from.
        required template: PodTemplate,
        /// How many failures of one index are borne; if it is left out they count for the whole Job.
        honoured backoff_limit_per_index "backoffLimitPerIndex": Option<Count>,
        /// How many indexes may fail before the others are given up, too.
        honoured max_failed_indexes "maxFailedIndexes": Option<Count>,
        /// Which failures count.
        honoured pod_failure_policy "podFailurePolicy": FailurePolicy,
        /// When it counts as complete.
        honoured success_policy "successPolicy": SuccessPolicy,
        /// When a pod that goes is replaced.
        not_here("a pod that ends is replaced at once") pod_replacement_policy "podReplacementPolicy": String,
        /// Whose controller acts on it.
        not_here("no other controller is here") managed_by "managedBy": String,
    }
}

fields! {
    kubernetes;
    /// What the failures of a Job's pods mean.
    pub struct FailurePolicy "podFailurePolicy" {
        /// The first that matches holds; without any a failure counts.
        honoured rules: Vec<FailureRule>,
    }

    /// What some failures mean.
    pub struct FailureRule "a rule of podFailurePolicy" {
        /// What follows.
        honoured action: FailureAction = FailureAction::Count,
        /// Failures of containers with these exit codes.
        honoured on_exit_codes "onExitCodes": Option<ExitCodes>,
        /// Failures of pods of which one of these holds.
        honoured on_pod_conditions "onPodConditions": Vec<PodConditionPattern>,
    }

    /// Exit codes of containers; 0 is none.
    pub struct ExitCodes "onExitCodes" {
        /// Of this container alone.
        honoured container_name "containerName": String,
        /// Whether it must be one of them, or none of them.
        honoured operator: ExitCodeOperator = ExitCodeOperator::In,
        /// The codes.
        honoured values: Vec<i64>,
    }

    /// What holds of a pod.
    pub struct PodConditionPattern "a condition of onPodConditions" {
        /// Which condition.
        required of "type": String,
        /// Its status; `True` if left out.
        honoured status: String,
    }

    /// When a Job with indexes is complete before all of them are.
    pub struct SuccessPolicy "successPolicy" {
        /// Any of them is enough.
        honoured rules: Vec<SuccessRule>,
    }

    /// Indexes that are enough.
    pub struct SuccessRule "a rule of successPolicy" {
        /// Which indexes, such as `0,2-4`; all if left out.
        honoured succeeded_indexes "succeededIndexes": String,
        /// How many of them; all if left out.
        honoured succeeded_count "succeededCount": Option<Count>,
    }
}

fields! {
    open;
    /// How a `Job` is.
    pub struct JobStatus "Job.status" {
        /// Pods that run, or wait to.
        honoured active: Count,
        /// Those of them that are ready.
        honoured ready: Count,
        /// Pods that have succeeded.
        honoured succeeded: Count,
        /// Pods that have failed.
        honoured failed: Count,
        /// Indexes that have succeeded.
        honoured completed_indexes "completedIndexes": String,
        /// Indexes that have failed for good.
        honoured failed_indexes "failedIndexes": String,
        /// When it began.
        honoured start_time "startTime": Option<String>,
        /// When it was complete.
        honoured completion_time "completionTime": Option<String>,
        /// What holds of it.
        honoured conditions: Vec<Condition>,
        /// Pods that have ended and are not counted above yet.
        honoured uncounted_terminated_pods "uncountedTerminatedPods": UncountedPods,
    }

    /// Pods that have ended and are not counted yet, by their identity.
    pub struct UncountedPods "uncountedTerminatedPods" {
        /// Those that succeeded.
        honoured succeeded: Vec<String>,
        /// Those that failed.
        honoured failed: Vec<String>,
    }
}

words! {
    /// Whether the pods of a Job are alike.
    pub enum CompletionMode {
        /// They are.
        honoured NonIndexed = "NonIndexed",
        /// Each has an index.
        honoured Indexed = "Indexed",
    }

    /// What follows from the failure of a pod.
    pub enum FailureAction {
        /// It counts.
        honoured Count = "Count",
        /// It does not, and another pod is made.
        honoured Ignore = "Ignore",
        /// The Job fails.
        honoured FailJob = "FailJob",
        /// The index of the pod fails.
        honoured FailIndex = "FailIndex",
    }

    /// How exit codes are compared.
    pub enum ExitCodeOperator {
        /// With one of them.
        honoured In = "In",
        /// With none of them.
        honoured NotIn = "NotIn",
    }
}
