//! What a destination's policy says of connections and requests: each limit with what is beyond it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use http::Request;
use ironmesh_model::ListenerKind;
use ironmesh_model::policy::{ConnectionPool, Http2Keepalive, MtlsMode, TrafficPolicy};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use tokio::sync::Barrier;

use super::http2::{Http2App, block_on, call, connect, grpc};
use super::mesh::Mesh;
use super::protocols::telling_app;
use super::world::*;

/// What a caller's proxy knows: these services under such a policy.
fn limited(pool: ConnectionPool, objects: Objects) -> Objects {
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(TrafficPolicy { pool: Some(pool), ..<_>::default() });
    Objects { destination_policies: vec![policy], ..objects }
}

fn proxy(pool: ConnectionPool, protocol: Protocol, app: &App) -> Proxy {
    let objects = limited(pool, objects(protocol, &[app]));
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

/// An application that answers when it is told to.
fn held_back() -> (App, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let app = App::http(move |_| {
        released.lock().unwrap().recv().unwrap();
        ok("late")
    });
    (app, release)
}

#[test]
fn requests_beyond_the_limit_are_refused_at_once_whatever_their_protocol() {
    let (app, release) = held_back();
    let pool = ConnectionPool { requests_max: Some(2), ..<_>::default() };
    let proxy = proxy(pool, Protocol::Http, &app);
    let mut served: Vec<Wire> = (0..2).map(|_| Wire::connect(&proxy)).collect();
    for client in &mut served {
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    }
    eventually("both are with the application", || app.connections() == 2);
    for _ in 0..3 {
        let refused = Wire::connect(&proxy).get("/");
        assert_eq!((refused.status, refused.header("x-envoy-overloaded")), (503, Some("true")));
        assert_eq!(refused.header("x-ironmesh-reason"), Some("upstream_overflow"));
    }
    let answer = block_on(async { call(connect(&proxy).await, grpc("/"), Vec::new()).await });
    assert_eq!(answer.1.get("grpc-status").unwrap(), "14", "gRPC is told in its own way");
    (0..2).for_each(|_| release.send(()).unwrap());
    served.iter_mut().for_each(|client| assert_eq!(client.read_response(false).status, 200));
    eventually("a log line each", || proxy.lines.text().matches(" UO ").count() == 4);
    // There is room again.
    release.send(()).unwrap();
    assert_eq!(Wire::connect(&proxy).get("/").status, 200);
}

/// What breaks off leaves no count behind.
#[test]
fn a_client_that_leaves_makes_room() {
    let (app, release) = held_back();
    let pool = ConnectionPool { requests_max: Some(1), ..<_>::default() };
    let proxy = proxy(pool, Protocol::Http, &app);
    for round in 1..=5 {
        let mut client = Wire::connect(&proxy);
        client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
        eventually("it is with the application", || app.connections() == round);
        let group = proxy.workload.views.load().groups().next().unwrap();
        assert_eq!(group.under_way(), (1, 0));
        reset(client);
        eventually("it is not counted any more", || group.under_way() == (0, 0));
    }
    (0..6).for_each(|_| release.send(()).unwrap());
    assert_eq!(Wire::connect(&proxy).get("/").status, 200);
}

#[test]
fn a_connection_carries_as_many_requests_as_the_policy_says() {
    let app = App::named("app");
    let pool = ConnectionPool { requests_per_connection_max: Some(2), ..<_>::default() };
    let limits = ConnectionPool { connections_max: Some(1), ..pool };
    for pool in [pool, limits] {
        let before = app.connections();
        let proxy = proxy(pool, Protocol::Http, &app);
        let mut client = Wire::connect(&proxy);
        for _ in 0..6 {
            assert_eq!(client.get("/").status, 200);
        }
        assert_eq!(app.connections() - before, 3);
    }
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app.address, false)])];
    let objects = limited(limits, Objects { services, ..Objects::default() });
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    block_on(async {
        let client = connect(&proxy).await;
        for _ in 0..6 {
            assert_eq!(call(client.clone(), grpc("/"), Vec::new()).await.0, 200);
        }
    });
    assert_eq!(app.connections(), 3);
}

#[test]
fn a_shared_connection_carries_as_many_requests_at_a_time_as_the_policy_says() {
    static TOGETHER: std::sync::LazyLock<Barrier> = std::sync::LazyLock::new(|| Barrier::new(4));
    let app = Http2App::start(100, |_, mut respond| async move {
        TOGETHER.wait().await;
        respond.send_response(http::Response::new(()), true).unwrap();
    });
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app.address, false)])];
    let pool = ConnectionPool { streams_max: Some(2), ..<_>::default() };
    let objects = limited(pool, Objects { services, ..Objects::default() });
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    block_on(async {
        let client = connect(&proxy).await;
        let calls: Vec<_> =
            (0..4).map(|_| tokio::spawn(call(client.clone(), grpc("/"), Vec::new()))).collect();
        for call in calls {
            assert_eq!(call.await.unwrap().0, 200);
        }
    });
    assert_eq!(app.connections(), 2);
}

#[test]
fn connections_end_when_they_are_idle_or_old() {
    let short = Some(Duration::from_millis(100));
    for pool in [
        ConnectionPool { http_idle_timeout: short, ..<_>::default() },
        ConnectionPool { tcp_idle_timeout: short, ..<_>::default() },
        ConnectionPool { connection_age_max: short, ..<_>::default() },
    ] {
        let app = App::named("app");
        let proxy = proxy(pool, Protocol::Http, &app);
        let mut client = Wire::connect(&proxy);
        assert_eq!(client.get("/").status, 200);
        eventually("the connection is closed", || app.open() == 0);
        assert_eq!(client.get("/").status, 200);
        assert_eq!(app.connections(), 2, "the client's own connection stays");
    }
}

#[test]
fn opaque_connections_end_when_they_are_silent_or_old() {
    let short = Some(Duration::from_millis(100));
    for pool in [
        ConnectionPool { tcp_idle_timeout: short, ..<_>::default() },
        ConnectionPool { connection_age_max: short, ..<_>::default() },
    ] {
        let app = App::silent();
        let proxy = proxy(pool, Protocol::Tcp, &app);
        let mut client = Wire::connect(&proxy);
        client.send("x");
        assert!(client.is_ended(), "{pool:?}");
    }
    // Zero is no time at all: others are ended, this one is not.
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        while let Some(byte) = wire.read_exact(1) {
            wire.send(&byte);
        }
    });
    let silent = ConnectionPool { tcp_idle_timeout: Some(Duration::ZERO), ..<_>::default() };
    let lasting = proxy(silent, Protocol::Tcp, &app);
    let mut client = Wire::connect(&lasting);
    client.send("a");
    assert_eq!(client.read_exact(1).unwrap(), "a");
    let brief = ConnectionPool { tcp_idle_timeout: short, ..<_>::default() };
    assert!(Wire::connect(&proxy(brief, Protocol::Tcp, &app)).is_ended());
    client.send("b");
    assert_eq!(client.read_exact(1).unwrap(), "b");
}

/// Where the mesh would wait for an hour.
#[test]
fn a_policy_says_how_long_connecting_may_take() {
    let mesh = Mesh::new();
    let app = App::silent();
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, true)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.connect_timeout = Duration::from_secs(3_600);
    let pool =
        ConnectionPool { connect_timeout: Some(Duration::from_millis(50)), ..<_>::default() };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), limited(pool, objects));
    mesh.certify(&proxy, "client");
    assert_eq!(Wire::connect(&proxy).get("/").status, 503);
    eventually("a log line", || proxy.lines.text().contains(" UF,URX "));
}

/// Which version of HTTP the application is spoken to in.
fn spoken(pool: Option<ConnectionPool>, by_http2: bool) -> String {
    let app = telling_app();
    let objects = objects(Protocol::Http, &[&app]);
    let objects = match pool {
        Some(pool) => limited(pool, objects),
        None => objects,
    };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    if !by_http2 {
        return Wire::connect(&proxy).get("/").body;
    }
    let request = Request::get("http://reviews:9080/").body(()).unwrap();
    let answer = block_on(async { call(connect(&proxy).await, request, Vec::new()).await });
    String::from_utf8(answer.2).unwrap()
}

#[test]
fn a_policy_says_in_which_version_requests_go_on() {
    let upgrade = |to| Some(ConnectionPool { upgrade: Some(to), ..<_>::default() });
    let client = Some(ConnectionPool { client_protocol: true, ..<_>::default() });
    for (pool, by_http2, expected) in [
        (None, false, "HTTP/1.1"),
        (None, true, "HTTP/1.1"),
        (upgrade(false), true, "HTTP/1.1"),
        (upgrade(true), false, "HTTP/2"),
        (upgrade(true), true, "HTTP/2"),
        (client, false, "HTTP/1.1"),
        (client, true, "HTTP/2"),
    ] {
        assert_eq!(spoken(pool, by_http2), expected, "{pool:?} {by_http2}");
    }
}

/// The application of a member knows nothing of what its caller's policy says.
#[test]
fn an_upgrade_ends_at_the_endpoints_proxy() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.head));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", inbound.address, true)])];
    let pool = ConnectionPool { upgrade: Some(true), ..<_>::default() };
    let objects = limited(pool, Objects { services, ..Objects::default() });
    let outbound = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    mesh.certify(&outbound, "client");
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Wire::connect(&outbound);
        let seen = client.get("/").body;
        assert!(seen.starts_with("GET / HTTP/1.1\r\n") && !seen.contains("x-ironmesh"), "{seen}");
        clients.push(client);
    }
    // One for each worker that was asked, where HTTP/1 would need as many as clients.
    let connections = inbound.process.connections();
    assert!(connections < clients.len(), "{connections}");
}

/// Serves HTTP/2 by hand: every request gets 200, and so many pings of a connection an answer.
struct PingedApp {
    app: App,
    pings: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
}

impl PingedApp {
    fn start(answered: usize) -> Self {
        let (pings, ended) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let counts = (pings.clone(), ended.clone());
        let app = App::start(move |mut stream| {
            let (pings, ended) = &counts;
            let _ = serve_frames(&mut stream, answered, pings);
            ended.fetch_add(1, Ordering::SeqCst);
        });
        Self { app, pings, ended }
    }

    fn behind(&self, pool: ConnectionPool) -> Proxy {
        let services =
            vec![reviews(Protocol::Http2, vec![endpoint("v1", self.app.address, false)])];
        let objects = limited(pool, Objects { services, ..Objects::default() });
        Proxy::start(ListenerKind::Outbound, service_address(), objects)
    }
}

/// Frames until the connection ends (RFC 9113, sections 4.1 and 6).
fn serve_frames(stream: &mut TcpStream, answered: usize, pings: &AtomicUsize) -> io::Result<()> {
    let frame = |kind, flags, stream: &[u8], payload: &[u8]| {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags], stream, payload].concat()
    };
    stream.read_exact(&mut [0; 24])?;
    stream.write_all(&frame(SETTINGS, 0, &[0; 4], &[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload)?;
        let answer = match (head[3], head[4]) {
            (SETTINGS, 0) => frame(SETTINGS, ACK, &[0; 4], &[]),
            (PING, 0) if pings.fetch_add(1, Ordering::SeqCst) < answered => {
                frame(PING, ACK, &[0; 4], &payload)
            }
            (HEADERS, _) => frame(HEADERS, WHOLE, &head[5..9], STATUS_200),
            _ => continue,
        };
        stream.write_all(&answer)?;
    }
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
/// END_HEADERS and END_STREAM.
const WHOLE: u8 = 5;
/// As HPACK's table has it (RFC 7541, appendix A).
const STATUS_200: &[u8] = &[0x88];

#[test]
fn idle_connections_are_pinged_where_the_policy_says_so() {
    let every = |interval, timeout| ConnectionPool {
        http2_keepalive: Some(Http2Keepalive { interval, timeout }),
        ..<_>::default()
    };
    let (app, plain) = (PingedApp::start(usize::MAX), PingedApp::start(usize::MAX));
    let proxy = app.behind(every(Duration::from_millis(10), PATIENCE));
    let unpinged = plain.behind(ConnectionPool { requests_max: Some(9), ..<_>::default() });
    assert_eq!(Wire::connect(&unpinged).get("/").status, 200);
    // By one connection, and so by one worker: each has connections of its own.
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").status, 200);
    eventually("pings", || app.pings.load(Ordering::SeqCst) >= 3);
    assert_eq!(client.get("/").status, 200);
    assert_eq!((app.app.connections(), app.ended.load(Ordering::SeqCst)), (1, 0), "it is kept");
    assert_eq!(plain.pings.load(Ordering::SeqCst), 0, "no policy, no pings without requests");
}

/// It is gone before a request is sent there.
#[test]
fn a_connection_whose_peer_answers_no_pings_is_closed() {
    let app = PingedApp::start(2);
    let (interval, timeout) = (Duration::from_millis(10), Duration::from_millis(100));
    let proxy = app.behind(ConnectionPool {
        http2_keepalive: Some(Http2Keepalive { interval, timeout }),
        ..<_>::default()
    });
    assert_eq!(Wire::connect(&proxy).get("/").status, 200);
    eventually("its end", || app.ended.load(Ordering::SeqCst) == 1);
    assert!(app.pings.load(Ordering::SeqCst) >= 3);
    assert_eq!(Wire::connect(&proxy).get("/").status, 200);
    assert_eq!(app.app.connections(), 2);
}
