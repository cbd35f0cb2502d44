//! What becomes of what is owned: garbage collection, foreground deletion, adoption.

use http::Method;
use serde_json::{Value, json};

use crate::world::{Api, World, deployment, eventually, kubelet};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

async fn map(api: &Api, name: &str, owner: Option<(&str, &Value)>, finalizers: &[&str]) -> Value {
    let owners: Vec<Value> = owner
        .iter()
        .map(|(name, uid)| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid,
                "controller": true, "blockOwnerDeletion": true,
            })
        })
        .collect();
    let metadata = json!({"name": name, "ownerReferences": owners, "finalizers": finalizers});
    let made =
        api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})).await;
    made["metadata"]["uid"].clone()
}

async fn delete(api: &Api, path: &str, policy: &str) {
    let path = format!("{path}?propagationPolicy={policy}");
    let (status, said) = api.request(Method::DELETE, &path, &[], None).await;
    assert!(status.is_success(), "{said}");
}

async fn until_gone(api: &Api, path: &str) {
    eventually(|| async { api.try_get(path).await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn an_owner_deleted_in_the_foreground_goes_after_what_it_owns() {
    let world = World::start();
    let api = world.api();
    let root = map(&api, "root", None, &[]).await;
    let mid = map(&api, "mid", Some(("root", &root)), &["example.com/hold"]).await;
    map(&api, "leaf", Some(("mid", &mid)), &[]).await;
    delete(&api, &format!("{MAPS}/root"), "Foreground").await;
    let held = eventually(|| async {
        let mid = api.get(&format!("{MAPS}/mid")).await;
        mid["metadata"]["deletionTimestamp"].is_string().then_some(mid)
    })
    .await;
    // What is owned goes in the foreground, too.
    until_gone(&api, &format!("{MAPS}/leaf")).await;
    assert!(held["metadata"]["finalizers"].as_array().unwrap().len() <= 2);
    let root = api.get(&format!("{MAPS}/root")).await;
    assert_eq!(root["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    api.merge(&format!("{MAPS}/mid"), json!({"metadata": {"finalizers": null}})).await;
    until_gone(&api, &format!("{MAPS}/mid")).await;
    until_gone(&api, &format!("{MAPS}/root")).await;
    // One that owns nothing goes at once.
    map(&api, "alone", None, &[]).await;
    delete(&api, &format!("{MAPS}/alone"), "Foreground").await;
    until_gone(&api, &format!("{MAPS}/alone")).await;
}

#[tokio::test]
async fn what_names_an_owner_that_is_not_there_is_collected() {
    let world = World::start();
    let api = world.api();
    let nobody = json!("11111111-1111-1111-1111-111111111111");
    map(&api, "stray", Some(("nobody", &nobody)), &[]).await;
    until_gone(&api, &format!("{MAPS}/stray")).await;
    // The hostile twin: of two owners one is there.
    let owner = map(&api, "owner", None, &[]).await;
    map(&api, "child", Some(("owner", &owner)), &[]).await;
    let refs = json!([
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner},
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": nobody},
    ]);
    api.merge(&format!("{MAPS}/child"), json!({"metadata": {"ownerReferences": refs}})).await;
    map(&api, "later", Some(("nobody", &nobody)), &[]).await;
    until_gone(&api, &format!("{MAPS}/later")).await;
    api.get(&format!("{MAPS}/child")).await;
}

#[tokio::test]
async fn a_deployment_takes_over_the_pods_of_one_that_was_deleted_without_them() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let names = || async {
        let pods = api.get(PODS).await;
        let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
        pods["items"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    let path = format!("{DEPLOYMENTS}/web");
    let until_ready = || async {
        eventually(|| async { (api.table(&path).await[0][1] == "2/2").then_some(()) }).await;
    };
    api.create(deployment("web", "web", "v1", 2)).await;
    until_ready().await;
    let before = names().await;
    delete(&api, &path, "Orphan").await;
    until_gone(&api, &path).await;
    let owners = |set: &Value| set["metadata"]["ownerReferences"].as_array().map_or(0, Vec::len);
    eventually(|| async {
        let sets = api.get(SETS).await;
        (owners(&sets["items"][0]) == 0).then_some(())
    })
    .await;
    let made = api.create(deployment("web", "web", "v1", 2)).await;
    until_ready().await;
    let sets = api.get(SETS).await["items"].clone();
    assert_eq!(sets.as_array().unwrap().len(), 1);
    assert_eq!(sets[0]["metadata"]["ownerReferences"][0]["uid"], made["metadata"]["uid"]);
    assert_eq!(names().await, before);
}
