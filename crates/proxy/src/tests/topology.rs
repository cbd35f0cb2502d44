//! Gateways behind other proxies: who the client is, and what is believed of it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use ironmesh_model::listeners::GatewayProtocol;
use ironmesh_model::policy::{Balance, Balancer, HashBalance, HashKey, HashTable, TrafficPolicy};
use ironmesh_model::service::Protocol;
use ironmesh_model::snapshot::{GatewayServer, GatewaySource, Objects};
use ironmesh_model::topology::{ForwardClientCert, Topology};
use ironmesh_model::{ListenerKind, ObjectId, ResourceKey};

use super::world::*;

/// A gateway in front of these applications, of which the client's address chooses one.
fn gateway(apps: &[&App], topology: Topology, redirects: bool) -> Proxy {
    let mut attached = route(vec![rule(&[("", 1)], None)]);
    attached.hosts = vec!["*".into()];
    attached.gateways = vec!["default/edge".into()];
    let mut policy = subsets(&[]);
    let table = HashTable::Ring { points_min: HashTable::RING_POINTS };
    let by = Balancer::Hash(Box::new(HashBalance { key: HashKey::SourceIp, table }));
    policy.policy.traffic =
        Some(TrafficPolicy { balance: Some(Balance::by(by)), ..TrafficPolicy::default() });
    let mut objects = Objects {
        gateways: vec![GatewaySource {
            id: ObjectId::new("Gateway", "default", "edge"),
            selector: [("app", "client")].into_iter().collect(),
            servers: vec![GatewayServer {
                port: 80,
                name: "http".into(),
                protocol: GatewayProtocol::Http,
                hosts: vec![(None, "*".into())],
                tls: None,
                redirects,
            }],
            created: 0,
        }],
        routes: vec![attached],
        destination_policies: vec![policy],
        ..objects(Protocol::Http, apps)
    };
    objects.settings.gateway_topology = topology;
    let server: SocketAddr = "10.77.0.2:80".parse().unwrap();
    let proxy = Proxy::start(ListenerKind::Gateway, server, objects);
    proxy.workload.views.want(ResourceKey::Listeners);
    eventually("the settings", || proxy.workload.topology() == topology);
    eventually("the listeners", || !proxy.workload.views.load().listeners().listeners.is_empty());
    proxy
}

fn behind(trusted_proxies: u32) -> Topology {
    Topology { trusted_proxies, ..Topology::default() }
}

fn ask(proxy: &Proxy, headers: &str) -> Response {
    let mut client = Wire::connect(proxy);
    client.send(&format!("GET / HTTP/1.1\r\nhost: a.test\r\n{headers}\r\n"));
    client.read_response(false)
}

#[test]
fn the_application_and_the_log_are_told_whom_a_trusted_proxy_names() {
    let app = App::http(|request| ok(&request.head));
    let proxy = gateway(&[&app], behind(2), false);
    let seen = ask(&proxy, "x-forwarded-for: 6.6.6.6, 203.0.113.9, 10.0.0.1\r\n").body;
    assert!(seen.contains("x-envoy-external-address: 203.0.113.9\r\n"), "{seen}");
    assert!(
        seen.contains("x-forwarded-for: 6.6.6.6, 203.0.113.9, 10.0.0.1,127.0.0.1\r\n"),
        "{seen}"
    );
    eventually("the log", || proxy.lines.text().contains(" 203.0.113.9:0 "));
    // Fewer names than proxies, and names that are none: the client is who connects.
    for said in ["", "x-forwarded-for: 203.0.113.9\r\n", "x-forwarded-for: a, b\r\n"] {
        let seen = ask(&proxy, said).body;
        assert!(seen.contains("x-envoy-external-address: 127.0.0.1\r\n"), "{seen}");
    }
    let trusting_nobody = gateway(&[&app], behind(0), false);
    let seen = ask(&trusting_nobody, "x-forwarded-for: 203.0.113.9\r\n").body;
    assert!(seen.contains("x-envoy-external-address: 127.0.0.1\r\n"), "{seen}");
    eventually("its log", || trusting_nobody.lines.text().contains(" 127.0.0.1:"));
}

#[test]
fn requests_are_spread_by_whom_a_trusted_proxy_names() {
    let (one, two) = (App::named("one"), App::named("two"));
    let answering = |proxy: &Proxy, client: &dyn Fn(u32) -> String| -> BTreeSet<String> {
        (0..40).map(|n| ask(proxy, &format!("x-forwarded-for: {}\r\n", client(n))).body).collect()
    };
    let proxy = gateway(&[&one, &two], behind(1), false);
    assert_eq!(answering(&proxy, &|n| format!("{n}.6.6.6, 203.0.113.9")).len(), 1);
    assert_eq!(answering(&proxy, &|n| format!("203.0.113.{n}")).len(), 2);
    let trusting_nobody = gateway(&[&one, &two], behind(0), false);
    assert_eq!(answering(&trusting_nobody, &|n| format!("203.0.113.{n}")).len(), 1);
}

#[test]
fn a_trusted_proxy_says_that_a_request_came_by_https() {
    let app = App::http(|request| ok(&request.head));
    let proxy = gateway(&[&app], behind(1), true);
    let answer = ask(&proxy, "x-forwarded-proto: https\r\n");
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("x-forwarded-proto: https\r\n"), "{}", answer.body);
    assert_eq!(ask(&proxy, "x-forwarded-proto: http\r\n").status, 301);
    assert_eq!(ask(&proxy, "").status, 301);
    let trusting_nobody = gateway(&[&app], behind(0), true);
    assert_eq!(ask(&trusting_nobody, "x-forwarded-proto: https\r\n").status, 301);
}

#[test]
fn without_a_certificate_only_the_widest_topology_lets_one_be_named() {
    let app = App::http(|request| ok(&request.head));
    for (client_cert, word) in ForwardClientCert::WORDS {
        let proxy = gateway(&[&app], Topology { client_cert, ..Topology::default() }, false);
        let seen = ask(&proxy, "x-forwarded-client-cert: Hash=forged\r\n").body;
        let is_named = client_cert == ForwardClientCert::AlwaysForwardOnly;
        assert_eq!(seen.contains("Hash=forged"), is_named, "{word}: {seen}");
    }
}
