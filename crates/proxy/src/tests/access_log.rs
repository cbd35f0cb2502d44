//! What the access log says of requests and of connections.

use ironmesh_model::ListenerKind;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::route::{Action, DirectResponse, PathRewrite, Rewrite, Rule};
use ironmesh_model::service::Protocol;
use ironmesh_model::settings::{AccessLogEncoding, OutboundPolicy};
use ironmesh_model::snapshot::Objects;
use serde_json::{Value, json};

use super::mesh::Mesh;
use super::world::*;

/// Starts a proxy whose log is in JSON.
fn logging(kind: ListenerKind, destination: std::net::SocketAddr, mut objects: Objects) -> Proxy {
    objects.settings.access_log_encoding = AccessLogEncoding::Json;
    Proxy::start(kind, destination, objects)
}

/// The lines of a log, once there are so many.
fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    eventually("the log lines", || proxy.lines.text().lines().count() >= count);
    let lines: Vec<Value> =
        proxy.lines.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// Checks these fields of a line.
fn assert_says(line: &Value, expected: Value) {
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(line[name], *value, "{name} of {line:#}");
    }
}

#[test]
fn a_request_is_logged_as_its_client_sent_it_and_where_it_went() {
    let app = App::http(|_| "HTTP/1.1 201 Made\r\ncontent-length: 4\r\n\r\nmade".to_owned());
    let rewrite = Rewrite {
        path: Some(PathRewrite::Matched("/new".into())),
        authority: Some("other.example".into()),
    };
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.routes =
        vec![route(vec![Rule { rewrite: Some(rewrite), ..rule(&[("v0", 1)], Some("/old")) }])];
    objects.destination_policies = vec![subsets(&["v0"])];
    let proxy = logging(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    for _ in 0..2 {
        client.send(concat!(
            "POST /old/1?a=b HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n",
            "user-agent: test/1\r\nx-forwarded-for: 203.0.113.9\r\nx-request-id: mine\r\n\r\nhello"
        ));
        assert_eq!(client.read_response(false).status, 201);
    }
    let own = client.stream.local_addr().unwrap();
    let lines = lines(&proxy, 2);
    let expected = json!({
        "method": "POST",
        "path": "/old/1?a=b",
        "protocol": "HTTP/1.1",
        "response_code": 201,
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "connection_termination_details": null,
        "upstream_transport_failure_reason": null,
        "bytes_received": 5,
        "bytes_sent": 4,
        "x_forwarded_for": "203.0.113.9",
        "user_agent": "test/1",
        "request_id": "mine",
        "authority": "reviews:9080",
        "upstream_host": app.address.to_string(),
        "endpoint": app.address.to_string(),
        "upstream_cluster": "outbound|9080|v0|reviews.default.svc.cluster.local",
        "downstream_local_address": service_address().to_string(),
        "downstream_remote_address": own.to_string(),
        "requested_server_name": null,
        "route_name": "default/reviews#0",
        "subset": "v0",
        "reason": "route",
        "listener": "outbound",
        "peer": null,
    });
    for line in &lines {
        assert_says(line, expected.clone());
        for there in ["upstream_service_time", "upstream_local_address", "version", "draw"] {
            assert!(!line[there].is_null(), "{there} of {line:#}");
        }
    }
    assert_eq!(lines[0]["upstream_local_address"], lines[1]["upstream_local_address"]);
    assert_ne!(lines[0]["draw"], lines[1]["draw"], "requests of one id draw anew");
}

#[test]
fn versions_are_logged_in_their_words() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET /one HTTP/1.0\r\nhost: reviews:9080\r\n\r\n");
    client.read_response(false);
    super::http2::block_on(async {
        let client = super::http2::connect(&proxy).await;
        let request = http::Request::get("http://reviews:9080/two").body(()).unwrap();
        super::http2::call(client, request, Vec::new()).await;
    });
    for words in ["\"GET /one HTTP/1.0\"", "\"GET /two HTTP/2\""] {
        eventually(words, || proxy.lines.text().contains(words));
    }
}

#[test]
fn why_the_mesh_answered_itself_is_logged_in_the_words_of_envoy() {
    let app = App::named("a");
    let mut objects = objects(Protocol::Http, &[&app]);
    let body = b"short".as_slice().into();
    let teapot = Rule {
        action: Action::Answer(DirectResponse { status: 418, body }),
        ..rule(&[], Some("/tea"))
    };
    objects.routes = vec![route(vec![
        teapot,
        rule(&[("none", 1)], Some("/subset")),
        rule(&[("", 1)], Some("/reviews")),
    ])];
    objects.settings.outbound_policy = OutboundPolicy::RegistryOnly;
    let proxy = logging(ListenerKind::Outbound, service_address(), objects.clone());
    let mut client = Wire::connect(&proxy);
    let mut sizes = Vec::new();
    for path in ["/other", "/subset", "/tea"] {
        sizes.push(client.get(path).body.len());
    }
    client.send("GET / HTTP/1.1\r\nhost: nowhere.example\r\n\r\n");
    sizes.push(client.read_response(false).body.len());
    objects.services[0].endpoints.clear();
    objects.settings.access_log_encoding = AccessLogEncoding::Json;
    proxy.change(objects);
    sizes.push(client.get("/reviews").body.len());
    client.send("GET / HTTP/1.1\r\nhost: reviews\r\nx y: 1\r\n\r\n");
    sizes.push(client.read_response(false).body.len());
    let lines = lines(&proxy, 6);
    let outbound = "outbound|9080||reviews.default.svc.cluster.local";
    for (at, (status, flags, details, cluster)) in [
        (404, "NR", "route_not_found", Value::Null),
        (
            503,
            "NC",
            "cluster_not_found",
            json!("outbound|9080|none|reviews.default.svc.cluster.local"),
        ),
        (418, "-", "direct_response", Value::Null),
        (502, "NR", "direct_response", json!("BlackHoleCluster")),
        (503, "UH", "no_healthy_upstream", json!(outbound)),
        (400, "DPE", "bad_request", Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let expected = json!({
            "response_code": status,
            "response_flags": flags,
            "response_code_details": details,
            "upstream_cluster": cluster,
            "bytes_sent": sizes[at],
            "upstream_host": null,
            "upstream_service_time": null,
        });
        assert!(sizes[at] > 0);
        assert_says(&lines[at], expected);
    }
    eventually("the metrics", || {
        let text = proxy.registry.render();
        let counted = |labels: &[&str]| {
            let mut lines = text.lines().filter(|line| line.starts_with("istio_requests_total"));
            lines.any(|line| labels.iter().all(|label| line.contains(label)))
        };
        counted(&["destination_service_name=\"BlackHoleCluster\"", "response_code=\"502\""])
            && counted(&["response_code=\"418\"", "reason=\"direct_response\""])
            && counted(&["response_code=\"400\"", "response_flags=\"DPE\""])
    });
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_named_and_so_is_what_was_wrong() {
    let nowhere = Nowhere::new();
    let services = vec![reviews(Protocol::Http, vec![endpoint("v0", nowhere.address, false)])];
    let proxy = logging(
        ListenerKind::Outbound,
        service_address(),
        Objects { services, ..Objects::default() },
    );
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    let refused = "upstream_reset_before_response_started{remote_connection_failure}";
    assert_says(
        &lines(&proxy, 1)[0],
        json!({
            "response_flags": "UF,URX",
            "response_code_details": refused,
            "upstream_host": nowhere.address.to_string(),
            "upstream_transport_failure_reason": null,
        }),
    );
    let mesh = Mesh::new();
    let app = App::named("a");
    let impostor = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "impostor");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v0", impostor.address, true)])];
    let proxy = logging(
        ListenerKind::Outbound,
        service_address(),
        Objects { services, ..Objects::default() },
    );
    mesh.certify(&proxy, "client");
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    let line = &lines(&proxy, 1)[0];
    assert_says(line, json!({ "reason": "peer_untrusted", "response_code_details": refused }));
    assert!(line["upstream_transport_failure_reason"].is_string(), "{line:#}");
}

#[test]
fn an_answer_that_breaks_off_is_logged_by_where_it_broke_off() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.read_request() {
            match request.head.split(' ').nth(1).unwrap() {
                "/before" => return,
                "/after" => return wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"),
                _ => wire.send(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\nx\r\n",
                ),
            }
        }
    });
    let proxy =
        logging(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[&app]));
    for (at, (path, flags, details, sent)) in [
        ("/before", "UC", "upstream_reset_before_response_started{connection_termination}", None),
        ("/after", "UC", "upstream_reset_after_response_started{connection_termination}", Some(4)),
        ("/odd", "UPE", "upstream_reset_after_response_started{protocol_error}", Some(4)),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = Wire::connect(&proxy);
        client.send(&format!(
            "POST {path} HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n"
        ));
        client.read_to_end();
        let line = &lines(&proxy, at + 1)[at];
        assert_says(line, json!({ "response_flags": flags, "response_code_details": details }));
        if let Some(sent) = sent {
            assert_says(line, json!({ "response_code": 200, "bytes_sent": sent }));
        }
    }
}

#[test]
fn an_inbound_request_is_logged_with_its_caller() {
    let mesh = Mesh::new();
    let app = App::named("abc");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let inbound = logging(ListenerKind::Inbound, app.address, objects);
    mesh.certify(&inbound, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    assert_eq!(Wire::connect(&outbound).get("/").body, "abc");
    let line = &lines(&inbound, 1)[0];
    assert_says(
        line,
        json!({
            "listener": "inbound",
            "reason": "inbound",
            "response_code_details": "via_upstream",
            "upstream_cluster": format!("inbound|{}||", app.address.port()),
            "upstream_host": app.address.to_string(),
            "peer": "spiffe://cluster.local/ns/default/sa/client",
            "bytes_sent": 3,
        }),
    );
    assert!(inbound.registry.render().contains("destination_service_name=\"reviews\""));
}

#[test]
fn what_passes_through_is_logged_as_that() {
    let app = App::named("a");
    let proxy = logging(ListenerKind::Outbound, app.address, Objects::default());
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: nowhere.example\r\n\r\n");
    assert_eq!(client.read_response(false).body, "a");
    assert_says(
        &lines(&proxy, 1)[0],
        json!({ "upstream_cluster": "PassthroughCluster", "reason": "passthrough" }),
    );
    assert!(proxy.registry.render().contains("destination_service_name=\"PassthroughCluster\""));
}

#[test]
fn an_opaque_connection_is_logged_with_its_bytes() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_exact(4).unwrap();
        wire.send("answer");
    });
    let proxy =
        logging(ListenerKind::Outbound, service_address(), objects(Protocol::Undeclared, &[&app]));
    let mut client = Wire::connect(&proxy);
    client.send("ask\n");
    assert_eq!(client.read_to_end(), "answer");
    let own = client.stream.local_addr().unwrap();
    drop(client);
    let line = &lines(&proxy, 1)[0];
    assert_says(
        line,
        json!({
            "method": null,
            "response_code": 0,
            "response_flags": "-",
            "response_code_details": null,
            "bytes_received": 4,
            "bytes_sent": 6,
            "upstream_host": app.address.to_string(),
            "upstream_cluster": "outbound|9080||reviews.default.svc.cluster.local",
            "downstream_local_address": service_address().to_string(),
            "downstream_remote_address": own.to_string(),
            "reason": "default_route",
        }),
    );
    assert!(line["upstream_local_address"].is_string(), "{line:#}");
    let text = proxy.registry.render();
    for (name, count) in [
        ("istio_tcp_connections_opened_total", 1),
        ("istio_tcp_connections_closed_total", 1),
        ("istio_tcp_sent_bytes_total", 6),
        ("istio_tcp_received_bytes_total", 4),
    ] {
        let mut lines = text.lines().filter(|line| line.starts_with(name));
        let is_counted = lines.any(|line| {
            line.contains("destination_workload=\"reviews-v0\"")
                && line.ends_with(&format!(" {count}"))
        });
        assert!(is_counted, "{name} {count}: {text}");
    }
}

#[test]
fn an_opaque_connection_that_does_not_come_about_is_logged_and_counted() {
    let nowhere = Nowhere::new();
    let services = vec![reviews(Protocol::Tcp, vec![endpoint("v0", nowhere.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let proxy = logging(ListenerKind::Outbound, service_address(), objects);
    assert!(Wire::connect(&proxy).is_ended());
    let details = "upstream_reset_before_response_started{remote_connection_failure}";
    assert_says(
        &lines(&proxy, 1)[0],
        json!({ "response_flags": "UF", "response_code_details": details }),
    );
    let text = proxy.registry.render();
    for name in ["istio_tcp_connections_opened_total", "istio_tcp_connections_closed_total"] {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains("response_flags=\"UF\"") && line.ends_with(" 1"), "{line}");
    }
}

#[test]
fn without_an_access_log_nothing_is_logged() {
    let app = App::named("a");
    let mut objects = objects(Protocol::Http, &[&app]);
    objects.settings.access_log = false;
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects.clone());
    let mut client = Wire::connect(&proxy);
    client.get("/silent");
    // The next request is read when the one before was noted.
    client.get("/next");
    objects.settings.access_log = true;
    proxy.change(objects);
    client.get("/heard");
    eventually("the log line", || proxy.lines.text().contains("/heard"));
    assert!(!proxy.lines.text().contains("/silent"));
}
