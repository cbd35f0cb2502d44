//! How long clients, applications and connections are waited for over HTTP/1, and how many there may be.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::Protocol;
use tokio::time::Instant;

use super::world::*;

#[test]
fn a_drain_finishes_requests_and_then_ends() {
    let app = App::named("a");
    let mut proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nh");
    eventually("the connection to be served", || proxy.process.connections() == 1);
    eventually("the request to arrive", || app.connections() == 1);
    proxy.begin_drain();
    // Callers that do not know yet are served, once. A connection that stays silent is ended.
    let mut late = Wire::connect(&proxy);
    late.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    client.send("i");
    for client in [&mut client, &mut late] {
        let response = client.read_response(false);
        assert_eq!((&*response.body, response.header("connection")), ("a", Some("close")));
        assert!(client.is_ended());
    }
    proxy.drain();
}

#[test]
fn a_drain_ends_idle_connections_before_its_time() {
    for protocol in [Protocol::Http, Protocol::Undeclared] {
        let app = App::named("a");
        let mut objects = objects(protocol, &[&app]);
        objects.settings.drain_duration = 2 * PATIENCE;
        let mut proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        let [mut client, mut silent, mut busy] = [(); 3].map(|()| Wire::connect(&proxy));
        assert_eq!(client.get("/").header("connection"), None);
        busy.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nh");
        eventually("all connections to be served", || proxy.process.connections() == 3);
        let begun = Instant::now();
        proxy.begin_drain();
        assert!(client.is_ended() && silent.is_ended());
        // So is one that comes after the others were ended.
        let mut late = Wire::connect(&proxy);
        assert!(late.is_ended());
        busy.send("i");
        assert_eq!(busy.read_response(false).body, "a");
        proxy.drain();
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }
}

#[test]
fn a_worker_that_ends_keeps_no_connection() {
    let app = App::named("a");
    let mut proxy = outbound(Protocol::Http, &[&app]);
    assert_eq!(Wire::connect(&proxy).get("/").body, "a");
    let workload = Arc::downgrade(&proxy.workload);
    proxy.drain();
    drop(proxy);
    eventually("what is left of it to go", || workload.strong_count() == 0);
}

#[test]
fn requests_wait_for_what_the_control_plane_has_not_said_yet() {
    let app = App::named("late");
    let objects = objects(Protocol::Http, &[&app]);
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { mute: true, ..setup });
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the request to be parked", || proxy.asked() > 0);
    proxy.speak();
    assert_eq!(client.read_response(false).body, "late");
}

#[test]
fn requests_do_not_wait_for_ever() {
    let app = App::named("late");
    let limits = ProxyLimits { parked_wait: Duration::from_secs(1), ..ProxyLimits::default() };
    let objects = objects(Protocol::Http, &[&app]);
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, mute: true, ..setup });
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(client.is_ended(), "the port's protocol is not known");
    proxy.speak();
    assert_eq!(Wire::connect(&proxy).get("/").body, "late");
}

#[test]
fn a_head_must_come_in_time_however_often_a_byte_of_it_comes() {
    let app = App::named("a");
    let limits = ProxyLimits { head_timeout: Duration::from_millis(300), ..ProxyLimits::default() };
    let setup =
        Setup::new(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[&app]));
    let proxy = Proxy::begin(Setup { limits, ..setup });
    for begun in ["P", "GET / HTTP/1.1\r\nhost: reviews:9080\r\nx-slow: "] {
        let mut client = Wire::connect(&proxy);
        client.send(begun);
        client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (start, mut got) = (Instant::now(), [0; 1]);
        // The pause between the bytes is that of the read.
        while client.stream.peek(&mut got).is_err() {
            client.send("y");
            assert!(start.elapsed() < PATIENCE, "the head is still awaited");
        }
    }
    eventually("a log line", || proxy.lines.text().contains(" 408 - request_header_timeout "));
}

/// A proxy that gives up who makes no progress after 200 ms.
fn impatient(app: &App) -> Proxy {
    let stream_idle_timeout = Duration::from_millis(200);
    let limits = ProxyLimits { stream_idle_timeout, ..ProxyLimits::default() };
    let setup =
        Setup::new(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[app]));
    Proxy::begin(Setup { limits, ..setup })
}

#[test]
fn a_body_that_stalls_is_given_up_and_an_answer_is_waited_for() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        let Some(request) = wire.read_request() else { return };
        // Longer than a stalled body may take.
        wire.stream.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
        assert!(wire.stream.peek(&mut [0]).is_err());
        wire.send(&ok(&request.body));
    });
    let proxy = impatient(&app);
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhe");
    let response = client.read_response(false);
    assert_eq!((response.status, response.header("x-ironmesh-reason")), (408, Some("stream_idle")));
    assert!(client.is_ended());
    eventually("a log line", || proxy.lines.text().contains(" 408 SI "));
    let mut client = Wire::connect(&proxy);
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(client.read_response(false).body, "hello");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n");
        while wire.stream.write_all(&[0; 64 << 10]).is_ok() {}
    });
    let proxy = impatient(&app);
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("a log line", || proxy.lines.text().contains(" 200 SI "));
}

/// Time counts from the last answer, not from the beginning of the connection.
#[test]
fn a_connection_that_was_in_use_is_not_idle() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let app = App::http(move |_| {
        released.lock().unwrap().recv().unwrap();
        ok("x")
    });
    let idle = Duration::from_millis(400);
    let limits = ProxyLimits { downstream_idle_timeout: idle, ..ProxyLimits::default() };
    let setup =
        Setup::new(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[&app]));
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let mut client = Wire::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    client.stream.set_read_timeout(Some(2 * idle)).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "the answer is not there yet");
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    release.send(()).unwrap();
    assert_eq!(client.read_response(false).body, "x");
    assert!(client.is_ended());
    assert!(begun.elapsed() >= idle, "{:?}", begun.elapsed());
}

/// Those to endpoints, too, whether or not anybody uses them.
#[test]
fn old_connections_to_endpoints_end() {
    let app = App::named("a");
    let limits =
        ProxyLimits { connection_age_max: Duration::from_millis(100), ..ProxyLimits::default() };
    let setup =
        Setup::new(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[&app]));
    let proxy = Proxy::begin(Setup { limits, ..setup });
    assert_eq!(Wire::connect(&proxy).get("/").body, "a");
    app.finish();
}

#[test]
fn a_target_without_end_is_refused_as_too_large() {
    let app = App::named("a");
    let proxy = outbound(Protocol::Http, &[&app]);
    let mut client = Wire::connect(&proxy);
    let head_bytes_max = ProxyLimits::default().head_bytes_max;
    client.send(&format!("GET /{}", "x".repeat(head_bytes_max)));
    let response = client.read_response(false);
    assert_eq!(response.status, 414);
    assert_eq!(response.header("x-ironmesh-reason"), Some("head_too_large"));
    assert!(client.is_ended());
}

#[test]
fn connections_to_endpoints_that_nobody_uses_end() {
    let app = App::named("a");
    let limits =
        ProxyLimits { upstream_idle_timeout: Duration::from_millis(100), ..ProxyLimits::default() };
    let setup =
        Setup::new(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[&app]));
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").body, "a");
    app.finish();
    assert_eq!(client.get("/").body, "a", "the client has its own");
}

/// Those beyond the limit wait until others have gone: each worker takes no more than one too many.
#[test]
fn no_more_clients_are_served_at_a_time_than_the_limit() {
    let app = App::named("a");
    let limits = ProxyLimits { connections_max: 1, ..ProxyLimits::default() };
    let setup =
        Setup::new(ListenerKind::Outbound, service_address(), objects(Protocol::Http, &[&app]));
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let mut clients: Vec<Wire> = (0..6).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\nconnection: close\r\n\r\n");
        assert!(proxy.process.connections() <= 2);
    }
    for mut client in clients {
        assert!(proxy.process.connections() <= 2);
        assert_eq!(client.read_response(false).body, "a");
    }
}
