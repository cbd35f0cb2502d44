//! Explaining requests, and findings about objects.

use std::time::Duration;

use ironmesh_control::api::Explanation;
use ironmesh_control::plane::Refused;
use serde_json::{Value, json};

use crate::world::{World, gateway_pod, plain_pod, pod, service};

/// A small Bookinfo behind a gateway, with reviews in two versions.
fn bookinfo() -> World {
    let world = World::start();
    world.put(gateway_pod("10.77.0.2"));
    world.put(pod("productpage", "v1", "10.77.0.3"));
    world.put(pod("reviews", "v1", "10.77.0.4"));
    world.put(pod("reviews", "v2", "10.77.0.5"));
    world.put(service("productpage", "10.96.0.3"));
    world.put(service("reviews", REVIEWS));
    let server =
        json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    let gateway = json!({"selector": {"istio": "ingressgateway"}, "servers": [server]});
    world.put(network("Gateway", "bookinfo-gateway", gateway));
    let route = json!({"hosts": ["*"], "gateways": ["bookinfo-gateway"], "http": [{
        "match": [{"uri": {"exact": "/product"}}],
        "rewrite": {"uri": "/productpage"},
        "route": [{"destination": {"host": "productpage", "port": {"number": 9080}}}],
    }]});
    world.put(network("VirtualService", "bookinfo", route));
    let subsets = json!({"host": "reviews", "subsets": [
        {"name": "v1", "labels": {"version": "v1"}}, {"name": "v2", "labels": {"version": "v2"}}]});
    world.put(network("DestinationRule", "reviews", subsets));
    let to = |subset: &str, weight: u32| json!({"destination": {"host": "reviews", "subset": subset}, "weight": weight});
    let split = json!({"hosts": ["reviews"], "http": [
        {"match": [{"headers": {"end-user": {"exact": "jason"}}}], "route": [to("v2", 100)], "timeout": "2s"},
        {"match": [{"uri": {"prefix": "/undefined"}}], "route": [to("v9", 100)]},
        {"route": [to("v1", 50), to("v2", 50)]},
    ]});
    world.put(network("VirtualService", "reviews", split));
    world
}

const REVIEWS: &str = "10.96.0.4";

fn network(kind: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name});
    json!({"apiVersion": "networking.istio.io/v1beta1", "kind": kind, "metadata": metadata, "spec": spec})
}

async fn explain(world: &World, request: Value) -> Explanation {
    world.explain(request).await.unwrap()
}

#[tokio::test]
async fn requests_are_followed_to_their_pod() {
    let world = bookinfo();

    let page = json!({"method": "GET", "url": "http://127.0.0.1:8080/product?u=1"});
    let told = explain(&world, page).await;
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
    let told = explain(&world, nothing).await;
    assert_eq!(told.hops[0].response_code, Some(404));
    assert_eq!(told.hops[0].reason.code(), "no_route");
}

#[tokio::test]
async fn draws_headers_and_subsets_decide() {
    let world = bookinfo();
    let ask = |headers: Value, path: &str, draw: Option<String>| {
        json!({
            "from": "productpage-v1", "method": "GET", "url": format!("http://reviews:9080{path}"),
            "headers": headers, "draw": draw,
        })
    };
    let jason = explain(&world, ask(json!([["end-user", "jason"]]), "/", None)).await;
    let hop = &jason.hops[0];
    assert_eq!((hop.listener.as_str(), hop.subset.as_deref()), ("outbound", Some("v2")));
    assert_eq!(hop.timeout, Some(Duration::from_secs(2)));
    assert!(jason.outcome.contains("reviews-v2-"), "{}", jason.outcome);

    let undefined = explain(&world, ask(json!([]), "/undefined", None)).await;
    assert_eq!(undefined.hops[0].response_code, Some(503));
    assert_eq!(undefined.hops[0].reason.code(), "undefined_subset");

    let mut subsets = std::collections::BTreeSet::new();
    for draw in 0..16u64 {
        let draw = format!("{:016x}", draw << 40);
        let told = explain(&world, ask(json!([]), "/", Some(draw.clone()))).await;
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
    let world = bookinfo();
    let to = json!([{"destination": {"host": "productpage", "port": {"number": 9080}}}]);
    let when = |condition: Value| json!({"match": [condition], "route": to});
    let route = json!({"hosts": ["*"], "gateways": ["bookinfo-gateway"], "http": [
        when(json!({"headers": {"x-envoy-debug": {}}})),
        when(json!({"headers": {"x-request-id": {"exact": "mine"}}})),
        when(json!({"scheme": {"exact": "https"}})),
        when(json!({"headers": {"x-request-id": {}, "traceparent": {}, "x-forwarded-proto": {"exact": "http"}}})),
    ]});
    world.put(network("VirtualService", "bookinfo", route));
    let headers = json!([["x-envoy-debug", "1"], ["X-Request-Id", "mine"]]);
    let url = "http://127.0.0.1:8080/";
    let ask = json!({"method": "GET", "url": url, "headers": headers});
    let told = explain(&world, ask).await;
    assert_eq!(told.hops[0].route.as_deref(), Some("default/bookinfo#3"), "{told:#?}");

    let ask = json!({"method": "GET", "url": "http://127.0.0.1:8080/a/../%2fx%00"});
    let told = explain(&world, ask).await;
    assert_eq!(told.hops.len(), 1, "{told:#?}");
    assert_eq!(
        (told.hops[0].reason.code(), told.hops[0].response_code),
        ("bad_request", Some(400))
    );
    let ask = json!({"method": "GET", "url": "http://127.0.0.1:8080/a/../%2fx", "headers": []});
    assert_eq!(explain(&world, ask).await.hops[0].path, "/%2fx");

    for (url, why) in [
        ("https://127.0.0.1:8443/", "no Gateway that selects it has a server for TLS there"),
        ("http://127.0.0.1:8080/a b", "not allowed in a URL"),
        ("http://127.0.0.1:8080/\u{e9}", "not allowed in a URL"),
    ] {
        let ask = json!({"method": "GET", "url": url});
        let Refused::BadRequest(said) = world.explain(ask).await.unwrap_err() else {
            panic!("{url}")
        };
        assert!(said.contains(why), "{said}");
    }
}

/// Behind trusted proxies the client is whom they name: for its endpoint, and for the scheme.
#[tokio::test]
async fn a_gateway_believes_the_proxies_in_front_of_it() {
    let world = bookinfo();
    let by_client = json!({"host": "reviews", "trafficPolicy": {"loadBalancer": {"consistentHash": {"useSourceIp": true}}}});
    world.put(network("DestinationRule", "reviews", by_client));
    let route = json!({"hosts": ["*"], "gateways": ["bookinfo-gateway"], "http": [
        {"match": [{"scheme": {"exact": "https"}}], "directResponse": {"status": 418}},
        {"route": [{"destination": {"host": "reviews", "port": {"number": 9080}}}]},
    ]});
    world.put(network("VirtualService", "bookinfo", route));
    let endpoints = async || {
        let mut found = std::collections::BTreeSet::new();
        for client in 1..20 {
            let headers = json!([["x-forwarded-for", format!("203.0.113.{client}")]]);
            let ask = json!({"method": "GET", "url": "http://127.0.0.1:8080/", "headers": headers});
            found.insert(explain(&world, ask).await.hops[0].endpoint.clone().unwrap());
        }
        found.len()
    };
    let by_https = json!({
        "method": "GET", "url": "http://127.0.0.1:8080/", "headers": [["x-forwarded-proto", "https"]],
    });
    assert_eq!(endpoints().await, 1);
    assert_eq!(explain(&world, by_https.clone()).await.hops[0].response_code, None);
    let mut behind = gateway_pod("10.77.0.2");
    let config = "{gatewayTopology: {numTrustedProxies: 1}}";
    behind["metadata"]["annotations"] = json!({"proxy.istio.io/config": config});
    world.put(behind);
    assert_eq!(endpoints().await, 2);
    assert_eq!(explain(&world, by_https).await.hops[0].response_code, Some(418));
}

#[tokio::test]
async fn what_passes_through_is_followed_too() {
    let world = bookinfo();
    let ip = REVIEWS;
    let ask = |url: String, host: &str| json!({"from": "productpage-v1", "method": "GET", "url": url, "headers": [["Host", host]]});
    let foreign = explain(&world, ask(format!("http://{ip}:9080/"), "example.com")).await;
    // A request for a host that nobody knows goes to the service whose address was dialled.
    assert_eq!(foreign.hops[0].reason.code(), "default_route");
    assert!(foreign.outcome.contains("reviews-v"), "{}", foreign.outcome);
    assert!(!foreign.outcome.contains("in plaintext"), "{}", foreign.outcome);

    // Without a host the request is for the address.
    let unnamed = explain(&world, ask(format!("http://{ip}:9080/"), "")).await;
    assert_eq!(unnamed.hops[0].authority, format!("{ip}:9080"));
    assert_eq!(unnamed.hops[0].route.as_deref(), Some("default/reviews#2"));

    let outside = ask("http://example.com/x".to_owned(), "example.com");
    let outside = explain(&world, outside).await;
    assert!(outside.outcome.contains("goes to example.com:80"), "{}", outside.outcome);

    // TLS of the caller's own is not looked into: to an HTTP port it is no HTTP.
    let closed = explain(&world, ask("https://reviews:9080/".to_owned(), "reviews")).await;
    assert_eq!(closed.hops[0].response_code, Some(400));
    let closed = explain(&world, ask("https://example.com/".to_owned(), "example.com")).await;
    assert!(closed.outcome.contains("goes to example.com:443"), "{}", closed.outcome);
}

#[tokio::test]
async fn strict_mtls_refuses_a_caller_without_a_proxy() {
    let world = World::start();
    world.put(plain_pod("plain", "v1", "10.77.0.2"));
    world.put(pod("reviews", "v1", "10.77.0.3"));
    world.put(service("reviews", REVIEWS));
    let ask = json!({"from": "plain-v1", "method": "GET", "url": "http://reviews:9080/"});
    let told = explain(&world, ask.clone()).await;
    assert!(told.outcome.contains("in plaintext"), "{}", told.outcome);
    let strict = json!({
        "apiVersion": "security.istio.io/v1beta1", "kind": "PeerAuthentication",
        "metadata": {"name": "default"}, "spec": {"mtls": {"mode": "STRICT"}},
    });
    world.put(strict);
    let told = explain(&world, ask).await;
    assert_eq!(told.hops[0].reason.code(), "plaintext_refused", "{told:#?}");
    assert_eq!(told.hops[0].mtls_mode.as_deref(), Some("STRICT"));
}

#[tokio::test]
async fn findings_name_object_and_field() {
    let world = bookinfo();
    let findings =
        world.plane.findings(None, Some("VirtualService"), Some("reviews")).await.unwrap();
    let undefined = findings.iter().find(|f| f.finding.code.to_string() == "IM0103").unwrap();
    assert_eq!(undefined.severity, ironmesh_model::Severity::Warning);
    let path = &undefined.finding.path;
    assert!(path.starts_with("spec.http[1].route[0]"), "{path}");
}

/// What a rule says of time and retries, and what a request says itself, as the proxy takes it.
#[tokio::test]
async fn retries_and_times_are_told() {
    let world = bookinfo();
    let rule = json!({
        "timeout": "3s",
        "retries": {"attempts": 2, "perTryTimeout": "1s", "retryOn": "5xx,429", "backoff": "10ms",
            "retryIgnorePreviousHosts": false},
        "route": [{"destination": {"host": "reviews"}}],
    });
    world.put(network("VirtualService", "reviews", json!({"hosts": ["reviews"], "http": [rule]})));
    let ask = |headers: Value| json!({"from": "productpage-v1", "method": "GET", "url": "http://reviews:9080/", "headers": headers});
    let told = explain(&world, ask(json!([]))).await;
    let hop = &told.hops[0];
    let retry = hop.retry.as_ref().unwrap();
    assert_eq!(hop.timeout, Some(Duration::from_secs(3)));
    assert_eq!((retry.attempts, retry.on.join(",").as_str()), (2, "5xx,429"));
    assert_eq!(retry.per_try_timeout, Some(Duration::from_secs(1)));
    assert_eq!(retry.backoff, Duration::from_millis(10));
    assert!(!retry.avoids_tried && !retry.asked);

    let asks = json!([["x-envoy-max-retries", "7"], ["x-envoy-upstream-rq-timeout-ms", "500"]]);
    let told = explain(&world, ask(asks)).await;
    let retry = told.hops[0].retry.as_ref().unwrap();
    assert_eq!((retry.attempts, retry.asked), (7, true));
    assert_eq!(told.hops[0].timeout, Some(Duration::from_millis(500)));
    // Where it comes in nobody retries, and from outside nobody asks.
    assert!(told.hops[1].retry.is_none());
    let asks = json!([["x-envoy-max-retries", "7"], ["x-forwarded-for", "203.0.113.7"]]);
    let told = explain(&world, ask(asks)).await;
    assert_eq!(told.hops[0].retry.as_ref().unwrap().attempts, 2);
}
