//! What is decided is carried out: answers of the mesh's own, retries, ejections, limits, and rules
//! for connections.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ironmesh_model::policy::{ConnectionPool, OutlierDetection, TrafficPolicy};
use ironmesh_model::retry::{Retry, RetryOn};
use ironmesh_model::route::{Action, ConnectionMatch, ConnectionRule, DirectResponse, Rule};
use ironmesh_model::service::{Protocol, UpstreamTls, Workload};
use ironmesh_model::snapshot::Objects;
use ironmesh_model::{ListenerKind, Name};

use super::world::*;
use crate::client_hello::tests::{hello, record};

/// A proxy of a caller of these applications, by one rule.
fn by_rule(apps: &[&App], rule: Rule) -> Proxy {
    let objects = Objects { routes: vec![route(vec![rule])], ..objects(Protocol::Http, apps) };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

/// The same, by a policy for the destination.
fn by_policy(protocol: Protocol, apps: &[&App], traffic: TrafficPolicy) -> Proxy {
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(taking_turns(traffic));
    let objects = Objects { destination_policies: vec![policy], ..objects(protocol, apps) };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

fn retrying(attempts: u32, on: &str, per_try_timeout: Option<Duration>) -> Rule {
    let on = on.split(',').map(|word| RetryOn::parse(word).unwrap()).collect();
    let retry = Some(Retry { attempts, per_try_timeout, on, ..Retry::default() });
    Rule { retry, ..rule(&[("", 1)], None) }
}

fn status(status: u16) -> String {
    format!("HTTP/1.1 {status} x\r\ncontent-length: 1\r\n\r\nx")
}

/// An application that answers with these statuses, one after the other, and then with 200.
fn answering(statuses: &'static [u16]) -> (App, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let app = App::http(move |_| {
        let at = counter.fetch_add(1, Ordering::SeqCst);
        statuses.get(at).map_or_else(|| ok("yes"), |code| status(*code))
    });
    (app, asked)
}

#[test]
fn a_direct_response_is_given_and_nobody_is_asked() {
    let app = App::named("app");
    let body: Arc<[u8]> = b"short and stout".as_slice().into();
    let action = Action::Answer(DirectResponse { status: 418, body });
    let proxy = by_rule(&[&app], Rule { action, ..Rule::default() });
    let mut client = Wire::connect(&proxy);
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.as_str()), (418, "short and stout"));
        assert_eq!(answer.header("x-ironmesh-reason"), Some("direct_response"));
    }
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 4\r\n\r\nbody");
    assert_eq!(client.read_response(false).status, 418, "the body is read and dropped");
    client.send("HEAD / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    let head = client.read_response(true);
    assert_eq!((head.status, head.header("content-length")), (418, Some("15")));
    assert_eq!(client.get("/").status, 418, "the connection is as it should be");
    assert_eq!(app.connections(), 0);
}

#[test]
fn an_answer_that_is_to_be_retried_is_not_shown() {
    let (app, asked) = answering(&[503, 500]);
    let proxy = by_rule(&[&app], retrying(2, "5xx", None));
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 4\r\n\r\nbody");
    let answer = client.read_response(false);
    assert_eq!((answer.status, answer.body.as_str()), (200, "yes"));
    assert_eq!(asked.load(Ordering::SeqCst), 3);
}

#[test]
fn the_last_answer_is_given_when_no_attempts_are_left() {
    let (app, asked) = answering(&[503; 9]);
    let proxy = by_rule(&[&app], retrying(2, "503", None));
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let (app, asked) = answering(&[500]);
    let proxy = by_rule(&[&app], retrying(2, "503,gateway-error", None));
    assert_eq!(Wire::connect(&proxy).get("/").status, 500, "nobody asked for a retry of that");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn a_retry_goes_to_another_endpoint() {
    let (bad, good) = (App::http(|_| status(503)), App::named("good"));
    let proxy = by_rule(&[&bad, &good], retrying(1, "503", None));
    let mut client = Wire::connect(&proxy);
    for _ in 0..6 {
        assert_eq!(client.get("/").body, "good");
    }
}

#[test]
fn one_attempt_that_takes_too_long_is_followed_by_another() {
    let (silent, good) = (App::silent(), App::named("good"));
    // Long enough for a busy machine to answer within it.
    let patience = Some(Duration::from_secs(2));
    let proxy = by_rule(&[&silent, &good], retrying(3, "5xx", patience));
    let mut client = Wire::connect(&proxy);
    assert_eq!((client.get("/").body, client.get("/").body), ("good".into(), "good".into()));
    let patience = Some(Duration::from_millis(100));
    let alone = App::silent();
    let proxy = by_rule(&[&alone], retrying(1, "5xx", patience));
    let answer = Wire::connect(&proxy).get("/");
    assert_eq!(answer.status, 504);
    assert_eq!(answer.header("x-ironmesh-reason"), Some("per_try_timeout"));
}

#[test]
fn an_endpoint_that_fails_is_ejected() {
    let (bad, good) = (App::http(|_| status(500)), App::named("good"));
    let outlier = OutlierDetection {
        consecutive_5xx: 2,
        base_ejection: Duration::from_secs(3600),
        max_ejection_percent: 50,
        ..OutlierDetection::default()
    };
    let traffic = TrafficPolicy { outlier: Some(outlier), ..TrafficPolicy::default() };
    let proxy = by_policy(Protocol::Http, &[&bad, &good], traffic);
    let mut client = Wire::connect(&proxy);
    let statuses: Vec<u16> = (0..12).map(|_| client.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 500).count(), 2, "{statuses:?}");
    assert!(statuses[4..].iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn a_client_that_leaves_does_not_excuse_the_endpoint() {
    // Every other request is never answered, and its client leaves; the others fail.
    let app = App::http(|request| match request.head.starts_with("GET /leave ") {
        true => String::new(),
        false => status(500),
    });
    let good = App::named("good");
    let outlier = OutlierDetection {
        consecutive_5xx: 2,
        base_ejection: Duration::from_secs(3600),
        max_ejection_percent: 50,
        ..OutlierDetection::default()
    };
    let traffic = TrafficPolicy { outlier: Some(outlier), ..TrafficPolicy::default() };
    let proxy = by_policy(Protocol::Http, &[&app, &good], traffic);
    assert_eq!(Wire::connect(&proxy).get("/").status, 500);
    assert_eq!(Wire::connect(&proxy).get("/").body, "good");
    let mut leaving = Wire::connect(&proxy);
    leaving.send("GET /leave HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    drop(leaving);
    eventually("the request that was left", || proxy.lines.text().contains("/leave"));
    assert_eq!(Wire::connect(&proxy).get("/").body, "good");
    assert_eq!(Wire::connect(&proxy).get("/").status, 500, "the second failure in a row");
    for _ in 0..4 {
        assert_eq!(Wire::connect(&proxy).get("/").body, "good");
    }
}

#[test]
fn a_member_that_is_dialled_by_its_address_is_named_in_metrics() {
    let app = App::named("app");
    let own = workload("member");
    let member = Workload {
        id: own.id.clone(),
        owner: "member".into(),
        identity: identity("member"),
        labels: [("app", "member")].into_iter().collect(),
        meshed: true,
        tls: UpstreamTls::None,
        tls_at: Vec::new(),
        locality: "".into(),
        network: "".into(),
        node: "".into(),
    };
    let workloads = vec![(app.address.ip(), member)];
    let objects = Objects { workloads, ..objects(Protocol::Http, &[]) };
    let proxy = Proxy::start(ListenerKind::Outbound, app.address, objects);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: member-0.nowhere\r\n\r\n");
    assert_eq!(client.read_response(false).body, "app");
    eventually("the metrics", || {
        let page = proxy.registry.render();
        page.lines().any(|line| {
            line.starts_with("istio_requests_total{")
                && line.contains("destination_workload=\"member\"")
        })
    });
}

#[test]
fn what_is_beyond_the_limits_is_answered_at_once() {
    const CLIENTS: usize = 8;
    // Answers only when it is told to.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let app = App::http(move |_| {
        released.lock().unwrap().recv().unwrap();
        ok("late")
    });
    let limits =
        ConnectionPool { connections_max: Some(1), pending_max: Some(1), ..<_>::default() };
    let traffic = TrafficPolicy { pool: Some(limits), ..TrafficPolicy::default() };
    let proxy = by_policy(Protocol::Http, &[&app], traffic);
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    }
    // A worker that has no connection may open one beyond the limit; of the others one waits.
    let refused = || proxy.lines.text().matches(" 503 UO ").count();
    eventually("all but those that are served or wait are refused", || {
        (1..=2).contains(&app.connections()) && refused() == CLIENTS - 1 - app.connections()
    });
    (0..CLIENTS - refused()).for_each(|_| release.send(()).unwrap());
    let answers: Vec<u16> =
        clients.iter_mut().map(|client| client.read_response(false).status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 503).count(), refused());
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), CLIENTS - refused());
    assert!(app.connections() <= 2, "who waited got a connection that was there");
}

/// The service `reviews`, whose port declares this, with versions v1 and v2 and these rules for connections.
fn by_connection_rules(protocol: Protocol, apps: &[&App; 2], rules: Vec<ConnectionRule>) -> Proxy {
    let mut objects = objects(protocol, &[]);
    let endpoints = [("v1", apps[0]), ("v2", apps[1])];
    objects.services = vec![reviews(
        protocol,
        endpoints.iter().map(|(version, app)| endpoint(version, app.address, false)).collect(),
    )];
    let mut routes = route(Vec::new());
    routes.route.connection_rules = rules;
    objects.routes = vec![routes];
    objects.destination_policies = vec![subsets(&["v1", "v2"])];
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

fn connection_rule(place: &str, matched: ConnectionMatch, subset: &str) -> ConnectionRule {
    let backends = match rule(&[(subset, 1)], None).action {
        Action::Forward(backends) => backends,
        Action::Answer(_) | Action::Redirect(_) => Vec::new(),
    };
    ConnectionRule { place: place.into(), matches: vec![matched], backends }
}

/// Says its name and ends.
fn saying(name: &'static str) -> App {
    App::start(move |stream| Wire::new(stream).send(name))
}

#[test]
fn connections_go_where_the_rule_for_their_caller_says() {
    let (one, two) = (saying("one"), saying("two"));
    let of = |name: &str| ConnectionMatch {
        source_labels: [("app", name)].into_iter().collect(),
        ..ConnectionMatch::default()
    };
    let rules = vec![
        connection_rule("tcp[0]", of("other"), "v1"),
        connection_rule("tcp[1]", of("client"), "v2"),
    ];
    let proxy = by_connection_rules(Protocol::Tcp, &[&one, &two], rules);
    for _ in 0..4 {
        assert_eq!(Wire::connect(&proxy).read_to_end(), "two");
    }
}

#[test]
fn connections_go_where_the_rule_for_their_server_name_says() {
    let (one, two) = (saying("one"), saying("two"));
    let of = |name: &str| ConnectionMatch {
        server_names: vec![Name::from(name)],
        ..ConnectionMatch::default()
    };
    let rules = vec![
        connection_rule("tls[0]", of("a.example"), "v1"),
        connection_rule("tls[1]", of("*.b.example"), "v2"),
    ];
    let proxy = by_connection_rules(Protocol::Tls, &[&one, &two], rules);
    let ask = |bytes: &[u8], pieces: usize| {
        let mut client = Wire::connect(&proxy);
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            client.stream.write_all(piece).unwrap();
        }
        client.read_to_end()
    };
    let named = |name| record(&hello(&[b"h2"], name));
    for pieces in [1, 2, 7] {
        // Twice each: in turn they would come by chance.
        for _ in 0..2 {
            assert_eq!(ask(&named("a.example"), pieces), "one");
        }
        for _ in 0..2 {
            assert_eq!(ask(&named("x.b.example"), pieces), "two");
        }
    }
    // Everyone else gets the service as it is, one endpoint after the other.
    let mut others = [ask(&named("c.example"), 1), ask(b"no TLS at all", 1)];
    others.sort();
    assert_eq!(others, ["one", "two"]);
    let mut silent = [ask(b"", 1), ask(b"\x16\x03\x01\xff\xff\x01 and no more", 1)];
    silent.sort();
    assert_eq!(silent, ["one", "two"], "a client that waits for its server is not kept waiting");
}
