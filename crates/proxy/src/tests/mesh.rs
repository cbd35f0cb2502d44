//! Two proxies and mutual TLS between them; permissive and strict inbound; HTTP/2 and gRPC.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use ironmesh_identity::{Authority, Clock, Credentials, KeyPair, SystemClock};
use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::service::{Protocol, Workload};
use ironmesh_model::snapshot::Objects;
use tokio::time::Instant;

use super::world::*;

/// An authority, and proxies that have certificates from it.
struct Mesh(Authority);

impl Mesh {
    fn new() -> Self {
        Self(Authority::create(SystemClock.now()).unwrap())
    }

    fn certify(&self, proxy: &Proxy, name: &str) {
        let key = KeyPair::generate().unwrap();
        let ttl = Duration::from_secs(3600);
        let csr = key.csr().unwrap();
        let issued = self.0.sign(&csr, &identity(name), ttl, SystemClock.now()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let credentials =
            Credentials::new(&key, &issued.chain, &issued.anchors_pem, clock).unwrap();
        proxy.workload.credentials.store(Some(credentials));
        proxy.process.views.touch();
    }

    /// The proxy of an application, certified as `name`.
    fn inbound(&self, protocol: Protocol, app: SocketAddr, mode: MtlsMode, name: &str) -> Proxy {
        let mut objects = Objects {
            services: vec![reviews(protocol, vec![endpoint("v1", app, false)])],
            ..Objects::default()
        };
        objects.settings.mtls_mode = mode;
        let proxy = Proxy::start(ListenerKind::Inbound, app, objects);
        self.certify(&proxy, name);
        proxy
    }

    /// The proxy of a caller, who is to find `reviews` behind these proxies.
    fn outbound(&self, protocol: Protocol, behind: &[&Proxy]) -> Proxy {
        let endpoints = behind
            .iter()
            .enumerate()
            .map(|(index, proxy)| endpoint(&format!("v{index}"), proxy.address, true))
            .collect();
        let objects =
            Objects { services: vec![reviews(protocol, endpoints)], ..Objects::default() };
        let proxy = Proxy::start(ListenerKind::Outbound, service_address(), objects);
        self.certify(&proxy, "client");
        proxy
    }
}

#[test]
fn members_speak_mutual_tls_over_kept_connections() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.head));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let mut client = Wire::connect(&outbound);
    for _ in 0..5 {
        let seen = client.get("/").body;
        assert!(seen.contains("URI=spiffe://cluster.local/ns/default/sa/client"), "{seen}");
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(inbound.process.connections(), 1);
    eventually("the metrics of both", || {
        let (source, destination) = (outbound.registry.render(), inbound.registry.render());
        let mutual = "connection_security_policy=\"mutual_tls\"";
        let principal = "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"";
        source.contains("reporter=\"source\"")
            && destination.lines().any(|line| {
                line.starts_with("istio_requests_total")
                    && line.contains(mutual)
                    && line.contains(principal)
                    && line.ends_with(" 5")
            })
    });
}

#[test]
fn mutual_tls_can_be_turned_off_and_callers_that_do_not_know_are_still_served() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.head));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Disable, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let seen = Wire::connect(&outbound).get("/").body;
    assert!(seen.contains("URI=spiffe://cluster.local/ns/default/sa/client"), "{seen}");

    let behind = vec![endpoint("v1", inbound.address, true)];
    let mut objects =
        Objects { services: vec![reviews(Protocol::Http, behind)], ..Objects::default() };
    objects.settings.mtls_mode = MtlsMode::Disable;
    outbound.change(objects);
    let seen = Wire::connect(&outbound).get("/").body;
    assert!(!seen.contains("x-forwarded-client-cert"), "it came in plaintext: {seen}");
}

#[test]
fn a_large_body_arrives_whole_through_both() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.body));
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let mut client = Wire::connect(&outbound);
    let body = "0123456789abcdef".repeat(60_000);
    let length = body.len();
    client.send(&format!(
        "PUT / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: {length}\r\n\r\n{body}"
    ));
    assert!(client.read_response(false).body == body);
}

#[test]
fn an_endpoint_that_is_someone_else_is_not_trusted() {
    let mesh = Mesh::new();
    let app = App::named("a");
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "impostor");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let response = Wire::connect(&outbound).get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-ironmesh-reason"), Some("peer_untrusted"));
    assert_eq!(app.connections(), 0);
}

#[test]
fn strict_refuses_plaintext_and_permissive_takes_it() {
    let mesh = Mesh::new();
    let app = App::http(|request| ok(&request.head));
    let strict = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let mut client = Wire::connect(&strict);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    assert!(client.is_ended());
    eventually("a log line", || strict.lines.text().contains("plaintext_refused"));
    assert_eq!(app.connections(), 0);
    for protocol in [Protocol::Http, Protocol::Undeclared] {
        let permissive = mesh.inbound(protocol, app.address, MtlsMode::Permissive, "reviews");
        let mut client = Wire::connect(&permissive);
        client.send(concat!(
            "GET / HTTP/1.1\r\nhost: reviews:9080\r\nx-envoy-x: 1\r\n",
            "x-forwarded-client-cert: By=me\r\n\r\n"
        ));
        let seen = client.read_response(false).body;
        assert!(seen.contains("host: reviews:9080"), "{seen}");
        assert!(!seen.contains("x-envoy-x") && !seen.contains("By=me"), "{seen}");
    }
}

#[test]
fn the_application_s_own_tls_passes_through() {
    let mesh = Mesh::new();
    // The beginning of a ClientHello that offers no protocol at all, and its answer.
    let hello: &[u8] = &[
        22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 2, 19, 1, 1, 0,
    ];
    let app = App::start(|mut stream| {
        let mut got = [0; 50];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(if got[..] == *hello { b"same" } else { b"other" }).unwrap();
    });
    for protocol in [Protocol::Http, Protocol::Tcp, Protocol::Undeclared] {
        let inbound = mesh.inbound(protocol, app.address, MtlsMode::Permissive, "reviews");
        let mut client = Wire::connect(&inbound);
        client.stream.write_all(hello).unwrap();
        assert_eq!(client.read_to_end(), "same");
    }
}

#[test]
fn a_server_that_speaks_first_is_heard_through_both() {
    let mesh = Mesh::new();
    let app = App::start(|stream| {
        let mut wire = Wire::new(stream);
        wire.send("ready\r\n");
        let all = wire.read_to_end();
        wire.send(&all);
    });
    for protocol in [Protocol::Tcp, Protocol::Undeclared] {
        let inbound = mesh.inbound(protocol, app.address, MtlsMode::Permissive, "reviews");
        let outbound = mesh.outbound(protocol, &[&inbound]);
        let mut client = Wire::connect(&outbound);
        assert_eq!(client.read_until("\r\n").unwrap(), "ready\r\n");
        client.send("over");
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read_to_end(), "over");
        eventually("the metrics", || {
            inbound.registry.render().lines().any(|line| {
                line.starts_with("istio_tcp_connections_closed_total")
                    && line.contains("mutual_tls")
            })
        });
    }
}

#[test]
fn http_after_a_silence_is_not_taken_for_opaque_because_of_the_handshake() {
    let mesh = Mesh::new();
    let app = App::named("a");
    let inbound = mesh.inbound(Protocol::Undeclared, app.address, MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Undeclared, &[&inbound]);
    let mut client = Wire::connect(&outbound);
    eventually("the silence to end", || inbound.process.connections() == 1);
    eventually("the opaque connection to arrive", || app.connections() == 1);
    assert_eq!(client.get("/").body, "a");
    eventually("a log line", || outbound.lines.text().contains("GET / HTTP/1.1"));
}

#[test]
fn a_stranger_that_waits_for_the_server_is_not_kept_waiting() {
    let mesh = Mesh::new();
    let app = App::start(|stream| Wire::new(stream).send("ready\r\n"));
    let inbound = mesh.inbound(Protocol::Tcp, app.address, MtlsMode::Permissive, "reviews");
    let mut client = Wire::connect(&inbound);
    assert_eq!(client.read_to_end(), "ready\r\n");
}

#[test]
fn a_member_is_awaited_even_if_it_hesitates() {
    let mesh = Mesh::new();
    let app = App::start(|stream| Wire::new(stream).send("ready\r\n"));
    let mut objects = Objects {
        services: vec![reviews(Protocol::Tcp, vec![endpoint("v1", app.address, false)])],
        ..Objects::default()
    };
    let member = Workload {
        id: workload("client").id.clone(),
        owner: "client".into(),
        identity: identity("client"),
        labels: [("app", "client")].into_iter().collect(),
        meshed: true,
    };
    objects.workloads = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), member)];
    let patience = Duration::from_millis(300);
    let limits = ProxyLimits { handshake_timeout: patience, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Inbound, app.address, objects);
    let inbound = Proxy::begin(Setup { limits, ..setup });
    mesh.certify(&inbound, "reviews");
    let begun = Instant::now();
    let mut client = Wire::connect(&inbound);
    assert_eq!(client.read_to_end(), "ready\r\n");
    assert!(begun.elapsed() >= patience, "the application was dialled before the handshake");
}

#[test]
fn what_was_not_delivered_goes_elsewhere() {
    let mesh = Mesh::new();
    let app = App::named("alive");
    let nowhere = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = nowhere.local_addr().unwrap();
    drop(nowhere);
    let broken = mesh.inbound(Protocol::Http, dead, MtlsMode::Strict, "reviews");
    let alive = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&broken, &alive]);
    let mut client = Wire::connect(&outbound);
    for _ in 0..6 {
        client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nhi");
        let response = client.read_response(false);
        assert_eq!(response.body, "alive");
        assert_eq!(response.header("x-ironmesh-not-delivered"), None);
    }
}

/// A toy HTTP/2 application that sends back what it gets, with trailers.
fn http2_app() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let socket = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            tell.send(socket.local_addr().unwrap()).unwrap();
            loop {
                let (tcp, _) = socket.accept().await.unwrap();
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        tokio::spawn(async move {
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
                            send.send_trailers(trailers).unwrap();
                        });
                    }
                });
            }
        });
    });
    told.recv().unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Status, head, body and trailers of an answer over HTTP/2.
type Answer = (u16, HeaderMap, Vec<u8>, Option<HeaderMap>);

/// Sends gRPC-like requests at once over one connection; gives their answers.
fn http2_calls(proxy: &Proxy, bodies: Vec<Vec<u8>>) -> Vec<Answer> {
    let address = proxy.address;
    runtime().block_on(async move {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(tcp).await.unwrap();
        tokio::spawn(connection);
        let calls = bodies.into_iter().map(|body| {
            let mut client = client.clone();
            tokio::spawn(async move {
                let request = Request::post("http://reviews:9080/shop.Cart/Add")
                    .header("content-type", "application/grpc")
                    .header("te", "trailers")
                    .body(())
                    .unwrap();
                client = client.ready().await.unwrap();
                let (response, mut send) = client.send_request(request, false).unwrap();
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
            })
        });
        let mut answers = Vec::new();
        for call in calls.collect::<Vec<_>>() {
            answers.push(tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap());
        }
        answers
    })
}

#[test]
fn grpc_goes_through_both_with_its_trailers() {
    let mesh = Mesh::new();
    let inbound = mesh.inbound(Protocol::Grpc, http2_app(), MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Grpc, &[&inbound]);
    let bodies: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 40_000 + usize::from(n)]).collect();
    for (answer, body) in http2_calls(&outbound, bodies.clone()).into_iter().zip(bodies) {
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
    let (status, head, body, trailers) = http2_calls(&proxy, vec![b"x".to_vec()]).pop().unwrap();
    assert_eq!((status, body.len(), trailers), (200, 0, None));
    assert_eq!(head.get("grpc-status").unwrap(), "14");
    assert_eq!(head.get("x-ironmesh-reason").unwrap(), "no_endpoints");
}

#[test]
fn http1_clients_reach_http2_applications() {
    let proxy = {
        let endpoints = vec![endpoint("v1", http2_app(), false)];
        let services = vec![reviews(Protocol::Http2, endpoints)];
        let objects = Objects { services, ..Objects::default() };
        Proxy::start(ListenerKind::Outbound, service_address(), objects)
    };
    let mut client = Wire::connect(&proxy);
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 5\r\n\r\nhello");
        let response = client.read_response(false);
        assert_eq!((response.status, &*response.body), (200, "hello"));
        assert_eq!(response.trailers.trim(), "grpc-status: 0");
    }
}

#[test]
fn on_a_port_that_declares_http_the_client_chooses_the_version() {
    let mesh = Mesh::new();
    let inbound = mesh.inbound(Protocol::Http, http2_app(), MtlsMode::Permissive, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    let (status, _, body, _) = http2_calls(&outbound, vec![b"abc".to_vec()]).pop().unwrap();
    assert_eq!((status, &*body), (200, &b"abc"[..]));
}
