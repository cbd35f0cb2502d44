//! How far the rollout of a DaemonSet or of a StatefulSet is.

use anyhow::ensure;
use serde_json::Value;

use super::Progress;

pub(super) fn daemon_set(set: &Value, name: &str) -> anyhow::Result<Progress> {
    check_strategy(set)?;
    let status = |field: &str| set["status"][field].as_i64().unwrap_or_default();
    if !is_observed(set) {
        return Ok(Progress::Waits(NOT_OBSERVED.replace("KIND", "daemon")));
    }
    let (wanted, updated) = (status("desiredNumberScheduled"), status("updatedNumberScheduled"));
    let available = status("numberAvailable");
    let waits = |what: String| {
        Progress::Waits(format!("Waiting for daemon set {name:?} rollout to finish: {what}..."))
    };
    Ok(if updated < wanted {
        waits(format!("{updated} out of {wanted} new pods have been updated"))
    } else if available < wanted {
        waits(format!("{available} of {wanted} updated pods are available"))
    } else {
        Progress::Done(format!("daemon set {name:?} successfully rolled out"))
    })
}

pub(super) fn stateful_set(set: &Value) -> anyhow::Result<Progress> {
    check_strategy(set)?;
    let status = |field: &str| set["status"][field].as_i64().unwrap_or_default();
    if !is_observed(set) {
        return Ok(Progress::Waits(NOT_OBSERVED.replace("KIND", "statefulset")));
    }
    let wanted = set["spec"]["replicas"].as_i64().unwrap_or(1);
    let (ready, updated) = (status("readyReplicas"), status("updatedReplicas"));
    if ready < wanted {
        return Ok(Progress::Waits(format!("Waiting for {} pods to be ready...", wanted - ready)));
    }
    let partition = set.pointer("/spec/updateStrategy/rollingUpdate/partition");
    let partition = partition.and_then(Value::as_i64).unwrap_or(0);
    if partition > 0 {
        let new = (wanted - partition).max(0);
        return Ok(if updated < new {
            Progress::Waits(format!(
                "Waiting for partitioned roll out to finish: {updated} out of {new} new pods have been updated..."
            ))
        } else {
            Progress::Done(format!(
                "partitioned roll out complete: {updated} new pods have been updated..."
            ))
        });
    }
    let revision = &set["status"]["updateRevision"];
    Ok(if *revision != set["status"]["currentRevision"] {
        let revision = revision.as_str().unwrap_or_default();
        Progress::Waits(format!(
            "waiting for statefulset rolling update to complete {updated} pods at revision {revision}..."
        ))
    } else {
        let (current, revision) =
            (status("currentReplicas"), revision.as_str().unwrap_or_default());
        Progress::Done(format!(
            "statefulset rolling update complete {current} pods at revision {revision}..."
        ))
    })
}

/// Pods that are replaced when somebody deletes them have no rollout.
fn check_strategy(set: &Value) -> anyhow::Result<()> {
    let strategy = set.pointer("/spec/updateStrategy/type").and_then(Value::as_str);
    ensure!(
        strategy != Some("OnDelete"),
        "rollout status is only available for RollingUpdate strategy type"
    );
    Ok(())
}

fn is_observed(set: &Value) -> bool {
    let number = |pointer: &str| set.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    number("/status/observedGeneration") >= number("/metadata/generation")
}

const NOT_OBSERVED: &str = "Waiting for KIND set spec update to be observed...";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_rollout_of_a_daemon_set_waits_for() {
        let said = |observed, updated, available| {
            let set = json!({
                "metadata": {"generation": 2},
                "status": {
                    "observedGeneration": observed, "desiredNumberScheduled": 1,
                    "updatedNumberScheduled": updated, "numberAvailable": available,
                },
            });
            daemon_set(&set, "l5d").unwrap()
        };
        let waits = |what: &str| {
            let what = format!("Waiting for daemon set \"l5d\" rollout to finish: {what}...");
            Progress::Waits(what)
        };
        let text = "Waiting for daemon set spec update to be observed...";
        assert_eq!(said(1, 1, 1), Progress::Waits(text.to_owned()));
        assert_eq!(said(2, 0, 1), waits("0 out of 1 new pods have been updated"));
        assert_eq!(said(2, 1, 0), waits("0 of 1 updated pods are available"));
        let done = Progress::Done("daemon set \"l5d\" successfully rolled out".to_owned());
        assert_eq!(said(2, 1, 1), done);
    }

    #[test]
    fn what_the_rollout_of_a_stateful_set_waits_for() {
        let set = |ready, updated, partition, current: &str| {
            json!({
                "metadata": {"generation": 1},
                "spec": {"replicas": 3, "updateStrategy": {"rollingUpdate": {"partition": partition}}},
                "status": {
                    "observedGeneration": 1, "readyReplicas": ready, "updatedReplicas": updated,
                    "currentReplicas": 3, "currentRevision": current, "updateRevision": "b",
                },
            })
        };
        for (set, text) in [
            (set(1, 3, 0, "b"), Err("Waiting for 2 pods to be ready...")),
            (
                set(3, 0, 2, "a"),
                Err(
                    "Waiting for partitioned roll out to finish: 0 out of 1 new pods have been updated...",
                ),
            ),
            (
                set(3, 1, 2, "a"),
                Ok("partitioned roll out complete: 1 new pods have been updated..."),
            ),
            (
                set(3, 2, 0, "a"),
                Err("waiting for statefulset rolling update to complete 2 pods at revision b..."),
            ),
            (set(3, 3, 0, "b"), Ok("statefulset rolling update complete 3 pods at revision b...")),
        ] {
            let expected = match text {
                Ok(text) => Progress::Done(text.to_owned()),
                Err(text) => Progress::Waits(text.to_owned()),
            };
            assert_eq!(stateful_set(&set).unwrap(), expected);
        }
        let on_delete = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
        stateful_set(&on_delete).unwrap_err();
    }
}
