//! Two proxies and mutual TLS between them; permissive and strict inbound.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ironmesh_identity::{Authority, Clock, Credentials, KeyPair, SystemClock};
use ironmesh_model::ListenerKind;
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::route::Rule;
use ironmesh_model::service::{Protocol, UpstreamTls, Workload};
use ironmesh_model::snapshot::Objects;
use tokio::time::Instant;

use super::world::*;

/// An authority, and proxies that have certificates from it.
pub(super) struct Mesh(Authority);

impl Mesh {
    pub(super) fn new() -> Self {
        Self(Authority::create(SystemClock.now()).unwrap())
    }

    pub(super) fn certify(&self, proxy: &Proxy, name: &str) {
        proxy.workload.credentials.store(Some(self.credentials(name)));
        proxy.workload.views.touch();
    }

    /// What proves that a member is `name`.
    pub(super) fn credentials(&self, name: &str) -> Arc<Credentials> {
        let key = KeyPair::generate().unwrap();
        let ttl = Duration::from_secs(3600);
        let csr = key.csr().unwrap();
        let issued = self.0.sign(&csr, &identity(name), ttl, SystemClock.now()).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Credentials::new(&key, &issued.chain, &issued.anchors_pem, clock).unwrap()
    }

    /// The proxy of an application, certified as `name`.
    pub(super) fn inbound(
        &self,
        protocol: Protocol,
        app: SocketAddr,
        mode: MtlsMode,
        name: &str,
    ) -> Proxy {
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
    pub(super) fn outbound(&self, protocol: Protocol, behind: &[&Proxy]) -> Proxy {
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
    let mut hashes = std::collections::HashSet::new();
    for _ in 0..5 {
        let seen = client.get("/").body;
        let xfcc = seen.lines().find(|line| line.starts_with("x-forwarded-client-cert: ")).unwrap();
        let (by, rest) = xfcc.split_once(";Hash=").unwrap();
        assert!(by.ends_with(" By=spiffe://cluster.local/ns/default/sa/reviews"), "{xfcc}");
        let (hash, rest) = rest.split_at(64);
        assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{xfcc}");
        hashes.insert(hash.to_owned());
        let client = ";Subject=\"\";URI=spiffe://cluster.local/ns/default/sa/client";
        assert_eq!(rest, client);
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(inbound.process.connections(), 1);
    // It is of the certificate, of which each proxy has its own.
    let other = mesh.outbound(Protocol::Http, &[&inbound]);
    let seen = Wire::connect(&other).get("/").body;
    assert_eq!(hashes.len(), 1);
    assert!(!seen.contains(hashes.iter().next().unwrap()), "{seen}");
    eventually("the metrics of both", || {
        let (source, destination) = (outbound.registry.render(), inbound.registry.render());
        let mutual = "connection_security_policy=\"mutual_tls\"";
        let principal = "source_principal=\"spiffe://cluster.local/ns/default/sa/client\"";
        source.contains("reporter=\"source\"")
            && destination.lines().any(|line| {
                line.starts_with("istio_requests_total")
                    && line.contains(mutual)
                    && line.contains(principal)
                    && line.ends_with(" 6")
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
fn an_endpoint_that_is_not_trusted_is_passed_over() {
    let mesh = Mesh::new();
    let (bad, good) = (App::named("bad"), App::named("good"));
    let impostor = mesh.inbound(Protocol::Http, bad.address, MtlsMode::Strict, "impostor");
    let inbound = mesh.inbound(Protocol::Http, good.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&impostor, &inbound]);
    let mut client = Wire::connect(&outbound);
    for _ in 0..4 {
        assert_eq!(client.get("/").body, "good");
    }
    assert_eq!(bad.connections(), 0);
}

/// Another workload has the address now: what was proved there is of no more use.
#[test]
fn a_kept_connection_ends_when_its_endpoint_is_someone_else() {
    let mesh = Mesh::new();
    let app = App::named("a");
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    assert_eq!(Wire::connect(&outbound).get("/").body, "a");
    assert_eq!(inbound.process.connections(), 1);
    let mut other = endpoint("v0", inbound.address, true);
    other.tls = UpstreamTls::Mesh(identity("other"));
    let services = vec![reviews(Protocol::Http, vec![other])];
    outbound.change(Objects { services, ..Objects::default() });
    eventually("its end", || inbound.process.connections() == 0);
}

#[test]
fn a_caller_of_another_mesh_leaves_a_line() {
    let (mesh, other) = (Mesh::new(), Mesh::new());
    let app = App::named("a");
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = other.outbound(Protocol::Http, &[&inbound]);
    assert_eq!(Wire::connect(&outbound).get("/").status, 503);
    eventually("a log line", || inbound.lines.text().contains(" handshake_failed "));
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
    eventually("a log line", || strict.lines.text().contains(" NR filter_chain_not_found "));
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
    // A ClientHello for `a.b` that offers no protocol at all, and its answer.
    let hello: &[u8] = &[
        22, 3, 1, 0, 59, 1, 0, 0, 55, 3, 3, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
        7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 2, 19, 1, 1, 0, 0, 12, 0, 0, 0, 8, 0, 6, 0,
        0, 3, b'a', b'.', b'b',
    ];
    let app = App::start(|mut stream| {
        let mut got = [0; 64];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(if got[..] == *hello { b"same" } else { b"other" }).unwrap();
    });
    for protocol in [Protocol::Http, Protocol::Tcp, Protocol::Undeclared] {
        let inbound = mesh.inbound(protocol, app.address, MtlsMode::Permissive, "reviews");
        let mut client = Wire::connect(&inbound);
        client.stream.write_all(hello).unwrap();
        assert_eq!(client.read_to_end(), "same");
        drop(client);
        eventually("a log line with the name", || inbound.lines.text().ends_with(" a.b -\n"));
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
        tls: UpstreamTls::Mesh(identity("client")),
        tls_at: Vec::new(),
        locality: "".into(),
        network: "".into(),
        node: "".into(),
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
fn a_handshake_that_has_begun_must_come_in_time() {
    let app = App::named("a");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])];
    let objects = Objects { services, ..Objects::default() };
    let soon = Duration::from_millis(200);
    let limits =
        ProxyLimits { handshake_timeout: soon, head_timeout: soon, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Inbound, app.address, objects);
    let inbound = Proxy::begin(Setup { limits, ..setup });
    let mut client = Wire::connect(&inbound);
    // The first byte of a TLS record.
    client.send("\x16");
    assert!(client.is_ended());
    assert_eq!(app.connections(), 0);
}

#[test]
fn the_timeout_of_a_route_covers_the_connection_and_all_attempts() {
    let mesh = Mesh::new();
    let silent = [(); 2].map(|()| App::silent());
    let timed = Rule { timeout: Some(Duration::from_millis(200)), ..rule(&[("", 1)], None) };
    let endpoints = silent.iter().map(|app| endpoint("v1", app.address, true)).collect();
    let objects = Objects {
        services: vec![reviews(Protocol::Http, endpoints)],
        routes: vec![route(vec![timed])],
        ..Objects::default()
    };
    let outbound = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    mesh.certify(&outbound, "client");
    let response = Wire::connect(&outbound).get("/");
    assert_eq!((response.status, &*response.body), (504, "upstream request timeout"));
    eventually("a log line", || outbound.lines.text().contains(" 504 UT "));
    let connections = || silent.iter().map(App::connections).sum::<usize>();
    eventually("a connection", || connections() > 0);
    assert_eq!(connections(), 1);
}

#[test]
fn idle_connections_to_an_endpoint_that_is_no_longer_ready_are_given_up() {
    let mesh = Mesh::new();
    for protocol in [Protocol::Http, Protocol::Http2] {
        let app = App::named("a");
        let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
        let outbound = mesh.outbound(protocol, &[&inbound]);
        let mut client = Wire::connect(&outbound);
        client.get("/");
        eventually("a connection", || inbound.process.connections() == 1);
        let mut unready = endpoint("v0", inbound.address, true);
        unready.ready = false;
        let services = vec![reviews(protocol, vec![unready])];
        outbound.change(Objects { services, ..Objects::default() });
        eventually("its end", || inbound.process.connections() == 0);
        assert_eq!(client.get("/").header("x-ironmesh-reason"), Some("no_endpoints"));
    }
}

/// A connection that is in use when its endpoint is no longer ready ends when it is given back.
#[test]
fn a_connection_in_use_to_an_endpoint_that_is_no_longer_ready_is_given_up_after_its_request() {
    let mesh = Mesh::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let app = App::http(move |request| {
        if request.head.starts_with("GET /late ") {
            released.lock().unwrap().recv().unwrap();
        }
        ok("late")
    });
    let inbound = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&inbound]);
    super::http2::block_on(async {
        // One connection, so that all is done by one worker: one request waits, another is over.
        let client = super::http2::connect(&outbound).await;
        let get =
            |path: &str| http::Request::get(format!("http://reviews:9080{path}")).body(()).unwrap();
        let waits = tokio::spawn(super::http2::call(client.clone(), get("/late"), Vec::new()));
        while app.connections() == 0 {
            tokio::task::yield_now().await;
        }
        super::http2::call(client, get("/"), Vec::new()).await;
        assert_eq!(inbound.process.connections(), 2);
        let mut unready = endpoint("v0", inbound.address, true);
        unready.ready = false;
        let services = vec![reviews(Protocol::Http, vec![unready])];
        outbound.change(Objects { services, ..Objects::default() });
        eventually("the end of the idle one", || inbound.process.connections() == 1);
        release.send(()).unwrap();
        assert_eq!(waits.await.unwrap().2, b"late");
    });
    eventually("the end of the other", || inbound.process.connections() == 0);
}

#[test]
fn a_client_that_says_nothing_to_a_strict_workload_is_given_up() {
    let app = App::named("a");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.mtls_mode = MtlsMode::Strict;
    let limits =
        ProxyLimits { handshake_timeout: Duration::from_millis(100), ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Inbound, app.address, objects);
    let inbound = Proxy::begin(Setup { limits, ..setup });
    assert!(Wire::connect(&inbound).is_ended());
    assert_eq!(app.connections(), 0);
}

/// Where mutual TLS is off no handshake is to come, whoever calls.
#[test]
fn without_mutual_tls_a_server_that_speaks_first_is_not_kept_waiting() {
    let app = App::start(|stream| Wire::new(stream).send("ready\r\n"));
    let services = vec![reviews(Protocol::Tcp, vec![endpoint("v1", app.address, false)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.mtls_mode = MtlsMode::Disable;
    objects.settings.detect_timeout = Duration::from_secs(3_600);
    let setup = Setup::new(ListenerKind::Inbound, app.address, objects);
    let inbound = Proxy::begin(Setup { mute: true, ..setup });
    inbound.speak();
    assert_eq!(Wire::connect(&inbound).read_to_end(), "ready\r\n");
}

/// A handshake that does not come about within the time that a connection may take.
#[test]
fn an_endpoint_that_says_nothing_in_its_handshake_counts_as_unreachable() {
    let mesh = Mesh::new();
    let silent = App::silent();
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", silent.address, true)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.connect_timeout = Duration::from_millis(100);
    let outbound = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    mesh.certify(&outbound, "client");
    let response = Wire::connect(&outbound).get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("x-ironmesh-reason"), Some("connect_failed"));
}

/// Whoever trickles a handshake does not hold a place for longer than one who stops.
#[test]
fn a_handshake_must_come_in_time_however_often_a_byte_of_it_comes() {
    let app = App::named("a");
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])];
    let mut objects = Objects { services, ..Objects::default() };
    objects.settings.mtls_mode = MtlsMode::Strict;
    let soon = Duration::from_millis(300);
    let limits =
        ProxyLimits { handshake_timeout: soon, head_timeout: soon, ..ProxyLimits::default() };
    let setup = Setup::new(ListenerKind::Inbound, app.address, objects);
    let inbound = Proxy::begin(Setup { limits, ..setup });
    let mut client = Wire::connect(&inbound);
    // The head of a record that promises much, and then byte after byte.
    client.stream.write_all(&[22, 3, 1, 0x3f, 0xff, 1, 0, 0x3f, 0]).unwrap();
    client.stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let (start, mut got) = (Instant::now(), [0; 1]);
    // The pause between the bytes is that of the read.
    while client.stream.peek(&mut got).is_err() {
        client.send("y");
        assert!(start.elapsed() < PATIENCE, "the handshake is still awaited");
    }
}

#[test]
fn a_client_that_leaves_while_a_connection_is_made_is_noted() {
    let mesh = Mesh::new();
    let silent = App::silent();
    let services = vec![reviews(Protocol::Http, vec![endpoint("v1", silent.address, true)])];
    let objects = Objects { services, ..Objects::default() };
    let outbound = Proxy::start(ListenerKind::Outbound, service_address(), objects);
    mesh.certify(&outbound, "client");
    let mut client = Wire::connect(&outbound);
    client.send("GET / HTTP/1.1\r\nhost: reviews:9080\r\n\r\n");
    eventually("the handshake to begin", || silent.connections() == 1);
    let left = Instant::now();
    drop(client);
    eventually("a log line", || outbound.lines.text().contains(" DC "));
    let connect_timeout = outbound.workload.views.load().settings().connect_timeout;
    assert!(left.elapsed() < connect_timeout / 2, "{:?}", left.elapsed());
}

#[test]
fn what_was_not_delivered_goes_elsewhere() {
    let mesh = Mesh::new();
    let app = App::named("alive");
    let dead = Nowhere::new();
    let broken = mesh.inbound(Protocol::Http, dead.address, MtlsMode::Strict, "reviews");
    let alive = mesh.inbound(Protocol::Http, app.address, MtlsMode::Strict, "reviews");
    let outbound = mesh.outbound(Protocol::Http, &[&broken, &alive]);
    let mut client = Wire::connect(&outbound);
    let mut ask = || {
        client.send("POST / HTTP/1.1\r\nhost: reviews:9080\r\ncontent-length: 2\r\n\r\nhi");
        let response = client.read_response(false);
        assert_eq!(response.body, "alive");
        assert_eq!(response.header("x-ironmesh-not-delivered"), None);
        broken.process.connections() > 0
    };
    // Which of the two a request meets first is drawn.
    eventually("a request that met the broken one", &mut ask);
    for _ in 0..6 {
        ask();
    }
    assert_eq!(broken.process.connections(), 1, "the connection to the proxy was thrown away");
}
