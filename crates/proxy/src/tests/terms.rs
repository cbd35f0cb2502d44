//! What requests say themselves about retries and time, and what endpoints are told of both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, Response as Answer};
use ironmesh_model::ListenerKind;
use ironmesh_model::draw::Share;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::{RetryBudget, TrafficPolicy};
use ironmesh_model::retry::{Retry, RetryOn};
use ironmesh_model::route::{Delay, Faults, HeaderOp, HeaderOps, Rule};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;

use super::gateway::gateway_to;
use super::http2::{Http2App, block_on, call, connect, grpc};
use super::world::*;

/// An application that notes what it gets, and answers with one status after the other, the last for
/// ever.
fn answering(statuses: &'static [u16]) -> (App, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let noted = heads.clone();
    let app = App::http(move |request| {
        let mut heads = noted.lock().unwrap();
        let status = statuses[heads.len().min(statuses.len() - 1)];
        heads.push(request.head.clone());
        format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n")
    });
    (app, heads)
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn ask(proxy: &Proxy, path: &str, headers: &str) -> Response {
    let mut client = Wire::connect(proxy);
    client.send(&format!("GET {path} HTTP/1.1\r\nhost: reviews:9080\r\n{headers}\r\n"));
    client.read_response(false)
}

#[test]
fn an_application_of_the_mesh_may_ask_for_retries() {
    let asks = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\n";
    let (app, heads) = answering(&[503, 500, 502, 200]);
    let proxy = outbound(Protocol::Http, &[&app]);
    assert_eq!(ask(&proxy, "/", asks).status, 200);
    let heads = heads.lock().unwrap();
    let counted: Vec<_> =
        heads.iter().map(|head| value(head, "x-envoy-attempt-count").unwrap()).collect();
    assert_eq!(counted, ["1", "2", "3", "4"]);
    assert!(!heads.iter().any(|head| head.contains("retry-on") || head.contains("max-retries")));
    assert!(heads.iter().all(|head| head.matches("x-envoy-attempt-count").count() == 1));
}

#[test]
fn what_a_request_asks_for_goes_before_what_its_rule_says() {
    let by_rule = Retry { attempts: 1, on: vec![RetryOn::Status(503)], ..Retry::default() };
    for (asks, attempts) in [("", 2), ("x-envoy-max-retries: 3\r\n", 4)] {
        let (app, heads) = answering(&[503]);
        let rule = Rule { retry: Some(by_rule.clone()), ..rule(&[("", 1)], None) };
        let objects = Objects {
            routes: vec![route(vec![rule])],
            destination_policies: vec![subsets(&[])],
            ..objects(Protocol::Http, &[&app])
        };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        assert_eq!(ask(&proxy, "/", asks).status, 503);
        assert_eq!(heads.lock().unwrap().len(), attempts, "{asks}");
    }
}

/// What says that it was forwarded from outside, or comes from there, asks for nothing.
#[test]
fn nobody_outside_asks_for_retries() {
    let asks = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 3\r\nx-envoy-attempt-count: 7\r\n";
    let (app, heads) = answering(&[503]);
    let proxy = outbound(Protocol::Http, &[&app]);
    let forwarded = format!("{asks}x-forwarded-for: 203.0.113.7\r\n");
    assert_eq!(ask(&proxy, "/", &forwarded).status, 503);
    assert_eq!(heads.lock().unwrap().len(), 1);
    let edge = gateway_to(reviews(Protocol::Http, vec![endpoint("v1", app.address, false)]));
    assert_eq!(ask(&edge, "/reviews", asks).status, 503);
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 2);
    assert!(
        heads.iter().all(|head| value(head, "x-envoy-attempt-count") == Some("1")),
        "{heads:?}"
    );
}

#[test]
fn times_that_a_request_asks_for_hold_and_are_told_to_the_endpoint() {
    let app = App::http(|request| {
        if request.head.contains("/told") {
            return ok(value(&request.head, "x-envoy-expected-rq-timeout-ms").unwrap_or("none"));
        }
        std::thread::park();
        String::new()
    });
    let timed = Rule { timeout: Some(Duration::from_secs(3600)), ..rule(&[("", 1)], None) };
    let by_rule = |rule: Rule| {
        let objects = Objects {
            routes: vec![route(vec![rule])],
            destination_policies: vec![subsets(&[])],
            ..objects(Protocol::Http, &[&app])
        };
        Proxy::start(ListenerKind::Outbound, service_address(), objects)
    };
    let proxy = by_rule(timed.clone());
    let slow = ask(&proxy, "/", "x-envoy-upstream-rq-timeout-ms: 100\r\n");
    assert_eq!((slow.status, slow.header("x-ironmesh-reason")), (504, Some("timeout")));
    let slow = ask(&proxy, "/", "x-envoy-upstream-rq-per-try-timeout-ms: 100\r\n");
    assert_eq!((slow.status, slow.header("x-ironmesh-reason")), (504, Some("per_try_timeout")));
    let whole = |proxy: &Proxy| {
        let left: u64 = ask(proxy, "/told", "").body.parse().unwrap();
        assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    };
    whole(&proxy);
    let told = |headers: &str| ask(&proxy, "/told", headers).body;
    assert_eq!(told("x-envoy-upstream-rq-per-try-timeout-ms: 5000\r\n"), "5000");
    let left: u64 = told("x-envoy-upstream-rq-timeout-ms: 70000\r\n").parse().unwrap();
    assert!((7_000..=70_000).contains(&left), "{left}");
    // 0 is no limit, and a time of an attempt that is longer than the request's is none.
    assert_eq!(told("x-envoy-upstream-rq-timeout-ms: 0\r\n"), "none");
    let retry = Retry { per_try_timeout: Some(Duration::from_secs(7200)), ..Retry::default() };
    let proxy = by_rule(Rule { retry: Some(retry), ..timed });
    whole(&proxy);
}

/// 0 milliseconds would tell an endpoint that it has all the time.
#[test]
fn an_endpoint_is_told_of_less_than_a_millisecond_as_of_one() {
    let (app, heads) = answering(&[200]);
    let timeout = Some(Duration::from_micros(300));
    let objects = Objects {
        routes: vec![route(vec![Rule { timeout, ..rule(&[("", 1)], None) }])],
        destination_policies: vec![subsets(&[])],
        ..objects(Protocol::Http, &[&app])
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut client = Wire::connect(&proxy);
    // Time runs from the end of the request.
    let part =
        "POST / HTTP/1.1\r\nhost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n";
    client.send(part);
    eventually("the connection", || app.connections() == 1);
    client.send("0\r\n\r\n");
    eventually("the request", || !heads.lock().unwrap().is_empty());
    let heads = heads.lock().unwrap();
    assert_eq!(value(&heads[0], "x-envoy-expected-rq-timeout-ms"), Some("1"), "{heads:?}");
}

/// What attempts before it have taken is gone.
#[test]
fn a_later_attempt_is_told_of_less_time() {
    let slow = Duration::from_millis(50);
    let told = Arc::<Mutex<Vec<u128>>>::default();
    let noted = told.clone();
    let app = App::http(move |request| {
        let left = value(&request.head, "x-envoy-expected-rq-timeout-ms").unwrap();
        noted.lock().unwrap().push(left.parse().unwrap());
        if noted.lock().unwrap().len() > 1 {
            return ok("done");
        }
        // As slow as it is, not as long as a test waits.
        std::thread::sleep(slow);
        "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_owned()
    });
    let timeout = Some(Duration::from_secs(3600));
    let objects = Objects {
        routes: vec![route(vec![Rule { timeout, ..rule(&[("", 1)], None) }])],
        destination_policies: vec![subsets(&[])],
        ..objects(Protocol::Http, &[&app])
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    assert_eq!(ask(&proxy, "/", "x-envoy-retry-on: 5xx\r\n").body, "done");
    let told = told.lock().unwrap();
    assert!(told[0] <= 3_600_000 && told[1] + slow.as_millis() <= told[0], "{told:?}");
}

/// An application that tells how long it has, by its answer's head.
fn telling() -> Http2App {
    Http2App::start(100, |request, mut respond| async move {
        let mut answer = Answer::new(());
        for name in ["grpc-timeout", "x-envoy-expected-rq-timeout-ms"] {
            if let Some(value) = request.headers().get(name) {
                answer.headers_mut().insert(name, value.clone());
            }
        }
        respond.send_response(answer, true).unwrap();
    })
}

fn told(head: &HeaderMap, name: &str) -> String {
    head.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned()
}

#[test]
fn the_deadline_of_a_grpc_caller_is_shortened_and_passed_on() {
    let app = telling();
    let proxy = |timeout, retry| {
        let services = vec![reviews(Protocol::Grpc, vec![endpoint("v1", app.address, false)])];
        let timed = Rule { timeout, retry, ..rule(&[("", 1)], None) };
        let objects = Objects {
            services,
            routes: vec![route(vec![timed])],
            destination_policies: vec![subsets(&[])],
            ..Objects::default()
        };
        Proxy::start(ListenerKind::Outbound, service_address(), objects)
    };
    let ask = |proxy: &Proxy, deadline: Option<&str>| {
        let mut request = grpc("/");
        if let Some(deadline) = deadline {
            request.headers_mut().insert("grpc-timeout", deadline.parse().unwrap());
        }
        let head = block_on(async { call(connect(proxy).await, request, b"x".to_vec()).await }).1;
        let left = told(&head, "grpc-timeout").trim_end_matches('m').parse::<u64>().ok();
        (left, told(&head, "x-envoy-expected-rq-timeout-ms").parse::<u64>().ok())
    };
    let ask_same = |proxy: &Proxy, deadline| {
        let (left, expected) = ask(proxy, deadline);
        assert_eq!(left, expected);
        left
    };
    let bounded = proxy(Some(Duration::from_secs(600)), None);
    for deadline in [None, Some("1H")] {
        let left = ask_same(&bounded, deadline).unwrap();
        assert!((500_000..=600_000).contains(&left), "{left}");
    }
    let left = ask_same(&bounded, Some("300S")).unwrap();
    assert!((200_000..=300_000).contains(&left), "{left}");
    let free = proxy(None, None);
    assert_eq!(ask_same(&free, None), None);
    let left = ask_same(&free, Some("1H")).unwrap();
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");

    // An application that ended the call when its attempt is over would keep it from being tried again.
    let retry = Retry { per_try_timeout: Some(Duration::from_secs(60)), ..Retry::default() };
    let tried = proxy(None, Some(retry));
    assert_eq!(ask(&tried, None), (None, Some(60_000)));
    let (left, expected) = ask(&tried, Some("1H"));
    assert!((3_500_000..=3_600_000).contains(&left.unwrap()), "{left:?}");
    assert_eq!(expected, Some(60_000));
}

/// Nobody waits for its answer any more.
#[test]
fn a_request_whose_deadline_has_passed_is_not_sent() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let app = Http2App::start(100, |_, mut respond| async move {
        ASKED.fetch_add(1, Ordering::SeqCst);
        respond.send_response(Answer::new(()), true).unwrap();
    });
    let services = vec![reviews(Protocol::Grpc, vec![endpoint("v1", app.address, false)])];
    let faults = Faults {
        delay: Some(Delay { by: Duration::from_millis(200), share: Share::ALL }),
        ..Faults::default()
    };
    let held = Rule { faults: Some(Box::new(faults)), ..rule(&[("", 1)], None) };
    let objects = Objects {
        services,
        routes: vec![route(vec![held])],
        destination_policies: vec![subsets(&[])],
        ..Objects::default()
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let status = |deadline: &str| {
        let mut request = grpc("/");
        request.headers_mut().insert("grpc-timeout", deadline.parse().unwrap());
        let head = block_on(async { call(connect(&proxy).await, request, b"x".to_vec()).await }).1;
        told(&head, "grpc-status")
    };
    assert_eq!((status("100m"), status("0m")), ("4".to_owned(), "4".to_owned()));
    assert_eq!(ASKED.load(Ordering::SeqCst), 0);
    assert_eq!(status("1H"), "none");
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

/// Istio's default list: a status of gRPC in the head of an answer; nothing of HTTP.
#[test]
fn without_configuration_what_grpc_calls_unavailable_is_asked_for_again() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let app = Http2App::start(100, |request, mut respond| async move {
        let is_early = ASKED.fetch_add(1, Ordering::SeqCst) < 2;
        let mut answer = Answer::new(());
        if is_early {
            let status = request.uri().path().trim_start_matches('/').parse().unwrap();
            answer.headers_mut().insert("grpc-status", status);
        }
        respond.send_response(answer, true).unwrap();
    });
    for (path, attempts, flags) in [("/14", 3, " - "), ("/1", 3, " - "), ("/8", 1, " - ")] {
        ASKED.store(0, Ordering::SeqCst);
        let proxy = app.outbound(Protocol::Grpc);
        block_on(async { call(connect(&proxy).await, grpc(path), b"x".to_vec()).await });
        assert_eq!(ASKED.load(Ordering::SeqCst), attempts, "{path}");
        eventually("a log line", || proxy.lines.text().contains(flags));
    }
    let (app, heads) = answering(&[503]);
    let proxy = outbound(Protocol::Http, &[&app]);
    assert_eq!(ask(&proxy, "/", "").status, 503);
    assert_eq!(heads.lock().unwrap().len(), 1);
}

/// As Envoy logs it: `URX` beside what came of the last attempt.
#[test]
fn attempts_that_were_used_up_have_a_flag() {
    let (app, _) = answering(&[503]);
    let proxy = outbound(Protocol::Http, &[&app]);
    assert_eq!(ask(&proxy, "/", "x-envoy-retry-on: 5xx\r\n").status, 503);
    eventually("the flag", || proxy.lines.text().contains(" URX "));
    let nowhere = Nowhere::new();
    let objects = Objects {
        services: vec![reviews(Protocol::Http, vec![endpoint("v0", nowhere.address, false)])],
        ..Objects::default()
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    assert_eq!(ask(&proxy, "/", "").status, 503);
    eventually("the flags", || proxy.lines.text().contains(" UF,URX "));
}

/// Nobody has a proxy try for ever.
#[test]
fn attempts_are_bounded_whatever_is_asked_for() {
    let (app, heads) = answering(&[503]);
    let limits = ProxyLimits { attempts_max: 4, ..ProxyLimits::default() };
    let objects = objects(Protocol::Http, &[&app]);
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let asks = "x-envoy-retry-on: 5xx\r\nx-envoy-max-retries: 99999999999\r\n";
    assert_eq!(ask(&proxy, "/", asks).status, 503);
    assert_eq!(heads.lock().unwrap().len(), 4);
}

/// What the values of header operations stand for, on both ways.
#[test]
fn operators_in_header_operations_stand_for_what_is_known() {
    let app = App::http(|request| {
        let seen = ["x-from", "x-agent", "x-none", "x-percent", "x-host"];
        let seen = seen.map(|name| value(&request.head, name).unwrap_or("-").to_owned());
        ok(&seen.join(" "))
    });
    let pair = |name: &str, value: &str| (name.into(), value.into());
    let request = HeaderOp {
        set: vec![
            pair("x-from", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
            pair("x-agent", "%REQ(x-missing?user-agent):3%/%PROTOCOL%"),
            pair("x-none", "%REQ(x-missing)%"),
            pair("x-percent", "100%%"),
        ],
        add: vec![pair("x-host", "%HOSTNAME%")],
        ..HeaderOp::default()
    };
    let response = HeaderOp {
        set: vec![pair("x-said", "%RESPONSE_CODE% %REQ(:path)% %RESP(content-length)%")],
        ..HeaderOp::default()
    };
    let rule = Rule { headers: HeaderOps { request, response }, ..rule(&[("", 1)], None) };
    let objects = Objects {
        routes: vec![route(vec![rule])],
        destination_policies: vec![subsets(&[])],
        ..objects(Protocol::Http, &[&app])
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let answer = ask(&proxy, "/a?b", "user-agent: curl/8\r\n");
    assert_eq!(answer.body, "127.0.0.1 cur/HTTP/1.1 - 100% client");
    assert_eq!(answer.header("x-said"), Some(format!("200 /a?b {}", answer.body.len()).as_str()));
}

/// A retry that is not allowed is overflow, and the client gets what came of the last attempt.
#[test]
fn retries_beyond_what_the_policy_allows_are_not_made() {
    let (app, heads) = answering(&[503]);
    let mut policy = subsets(&[]);
    let none = RetryBudget { share: Share::of_percent(0.0), retries_min: 0 };
    policy.policy.traffic =
        Some(TrafficPolicy { retry_budget: Some(none), ..TrafficPolicy::default() });
    let objects =
        Objects { destination_policies: vec![policy.clone()], ..objects(Protocol::Http, &[&app]) };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    assert_eq!(ask(&proxy, "/", "x-envoy-retry-on: 5xx\r\n").status, 503);
    assert_eq!(heads.lock().unwrap().len(), 1);
    eventually("the flag", || proxy.lines.text().contains(" UO "));
    let overflowed = |proxy: &Proxy| {
        let group = proxy.workload.views.load().groups().next().unwrap();
        (group.stats().retry_overflow.get(), group.stats().retries.get())
    };
    assert_eq!(overflowed(&proxy), (1, 0));
    // Nor where there was no answer.
    let gone = Nowhere::new();
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", gone.address, false)])];
    let objects = Objects { services, destination_policies: vec![policy], ..Objects::default() };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    assert_eq!(ask(&proxy, "/", "").status, 503);
    eventually("the flags", || proxy.lines.text().contains(" UF,UO "));
    assert_eq!(overflowed(&proxy), (1, 0));
}
