//! Ports of a pod that several services declare.

use super::*;
use crate::policy::ConnectionPool;
use crate::service::PortMap;
use crate::snapshot::{IngressPort, SidecarSource};

/// A service on the same pods as any other of this octet.
fn on_pods(name: &str, created: Created, protocol: Protocol, pods: &[&str]) -> ServiceSource {
    let pods: Vec<_> = pods.iter().map(|uid| (*uid, "v1", true)).collect();
    let mut source = service("default", name, 1, 8080, &pods);
    source.service.ports[0].protocol = protocol;
    source.reach.created = created;
    source
}

/// What the proxy of the first pod holds for the port.
fn inbound(services: Vec<ServiceSource>) -> (Protocol, String) {
    let proxy = Proxy::sidecar(Objects { services, ..Objects::default() }, "default", &[]);
    let here = Target::Address(IpAddr::from([10, 77, 1, 0]), EVERY_PORT);
    let applies = applies(&proxy, ListenerKind::Inbound, here).unwrap();
    let [port] = &applies.inbound_ports[..] else { panic!("{:?}", applies.inbound_ports) };
    let service = port.service.as_ref().unwrap();
    (port.protocol, service.hostname.split('.').next().unwrap().to_owned())
}

#[test]
fn a_port_of_several_services_is_what_they_have_in_common() {
    use Protocol::{Grpc, Http, Http2, Tcp, Tls, Undeclared};
    for (one, two, shared) in [
        (Http, Http, Http),
        (Grpc, Grpc, Grpc),
        (Http, Tcp, Undeclared),
        (Http, Grpc, Http),
        (Http2, Grpc, Http2),
        (Tcp, Tls, Tcp),
        (Http, Undeclared, Undeclared),
        (Tcp, Undeclared, Undeclared),
    ] {
        for (old, young) in [(one, two), (two, one)] {
            let services = vec![on_pods("young", 2, young, &["a"]), on_pods("old", 1, old, &["a"])];
            assert_eq!(inbound(services), (shared, "old".to_owned()), "{old:?} {young:?}");
        }
    }
    let three = [("a", Http), ("b", Grpc), ("c", Tcp)];
    let three = three.map(|(name, protocol)| on_pods(name, 0, protocol, &["a"])).to_vec();
    assert_eq!(inbound(three), (Undeclared, "a".to_owned()));
}

#[test]
fn services_that_misread_each_other_are_found() {
    let of = |services| {
        let proxy = Proxy::sidecar(Objects { services, ..Objects::default() }, "default", &[]);
        found(&proxy).into_iter().map(|(code, name, _)| (code, name)).collect::<Vec<_>>()
    };
    let conflict = |name: &str| (FindingCode::ProtocolConflict, name.to_owned());
    let one = || on_pods("one", 1, Protocol::Http, &["a", "b"]);
    let two = |protocol, pods: &[&str]| on_pods("two", 2, protocol, pods);
    let both = [conflict("one"), conflict("two")];
    assert_eq!(of(vec![one(), two(Protocol::Tcp, &["a", "b"])]), both);
    assert_eq!(of(vec![one(), two(Protocol::Tls, &["a"])]), both);
    assert_eq!(of(vec![one(), two(Protocol::Grpc, &["a"])]), []);
    assert_eq!(of(vec![one(), two(Protocol::Undeclared, &["a"])]), []);
    let mut elsewhere = two(Protocol::Tcp, &["a"]);
    elsewhere.endpoints[0].ports[0].target = 9999;
    assert_eq!(of(vec![one(), elsewhere]), [], "another port of the pod");
    assert_eq!(of(vec![one(), two(Protocol::Tcp, &[])]), [], "no pod, no conflict");
    let mut alone = one();
    let tcp = ServicePort { number: 8081, name: "tcp".into(), protocol: Protocol::Tcp };
    alone.service.ports.push(tcp);
    alone.endpoints[0].ports.push(PortMap { service: 8081, target: 8081 });
    let proxy =
        Proxy::sidecar(Objects { services: vec![alone], ..Objects::default() }, "default", &[]);
    assert_eq!(
        proxy.findings[0].message,
        "port 8081 of a is http by port 8080 and tcp by port 8081 of Service default/one"
    );
}

#[test]
fn a_gateway_that_does_not_serve_the_hosts_of_a_route_is_found() {
    let mut objects = app(&[("a", "v1", true)]);
    let mut edge = gateway(("infra", "edge"), 0, &[]);
    let allowed = |namespace: &str, host: &str| (Some(namespace.into()), Name::from(host));
    edge.servers[0].hosts = vec![
        allowed("shop", "*.shop.test"),
        (None, "open.test".into()),
        allowed("other", "o.test"),
    ];
    objects.gateways = vec![edge];
    objects.workloads =
        vec![workload("istio-system", "gw", [10, 77, 0, 9], &[("istio", "ingressgateway")])];
    let of = |id, hosts: &[&str], gateways: &[&str]| {
        route(id, 0, hosts, gateways, vec![to_app(Vec::new())])
    };
    objects.routes = vec![
        of(("shop", "a"), &["cart.shop.test"], &["infra/edge"]),
        of(("shop", "wide"), &["*.test"], &["infra/edge"]),
        of(("other", "evil"), &["evil.shop.test"], &["infra/edge"]),
        of(("other", "half"), &["open.test", "evil.shop.test"], &["infra/edge"]),
        of(("other", "meshed"), &["open.test", APP], &["infra/edge", "mesh"]),
        of(("other", "gone"), &["evil.shop.test"], &["infra/nowhere"]),
    ];
    let proxy = Proxy::sidecar(objects, "default", &[]);
    let one = |code, name: &str, path: &str| (code, name.to_owned(), path.to_owned());
    assert_eq!(
        found(&proxy),
        [
            one(FindingCode::HostNotServed, "evil", "spec.gateways[0]"),
            one(FindingCode::UnknownGateway, "gone", "spec.gateways[0]"),
            one(FindingCode::HostNotServed, "half", "spec.hosts[1]"),
        ]
    );
}

#[test]
fn limits_of_a_port_of_a_sidecar_go_before_those_of_all_its_ports() {
    let limits =
        |most| Some(ConnectionPool { connections_max: Some(most), ..ConnectionPool::default() });
    let port = |number, pool| IngressPort { number, protocol: Protocol::Http, to: None, pool };
    let of = |ingress| {
        let own = SidecarSource {
            id: ObjectId::new("Sidecar", "default", "s"),
            selector: None,
            egress: Vec::new(),
            outbound_policy: None,
            egress_proxy: None,
            ingress,
            inbound_pool: limits(9),
            created: 0,
        };
        let services = vec![on_pods("web", 1, Protocol::Http, &["a"])];
        let objects = Objects { sidecars: vec![own], services, ..Objects::default() };
        let proxy = Proxy::sidecar(objects, "default", &[]);
        let here = Target::Address(IpAddr::from([10, 77, 1, 0]), EVERY_PORT);
        let ports = applies(&proxy, ListenerKind::Inbound, here).unwrap().inbound_ports;
        ports.iter().map(|port| (port.number, port.pool)).collect::<Vec<_>>()
    };
    assert_eq!(of(Vec::new()), [(8081, limits(9))]);
    let named = vec![port(7, limits(1)), port(8, None), port(7, limits(2))];
    assert_eq!(of(named), [(7, limits(1)), (8, limits(9))]);
}

#[test]
fn conditions_on_ports_that_no_gateway_has_are_found() {
    let of = |gateways: &[&str], at: &[&str], port| {
        let gateways_of_match = at.iter().map(|name| Name::from(*name)).collect();
        let of = Match { port: Some(port), gateways: gateways_of_match, ..Match::default() };
        let mut objects = app(&[("a", "v1", true)]);
        objects.gateways = vec![gateway(("default", "edge"), 0, &["*"])];
        let rules = vec![to_app(vec![of])];
        objects.routes = vec![route(("default", "r"), 0, &["a.test"], gateways, rules)];
        let found = Proxy::gateway(objects).findings;
        let found = found.into_iter().filter(|found| found.path.ends_with(".port"));
        found.map(|found| (found.path, found.message)).collect::<Vec<_>>()
    };
    let path = || "spec.http[0].match[0].port".to_owned();
    let edge = ["default/edge"];
    assert_eq!(of(&edge, &[], 80), []);
    let none = "default/edge has 80 and not 81, so nothing matches".to_owned();
    assert_eq!(of(&edge, &[], 81), [(path(), none.clone())]);
    let [(_, hint)] = &of(&edge, &[], 8080)[..] else { panic!() };
    assert!(hint.ends_with("what Istio's own gateways have at 8080 and 8443 is 80 and 443 here"));
    // In the mesh it may be the port of a service; a gateway that is not there is found as such.
    assert_eq!(of(&["mesh", "default/edge"], &[], 81), []);
    assert_eq!(of(&["mesh", "default/edge"], &edge, 81), [(path(), none)]);
    assert_eq!(of(&["default/none"], &[], 81), []);
}
