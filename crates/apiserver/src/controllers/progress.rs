//! The status of a Deployment, and whether its rollout gets on.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Condition, Deployment, ReplicaSet, ReplicaSetStatus};
use ironmesh_dialects::schema::{Count, Fields, Items};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::rollout::Wanted;
use crate::clock;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{Part, Registry};
use crate::store::Key;

/// Pods of a Deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    all: i64,
    updated: i64,
    ready: i64,
    available: i64,
}

/// Writes the status of a Deployment from that of its sets. Returns after how long its deadline
/// passes if nothing happens until then.
pub(super) fn write_status(
    registry: &Registry,
    key: &Key,
    new: Option<&Object>,
    old: &[Arc<Object>],
) -> Result<Option<Duration>, Failure> {
    let sets = new.into_iter().chain(old.iter().map(|set| &**set));
    let statuses: Vec<_> = sets.map(|set| ReplicaSet::of(set).status()).collect();
    let total = |count: fn(Fields<'_, ReplicaSetStatus>) -> Count| -> i64 {
        statuses.iter().map(|status| count(*status).0).sum()
    };
    let counts = Counts {
        all: total(|status| status.replicas()),
        updated: new.map_or(0, |set| ReplicaSet::of(set).status().replicas().0),
        ready: total(|status| status.ready_replicas()),
        available: total(|status| status.available_replicas()),
    };
    let now = clock::now();
    let resource = Resource::of("apps/v1", "Deployment");
    let written = registry.update(&resource, key, Part::Status, |deployment| {
        let mut changed = deployment.clone();
        changed["status"] = status(deployment, new, counts, now);
        Ok(changed)
    })?;
    Ok(deadline(&written, now))
}

fn status(deployment: &Object, new: Option<&Object>, counts: Counts, now: Timestamp) -> Value {
    let Counts { all, updated, ready, available } = counts;
    let deployment = Deployment::of(deployment);
    let wanted = deployment.spec().replicas().0;
    let bounds = Wanted::new(wanted, deployment.spec().strategy().rolling_update());
    let enough = available >= wanted - bounds.max_unavailable.min(wanted);
    let available_condition = if enough {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned())
    } else {
        let message = "Deployment does not have minimum availability.".to_owned();
        ("False", "MinimumReplicasUnavailable", message)
    };
    let mut conditions = vec![condition(deployment, "Available", available_condition, false, now)];
    let (word, moved) = progress(deployment, new, counts, wanted, now);
    conditions.push(condition(deployment, "Progressing", word, moved, now));
    let of_set = new.map(|set| ReplicaSet::of(set).status().conditions());
    if let Some(failure) = of_set.and_then(|of_set| find(of_set, "ReplicaFailure")) {
        let word = ("True", "FailedCreate", failure.message().to_owned());
        conditions.push(condition(deployment, "ReplicaFailure", word, false, now));
    }
    json!({
        "observedGeneration": deployment.metadata().generation().max(1),
        "replicas": all,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": available,
        "unavailableReplicas": (wanted - available).max(0),
        "conditions": conditions,
    })
}

/// Status, reason and message of a condition.
type Word = (&'static str, &'static str, String);

/// How the rollout gets on, and whether it moved. A Deployment that was complete once is not late
/// because a pod fails later.
fn progress(
    deployment: Fields<'_, Deployment>,
    new: Option<&Object>,
    counts: Counts,
    wanted: i64,
    now: Timestamp,
) -> (Word, bool) {
    let set = new.map_or("", |set| object::name(set));
    let Counts { all, updated, ready, available } = counts;
    if deployment.spec().paused() {
        return (("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()), false);
    }
    if updated == wanted && all == wanted && available >= wanted {
        let message = format!("ReplicaSet {set:?} has successfully progressed.");
        return (("True", COMPLETE, message), false);
    }
    let before = deployment.status();
    let asked_anew = before.observed_generation() < deployment.metadata().generation().max(1);
    let fewer_old = all - updated < before.replicas().0 - before.updated_replicas().0;
    let moved = asked_anew
        || fewer_old
        || updated > before.updated_replicas().0
        || ready > before.ready_replicas().0
        || available > before.available_replicas().0;
    let prior = find(before.conditions(), "Progressing");
    let moving = ("True", MOVING, format!("ReplicaSet {set:?} is progressing."));
    let Some(prior) = prior.filter(|prior| !moved && prior.status() != "Unknown") else {
        return (moving, true);
    };
    if prior.reason() == COMPLETE {
        return (("True", COMPLETE, prior.message().to_owned()), false);
    }
    let late = prior.reason() == LATE
        || deadline_of(deployment, prior).is_some_and(|deadline| deadline <= now.as_second());
    if late {
        let message = format!("ReplicaSet {set:?} has timed out progressing.");
        return (("False", LATE, message), false);
    }
    (moving, false)
}

/// A condition with the times at which its status and anything of it last changed.
fn condition(
    deployment: Fields<'_, Deployment>,
    kind: &str,
    (status, reason, message): Word,
    moved: bool,
    now: Timestamp,
) -> Value {
    let prior = find(deployment.status().conditions(), kind);
    let kept = |time: Option<&str>, same: bool| {
        let time = time.filter(|time| same && !time.is_empty());
        time.map_or_else(|| clock::rfc3339(now), str::to_owned)
    };
    let same_status = prior.is_some_and(|prior| prior.status() == status);
    let same = same_status && prior.is_some_and(|prior| prior.reason() == reason) && !moved;
    let (updated, changed) =
        (prior.map(|p| p.last_update_time()), prior.map(|p| p.last_transition_time()));
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": kept(updated, same),
        "lastTransitionTime": kept(changed, same_status),
    })
}

/// After how long a rollout that goes on would be late.
fn deadline(deployment: &Object, now: Timestamp) -> Option<Duration> {
    let deployment = Deployment::of(deployment);
    let condition = find(deployment.status().conditions(), "Progressing")?;
    if condition.reason() != MOVING {
        return None;
    }
    let left = deadline_of(deployment, condition)?.saturating_sub(now.as_second());
    // Times are whole seconds.
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1))
}

/// When a rollout that last moved as a condition says is late, in seconds since the Unix epoch.
fn deadline_of(
    deployment: Fields<'_, Deployment>,
    condition: Fields<'_, Condition>,
) -> Option<i64> {
    let seconds = deployment.spec().progress_deadline_seconds().0;
    let moved: Timestamp = condition.last_update_time().parse().ok()?;
    Some(moved.as_second().saturating_add(seconds))
}

fn find<'a>(mut conditions: Items<'a, Condition>, kind: &str) -> Option<Fields<'a, Condition>> {
    conditions.find(|condition| condition.of() == kind)
}

const COMPLETE: &str = "NewReplicaSetAvailable";
const MOVING: &str = "ReplicaSetUpdated";
const LATE: &str = "ProgressDeadlineExceeded";

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Counts = Counts { all: 1, updated: 1, ready: 0, available: 0 };

    /// Status and reason of `Progressing` after a step at a second.
    fn step(deployment: &mut Object, counts: Counts, second: i64) -> (String, String) {
        let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
        deployment["status"] = status(deployment, None, counts, now);
        let conditions = Deployment::of(deployment).status().conditions();
        let condition = find(conditions, "Progressing").unwrap();
        word(condition.status(), condition.reason())
    }

    fn word(status: &str, reason: &str) -> (String, String) {
        (status.to_owned(), reason.to_owned())
    }

    #[test]
    fn a_rollout_without_progress_is_late_and_one_that_goes_on_is_not() {
        let spec = json!({"replicas": 1, "progressDeadlineSeconds": 10});
        let mut deployment = json!({"metadata": {"generation": 1}, "spec": spec});
        assert_eq!(step(&mut deployment, NONE, 0), word("True", MOVING));
        let now = Timestamp::from_second(1_700_000_004).unwrap();
        assert_eq!(deadline(&deployment, now), Some(Duration::from_secs(7)));
        assert_eq!(step(&mut deployment, NONE, 9), word("True", MOVING));
        assert_eq!(step(&mut deployment, NONE, 10), word("False", LATE));
        assert_eq!(deadline(&deployment, now), None);
        assert_eq!(step(&mut deployment, NONE, 11), word("False", LATE));
        deployment["metadata"]["generation"] = 2.into();
        assert_eq!(step(&mut deployment, NONE, 12), word("True", MOVING));
        let done = Counts { ready: 1, available: 1, ..NONE };
        assert_eq!(step(&mut deployment, done, 15), word("True", COMPLETE));
        // A pod that fails later is no lack of progress.
        assert_eq!(step(&mut deployment, NONE, 90), word("True", COMPLETE));
        deployment["spec"]["paused"] = true.into();
        assert_eq!(step(&mut deployment, NONE, 91), word("Unknown", "DeploymentPaused"));
    }
}
