//! Jobs: pods that run to their end, as often as asked for and not more often than allowed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Condition, Job, Pod, RestartPolicy};
use ironmesh_dialects::schema::Fields;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Controller, events, none, nothing, pods};
use crate::clock;
use crate::failure::Failure;
use crate::indexes::Indexes;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::store::{Collection, Key};

mod backoff;
mod indexes;
mod policy;
mod tracking;

pub(super) const CONTROLLER: Controller = Controller {
    of: ("batch", "jobs"),
    owner: Some("Job"),
    watches: nothing,
    patience: none,
    // Pods may not be made before there is their service account.
    lacks: &[("", "serviceaccounts")],
    reconcile,
};

/// Reconciles one Job. Returns after how long it is to be looked at again if nothing happens.
fn reconcile(
    registry: &Registry,
    namespace: &str,
    name: &str,
) -> Result<Option<Duration>, Failure> {
    let key = Collection::new("batch", "jobs").key(namespace, name);
    let job = registry.store().object(&key).filter(|job| !object::is_terminating(job));
    tracking::release_others(registry, namespace, name, job.as_deref())?;
    let Some(job) = job else { return Ok(None) };
    let pods = pods::owned(registry, &job, Job::of(&job).spec().selector(), |_| true)?;
    let job = tracking::count(registry, &key, &job, &pods)?;
    if let Some(ended) = ended_at(&job) {
        return expire(registry, &key, &job, ended);
    }
    let mut state = State::new(&job, &pods, clock::now());
    let outcome = state.advance(registry);
    state.write(registry, &key)?;
    outcome
}

/// How a Job is, and is to be.
struct State<'a> {
    job: &'a Object,
    all: &'a [Arc<Object>],
    /// Pods that have not ended, nor are told to.
    active: Vec<Arc<Object>>,
    /// Those that are told to and have not.
    terminating: usize,
    now: Timestamp,
    conditions: Vec<Value>,
    /// The indexes that have failed for good.
    failed: Indexes,
    start_time: Option<String>,
    completion_time: Option<String>,
}

/// How a Job is to end.
struct Verdict {
    succeeds: bool,
    reason: String,
    message: String,
}

impl<'a> State<'a> {
    fn new(job: &'a Object, all: &'a [Arc<Object>], now: Timestamp) -> Self {
        let (terminating, active) = all
            .iter()
            .filter(|pod| !tracking::has_ended(pod))
            .cloned()
            .partition::<Vec<_>, _>(|pod| object::is_terminating(pod));
        let status = Job::of(job).status();
        Self {
            job,
            all,
            active,
            terminating: terminating.len(),
            failed: indexes::failed(job, all),
            now,
            conditions: status.conditions().map(|c| c.json().clone()).collect(),
            start_time: status.start_time().map(str::to_owned),
            completion_time: None,
        }
    }

    fn read(&self) -> Fields<'a, Job> {
        Job::of(self.job)
    }

    /// Does what is next. Returns after how long there is more to do if nothing happens.
    fn advance(&mut self, registry: &Registry) -> Result<Option<Duration>, Failure> {
        self.note_suspension(registry);
        if let Some(verdict) = self.verdict() {
            return self.end(registry, verdict).map(|()| None);
        }
        if self.read().spec().suspend() {
            return self.shrink(registry, 0).map(|()| None);
        }
        let deadline = self.until_deadline();
        let wanted = self.wanted();
        if self.active.len() > wanted {
            self.shrink(registry, wanted)?;
        } else if let Some(pause) = backoff::pause(registry.limits(), self.all, self.now) {
            return Ok(Some(deadline.map_or(pause, |deadline| deadline.min(pause))));
        } else {
            self.grow(registry, wanted)?;
        }
        Ok(deadline)
    }

    /// Begins to count the time of a Job that is not suspended, and stops where it is.
    fn note_suspension(&mut self, registry: &Registry) {
        let suspended = self.find("Suspended").is_some_and(|c| c.status() == "True");
        let (status, reason, message) = match (suspended, self.read().spec().suspend()) {
            (false, true) => ("True", "JobSuspended", "Job suspended"),
            (true, false) => ("False", "JobResumed", "Job resumed"),
            (false, false) => {
                let now = self.now;
                self.start_time.get_or_insert_with(|| clock::rfc3339(now));
                return;
            }
            (true, true) => return,
        };
        self.start_time = (status == "False").then(|| clock::rfc3339(self.now));
        self.set("Suspended", status, reason, message);
        let word = message.trim_start_matches("Job ");
        let event = if word == "suspended" { "Suspended" } else { "Resumed" };
        events::record(registry, self.job, "Normal", event, message);
    }

    /// How the Job is to end, if that is known by now.
    fn verdict(&self) -> Option<Verdict> {
        let verdict = |succeeds, reason: &str, message: &str| {
            Some(Verdict { succeeds, reason: reason.to_owned(), message: message.to_owned() })
        };
        for (target, succeeds) in [(FAILURE_TARGET, false), (SUCCESS_TARGET, true)] {
            if let Some(decided) = self.find(target) {
                return verdict(succeeds, decided.reason(), decided.message());
            }
        }
        let (spec, status) = (self.read().spec(), self.read().status());
        if let Some(message) = policy::failure(self.job, self.all) {
            return verdict(false, "PodFailurePolicy", &message);
        }
        if i64::from(status.failed().get()) > i64::from(spec.backoff_limit().get())
            || self.restarts_exceed_limit()
        {
            let message = "Job has reached the specified backoff limit";
            return verdict(false, "BackoffLimitExceeded", message);
        }
        if self.until_deadline() == Some(Duration::ZERO) {
            let message = "Job was active longer than specified deadline";
            return verdict(false, "DeadlineExceeded", message);
        }
        if let Some((succeeded, count)) = policy::succeeded(self.job) {
            if let Some(rule) = policy::success(self.job, &succeeded, count) {
                return verdict(true, "SuccessPolicy", &format!("Matched rules at index {rule}"));
            }
            if spec.max_failed_indexes().is_some_and(|most| self.failed.len() > most.get()) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return verdict(false, "MaxFailedIndexesExceeded", message);
            }
            if !self.failed.is_empty() && succeeded.len() + self.failed.len() >= count {
                return verdict(false, "FailedIndexes", "Job has failed indexes");
            }
        }
        let succeeded = status.succeeded().get();
        let complete = match spec.completions() {
            Some(completions) => succeeded >= completions.get(),
            None => succeeded > 0 && self.active.is_empty(),
        };
        let message = "Reached expected number of succeeded pods";
        if complete { verdict(true, "CompletionsReached", message) } else { None }
    }

    /// Whether containers were started again in their pods more often than the Job bears.
    fn restarts_exceed_limit(&self) -> bool {
        let spec = self.read().spec();
        if spec.template().spec().restart_policy() != RestartPolicy::OnFailure {
            return false;
        }
        let restarts = |pod: &Arc<Object>| -> i64 {
            let status = Pod::of(pod).status();
            let containers = status.init_container_statuses().chain(status.container_statuses());
            containers.map(|container| container.restart_count()).sum()
        };
        let restarts: i64 = self.active.iter().map(restarts).sum();
        restarts > 0 && restarts >= spec.backoff_limit().get().into()
    }

    /// Time that is left to a Job with a deadline.
    fn until_deadline(&self) -> Option<Duration> {
        let spec = self.read().spec();
        let seconds = spec.active_deadline_seconds().filter(|_| !spec.suspend())?.get();
        let start: Timestamp = self.start_time.as_deref()?.parse().ok()?;
        Some(clock::until(start, seconds.into(), self.now))
    }

    /// How many pods are to be active.
    fn wanted(&self) -> usize {
        let spec = self.read().spec();
        let succeeded = self.read().status().succeeded().get();
        let parallelism = spec.parallelism().map_or(1, |count| count.get());
        let wanted = match spec.completions() {
            Some(completions) => {
                let ended = succeeded.saturating_add(self.failed.len());
                completions.get().saturating_sub(ended).min(parallelism)
            }
            // The first that succeeds says that there is no more to do.
            None if succeeded > 0 => u32::try_from(self.active.len()).unwrap_or(u32::MAX),
            None => parallelism,
        };
        usize::try_from(wanted).unwrap_or(usize::MAX)
    }

    fn grow(&mut self, registry: &Registry, wanted: usize) -> Result<(), Failure> {
        let mut free = self.free_indexes(wanted.saturating_sub(self.active.len())).into_iter();
        let per_index = self.read().spec().backoff_limit_per_index();
        let failures = per_index.map(|_| indexes::failures(self.job, self.all));
        for _ in self.active.len()..wanted {
            let spec = self.read().spec();
            let mut pod = pods::from_template(self.job, spec.template());
            tracking::mark(self.job, &mut pod);
            if indexes::count(spec).is_some() {
                let Some(index) = free.next() else { break };
                let failures = failures.as_ref().map(|all| all.get(&index).copied());
                indexes::mark(self.job, &mut pod, index, failures.map(Option::unwrap_or_default));
            }
            self.active.push(pods::create(registry, self.job, pod)?);
        }
        Ok(())
    }

    /// The first so many indexes that have no pod and need one.
    fn free_indexes(&self, most: usize) -> Vec<u32> {
        let Some((succeeded, count)) = policy::succeeded(self.job) else { return Vec::new() };
        let active: BTreeSet<u32> =
            self.active.iter().filter_map(|pod| indexes::of_pod(pod)).collect();
        let needs_one = |index: &u32| {
            !succeeded.contains(*index) && !self.failed.contains(*index) && !active.contains(index)
        };
        (0..count).filter(needs_one).take(most).collect()
    }

    /// Deletes pods that are not wanted any more, which counts as no failure.
    fn shrink(&mut self, registry: &Registry, wanted: usize) -> Result<(), Failure> {
        self.active.sort_by_key(|pod| Pod::of(pod).is_ready());
        let surplus = self.active.len().saturating_sub(wanted);
        for pod in self.active.drain(..surplus) {
            tracking::release(registry, &pods::key(&pod))?;
            pods::delete(registry, self.job, &pod)?;
            self.terminating += 1;
        }
        Ok(())
    }

    /// Ends the Job: deletes what still runs, and says how it ended once nothing does.
    fn end(&mut self, registry: &Registry, verdict: Verdict) -> Result<(), Failure> {
        let Verdict { succeeds, reason, message } = verdict;
        let target = if succeeds { SUCCESS_TARGET } else { FAILURE_TARGET };
        self.set(target, "True", &reason, &message);
        for pod in std::mem::take(&mut self.active) {
            pods::delete(registry, self.job, &pod)?;
            self.terminating += 1;
        }
        if self.terminating > 0 {
            return Ok(());
        }
        let (word, kind, event) = match succeeds {
            true => ("Complete", "Normal", "Completed"),
            false => ("Failed", "Warning", reason.as_str()),
        };
        self.set(word, "True", &reason, &message);
        self.completion_time = succeeds.then(|| clock::rfc3339(self.now));
        let message = if succeeds { "Job completed" } else { &message };
        events::record(registry, self.job, kind, event, message);
        Ok(())
    }

    fn find(&self, kind: &str) -> Option<Fields<'_, Condition>> {
        self.conditions.iter().map(Condition::of).find(|condition| condition.of() == kind)
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = clock::rfc3339(self.now);
        let since = self.find(kind).filter(|condition| condition.status() == status);
        let since = since.map_or_else(|| now.clone(), |c| c.last_transition_time().to_owned());
        self.conditions.retain(|condition| Condition::of(condition).of() != kind);
        self.conditions.push(json!({
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastProbeTime": now,
            "lastTransitionTime": since,
        }));
    }

    fn write(&self, registry: &Registry, key: &Key) -> Result<(), Failure> {
        let ready = self.active.iter().filter(|pod| Pod::of(pod).is_ready()).count();
        let set = |status: &mut Value, field: &str, value: Value| match value {
            Value::Null => {
                if let Some(status) = status.as_object_mut() {
                    status.shift_remove(field);
                }
            }
            value => status[field] = value,
        };
        registry.update(&resource(), key, Part::Status, |old| {
            let mut new = old.clone();
            let status = object::entry(&mut new, "status");
            set(status, "startTime", self.start_time.clone().into());
            set(status, "completionTime", self.completion_time.clone().into());
            set(status, "active", self.active.len().into());
            set(status, "ready", ready.into());
            set(status, "terminating", self.terminating.into());
            set(status, "conditions", self.conditions.clone().into());
            let failed = Some(self.failed.to_string()).filter(|failed| !failed.is_empty());
            set(status, "failedIndexes", failed.into());
            Ok(new)
        })?;
        Ok(())
    }
}

/// When a Job ended, if it has.
fn ended_at(job: &Object) -> Option<Timestamp> {
    let mut conditions = Job::of(job).status().conditions();
    let ended =
        conditions.find(|c| matches!(c.of(), "Complete" | "Failed") && c.status() == "True")?;
    Some(ended.last_transition_time().parse().unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Deletes a Job that has ended once its time to live is over.
fn expire(
    registry: &Registry,
    key: &Key,
    job: &Object,
    ended: Timestamp,
) -> Result<Option<Duration>, Failure> {
    let Some(ttl) = Job::of(job).spec().ttl_seconds_after_finished() else { return Ok(None) };
    let left = clock::until(ended, ttl.get().into(), clock::now());
    if !left.is_zero() {
        return Ok(Some(left));
    }
    let uid = Some(object::uid(job).to_owned());
    registry.delete(&resource(), key, &DeleteOptions { uid, ..DeleteOptions::default() })?;
    Ok(None)
}

fn resource() -> Resource {
    Resource::of("batch/v1", "Job")
}

const FAILURE_TARGET: &str = "FailureTarget";
const SUCCESS_TARGET: &str = "SuccessCriteriaMet";
