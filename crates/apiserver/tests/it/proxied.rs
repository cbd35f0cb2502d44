//! Requests that go on to pods.

use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::stub_node::{BREAKS, CLOSED, HTTP};
use crate::world::{World, deployment, eventually, kubelet, service};

const PODS: &str = "/api/v1/namespaces/default/pods";
const SERVICES: &str = "/api/v1/namespaces/default/services";

async fn world() -> World {
    let world = World::start();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "c", "ports": [{"containerPort": HTTP}]}]},
    });
    world.api().create(pod).await;
    world
}

#[tokio::test]
async fn a_request_reaches_a_pod_without_what_concerns_the_api() {
    let world = world().await;
    let api = world.api();
    let headers = [
        ("authorization", "Bearer secret"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("x-user", "me"),
    ];
    let path = format!("{PODS}/p:{HTTP}/proxy/a%2Fb//c?q=1&q=2");
    let (status, said) = api.request(Method::PUT, &path, &headers, None).await;
    let said = said.as_str().unwrap();
    assert_eq!(status, 200, "{said}");
    assert!(said.starts_with("PUT /a%2Fb//c?q=1&q=2 HTTP/1.1\r\n"), "{said}");
    assert!(said.contains("x-user: me") && said.contains("host: localhost:8080"), "{said}");
    assert!(!said.contains("secret") && !said.contains("x-hop"), "{said}");
    // Without a port the first that the pod names; without a path the root.
    let said = api.get(&format!("{PODS}/p/proxy")).await;
    assert!(said.as_str().unwrap().starts_with("GET / HTTP/1.1"), "{said}");
    let answer = api.open(Method::GET, &format!("{PODS}/p/proxy/redirect"), &[], None).await;
    assert_eq!(answer.headers()["location"], format!("{PODS}/p/proxy/login"));
    // An answer that breaks off is seen to.
    let answer = api.open(Method::GET, &format!("{PODS}/p/proxy/cut"), &[], None).await;
    assert!(answer.into_body().collect().await.is_err());
}

#[tokio::test]
async fn what_does_not_answer_is_named() {
    let world = world().await;
    for (target, code, text) in [
        (format!("p:{CLOSED}/proxy/"), 503, "port 9 of pod \"p\": connection refused"),
        (format!("p:{BREAKS}/proxy/"), 503, "port 10 of pod \"p\""),
        (
            "p/proxy/silent".to_owned(),
            503,
            "no answer within 2 s (limits.control.api_proxy_timeout)",
        ),
        ("p/proxy/switch".to_owned(), 503, "switches to another protocol"),
        ("p:http/proxy/".to_owned(), 400, "is no number"),
        ("https:p:443/proxy/".to_owned(), 400, "use port-forward"),
        ("a:b:c:d/proxy/".to_owned(), 400, "invalid pods request"),
        ("nobody/proxy/".to_owned(), 404, "pods \"nobody\" not found"),
    ] {
        let path = format!("{PODS}/{target}");
        let (status, said) = world.api().request(Method::GET, &path, &[], None).await;
        assert_eq!(status, code, "{target}: {said}");
        assert!(said["message"].as_str().unwrap().contains(text), "{target}: {said}");
    }
}

#[tokio::test]
async fn a_service_is_one_of_its_ready_pods() {
    let world = World::start();
    let api = world.api();
    let kubelet = tokio::spawn(kubelet(api.clone()));
    api.create(service("web", 8000)).await;
    let ask = |path: &str| {
        let (api, path) = (api.clone(), format!("{SERVICES}/{path}"));
        async move { api.request(Method::GET, &path, &[], None).await }
    };
    let (status, said) = ask("web/proxy/").await;
    assert_eq!((status.as_u16(), &said["reason"]), (503, &Value::from("ServiceUnavailable")));
    let mut web = deployment("web", "web", "v1", 2);
    let port = json!([{"containerPort": HTTP}]);
    web["spec"]["template"]["spec"]["containers"][0]["ports"] = port;
    api.create(web).await;
    api.merge(
        &format!("{SERVICES}/web"),
        json!({"spec": {"ports": [
            {"name": "http", "port": 8000, "targetPort": HTTP},
        ]}}),
    )
    .await;
    for path in ["web/proxy/a", "web:8000/proxy/a", "http:web:http/proxy/a"] {
        let said = eventually(|| async {
            let (status, said) = ask(path).await;
            (status == 200).then_some(said)
        })
        .await;
        assert!(said.as_str().unwrap().starts_with("GET /a HTTP/1.1"), "{path}: {said}");
    }
    let (status, said) = ask("web:9/proxy/a").await;
    assert_eq!(status, 503, "{said}");
    kubelet.abort();
}
