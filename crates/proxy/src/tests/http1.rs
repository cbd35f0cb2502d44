//! HTTP/1 through an outbound proxy, whole or in pieces, well or badly meant.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::route::{PathRewrite, Rewrite, Rule};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;

use super::world::*;
#[test]
fn requests_go_round_robin_over_kept_connections() {
    let apps = [App::named("a"), App::named("b"), App::named("c")];
    let proxy = outbound(Protocol::Http, &apps.each_ref());
    let mut client = Wire::connect(&proxy);
    let answers: String = (0..9).map(|_| client.get("/").body).collect();
    assert_eq!(answers, "abcabcabc");
    for app in &apps {
        assert_eq!(app.connections(), 1);
    }
}

#[test]
fn round_robin_is_cyclic_over_all_workers() {
    let apps = [App::named("a"), App::named("b"), App::named("c")];
    let proxy = outbound(Protocol::Http, &apps.each_ref());
    let mut clients: Vec<Wire> = (0..4).map(|_| Wire::connect(&proxy)).collect();
    let answers: String = (0..12).map(|n| clients[n % 4].get("/").body).collect();
    assert_eq!(answers, "abc".repeat(4));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = App::http(|request| ok(request.head.split(' ').nth(1).unwrap()));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let requests: String =
        (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nhost: reviews:9080\r\n\r\n")).collect();
    client.send(&requests);
    for n in 0..20 {
        assert_eq!(client.read_response(false).body, format!("/{n}"));
    }
}

#[test]
fn bodies_and_trailers_go_both_ways() {
    let app = App::http(|request| {
        let body = format!("{}|{}", request.body, request.trailers.trim());
        format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx-sum: 7\r\n\r\n",
            body.len()
        )
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("POST /a HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.read_response(false).body, "hello|");
    client.send(concat!(
        "POST /b HTTP/1.1\r\nhost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n",
        "3\r\nfoo\r\n3;x=y\r\nbar\r\n0\r\nx-check: 9\r\n\r\n"
    ));
    let response = client.read_response(false);
    assert_eq!(response.body, "foobar|x-check: 9");
    assert_eq!(response.trailers.trim(), "x-sum: 7");
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_large_body_arrives_whole() {
    let app = App::http(|request| ok(&request.body));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let body: String = (0..300_000).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
    let length = body.len();
    client.send(&format!(
        "PUT / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    assert!(client.read_response(false).body == body);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn answers_without_a_body_keep_the_connection() {
    let app = App::http(|request| match request.head.split(' ').next().unwrap() {
        "HEAD" => "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n".to_owned(),
        "PUT" => "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "OPTIONS" => "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n".to_owned(),
        _ => ok("body"),
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for (method, status) in [("HEAD", 200), ("PUT", 204), ("OPTIONS", 304)] {
        client.send(&format!("{method} / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n"));
        let response = client.read_response(true);
        assert_eq!(response.status, status);
        if method == "HEAD" {
            assert_eq!(response.header("content-length"), Some("12"));
        }
    }
    assert_eq!(client.get("/").body, "body");
}

#[test]
fn a_client_that_expects_continue_is_told_by_the_application() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let head = wire.read_until("\r\n\r\n").unwrap();
        assert!(head.contains("expect: 100-continue"), "{head}");
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        let body = wire.read_exact(5).unwrap();
        wire.send(&ok(&body));
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n",
        "expect: 100-continue\r\n\r\n"
    ));
    assert_eq!(client.read_response(false).status, 100);
    client.send("hello");
    assert_eq!(client.read_response(false).body, "hello");
}

#[test]
fn an_upgraded_connection_is_a_tunnel_of_its_own() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let head = wire.read_until("\r\n\r\n").unwrap();
        assert!(head.contains("upgrade: websocket"), "{head}");
        assert!(head.contains("connection: upgrade"), "{head}");
        wire.send("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhi ");
        let word = wire.read_exact(4).unwrap();
        wire.send(&word);
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "GET /chat HTTP/1.1\r\nhost: reviews:9080\r\nconnection: Upgrade\r\n",
        "upgrade: websocket\r\n\r\nping"
    ));
    let response = client.read_response(false);
    assert_eq!((response.status, response.header("upgrade")), (101, Some("websocket")));
    assert_eq!(client.read_exact(7).unwrap(), "hi ping");
    assert!(client.is_ended());
    drop(client);
    eventually("a log line with the bytes of both directions", || {
        proxy.lines.text().contains(" 101 - via_upstream - \"-\" 4 7 ")
    });
}

#[test]
fn old_clients_are_served() {
    let app = App::http(|_| {
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_owned()
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.0\r\nhost: reviews:9080\r\n\r\n");
    let response = client.read_response(false);
    assert_eq!(response.body, "hi");
    assert_eq!(response.header("transfer-encoding"), None);
    assert!(client.is_ended());
}

#[test]
fn an_endpoint_that_is_gone_is_passed_over() {
    let app = App::named("a");
    let mut objects = objects(Protocol::Http, &[&app]);
    let nowhere = [Nowhere::new(), Nowhere::new()];
    for (version, nowhere) in ["x", "y"].into_iter().zip(&nowhere) {
        objects.services[0].endpoints.push(endpoint(version, nowhere.address, false));
    }
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    for _ in 0..6 {
        client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nhi");
        assert_eq!(client.read_response(false).body, "a");
    }
}

#[test]
fn nothing_that_answers_is_a_503_with_its_reason() {
    let mut objects = objects(Protocol::Http, &[]);
    let nowhere = Nowhere::new();
    objects.services[0].endpoints.push(endpoint("x", nowhere.address, false));
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    let response = client.get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-ironmesh-reason"), Some("connect_failed"));
    let mut none = self::objects(Protocol::Http, &[]);
    none.services[0].endpoints.clear();
    proxy.change(none);
    let response = client.get("/");
    assert_eq!(response.header("x-ironmesh-reason"), Some("no_endpoints"));
    assert_eq!(response.body, "no healthy upstream");
}

#[test]
fn an_answer_that_breaks_off_is_broken_off() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    client.read_until("\r\n\r\n").unwrap();
    assert_eq!(client.read_to_end(), "part");
    eventually("a log line", || proxy.lines.text().contains(" UC "));
}

#[test]
fn an_answer_that_is_not_http_is_a_502() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("220 smtp.example ESMTP\r\n\r\n");
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let response = Wire::connect(&proxy).get("/");
    assert_eq!(response.status, 502);
    assert_eq!(response.header("x-ironmesh-reason"), Some("upstream_protocol"));
}

#[test]
fn a_client_that_leaves_is_noted_and_its_request_given_up() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        assert!(wire.is_ended());
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the request to arrive", || app.connections() == 1);
    drop(client);
    eventually("a log line", || proxy.lines.text().contains(" DC "));
    app.finish();
}

#[test]
fn bad_requests_are_answered_and_never_forwarded() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
        ),
        ("GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505),
        ("GET http://u@reviews:9080/ HTTP/1.1\r\nhost: reviews:9080\r\n\r\n", 400),
        ("GET http://reviews:9080/ HTTP/1.1\r\n\r\n", 400),
        ("GET http://reviews:9080/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET ftp://reviews:9080/ HTTP/1.1\r\nhost: reviews:9080\r\n\r\n", 400),
        ("CONNECT reviews:9080 HTTP/1.1\r\nhost: reviews:9080\r\n\r\n", 400),
    ] {
        let mut client = Wire::connect(&proxy);
        client.send(request);
        assert_eq!(client.read_response(false).status, status, "{request}");
    }
    let mut client = Wire::connect(&proxy);
    client.send(&format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "y".repeat(300)));
    assert_eq!(client.read_response(false).status, 400, "no name is as long");
    let mut client = Wire::connect(&proxy);
    let field = format!("x-a: {}\r\n", "y".repeat(70_000));
    client.send(&format!("GET / HTTP/1.1\r\nhost: a\r\n{field}\r\n"));
    assert_eq!(client.read_response(false).status, 431);
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_bad_chunk_is_not_forwarded() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        assert!(wire.read_request().is_none(), "the request was completed");
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "POST / HTTP/1.1\r\nhost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n",
        "3\r\nfoo\r\nzz\r\nbar\r\n0\r\n\r\n"
    ));
    assert_eq!(client.read_response(false).status, 400);
    app.finish();
}

#[test]
fn a_rule_rewrites_and_a_timeout_ends() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.read_request() {
            if request.head.starts_with("GET /slow") {
                wire.is_ended();
                return;
            }
            wire.send(&ok(&request.head));
        }
    });
    let mut objects = objects(Protocol::Http, &[&app]);
    let mut rewriting = rule(&[("", 1)], Some("/old"));
    rewriting.rewrite = Some(Rewrite {
        path: Some(PathRewrite::Matched("/new".into())),
        authority: Some("other".into()),
    });
    rewriting.headers.request.set = vec![("x-added".into(), "1".into())];
    rewriting.headers.response.remove = vec!["content-type".into()];
    let timeout = Some(Duration::from_millis(100));
    let timed = Rule { timeout, ..rule(&[("", 1)], Some("/slow")) };
    objects.routes = vec![route(vec![rewriting, timed, rule(&[("", 1)], None)])];
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    let seen = client.get("/old/x?y=1").body;
    assert!(seen.starts_with("GET /new/x?y=1 HTTP/1.1\r\nhost: other\r\n"), "{seen}");
    assert!(seen.contains("\r\nx-added: 1\r\n"), "{seen}");
    let response = client.get("/slow");
    assert_eq!((response.status, &*response.body), (504, "upstream request timeout"));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn rules_cannot_change_how_messages_are_framed() {
    let app = App::http(|request| ok(&format!("{} {}", request.body, request.head)));
    let mut objects = objects(Protocol::Http, &[&app]);
    let mut removing = rule(&[("", 1)], None);
    let framing = vec!["content-length".into(), "transfer-encoding".into()];
    removing.headers.request.remove = framing.clone();
    removing.headers.request.set = vec![(":path".into(), "/other".into())];
    removing.headers.response.remove = framing;
    objects.routes = vec![route(vec![removing])];
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhello");
    let response = client.read_response(false);
    assert!(response.header("content-length").is_some());
    assert!(response.body.starts_with("hello POST / HTTP/1.1"), "{}", response.body);
    assert!(!response.body.contains("/other"), "{}", response.body);
    client.send(concat!(
        "POST / HTTP/1.1\r\nhost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n"
    ));
    assert!(client.read_response(false).body.starts_with("hello POST"));
}

#[test]
fn weights_hold_and_an_undefined_subset_is_a_503() {
    let apps = [App::named("v1"), App::named("v2")];
    let mut objects = objects(Protocol::Http, &[]);
    for (app, version) in apps.iter().zip(["v1", "v2"]) {
        objects.services[0].endpoints.push(endpoint(version, app.address, false));
    }
    objects.destination_policies = vec![subsets(&["v1", "v2"])];
    objects.routes =
        vec![route(vec![rule(&[("v9", 1)], Some("/none")), rule(&[("v1", 75), ("v2", 25)], None)])];
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    let first = (0..1000).filter(|_| client.get("/").body == "v1").count();
    // Binomial(1000, 3/4): six sigma are 82.
    assert!(first.abs_diff(750) < 82, "{first}");
    let response = client.get("/none");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-ironmesh-reason"), Some("undefined_subset"));
}

#[test]
fn an_unknown_host_goes_where_it_was_going() {
    let app = App::named("outside");
    let proxy = Proxy::start(ListenerKind::Outbound, app.address, Objects::default());
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: example.com\r\n\r\n");
    assert_eq!(client.read_response(false).body, "outside");
    eventually("a log line", || proxy.lines.text().contains("PassthroughCluster"));
}

#[test]
fn an_answer_that_switches_unasked_is_a_502() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
        assert!(wire.is_ended());
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let response = Wire::connect(&proxy).get("/");
    assert_eq!(response.status, 502);
    assert_eq!(response.header("x-ironmesh-reason"), Some("upstream_protocol"));
}

#[test]
fn te_is_said_to_be_for_one_connection() {
    let app = App::http(|request| ok(&request.head));
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send(concat!(
        "GET / HTTP/1.1\r\nhost: reviews:9080\r\nte: trailers, deflate\r\n",
        "connection: te\r\n\r\n"
    ));
    let seen = client.read_response(false).body;
    assert!(seen.contains("\r\nte: trailers\r\n"), "{seen}");
    assert!(seen.contains("\r\nconnection: te\r\n"), "{seen}");
}

#[test]
fn a_change_of_the_configuration_breaks_no_request() {
    let apps = [App::named("old"), App::named("new")];
    let proxy = outbound(Protocol::Http, &[&apps[0]]);
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").body, "old");
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nh");
    eventually("the request to arrive", || apps[0].connections() == 1);
    proxy.change(objects(Protocol::Http, &[&apps[1]]));
    client.send("i");
    let finished = client.read_response(false).body;
    assert!(matches!(&*finished, "old" | "new"), "{finished}");
    assert_eq!(client.get("/").body, "new");
}

#[test]
fn an_old_client_does_not_take_a_broken_answer_for_a_whole_one() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n");
        reset(wire);
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.0\r\nhost: reviews:9080\r\n\r\n");
    let mut answer = Vec::new();
    let ended = client.stream.read_to_end(&mut answer);
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn connections_are_spread_over_the_workers() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut clients: Vec<Wire> = (0..20).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").body, "a");
    }
    let loads: Vec<usize> =
        proxy.process.loads.iter().map(|load| load.load(Ordering::Relaxed)).collect();
    assert_eq!(loads, [10, 10]);
}

#[test]
fn every_answer_has_one_date() {
    let app = App::http(|request| match request.head.starts_with("GET /dated") {
        true => "HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n".to_owned(),
        false => ok(""),
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let dated = client.get("/dated").head;
    assert!(dated.contains("date: today\r\n") && dated.matches("date:").count() == 1, "{dated}");
    let ours = |response: Response| response.header("date").is_some_and(|d| d.ends_with(" GMT"));
    assert!(ours(client.get("/")));
    client.send("GET bad HTTP/1.1\r\n\r\n");
    assert!(ours(client.read_response(false)));
    proxy.change(objects(Protocol::Http, &[]));
    assert!(ours(Wire::connect(&proxy).get("/")));
}
