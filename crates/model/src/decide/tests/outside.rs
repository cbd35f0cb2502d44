//! Services outside: by name, by wildcard, by address, by network, and by the name that TLS names.

use super::*;
use crate::bootstrap::ProxyKind;
use crate::finding::FindingCode;
use crate::resource::DefaultBackend;
use crate::route::ConnectionRule;
use crate::service::Discovery;
use crate::settings::OutboundPolicy;
use crate::snapshot::{EgressHosts, IngressPort, RouteSource, ServiceSource, SidecarSource};

/// A service outside of this host, without addresses, on a port.
fn entry(namespace: &str, host: &str, port: u16, protocol: Protocol) -> ServiceSource {
    let mut source = service(namespace, host, 9, port, &[("e", "v1", true)]);
    source.service.id.hostname = host.into();
    source.service.addresses = Vec::new();
    source.service.ports[0].protocol = protocol;
    source
}

fn anywhere(namespace: &str, host: &str, port: u16, protocol: Protocol) -> ServiceSource {
    let mut source = entry(namespace, host, port, protocol);
    source.service.discovery = Discovery::Dialled;
    source.endpoints = Vec::new();
    source
}

fn proxy(services: Vec<ServiceSource>, policy: OutboundPolicy) -> Proxy {
    let settings = Settings { outbound_policy: policy, ..Settings::default() };
    let objects = Objects { settings, services, ..Objects::default() };
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    proxy.subscribe(&ResourceKey::Settings);
    proxy
}

fn connect(proxy: &mut Proxy, destination: &str, server_name: Seen<&str>) -> Decision {
    let local = proxy.local();
    let connection =
        Connection { destination: destination.parse().unwrap(), server_name, ..connection(&local) };
    proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent)
}

/// The host of the service that a decision sends to, or its reason.
fn to(decision: &Decision) -> String {
    match (&decision.plan, decision.backend()) {
        (Plan::Forward, Some(backend)) => backend.host.to_string(),
        _ => decision.reason.code().to_owned(),
    }
}

#[test]
fn a_name_is_looked_for_before_the_wildcards_that_cover_it_the_narrowest_first() {
    let of = |host| entry("default", host, 9080, Protocol::Http);
    let services = vec![of("*.test"), of("*.a.test"), of("b.a.test")];
    let mut proxy = proxy(services, OutboundPolicy::RegistryOnly);
    for (host, expected) in [
        ("b.a.test", "b.a.test"),
        ("c.a.test", "*.a.test"),
        ("d.c.a.test", "*.a.test"),
        ("a.test", "*.test"),
        ("x.test", "*.test"),
        ("test", "blocked"),
        ("b.a.tests", "blocked"),
        // What a search list could make of a name is none of a wildcard's.
        ("b", "blocked"),
    ] {
        assert_eq!(to(&proxy.get(host, "/")), expected, "{host}");
    }
}

#[test]
fn a_service_is_seen_by_those_to_whom_it_is_exported_and_the_own_one_goes_first() {
    let mut hidden = entry("shop", "x.test", 9080, Protocol::Http);
    hidden.reach.export_to = vec!["other".into(), "shop".into()];
    hidden.service.addresses = vec!["198.18.0.1".parse().unwrap()];
    let mut own = entry("default", "y.test", 9080, Protocol::Http);
    own.reach.created = 9;
    let older = entry("shop", "y.test", 9080, Protocol::Http);
    let mut proxy = proxy(vec![hidden, own, older], OutboundPolicy::RegistryOnly);
    assert_eq!(to(&proxy.get("x.test", "/")), "blocked");
    assert_eq!(to(&connect(&mut proxy, "198.18.0.1:9080", Seen::NotRead)), "blocked");
    let decision = proxy.get("y.test", "/");
    let group = decision.group().unwrap();
    assert_eq!(*group.key.service.namespace, *"default");
    let mut there = proxy;
    there.subscriber.namespace = "shop".into();
    there.view = View::default();
    there.subscribe(&ResourceKey::Settings);
    assert_eq!(to(&there.get("x.test", "/")), "x.test");
    assert_eq!(to(&connect(&mut there, "198.18.0.1:9080", Seen::NotRead)), "x.test");
}

/// Entries for one address may divide its ports among them.
#[test]
fn of_the_services_of_an_address_or_a_network_the_one_with_the_port_counts() {
    let at = |namespace: &str, host: &str, port, is_network: bool| {
        let mut source = entry(namespace, host, port, Protocol::Tcp);
        match is_network {
            true => source.reach.networks = vec!["198.18.0.0/24".parse().unwrap()],
            false => source.service.addresses = vec!["198.19.0.1".parse().unwrap()],
        }
        source
    };
    let services = vec![
        at("default", "own", 7000, false),
        at("shop", "other", 7001, false),
        at("default", "own-net", 7000, true),
        at("shop", "other-net", 7001, true),
    ];
    let mut proxy = proxy(services, OutboundPolicy::RegistryOnly);
    for (address, expected) in [
        ("198.19.0.1:7000", "own"),
        ("198.19.0.1:7001", "other"),
        ("198.19.0.1:7002", "blocked"),
        ("198.18.0.9:7000", "own-net"),
        ("198.18.0.9:7001", "other-net"),
        ("198.18.0.9:7002", "blocked"),
    ] {
        assert_eq!(to(&connect(&mut proxy, address, Seen::NotRead)), expected, "{address}");
    }
}

#[test]
fn networks_lead_to_a_service_but_where_another_has_the_address() {
    let network = |host: &str, networks: &[&str]| {
        let mut source = entry("default", host, 7000, Protocol::Tcp);
        source.reach.networks = networks.iter().map(|text| text.parse().unwrap()).collect();
        source
    };
    let mut exact = entry("default", "exact", 7000, Protocol::Tcp);
    exact.service.addresses = vec!["198.18.1.1".parse().unwrap()];
    let services =
        vec![network("wide", &["198.18.0.0/15"]), network("narrow", &["198.18.1.0/24"]), exact];
    let mut proxy = proxy(services, OutboundPolicy::RegistryOnly);
    for (address, expected) in [
        ("198.18.1.1:7000", "exact"),
        ("198.18.1.2:7000", "narrow"),
        ("198.19.0.1:7000", "wide"),
        ("198.20.0.1:7000", "blocked"),
        ("198.18.1.2:7001", "blocked"),
        ("[2001:db8::1]:7000", "blocked"),
    ] {
        assert_eq!(to(&connect(&mut proxy, address, Seen::NotRead)), expected, "{address}");
    }
}

#[test]
fn what_is_reached_at_any_address_is_told_apart_by_the_name_that_tls_names() {
    let tls = |host| anywhere("default", host, 443, Protocol::Tls);
    let services = vec![tls("*.test"), tls("a.test"), tls("*.b.test")];
    let mut proxy = proxy(services.clone(), OutboundPolicy::RegistryOnly);
    let address = "192.0.2.1:443";
    assert_eq!(connect(&mut proxy, address, Seen::NotRead).plan, Plan::ReadHello);
    for (name, expected) in [
        (Seen::Is("a.test"), "a.test"),
        (Seen::Is("A.Test"), "a.test"),
        (Seen::Is("c.b.test"), "*.b.test"),
        (Seen::Is("b.test"), "*.test"),
        (Seen::Is("a.tests"), "blocked"),
        (Seen::Absent, "blocked"),
    ] {
        assert_eq!(to(&connect(&mut proxy, address, name)), expected, "{name:?}");
    }
    assert_eq!(to(&connect(&mut proxy, "192.0.2.1:444", Seen::Is("a.test"))), "blocked");
    let mut open = self::proxy(services.clone(), OutboundPolicy::AllowAny);
    assert_eq!(to(&connect(&mut open, address, Seen::Is("a.tests"))), "passthrough");
    // What names nobody goes to a service that says it is no TLS, if there is one.
    let plain = anywhere("default", "plain.test", 443, Protocol::Tcp);
    let all = services.into_iter().chain([plain]).collect();
    let mut both = self::proxy(all, OutboundPolicy::RegistryOnly);
    assert_eq!(to(&connect(&mut both, address, Seen::Absent)), "plain.test");
    assert_eq!(to(&connect(&mut both, address, Seen::Is("a.test"))), "a.test");
    assert_eq!(to(&connect(&mut both, address, Seen::Is("other"))), "plain.test");
    // HTTP to a host that nobody knows is not what the service takes.
    assert_eq!(to(&both.get("a.test", "/")), "blocked");
}

#[test]
fn rules_for_a_name_hold_beside_those_of_the_wildcard_that_is_its_service() {
    let services = vec![anywhere("default", "*.test", 9080, Protocol::Http)];
    let status = |status| Rule {
        action: Action::Answer(crate::route::DirectResponse { status, body: [].into() }),
        ..Rule::default()
    };
    let rule_for =
        |name, host, code| route(("default", name), 0, &[host], &["mesh"], vec![status(code)]);
    let routes = vec![rule_for("exact", "a.test", 418), rule_for("wild", "*.test", 419)];
    let objects = Objects { services, routes, ..Objects::default() };
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(proxy.get("a.test", "/").plan, Plan::Answer(418));
    assert_eq!(proxy.get("b.test", "/").plan, Plan::Answer(419));
}

/// A Sidecar of a namespace that shows these hosts.
fn sidecar_of(namespace: &str, name: &str, egress: Vec<EgressHosts>) -> SidecarSource {
    SidecarSource {
        id: crate::ObjectId::new("Sidecar", namespace, name),
        selector: None,
        egress,
        outbound_policy: None,
        egress_proxy: None,
        ingress: Vec::new(),
        inbound_pool: None,
        created: 0,
    }
}

fn shown(port: Option<u16>, hosts: &[(Option<&str>, &str)]) -> EgressHosts {
    let host = |(of, host): &(Option<&str>, &str)| (of.map(Name::from), Name::from(*host));
    EgressHosts { port, hosts: hosts.iter().map(host).collect() }
}

fn beside(objects: Objects, namespace: &str, labels: &[(&str, &str)]) -> Proxy {
    let mut proxy = Proxy::sidecar(objects, namespace, labels);
    proxy.subscribe(&ResourceKey::Settings);
    proxy
}

#[test]
fn a_sidecar_shows_the_hosts_that_it_names_on_its_ports() {
    let services = vec![
        entry("default", "a.test", 9080, Protocol::Http),
        entry("shop", "b.test", 9080, Protocol::Http),
        entry("shop", "c.other", 9080, Protocol::Http),
    ];
    let of = |egress: Vec<EgressHosts>| {
        let mut own = sidecar_of("default", "s", egress);
        own.outbound_policy = Some(OutboundPolicy::RegistryOnly);
        let objects = Objects { services: services.clone(), sidecars: vec![own], ..<_>::default() };
        let mut proxy = beside(objects, "default", &[]);
        ["a.test", "b.test", "c.other"].map(|host| to(&proxy.get(host, "/")) == host)
    };
    assert_eq!(of(Vec::new()), [true; 3]);
    assert_eq!(of(vec![shown(None, &[(None, "*")])]), [true; 3]);
    assert_eq!(of(vec![shown(None, &[(Some("default"), "*")])]), [true, false, false]);
    assert_eq!(of(vec![shown(None, &[(Some("shop"), "*.test")])]), [false, true, false]);
    assert_eq!(of(vec![shown(None, &[(Some("~"), "*")])]), [false; 3]);
    // What a listener says of its port holds there in place of what the others say.
    let all = shown(None, &[(None, "*")]);
    assert_eq!(
        of(vec![all.clone(), shown(Some(9080), &[(None, "c.other")])]),
        [false, false, true]
    );
    assert_eq!(of(vec![all, shown(Some(81), &[(None, "c.other")])]), [true; 3]);
}

/// Neither for being older nor for naming a host more closely.
#[test]
fn a_route_that_a_sidecar_does_not_show_stands_in_the_way_of_none_that_it_shows() {
    let mut database = entry("default", "db.test", 7000, Protocol::Tcp);
    database.service.addresses = vec!["198.18.0.1".parse().unwrap()];
    let services = vec![entry("default", "web.test", 9080, Protocol::Http), database];
    let of = |id, created, host| {
        let rules = vec![rule(Vec::new(), &[("web.test", "", 1)])];
        let mut own = route(id, created, &[host], &["mesh"], rules);
        let backends = vec![backend(("db.test", "", 1))];
        let matches = Vec::new();
        own.route.connection_rules =
            vec![ConnectionRule { place: "tcp[0]".into(), matches, backends }];
        own
    };
    let won = |routes: &[RouteSource], egress: Vec<EgressHosts>| {
        let sidecars = vec![sidecar_of("default", "s", egress)];
        let (services, routes) = (services.clone(), routes.to_vec());
        let mut proxy =
            beside(Objects { services, routes, sidecars, ..<_>::default() }, "default", &[]);
        let request = outcome(&proxy.get("web.test", "/"));
        (request, outcome(&connect(&mut proxy, "198.18.0.1:7000", Seen::NotRead)))
    };
    let by = |name: &str| (format!("{name}#0"), format!("{name}#tcp[0]"));
    let own = || vec![shown(None, &[(Some("default"), "*")])];
    let older = [of(("shop", "old"), 0, "*.test"), of(("default", "new"), 1, "*.test")];
    assert_eq!(won(&older, Vec::new()), by("shop/old"));
    assert_eq!(won(&older, own()), by("default/new"));
    let closer = |host| [of(("shop", "close"), 0, host), of(("default", "wide"), 1, "*.test")];
    for (host, expected) in [("web.test", by("shop/close").0), ("db.test", by("shop/close").1)] {
        let (request, connection) = won(&closer(host), Vec::new());
        assert!([request, connection].contains(&expected), "{host}");
        assert_eq!(won(&closer(host), own()), by("default/wide"), "{host}");
    }
}

/// Requests and connections for destinations that nobody knows go by the proxy that a Sidecar names,
/// those of the mesh do not.
#[test]
fn a_sidecar_names_a_proxy_for_all_that_is_not_known() {
    let services = vec![
        entry("default", "a.test", 9080, Protocol::Http),
        entry("istio-system", "egress.test", 80, Protocol::Undeclared),
    ];
    let of = |port| {
        let mut own = sidecar_of("default", "s", Vec::new());
        let host = Name::from("egress.test");
        own.egress_proxy = Some(DefaultBackend { host, port, subset: None });
        own.outbound_policy = Some(OutboundPolicy::AllowAny);
        let objects = Objects { services: services.clone(), sidecars: vec![own], ..<_>::default() };
        let mut proxy = beside(objects, "default", &[]);
        let requests = ["a.test", "x.test"].map(|host| to(&proxy.get(host, "/")));
        (requests, to(&connect(&mut proxy, "192.0.2.99:443", Seen::NotRead)))
    };
    let ([known, unknown], dialled) = of(80);
    assert_eq!([&*known, &*unknown, &*dialled], ["a.test", "egress.test", "egress.test"]);
    let ([known, unknown], _) = of(81);
    assert_eq!(known, "a.test");
    assert_ne!(unknown, "passthrough", "a proxy that is not there is not passed by");
}

/// Without an address of its own such an endpoint is at the one that was dialled.
#[test]
fn a_port_of_a_sidecar_leads_to_where_its_endpoint_is() {
    for (to, expected) in [
        (None, "10.77.1.0:9081"),
        (Some("0.0.0.0:7"), "10.77.1.0:7"),
        (Some("127.0.0.1:7"), "127.0.0.1:7"),
    ] {
        let to = to.map(|to| to.parse().unwrap());
        let mut own = sidecar_of("default", "s", Vec::new());
        own.ingress = vec![IngressPort { number: 9081, protocol: Protocol::Http, to, pool: None }];
        let mut proxy = beside(Objects { sidecars: vec![own], ..mesh(Vec::new()) }, "default", &[]);
        let local = proxy.local();
        let destination = "10.77.1.0:9081".parse().unwrap();
        let connection =
            Connection { listener: ListenerKind::Inbound, destination, ..connection(&local) };
        let decision = proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent);
        assert_eq!(decision.at_workload(destination).to_string(), expected);
    }
}

/// One workload is enough, whatever others either of them selects.
#[test]
fn sidecars_that_select_one_workload_both_are_found() {
    let selecting = |name: &str, labels: &[(&str, &str)]| SidecarSource {
        selector: Some(labels.iter().copied().collect()),
        ..sidecar_of("default", name, Vec::new())
    };
    let taken = |second: &[(&str, &str)]| {
        let sidecars = vec![selecting("one", &[("app", "a")]), selecting("two", second)];
        let workloads = vec![
            workload("default", "one", [10, 77, 1, 0], &[("app", "a")]),
            workload("default", "both", [10, 77, 1, 1], &[("app", "a"), ("tier", "x")]),
            workload("default", "other", [10, 77, 1, 2], &[("tier", "y")]),
        ];
        let objects = Objects { sidecars, workloads, ..Objects::default() };
        let found = Proxy::sidecar(objects, "default", &[]).findings;
        found.iter().any(|finding| finding.code == FindingCode::SidecarTaken)
    };
    assert!(taken(&[("tier", "x")]));
    assert!(!taken(&[("tier", "y")]));
}

#[test]
fn the_sidecar_that_selects_a_workload_goes_before_that_of_its_namespace_and_that_of_the_mesh() {
    let closed = |namespace: &str, name: &str, policy| SidecarSource {
        outbound_policy: Some(policy),
        ..sidecar_of(namespace, name, Vec::new())
    };
    let (open, shut) = (OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly);
    let mut selecting = closed("default", "z", open);
    selecting.selector = Some([("app", "a")].into_iter().collect());
    let mut nowhere = closed("istio-system", "a", open);
    nowhere.selector = Some([("app", "b")].into_iter().collect());
    let all =
        vec![closed("istio-system", "m", shut), nowhere, closed("default", "n", shut), selecting];
    let reason = |sidecars: &[SidecarSource], namespace, labels: &[(&str, &str)]| {
        let objects = Objects { sidecars: sidecars.to_vec(), ..<_>::default() };
        to(&beside(objects, namespace, labels).get("x.test", "/"))
    };
    assert_eq!(reason(&all, "default", &[("app", "a")]), "passthrough");
    assert_eq!(reason(&all, "default", &[("app", "b")]), "blocked");
    assert_eq!(reason(&all, "shop", &[("app", "b")]), "blocked");
    assert_eq!(reason(&all[1..], "shop", &[("app", "b")]), "passthrough");
    // A gateway sees what there is.
    let gateway = Proxy::gateway(Objects { sidecars: all, ..<_>::default() });
    let (scope, _) = gateway.snapshot.scope(&gateway.subscriber, Some(ProxyKind::Gateway));
    let key = ResourceKey::Settings;
    let settings = gateway.snapshot.answer(&key, &scope.narrowed(&key, false)).resource;
    assert!(matches!(
        settings,
        Some(crate::Resource::Settings(settings)) if settings.outbound_policy == open
    ));
}
