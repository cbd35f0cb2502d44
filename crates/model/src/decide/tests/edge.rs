//! What is decided at a gateway: by the server of the connection, before rules and by them.

use super::*;
use crate::credential::CredentialSource;
use crate::listeners::{ClientCertificate, GatewayProtocol, ServerTls, TlsVersion};
use crate::name::ObjectId;
use crate::route::{ConnectionMatch, ConnectionRule};
use crate::snapshot::{GatewayServer, GatewayTls, GatewayTlsMode};
use crate::{Finding, FindingCode};

fn server(port: u16, hosts: &[&str], mode: Option<GatewayTlsMode>) -> GatewayServer {
    let tls = mode.map(|mode| {
        Box::new(GatewayTls {
            mode,
            http: true,
            certificates: vec![("spec.servers[0].tls.credentialName".into(), "cert".into())],
            also_in: None,
            trusted: None,
            names: Vec::new(),
            key_hashes: Vec::new(),
            certificate_hashes: Vec::new(),
            versions: (TlsVersion::V12, TlsVersion::V13),
        })
    });
    GatewayServer {
        port,
        name: "s".into(),
        protocol: if tls.is_some() { GatewayProtocol::Tls } else { GatewayProtocol::Http },
        hosts: hosts.iter().map(|host| (None, (*host).into())).collect(),
        tls,
        redirects: false,
    }
}

const SIMPLE: Option<GatewayTlsMode> = Some(GatewayTlsMode::Terminate(ClientCertificate::None));

fn secret(name: &str) -> CredentialSource {
    CredentialSource {
        id: ObjectId::new("Secret", "istio-system", name),
        certificate: Some("chain".into()),
        key: Some("key".into()),
        trusted: None,
        revoked: None,
        flaw: None,
    }
}

/// A gateway with these servers, each its own Gateway, and a route for every host of them.
fn edge(servers: Vec<GatewayServer>, rules: Vec<ConnectionRule>) -> Objects {
    let mut objects = mesh(vec![to(Vec::new(), "v1")]);
    let names: Vec<String> = (0..servers.len()).map(|at| format!("default/g{at}")).collect();
    for (at, server) in (0i64..).zip(servers) {
        let mut own = gateway(("default", &format!("g{at}")), at, &[]);
        own.servers = vec![server];
        objects.gateways.push(own);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut all = route(("default", "e"), 1, &["*"], &names, vec![to(Vec::new(), "v2")]);
    all.route.connection_rules = rules;
    objects.routes.push(all);
    let gateway = workload("istio-system", "edge", [10, 77, 0, 9], &[("istio", "ingressgateway")]);
    objects.workloads.push(gateway);
    objects.credentials = vec![secret("cert")];
    objects
}

fn seen(name: Option<&str>) -> Seen<&str> {
    name.map_or(Seen::Absent, Seen::Is)
}

/// Decides about a request for a host on a connection to a name.
fn ask(proxy: &mut Proxy, port: u16, name: Option<&str>, host: &str) -> Decision {
    let local = proxy.local();
    let headers = Vec::new();
    let connection = Connection {
        listener: ListenerKind::Gateway,
        destination: ([10, 77, 0, 9], port).into(),
        server_name: seen(name),
        ..connection(&local)
    };
    let traffic = Traffic::Request(connection, request(&headers, host, "/x?y"));
    proxy.decide(&traffic, Draw(0), &mut Silent)
}

fn connect(proxy: &mut Proxy, port: u16, name: Seen<&str>) -> Decision {
    let local = proxy.local();
    let connection = Connection {
        listener: ListenerKind::Gateway,
        destination: ([10, 77, 0, 9], port).into(),
        server_name: name,
        ..connection(&local)
    };
    proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent)
}

#[test]
fn a_request_belongs_to_the_server_of_its_connection() {
    let strict = Some(GatewayTlsMode::Terminate(ClientCertificate::Required));
    let servers =
        vec![server(443, &["a.com", "b.com"], SIMPLE), server(443, &["secret.com"], strict)];
    let mut proxy = Proxy::gateway(edge(servers, Vec::new()));
    assert_eq!(outcome(&ask(&mut proxy, 443, Some("a.com"), "a.com")), "default/e#0 v2");
    assert_eq!(outcome(&ask(&mut proxy, 443, Some("A.com"), "b.com:443")), "default/e#0 v2");
    let other = ask(&mut proxy, 443, Some("a.com"), "secret.com");
    assert_eq!((other.plan, other.reason), (Plan::Answer(421), Reason::Misdirected));
    assert_eq!(ask(&mut proxy, 443, None, "secret.com").reason, Reason::Misdirected);
    assert_eq!(ask(&mut proxy, 443, Some("a.com"), "nobody.com").reason, Reason::NoRoute);
}

/// Who names a host of a server for all names does not get around a server of its own.
#[test]
fn a_server_for_all_names_gives_no_way_around_another() {
    let servers = vec![server(443, &["*"], SIMPLE), server(443, &["secret.com"], SIMPLE)];
    let mut proxy = Proxy::gateway(edge(servers, Vec::new()));
    assert_eq!(outcome(&ask(&mut proxy, 443, Some("a.com"), "b.com")), "default/e#0 v2");
    for name in [Some("a.com"), None] {
        assert_eq!(ask(&mut proxy, 443, name, "secret.com").reason, Reason::Misdirected);
    }
    assert_eq!(ask(&mut proxy, 443, Some("secret.com"), "a.com").reason, Reason::Misdirected);
}

#[test]
fn plaintext_is_sent_to_https_where_the_server_says_so() {
    let redirects = GatewayServer { redirects: true, ..server(80, &["a.com"], None) };
    let is_https = GatewayServer { redirects: true, ..server(8443, &["a.com"], SIMPLE) };
    let servers = vec![redirects, server(80, &["b.com"], None), is_https];
    let mut proxy = Proxy::gateway(edge(servers, Vec::new()));
    let decision = ask(&mut proxy, 80, None, "A.com:80");
    assert_eq!((decision.plan, decision.reason), (Plan::Answer(301), Reason::HttpsRedirect));
    assert_eq!(outcome(&ask(&mut proxy, 8443, Some("a.com"), "a.com")), "default/e#0 v2");
    let headers = Vec::new();
    let request = request(&headers, "a.com:80", "/x?y");
    let to = |authority, published| {
        let request = Request { authority, ..request };
        https_location(&proxy.view, &request, 80, |_| published)
    };
    assert_eq!(to("a.com", None), "https://a.com:8443/x?y");
    // Who came by the gateway's own port is sent to its own port.
    assert_eq!(to("a.com", Some(9443)), "https://a.com:8443/x?y");
    assert_eq!(to("a.com:80", Some(9443)), "https://a.com:8443/x?y");
    // Who came by another one is sent to where the other is.
    assert_eq!(to("a.com:9080", Some(9443)), "https://a.com:9443/x?y");
    assert_eq!(to("a.com:9080", Some(443)), "https://a.com/x?y");
    assert_eq!(to("a.com:9080", None), "https://a.com:8443/x?y");
    assert_eq!(to("[2001:DB8::1]:80", None), "https://[2001:db8::1]/x?y");
    assert_eq!(outcome(&ask(&mut proxy, 80, None, "b.com")), "default/e#0 v2");
}

fn by_name(name: &str) -> ConnectionRule {
    let matches =
        vec![ConnectionMatch { server_names: vec![name.into()], ..ConnectionMatch::default() }];
    ConnectionRule { place: "tls[0]".into(), matches, backends: vec![backend((APP, "v1", 0))] }
}

fn of_tcp() -> ConnectionRule {
    let backends = vec![backend((APP, "v2", 0))];
    ConnectionRule { place: "tcp[0]".into(), matches: Vec::new(), backends }
}

#[test]
fn bytes_are_passed_on_by_name_or_by_port() {
    let mut ended = server(444, &["d.com"], SIMPLE);
    ended.tls.as_mut().unwrap().http = false;
    let tcp = GatewayServer { protocol: GatewayProtocol::Tcp, ..server(6379, &["*"], None) };
    let servers = vec![server(443, &["*.a.com"], Some(GatewayTlsMode::Passthrough)), ended, tcp];
    let mut proxy = Proxy::gateway(edge(servers, vec![by_name("*.a.com"), of_tcp()]));
    assert_eq!(connect(&mut proxy, 443, Seen::NotRead).plan, Plan::ReadHello);
    let of = |proxy: &mut Proxy, port, name| outcome(&connect(proxy, port, seen(name)));
    assert_eq!(of(&mut proxy, 443, Some("X.a.com")), "default/e#tls[0] v1");
    assert_eq!(of(&mut proxy, 443, Some("b.com")), "no_server");
    assert_eq!(of(&mut proxy, 443, None), "no_server");
    assert_eq!(of(&mut proxy, 444, Some("d.com")), "default/e#tcp[0] v2");
    assert_eq!(outcome(&connect(&mut proxy, 6379, Seen::NotRead)), "default/e#tcp[0] v2");
    assert_eq!(outcome(&connect(&mut proxy, 81, Seen::NotRead)), "no_route");
}

/// As in Istio the caller is the gateway. The address that was dialled is its own and says nothing.
#[test]
fn rules_at_a_gateway_are_asked_about_the_gateway() {
    let labels = |labels: &[(&str, &str)]| labels.iter().copied().collect::<Labels>();
    let (own, other) = (labels(&[("istio", "ingressgateway")]), labels(&[("app", "client")]));
    let network = crate::network::Network::of_text("192.0.2.0/24").unwrap();
    let m = ConnectionMatch::default();
    for (condition, holds) in [
        (ConnectionMatch { source_labels: own, ..m.clone() }, true),
        (ConnectionMatch { source_labels: other, ..m.clone() }, false),
        (ConnectionMatch { source_namespace: Some("istio-system".into()), ..m.clone() }, true),
        (ConnectionMatch { source_namespace: Some("default".into()), ..m.clone() }, false),
        (ConnectionMatch { port: Some(6379), ..m.clone() }, true),
        (ConnectionMatch { port: Some(80), ..m.clone() }, false),
        (ConnectionMatch { destinations: vec![network], ..m.clone() }, true),
    ] {
        let tcp = GatewayServer { protocol: GatewayProtocol::Tcp, ..server(6379, &["*"], None) };
        let of_connection = ConnectionRule { matches: vec![condition.clone()], ..of_tcp() };
        let mut objects = edge(vec![tcp, server(80, &["a.com"], None)], vec![of_connection]);
        let of_request = Match {
            source_labels: condition.source_labels.clone(),
            source_namespace: condition.source_namespace.clone(),
            port: condition.port.map(|port| if port == 6379 { 80 } else { 6379 }),
            ..Match::default()
        };
        objects.routes.last_mut().unwrap().route.rules[0].matches = vec![of_request];
        let mut proxy = Proxy::gateway(objects);
        let connected = outcome(&connect(&mut proxy, 6379, Seen::NotRead));
        assert_eq!(connected == "default/e#tcp[0] v2", holds, "{condition:?}: {connected}");
        let asked = outcome(&ask(&mut proxy, 80, None, "a.com"));
        assert_eq!(asked == "default/e#0 v2", holds, "{condition:?}: {asked}");
    }
}

/// There is nothing by which connections could be told apart (Istio takes the first, too).
#[test]
fn of_two_servers_of_tcp_on_a_port_the_first_has_it() {
    let tcp =
        |host| GatewayServer { protocol: GatewayProtocol::Tcp, ..server(6379, &[host], None) };
    let of = |gateway: &str| {
        let mut objects = edge(vec![tcp("*"), tcp("*")], vec![of_tcp()]);
        objects.routes.last_mut().unwrap().gateways = vec![gateway.into()];
        Proxy::gateway(objects)
    };
    assert_eq!(
        outcome(&connect(&mut of("default/g0"), 6379, Seen::NotRead)),
        "default/e#tcp[0] v2"
    );
    let mut second = of("default/g1");
    assert_eq!(outcome(&connect(&mut second, 6379, Seen::NotRead)), "no_route");
    let taken = |finding: &&Finding| finding.code == FindingCode::PortTaken;
    let taken: Vec<_> = second.findings.iter().filter(taken).collect();
    let [only] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((&*only.object.name, &*only.path), ("g1", "spec.servers[0].port"));
}

#[test]
fn a_gateway_with_another_selector_for_the_same_workload_has_the_port_too() {
    let tcp = GatewayServer { protocol: GatewayProtocol::Tcp, ..server(80, &["a.com"], None) };
    let pairs = [vec![("istio", "ingressgateway")], vec![], vec![("istio", "other")]];
    for (selector, is_taken) in pairs.into_iter().zip([true, true, false]) {
        let mut objects = edge(vec![server(80, &["a.com"], None), tcp.clone()], Vec::new());
        objects.workloads.last_mut().unwrap().1.labels =
            [("istio", "ingressgateway"), ("edge", "own")].into_iter().collect();
        objects.gateways[0].selector = [("edge", "own")].into_iter().collect();
        objects.gateways[1].selector = selector.iter().copied().collect();
        let found = Proxy::gateway(objects).findings;
        let taken = found.iter().find(|finding| finding.code == FindingCode::PortTaken);
        assert_eq!(
            taken.map(|finding| &*finding.object.name),
            is_taken.then_some("g1"),
            "{selector:?}"
        );
    }
}

/// Whichever of the server's entries for the host lets its namespace in, and whichever of its hosts it is.
#[test]
fn a_route_for_connections_that_names_no_gateway_is_bound_by_any_host_of_the_server() {
    let hosts = |protocol, mode| GatewayServer {
        protocol,
        hosts: vec![
            (None, "first.com".into()),
            (Some("other".into()), "own.com".into()),
            (None, "own.com".into()),
        ],
        ..server(6379, &[], mode)
    };
    let passes = Some(GatewayTlsMode::Passthrough);
    for (protocol, mode, rule, expected) in [
        (GatewayProtocol::Tcp, None, of_tcp(), "default/e#tcp[0] v2"),
        (GatewayProtocol::Tls, passes, by_name("own.com"), "default/e#tls[0] v1"),
    ] {
        let mut objects = edge(vec![hosts(protocol, mode)], vec![rule]);
        let route = objects.routes.last_mut().unwrap();
        (route.hosts, route.gateways) = (vec!["own.com".into()], vec!["mesh".into()]);
        route.fields.gateways = "";
        let mut proxy = Proxy::gateway(objects);
        assert_eq!(outcome(&connect(&mut proxy, 6379, seen(Some("own.com")))), expected);
    }
}

/// A rule that holds for no port of its hosts says so.
#[test]
fn rules_for_connections_that_no_port_speaks_are_found() {
    for (protocol, port, expected) in [
        (Protocol::Tcp, None, vec!["spec.tls[0]"]),
        (Protocol::Tls, None, vec!["spec.tcp[0]"]),
        (Protocol::Http, None, vec!["spec.tcp[0]", "spec.tls[0]"]),
        (Protocol::Undeclared, None, vec![]),
        (Protocol::Tcp, Some(9080), vec!["spec.tls[0]"]),
        (Protocol::Tcp, Some(9081), vec!["spec.tcp[0]", "spec.tls[0]"]),
    ] {
        let mut objects = mesh(Vec::new());
        objects.services[0].service.ports[0].protocol = protocol;
        let mut tcp = of_tcp();
        let of_port = |port| ConnectionMatch { port: Some(port), ..ConnectionMatch::default() };
        tcp.matches = port.map(of_port).into_iter().collect();
        objects.routes[0].route.connection_rules = vec![by_name("a.com"), tcp];
        let proxy = Proxy::sidecar(objects, "default", &[]);
        let found = proxy.findings.iter().filter(|f| f.code == FindingCode::NoEffect);
        let found: Vec<&str> = found.map(|finding| &*finding.path).collect();
        assert_eq!(found, expected, "{protocol:?} {port:?}");
    }
}

#[test]
fn rules_for_tls_are_none_for_bytes_and_the_other_way() {
    let tcp = GatewayServer { protocol: GatewayProtocol::Tcp, ..server(6379, &["*"], None) };
    let passed = server(443, &["a.com"], Some(GatewayTlsMode::Passthrough));
    let mut only_tls = Proxy::gateway(edge(vec![tcp, passed], vec![by_name("a.com")]));
    assert_eq!(outcome(&connect(&mut only_tls, 6379, Seen::NotRead)), "no_route");
    let passed = server(443, &["a.com"], Some(GatewayTlsMode::Passthrough));
    let mut only_tcp = Proxy::gateway(edge(vec![passed], vec![of_tcp()]));
    assert_eq!(outcome(&connect(&mut only_tcp, 443, seen(Some("a.com")))), "no_route");
}

/// What other meshes name is passed on as it is: a Gateway of that mode has no rules.
#[test]
fn services_are_reached_by_the_names_that_meshes_use() {
    let passing = || server(443, &["*.local"], Some(GatewayTlsMode::AutoPassthrough));
    let mut objects = edge(vec![passing()], vec![by_name("*.local")]);
    objects.destination_policies = vec![subsets(("default", "app"), 0, APP, &["v1", "v2"])];
    let mut proxy = Proxy::gateway(objects);
    assert_eq!(connect(&mut proxy, 443, Seen::NotRead).plan, Plan::ReadHello);
    let mut of = |name: &str| connect(&mut proxy, 443, seen(Some(name)));
    let whole = of(&format!("outbound_.9080_._.{APP}"));
    assert_eq!((whole.plan.clone(), whole.reason), (Plan::Forward, Reason::DefaultRoute));
    assert!(whole.passes_mesh_tls_on());
    assert_eq!(whole.backend().unwrap().subset, None);
    let subset = of(&format!("Outbound_.9080_.v2_.{APP}"));
    assert_eq!(subset.plan, Plan::Forward);
    assert_eq!(subset.backend().unwrap().subset.as_deref(), Some("v2"));
    let refused = [
        (format!("outbound_.9081_._.{APP}"), Reason::UnknownDestination),
        (format!("outbound_.9080_.v9_.{APP}"), Reason::UndefinedSubset),
        ("outbound_.80_._.nobody.default.svc.cluster.local".to_owned(), Reason::NoRoute),
        (APP.to_owned(), Reason::NoRoute),
        ("outbound_.443_._.example.com".to_owned(), Reason::NoServer),
    ];
    for (name, reason) in refused {
        assert_eq!(of(&name).reason, reason, "{name}");
    }
    // Where TLS is passed on by rules such a name is one like any other.
    let by_rules = server(443, &["*.local"], Some(GatewayTlsMode::Passthrough));
    let mut proxy = Proxy::gateway(edge(vec![by_rules], vec![by_name("*.default.svc")]));
    let name = format!("outbound_.9080_._.{APP}");
    assert_eq!(connect(&mut proxy, 443, seen(Some(&name))).reason, Reason::NoRoute);
}

fn found(objects: Objects) -> Vec<(FindingCode, String)> {
    let all = Proxy::gateway(objects).findings.into_iter();
    let of_gateways = all.filter(|finding: &Finding| &*finding.object.kind == "Gateway");
    of_gateways.map(|finding| (finding.code, finding.message)).collect()
}

#[test]
fn what_is_wrong_with_a_secret_is_found_and_only_its_server_is_dead() {
    let servers = || vec![server(443, &["a.com"], SIMPLE), server(443, &["b.com"], SIMPLE)];
    assert_eq!(found(edge(servers(), Vec::new())), []);
    let mut broken = edge(servers(), Vec::new());
    broken.credentials[0].flaw = Some("it is garbage".to_owned());
    assert_eq!(found(broken)[0].0, FindingCode::BadCredential);
    let mut missing = edge(servers(), Vec::new());
    missing.gateways[1].servers[0].tls.as_mut().unwrap().certificates[0].1 = "gone".into();
    assert_eq!(
        found(missing.clone()),
        [(
            FindingCode::BadCredential,
            "Secret istio-system/gone is not there, or has no certificate".to_owned()
        )]
    );
    let mut proxy = Proxy::gateway(missing);
    proxy.subscribe(&ResourceKey::Listeners);
    let certificates = |at: usize| match &proxy.view.listeners().at(443).unwrap().servers[at].tls {
        Some(ServerTls::Terminate(given)) => given.certificates.len(),
        _ => panic!(),
    };
    assert_eq!((certificates(0), certificates(1)), (1, 0));
}

/// A key reaches a gateway that a Gateway selects, in the Secret's own namespace, and nobody else.
#[test]
fn keys_reach_the_gateway_that_needs_them_alone() {
    let mut objects = edge(vec![server(443, &["a.com"], SIMPLE)], Vec::new());
    objects.credentials.push(secret("other"));
    let held = |proxy: &mut Proxy| {
        proxy.subscribe(&ResourceKey::Listeners);
        let listeners = proxy.view.listeners().clone();
        let servers = listeners.listeners.iter().flat_map(|listener| &listener.servers);
        let keys = servers.filter_map(|server| match &server.tls {
            Some(ServerTls::Terminate(given)) => Some(given.certificates.len()),
            _ => None,
        });
        keys.sum::<usize>()
    };
    assert_eq!(held(&mut Proxy::gateway(objects.clone())), 1);
    let labels = [("istio", "ingressgateway")];
    assert_eq!(held(&mut Proxy::sidecar(objects.clone(), "default", &labels)), 0);
    assert_eq!(held(&mut Proxy::sidecar(objects, "istio-system", &[("app", "x")])), 0);
}

#[test]
fn a_port_that_an_older_gateway_has_for_something_else_is_found() {
    let servers = vec![
        server(443, &["a.com"], SIMPLE),
        server(443, &["b.com"], None),
        server(443, &["a.com"], SIMPLE),
    ];
    let objects = edge(servers, Vec::new());
    let codes: Vec<FindingCode> =
        found(objects.clone()).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [FindingCode::PortTaken, FindingCode::PortTaken]);
    let mut proxy = Proxy::gateway(objects);
    proxy.subscribe(&ResourceKey::Listeners);
    let listener = proxy.view.listeners().at(443).unwrap();
    assert_eq!(listener.protocol, GatewayProtocol::Tls);
    assert!(listener.servers.iter().all(|server| server.tls.is_some()));
}

/// Trap 1: `gateways` was forgotten, and the host can only be meant for the Gateway that names it.
#[test]
fn trap_1_a_route_without_gateways_belongs_to_the_gateway_that_names_its_host() {
    let given = |gateways: &'static str, host: &str| {
        let mut objects = mesh(vec![to(Vec::new(), "v1")]);
        objects.gateways.push(gateway(("default", "gw"), 0, &[host]));
        let mut own =
            route(("default", "web"), 0, &["web.com"], &["mesh"], vec![to(Vec::new(), "v2")]);
        own.fields.gateways = gateways;
        objects.routes.push(own);
        objects
    };
    let outcome_of = |objects: Objects| outcome(&Proxy::gateway(objects).get("web.com", "/"));
    let bound = given("", "web.com");
    assert_eq!(outcome_of(bound.clone()), "default/web#0 v2");
    let found = Proxy::gateway(bound.clone()).findings;
    assert!(found.iter().any(|finding| finding.code == FindingCode::AttachedByHost), "{found:?}");
    // Who says `mesh` means it, and a wildcard names nobody.
    assert_eq!(outcome_of(given("spec.gateways", "web.com")), "no_route");
    assert_eq!(outcome_of(given("", "*")), "no_route");
    // Where another one serves the host, that is meant.
    let mut served = bound.clone();
    let others = route(("default", "all"), 1, &["*"], &["default/gw"], vec![to(Vec::new(), "v1")]);
    served.routes.push(others);
    assert_eq!(outcome_of(served), "default/all#0 v1");
    let mut elsewhere = bound.clone();
    elsewhere.gateways[0].id.namespace = "other".into();
    assert_eq!(outcome_of(elsewhere), "no_route");
    // A rule of its own goes when the host becomes another's.
    let mut proxy = Proxy::gateway(bound);
    assert_eq!(outcome(&proxy.get("web.com", "/")), "default/web#0 v2");
    proxy.replace(given("spec.gateways", "web.com"));
    assert_eq!(proxy.get("web.com", "/").reason, Reason::NoRoute);
}
