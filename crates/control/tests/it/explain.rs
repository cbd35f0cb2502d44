//! Explaining requests, and findings about objects.

use http::Method;
use ironmesh_control::api::Explanation;
use serde_json::{Value, json};

use crate::world::{Api, World, deployment, eventually, kubelet, service};

/// A small Bookinfo behind a gateway, with reviews in two versions.
async fn bookinfo(api: &Api) {
    let label = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    api.merge("/api/v1/namespaces/default", label).await;
    for (name, app, version) in [
        ("productpage-v1", "productpage", "v1"),
        ("reviews-v1", "reviews", "v1"),
        ("reviews-v2", "reviews", "v2"),
    ] {
        api.create(deployment(name, app, version, 1)).await;
    }
    for app in ["productpage", "reviews"] {
        api.create(service(app, 9080)).await;
    }
    let network = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "networking.istio.io/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let server =
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    let gateway = json!({"selector": {"istio": "ingressgateway"}, "servers": [server]});
    api.create(network("Gateway", "bookinfo-gateway", gateway)).await;
    let route = json!({"hosts": ["*"], "gateways": ["bookinfo-gateway"], "http": [{
        "match": [{"uri": {"exact": "/product"}}],
        "rewrite": {"uri": "/productpage"},
        "route": [{"destination": {"host": "productpage", "port": {"number": 9080}}}],
    }]});
    api.create(network("VirtualService", "bookinfo", route)).await;
    let subsets = json!({"host": "reviews", "subsets": [
        {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]});
    api.create(network("DestinationRule", "reviews", subsets)).await;
    let to = |subset: &str, weight: u32| json!({"destination": {"host": "reviews", "subset": subset}, "weight": weight});
    let split = json!({"hosts": ["reviews"], "http": [
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("v2", 100)], "timeout": "2s"},
        {"match": [{"uri": {"prefix": "/undefined"}}], "route": [to("v9", 100)]},
        {"route": [to("v1", 50), to("v2", 50)]},
    ]});
    api.create(network("VirtualService", "reviews", split)).await;
    let expected = 4;
    eventually(|| async {
        let pods = api.get("/api/v1/pods").await;
        let ready = |pod: &&Value| pod["status"]["podIP"].is_string();
        (pods["items"].as_array()?.iter().filter(ready).count() == expected).then_some(())
    })
    .await;
}

async fn explain(api: &Api, request: Value) -> Explanation {
    let (status, value) = api.request(Method::POST, "/ironmesh/explain", &[], Some(&request)).await;
    assert_eq!(status, 200, "{value}");
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn requests_are_followed_to_their_pod() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    bookinfo(&api).await;

    let page = json!({"method": "GET", "url": "http://127.0.0.1:8080/product?u=1"});
    let told = explain(&api, page).await;
    assert_eq!(told.hops.len(), 2, "{told:#?}");
    let [edge, inbound] = &told.hops[..] else { unreachable!() };
    assert_eq!(edge.listener, "gateway");
    assert_eq!(edge.reason.code(), "route");
    assert_eq!(edge.route.as_deref(), Some("default/bookinfo#0"));
    assert_eq!(edge.rewritten_path.as_deref(), Some("/productpage?u=1"));
    assert_eq!(edge.tls.as_deref(), Some("mutual"));
    assert_eq!((&*inbound.listener, &*inbound.path), ("inbound", "/productpage?u=1"));
    assert_eq!(inbound.mtls_mode.as_deref(), Some("PERMISSIVE"));
    assert!(told.outcome.contains("productpage-v1-"), "{}", told.outcome);

    let nothing = json!({"method": "GET", "url": "http://127.0.0.1:8080/nothing"});
    let told = explain(&api, nothing).await;
    assert_eq!(told.hops[0].response_code, Some(404));
    assert_eq!(told.hops[0].reason.code(), "no_route");
}

#[tokio::test]
async fn draws_headers_and_subsets_decide() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    bookinfo(&api).await;
    let ask = |headers: Value, path: &str, draw: Option<String>| {
        json!({
            "from": "productpage-v1", "method": "GET", "url": format!("http://reviews:9080{path}"),
            "headers": headers, "draw": draw,
        })
    };
    let jason = explain(&api, ask(json!([["end-user", "jason"]]), "/", None)).await;
    let hop = &jason.hops[0];
    assert_eq!((hop.listener.as_str(), hop.subset.as_deref()), ("outbound", Some("v2")));
    assert_eq!(hop.timeout, Some(std::time::Duration::from_secs(2)));
    assert!(jason.outcome.contains("reviews-v2-"), "{}", jason.outcome);

    let undefined = explain(&api, ask(json!([]), "/undefined", None)).await;
    assert_eq!(undefined.hops[0].response_code, Some(503));
    assert_eq!(undefined.hops[0].reason.code(), "undefined_subset");

    let mut subsets = std::collections::BTreeSet::new();
    for draw in 0..16u64 {
        let draw = format!("{:016x}", draw << 40);
        let told = explain(&api, ask(json!([]), "/", Some(draw.clone()))).await;
        let hop = &told.hops[0];
        assert_eq!(hop.draw.unwrap().to_string(), draw);
        assert_eq!(hop.backends.len(), 2);
        subsets.insert(hop.subset.clone().unwrap());
    }
    assert_eq!(subsets.len(), 2);
}

/// What a sender may not say is not seen, what every request carries is, as in the proxy.
#[tokio::test]
async fn requests_are_changed_where_they_come_in() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    bookinfo(&api).await;
    let to = json!([{"destination": {"host": "productpage", "port": {"number": 9080}}}]);
    let when = |condition: Value| json!({"match": [condition], "route": to});
    let route = json!({"spec": {"http": [
        when(json!({"headers": {"x-envoy-debug": {}}})),
        when(json!({"headers": {"x-request-id": {"exact": "mine"}}})),
        when(json!({"scheme": {"exact": "https"}})),
        when(json!({"headers": {"x-request-id": {}, "traceparent": {}, "x-forwarded-proto": {"exact": "http"}}})),
    ]}});
    let path = "/apis/networking.istio.io/v1beta1/namespaces/default/virtualservices/bookinfo";
    api.merge(path, route).await;
    let headers = json!([["x-envoy-debug", "1"], ["X-Request-Id", "mine"]]);
    let url = "http://127.0.0.1:8080/";
    let ask = json!({"method": "GET", "url": url, "headers": headers});
    let told = explain(&api, ask).await;
    assert_eq!(told.hops[0].route.as_deref(), Some("default/bookinfo#3"), "{told:#?}");

    let ask = json!({"method": "GET", "url": "http://127.0.0.1:8080/a/../%2fx%00"});
    let told = explain(&api, ask).await;
    assert_eq!(told.hops.len(), 1, "{told:#?}");
    assert_eq!(
        (told.hops[0].reason.code(), told.hops[0].response_code),
        ("bad_request", Some(400))
    );
    let ask = json!({"method": "GET", "url": "http://127.0.0.1:8080/a/../%2fx", "headers": []});
    assert_eq!(explain(&api, ask).await.hops[0].path, "/%2fx");

    for (url, why) in [
        ("https://127.0.0.1:8443/", "no TLS yet"),
        ("http://127.0.0.1:8080/a b", "not allowed in a URL"),
        ("http://127.0.0.1:8080/\u{e9}", "not allowed in a URL"),
    ] {
        let ask = json!({"method": "GET", "url": url});
        let (status, answer) =
            api.request(Method::POST, "/ironmesh/explain", &[], Some(&ask)).await;
        assert_eq!(status, 400, "{url}");
        assert!(answer["message"].as_str().unwrap().contains(why), "{answer}");
    }
}

#[tokio::test]
async fn what_passes_through_is_followed_too() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    bookinfo(&api).await;
    let reviews = api.get("/api/v1/namespaces/default/services/reviews").await;
    let ip = reviews["spec"]["clusterIP"].as_str().unwrap();
    let ask = |url: String, host: &str| json!({"from": "productpage-v1", "method": "GET", "url": url, "headers": [["Host", host]]});
    let foreign = explain(&api, ask(format!("http://{ip}:9080/"), "example.com")).await;
    // A request for a host that nobody knows goes to the service whose address was dialled.
    assert_eq!(foreign.hops[0].reason.code(), "default_route");
    assert!(foreign.outcome.contains("reviews-v"), "{}", foreign.outcome);
    assert!(!foreign.outcome.contains("in plaintext"), "{}", foreign.outcome);

    // Without a host the request is for the address.
    let unnamed = explain(&api, ask(format!("http://{ip}:9080/"), "")).await;
    assert_eq!(unnamed.hops[0].authority, format!("{ip}:9080"));
    assert_eq!(unnamed.hops[0].route.as_deref(), Some("default/reviews#2"));

    let outside = ask("http://example.com/x".to_owned(), "example.com");
    let outside = explain(&api, outside).await;
    assert!(outside.outcome.contains("goes to example.com:80"), "{}", outside.outcome);

    // TLS of the caller's own is not looked into: to an HTTP port it is no HTTP.
    let closed = explain(&api, ask("https://reviews:9080/".to_owned(), "reviews")).await;
    assert_eq!(closed.hops[0].response_code, Some(400));
    let closed = explain(&api, ask("https://example.com/".to_owned(), "example.com")).await;
    assert!(closed.outcome.contains("goes to example.com:443"), "{}", closed.outcome);
}

#[tokio::test]
async fn strict_mtls_refuses_a_caller_without_a_proxy() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let plain = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    api.create(plain).await;
    let label = json!({"metadata": {"labels": {"istio-injection": "enabled"}}});
    api.merge("/api/v1/namespaces/default", label).await;
    api.create(deployment("reviews-v1", "reviews", "v1", 1)).await;
    api.create(service("reviews", 9080)).await;
    eventually(|| async {
        let pods = api.table("/api/v1/namespaces/default/pods").await;
        pods.iter().any(|row| row[1] == "2/2").then_some(())
    })
    .await;
    let ask = json!({"from": "plain", "method": "GET", "url": "http://reviews:9080/"});
    let told = explain(&api, ask.clone()).await;
    assert!(told.outcome.contains("in plaintext"), "{}", told.outcome);
    let strict = json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
        "metadata": {"name": "default"}, "spec": {"mtls": {"mode": "STRICT"}},
    });
    api.create(strict).await;
    let told = explain(&api, ask).await;
    assert_eq!(told.hops[0].reason.code(), "plaintext_refused", "{told:#?}");
    assert_eq!(told.hops[0].mtls_mode.as_deref(), Some("STRICT"));
}

#[tokio::test]
async fn findings_name_object_and_field() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    bookinfo(&api).await;
    let findings = api.get("/ironmesh/findings?kind=VirtualService&name=reviews").await;
    let undefined = findings.as_array().unwrap().iter().find(|f| f["code"] == "IM0103").unwrap();
    assert_eq!(undefined["severity"], "warning");
    assert!(
        undefined["path"].as_str().unwrap().starts_with("spec.http[1].route[0]"),
        "{undefined}"
    );
}
