//! The status of a Deployment, and whether its rollout gets on.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
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
    let count =
        |set: &Object, field: &str| object::number(set, &format!("/status/{field}")).unwrap_or(0);
    let total = |field: &str| {
        new.map_or(0, |set| count(set, field))
            + old.iter().map(|set| count(set, field)).sum::<i64>()
    };
    let counts = Counts {
        all: total("replicas"),
        updated: new.map_or(0, |set| count(set, "replicas")),
        ready: total("readyReplicas"),
        available: total("availableReplicas"),
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
    let wanted = object::number(deployment, "/spec/replicas").unwrap_or(1);
    let bound = |name: &str| deployment.pointer(&format!("/spec/strategy/rollingUpdate/{name}"));
    let bounds = Wanted::new(wanted, bound("maxSurge"), bound("maxUnavailable"));
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
    if let Some(failure) = new.and_then(|set| find_condition(set, "ReplicaFailure")) {
        let text = |pointer| object::text(failure, pointer).to_owned();
        let word = ("True", "FailedCreate", text("/message"));
        conditions.push(condition(deployment, "ReplicaFailure", word, false, now));
    }
    json!({
        "observedGeneration": object::number(deployment, "/metadata/generation").unwrap_or(1),
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
    deployment: &Object,
    new: Option<&Object>,
    counts: Counts,
    wanted: i64,
    now: Timestamp,
) -> (Word, bool) {
    let set = new.map_or("", |set| object::name(set));
    let Counts { all, updated, ready, available } = counts;
    if deployment.pointer("/spec/paused") == Some(&Value::Bool(true)) {
        return (("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()), false);
    }
    if updated == wanted && all == wanted && available >= wanted {
        let message = format!("ReplicaSet {set:?} has successfully progressed.");
        return (("True", COMPLETE, message), false);
    }
    let before = |field: &str| object::number(deployment, &format!("/status/{field}")).unwrap_or(0);
    let asked_anew = before("observedGeneration")
        < object::number(deployment, "/metadata/generation").unwrap_or(1);
    let fewer_old = all - updated < before("replicas") - before("updatedReplicas");
    let moved = asked_anew
        || fewer_old
        || updated > before("updatedReplicas")
        || ready > before("readyReplicas")
        || available > before("availableReplicas");
    let prior = find_condition(deployment, "Progressing");
    let moving = ("True", MOVING, format!("ReplicaSet {set:?} is progressing."));
    let Some(prior) = prior.filter(|prior| !moved && object::text(prior, "/status") != "Unknown")
    else {
        return (moving, true);
    };
    if object::text(prior, "/reason") == COMPLETE {
        let message = object::text(prior, "/message").to_owned();
        return (("True", COMPLETE, message), false);
    }
    let late = object::text(prior, "/reason") == LATE
        || deadline_of(deployment, prior).is_some_and(|deadline| deadline <= now.as_second());
    if late {
        let message = format!("ReplicaSet {set:?} has timed out progressing.");
        return (("False", LATE, message), false);
    }
    (moving, false)
}

/// A condition with the times at which its status and anything of it last changed.
fn condition(
    deployment: &Object,
    kind: &str,
    (status, reason, message): Word,
    moved: bool,
    now: Timestamp,
) -> Value {
    let prior = find_condition(deployment, kind);
    let kept = |pointer: &str, same: bool| {
        let time = prior.filter(|_| same).map(|prior| object::text(prior, pointer));
        time.filter(|time| !time.is_empty()).map_or_else(|| clock::rfc3339(now), str::to_owned)
    };
    let is =
        |pointer: &str, text: &str| prior.is_some_and(|prior| object::text(prior, pointer) == text);
    let same_status = is("/status", status);
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastUpdateTime": kept("/lastUpdateTime", same_status && is("/reason", reason) && !moved),
        "lastTransitionTime": kept("/lastTransitionTime", same_status),
    })
}

/// After how long a rollout that goes on would be late.
fn deadline(deployment: &Object, now: Timestamp) -> Option<Duration> {
    let condition = find_condition(deployment, "Progressing")?;
    if object::text(condition, "/reason") != MOVING {
        return None;
    }
    let left = deadline_of(deployment, condition)?.saturating_sub(now.as_second());
    // Times are whole seconds.
    Some(Duration::from_secs(u64::try_from(left).unwrap_or(0) + 1))
}

/// When a rollout that last moved as a condition says is late, in seconds since the Unix epoch.
fn deadline_of(deployment: &Object, condition: &Value) -> Option<i64> {
    let seconds = object::number(deployment, "/spec/progressDeadlineSeconds")?;
    let moved: Timestamp = object::text(condition, "/lastUpdateTime").parse().ok()?;
    Some(moved.as_second().saturating_add(seconds))
}

fn find_condition<'a>(object: &'a Object, kind: &str) -> Option<&'a Value> {
    object::list(object, "/status/conditions").iter().find(|c| object::text(c, "/type") == kind)
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
        let condition = find_condition(deployment, "Progressing").unwrap();
        let text = |pointer| object::text(condition, pointer).to_owned();
        (text("/status"), text("/reason"))
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
