//! What rules do beside forwarding: failures on purpose, redirects, cross-origin answers, copies.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ironmesh_model::draw::Share;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::retry::{Retry, RetryOn};
use ironmesh_model::route::{
    Abort, AbortStatus, Action, Cors, Delay, Faults, HeaderOp, HeaderOps, Mirror, PathRewrite,
    Redirect, RedirectPath, Rewrite, Rule,
};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use ironmesh_model::text_match::TextMatch;
use ironmesh_model::{ListenerKind, ResourceKey};
use tokio::time::Instant;

use super::http2::{block_on, call, connect, grpc};
use super::world::*;

/// A proxy of a caller of endpoints with these versions, by one rule.
fn caller(apps: &[(&str, &App)], rule: Rule, limits: ProxyLimits) -> Proxy {
    let endpoints = apps.iter().map(|(version, app)| endpoint(version, app.address, false));
    let versions: Vec<&str> = apps.iter().map(|(version, _)| *version).collect();
    let objects = Objects {
        services: vec![reviews(Protocol::Http, endpoints.collect())],
        destination_policies: vec![subsets(&versions)],
        routes: vec![route(vec![rule])],
        ..Objects::default()
    };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    Proxy::begin(Setup { limits, ..setup })
}

fn by_rule(app: &App, rule: Rule) -> Proxy {
    caller(&[("v1", app)], rule, ProxyLimits::default())
}

fn to_v1() -> Rule {
    rule(&[("v1", 1)], None)
}

fn faulty(delay: Option<Duration>, abort: Option<AbortStatus>) -> Rule {
    let faults = Faults {
        delay: delay.map(|by| Delay { by, share: Share::ALL }),
        abort: abort.map(|with| Abort { with, share: Share::ALL }),
    };
    Rule { faults: Some(Box::new(faults)), ..to_v1() }
}

#[test]
fn an_abort_is_answered_and_never_tried_again() {
    let app = App::named("app");
    let retry = Retry {
        attempts: 5,
        per_try_timeout: None,
        on: vec![RetryOn::Status(555)],
        ..Retry::default()
    };
    let rule = Rule { retry: Some(retry), ..faulty(None, Some(AbortStatus::Http(555))) };
    let proxy = by_rule(&app, rule);
    let mut client = Wire::connect(&proxy);
    for _ in 0..2 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.body.as_str()), (555, "fault filter abort"));
        assert_eq!(answer.header("x-ironmesh-reason"), Some("fault_abort"));
    }
    assert_eq!(app.connections(), 0);
    eventually("the log", || {
        proxy.lines.text().matches(" 555 FI fault_filter_abort ").count() == 2
    });
}

#[test]
fn grpc_is_aborted_with_a_status_of_its_own() {
    let app = App::silent();
    for (with, expected) in [(AbortStatus::Grpc(7), "7"), (AbortStatus::Http(503), "14")] {
        let proxy = by_rule(&app, faulty(None, Some(with)));
        block_on(async {
            let client = connect(&proxy).await;
            let (status, headers, _, _) = call(client, grpc("/"), Vec::new()).await;
            assert_eq!(status, 200);
            assert_eq!(headers["grpc-status"], expected);
        });
    }
    let proxy = by_rule(&app, faulty(None, Some(AbortStatus::Grpc(7))));
    assert_eq!(Wire::connect(&proxy).get("/").status, 200, "as Envoy answers who is not gRPC");
    assert_eq!(app.connections(), 0);
}

/// A delay is no part of the timeout, and comes before an abort.
#[test]
fn a_delay_comes_first() {
    let app = App::named("app");
    let delay = Duration::from_millis(300);
    let rule = Rule { timeout: Some(Duration::from_millis(250)), ..faulty(Some(delay), None) };
    let proxy = by_rule(&app, rule);
    let begun = Instant::now();
    assert_eq!(Wire::connect(&proxy).get("/").body, "app");
    assert!(begun.elapsed() >= delay);
    eventually("the log", || proxy.lines.text().contains(" 200 DI via_upstream "));
    let proxy = by_rule(&app, faulty(Some(delay), Some(AbortStatus::Http(500))));
    let begun = Instant::now();
    assert_eq!(Wire::connect(&proxy).get("/").status, 500);
    assert!(begun.elapsed() >= delay);
    eventually("the log", || proxy.lines.text().contains(" 500 DI,FI "));
}

#[test]
fn a_delay_ends_with_its_client() {
    let app = App::named("app");
    let proxy = by_rule(&app, faulty(Some(Duration::from_secs(3_600)), None));
    // One that stays, so that the rule is known when the next one comes.
    let mut held = Wire::connect(&proxy);
    held.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    let is_route = |key: &ResourceKey| matches!(key, ResourceKey::Route(_));
    eventually("the rule", || proxy.workload.views.load().held().any(|(key, _)| is_route(key)));
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    drop(client);
    eventually("the log", || proxy.lines.text().contains(" 0 DI,DC "));
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 9\r\n\r\npart");
    drop(client);
    eventually("the log", || proxy.lines.text().matches(" 0 DI,DC ").count() == 2);
    assert_eq!(proxy.lines.text().matches("default/reviews#0").count(), 2);
    assert_eq!(app.connections(), 0);
    drop(held);
}

#[test]
fn a_redirect_names_the_place() {
    let app = App::named("app");
    let redirect = Redirect {
        status: 308,
        scheme: Some("https".into()),
        authority: Some("new.example".into()),
        port: None,
        path: Some(RedirectPath::Prefix("/new".into())),
    };
    let own = HeaderOp { set: vec![("x-own".into(), "1".into())], ..HeaderOp::default() };
    let rule = Rule {
        action: Action::Redirect(Box::new(redirect)),
        headers: HeaderOps { response: own, ..HeaderOps::default() },
        ..rule(&[], Some("/old"))
    };
    let proxy = by_rule(&app, rule);
    let answer = Wire::connect(&proxy).get("/old/page?q=1");
    assert_eq!((answer.status, answer.body.as_str()), (308, ""));
    assert_eq!(answer.header("location"), Some("https://new.example/new/page?q=1"));
    assert_eq!(answer.header("x-own"), Some("1"));
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(app.connections(), 0);
}

/// What the mesh answers instead of an endpoint gets the header operations, too.
#[test]
fn failures_get_the_header_operations_of_the_rule() {
    let gone = Nowhere::new();
    let objects = Objects {
        services: vec![reviews(Protocol::Http, vec![endpoint("v1", gone.address, false)])],
        destination_policies: vec![subsets(&["v1"])],
        routes: vec![route(vec![Rule {
            headers: HeaderOps {
                response: HeaderOp {
                    set: vec![("x-own".into(), "1".into())],
                    ..HeaderOp::default()
                },
                ..HeaderOps::default()
            },
            ..to_v1()
        }])],
        ..Objects::default()
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let answer = Wire::connect(&proxy).get("/");
    assert_eq!((answer.status, answer.header("x-own")), (503, Some("1")));
}

#[test]
fn a_rule_wins_over_its_weighted_destinations() {
    let app = App::http(|request| ok(&request.head.to_ascii_lowercase()));
    let op = |value: &str| HeaderOps {
        request: HeaderOp { set: vec![("x-who".into(), value.into())], ..HeaderOp::default() },
        ..HeaderOps::default()
    };
    let mut rule = Rule { headers: op("rule"), ..rule(&[("v1", 1), ("v1", 1)], None) };
    let Action::Forward(backends) = &mut rule.action else { panic!("it forwards") };
    backends.iter_mut().for_each(|backend| backend.headers = op("destination"));
    let proxy = by_rule(&app, rule);
    let seen = Wire::connect(&proxy).get("/").body;
    assert!(seen.contains("x-who: rule"), "{seen}");
}

#[test]
fn a_path_is_rewritten_by_expression() {
    let app = App::http(|request| ok(request.head.lines().next().unwrap()));
    let path = PathRewrite::Regex { pattern: "^/v([0-9]+)/".into(), by: r"/\1/".into() };
    let rewrite = Some(Rewrite { path: Some(path), authority: None });
    let proxy = by_rule(&app, Rule { rewrite, ..to_v1() });
    assert_eq!(Wire::connect(&proxy).get("/v12/a%2Fb?v1/").body, "GET /12/a%2Fb?v1/ HTTP/1.1");
}

fn cors() -> Rule {
    let cors = Cors {
        allow_origins: vec![TextMatch::Exact("https://a.example".into())],
        allow_methods: Some("GET,PUT".into()),
        expose_headers: Some("x-shown".into()),
        max_age: Some(60),
        ..Cors::default()
    };
    // A rule may take the origin away on its way: it counts as the client sent it.
    let request = HeaderOp { remove: vec!["origin".into()], ..HeaderOp::default() };
    let headers = HeaderOps { request, ..HeaderOps::default() };
    Rule { cors: Some(Box::new(cors)), headers, ..to_v1() }
}

#[test]
fn preflights_are_answered_and_other_answers_permit() {
    let own = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\ncontent-length: 2\r\n\r\nhi";
    let app = App::http(move |_| own.to_owned());
    let proxy = by_rule(&app, cors());
    let mut client = Wire::connect(&proxy);
    let ask = |client: &mut Wire, method: &str, origin: &str| {
        let asks = "access-control-request-method: PUT\r\n";
        client.send(&format!(
            "{method} / HTTP/1.1\r\nhost: reviews:9080\r\norigin: {origin}\r\n{asks}\r\n"
        ));
        client.read_response(false)
    };
    let preflight = ask(&mut client, "OPTIONS", "https://a.example");
    assert_eq!((preflight.status, preflight.body.as_str()), (200, ""));
    for (name, value) in [
        ("access-control-allow-origin", Some("https://a.example")),
        ("access-control-allow-methods", Some("GET,PUT")),
        ("access-control-max-age", Some("60")),
        ("access-control-allow-credentials", None),
        ("content-length", Some("0")),
    ] {
        assert_eq!(preflight.header(name), value, "{name}");
    }
    assert_eq!(app.connections(), 0);
    let answer = ask(&mut client, "GET", "https://a.example");
    assert_eq!(answer.body, "hi");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-shown"));
    let stranger = ask(&mut client, "OPTIONS", "https://other.example");
    assert_eq!(stranger.body, "hi", "the application answers for itself");
    assert_eq!(stranger.header("access-control-allow-origin"), Some("*"));
}

fn mirrored(share: Share) -> Rule {
    let to = rule(&[("v2", 1)], None).action.backends()[0].clone();
    Rule { mirrors: vec![Mirror { place: "mirror".into(), to, share }], ..to_v1() }
}

/// An application that keeps the requests that it got.
fn keeping() -> (App, Arc<Mutex<Vec<Request>>>) {
    let kept = Arc::<Mutex<Vec<Request>>>::default();
    let of_app = kept.clone();
    let app = App::http(move |request| {
        of_app.lock().unwrap().push(request.clone());
        ok("copied")
    });
    (app, kept)
}

#[test]
fn a_copy_is_the_request_with_another_authority() {
    let (app, (shadow, copies)) = (App::named("app"), keeping());
    let proxy =
        caller(&[("v1", &app), ("v2", &shadow)], mirrored(Share::ALL), ProxyLimits::default());
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/first?q").body, "app");
    let chunks = "5\r\nhello\r\n6\r\n world\r\n0\r\nx-end: yes\r\n\r\n";
    client.send(&format!(
        "POST /second HTTP/1.1\r\nhost: reviews\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
    ));
    assert_eq!(client.read_response(false).body, "app");
    eventually("the copies", || copies.lock().unwrap().len() == 2);
    let copies = copies.lock().unwrap();
    let find = |line: &str| copies.iter().find(|copy| copy.head.starts_with(line)).unwrap();
    let first = find("GET /first?q HTTP/1.1");
    assert!(first.head.contains("host: reviews-shadow:9080"), "{}", first.head);
    let second = find("POST /second HTTP/1.1");
    assert!(second.head.contains("host: reviews-shadow\r\n"), "{}", second.head);
    assert_eq!((second.body.as_str(), second.trailers.as_str()), ("hello world", "x-end: yes\r\n"));
    // The caller's own statistics know nothing of copies.
    let page = proxy.registry.render();
    let requests: Vec<&str> =
        page.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
    assert!(requests.iter().all(|line| !line.contains("v2")), "{requests:?}");
}

/// The client waits for nobody but the request's own endpoint.
#[test]
fn a_copy_expects_nothing() {
    let (app, (shadow, copies)) = (App::named("app"), keeping());
    let proxy =
        caller(&[("v1", &app), ("v2", &shadow)], mirrored(Share::ALL), ProxyLimits::default());
    let mut client = Wire::connect(&proxy);
    let head = "POST / HTTP/1.1\r\nhost: reviews\r\nexpect: 100-continue\r\ncontent-length: 5\r\n";
    client.send(&format!("{head}\r\nhello"));
    eventually("the copy", || !copies.lock().unwrap().is_empty());
    let copy = copies.lock().unwrap().pop().unwrap();
    assert!(!copy.head.contains("expect"), "{}", copy.head);
    assert_eq!(copy.body, "hello");
}

/// The limit is on what waits, not on what has passed.
#[test]
fn a_copy_whose_endpoint_reads_along_may_be_longer_than_the_limit() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    let shadow = App::start(move |stream| {
        let mut wire = Wire::new(stream);
        wire.read_until("\r\n\r\n");
        while wire.read_exact(PIECE_BYTES).is_some() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    const PIECE_BYTES: usize = 16 << 10;
    let app = App::http(|request| ok(&request.body.len().to_string()));
    let limits = ProxyLimits { mirror_bytes_max: 2 * PIECE_BYTES, ..ProxyLimits::default() };
    let proxy = caller(&[("v1", &app), ("v2", &shadow)], mirrored(Share::ALL), limits);
    let mut client = Wire::connect(&proxy);
    let bytes = 20 * PIECE_BYTES;
    client.send(&format!("POST / HTTP/1.1\r\nhost: reviews\r\ncontent-length: {bytes}\r\n\r\n"));
    for piece in 1..=20 {
        client.send(&"x".repeat(PIECE_BYTES));
        eventually("a piece of the copy", || taken.load(Ordering::SeqCst) == piece);
    }
    assert_eq!(client.read_response(false).body, bytes.to_string());
}

#[test]
fn copies_change_nothing_for_the_caller() {
    let app = App::named("app");
    let gone = Nowhere::new();
    let silent = App::silent();
    let endless = App::http(|_| "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_owned());
    for (what, address) in
        [("dead", gone.address), ("silent", silent.address), ("endless", endless.address)]
    {
        let endpoints = vec![endpoint("v1", app.address, false), endpoint("v2", address, false)];
        let objects = Objects {
            services: vec![reviews(Protocol::Http, endpoints)],
            destination_policies: vec![subsets(&["v1", "v2"])],
            routes: vec![route(vec![mirrored(Share::ALL)])],
            ..Objects::default()
        };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        let mut client = Wire::connect(&proxy);
        for _ in 0..20 {
            assert_eq!(client.get("/").body, "app", "{what}");
        }
    }
    let undefined = caller(&[("v1", &app)], mirrored(Share::ALL), ProxyLimits::default());
    assert_eq!(Wire::connect(&undefined).get("/").body, "app");
    let none = caller(
        &[("v1", &app), ("v2", &silent)],
        mirrored(Share::of_percent(0.0)),
        ProxyLimits::default(),
    );
    let before = silent.connections();
    let mut client = Wire::connect(&none);
    for _ in 0..20 {
        assert_eq!(client.get("/").body, "app");
    }
    assert_eq!(silent.connections(), before);
}

/// A copy whose endpoint does not take the body is given up; the request goes on, and so do the
/// copies of others.
#[test]
fn a_copy_holds_no_more_than_its_limit() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    // Its first connection is read only after the request has been answered.
    let shadow = App::start(move |stream| {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        if first {
            released.lock().unwrap().recv().unwrap();
        }
        let mut wire = Wire::new(stream);
        match first {
            true => assert!(wire.read_request().is_none_or(|copy| copy.body.len() < BODY_BYTES)),
            false => {
                wire.read_request().unwrap();
                wire.send(&ok("copied"));
            }
        }
    });
    const BODY_BYTES: usize = 64 << 20;
    let app = App::http(|request| ok(&request.body.len().to_string()));
    let limits = ProxyLimits { mirror_bytes_max: 64 << 10, ..ProxyLimits::default() };
    let proxy = caller(&[("v1", &app), ("v2", &shadow)], mirrored(Share::ALL), limits);
    let mut client = Wire::connect(&proxy);
    client
        .send(&format!("POST / HTTP/1.1\r\nhost: reviews\r\ncontent-length: {BODY_BYTES}\r\n\r\n"));
    let piece = "x".repeat(1 << 20);
    (0..BODY_BYTES / piece.len()).for_each(|_| client.send(&piece));
    assert_eq!(client.read_response(false).body, BODY_BYTES.to_string());
    release.send(()).unwrap();
    assert_eq!(client.get("/").status, 200);
    eventually("the second copy", || asked.load(Ordering::SeqCst) == 2);
    shadow.finish();
}

#[test]
fn no_more_copies_are_made_than_the_limit_allows() {
    let (app, silent) = (App::named("app"), App::silent());
    let limits = ProxyLimits { mirrors_max: 1, ..ProxyLimits::default() };
    let proxy = caller(&[("v1", &app), ("v2", &silent)], mirrored(Share::ALL), limits);
    let mut client = Wire::connect(&proxy);
    for _ in 0..20 {
        assert_eq!(client.get("/").body, "app");
    }
    // One connection is served by one worker.
    eventually("the one copy", || silent.connections() == 1);
    assert_eq!(client.get("/").body, "app");
    assert_eq!(silent.connections(), 1);
}
