//! Jobs, with pods that end as the test says.

use http::Method;
use serde_json::{Value, json};

use crate::world::{Api, World, eventually};

const PODS: &str = "/api/v1/namespaces/default/pods";
const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";

fn job(name: &str, spec: Value) -> Value {
    let container = json!({"name": "app", "image": "app:1"});
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    });
    for (field, value) in spec.as_object().unwrap() {
        job["spec"][field] = value.clone();
    }
    job
}

/// Names of the pods of a Job that have not ended.
async fn active(api: &Api, job: &str) -> Vec<String> {
    let pods = api.get(&format!("{PODS}?labelSelector=job-name%3D{job}")).await;
    let ended =
        |pod: &Value| matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let items = pods["items"].as_array().unwrap().iter().filter(|pod| !ended(pod));
    items.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn until_active(api: &Api, job: &str, count: usize) -> Vec<String> {
    eventually(|| async {
        let active = active(api, job).await;
        (active.len() == count).then_some(active)
    })
    .await
}

async fn end(api: &Api, pod: &str, phase: &str) {
    end_with(api, pod, phase, (phase == "Failed").into()).await;
}

async fn end_with(api: &Api, pod: &str, phase: &str, code: i64) {
    let merge = [("content-type", "application/merge-patch+json")];
    let ended = json!({"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"});
    let body = json!({"status": {"phase": phase, "containerStatuses": [
        {"name": "app", "restartCount": 0, "state": {"terminated": ended}},
    ]}});
    let path = format!("{PODS}/{pod}/status");
    let (status, answer) = api.request(Method::PATCH, &path, &merge, Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
}

/// Waits until a Job has ended; how it did, with its reason.
async fn ended(api: &Api, name: &str) -> (String, String, Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    eventually(|| async {
        let job = api.get(&format!("{JOBS}/{name}")).await;
        let conditions = job["status"]["conditions"].as_array()?;
        let end = conditions.iter().find(|c| c["type"] == "Complete" || c["type"] == "Failed")?;
        Some((text(&end["type"]), text(&end["reason"]), job["status"].clone()))
    })
    .await
}

#[tokio::test]
async fn a_job_has_as_many_pods_as_must_succeed_and_no_more_after_a_restart() {
    let mut world = World::start();
    let api = world.api();
    api.create(job("trio", json!({"completions": 3, "parallelism": 2}))).await;
    let first = until_active(&api, "trio", 2).await;
    end(&api, &first[0], "Succeeded").await;
    // One that is deleted before it was looked at still counts.
    end(&api, &first[1], "Succeeded").await;
    api.delete(&format!("{PODS}/{}", first[1])).await;
    let last = until_active(&api, "trio", 1).await;
    let merge = [("content-type", "application/merge-patch+json")];
    let image = json!({"spec": {"completions": 9}});
    let (status, said) =
        api.request(Method::PATCH, &format!("{JOBS}/trio"), &merge, Some(&image)).await;
    assert_eq!(status, 422, "{said}");
    assert!(said["message"].as_str().unwrap().contains("field is immutable"), "{said}");
    end(&api, &last[0], "Succeeded").await;
    let (word, _, status) = ended(&api, "trio").await;
    assert_eq!(
        (word.as_str(), &status["succeeded"], &status["active"]),
        ("Complete", &3.into(), &0.into())
    );
    world.restart();
    let api = world.api();
    // Another that comes later is done, so that this one was looked at, too.
    api.create(job("later", json!({}))).await;
    until_active(&api, "later", 1).await;
    assert_eq!(active(&api, "trio").await, [""; 0]);
    assert_eq!(ended(&api, "trio").await.2, status);
    let pods = api.get(&format!("{PODS}?labelSelector=batch.kubernetes.io/job-name%3Dtrio")).await;
    assert_eq!(pods["items"].as_array().unwrap().len(), 2);
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["metadata"].get("finalizers"), None, "{pod}");
    }
    // Its pods go with it.
    api.delete(&format!("{JOBS}/trio")).await;
    eventually(|| async {
        let pods = api.get(&format!("{PODS}?labelSelector=job-name%3Dtrio")).await;
        pods["items"].as_array().unwrap().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_job_fails_for_its_limit_or_its_deadline_and_is_gone_when_its_time_is_over() {
    let world = World::start();
    let api = world.api();
    api.create(job("never", json!({"backoffLimit": 1}))).await;
    for _ in 0..2 {
        let pod = until_active(&api, "never", 1).await;
        end(&api, &pod[0], "Failed").await;
    }
    let (word, reason, status) = ended(&api, "never").await;
    assert_eq!((word.as_str(), reason.as_str()), ("Failed", "BackoffLimitExceeded"));
    assert_eq!((&status["failed"], &status["succeeded"]), (&2.into(), &0.into()));

    api.create(job("late", json!({"activeDeadlineSeconds": 1, "ttlSecondsAfterFinished": 0})))
        .await;
    let pod = until_active(&api, "late", 1).await;
    // It is told to end, and has not ended before its kubelet says so.
    eventually(|| async {
        let pod = api.get(&format!("{PODS}/{}", pod[0])).await;
        pod["metadata"]["deletionTimestamp"].is_string().then_some(())
    })
    .await;
    let late = api.get(&format!("{JOBS}/late")).await;
    assert_eq!(late["status"]["conditions"][0]["reason"], "DeadlineExceeded");
    assert_eq!(late["status"]["conditions"].as_array().unwrap().len(), 1, "{late}");
    api.delete(&format!("{PODS}/{}?gracePeriodSeconds=0", pod[0])).await;
    eventually(|| async { api.try_get(&format!("{JOBS}/late")).await.is_none().then_some(()) })
        .await;
}

#[tokio::test]
async fn a_suspended_job_has_no_pods_and_what_it_loses_is_no_failure() {
    let world = World::start();
    let api = world.api();
    api.create(job("held", json!({"backoffLimit": 0, "suspend": true}))).await;
    api.create(job("other", json!({}))).await;
    until_active(&api, "other", 1).await;
    assert_eq!(active(&api, "held").await, [""; 0]);
    let path = format!("{JOBS}/held");
    api.merge(&path, json!({"spec": {"suspend": false}})).await;
    let pod = until_active(&api, "held", 1).await;
    api.merge(&path, json!({"spec": {"suspend": true}})).await;
    eventually(|| async {
        let pod = api.get(&format!("{PODS}/{}", pod[0])).await;
        pod["metadata"]["deletionTimestamp"].is_string().then_some(())
    })
    .await;
    api.delete(&format!("{PODS}/{}?gracePeriodSeconds=0", pod[0])).await;
    until_active(&api, "held", 0).await;
    api.merge(&path, json!({"spec": {"suspend": false}})).await;
    let pod = until_active(&api, "held", 1).await;
    end(&api, &pod[0], "Succeeded").await;
    let (word, _, status) = ended(&api, "held").await;
    assert_eq!((word.as_str(), &status["failed"]), ("Complete", &0.into()));
}

/// The index and the name of each pod of a Job that has not ended.
async fn indexes(api: &Api, job: &str, count: usize) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for name in until_active(api, job, count).await {
        let pod = api.get(&format!("{PODS}/{name}")).await;
        let index = pod["metadata"]["annotations"][INDEX].as_str().unwrap().to_owned();
        assert_eq!(pod["metadata"]["labels"][INDEX], index.as_str());
        assert_eq!(pod["spec"]["hostname"], format!("{job}-{index}"));
        assert!(name.starts_with(&format!("{job}-{index}-")), "{name}");
        let variable = &pod["spec"]["containers"][0]["env"][0];
        assert_eq!(variable["name"], "JOB_COMPLETION_INDEX");
        let path = &variable["valueFrom"]["fieldRef"]["fieldPath"];
        assert_eq!(path, &format!("metadata.labels['{INDEX}']"));
        all.push((index, name));
    }
    all.sort();
    all
}

const INDEX: &str = "batch.kubernetes.io/job-completion-index";

fn numbers(indexes: &[(String, String)]) -> Vec<&str> {
    indexes.iter().map(|(index, _)| index.as_str()).collect()
}

#[tokio::test]
async fn each_index_succeeds_once() {
    let world = World::start();
    let api = world.api();
    let spec = json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed"});
    api.create(job("each", spec)).await;
    let first = indexes(&api, "each", 3).await;
    assert_eq!(numbers(&first), ["0", "1", "2"]);
    end(&api, &first[2].1, "Succeeded").await;
    let next = indexes(&api, "each", 3).await;
    assert_eq!(numbers(&next), ["0", "1", "3"]);
    // One that fails is made again, with its index.
    end(&api, &first[0].1, "Failed").await;
    end(&api, &next[2].1, "Succeeded").await;
    end(&api, &first[1].1, "Succeeded").await;
    let again = indexes(&api, "each", 1).await;
    assert_eq!(numbers(&again), ["0"]);
    let status = api.get(&format!("{JOBS}/each")).await["status"].clone();
    assert_eq!((&status["completedIndexes"], &status["succeeded"]), (&json!("1-3"), &json!(3)));
    end(&api, &again[0].1, "Succeeded").await;
    let (word, _, status) = ended(&api, "each").await;
    assert_eq!((&*word, &status["completedIndexes"]), ("Complete", &json!("0-3")));
    assert_eq!(status["failed"], 1);
}

#[tokio::test]
async fn failures_mean_what_the_policy_says() {
    let world = World::start();
    let api = world.api();
    let rule = |action: &str, code: i64| json!({"action": action, "onExitCodes": {"operator": "In", "values": [code]}});
    let policy = json!({"rules": [rule("Ignore", 3), rule("FailJob", 4)]});
    api.create(job("ruled", json!({"backoffLimit": 0, "podFailurePolicy": policy}))).await;
    // Ignored: the limit of failures is not reached by it.
    let first = until_active(&api, "ruled", 1).await;
    end_with(&api, &first[0], "Failed", 3).await;
    let second = eventually(|| async {
        let active = active(&api, "ruled").await;
        (active.len() == 1 && active != first).then_some(active)
    })
    .await;
    end_with(&api, &second[0], "Failed", 4).await;
    let (word, reason, status) = ended(&api, "ruled").await;
    assert_eq!((&*word, &*reason, &status["failed"]), ("Failed", "PodFailurePolicy", &json!(1)));

    // An index that fails too often, or as the policy says, leaves the others.
    let spec = json!({
        "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "backoffLimitPerIndex": 0, "podFailurePolicy": {"rules": [rule("FailIndex", 5)]},
    });
    api.create(job("part", spec)).await;
    let all = indexes(&api, "part", 3).await;
    end_with(&api, &all[0].1, "Failed", 5).await;
    end_with(&api, &all[1].1, "Failed", 1).await;
    let left = indexes(&api, "part", 1).await;
    assert_eq!(numbers(&left), ["2"]);
    end(&api, &left[0].1, "Succeeded").await;
    let (word, reason, status) = ended(&api, "part").await;
    assert_eq!((&*word, &*reason), ("Failed", "FailedIndexes"));
    assert_eq!(
        (&status["failedIndexes"], &status["completedIndexes"]),
        (&json!("0,1"), &json!("2"))
    );

    // The leader alone is enough.
    let spec = json!({
        "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
    });
    api.create(job("led", spec)).await;
    let all = indexes(&api, "led", 3).await;
    end(&api, &all[0].1, "Succeeded").await;
    // The others are told to end.
    until_active(&api, "led", 2).await;
    for (_, pod) in &all[1..] {
        eventually(|| async {
            let pod = api.get(&format!("{PODS}/{pod}")).await;
            pod["metadata"]["deletionTimestamp"].is_string().then_some(())
        })
        .await;
        api.delete(&format!("{PODS}/{pod}?gracePeriodSeconds=0")).await;
    }
    let (word, reason, status) = ended(&api, "led").await;
    assert_eq!((&*word, &*reason, &status["succeeded"]), ("Complete", "SuccessPolicy", &json!(1)));
}

/// The hostile twin: what is no Job is refused, and a selector that a client sends is not taken.
#[tokio::test]
async fn what_is_no_job_is_refused() {
    let world = World::start();
    let api = world.api();
    let mut always = job("always", json!({}));
    always["spec"]["template"]["spec"]["restartPolicy"] = "Always".into();
    for (object, word) in [
        (always, "restartPolicy"),
        (job("many", json!({"parallelism": 2_000_000})), "spec.parallelism"),
        (job("less", json!({"completions": -1})), "spec.completions"),
        (
            job("many", json!({"completions": 2_000_000_000, "completionMode": "Indexed"})),
            "completions",
        ),
        (job("open", json!({"completionMode": "Indexed", "parallelism": 2})), "spec.completions"),
        (
            job(&"n".repeat(62), json!({"completions": 1, "completionMode": "Indexed"})),
            "metadata.name",
        ),
        (
            job(
                "led",
                json!({
                    "completions": 2, "completionMode": "Indexed",
                    "successPolicy": {"rules": [{"succeededIndexes": "0-4294967295"}]},
                }),
            ),
            "rules[0].succeededIndexes",
        ),
        (job("alike", json!({"backoffLimitPerIndex": 1})), "spec.backoffLimitPerIndex"),
        (job("most", json!({"maxFailedIndexes": 1})), "spec.backoffLimitPerIndex"),
        (job("empty", json!({"podFailurePolicy": {"rules": [{"action": "Count"}]}})), "rules[0]"),
        (
            job(
                "zero",
                json!({"podFailurePolicy": {"rules": [
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [0]}},
                ]}}),
            ),
            "onExitCodes.values",
        ),
        (
            job("manual", json!({"manualSelector": true, "selector": {"matchLabels": {"a": "b"}}})),
            "selector",
        ),
    ] {
        let (status, said) = api.try_create(object).await;
        assert_eq!(status, 422, "{said}");
        assert!(said["message"].as_str().unwrap().contains(word), "{said}");
    }
    let other = json!({"selector": {"matchLabels": {"app": "of-others"}}});
    let made = api.create(job("own", other)).await;
    let labels = &made["spec"]["selector"]["matchLabels"];
    assert_eq!(*labels, json!({"batch.kubernetes.io/controller-uid": made["metadata"]["uid"]}));
}
