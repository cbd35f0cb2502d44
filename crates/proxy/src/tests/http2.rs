//! HTTP/2 and gRPC, through one proxy and through two.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, Request, Response};
use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::Objects;
use tokio::sync::Barrier;
use tokio::time::timeout;

use super::mesh::Mesh;
use super::world::*;

/// A toy HTTP/2 application: each request is handed to a function, but for one for `/die`, which
/// ends the first connection unanswered.
pub(super) struct Http2App {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Http2App {
    pub(super) fn start<F: Future<Output = ()> + Send + 'static>(
        streams_max: u32,
        serve: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Copy + Send + 'static,
    ) -> Self {
        let (tell, told) = mpsc::channel();
        let connections = Arc::<AtomicUsize>::default();
        let counted = connections.clone();
        std::thread::spawn(move || {
            runtime().block_on(async {
                let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                tell.send(socket.local_addr().unwrap()).unwrap();
                loop {
                    let (tcp, _) = socket.accept().await.unwrap();
                    let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
                    tokio::spawn(async move {
                        let mut builder = h2::server::Builder::new();
                        builder.max_concurrent_streams(streams_max);
                        let Ok(mut connection) = builder.handshake(tcp).await else { return };
                        while let Some(Ok((request, respond))) = connection.accept().await {
                            if is_first && request.uri().path() == "/die" {
                                return;
                            }
                            tokio::spawn(serve(request, respond));
                        }
                    });
                }
            });
        });
        Self { address: told.recv().unwrap(), connections }
    }

    /// One that sends back what it gets, with trailers.
    pub(super) fn echo() -> Self {
        Self::start(100, echo)
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// A proxy of a caller, for which this application is `reviews`.
    pub(super) fn outbound(&self, protocol: Protocol) -> Proxy {
        let services = vec![reviews(protocol, vec![endpoint("v1", self.address, false)])];
        let objects = Objects { services, ..Objects::default() };
        Proxy::start(ListenerKind::Outbound, service_address(), objects)
    }
}

async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let te = request.headers().get("te").cloned();
    let mut body = request.into_body();
    let mut response = Response::new(());
    let fields = response.headers_mut();
    fields.insert("content-type", "application/grpc".parse().unwrap());
    te.map(|te| fields.insert("x-te", te));
    let mut send = respond.send_response(response, false).unwrap();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        send.send_data(data, false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    // A client that has gone wants none.
    let _ = send.send_trailers(trailers);
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Runs a client to its end, which must come.
pub(super) fn block_on<T>(client: impl Future<Output = T>) -> T {
    runtime().block_on(async { timeout(PATIENCE, client).await.expect("an answer in time") })
}

/// A client's connection to a proxy.
pub(super) async fn connect(proxy: &Proxy) -> SendRequest<Bytes> {
    let tcp = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(64 << 20);
    let (client, connection) = builder.handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Status, head, body and trailers of an answer.
pub(super) type Answer = (u16, HeaderMap, Vec<u8>, Option<HeaderMap>);

pub(super) async fn call(
    client: SendRequest<Bytes>,
    request: Request<()>,
    body: Vec<u8>,
) -> Answer {
    let (response, mut send) = client.ready().await.unwrap().send_request(request, false).unwrap();
    send.send_data(Bytes::from(body), true).unwrap();
    let (parts, mut body) = response.await.unwrap().into_parts();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    let trailers = body.trailers().await.unwrap();
    (parts.status.as_u16(), parts.headers, all, trailers)
}

pub(super) fn grpc(path: &str) -> Request<()> {
    Request::post(format!("http://reviews:9080{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// Calls at the same time.
async fn calls(client: &SendRequest<Bytes>, path: &str, bodies: Vec<Vec<u8>>) -> Vec<Answer> {
    let calls: Vec<_> = bodies
        .into_iter()
        .map(|body| tokio::spawn(call(client.clone(), grpc(path), body)))
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[test]
fn grpc_goes_through_both_with_its_trailers() {
    let mesh = Mesh::new();
    let app = Http2App::echo();
    let inbound = mesh.inbound(Protocol::Grpc, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Grpc, &[&inbound]);
    let bodies: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 40_000 + usize::from(n)]).collect();
    let answers = block_on(async {
        calls(&connect(&outbound).await, "/shop.Cart/Add", bodies.clone()).await
    });
    for (answer, body) in answers.into_iter().zip(bodies) {
        let (status, head, all, trailers) = answer;
        assert_eq!(status, 200);
        assert_eq!(head.get("x-te").unwrap(), "trailers");
        assert!(all == body, "{} of {} bytes", all.len(), body.len());
        assert_eq!(trailers.unwrap().get("grpc-status").unwrap(), "0");
    }
    eventually("the metrics", || outbound.registry.render().contains("request_protocol=\"grpc\""));
}

#[test]
fn a_local_answer_to_grpc_is_trailers_only() {
    let objects =
        Objects { services: vec![reviews(Protocol::Grpc, Vec::new())], ..Objects::default() };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let (status, head, body, trailers) =
        block_on(async { call(connect(&proxy).await, grpc("/"), b"x".to_vec()).await });
    assert_eq!((status, body.len(), trailers), (200, 0, None));
    assert_eq!(head.get("grpc-status").unwrap(), "14");
    assert_eq!(head.get("x-ironmesh-reason").unwrap(), "no_endpoints");
}

#[test]
fn a_local_answer_to_head_has_no_body() {
    let objects =
        Objects { services: vec![reviews(Protocol::Http2, Vec::new())], ..Objects::default() };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    let request = Request::head("http://reviews:9080/").body(()).unwrap();
    let (status, head, body, _) =
        block_on(async { call(connect(&proxy).await, request, Vec::new()).await });
    assert_eq!((status, body.len()), (503, 0));
    assert_eq!(head.get("content-length").unwrap(), "19", "of `no healthy upstream`");
}

#[test]
fn an_idle_connection_is_ended_after_requests_too() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let downstream_idle_timeout = Duration::from_secs(1);
    let limits = ProxyLimits { downstream_idle_timeout, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    block_on(async {
        let client = connect(&proxy).await;
        assert_eq!(call(client.clone(), grpc("/"), b"x".to_vec()).await.2, b"x");
        while client.clone().ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_drain_ends_connections_before_its_time() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app.address, false)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.drain_duration = 2 * PATIENCE;
    let mut proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    block_on(async {
        let client = connect(&proxy).await;
        assert_eq!(call(client.clone(), grpc("/"), b"x".to_vec()).await.2, b"x");
        let draining = tokio::task::spawn_blocking(move || proxy.drain());
        draining.await.unwrap();
        assert!(client.ready().await.is_err());
    });
}

#[test]
fn http1_clients_reach_http2_applications() {
    let app = Http2App::echo();
    let proxy = app.outbound(Protocol::Http2);
    let mut client = Wire::connect(&proxy);
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhello");
        let response = client.read_response(false);
        assert_eq!((response.status, &*response.body), (200, "hello"));
        assert_eq!(response.trailers.trim(), "grpc-status: 0");
    }
}

#[test]
fn on_a_port_that_declares_http_the_application_gets_http1() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&format!("{}|{}", request.head, request.body)));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let request = Request::post("http://reviews:9080/")
        .header("content-length", "3")
        .header("content-length", "3")
        .body(())
        .unwrap();
    let answer = block_on(async { call(connect(&outbound).await, request, b"abc".to_vec()).await });
    let seen = String::from_utf8(answer.2).unwrap();
    assert_eq!(answer.0, 200, "{seen}");
    assert!(seen.starts_with("POST / HTTP/1.1\r\n") && seen.ends_with("|abc"), "{seen}");
    assert_eq!(seen.matches("content-length").count(), 1, "{seen}");
}

/// Its application would be spoken to in a version that it may not know.
#[test]
fn nobody_but_a_member_says_that_a_request_came_by_http1() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Undeclared, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let proxy = Proxy::start(ListenerKind::Inbound, app.address, objects);
    let mut request = grpc("/");
    request.headers_mut().insert("x-ironmesh-was-http1", "1".parse().unwrap());
    let (status, _, body, _) =
        block_on(async { call(connect(&proxy).await, request, b"abc".to_vec()).await });
    assert_eq!((status, &*body), (200, &b"abc"[..]));
}

#[test]
fn grpc_stays_http2_on_a_port_that_declares_http() {
    let mesh = Mesh::new();
    let app = Http2App::echo();
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let (status, _, body, _) =
        block_on(async { call(connect(&outbound).await, grpc("/"), b"abc".to_vec()).await });
    assert_eq!((status, &*body), (200, &b"abc"[..]));
}

#[test]
fn grpc_that_was_not_delivered_goes_elsewhere() {
    let mesh = Mesh::new();
    let (app, dead) = (Http2App::echo(), Nowhere::new());
    let broken = mesh.inbound(Protocol::Grpc, dead.address, MtlsMode::Strict, "reviews");
    let alive = mesh.inbound(Protocol::Grpc, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Grpc, &[&broken, &alive]);
    block_on(async {
        let client = connect(&outbound).await;
        // So many that one is sent to the broken one first, whatever is drawn.
        for _ in 0..64 {
            let (_, head, body, _) = call(client.clone(), grpc("/"), b"hi".to_vec()).await;
            assert_eq!(body, b"hi", "{head:?}");
        }
    });
    eventually("a log line", || broken.lines.text().contains(" UF "));
}

#[test]
fn all_requests_of_a_worker_share_one_connection_from_the_first_on() {
    let mesh = Mesh::new();
    let app = Http2App::echo();
    let inbound = mesh.inbound(Protocol::Grpc, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Grpc, &[&inbound]);
    block_on(async {
        let client = connect(&outbound).await;
        for _ in 0..3 {
            for (status, ..) in calls(&client, "/", vec![b"x".to_vec(); 20]).await {
                assert_eq!(status, 200);
            }
        }
    });
    assert_eq!((inbound.process.connections(), app.connections()), (1, 1));
}

#[test]
fn kept_connections_that_died_together_cost_one_replay() {
    let apps = [Http2App::echo(), Http2App::echo()];
    let endpoints = apps.iter().zip(["v1", "v2"]);
    let endpoints = endpoints.map(|(app, version)| endpoint(version, app.address, false));
    let services = vec![reviews(Protocol::Http2, endpoints.collect())];
    let destination_policies = vec![subsets(&[])];
    let objects = Objects { services, destination_policies, ..Objects::default() };
    let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    block_on(async {
        let client = connect(&proxy).await;
        for path in ["/", "/", "/die"] {
            let request = Request::put(format!("http://reviews:9080{path}")).body(()).unwrap();
            let (status, _, body, _) = call(client.clone(), request, b"x".to_vec()).await;
            assert_eq!((status, &*body), (200, &b"x"[..]), "{path}");
        }
    });
    assert_eq!(apps.map(|app| app.connections()).iter().sum::<usize>(), 3);
}

#[test]
fn a_request_that_the_endpoint_reset_is_not_sent_again() {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let app = Http2App::start(100, |request, mut respond| async move {
        if request.uri().path() != "/reset" {
            return echo(request, respond).await;
        }
        SEEN.fetch_add(1, Ordering::SeqCst);
        respond.send_reset(h2::Reason::INTERNAL_ERROR);
    });
    let proxy = app.outbound(Protocol::Http2);
    block_on(async {
        let client = connect(&proxy).await;
        for (path, status) in [("/", 200), ("/reset", 503), ("/", 200)] {
            let request = Request::put(format!("http://reviews:9080{path}")).body(()).unwrap();
            assert_eq!(call(client.clone(), request, Vec::new()).await.0, status, "{path}");
        }
    });
    assert_eq!((SEEN.load(Ordering::SeqCst), app.connections()), (1, 1));
}

#[test]
fn more_requests_than_an_endpoint_allows_streams_get_more_connections() {
    static TOGETHER: LazyLock<Barrier> = LazyLock::new(|| Barrier::new(3));
    let app = Http2App::start(1, |request, respond| async move {
        if request.uri().path() == "/together" {
            TOGETHER.wait().await;
        }
        echo(request, respond).await;
    });
    let proxy = app.outbound(Protocol::Grpc);
    block_on(async {
        let client = connect(&proxy).await;
        // The endpoint says with its first words how many it allows.
        calls(&client, "/first", vec![Vec::new()]).await;
        calls(&client, "/together", vec![Vec::new(); 3]).await;
    });
    assert_eq!(app.connections(), 3);
}

#[test]
fn readers_that_are_slow_do_not_stop_others_of_the_same_connection() {
    const LARGE_BYTES: usize = 1 << 20;
    let app = Http2App::start(100, |request, mut respond| async move {
        if request.uri().path() != "/large" {
            return echo(request, respond).await;
        }
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        // The client may be gone before it has taken it.
        let _ = send.send_data(Bytes::from(vec![0; LARGE_BYTES]), true);
    });
    let proxy = app.outbound(Protocol::Grpc);
    block_on(async {
        let client = connect(&proxy).await;
        let mut unread = Vec::new();
        for _ in 0..16 {
            let mut client = client.clone().ready().await.unwrap();
            let (response, mut send) = client.send_request(grpc("/large"), false).unwrap();
            send.send_data(Bytes::new(), true).unwrap();
            unread.push(response.await.unwrap());
        }
        assert_eq!(call(client, grpc("/"), b"quick".to_vec()).await.2, b"quick");
        assert_eq!(unread.len(), 16);
    });
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_given_up() {
    let app = Http2App::start(100, |_, mut respond| async move {
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from(vec![0; 1 << 20]), true).unwrap();
    });
    let services = vec![reviews(Protocol::Http2, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let stream_idle_timeout = Duration::from_millis(200);
    let limits = ProxyLimits { stream_idle_timeout, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    block_on(async {
        let mut client = connect(&proxy).await.ready().await.unwrap();
        let request = Request::get("http://reviews:9080/").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        // Read on only when it is over: there are a window's bytes, and then the reset.
        while !proxy.lines.text().contains(" 200 SI ") {
            tokio::task::yield_now().await;
        }
        while let Some(Ok(_)) = body.data().await {}
        drop(client);
    });
}

#[test]
fn streams_may_be_silent_while_they_are_open_on_both_sides() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Grpc, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let stream_idle_timeout = Duration::from_secs(1);
    let limits = ProxyLimits { stream_idle_timeout, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    let check = async |request| {
        let mut client = connect(&proxy).await.ready().await.unwrap();
        let (response, mut send) = client.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let silence = timeout(2 * stream_idle_timeout, body.data()).await;
        assert!(silence.is_err(), "{silence:?}");
        send.send_data(Bytes::from_static(b"late"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "late");
    };
    let plain = Request::post("http://reviews:9080/").body(()).unwrap();
    block_on(async { tokio::join!(check(plain), check(grpc("/"))) });
}

#[test]
fn a_client_that_gives_up_an_answer_is_noted_while_the_endpoint_is_silent() {
    let http2 = Http2App::start(100, |_, mut respond| async move {
        let mut send = respond.send_response(Response::new(()), false).unwrap();
        std::future::poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
    });
    let http1 = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        assert!(wire.is_ended());
    });
    for (protocol, app) in [(Protocol::Http2, http2.address), (Protocol::Http, http1.address)] {
        let services = vec![reviews(protocol, vec![endpoint("v1", app, false)])];
        let objects = Objects { services, ..Objects::default() };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        block_on(async {
            let mut client = connect(&proxy).await.ready().await.unwrap();
            let request = Request::get("http://reviews:9080/").body(()).unwrap();
            let (response, mut send) = client.send_request(request, true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            send.send_reset(h2::Reason::CANCEL);
            // The connection stays open, so that the reset is all that tells.
            while !proxy.lines.text().contains(" DC ") {
                tokio::task::yield_now().await;
            }
            drop(client);
        });
    }
}

/// Time counts from the end of the last stream.
#[test]
fn a_connection_whose_streams_were_open_is_not_idle() {
    let app = Http2App::echo();
    let services = vec![reviews(Protocol::Grpc, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let idle = Duration::from_millis(300);
    let limits = ProxyLimits { downstream_idle_timeout: idle, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Outbound, service_address(), objects);
    let proxy = Proxy::begin(Setup { limits, ..setup });
    block_on(async {
        let client = connect(&proxy).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (response, mut send) = ready.send_request(grpc("/"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        let silence = timeout(3 * idle, body.data()).await;
        assert!(silence.is_err(), "{silence:?}");
        // A connection that was told to go takes no other stream.
        assert_eq!(call(client, grpc("/"), b"other".to_vec()).await.2, b"other");
        send.send_data(Bytes::from_static(b"late"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "late");
    });
}

/// More than any window holds at a time.
#[test]
fn large_bodies_go_both_ways() {
    let (app, http1) = (Http2App::echo(), App::http(|request| ok(&request.body)));
    let body = b"0123456789abcdef".repeat(100_000);
    for (protocol, address) in [(Protocol::Grpc, app.address), (Protocol::Http, http1.address)] {
        let services = vec![reviews(protocol, vec![endpoint("v1", address, false)])];
        let objects = Objects { services, ..Objects::default() };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        block_on(async {
            let request = Request::put("http://reviews:9080/").body(()).unwrap();
            let client = connect(&proxy).await.ready().await.unwrap();
            let (response, mut send) = client.clone().send_request(request, false).unwrap();
            let sending = async {
                let mut rest = Bytes::from(body.clone());
                while !rest.is_empty() {
                    send.reserve_capacity(rest.len());
                    let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await;
                    let room = room.unwrap().unwrap().min(rest.len());
                    send.send_data(rest.split_to(room), false).unwrap();
                }
                send.send_data(Bytes::new(), true).unwrap();
            };
            let reading = async {
                let (mut body, mut all) = (response.await.unwrap().into_body(), Vec::new());
                while let Some(data) = body.data().await {
                    let data = data.unwrap();
                    body.flow_control().release_capacity(data.len()).unwrap();
                    all.extend_from_slice(&data);
                }
                all
            };
            let ((), answer) = tokio::join!(sending, reading);
            assert!(answer == body, "{} bytes", answer.len());
        });
    }
}

/// An end would say that it is whole.
#[test]
fn an_answer_that_breaks_off_is_reset() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let app = App::start(move |stream| {
        let mut wire = Wire::new(stream);
        wire.read_request();
        wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart");
        released.lock().unwrap().recv().unwrap();
    });
    let proxy = outbound(Protocol::Http, &[&app]);
    block_on(async {
        let mut client = connect(&proxy).await.ready().await.unwrap();
        let request = Request::get("http://reviews:9080/").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "part");
        release.send(()).unwrap();
        let broken = body.data().await.expect("no end").unwrap_err();
        assert_eq!(broken.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
}
