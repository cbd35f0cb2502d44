//! Peers that vanish, that never get done, or that want a connection for each request.

use std::future::pending;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use http::{Request, Response};
use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::{ConnectionPool, TrafficPolicy};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use tokio::time::Instant;

use super::http2::{Http2App, block_on, call, connect, runtime};
use super::world::*;

fn proxy_with(limits: ProxyLimits, protocol: Protocol, address: SocketAddr) -> Proxy {
    let services = vec![reviews(protocol, vec![endpoint("v1", address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    Proxy::begin(Setup { limits, ..setup })
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://reviews:9080{path}")).body(()).unwrap()
}

const SOON: Duration = Duration::from_millis(200);

/// A server of HTTP/2 that takes one request of each connection and then neither reads nor writes,
/// as if its packets were dropped.
fn vanishing() -> SocketAddr {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send(socket.local_addr().unwrap()).unwrap();
            loop {
                let (tcp, _) = socket.accept().await.unwrap();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    let _request = connection.accept().await;
                    pending::<()>().await;
                });
            }
        });
    });
    told.recv().unwrap()
}

#[test]
fn a_peer_that_vanishes_does_not_hold_its_requests() {
    let limits = ProxyLimits { keepalive: SOON, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http2, vanishing());
    block_on(async {
        let client = connect(&proxy).await;
        assert_eq!(call(client, get("/"), Vec::new()).await.0, 503);
    });
}

/// A server of HTTP/2, frame by frame: it answers the first request of a connection when it has been
/// asked so often whether it is still there.
fn answering_after_pings(pings: usize) -> App {
    App::start(move |mut stream| {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        // Settings, all as they are (RFC 9113, section 6.5).
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
        let (mut asked, mut pinged) = (false, 0);
        loop {
            let mut head = [0; 9];
            let Ok(()) = stream.read_exact(&mut head) else { return };
            let [l0, l1, l2, kind, flags, ..] = head;
            let mut payload = vec![0; u32::from_be_bytes([0, l0, l1, l2]) as usize];
            stream.read_exact(&mut payload).unwrap();
            match (kind, flags & 1) {
                (1, _) => asked = true,
                (4, 0) => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).unwrap(),
                (6, 0) => {
                    pinged += usize::from(asked);
                    stream.write_all(&[0, 0, 8, 6, 1, 0, 0, 0, 0]).unwrap();
                    stream.write_all(&payload).unwrap();
                }
                _ => {}
            }
            if asked && pinged == pings {
                // The whole answer: `:status: 200` (RFC 7541, appendix A).
                stream.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88]).unwrap();
                asked = false;
            }
        }
    })
}

#[test]
fn a_peer_that_is_slow_but_there_is_waited_for() {
    let app = answering_after_pings(3);
    let limits = ProxyLimits { keepalive: SOON, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http2, app.address);
    block_on(async {
        let client = connect(&proxy).await;
        assert_eq!(call(client, get("/"), Vec::new()).await.0, 200);
    });
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_peer_that_takes_no_streams_gets_no_more_connections() {
    let app = Http2App::start(0, |_, mut respond| async move {
        respond.send_response(Response::new(()), true).unwrap();
    });
    let limits = ProxyLimits { keepalive: SOON, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http2, app.address);
    block_on(async {
        let client = connect(&proxy).await;
        for _ in 0..3 {
            assert_eq!(call(client.clone(), get("/"), Vec::new()).await.0, 503);
        }
    });
    // Each is tried on a connection of its own, and once more since nobody has seen it.
    assert!(app.connections() <= 6, "{}", app.connections());
}

/// Whether the applications of a test answer.
type Released = &'static AtomicBool;

/// An application that answers all but `/first` only when it is told to.
fn stalling(released: Released) -> App {
    App::start(move |stream| {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.read_request() {
            let at_once = request.head.starts_with("GET /first");
            eventually("its release", || at_once || released.load(Ordering::SeqCst));
            wire.send(&ok(""));
        }
    })
}

/// The same by HTTP/2, one request at a time on each connection.
fn stalling_http2(released: Released) -> Http2App {
    Http2App::start(1, move |request, mut respond| async move {
        while request.uri().path() != "/first" && !released.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        respond.send_response(Response::new(()), true).unwrap();
    })
}

/// Sends so many requests, of which `refused` are refused at once, and the others answered when the
/// application is released. Gives the reason of the refusals.
async fn stalled(proxy: &Proxy, requests: usize, refused: usize, released: Released) -> String {
    let client = connect(proxy).await;
    // How many streams an endpoint takes is known once it has said so.
    assert_eq!(call(client.clone(), get("/first"), Vec::new()).await.0, 200);
    let mut client = client.ready().await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..requests {
        client = client.ready().await.unwrap();
        answers.push(tokio::spawn(client.send_request(get("/"), true).unwrap().0));
    }
    while answers.iter().filter(|answer| answer.is_finished()).count() < refused {
        tokio::task::yield_now().await;
    }
    released.store(true, Ordering::SeqCst);
    let (mut served, mut reasons) = (0, Vec::new());
    for answer in answers {
        let answer = answer.await.unwrap().unwrap();
        let reason = answer.headers().get("x-ironmesh-reason");
        match answer.status().as_u16() {
            200 => served += 1,
            503 => reasons.push(reason.unwrap().to_str().unwrap().to_owned()),
            other => panic!("{other}"),
        }
    }
    assert_eq!((served, reasons.len()), (requests - refused, refused));
    reasons.dedup();
    reasons.join(", ")
}

#[test]
fn requests_that_have_waited_make_room_for_others_that_wait() {
    let (http1, http2) = (App::named("a"), Http2App::echo());
    for (protocol, address) in [(Protocol::Http, http1.address), (Protocol::Http2, http2.address)] {
        let limits = ProxyLimits {
            endpoint_connections_max: 1,
            endpoint_pending_max: 3,
            ..ProxyLimits::default()
        };
        let proxy = proxy_with(limits, protocol, address);
        block_on(async {
            let client = connect(&proxy).await;
            for _ in 0..5 {
                let call = || call(client.clone(), get("/"), Vec::new());
                let all = tokio::join!(call(), call(), call(), call());
                let statuses = [all.0.0, all.1.0, all.2.0, all.3.0];
                assert_eq!(statuses, [200; 4]);
            }
        });
    }
}

#[test]
fn requests_beyond_the_connections_of_an_endpoint_wait_and_no_more_than_the_limit() {
    static RELEASED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    let (http1, http2) = (stalling(&RELEASED[0]), stalling_http2(&RELEASED[1]));
    for (protocol, address, released) in [
        (Protocol::Http, http1.address, &RELEASED[0]),
        (Protocol::Http2, http2.address, &RELEASED[1]),
    ] {
        let limits = ProxyLimits {
            endpoint_connections_max: 4,
            endpoint_pending_max: 3,
            ..ProxyLimits::default()
        };
        let proxy = proxy_with(limits, protocol, address);
        assert_eq!(block_on(stalled(&proxy, 12, 5, released)), "overloaded");
    }
    assert_eq!((http1.connections(), http2.connections()), (4, 4));
}

#[test]
fn requests_beyond_the_connections_of_a_group_wait_and_no_more_than_its_limit() {
    static RELEASED: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    let (http1, http2) = (stalling(&RELEASED[0]), stalling_http2(&RELEASED[1]));
    for (protocol, address, released) in [
        (Protocol::Http, http1.address, &RELEASED[0]),
        (Protocol::Http2, http2.address, &RELEASED[1]),
    ] {
        let mut policy = subsets(&[]);
        let pool =
            ConnectionPool { connections_max: Some(2), pending_max: Some(5), ..<_>::default() };
        policy.policy.traffic = Some(TrafficPolicy { pool: Some(pool), ..<_>::default() });
        let objects = Objects {
            services: vec![reviews(protocol, vec![endpoint("v1", address, false)])],
            destination_policies: vec![policy],
            ..Objects::default()
        };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        assert_eq!(block_on(stalled(&proxy, 11, 4, released)), "upstream_overflow");
    }
    assert_eq!((http1.connections(), http2.connections()), (2, 2));
}

#[test]
fn an_exchange_in_which_nobody_says_anything_ends() {
    let app = App::silent();
    let limits = ProxyLimits {
        exchange_idle_timeout: SOON,
        endpoint_connections_max: 1,
        ..ProxyLimits::default()
    };
    let proxy = proxy_with(limits, Protocol::Http, app.address);
    // Of one client, so of one worker: the second waits for the connection of the first.
    block_on(async {
        let client = connect(&proxy).await;
        let all = tokio::join!(
            call(client.clone(), get("/"), Vec::new()),
            call(client, get("/"), Vec::new())
        );
        for (status, head, ..) in [all.0, all.1] {
            assert_eq!(
                (status, &head["x-ironmesh-reason"]),
                (504, &"exchange_idle".parse().unwrap())
            );
        }
    });
    let mut client = Wire::connect(&proxy);
    assert_eq!(client.get("/").status, 504);
    eventually("the log", || proxy.lines.text().matches(" 504 SI ").count() == 3);
}

/// Waits for a moment, in which nothing comes.
fn pause(wire: &Wire) {
    wire.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let _ = wire.stream.peek(&mut [0]);
    wire.stream.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn an_exchange_in_which_one_side_speaks_goes_on_and_ends_when_it_falls_silent() {
    const IDLE: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_millis(1_500);
    // Takes what comes, and speaks itself if it was asked to, until that was long enough.
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        if wire.read_until("\r\n\r\n").unwrap().starts_with("GET /speak ") {
            wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let start = Instant::now();
            while start.elapsed() < LONG {
                wire.send("1\r\nx\r\n");
                pause(&wire);
            }
        }
        wire.read_to_end();
    });
    let limits = ProxyLimits { exchange_idle_timeout: IDLE, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http, app.address);
    let (mut client, start) = (Wire::connect(&proxy), Instant::now());
    client.send("GET /speak HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(client.read_to_end().contains("1\r\nx\r\n"));
    assert!(start.elapsed() >= LONG, "it went on for {:?}", start.elapsed());
    eventually("the log", || proxy.lines.text().contains(" 200 SI "));

    let (mut client, start) = (Wire::connect(&proxy), Instant::now());
    client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ntransfer-encoding: chunked\r\n\r\n");
    while start.elapsed() < LONG {
        client.send("1\r\nx\r\n");
        pause(&client);
    }
    let answer = client.read_response(false);
    assert_eq!((answer.status, answer.header("x-ironmesh-reason")), (504, Some("exchange_idle")));
    assert!(start.elapsed() >= LONG, "it went on for {:?}", start.elapsed());
}

#[test]
fn old_connections_end_after_their_request() {
    static OVER: AtomicBool = AtomicBool::new(false);
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.read_request() {
            if request.head.starts_with("GET /long") {
                eventually("the age", || OVER.load(Ordering::SeqCst));
            }
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let limits = ProxyLimits { connection_age_max: SOON, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http, app.address);
    let mut busy = Wire::connect(&proxy);
    busy.send("GET /long HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the long request", || app.connections() == 1);
    for _ in 0..2 {
        let mut idle = Wire::connect(&proxy);
        assert_eq!(idle.get("/").status, 200);
        assert!(idle.is_ended(), "an idle one ends at its age");
    }
    OVER.store(true, Ordering::SeqCst);
    let last = busy.read_response(false);
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert!(busy.is_ended());
    block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        let ended = tokio::spawn(connection);
        assert_eq!(call(client.clone(), get("/"), Vec::new()).await.0, 200);
        ended.await.unwrap().unwrap();
        assert!(client.ready().await.is_err(), "GOAWAY was sent");
    });
}

#[test]
fn connections_without_room_for_their_window_are_refused_until_others_end() {
    let app = App::named("a");
    // Room for three of clients; requests go by HTTP/1.
    let limits = ProxyLimits { h2_unread_bytes_max: 3 * 65_535, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http, app.address);
    block_on(async {
        let mut kept = Vec::new();
        for _ in 0..3 {
            let client = connect(&proxy).await;
            assert_eq!(call(client.clone(), get("/"), Vec::new()).await.0, 200);
            kept.push(client);
        }
        let refused = connect(&proxy).await.ready().await;
        let refused = match refused {
            Ok(mut client) => client.send_request(get("/"), true).unwrap().0.await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "there is no room for a fourth");
        eventually("a log line", || proxy.lines.text().contains(" UO "));
        assert_eq!(call(kept[0].clone(), get("/"), Vec::new()).await.0, 200);
        kept.clear();
        // Their end takes a moment to be seen.
        loop {
            let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
            let Ok((client, connection)) = h2::client::handshake(tcp).await else { continue };
            tokio::spawn(connection);
            let Ok(mut client) = client.ready().await else { continue };
            if let Ok((answer, _)) = client.send_request(get("/"), true)
                && answer.await.is_ok_and(|answer| answer.status() == 200)
            {
                return;
            }
        }
    });
}
