//! Peers that vanish, that never get done, or that want a connection for each request.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use tokio::time::sleep;

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

#[test]
fn a_peer_that_is_slow_but_there_is_waited_for() {
    let app = Http2App::start(100, |_, mut respond| async move {
        sleep(5 * SOON).await;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let limits = ProxyLimits { keepalive: SOON, ..ProxyLimits::default() };
    let proxy = proxy_with(limits, Protocol::Http2, app.address);
    block_on(async {
        let client = connect(&proxy).await;
        assert_eq!(call(client, get("/"), Vec::new()).await.0, 200);
    });
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

#[test]
fn stalled_requests_open_no_more_connections_than_the_limit() {
    let stall = App::start(|stream| {
        let mut wire = Wire::new(stream);
        while wire.read_request().is_some_and(|request| request.head.starts_with("GET /first")) {
            wire.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
        assert!(wire.is_ended());
    });
    let one_stream = Http2App::start(1, |request, mut respond| async move {
        if request.uri().path() == "/first" {
            respond.send_response(Response::new(()), true).unwrap();
            return;
        }
        let _kept_open = respond;
        pending::<()>().await;
    });
    for (protocol, address) in
        [(Protocol::Http, stall.address), (Protocol::Http2, one_stream.address)]
    {
        let limits = ProxyLimits { endpoint_connections_max: 4, ..ProxyLimits::default() };
        let proxy = proxy_with(limits, protocol, address);
        block_on(async {
            let client = connect(&proxy).await;
            // How many streams an endpoint takes is known once it has said so.
            assert_eq!(call(client.clone(), get("/first"), Vec::new()).await.0, 200);
            let mut client = client.ready().await.unwrap();
            let send = |client: &mut h2::client::SendRequest<Bytes>| {
                client.send_request(get("/"), true).unwrap().0
            };
            let mut all = Vec::new();
            for _ in 0..12 {
                client = client.ready().await.unwrap();
                all.push(tokio::spawn(send(&mut client)));
            }
            let mut refused = 0;
            while refused < 8 {
                let mut ended = Vec::new();
                all.retain_mut(|answer| {
                    let is_ended = answer.is_finished();
                    if is_ended {
                        ended.push(std::mem::replace(answer, tokio::spawn(pending())));
                    }
                    !is_ended
                });
                for answer in ended {
                    assert_eq!(answer.await.unwrap().unwrap().status(), 503);
                    refused += 1;
                }
                tokio::task::yield_now().await;
            }
            assert_eq!(all.len(), 4, "as many as the limit are under way");
        });
    }
    assert_eq!(stall.connections.load(Ordering::SeqCst), 4);
    assert_eq!(one_stream.connections(), 4);
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
