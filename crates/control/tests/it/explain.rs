//! Explaining requests, and findings about objects.

use std::time::Duration;

use ironmesh_control::api::Explanation;
use ironmesh_control::plane::Refused;
use ironmesh_model::Event;
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

/// The Service of the gateway has its ports at other numbers, and the node and the host have more.
#[tokio::test]
async fn who_comes_to_a_gateway_by_another_port_is_told_where_it_leads() {
    let world = bookinfo();
    let mut behind = gateway_pod("10.77.0.2");
    behind["metadata"]["annotations"] =
        json!({"proxy.istio.io/config": "{gatewayTopology: {proxyProtocol: {}}}"});
    behind["spec"]["containers"][0]["ports"] =
        json!([{"containerPort": 80, "hostPort": 8081}, {"containerPort": 443, "hostPort": 8444}]);
    world.put(behind);
    let port = |name: &str, port: u16, target: u16, node: u16| json!({"name": name, "port": port, "targetPort": target, "nodePort": node});
    world.put(json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "edge", "namespace": "istio-system"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.96.0.9", "selector": {"istio": "ingressgateway"},
            "ports": [port("http2", 8080, 80, 30080), port("https", 8443, 443, 30443)],
        },
    }));
    let server = |number: u16, protocol: &str, tls: Value| json!({"port": {"number": number, "name": protocol, "protocol": protocol}, "hosts": ["*"], "tls": tls});
    let servers = [
        server(80, "HTTP", json!({"httpsRedirect": true})),
        server(443, "HTTPS", json!({"mode": "SIMPLE", "credentialName": "own"})),
    ];
    let gateway = json!({"selector": {"istio": "ingressgateway"}, "servers": servers});
    world.put(network("Gateway", "bookinfo-gateway", gateway));
    let service = "Service istio-system/edge";
    for (url, leads, location) in [
        (
            "http://a.com:8080/x",
            Some(format!("port 8080 of {service} leads to port 80 here")),
            "https://a.com:8443/x",
        ),
        (
            "http://a.com:30080/x",
            Some(format!("port 30080 of the node, by {service} leads to port 80 here")),
            "https://a.com:30443/x",
        ),
        (
            "http://a.com:8081/x",
            Some("port 8081 of the host leads to port 80 here".to_owned()),
            "https://a.com:8444/x",
        ),
        ("http://a.com/x", None, "https://a.com/x"),
    ] {
        let told = explain(&world, json!({"method": "GET", "url": url})).await;
        let hop = &told.hops[0];
        let given = hop.answer_headers.iter().find(|(name, _)| name == "location");
        assert_eq!(given.map(|(_, value)| value.as_str()), Some(location), "{hop:#?}");
        let [notes @ .., protocol] = &hop.notes[..] else { panic!("{hop:#?}") };
        assert_eq!(notes.first(), leads.as_ref());
        assert!(protocol.contains("PROXY protocol"), "{protocol}");
    }
}

/// One Service in front of two databases: the subset says which pods, the destination which port.
#[tokio::test]
async fn a_service_with_two_databases_leads_each_port_to_its_own() {
    let world = bookinfo();
    let database = |version: &str, ip: &str, port: u16| {
        let mut pod = pod("storage", version, ip);
        pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": port}]);
        pod
    };
    for (version, ips, port) in
        [("redis", ["10.77.1.1", "10.77.1.2"], 6379), ("mysql", ["10.77.1.3", "10.77.1.4"], 3306)]
    {
        for ip in ips {
            let mut pod = database(version, ip, port);
            let name = format!("{version}-{}", ip.replace('.', "-"));
            pod["metadata"]["name"] = name.clone().into();
            pod["metadata"]["uid"] = format!("uid-of-{name}").into();
            world.put(pod);
        }
    }
    let mut service = service("storage", "10.96.0.8");
    service["spec"]["ports"] =
        json!([{"name": "tcp-redis", "port": 6379}, {"name": "tcp-mysql", "port": 3306}]);
    world.put(service);
    let subset = |name: &str| json!({"name": name, "labels": {"version": name}});
    let subsets = json!({"host": "storage", "subsets": [subset("redis"), subset("mysql")]});
    world.put(network("DestinationRule", "storage", subsets));
    let rule = |port: u16, subset: &str| {
        json!({
            "match": [{"port": port}],
            "route": [{"destination": {"host": "storage", "port": {"number": port}, "subset": subset}}],
        })
    };
    let rules = json!({"hosts": ["storage"], "tcp": [rule(6379, "redis"), rule(3306, "mysql")]});
    world.put(network("VirtualService", "storage", rules));
    for (port, ips) in [(6379, ["10.77.1.1", "10.77.1.2"]), (3306, ["10.77.1.3", "10.77.1.4"])] {
        let mut met = std::collections::BTreeSet::new();
        for draw in 0..64u64 {
            let ask = json!({
                "from": "productpage-v1", "method": "GET", "url": format!("tcp://storage:{port}"),
                "draw": format!("{:016x}", draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            });
            let told = explain(&world, ask).await;
            met.insert(told.hops[0].endpoint.clone().unwrap());
        }
        let expected = ips.map(|ip| format!("{ip}:{port}"));
        assert_eq!(met.into_iter().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn what_an_endpoint_is_told_and_asked_for_is_said() {
    let world = bookinfo();
    let mut raw = service("raw", "10.96.0.7");
    raw["spec"]["selector"] = json!({"app": "reviews"});
    raw["spec"]["ports"] = json!([{"name": "tcp", "port": 7000}]);
    world.put(raw);
    for host in ["reviews", "raw"] {
        let policy = json!({"host": host, "trafficPolicy": {
            "proxyProtocol": {"version": "V2"},
            "tunnel": {"protocol": "CONNECT", "targetHost": "far.test", "targetPort": 443},
        }});
        world.put(network("DestinationRule", host, policy));
    }
    let to = json!([{"route": [{"destination": {"host": "reviews"}}]}]);
    world.put(network("VirtualService", "reviews", json!({"hosts": ["reviews"], "http": to})));
    let notes = async |url: &str| {
        let ask = json!({"from": "productpage-v1", "method": "GET", "url": url});
        explain(&world, ask).await.hops[0].notes.clone()
    };
    let told = "the endpoint is told who calls by the PROXY protocol, V2";
    // A request goes through no tunnel.
    assert_eq!(notes("http://reviews:9080/").await, [told]);
    let tunnel = "the endpoint is asked by CONNECT for a tunnel to far.test:443";
    assert_eq!(notes("tcp://raw:7000").await, [told, tunnel]);
    assert_eq!(notes("http://productpage:9080/").await, [""; 0]);
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

/// A port of its own is told with the policy that says so, and its callers speak to it accordingly.
#[tokio::test]
async fn what_a_port_takes_is_told_with_the_policy_that_says_so() {
    let world = bookinfo();
    let policy = |spec: Value| {
        let mut spec = spec;
        spec["selector"] = json!({"matchLabels": {"app": "reviews"}});
        json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "reviews"}, "spec": spec,
        })
    };
    let ask = json!({"from": "productpage-v1", "method": "GET", "url": "http://reviews:9080/"});
    let told = async |spec: Value| {
        world.put(policy(spec));
        let told = explain(&world, ask.clone()).await;
        let [caller, workload] = &told.hops[..] else { panic!("{told:#?}") };
        let by = workload.events.iter().find_map(|event| match event {
            Event::Takes { by, port: 9080, .. } => Some(by.clone()),
            _ => None,
        });
        (caller.tls.clone().unwrap(), workload.mtls_mode.clone().unwrap(), by.unwrap())
    };
    let of = |tls: &str, mode: &str, by: &str| (tls.to_owned(), mode.to_owned(), by.to_owned());
    let whole = "PeerAuthentication default/reviews";
    let of_port = "PeerAuthentication default/reviews, for this port";
    let strict = json!({"mode": "STRICT"});
    assert_eq!(told(json!({"mtls": strict})).await, of("mutual", "STRICT", whole));
    let off = json!({"mtls": strict, "portLevelMtls": {"9080": {"mode": "DISABLE"}}});
    assert_eq!(told(off).await, of("plaintext", "DISABLE", of_port));
    let on = json!({"mtls": {"mode": "DISABLE"}, "portLevelMtls": {"9080": strict}});
    assert_eq!(told(on).await, of("mutual", "STRICT", of_port));
    let other = json!({"mtls": strict, "portLevelMtls": {"9081": {"mode": "DISABLE"}}});
    assert_eq!(told(other).await, of("mutual", "STRICT", whole));
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
