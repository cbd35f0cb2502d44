//! Which attempts are followed by another, and at which endpoint.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::{ConnectionPool, OutlierDetection, TrafficPolicy};
use ironmesh_model::retry::{Retry, RetryCondition, RetryOn};
use ironmesh_model::route::Rule;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use ironmesh_model::{ListenerKind, Tick};
use tokio::time::Instant;

use super::http2::{Http2App, block_on, call, connect, grpc};
use super::world::*;

/// A proxy of a caller of these applications, with one rule, a policy and limits.
fn caller(apps: &[&App], rule: Option<Rule>, traffic: TrafficPolicy, limits: ProxyLimits) -> Proxy {
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(taking_turns(traffic));
    let objects = Objects {
        routes: rule.map(|rule| route(vec![rule])).into_iter().collect(),
        destination_policies: vec![policy],
        ..objects(Protocol::Http, apps)
    };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    Proxy::begin(Setup { limits, ..setup })
}

fn retrying(attempts: u32, on: &str) -> Rule {
    let on = on.split(',').map(|word| RetryOn::parse(word).unwrap()).collect();
    let retry = Some(Retry { attempts, per_try_timeout: None, on, ..Retry::default() });
    Rule { retry, ..rule(&[("", 1)], None) }
}

fn by_rule(apps: &[&App], rule: Rule) -> Proxy {
    caller(apps, Some(rule), TrafficPolicy::default(), ProxyLimits::default())
}

fn ejecting() -> TrafficPolicy {
    let outlier = OutlierDetection {
        consecutive_5xx: 1,
        base_ejection: Duration::from_secs(3600),
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    TrafficPolicy { outlier: Some(outlier), ..TrafficPolicy::default() }
}

/// An application whose connections do these things, one each; those that follow do the last.
fn acting(acts: &'static [fn(&mut Wire)]) -> App {
    let at = AtomicUsize::new(0);
    App::start(move |stream| {
        let at = at.fetch_add(1, Ordering::SeqCst).min(acts.len() - 1);
        acts[at](&mut Wire::new(stream));
    })
}

fn post(client: &mut Wire, method: &str) -> Response {
    client
        .send(&format!("{method} / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nhi"));
    client.read_response(false)
}

/// An endpoint that was tried is not tried again, although it would be its turn.
#[test]
fn a_retry_does_not_go_to_the_endpoint_that_failed() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let bad = App::http(move |_| {
        if counter.fetch_add(1, Ordering::SeqCst) == 0 {
            released.lock().unwrap().recv().unwrap();
        }
        "HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n".to_owned()
    });
    let good = App::named("good");
    let proxy = by_rule(&[&bad, &good], retrying(1, "503"));
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the first attempt", || asked.load(Ordering::SeqCst) == 1);
    assert_eq!(Wire::connect(&proxy).get("/").body, "good");
    release.send(()).unwrap();
    assert_eq!(client.read_response(false).body, "good");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// A kept connection that ends without an answer: most likely it had ended before the request came.
#[test]
fn only_what_may_be_sent_twice_and_still_can_be_is_sent_again() {
    let once_then_close: &'static [fn(&mut Wire)] = &[
        |wire| {
            wire.read_request();
            wire.send(&ok("first"));
            // The next one is read and not answered.
            wire.read_until("\r\n\r\n");
        },
        |wire| {
            while wire.read_request().is_some() {
                wire.send(&ok("again"));
            }
        },
    ];
    for (method, status) in [("PUT", 200), ("DELETE", 200), ("POST", 503), ("PATCH", 503)] {
        let app = acting(once_then_close);
        let proxy = outbound(Protocol::Http, &[&app]);
        let mut client = Wire::connect(&proxy);
        assert_eq!(client.get("/").body, "first");
        assert_eq!(post(&mut client, method).status, status, "{method}");
        assert_eq!(app.connections(), if status == 200 { 2 } else { 1 }, "{method}");
    }
    // Of a body that is larger than what is kept for that, the beginning is gone.
    let app = acting(&[
        |wire| {
            wire.read_request();
            wire.send(&ok("first"));
            wire.read_request();
        },
        |wire| {
            wire.read_request();
            wire.send(&ok("a part"));
        },
    ]);
    let limits = ProxyLimits { replay_bytes_max: 4, ..ProxyLimits::default() };
    let proxy = caller(&[&app], None, TrafficPolicy::default(), limits);
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").body, "first");
    client.send("PUT / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 8\r\n\r\ntoo long");
    assert_eq!(client.read_response(false).status, 503);
    assert_eq!(app.connections(), 1);
}

/// An application whose first connection ends after an answer has shown how long it keeps them. What
/// must not be sent twice is then given no connection that may end at this moment.
#[test]
fn what_may_not_be_sent_twice_gets_no_connection_that_may_be_closing() {
    let app = acting(&[
        |wire| {
            wire.read_request();
            wire.send(&ok("first"));
        },
        |wire| {
            while wire.read_request().is_some() {
                wire.send(&ok("kept"));
            }
        },
    ]);
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let begun = Instant::now();
    assert_eq!(client.get("/").body, "first");
    assert_eq!(client.get("/").body, "kept");
    // No shorter than what was learned.
    let mut kept_for = begun.elapsed();
    for (method, connections) in [("PUT", 2), ("POST", 3), ("PUT", 3)] {
        let answered = Instant::now();
        eventually("the time", || answered.elapsed() > kept_for);
        assert_eq!(post(&mut client, method).status, 200, "{method}");
        assert_eq!(app.connections(), connections, "{method}");
        kept_for = answered.elapsed();
    }
}

/// Whoever has begun to answer has seen the request.
#[test]
fn what_an_endpoint_has_begun_to_answer_is_not_sent_again() {
    let beginnings: [&'static [fn(&mut Wire)]; 2] = [
        &[|wire| {
            wire.read_request();
            wire.send(&ok("first"));
            wire.read_request();
            wire.send("HTTP/1.1 2");
        }],
        &[|wire| {
            wire.read_request();
            wire.send(&ok("first"));
            wire.read_request();
            wire.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        }],
    ];
    for (beginning, early) in beginnings.into_iter().zip([false, true]) {
        let app = acting(beginning);
        let proxy = outbound(Protocol::Http, &[&app]);
        let mut client = Wire::connect(&proxy);
        assert_eq!(client.get("/").body, "first");
        let mut answer = client.get("/");
        if early {
            assert_eq!(answer.status, 103);
            answer = client.read_response(false);
        }
        assert_eq!(answer.header("x-ironmesh-reason"), Some("upstream_reset"));
        assert_eq!(app.connections(), 1);
    }
}

#[test]
fn an_answer_that_is_not_http_is_not_asked_for_again_elsewhere() {
    let garbage = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("220 smtp.example ESMTP\r\n\r\n");
    });
    let good = App::named("good");
    let proxy = outbound(Protocol::Http, &[&garbage, &good]);
    assert_eq!(post(&mut Wire::connect(&proxy), "POST").status, 502);
    assert_eq!(good.connections(), 0);
}

/// The replay of a request that a kept connection lost is no retry.
#[test]
fn a_replay_leaves_the_retries_that_were_configured() {
    let app = acting(&[
        |wire| {
            wire.read_request();
            wire.send(&ok("first"));
            wire.read_request();
        },
        |wire| {
            wire.read_request();
            wire.send("HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n");
        },
        |wire| {
            wire.read_request();
            wire.send(&ok("third"));
        },
    ]);
    let proxy = by_rule(&[&app], retrying(1, "503"));
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").body, "first");
    assert_eq!(client.get("/").body, "third");
}

#[test]
fn a_connection_that_its_endpoint_has_closed_is_not_used() {
    let app = acting(&[|wire| {
        wire.read_request();
        wire.send(&ok("once"));
    }]);
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    for _ in 0..3 {
        assert_eq!(post(&mut client, "POST").status, 200, "it could not be sent again");
        app.finish();
    }
    assert_eq!(app.connections(), 3);
}

#[test]
fn a_stream_that_an_endpoint_refuses_is_tried_again_whatever_its_method() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let app = Http2App::start(100, |_, mut respond| async move {
        if ASKED.fetch_add(1, Ordering::SeqCst) == 0 {
            return respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
        respond.send_response(http::Response::new(()), true).unwrap();
    });
    let proxy = app.outbound(Protocol::Http2);
    let request = http::Request::post("http://reviews:9080/").body(()).unwrap();
    let answer = block_on(async { call(connect(&proxy).await, request, b"hi".to_vec()).await });
    assert_eq!((answer.0, ASKED.load(Ordering::SeqCst)), (200, 2));
}

#[test]
fn a_reset_before_the_request_was_sent_is_told_from_one_after_it() {
    let app = acting(&[|wire| {
        wire.read_request();
    }]);
    let proxy = by_rule(&[&app], retrying(2, "reset-before-request"));
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    assert_eq!(app.connections(), 1);
    let proxy = by_rule(&[&app], retrying(2, "reset"));
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    assert_eq!(app.connections(), 4);
}

/// All are ejected then; the client is told what happened, not what came of it.
#[test]
fn the_last_failure_is_told_when_no_endpoint_is_left() {
    let nowhere = Nowhere::new();
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(ejecting());
    let objects = |protocol| Objects {
        services: vec![reviews(protocol, vec![endpoint("v0", nowhere.address, false)])],
        destination_policies: vec![policy.clone()],
        ..Objects::default()
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects(Protocol::Http));
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").header("x-ironmesh-reason"), Some("connect_failed"));
    assert_eq!(client.get("/").header("x-ironmesh-reason"), Some("no_endpoints"));
    // So it is with connections that nobody looks into.
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects(Protocol::Tcp));
    for flags in [" UF ", " UH "] {
        assert!(Wire::connect(&proxy).is_ended());
        eventually(flags, || proxy.lines.text().contains(flags));
    }
    let group = proxy.workload.views.load().groups().next().unwrap();
    assert!(group.members().all[0].state().is_ejected(Tick(1)));
}

#[test]
fn an_opaque_connection_goes_to_another_endpoint_if_one_cannot_be_reached() {
    let good = App::start(|stream| Wire::new(stream).send("good"));
    let nowhere = Nowhere::new();
    let mut objects = objects(Protocol::Tcp, &[&good]);
    objects.services[0].endpoints.push(endpoint("x", nowhere.address, false));
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    for _ in 0..4 {
        assert_eq!(Wire::connect(&proxy).read_to_end(), "good");
    }
}

/// An opaque connection that is taken is a success, which begins the count of failures anew.
#[test]
fn an_endpoint_that_takes_connections_now_and_then_is_not_ejected() {
    let place = Nowhere::new();
    let outlier = OutlierDetection {
        consecutive_5xx: 2,
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    let mut policy = subsets(&[]);
    policy.policy.traffic =
        Some(TrafficPolicy { outlier: Some(outlier), ..TrafficPolicy::default() });
    let objects = Objects {
        services: vec![reviews(Protocol::Tcp, vec![endpoint("v1", place.address, false)])],
        destination_policies: vec![policy],
        ..Objects::default()
    };
    let limits = ProxyLimits { connect_attempts_max: 1, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    assert!(Wire::connect(&proxy).is_ended());
    let group = proxy.workload.views.load().groups().next().unwrap();
    let failures = || group.members().all[0].state().failures();
    eventually("the failure", || failures() == 1);
    let app = place.listen();
    let mut taken = Wire::connect(&proxy);
    assert!(app.accept().is_ok());
    eventually("the success", || failures() == 0);
    drop(app);
    assert!(taken.is_ended());
}

#[test]
fn opaque_connections_beyond_the_limit_are_refused_and_do_not_wait() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.send("hello");
        wire.read_to_end();
    });
    let limits = ConnectionPool { connections_max: Some(1), pending_max: None, ..<_>::default() };
    let mut policy = subsets(&[]);
    let traffic = TrafficPolicy { pool: Some(limits), ..<_>::default() };
    policy.policy.traffic = Some(traffic);
    let objects = Objects { destination_policies: vec![policy], ..objects(Protocol::Tcp, &[&app]) };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let mut first = Wire::connect(&proxy);
    assert_eq!(first.read_exact(5).unwrap(), "hello");
    assert!(Wire::connect(&proxy).is_ended());
    eventually("a log line", || proxy.lines.text().contains(" UO "));
    drop(first);
    // Its end takes a moment to be seen.
    eventually("room for another", || Wire::connect(&proxy).read_exact(5).is_some());
}

#[test]
fn the_timeout_that_passes_first_ends_a_request() {
    let app = App::silent();
    let soon = Duration::from_millis(100);
    let long = Duration::from_secs(3600);
    for (timeout, per_try, reason) in [(soon, long, "timeout"), (long, soon, "per_try_timeout")] {
        let retry = Retry {
            attempts: 0,
            per_try_timeout: Some(per_try),
            on: Vec::new(),
            ..Retry::default()
        };
        let timed = Rule { timeout: Some(timeout), retry: Some(retry), ..rule(&[("", 1)], None) };
        let proxy = by_rule(&[&app], timed);
        // One that is whole at once, and one whose end comes while the attempt is made.
        let answer = Wire::connect(&proxy).get("/");
        assert_eq!((answer.status, answer.header("x-ironmesh-reason")), (504, Some(reason)));
        let mut client = Wire::connect(&proxy);
        let connections = app.connections();
        client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nh");
        eventually("the attempt", || app.connections() > connections);
        client.send("i");
        let answer = client.read_response(false);
        assert_eq!((answer.status, answer.header("x-ironmesh-reason")), (504, Some(reason)));
    }
}

/// What `retries` without `retryOn` comes to: who hangs is left for another, but nothing is sent twice that
/// may do harm.
#[test]
fn an_attempt_that_takes_too_long_is_followed_by_another_where_the_request_may_be_sent_twice() {
    let on = vec![RetryOn::Condition(RetryCondition::ServerErrorOfIdempotent)];
    let per_try_timeout = Some(Duration::from_millis(200));
    let retry = Retry { attempts: 1, per_try_timeout, on, ..Retry::default() };
    for (method, status) in [("PUT", 200), ("POST", 504)] {
        let (bad, good) = (App::silent(), App::named("good"));
        let rule = Rule { retry: Some(retry.clone()), ..rule(&[("", 1)], None) };
        let proxy = by_rule(&[&bad, &good], rule);
        // In turn: one of the two begins with the silent one.
        let statuses = [(); 2].map(|()| post(&mut Wire::connect(&proxy), method).status);
        assert!(statuses.contains(&status) && statuses.contains(&200), "{method}: {statuses:?}");
    }
    let busy = App::http(|_| "HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n".to_owned());
    let proxy = by_rule(&[&busy], Rule { retry: Some(retry), ..rule(&[("", 1)], None) });
    assert_eq!(post(&mut Wire::connect(&proxy), "POST").status, 500);
    assert_eq!(busy.connections(), 1);
}

/// An endpoint that does not take the body of a request.
#[test]
fn an_endpoint_that_takes_nothing_is_given_up() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let app = App::start(move |_stream| {
        // It holds its connection and reads nothing.
        let _ = released.lock().unwrap().recv();
    });
    let limits =
        ProxyLimits { stream_idle_timeout: Duration::from_millis(200), ..ProxyLimits::default() };
    let proxy = caller(&[&app], None, TrafficPolicy::default(), limits);
    let mut client = Wire::connect(&proxy);
    let mut writer = client.stream.try_clone().unwrap();
    let writes = std::thread::spawn(move || {
        use std::io::Write;
        let head = "POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 1000000000\r\n\r\n";
        writer.write_all(head.as_bytes()).unwrap();
        while writer.write_all(&[0; 64 << 10]).is_ok() {}
    });
    let answer = client.read_response(false);
    assert_eq!((answer.status, answer.header("x-ironmesh-reason")), (408, Some("stream_idle")));
    drop((release, client));
    writes.join().unwrap();
}

/// A stream of gRPC may be silent before it is answered, too.
#[test]
fn a_client_of_grpc_may_pause_before_its_answer_begins() {
    let app = Http2App::start(100, |request, mut respond| async move {
        let mut body = request.into_body();
        while body.data().await.is_some() {}
        respond.send_response(http::Response::new(()), true).unwrap();
    });
    let services = vec![reviews(Protocol::Grpc, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let idle = Duration::from_millis(200);
    let limits = ProxyLimits { stream_idle_timeout: idle, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    block_on(async {
        let mut client = connect(&proxy).await.ready().await.unwrap();
        let (mut response, mut send) = client.send_request(grpc("/"), false).unwrap();
        let silence = tokio::time::timeout(3 * idle, &mut response).await;
        assert!(silence.is_err(), "{silence:?}");
        send.send_data(bytes::Bytes::new(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

/// It says so by a reset while nothing has come of its request yet.
#[test]
fn an_http2_client_that_gives_up_before_its_answer_is_noted() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        assert!(wire.is_ended());
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    block_on(async {
        let mut client = connect(&proxy).await.ready().await.unwrap();
        let request = http::Request::get("http://reviews:9080/").body(()).unwrap();
        let (response, mut send) = client.send_request(request, true).unwrap();
        while app.connections() == 0 {
            tokio::task::yield_now().await;
        }
        send.send_reset(h2::Reason::CANCEL);
        while !proxy.lines.text().contains(" DC ") {
            tokio::task::yield_now().await;
        }
        drop((response, client));
    });
    app.finish();
}

#[test]
fn no_more_requests_are_parked_than_the_limit() {
    let app = App::named("late");
    let limits = ProxyLimits { parked_requests_max: 1, ..ProxyLimits::default() };
    let objects = objects(Protocol::Http, &[&app]);
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, mute: true, ..setup });
    // One on each worker, and one too many.
    let mut clients: Vec<Wire> = (0..3).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    }
    eventually("a log line", || proxy.lines.text().contains(" UO "));
    proxy.speak();
    let mut served = 0;
    for client in &mut clients {
        served += usize::from(client.read_until("late").is_some());
    }
    assert_eq!(served, 2);
    // The places are free again.
    for _ in 0..3 {
        assert_eq!(Wire::connect(&proxy).get("/").body, "late");
    }
}

#[test]
fn no_more_idle_connections_are_kept_than_the_limit() {
    let (entered, together) = (AtomicUsize::new(0), std::sync::Barrier::new(4));
    let app = App::http(move |_| {
        if entered.fetch_add(1, Ordering::SeqCst) < 4 {
            together.wait();
        }
        ok("x")
    });
    let limits = ProxyLimits { idle_connections_per_endpoint_max: 1, ..ProxyLimits::default() };
    let proxy = caller(&[&app], None, TrafficPolicy::default(), limits);
    let mut clients: Vec<Wire> = (0..4).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response(false).body, "x");
    }
    // One of each worker is kept.
    eventually("the end of the others", || app.open() <= 2);
}
