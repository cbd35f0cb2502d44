//! StatefulSets and claims, with a kubelet that makes pods ready unless they are broken.

use http::Method;
use serde_json::{Value, json};

use crate::world::{Api, World, eventually, kubelet};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SET: &str = "/apis/apps/v1/namespaces/default/statefulsets/db";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn template(image: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": "db"}},
        "spec": {"containers": [{
            "name": "app", "image": image, "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        }]},
    })
}

fn set(policy: &str, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db"},
        "spec": {
            "replicas": 3,
            "serviceName": "dbs",
            "podManagementPolicy": policy,
            "selector": {"matchLabels": {"app": "db"}},
            "template": template(image),
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
            }],
        },
    })
}

/// Names of the pods with their images.
async fn pods(api: &Api) -> Vec<String> {
    let pods = api.get(PODS).await;
    let shown = |pod: &Value| {
        let image = pod["spec"]["containers"][0]["image"].as_str().unwrap();
        format!("{} {image}", pod["metadata"]["name"].as_str().unwrap())
    };
    pods["items"].as_array().unwrap().iter().map(shown).collect()
}

async fn until_pods(api: &Api, expected: &[&str]) {
    eventually(|| async { (pods(api).await == expected).then_some(()) }).await;
}

async fn until_ready(api: &Api, row: &str) {
    eventually(|| async { (api.table(SET).await[0][1] == row).then_some(()) }).await;
}

#[tokio::test]
async fn pods_come_in_order_with_names_and_claims_that_outlive_them() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(set("OrderedReady", "db:1")).await;
    until_ready(&api, "3/3").await;
    until_pods(&api, &["db-0 db:1", "db-1 db:1", "db-2 db:1"]).await;
    let pod = api.get(&format!("{PODS}/db-1")).await;
    let spec = &pod["spec"];
    assert_eq!((&spec["hostname"], &spec["subdomain"]), (&json!("db-1"), &json!("dbs")));
    let claim = json!({"name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}});
    assert_eq!(spec["volumes"], json!([claim]));
    assert_eq!(pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"], "1");
    let created = |name: &str| {
        let path = format!("{PODS}/{name}");
        let api = api.clone();
        async move { api.get(&path).await["metadata"]["resourceVersion"].clone() }
    };
    assert!(created("db-0").await.as_str() < created("db-2").await.as_str());
    let claims = api.table(CLAIMS).await;
    assert_eq!(claims.len(), 3);
    assert_eq!((&*claims[0][1], &*claims[0][3], &*claims[0][4]), ("Bound", "1Gi", "RWO"));
    // Each has its volume, of which the table tells, and which goes with it.
    let volumes = eventually(|| async {
        let volumes = api.table("/api/v1/persistentvolumes").await;
        (volumes.len() == 3 && volumes.iter().all(|row| row[4] == "Bound")).then_some(volumes)
    })
    .await;
    let mut rows: Vec<_> =
        volumes.iter().map(|row| [&*row[1], &*row[2], &*row[3], &*row[5]]).collect();
    rows.sort_unstable();
    assert_eq!(rows[0], ["1Gi", "RWO", "Delete", "default/data-db-0"]);
    assert!(volumes.iter().any(|row| row[0] == claims[0][2]), "{volumes:?}");
    // Down from the top, with the claims kept; and up again.
    api.merge(SET, json!({"spec": {"replicas": 1}})).await;
    until_pods(&api, &["db-0 db:1"]).await;
    assert_eq!(api.table(CLAIMS).await.len(), 3);
    api.merge(SET, json!({"spec": {"replicas": 2}})).await;
    until_ready(&api, "2/2").await;
    api.delete(SET).await;
    until_pods(&api, &[]).await;
    assert_eq!(api.table(CLAIMS).await.len(), 3);
}

#[tokio::test]
async fn a_rollout_goes_down_to_the_partition_and_stops_at_what_is_broken() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(set("OrderedReady", "db:1")).await;
    until_ready(&api, "3/3").await;
    let partition = json!({"rollingUpdate": {"partition": 2}});
    let spec = json!({"spec": {"template": template("db:2"), "updateStrategy": partition}});
    api.merge(SET, spec).await;
    until_pods(&api, &["db-0 db:1", "db-1 db:1", "db-2 db:2"]).await;
    until_ready(&api, "3/3").await;
    // One below the partition comes back as it was.
    api.delete(&format!("{PODS}/db-0")).await;
    until_ready(&api, "3/3").await;
    until_pods(&api, &["db-0 db:1", "db-1 db:1", "db-2 db:2"]).await;
    let all = json!({"rollingUpdate": {"partition": 0}});
    let broken = json!({"spec": {"template": template("broken:3"), "updateStrategy": all}});
    api.merge(SET, broken).await;
    until_pods(&api, &["db-0 db:1", "db-1 db:1", "db-2 broken:3"]).await;
    until_ready(&api, "2/3").await;
    // As Kubernetes documents it: the template is mended, and the stuck pod deleted by hand.
    api.merge(SET, json!({"spec": {"template": template("db:4")}})).await;
    api.delete(&format!("{PODS}/db-2")).await;
    until_pods(&api, &["db-0 db:4", "db-1 db:4", "db-2 db:4"]).await;
    eventually(|| async {
        let status = api.get(SET).await["status"].clone();
        (status["currentRevision"] == status["updateRevision"] && status["readyReplicas"] == 3)
            .then_some(())
    })
    .await;
    let merge = [("content-type", "application/merge-patch+json")];
    let body = json!({"spec": {"serviceName": "other"}});
    let (status, said) = api.request(Method::PATCH, SET, &merge, Some(&body)).await;
    assert_eq!(status, 422);
    assert!(said["message"].as_str().unwrap().contains("updates to statefulset spec"), "{said}");
}

/// Whatever the number of the first pod, the partition counts from it.
#[tokio::test]
async fn a_partition_is_counted_from_the_first_pod() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let mut set = set("OrderedReady", "db:1");
    set["spec"]["ordinals"] = json!({"start": 5});
    api.create(set).await;
    until_ready(&api, "3/3").await;
    let partition = json!({"rollingUpdate": {"partition": 1}});
    let spec = json!({"spec": {"template": template("db:2"), "updateStrategy": partition}});
    api.merge(SET, spec).await;
    until_pods(&api, &["db-5 db:1", "db-6 db:2", "db-7 db:2"]).await;
    api.delete(&format!("{PODS}/db-5")).await;
    until_ready(&api, "3/3").await;
    until_pods(&api, &["db-5 db:1", "db-6 db:2", "db-7 db:2"]).await;
}

#[tokio::test]
async fn parallel_pods_wait_for_none_and_on_delete_replaces_none() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(set("Parallel", "broken:1")).await;
    until_pods(&api, &["db-0 broken:1", "db-1 broken:1", "db-2 broken:1"]).await;
    let on_delete = json!({"type": "OnDelete", "rollingUpdate": null});
    let spec = json!({"replicas": 2, "updateStrategy": on_delete, "template": template("db:2")});
    api.merge(SET, json!({ "spec": spec })).await;
    until_pods(&api, &["db-0 broken:1", "db-1 broken:1"]).await;
    api.delete(&format!("{PODS}/db-0")).await;
    until_pods(&api, &["db-0 db:2", "db-1 broken:1"]).await;
    until_ready(&api, "1/2").await;
}

#[tokio::test]
async fn a_claim_goes_when_no_pod_uses_it_and_a_set_makes_another() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(set("OrderedReady", "db:1")).await;
    until_ready(&api, "3/3").await;
    let claim = format!("{CLAIMS}/data-db-1");
    let uid = api.get(&claim).await["metadata"]["uid"].clone();
    api.delete(&claim).await;
    assert_eq!(api.table(&claim).await[0][1], "Terminating");
    // One that nobody uses goes at once, so that the other was looked at, too.
    api.merge(SET, json!({"spec": {"replicas": 2}})).await;
    until_pods(&api, &["db-0 db:1", "db-1 db:1"]).await;
    let unused = format!("{CLAIMS}/data-db-2");
    api.delete(&unused).await;
    eventually(|| async { api.try_get(&unused).await.is_none().then_some(()) }).await;
    assert_eq!(api.get(&claim).await["metadata"]["uid"], uid);
    // With its last user it goes, and the pod that follows has a new one.
    api.delete(&format!("{PODS}/db-1")).await;
    eventually(|| async {
        let now = api.try_get(&claim).await?;
        (now["metadata"]["uid"] != uid).then_some(())
    })
    .await;
    until_ready(&api, "2/2").await;
    let merge = [("content-type", "application/merge-patch+json")];
    let body = json!({"spec": {"accessModes": ["ReadWriteMany"]}});
    assert_eq!(api.request(Method::PATCH, &claim, &merge, Some(&body)).await.0, 422);
    api.merge(&claim, json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})).await;
}

/// The hostile twin: names of claims become names of folders nowhere, and what is no claim is refused.
#[tokio::test]
async fn what_is_no_set_or_no_claim_is_refused() {
    let world = World::start();
    let api = world.api();
    let mut unknown = set("OrderedReady", "db:1");
    unknown["spec"]["volumeClaimTemplates"] = json!([]);
    let mut bad_name = set("OrderedReady", "db:1");
    bad_name["spec"]["volumeClaimTemplates"][0]["metadata"]["name"] = "../data".into();
    let mut policy = set("Sometimes", "db:1");
    policy["metadata"]["name"] = "x".into();
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "-1Gi"}}},
    });
    for (object, word) in [
        (unknown, "volumeMounts[0].name"),
        (bad_name, "volumeClaimTemplates[0].metadata.name"),
        (policy, "podManagementPolicy"),
        (claim, "storage"),
    ] {
        let (status, said) = api.try_create(object).await;
        assert_eq!(status, 422, "{said}");
        assert!(said["message"].as_str().unwrap().contains(word), "{said}");
    }
}
