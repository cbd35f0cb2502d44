//! Deployments from their first pod to their last.

use http::Method;
use serde_json::json;

use crate::world::{World, deployment, eventually, kubelet};

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/web";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn a_deployment_rolls_scales_and_goes() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(deployment("web", "web", "v1", 2)).await;
    let ready = |text: &'static str| {
        let api = api.clone();
        async move {
            eventually(|| async {
                let row = api.table(DEPLOYMENT).await.remove(0);
                (row[1] == text && row[2] == text[2..] && row[3] == text[2..]).then_some(())
            })
            .await;
        }
    };
    ready("2/2").await;
    let pods = api.get(PODS).await;
    let first = &pods["items"][0];
    let set = api.get(SETS).await["items"][0].clone();
    let set_name = set["metadata"]["name"].as_str().unwrap();
    let hash = set["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(set_name, format!("web-{hash}"));
    assert!(first["metadata"]["name"].as_str().unwrap().starts_with(&format!("web-{hash}-")));
    assert_eq!(first["metadata"]["ownerReferences"][0]["kind"], "ReplicaSet");

    // A new version replaces the pods and keeps the old set for its history.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:2"}]}}}});
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let (status, _) = api.request(Method::PATCH, DEPLOYMENT, &strategic, Some(&image)).await;
    assert_eq!(status, 200);
    eventually(|| async {
        let pods = api.get(PODS).await;
        let pods = pods["items"].as_array().unwrap();
        let all_new = pods.iter().all(|p| p["spec"]["containers"][0]["image"] == "web:2");
        (pods.len() == 2 && all_new).then_some(())
    })
    .await;
    ready("2/2").await;
    assert_eq!(api.get(SETS).await["items"].as_array().unwrap().len(), 2);
    let revision = "deployment.kubernetes.io~1revision";
    let pointer = format!("/metadata/annotations/{revision}");
    assert_eq!(api.get(DEPLOYMENT).await.pointer(&pointer).unwrap(), "2");

    let merge = [("content-type", "application/merge-patch+json")];
    let scale = json!({"spec": {"replicas": 3}});
    let path = format!("{DEPLOYMENT}/scale");
    let (status, scaled) = api.request(Method::PATCH, &path, &merge, Some(&scale)).await;
    assert_eq!((status.as_u16(), &scaled["kind"]), (200, &json!("Scale")));
    ready("3/3").await;

    api.delete(DEPLOYMENT).await;
    for path in [SETS, PODS] {
        eventually(|| async { (api.get(path).await["items"] == json!([])).then_some(()) }).await;
    }
}

#[tokio::test]
async fn a_broken_version_leaves_the_old_one_serving() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(deployment("web", "web", "v1", 4)).await;
    let available = |count: &'static str| {
        let api = api.clone();
        async move {
            eventually(|| async { (api.table(DEPLOYMENT).await[0][3] == count).then_some(()) })
                .await;
        }
    };
    available("4").await;
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "broken:2"}]}}}});
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    api.request(Method::PATCH, DEPLOYMENT, &strategic, Some(&image)).await;
    // 25 % of 4: one pod more, one pod less.
    eventually(|| async {
        let row = api.table(DEPLOYMENT).await.remove(0);
        (row[2] == "2" && row[3] == "3").then_some(())
    })
    .await;
    let back = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}}});
    api.request(Method::PATCH, DEPLOYMENT, &strategic, Some(&back)).await;
    available("4").await;
}

#[tokio::test]
async fn new_pods_are_admitted_as_their_namespace_says_and_earlier_ones_stay() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(deployment("web", "web", "v1", 1)).await;
    let ready = |text: &'static str| {
        let api = api.clone();
        async move {
            eventually(|| async {
                let rows = api.table(PODS).await;
                (rows.len() == 1 && rows[0][1] == text).then_some(())
            })
            .await;
        }
    };
    ready("1/1").await;
    let label = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    let namespace = api.merge("/api/v1/namespaces/default", label).await;
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "default", "istio-injection": "enabled"})
    );
    ready("1/1").await;
    let name = api.table(PODS).await[0][0].clone();
    api.delete(&format!("{PODS}/{name}")).await;
    ready("2/2").await;
    let pod = api.get(PODS).await["items"][0].clone();
    // What was added is completed as what was sent.
    assert_eq!(pod["spec"]["containers"][1]["image"], "added:1");
    assert_eq!(pod["spec"]["containers"][1]["imagePullPolicy"], "IfNotPresent");
}

#[tokio::test]
async fn control_goes_on_after_a_restart_where_it_was() {
    let mut world = World::start();
    let api = world.api();
    api.create(deployment("web", "web", "v1", 2)).await;
    eventually(|| async { (api.table(PODS).await.len() == 2).then_some(()) }).await;
    world.restart();
    let names = |rows: Vec<Vec<String>>| rows.into_iter().map(|r| r[0].clone()).collect::<Vec<_>>();
    let before = names(api.table(PODS).await);
    assert_eq!(before.len(), 2);
    tokio::spawn(kubelet(api.clone()));
    eventually(|| async { (api.table(DEPLOYMENT).await[0][1] == "2/2").then_some(()) }).await;
    assert_eq!(names(api.table(PODS).await), before);
}

#[tokio::test]
async fn a_pod_that_is_relabelled_is_let_go_and_replaced() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(deployment("web", "web", "v1", 1)).await;
    let names = || async {
        let rows = api.table(PODS).await;
        rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>()
    };
    let first = eventually(|| async { names().await.pop() }).await;
    let path = format!("{PODS}/{first}");
    api.merge(&path, json!({"metadata": {"labels": {"app": "aside"}}})).await;
    eventually(|| async { (names().await.len() == 2).then_some(()) }).await;
    assert_eq!(api.get(&path).await["metadata"]["ownerReferences"], json!([]));
    // It is nobody's, so that nobody deletes it.
    api.delete(DEPLOYMENT).await;
    eventually(|| async { (names().await == [first.clone()]).then_some(()) }).await;
}

#[tokio::test]
async fn a_deployment_may_come_before_its_service_account_and_events_say_what_happened() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let mut early = deployment("web", "web", "v1", 1);
    early["spec"]["template"]["spec"]["serviceAccountName"] = "shop".into();
    api.create(early).await;
    let events = "/api/v1/namespaces/default/events";
    let said = |reason: &'static str| {
        let api = api.clone();
        async move {
            let list = api.get(events).await;
            let all = list["items"].as_array().unwrap();
            let found = all.iter().find(|event| event["reason"] == reason)?;
            Some(found["message"].as_str().unwrap().to_owned())
        }
    };
    let failed = eventually(|| said("FailedCreate")).await;
    assert!(failed.contains("serviceaccount \"shop\" not found"), "{failed}");
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shop"}});
    api.create(account).await;
    eventually(|| async { (api.table(DEPLOYMENT).await[0][1] == "1/1").then_some(()) }).await;
    assert!(eventually(|| said("SuccessfulCreate")).await.starts_with("Created pod: web-"));
    let scaled = eventually(|| said("ScalingReplicaSet")).await;
    assert!(scaled.starts_with("Scaled up replica set web-"), "{scaled}");
    assert!(scaled.ends_with(" from 0 to 1"), "{scaled}");
}

#[tokio::test]
async fn a_rollout_that_gets_nowhere_fails_after_its_deadline() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let mut broken = deployment("web", "broken", "v1", 1);
    broken["spec"]["progressDeadlineSeconds"] = 1.into();
    api.create(broken).await;
    eventually(|| async {
        let deployment = api.get(DEPLOYMENT).await;
        let conditions = deployment["status"]["conditions"].as_array()?.clone();
        let progressing = conditions.into_iter().find(|c| c["type"] == "Progressing")?;
        (progressing["reason"] == "ProgressDeadlineExceeded" && progressing["status"] == "False")
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_paused_deployment_scales_though_its_template_was_edited() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(deployment("web", "web", "v1", 1)).await;
    let ready = |text: &'static str| {
        let api = api.clone();
        async move {
            eventually(|| async { (api.table(DEPLOYMENT).await[0][1] == text).then_some(()) })
                .await;
        }
    };
    ready("1/1").await;
    let template = json!({"metadata": {"annotations": {"edited": "yes"}}});
    api.merge(DEPLOYMENT, json!({"spec": {"paused": true, "template": template}})).await;
    for (replicas, text) in [(2, "2/2"), (0, "0/0"), (1, "1/1")] {
        api.merge(DEPLOYMENT, json!({"spec": {"replicas": replicas}})).await;
        ready(text).await;
    }
    let pods = api.get(PODS).await;
    assert_eq!(pods["items"][0]["metadata"]["annotations"].get("edited"), None);
}
