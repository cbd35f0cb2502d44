//! Tests of snapshots: which objects apply where, and what only all of them together show.

use super::*;
use crate::chunk::Chunk;
use crate::finding::FindingCode;
use crate::policy::MtlsMode;
use crate::resource::Applies;
use crate::route::{Match, Rule};
use crate::service::{Protocol, ServicePort, UpstreamTls};
use crate::test_world::*;
use crate::{Plan, Reason};

mod delegates;
mod edits;
mod inbound;
mod joined;
mod policies;
mod ports;

const APP: &str = "app.default.svc.cluster.local";

fn app(pods: &[(&str, &str, bool)]) -> Objects {
    Objects { services: vec![service("default", "app", 1, 9080, pods)], ..Objects::default() }
}

fn to_app(matches: Vec<Match>) -> Rule {
    rule(matches, &[(APP, "", 0)])
}

fn resolution(listener: ListenerKind, target: Target, namespace: &str) -> ResourceKey {
    ResourceKey::Resolution(ResolutionKey { listener, target, namespace: namespace.into() })
}

fn applies(proxy: &Proxy, listener: ListenerKind, target: Target) -> Option<Applies> {
    let key = resolution(listener, target, &proxy.subscriber.namespace);
    match proxy.snapshot.resource(&key, &proxy.subscriber) {
        Some(Resource::Resolution(body)) => match (*body).clone() {
            Resolution::Present(applies) => Some(*applies),
            Resolution::Absent => None,
        },
        other => panic!("{other:?}"),
    }
}

fn found(proxy: &Proxy) -> Vec<(FindingCode, String, String)> {
    let finding = |f: &Finding| (f.code, f.object.name.to_string(), f.path.clone());
    proxy.findings.iter().map(finding).collect()
}

/// Trap 1: a route without gateways holds in the mesh only; a finding says so.
#[test]
fn trap_1_a_route_without_gateways_is_not_attached() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways = vec![gateway(("default", "gw"), 0, &["myweb.example.com"])];
    objects.routes = vec![route(
        ("default", "web"),
        0,
        &["myweb.example.com"],
        &["mesh"],
        vec![to_app(Vec::new())],
    )];
    objects.workloads =
        vec![workload("istio-system", "gw", [10, 77, 0, 9], &[("istio", "ingressgateway")])];
    let mut proxy = Proxy::gateway(objects.clone());
    assert_eq!(proxy.get("myweb.example.com", "/").reason, Reason::NoRoute);
    assert_eq!(found(&proxy), [(FindingCode::NotAttached, "web".into(), "spec.hosts[0]".into())]);

    objects.routes[0].gateways = vec!["default/gw".into()];
    let mut proxy = Proxy::gateway(objects);
    assert_eq!(outcome(&proxy.get("myweb.example.com", "/")), "default/web#0");
    assert_eq!(found(&proxy), []);
}

/// Trap 4: several DestinationRules for one host join their subsets, the oldest in front.
#[test]
fn trap_4_destination_policies_of_one_host_join() {
    let mut objects = app(&[("a", "v1", true), ("b", "v2", true)]);
    objects.destination_policies = vec![
        subsets(("default", "young"), 5, APP, &["v2"]),
        subsets(("default", "old"), 3, APP, &["v1"]),
        subsets(("default", "wild"), 1, "*.default.svc.cluster.local", &["v9"]),
    ];
    objects.routes = vec![route(
        ("default", "r"),
        0,
        &[APP],
        &["mesh"],
        vec![
            rule(vec![exact("/1")], &[(APP, "v1", 0)]),
            rule(vec![exact("/2")], &[(APP, "v2", 0)]),
            rule(vec![exact("/9")], &[(APP, "v9", 0)]),
        ],
    )];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let here = applies(&proxy, ListenerKind::Outbound, Target::Host("app".into(), 9080)).unwrap();
    let names: Vec<&str> = here.destinations[0].policies.iter().map(|id| &*id.name).collect();
    assert_eq!(names, ["old", "young"], "the exact host hides the wildcard");
    assert_eq!(outcome(&proxy.get("app", "/1")), "default/r#0 v1");
    assert_eq!(outcome(&proxy.get("app", "/2")), "default/r#1 v2");
    assert_eq!(proxy.get("app", "/9").reason, Reason::UndefinedSubset);
}

#[test]
fn destination_policies_are_looked_up_in_the_callers_the_services_and_the_root_namespace() {
    let of = |namespace: &str| subsets((namespace, "d"), 0, APP, &["v1"]);
    let looked_up = |policies: Vec<DestinationPolicySource>| {
        let mut objects = app(&[]);
        objects.destination_policies = policies;
        let proxy = Proxy::sidecar(objects, "shop", &[]);
        let target = Target::Host("app.default".into(), 9080);
        let here = applies(&proxy, ListenerKind::Outbound, target).unwrap();
        here.destinations[0].policies.iter().map(|id| id.namespace.to_string()).collect::<Vec<_>>()
    };
    let (caller, service, root) = (of("shop"), of("default"), of("istio-system"));
    let all = vec![root.clone(), service.clone(), caller];
    assert_eq!(looked_up(all), ["shop"]);
    assert_eq!(looked_up(vec![root.clone(), service.clone()]), ["default"]);
    assert_eq!(looked_up(vec![root.clone()]), ["istio-system"]);
    assert_eq!(looked_up(vec![of("elsewhere")]), [""; 0]);
    let mut private = service;
    private.export_to = vec!["default".into()];
    assert_eq!(looked_up(vec![root, private]), ["istio-system"]);
}

#[test]
fn policies_for_the_whole_mesh_do_not_hide_those_of_services_from_gateways() {
    let of = |namespace: &str, export_to: &[&str]| DestinationPolicySource {
        export_to: export_to.iter().map(|n| (*n).into()).collect(),
        ..subsets((namespace, "d"), 0, APP, &["v1"])
    };
    let looked_up = |policies: Vec<DestinationPolicySource>| {
        let mut objects = app(&[]);
        objects.gateways = vec![gateway(("default", "gw"), 0, &["*"])];
        let to_app = vec![to_app(Vec::new())];
        objects.routes = vec![route(("default", "r"), 0, &["*"], &["default/gw"], to_app)];
        objects.destination_policies = policies;
        let proxy = Proxy::gateway(objects);
        let here = applies(&proxy, ListenerKind::Gateway, Target::Host("*".into(), 80)).unwrap();
        here.destinations[0].policies.iter().map(|id| id.namespace.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(looked_up(vec![of("istio-system", &[]), of("default", &[])]), ["default"]);
    assert_eq!(looked_up(vec![of("istio-system", &[])]), ["istio-system"]);
    let private = of("istio-system", &["istio-system"]);
    assert_eq!(looked_up(vec![private, of("default", &[])]), ["istio-system"]);
}

/// Trap 7: objects may come in any order; what is missing is a finding, never an error.
#[test]
fn trap_7_a_route_may_come_before_what_it_names() {
    let mut objects = Objects {
        routes: vec![route(
            ("default", "r"),
            0,
            &["*"],
            &["default/gw"],
            vec![rule(Vec::new(), &[(APP, "v2", 0)])],
        )],
        ..Objects::default()
    };
    let mut proxy = Proxy::gateway(objects.clone());
    let codes: Vec<FindingCode> = proxy.findings.iter().map(|f| f.code).collect();
    assert_eq!(codes, [FindingCode::UnknownGateway, FindingCode::UnknownDestination]);
    assert_eq!(proxy.get("x", "/").reason, Reason::NoRoute);

    objects.gateways = vec![gateway(("default", "gw"), 0, &["*"])];
    proxy.replace(objects.clone());
    assert_eq!(proxy.get("x", "/").reason, Reason::UnknownDestination);

    objects.services = app(&[("a", "v1", true)]).services;
    proxy.replace(objects.clone());
    assert_eq!(proxy.get("x", "/").reason, Reason::UndefinedSubset);

    objects.destination_policies = vec![subsets(("default", "d"), 0, APP, &["v2"])];
    proxy.replace(objects.clone());
    assert!(proxy.findings.iter().any(|f| f.code == FindingCode::EmptySubset));

    objects.services = app(&[("a", "v1", true), ("b", "v2", true)]).services;
    proxy.replace(objects);
    let decision = proxy.get("x", "/");
    assert_eq!(outcome(&decision), "default/r#0 v2");
    assert_eq!(decision.backend().unwrap().group.as_ref().unwrap().members().ready.len(), 1);
}

/// Trap 8: routes for one host join by age, then by `NAME.NAMESPACE`; `/` goes last,
/// regex `/?(.*)` does not.
#[test]
fn trap_8_routes_of_two_namespaces_join_at_a_gateway_by_age() {
    let ratings = |created, pattern: Match| {
        route(("ratings", "web"), created, &["*"], &["ratings/gw"], vec![to_app(vec![pattern])])
    };
    let primary = |created| {
        route(
            ("primary", "web"),
            created,
            &["*"],
            &["primary/gw"],
            vec![to_app(vec![exact("/product")]), to_app(vec![prefix("/static")])],
        )
    };
    let answer = |routes: Vec<RouteSource>, path: &str| {
        let mut objects = app(&[("a", "v1", true)]);
        objects.gateways =
            vec![gateway(("primary", "gw"), 0, &["*"]), gateway(("ratings", "gw"), 0, &["*"])];
        objects.routes = routes;
        outcome(&Proxy::gateway(objects).get("anything:8080", path))
    };
    let swallow = || regex("/?(.*)");
    assert_eq!(answer(vec![ratings(1, swallow()), primary(2)], "/product"), "ratings/web#0");
    assert_eq!(answer(vec![ratings(2, swallow()), primary(1)], "/product"), "primary/web#0");
    assert_eq!(answer(vec![ratings(2, swallow()), primary(1)], "/static/x"), "primary/web#1");
    assert_eq!(answer(vec![ratings(2, swallow()), primary(1)], "/other"), "ratings/web#0");
    assert_eq!(answer(vec![ratings(1, prefix("/")), primary(2)], "/product"), "primary/web#0");
    assert_eq!(answer(vec![ratings(1, prefix("/")), primary(2)], "/other"), "ratings/web#0");
    // A tie: web.primary comes before web.ratings.
    assert_eq!(answer(vec![ratings(1, swallow()), primary(1)], "/product"), "primary/web#0");
}

#[test]
fn at_a_gateway_the_most_specific_host_wins() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways = vec![gateway(("default", "gw"), 0, &["*"])];
    let of = |name: &str, created, host: &str, path: &str| {
        route(
            ("default", name),
            created,
            &[host],
            &["default/gw"],
            vec![to_app(vec![prefix(path)])],
        )
    };
    objects.routes = vec![
        of("all", 0, "*", "/"),
        of("suffix", 1, "*.example.com", "/s"),
        of("longer", 2, "*.a.example.com", "/l"),
        of("name", 3, "x.a.example.com", "/n"),
        of("second", 4, "x.a.example.com", "/m"),
    ];
    let mut proxy = Proxy::gateway(objects);
    for (host, path, expected) in [
        ("x.a.example.com", "/n", "default/name#0"),
        ("X.A.Example.com:80", "/m", "default/second#0"),
        ("x.a.example.com", "/l", "no_route"),
        ("y.a.example.com", "/l", "default/longer#0"),
        ("y.b.example.com", "/s", "default/suffix#0"),
        ("example.com", "/s", "default/all#0"),
        ("other", "/", "default/all#0"),
    ] {
        assert_eq!(outcome(&proxy.get(host, path)), expected, "{host}{path}");
    }
}

#[test]
fn a_gateway_holds_as_much_as_its_configuration_names_not_its_clients() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways = vec![gateway(("default", "gw"), 0, &["*"])];
    let of = |name: &str, host: &str| {
        route(("default", name), 0, &[host], &["default/gw"], vec![to_app(Vec::new())])
    };
    objects.routes = vec![of("all", "*"), of("suffix", "*.example.com")];
    let mut proxy = Proxy::gateway(objects.clone());
    for n in 0..50 {
        assert_eq!(outcome(&proxy.get(&format!("h{n}.example.com"), "/")), "default/suffix#0");
        assert_eq!(outcome(&proxy.get(&format!("h{n}.other"), "/")), "default/all#0");
    }
    assert_eq!(proxy.asked.len(), 3, "the listeners and two domains: {:?}", proxy.asked);
    objects.routes[0].hosts = vec!["other.com".into()];
    proxy.replace(objects);
    for n in 0..50 {
        assert_eq!(proxy.get(&format!("h{n}.other"), "/").reason, Reason::NoRoute);
    }
    assert_eq!(outcome(&proxy.get("h1.example.com", "/")), "default/suffix#0");
    assert_eq!(proxy.asked.len(), 3, "what no domain covers needs no asking: {:?}", proxy.asked);
    let long = format!("{}.example.com", "a".repeat(255));
    assert_eq!(proxy.get(&long, "/").reason, Reason::BadRequest);
}

#[test]
fn a_server_limits_hosts_and_the_namespaces_that_may_use_them() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways = vec![gateway(("infra", "gw"), 0, &["shop/shop.com", "open.com"])];
    let of = |namespace: &str, host: &str| {
        route((namespace, host), 0, &[host], &["infra/gw"], vec![to_app(Vec::new())])
    };
    objects.routes = vec![of("shop", "*"), of("thief", "shop.com"), of("thief", "open.com")];
    let mut proxy = Proxy::gateway(objects);
    assert_eq!(outcome(&proxy.get("shop.com", "/")), "shop/*#0");
    assert_eq!(outcome(&proxy.get("open.com", "/")), "shop/*#0", "by NAME.NAMESPACE");
    assert_eq!(proxy.get("closed.com", "/").reason, Reason::NoRoute);
}

#[test]
fn a_rule_for_one_gateway_holds_only_there() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways =
        vec![gateway(("default", "a"), 0, &["a.com"]), gateway(("default", "b"), 0, &["b.com"])];
    let only_a = Match { gateways: vec!["default/a".into()], ..Match::default() };
    let in_mesh =
        Match { source_labels: [("app", "client")].into_iter().collect(), ..Match::default() };
    objects.routes = vec![route(
        ("default", "r"),
        0,
        &["*"],
        &["default/a", "default/b"],
        vec![to_app(vec![in_mesh]), to_app(vec![only_a]), to_app(vec![prefix("/b")])],
    )];
    let mut proxy = Proxy::gateway(objects);
    assert_eq!(outcome(&proxy.get("a.com", "/b")), "default/r#1", "no caller's labels here");
    assert_eq!(outcome(&proxy.get("b.com", "/b")), "default/r#2");
    assert_eq!(proxy.get("b.com", "/").reason, Reason::NoRoute);
}

#[test]
fn gateways_listen_where_their_objects_say() {
    let mut objects = app(&[]);
    let mut second = gateway(("b", "gw"), 2, &["*"]);
    second.servers[0].name = "late".into();
    let mut third = gateway(("c", "gw"), 3, &["*"]);
    third.servers[0].port = 8080;
    let mut other = gateway(("d", "gw"), 1, &["*"]);
    other.selector = [("istio", "egressgateway")].into_iter().collect();
    other.servers[0].port = 9999;
    objects.gateways = vec![third, second, other, gateway(("a", "gw"), 1, &["*"])];
    let proxy = Proxy::gateway(objects);
    let listeners = proxy.snapshot.resource(&ResourceKey::Listeners, &proxy.subscriber);
    let Some(Resource::Listeners(listeners)) = listeners else { panic!() };
    let ports: Vec<(u16, &str)> = listeners.listeners.iter().map(|l| (l.port, &*l.name)).collect();
    assert_eq!(ports, [(80, "http"), (8080, "http")]);
}

#[test]
fn a_subset_that_the_gateway_does_not_see_is_found() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways = vec![gateway(("shop", "gw"), 0, &["*"])];
    objects.workloads =
        vec![workload("istio-system", "gw", [10, 77, 0, 9], &[("istio", "ingressgateway")])];
    let to_v1 = vec![rule(Vec::new(), &[(APP, "v1", 0)])];
    objects.routes = vec![route(("shop", "r"), 0, &["*"], &["shop/gw"], to_v1)];
    let found_with = |namespace: &str| {
        let mut objects = objects.clone();
        objects.destination_policies = vec![subsets((namespace, "d"), 0, APP, &["v1"])];
        let mut proxy = Proxy::gateway(objects);
        assert_eq!(proxy.get("x", "/").reason == Reason::Route, found(&proxy).is_empty());
        proxy.findings.into_iter().next().map(|finding| (finding.code, finding.message))
    };
    assert_eq!(found_with("default"), None, "the service's namespace");
    assert_eq!(found_with("istio-system"), None, "the root namespace");
    let (code, message) = found_with("shop").unwrap();
    assert_eq!(code, FindingCode::UndefinedSubset);
    assert!(message.contains("istio-system go by") && message.contains("default"), "{message}");
}

/// As Istio's egress gateways are set up: callers in the mesh go to a subset of the gateway's Service,
/// and the gateway further.
#[test]
fn a_subset_is_looked_for_where_the_rule_holds() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.gateways = vec![gateway(("shop", "gw"), 0, &["*"])];
    objects.workloads =
        vec![workload("istio-system", "gw", [10, 77, 0, 9], &[("istio", "ingressgateway")])];
    objects.destination_policies = vec![subsets(("shop", "d"), 0, APP, &["v1"])];
    for (gateways, expected) in
        [(vec!["mesh"], 0), (vec!["shop/gw"], 1), (vec!["mesh", "shop/gw"], 1), (vec![], 1)]
    {
        let at = |name: &str| Match { gateways: vec![name.into()], ..Match::default() };
        let to_v1 = rule(gateways.iter().map(|name| at(name)).collect(), &[(APP, "v1", 0)]);
        objects.routes = vec![route(("shop", "r"), 0, &["*"], &["shop/gw", "mesh"], vec![to_v1])];
        let found = found(&Proxy::gateway(objects.clone()));
        let subset = FindingCode::UndefinedSubset;
        let count = found.iter().filter(|(code, ..)| *code == subset).count();
        assert_eq!(count, expected, "{gateways:?}: {found:?}");
    }
}

#[test]
fn hosts_that_are_no_services_and_gateways_that_are_not_there_are_found() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.services[0].endpoints[0].tls = UpstreamTls::None;
    objects.gateways = vec![gateway(("default", "gw"), 0, &["*"])];
    objects.workloads =
        vec![workload("istio-system", "gw", [10, 77, 0, 9], &[("istio", "ingressgateway")])];
    let at = |gateway: &str| Match { gateways: vec![gateway.into()], ..Match::default() };
    let rules = vec![to_app(vec![at("mesh"), at("default/gw"), at("default/nowhere")])];
    let hosts = ["app.default", "gone.default.svc.cluster.local", "example.com", "*.default"];
    objects.routes = vec![route(("default", "r"), 0, &hosts, &["mesh"], rules)];
    objects.destination_policies = vec![
        DestinationPolicySource {
            selector: None,
            mutual_tls_at: vec!["spec.trafficPolicy.tls.mode".into()],
            ..subsets(("default", "plain"), 0, "*.default.svc.cluster.local", &[])
        },
        subsets(("default", "short"), 0, "app.default", &[]),
        subsets(("default", "gone"), 0, "gone.default.svc.cluster.local", &[]),
    ];
    let mut got = found(&Proxy::sidecar(objects, "default", &[]));
    got.sort();
    let one = |code, name: &str, path: &str| (code, name.to_owned(), path.to_owned());
    assert_eq!(
        got,
        [
            one(FindingCode::UnknownGateway, "r", "spec.http[0].match[2].gateways[0]"),
            one(FindingCode::NotAttached, "r", "spec.hosts[2]"),
            one(FindingCode::NotAttached, "r", "spec.hosts[3]"),
            one(FindingCode::NoEffect, "r", "spec.http[0].match[1].gateways[0]"),
            one(FindingCode::NoMutualTls, "plain", "spec.trafficPolicy.tls.mode"),
            one(FindingCode::UnknownHost, "gone", "spec.host"),
            one(FindingCode::UnknownHost, "r", "spec.hosts[0]"),
            one(FindingCode::UnknownHost, "r", "spec.hosts[1]"),
            one(FindingCode::UnknownHost, "short", "spec.host"),
        ]
    );
}

#[test]
fn in_the_mesh_the_oldest_route_has_the_host() {
    let mut objects = app(&[("a", "v1", true)]);
    let of = |name: &str, created, host: &str| {
        route(("default", name), created, &[host], &["mesh"], vec![to_app(Vec::new())])
    };
    objects.routes =
        vec![of("young", 2, APP), of("old", 1, APP), of("wild", 0, "*.svc.cluster.local")];
    let mut proxy = Proxy::sidecar(objects.clone(), "default", &[]);
    assert_eq!(outcome(&proxy.get("app", "/")), "default/old#0", "names beat wildcards");
    assert_eq!(found(&proxy), [(FindingCode::HostTaken, "young".into(), "spec.hosts[0]".into())]);

    objects.routes[1].export_to = vec!["elsewhere".into()];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(outcome(&proxy.get("app", "/")), "default/young#0");
    assert_eq!(found(&proxy), [], "who sees the older one does not see this one's loss");
}

#[test]
fn a_route_for_a_host_that_is_no_service_applies_at_any_port() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.routes = vec![route(
        ("default", "alias"),
        0,
        &["shop.example.com"],
        &["mesh"],
        vec![to_app(vec![prefix("/a")])],
    )];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(outcome(&proxy.get("shop.example.com", "/a")), "default/alias#0");
    let unmatched = proxy.get("shop.example.com", "/x");
    assert_eq!((unmatched.plan, unmatched.reason), (Plan::Answer(404), Reason::NoRoute));
}

#[test]
fn a_wildcard_for_services_does_not_take_hosts_outside() {
    let mut objects = app(&[("a", "v1", true)]);
    let rules = vec![to_app(Vec::new())];
    objects.routes = vec![route(("default", "all"), 0, &["*.svc.cluster.local"], &["mesh"], rules)];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(outcome(&proxy.get("app", "/")), "default/all#0");
    assert_eq!(outcome(&proxy.get("gone.svc.cluster.local", "/")), "default/all#0");
    assert_eq!(proxy.get("example.com", "/").reason, Reason::Passthrough);
    assert_eq!(proxy.get("gone", "/").reason, Reason::Passthrough);
}

#[test]
fn services_are_known_at_their_addresses_and_ports_only() {
    let mut objects = app(&[("a", "v1", true)]);
    let mut headless = service("default", "db", 2, 5432, &[("db-0", "v1", true)]);
    headless.service.addresses.clear();
    headless.service.headless = true;
    objects.services.push(headless);
    let proxy = Proxy::sidecar(objects, "default", &[]);
    let at = |ip: [u8; 4], port| {
        let target = Target::Address(IpAddr::from(ip), port);
        applies(&proxy, ListenerKind::Outbound, target)
            .map(|a| a.service.unwrap().hostname.to_string())
    };
    assert_eq!(at([10, 96, 0, 1], 9080).as_deref(), Some(APP));
    assert_eq!(at([10, 96, 0, 1], 9081), None);
    assert_eq!(at([10, 77, 1, 0], 9080), None, "a pod's own address is no service");
    assert_eq!(at([10, 77, 2, 0], 5432).as_deref(), Some("db.default.svc.cluster.local"));
    let host = |host: &str, port| {
        applies(&proxy, ListenerKind::Outbound, Target::Host(host.into(), port)).is_some()
    };
    assert!(host("app", 9080) && host("db", 5432));
    assert!(!host("app", 80) && !host("10.77.1.0", 9081) && !host("", 80));
}

#[test]
fn a_resolution_travels_with_all_that_it_names() {
    let mut objects = app(&[("a", "v1", true)]);
    objects.destination_policies = vec![subsets(("default", "d"), 0, APP, &["v1"])];
    objects.routes = vec![route(("default", "r"), 0, &[APP], &["mesh"], vec![to_app(Vec::new())])];
    let proxy = Proxy::sidecar(objects, "default", &[]);
    let key = resolution(ListenerKind::Outbound, Target::Host("app".into(), 9080), "default");
    let resource = proxy.snapshot.resource(&key, &proxy.subscriber).unwrap();
    let mut kinds: Vec<&str> =
        proxy.snapshot.references(&resource).iter().map(ResourceKey::kind).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["endpoints", "policy", "route", "service"]);
    for key in proxy.snapshot.references(&resource) {
        assert!(proxy.snapshot.resource(&key, &proxy.subscriber).is_some(), "{key}");
    }
}

#[test]
fn the_order_of_the_objects_does_not_matter() {
    let mut objects = app(&[("b", "v1", true), ("a", "v2", true)]);
    for n in 0..6u8 {
        let name = format!("r{n}");
        let mut extra = service("default", &name, 10 + n, 9080, &[]);
        extra.service.ports.push(ServicePort {
            number: 1000 + u16::from(n),
            name: "x".into(),
            protocol: Protocol::Tcp,
        });
        objects.services.push(extra);
        let rules = vec![to_app(vec![prefix("/")])];
        objects.routes.push(route(
            ("default", &name),
            1,
            &["*", APP],
            &["mesh", "default/gw"],
            rules,
        ));
        objects.destination_policies.push(subsets(("default", &name), 1, APP, &["v1"]));
        objects.inbound_policies.push(inbound_policy(("default", &name), 1, None, None));
        objects.gateways.push(gateway(("default", &name), 1, &["*"]));
    }
    objects.gateways.push(gateway(("default", "gw"), 1, &["*"]));
    let mut reversed = objects.clone();
    reversed.services.reverse();
    reversed.services.iter_mut().for_each(|s| s.endpoints.reverse());
    reversed.routes.reverse();
    reversed.destination_policies.reverse();
    reversed.inbound_policies.reverse();
    reversed.gateways.reverse();
    let (first, first_findings) = Snapshot::new(objects);
    let (second, second_findings) = Snapshot::new(reversed);
    assert_eq!(first_findings, second_findings);
    let subscriber = Subscriber {
        namespace: "default".into(),
        labels: [("istio", "ingressgateway")].into_iter().collect(),
        addresses: Vec::new(),
    };
    let ip = IpAddr::from([10, 77, 1, 0]);
    let id = ServiceId { namespace: "default".into(), hostname: APP.into() };
    for key in [
        ResourceKey::Listeners,
        ResourceKey::Endpoints(id, Chunk::WHOLE),
        resolution(ListenerKind::Outbound, Target::Host("app".into(), 9080), "default"),
        resolution(ListenerKind::Outbound, Target::Host("nowhere".into(), 1), "default"),
        resolution(ListenerKind::Gateway, Target::Host("*".into(), 80), "default"),
        resolution(ListenerKind::Inbound, Target::Address(ip, EVERY_PORT), "default"),
    ] {
        assert_eq!(first.resource(&key, &subscriber), second.resource(&key, &subscriber), "{key}");
    }
}
