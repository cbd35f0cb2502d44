//! What is decided about connections, and what policies say about both.

use super::*;
use crate::network::Network;
use crate::route::{Backend, ConnectionMatch, ConnectionRule, DirectResponse};
use crate::traffic::Traffic;

/// Decides about a connection to `destination` by a workload with these labels.
fn connect(proxy: &mut Proxy, destination: &str, server_name: Seen<&str>) -> Decision {
    let local = proxy.local();
    let connection =
        Connection { destination: destination.parse().unwrap(), server_name, ..connection(&local) };
    proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent)
}

fn connection_rule(place: &str, matches: Vec<ConnectionMatch>, subset: &str) -> ConnectionRule {
    let backends: Vec<Backend> = vec![backend((APP, subset, 0))];
    ConnectionRule { place: place.into(), matches, backends }
}

/// The service `app` with rules for connections.
fn with_connection_rules(rules: Vec<ConnectionRule>, labels: &[(&str, &str)]) -> Proxy {
    with_rules_on(Protocol::Tcp, rules, labels)
}

/// The same, whose port declares this.
fn with_rules_on(protocol: Protocol, rules: Vec<ConnectionRule>, labels: &[(&str, &str)]) -> Proxy {
    let mut objects = mesh(Vec::new());
    objects.services[0].service.ports[0].protocol = protocol;
    objects.routes[0].route.connection_rules = rules;
    Proxy::sidecar(objects, "default", labels)
}

const VIRTUAL: &str = "10.96.0.1:9080";

#[test]
fn connections_follow_the_rules_of_their_caller() {
    let of_caller = |version: &str| ConnectionMatch {
        source_labels: [("version", version)].into_iter().collect(),
        ..ConnectionMatch::default()
    };
    let rules = vec![
        connection_rule("tcp[0]", vec![of_caller("1")], "v1"),
        connection_rule("tcp[1]", vec![of_caller("2")], "v2"),
    ];
    for (version, expected) in
        [("1", "default/r#tcp[0] v1"), ("2", "default/r#tcp[1] v2"), ("3", "default_route")]
    {
        let mut proxy = with_connection_rules(rules.clone(), &[("version", version)]);
        let decision = connect(&mut proxy, VIRTUAL, Seen::NotRead);
        assert_eq!(outcome(&decision), expected, "version {version}");
        assert_eq!(decision.plan, Plan::Forward);
    }
    let mut all = with_connection_rules(vec![connection_rule("tcp[0]", Vec::new(), "v2")], &[]);
    assert_eq!(outcome(&connect(&mut all, VIRTUAL, Seen::NotRead)), "default/r#tcp[0] v2");
}

#[test]
fn a_rule_for_another_port_is_none_for_this_one() {
    let on = |port| ConnectionMatch { port: Some(port), ..ConnectionMatch::default() };
    let rules = vec![
        connection_rule("tcp[0]", vec![on(9081)], "v1"),
        connection_rule("tcp[1]", vec![on(9080)], "v2"),
    ];
    let mut proxy = with_connection_rules(rules, &[]);
    assert_eq!(outcome(&connect(&mut proxy, VIRTUAL, Seen::NotRead)), "default/r#tcp[1] v2");
}

/// The address that was dialled counts, of services with several and of those that are networks.
#[test]
fn a_rule_for_some_networks_is_none_for_others() {
    let within = |networks: &[&str]| ConnectionMatch {
        destinations: networks.iter().map(|text| Network::of_text(text).unwrap()).collect(),
        ..ConnectionMatch::default()
    };
    let rules = vec![
        connection_rule("tcp[0]", vec![within(&["10.97.0.0/16", "10.96.0.2"])], "v1"),
        connection_rule("tcp[1]", vec![within(&["10.96.0.0/24", "fd00::/8"])], "v2"),
    ];
    let mut proxy = with_connection_rules(rules, &[]);
    assert_eq!(outcome(&connect(&mut proxy, VIRTUAL, Seen::NotRead)), "default/r#tcp[1] v2");
    let elsewhere = vec![connection_rule("tcp[0]", vec![within(&["10.96.0.2", "::/0"])], "v1")];
    let mut proxy = with_connection_rules(elsewhere, &[]);
    assert_eq!(outcome(&connect(&mut proxy, VIRTUAL, Seen::NotRead)), "default_route");
}

#[test]
fn the_server_name_is_read_only_where_a_rule_depends_on_it() {
    let named = |names: &[&str]| ConnectionMatch {
        server_names: names.iter().map(|name| (*name).into()).collect(),
        ..ConnectionMatch::default()
    };
    let rules = vec![
        connection_rule("tls[0]", vec![named(&["a.example.com", "*.b.example.com"])], "v1"),
        connection_rule("tls[1]", vec![named(&["*.example.com"])], "v2"),
    ];
    let mut proxy = with_rules_on(Protocol::Tls, rules.clone(), &[]);
    assert_eq!(connect(&mut proxy, VIRTUAL, Seen::NotRead).plan, Plan::ReadHello);
    for (name, expected) in [
        (Seen::Is("a.example.com"), "default/r#tls[0] v1"),
        (Seen::Is("A.Example.COM"), "default/r#tls[0] v1"),
        (Seen::Is("x.b.example.com"), "default/r#tls[0] v1"),
        (Seen::Is("c.example.com"), "default/r#tls[1] v2"),
        (Seen::Is("example.com"), "default_route"),
        (Seen::Is(""), "default_route"),
        (Seen::Is("a.example.com.evil"), "default_route"),
        (Seen::Absent, "default_route"),
    ] {
        assert_eq!(outcome(&connect(&mut proxy, VIRTUAL, name)), expected, "{name:?}");
    }
    // Of rules that are not for this caller nothing needs to be read.
    let other = ConnectionMatch {
        source_labels: [("version", "9")].into_iter().collect(),
        ..named(&["*.example.com"])
    };
    let rules = vec![connection_rule("tls[0]", vec![other], "v1")];
    let mut proxy = with_rules_on(Protocol::Tls, rules, &[]);
    assert_eq!(connect(&mut proxy, VIRTUAL, Seen::NotRead).reason, Reason::DefaultRoute);
}

/// As in Istio: a rule for names would else make servers wait that speak first, and one without
/// conditions take the TLS of another port.
#[test]
fn rules_of_tls_are_for_ports_of_tls_and_those_of_tcp_for_others() {
    let named = ConnectionMatch {
        server_names: vec!["a.example.com".into()],
        ..ConnectionMatch::default()
    };
    let rules = || {
        vec![
            connection_rule("tls[0]", vec![named.clone()], "v1"),
            connection_rule("tcp[0]", Vec::new(), "v2"),
        ]
    };
    let (named, other) = (Seen::Is("a.example.com"), Seen::Is("other"));
    for (protocol, name, expected) in [
        (Protocol::Tcp, named, "default/r#tcp[0] v2"),
        (Protocol::Tls, named, "default/r#tls[0] v1"),
        (Protocol::Tls, other, "default_route"),
        // Nothing is declared, and the first bytes are looked at.
        (Protocol::Undeclared, named, "default/r#tls[0] v1"),
        (Protocol::Undeclared, other, "default/r#tcp[0] v2"),
    ] {
        let mut proxy = with_rules_on(protocol, rules(), &[]);
        assert_eq!(outcome(&connect(&mut proxy, VIRTUAL, name)), expected, "{protocol:?} {name:?}");
    }
    let mut proxy = with_rules_on(Protocol::Tcp, rules(), &[]);
    assert_eq!(connect(&mut proxy, VIRTUAL, Seen::NotRead).plan, Plan::Forward, "nothing is read");
    // Who knows one kind of rules alone means it for both.
    let mut objects = mesh(Vec::new());
    objects.services[0].service.ports[0].protocol = Protocol::Tls;
    objects.routes[0].route.connection_rules = vec![connection_rule("", Vec::new(), "v2")];
    objects.routes[0].precedence = Some(0);
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(outcome(&connect(&mut proxy, VIRTUAL, named)), "default/r#0 v2");
}

#[test]
fn a_member_that_is_dialled_by_its_address_is_spoken_to_as_that_member() {
    let mut objects = mesh(Vec::new());
    let (meshed, mut plain) = (
        workload("default", "member", [10, 77, 5, 1], &[]),
        workload("default", "plain", [10, 77, 5, 2], &[]),
    );
    plain.1.tls = UpstreamTls::None;
    objects.workloads = vec![meshed.clone(), plain];
    let mut proxy = Proxy::sidecar(objects.clone(), "default", &[]);
    let expected = UpstreamTls::Mesh(identity("default", "member"));

    let opaque = connect(&mut proxy, "10.77.5.1:6000", Seen::NotRead);
    assert_eq!((&opaque.plan, opaque.upstream_tls()), (&Plan::Passthrough, &expected));
    let request = |proxy: &mut Proxy, destination: &str, authority: &str| {
        let local = proxy.local();
        let connection =
            Connection { destination: destination.parse().unwrap(), ..connection(&local) };
        let headers = Vec::new();
        let request = request(&headers, authority, "/");
        proxy.decide(&Traffic::Request(connection, request), Draw(0), &mut Silent)
    };
    for authority in ["10.77.5.1:6000", "member-0.app", "example.com", ""] {
        let decision = request(&mut proxy, "10.77.5.1:6000", authority);
        let found = (&decision.plan, decision.upstream_tls());
        assert_eq!(found, (&Plan::Passthrough, &expected), "{authority}");
        assert_eq!(&*decision.dialled_member().unwrap().id.name, "member");
    }
    for outside in ["10.77.5.2:6000", "203.0.113.7:6000"] {
        let decision = request(&mut proxy, outside, "example.com");
        let found = (&decision.plan, decision.upstream_tls());
        assert_eq!(found, (&Plan::Passthrough, &UpstreamTls::None), "{outside}");
    }
    // At an address of a service it is as if that had been named.
    for authority in ["10.96.0.1:9080", "example.com", ""] {
        assert_eq!(request(&mut proxy, VIRTUAL, authority).reason, Reason::DefaultRoute);
    }
    // A policy that turns mutual TLS off holds there, too.
    let off = inbound_policy(("default", "off"), 0, None, Some(MtlsMode::Disable));
    objects.inbound_policies = vec![off];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let decision = connect(&mut proxy, "10.77.5.1:6000", Seen::NotRead);
    assert_eq!(decision.upstream_tls(), &UpstreamTls::None);
}

#[test]
fn a_strict_workload_refuses_plaintext_by_request_and_by_connection() {
    let decide_as = |mode, peer: Seen<&crate::Identity>, by_request: bool| {
        let mut objects = mesh(Vec::new());
        objects.inbound_policies = vec![inbound_policy(("default", "p"), 0, None, Some(mode))];
        let mut proxy = Proxy::sidecar(objects, "default", &[]);
        let local = proxy.local();
        let connection = Connection {
            listener: ListenerKind::Inbound,
            destination: "10.77.1.0:9081".parse().unwrap(),
            peer,
            ..connection(&local)
        };
        let headers = Vec::new();
        let traffic = match by_request {
            true => Traffic::Request(connection, request(&headers, "app", "/")),
            false => Traffic::Connection(connection),
        };
        proxy.decide(&traffic, Draw(0), &mut Silent)
    };
    let caller = identity("default", "client");
    for by_request in [false, true] {
        let refused = decide_as(MtlsMode::Strict, Seen::Absent, by_request);
        assert_eq!(refused.reason, Reason::PlaintextRefused);
        assert_eq!(refused.plan, Plan::Answer(0));
        for (mode, peer) in [
            (MtlsMode::Strict, Seen::Is(&caller)),
            (MtlsMode::Strict, Seen::NotRead),
            (MtlsMode::Permissive, Seen::Absent),
            (MtlsMode::Disable, Seen::Absent),
        ] {
            let taken = decide_as(mode, peer, by_request);
            assert_eq!(taken.plan, Plan::ToWorkload(mode), "{mode:?} {peer:?}");
        }
    }
}

#[test]
fn a_port_takes_what_is_said_of_it_and_others_what_is_said_of_the_workload() {
    let mut policy = inbound_policy(("default", "p"), 0, Some(("app", "app")), None);
    policy.policy.parts = at_ports(&[(9081, MtlsMode::Permissive), (7000, MtlsMode::Disable)]);
    let mut objects = mesh(Vec::new());
    objects.inbound_policies =
        vec![policy, inbound_policy(("default", "all"), 0, None, Some(MtlsMode::Strict))];
    let mut proxy = Proxy::sidecar(objects, "default", &[("app", "app")]);
    let mut decide = |port: u16, by_request: bool| {
        let local = proxy.local();
        let connection = Connection {
            listener: ListenerKind::Inbound,
            destination: ([10, 77, 1, 0], port).into(),
            peer: Seen::Absent,
            ..connection(&local)
        };
        let headers = Vec::new();
        let traffic = match by_request {
            true => Traffic::Request(connection, request(&headers, "app", "/")),
            false => Traffic::Connection(connection),
        };
        let mut trace = Trace::default();
        let plan = proxy.decide(&traffic, Draw(0), &mut trace).plan;
        let by = trace.0.into_iter().find_map(|event| match event {
            Event::Takes { by, .. } => Some(by),
            _ => None,
        });
        (plan, by.unwrap())
    };
    let of_port = "PeerAuthentication default/p, for this port".to_owned();
    for by_request in [false, true] {
        let served = decide(9081, by_request);
        assert_eq!(served, (Plan::ToWorkload(MtlsMode::Permissive), of_port.clone()));
        let unserved = decide(7000, by_request);
        assert_eq!(unserved, (Plan::ToWorkload(MtlsMode::Disable), of_port.clone()));
        for other in [9080, 1, 65_535] {
            let refused = (Plan::Answer(0), "PeerAuthentication default/all".to_owned());
            assert_eq!(decide(other, by_request), refused, "{other}");
        }
    }
}

#[test]
fn a_member_that_is_dialled_is_spoken_to_as_its_port_takes_it() {
    let mut objects = mesh(Vec::new());
    objects.workloads = vec![workload("default", "member", [10, 77, 5, 1], &[("app", "m")])];
    let mut policy = inbound_policy(("default", "p"), 0, Some(("app", "m")), None);
    policy.policy.parts = at_ports(&[(6001, MtlsMode::Disable)]);
    objects.inbound_policies = vec![policy];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let expected = UpstreamTls::Mesh(identity("default", "member"));
    for (destination, tls) in
        [("10.77.5.1:6000", &expected), ("10.77.5.1:6001", &UpstreamTls::None)]
    {
        let decision = connect(&mut proxy, destination, Seen::NotRead);
        assert_eq!((&decision.plan, decision.upstream_tls()), (&Plan::Passthrough, tls));
    }
}

#[test]
fn a_direct_response_is_an_answer_with_a_body() {
    let body: Arc<[u8]> = b"teapot".as_slice().into();
    let answer = DirectResponse { status: 418, body };
    let teapot = Rule {
        matches: vec![exact("/tea")],
        action: Action::Answer(answer.clone()),
        ..Rule::default()
    };
    let mut proxy = sidecar(vec![teapot, to(Vec::new(), "v1")]);
    let decision = proxy.get("app", "/tea");
    assert_eq!((&decision.plan, decision.reason), (&Plan::Answer(418), Reason::DirectResponse));
    assert_eq!(decision.direct_response(), Some(&answer));
    assert_eq!(decision.route_name().as_deref(), Some("default/r#0"));
    assert_eq!(decision.backend().map(|_| ()), None);
    let other = proxy.get("app", "/");
    assert_eq!((other.direct_response(), &other.plan), (None, &Plan::Forward));
}
