//! DaemonSets and replication controllers, with pods that are ready at once.

use serde_json::{Value, json};

use crate::world::{Api, World, eventually, kubelet};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
const CONTROLLERS: &str = "/api/v1/namespaces/default/replicationcontrollers";

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "l5d"}},
        "spec": {"containers": [{"name": "app", "image": image}]},
    })
}

fn daemon_set(api_version: &str, strategy: Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": "DaemonSet", "metadata": {"name": "l5d"},
        "spec": {
            "selector": {"matchLabels": {"app": "l5d"}},
            "updateStrategy": strategy,
            "template": template("l5d:1"),
        },
    })
}

/// Images of the pods, in the order of their names.
async fn images(api: &Api) -> Vec<String> {
    let pods = api.get(PODS).await;
    let image = |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
    pods["items"].as_array().unwrap().iter().map(image).collect()
}

async fn until_row(api: &Api, path: &str, row: &[&str]) {
    eventually(|| async {
        let found = api.table(path).await.remove(0);
        (found[..row.len()] == *row).then_some(())
    })
    .await;
}

async fn until_images(api: &Api, expected: &[&str]) {
    eventually(|| async { (images(api).await == expected).then_some(()) }).await;
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_the_node_and_replaces_it() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    // An old manifest, without a selector.
    let mut old = daemon_set("extensions/v1beta1", json!({"type": "RollingUpdate"}));
    old["spec"].as_object_mut().unwrap().remove("selector");
    let (status, said) = api.try_create(old).await;
    assert_eq!(status, 201, "{said}");
    let path = format!("{SETS}/l5d");
    until_row(&api, &path, &["l5d", "1", "1", "1", "1", "1", "<none>"]).await;
    let image = json!({"spec": {"template": template("l5d:2")}});
    api.merge(&path, image).await;
    until_images(&api, &["l5d:2"]).await;
    until_row(&api, &path, &["l5d", "1", "1", "1", "1", "1"]).await;
    let revisions = api.table("/apis/apps/v1/namespaces/default/controllerrevisions").await;
    let mut numbers: Vec<_> = revisions.iter().map(|row| (&*row[1], &*row[2])).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [("daemonset.apps/l5d", "1"), ("daemonset.apps/l5d", "2")]);
    // As kubectl looks for them, and applies one to go back.
    let path_of = "/apis/apps/v1/namespaces/default/controllerrevisions?labelSelector=app%3Dl5d";
    let found = api.get(path_of).await;
    let found = found["items"].as_array().unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found.iter().all(|revision| revision["data"]["spec"]["template"]["$patch"] == "replace")
    );
    api.delete(&path).await;
    until_images(&api, &[]).await;
    eventually(|| async {
        let left = api.table("/apis/apps/v1/namespaces/default/controllerrevisions").await;
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_of_a_daemon_set_is_kept_until_it_is_deleted_or_the_new_one_is_ready() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(daemon_set("apps/v1", json!({"type": "OnDelete"}))).await;
    let path = format!("{SETS}/l5d");
    until_row(&api, &path, &["l5d", "1", "1", "1", "1", "1"]).await;
    api.merge(&path, json!({"spec": {"template": template("broken:2")}})).await;
    until_row(&api, &path, &["l5d", "1", "1", "1", "0", "1"]).await;
    assert_eq!(images(&api).await, ["l5d:1"]);
    // The new one comes first, and as it is never ready the old one stays.
    let surge =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
    api.merge(&path, json!({"spec": {"updateStrategy": surge}})).await;
    until_row(&api, &path, &["l5d", "1", "1", "1", "1", "1"]).await;
    let mut both = images(&api).await;
    both.sort_unstable();
    assert_eq!(both, ["broken:2", "l5d:1"]);
    api.merge(&path, json!({"spec": {"template": template("l5d:3")}})).await;
    until_images(&api, &["l5d:3"]).await;
    for wrong in [json!({"maxSurge": 1, "maxUnavailable": 1}), json!({"maxUnavailable": 0})] {
        let mut set = daemon_set("apps/v1", json!({"rollingUpdate": wrong}));
        set["metadata"]["name"] = "other".into();
        assert_eq!(api.try_create(set).await.0, 422);
    }
}

#[tokio::test]
async fn a_replication_controller_is_a_replica_set_with_another_selector() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let controller = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "hello"},
        "spec": {"replicas": 2, "template": template("hello:1")},
    });
    let made = api.create(controller).await;
    assert_eq!(made["spec"]["selector"], json!({"app": "l5d"}));
    let path = format!("{CONTROLLERS}/hello");
    until_row(&api, &path, &["hello", "2", "2", "2"]).await;
    let scale = api.get(&format!("{path}/scale")).await;
    assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=l5d"}));
    api.merge(&path, json!({"spec": {"replicas": 1}})).await;
    until_images(&api, &["hello:1"]).await;
    let wrong = json!({"spec": {"selector": {"app": "other"}}});
    let merge = [("content-type", "application/merge-patch+json")];
    let (status, _) = api.request(http::Method::PATCH, &path, &merge, Some(&wrong)).await;
    assert_eq!(status, 422);
    api.delete(&path).await;
    until_images(&api, &[]).await;
}
