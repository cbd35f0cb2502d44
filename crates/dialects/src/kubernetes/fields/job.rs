//! Fields of a `Job`.

use serde_json::Value;

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
        /// How many failures of one index are borne.
        not_here("failures are counted for the whole Job")
            backoff_limit_per_index "backoffLimitPerIndex": Option<Count>,
        /// How many indexes may fail.
        not_here("failures are counted for the whole Job")
            max_failed_indexes "maxFailedIndexes": Option<Count>,
        /// Which failures count.
        not_here("all failures count alike") pod_failure_policy "podFailurePolicy": Value,
        /// When it counts as complete.
        not_here("it is complete when all completions are there") success_policy "successPolicy": Value,
        /// When a pod that goes is replaced.
        not_here("a pod that ends is replaced at once") pod_replacement_policy "podReplacementPolicy": String,
        /// Whose controller acts on it.
        not_here("no other controller is here") managed_by "managedBy": String,
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
        later Indexed = "Indexed",
    }
}
