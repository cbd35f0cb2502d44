//! Evictions and what disruption budgets refuse; discovery in one answer.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::{Api, World};

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}})
}

async fn evict(api: &Api, name: &str, body: &Value) -> (StatusCode, Value) {
    let path = format!("/api/v1/namespaces/default/pods/{name}/eviction");
    let headers = [("content-type", "application/json")];
    api.request(Method::POST, &path, &headers, Some(body)).await
}

async fn ready_pod(api: &Api, name: &str) {
    api.create(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "ironmesh/sleep"}]},
    }))
    .await;
    let status = json!({"status": {
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    }});
    api.merge(&format!("/api/v1/namespaces/default/pods/{name}/status"), status).await;
}

#[tokio::test]
async fn a_budget_keeps_as_many_pods_as_it_says() {
    let world = World::start();
    let api = world.api();
    for name in ["a", "b"] {
        ready_pod(&api, name).await;
    }
    api.create(json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }))
    .await;
    let mut tried = eviction("a");
    tried["deleteOptions"] = json!({"dryRun": ["All"]});
    assert_eq!(evict(&api, "a", &tried).await.0, StatusCode::CREATED);
    assert!(api.try_get("/api/v1/namespaces/default/pods/a").await.is_some(), "it was only tried");
    let mut at_once = eviction("a");
    at_once["deleteOptions"] = json!({"gracePeriodSeconds": 0});
    assert_eq!(evict(&api, "a", &at_once).await.0, StatusCode::CREATED);
    assert!(api.try_get("/api/v1/namespaces/default/pods/a").await.is_none());
    let (code, refused) = evict(&api, "b", &eviction("b")).await;
    assert_eq!(
        (code, &refused["reason"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("TooManyRequests"))
    );
    let why = refused["details"]["causes"][0]["message"].as_str().unwrap();
    assert_eq!(why, "The disruption budget web needs 1 healthy pods and has 1 currently");
    assert!(api.try_get("/api/v1/namespaces/default/pods/b").await.is_some());
    // What makes no sense is refused.
    for (name, body, code) in [
        ("b", json!({"kind": "Pod"}), 400),
        ("b", json!([]), 400),
        ("b", eviction("a"), 400),
        ("nobody", eviction("nobody"), 404),
    ] {
        assert_eq!(evict(&api, name, &body).await.0.as_u16(), code, "{body}");
    }
    let service = "/api/v1/namespaces/default/services/kubernetes/eviction";
    let headers = [("content-type", "application/json")];
    let (code, _) =
        api.request(Method::POST, service, &headers, Some(&eviction("kubernetes"))).await;
    assert_eq!(code, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn discovery_is_one_answer_for_who_asks_for_it() {
    let world = World::start();
    let api = world.api();
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all = async |path: &str| {
        let (code, all) = api.request(Method::GET, path, &[("accept", accept)], None).await;
        assert_eq!(code, StatusCode::OK);
        assert_eq!(all["apiVersion"], "apidiscovery.k8s.io/v2");
        all["items"].as_array().unwrap().clone()
    };
    let core = all("/api").await;
    let resources = core[0]["versions"][0]["resources"].as_array().unwrap();
    let pods = resources.iter().find(|resource| resource["resource"] == "pods").unwrap();
    assert_eq!(
        (&pods["scope"], &pods["responseKind"]["kind"]),
        (&json!("Namespaced"), &json!("Pod"))
    );
    let parts = pods["subresources"].as_array().unwrap();
    let evictions = parts.iter().find(|part| part["subresource"] == "eviction").unwrap();
    let kind = json!({"group": "policy", "version": "v1", "kind": "Eviction"});
    assert_eq!(evictions["responseKind"], kind);
    let groups = all("/apis").await;
    for group in ["apps", "networking.istio.io", "authorization.k8s.io", "authentication.k8s.io"] {
        assert!(groups.iter().any(|other| other["metadata"]["name"] == group), "{group}");
    }
    // Without the word the answers are as they always were.
    assert_eq!(api.get("/apis").await["kind"], "APIGroupList");
    let reviews = api.get("/apis/authorization.k8s.io/v1").await;
    assert_eq!(reviews["resources"][0]["name"], "selfsubjectaccessreviews");
}
