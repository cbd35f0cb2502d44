//! The PROXY protocol, in and out, and tunnels through other proxies.

use std::net::SocketAddr;

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::policy::{ProxyProtocol, TrafficPolicy, Tunnel};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource, Objects};
use ironmesh_model::{ListenerKind, ObjectId, ResourceKey};

use super::world::*;

/// A gateway in front of an application, behind a balancer that speaks the protocol.
fn behind_balancer(app: &App) -> Proxy {
    let mut attached = route(vec![rule(&[("", 1)], None)]);
    attached.hosts = vec!["*".into()];
    attached.gateways = vec!["default/edge".into()];
    let mut objects = Objects {
        services: vec![reviews(Protocol::Http, vec![endpoint("v1", app.address, false)])],
        gateways: vec![GatewaySource {
            id: ObjectId::new("Gateway", "default", "edge"),
            selector: [("app", "client")].into_iter().collect(),
            servers: vec![GatewayServer {
                port: 80,
                name: "http".into(),
                protocol: GatewayProtocol::Http,
                hosts: vec![(None, "*".into())],
                tls: None,
                redirects: false,
            }],
            created: 0,
        }],
        routes: vec![attached],
        ..Objects::default()
    };
    objects.settings.gateway_proxy_protocol = true;
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    let proxy = Proxy::start(ListenerKind::Gateway, server, objects);
    proxy.workload.views.want(ResourceKey::Listeners);
    let expects = || proxy.workload.expects_proxy_protocol();
    eventually("the setting", expects);
    eventually("the listeners", || !proxy.workload.views.load().listeners().listeners.is_empty());
    proxy
}

#[test]
fn a_gateway_believes_the_balancer_in_front_of_it() {
    let app = App::http(|request| ok(&request.head));
    let proxy = behind_balancer(&app);
    let ask = |header: &[u8], pieces: usize| {
        let mut client = Wire::connect(&proxy);
        let bytes = [header, b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"].concat();
        for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
            client.send(&piece.iter().map(|byte| char::from(*byte)).collect::<String>());
        }
        client.read_to_end()
    };
    for pieces in [1, 3, 30] {
        let seen = ask(b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 80\r\n", pieces);
        assert!(seen.contains("x-forwarded-for: 192.0.2.7"), "{seen}");
    }
    let seen = ask(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 1);
    assert!(seen.contains("x-forwarded-for: 127.0.0.1"), "the balancer itself: {seen}");
    // Nobody says it, or what is none: no request gets through.
    let before = app.connections();
    for header in [&b""[..], b"PROXY TCP4 192.0.2.7\r\n", b"PROXY TCP9 a b 1 2\r\n"] {
        let seen = ask(header, 1);
        assert!(!seen.contains("200 OK"), "{seen}");
    }
    assert_eq!(app.connections(), before);
}

fn with_policy(protocol: Protocol, app: &App, traffic: TrafficPolicy) -> Proxy {
    let mut policy = subsets(&[]);
    policy.policy.traffic = Some(traffic);
    let objects = Objects {
        services: vec![reviews(protocol, vec![endpoint("v1", app.address, false)])],
        destination_policies: vec![policy],
        ..Objects::default()
    };
    Proxy::start(ListenerKind::Outbound, service_address(), objects)
}

/// An application that reads a line of the first version, and answers every request with it.
fn told() -> App {
    App::start(|stream| {
        let mut wire = Wire::new(stream);
        let Some(line) = wire.read_until("\r\n") else { return };
        while wire.read_request().is_some() {
            wire.send(&ok(&line));
        }
    })
}

/// A connection is for one client, as it was told whose it is.
#[test]
fn endpoints_are_told_who_calls_and_no_connection_is_shared() {
    let app = told();
    let traffic =
        || TrafficPolicy { proxy_protocol: Some(ProxyProtocol::V1), ..TrafficPolicy::default() };
    let proxy = with_policy(Protocol::Http, &app, traffic());
    let mut clients = [Wire::connect(&proxy), Wire::connect(&proxy)];
    for _ in 0..2 {
        for client in &mut clients {
            let own = client.stream.local_addr().unwrap();
            let (ip, port, to) = (own.ip(), own.port(), service_address());
            let line = format!("PROXY TCP4 {ip} {} {port} {}\r\n", to.ip(), to.port());
            assert_eq!(client.get("/").body, line);
        }
    }
    assert_eq!(app.connections(), 2);
    let opaque = with_policy(Protocol::Tcp, &app, traffic());
    let mut client = Wire::connect(&opaque);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let port = client.stream.local_addr().unwrap().port();
    let line = client.read_response(false).body;
    assert!(line.contains(&format!(" {port} ")), "{line}");
}

#[test]
fn connections_go_on_through_a_tunnel_or_not_at_all() {
    let proxies = |status: &'static str| {
        App::start(move |stream| {
            let mut wire = Wire::new(stream);
            let Some(asked) = wire.read_until("\r\n\r\n") else { return };
            wire.send(&format!("HTTP/1.1 {status}\r\nvia: x\r\n\r\nhello "));
            wire.send(asked.lines().next().unwrap());
            let said = wire.read_until("!").unwrap_or_default();
            wire.send(&format!(" {said}"));
        })
    };
    let tunnel = Tunnel { host: "far.example".into(), port: 8443 };
    let through = || TrafficPolicy { tunnel: Some(tunnel.clone()), ..TrafficPolicy::default() };
    let open = proxies("200 Connection established");
    let proxy = with_policy(Protocol::Tcp, &open, through());
    let mut client = Wire::connect(&proxy);
    client.send("mine!");
    let seen = client.read_to_end();
    assert_eq!(seen, "hello CONNECT far.example:8443 HTTP/1.1 mine!");
    for status in ["403 Forbidden", "x"] {
        let closed = proxies(status);
        let proxy = with_policy(Protocol::Tcp, &closed, through());
        let mut client = Wire::connect(&proxy);
        client.send("mine!");
        assert!(client.is_ended(), "{status}");
        eventually("a log line", || proxy.lines.text().contains("UF"));
    }
}
