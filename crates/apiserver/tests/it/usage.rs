//! What pods and nodes take.

use http::Method;
use serde_json::json;

use crate::world::World;

const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";

#[tokio::test]
async fn pods_and_nodes_say_what_they_take() {
    let world = World::start();
    let api = world.api();
    for name in ["p", "idle"] {
        api.create(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "image": "c"}]},
        }))
        .await;
    }
    // So that clients know that there is something to ask.
    let groups = api.get("/apis").await;
    let groups = groups["groups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["name"] == "metrics.k8s.io").unwrap();
    assert_eq!(group["versions"][0]["groupVersion"], "metrics.k8s.io/v1beta1");
    let resources = api.get(METRICS).await;
    assert_eq!(resources["resources"][1]["kind"], "PodMetrics");

    // Of pods that do not run, and of containers whose pod is gone, there is nothing.
    for path in ["pods", "namespaces/default/pods", "pods?labelSelector=app%3Dp"] {
        let list = api.get(&format!("{METRICS}/{path}")).await;
        assert_eq!(list["kind"], "PodMetricsList");
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "{path}: {list}");
        let item = &list["items"][0];
        assert_eq!((&item["metadata"]["name"], &item["window"]), (&json!("p"), &json!("1s")));
        let usage = json!({"cpu": "250000000n", "memory": "3072Ki"});
        assert_eq!(item["containers"], json!([{"name": "c", "usage": usage}]));
    }
    let list = api.get(&format!("{METRICS}/namespaces/other/pods")).await;
    assert_eq!(list["items"], json!([]));
    let nodes = api.get(&format!("{METRICS}/nodes")).await;
    let name = nodes["items"][0]["metadata"]["name"].as_str().unwrap();
    let node = api.get(&format!("{METRICS}/nodes/{name}")).await;
    assert_eq!(node["kind"], "NodeMetrics");
    assert_eq!(node["usage"], json!({"cpu": "1500000000n", "memory": "1048576Ki"}));

    for (method, path, code) in [
        (Method::GET, "namespaces/default/pods/idle", 404),
        (Method::GET, "namespaces/default/pods/nobody", 404),
        (Method::GET, "nodes/other", 404),
        (Method::GET, "secrets", 404),
        (Method::GET, "pods?labelSelector=a%3D%3D%3D", 400),
        (Method::DELETE, "namespaces/default/pods/p", 405),
        (Method::POST, "pods", 405),
    ] {
        let path = format!("{METRICS}/{path}");
        let (status, said) = api.request(method, &path, &[], None).await;
        assert_eq!(status, code, "{path}: {said}");
    }
}
