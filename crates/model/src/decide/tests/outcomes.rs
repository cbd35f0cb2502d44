//! What becomes of requests for which no rule wins, what a decision tells of the rule that did, and
//! what is written down on the way.

use super::*;
use crate::retry::{RetryCondition, RetryOn};
use crate::route::ConnectionRule;

const EXTERNAL: &str = "api.example.com";

/// A request from a workload that dialled `destination`.
fn get_at(proxy: &mut Proxy, destination: &str, authority: &str) -> Decision {
    let local = proxy.local();
    let connection = Connection { destination: destination.parse().unwrap(), ..connection(&local) };
    let headers = Vec::new();
    let traffic = Traffic::Request(connection, request(&headers, authority, "/"));
    proxy.decide(&traffic, Draw(0), &mut Silent)
}

fn closed(objects: Objects) -> Proxy {
    let settings =
        Settings { outbound_policy: OutboundPolicy::RegistryOnly, ..Settings::default() };
    let mut proxy = Proxy::sidecar(Objects { settings, ..objects }, "default", &[]);
    proxy.subscribe(&ResourceKey::Settings);
    proxy
}

#[test]
fn a_closed_mesh_serves_no_unknown_host_at_the_address_of_a_service_either() {
    let mut open = sidecar(Vec::new());
    assert_eq!(get_at(&mut open, "10.96.0.1:9080", EXTERNAL).reason, Reason::DefaultRoute);
    let mut closed = closed(mesh(Vec::new()));
    let decision = get_at(&mut closed, "10.96.0.1:9080", EXTERNAL);
    assert_eq!((decision.plan, decision.reason), (Plan::Answer(502), Reason::Blocked));
    assert_eq!(get_at(&mut closed, "10.96.0.1:9080", "app").reason, Reason::DefaultRoute);
}

#[test]
fn a_closed_mesh_blocks_connections_to_addresses_of_nobody() {
    let mut closed = closed(mesh(Vec::new()));
    for (destination, reason) in
        [("203.0.113.7:443", Reason::Blocked), ("10.96.0.1:9080", Reason::DefaultRoute)]
    {
        let local = closed.local();
        let connection =
            Connection { destination: destination.parse().unwrap(), ..connection(&local) };
        let decision = closed.decide(&Traffic::Connection(connection), Draw(0), &mut Silent);
        assert_eq!(decision.reason, reason, "{destination}");
    }
}

/// The route for a name goes: what covers the name holds for it then.
#[test]
fn a_host_whose_own_route_is_gone_is_served_by_the_wildcard() {
    let mut objects = mesh(Vec::new());
    objects.gateways.push(gateway(("default", "gw"), 0, &["*.example.com"]));
    for (name, host, subset) in [("all", "*.example.com", "v1"), ("own", EXTERNAL, "v2")] {
        let rules = vec![to(Vec::new(), subset)];
        objects.routes.push(route(("default", name), 0, &[host], &["default/gw"], rules));
    }
    let mut proxy = Proxy::gateway(objects.clone());
    assert_eq!(outcome(&proxy.get(EXTERNAL, "/")), "default/own#0 v2");
    objects.routes.pop();
    proxy.replace(objects);
    assert_eq!(outcome(&proxy.get(EXTERNAL, "/")), "default/all#0 v1");
}

/// Longer ones are no names, and would be keys that cost something.
#[test]
fn a_host_that_is_longer_than_a_name_can_be_is_asked_for_nowhere() {
    let mut proxy = sidecar(Vec::new());
    let long = "a".repeat(255);
    assert_eq!(proxy.get(&long, "/").plan, Plan::Passthrough);
    let asked = proxy.asked.len();
    let too_long = proxy.get(&format!("{long}a:80"), "/");
    assert_eq!((too_long.plan, too_long.reason), (Plan::Answer(400), Reason::BadRequest));
    assert_eq!(proxy.asked.len(), asked, "nothing was asked for");
}

#[test]
fn a_host_of_which_only_a_route_is_known_has_no_default() {
    let for_others = Match { source_namespace: Some("other".into()), ..Match::default() };
    let mut objects = mesh(Vec::new());
    objects.routes[0] =
        route(("default", "r"), 0, &[EXTERNAL], &["mesh"], vec![to(vec![for_others], "v1")]);
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let decision = proxy.get(EXTERNAL, "/");
    assert_eq!((decision.plan, decision.reason), (Plan::Answer(404), Reason::NoRoute));
}

#[test]
fn a_gateway_serves_only_hosts_of_its_routes() {
    let mut objects = mesh(Vec::new());
    objects.gateways.push(gateway(("default", "gw"), 0, &["*.example.com"]));
    let rules = vec![to(vec![exact("/ok")], "v1")];
    objects.routes.push(route(("default", "g"), 0, &[EXTERNAL], &["default/gw"], rules));
    let mut proxy = Proxy::gateway(objects);
    assert_eq!(outcome(&proxy.get(EXTERNAL, "/ok")), "default/g#0 v1");
    let ports: Vec<u16> = proxy.view.listeners().listeners.iter().map(|own| own.port).collect();
    assert_eq!(ports, [80]);
    for (host, path) in [(EXTERNAL, "/other"), ("other.example.com", "/ok"), ("app", "/ok")] {
        let decision = proxy.get(host, path);
        assert_eq!(
            (decision.plan, decision.reason),
            (Plan::Answer(404), Reason::NoRoute),
            "{host}"
        );
    }
    // Nor does it dial an address for anybody, or ask who lives there.
    let domain = ResolutionKey {
        listener: ListenerKind::Gateway,
        target: Target::Host(EXTERNAL.into(), 80),
        namespace: "istio-system".into(),
    };
    let absent = crate::Resource::Resolution(Arc::new(crate::resource::Resolution::Absent));
    let gone = change(ResourceKey::Resolution(domain), Some(absent));
    let before = proxy.view.clone();
    proxy.view = before.apply([gone]).0;
    let asked = proxy.asked.len();
    assert_eq!(proxy.get(EXTERNAL, "/ok").reason, Reason::NoRoute);
    assert_eq!(proxy.asked.len(), asked);
    proxy.view = before;
    let local = proxy.local();
    for destination in ["203.0.113.7:80", "10.96.0.1:80"] {
        let destination = destination.parse().unwrap();
        let connection =
            Connection { listener: ListenerKind::Gateway, destination, ..connection(&local) };
        let decision = proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent);
        assert_eq!((decision.plan, decision.reason), (Plan::Answer(404), Reason::NoRoute));
    }
}

/// Without a policy of its own, and where nothing of the mesh is, the mesh's setting holds.
#[test]
fn what_enters_a_workload_that_nothing_is_known_of_is_under_the_settings_of_the_mesh() {
    for (mode, plan) in [
        (MtlsMode::Strict, Plan::Answer(0)),
        (MtlsMode::Permissive, Plan::ToWorkload(MtlsMode::Permissive)),
    ] {
        let settings = Settings { mtls_mode: mode, ..Settings::default() };
        let mut proxy = Proxy::sidecar(Objects { settings, ..mesh(Vec::new()) }, "default", &[]);
        proxy.subscribe(&ResourceKey::Settings);
        let local = proxy.local();
        for destination in ["10.77.1.0:9081", "10.77.1.0:1", "10.77.9.9:80"] {
            let destination = destination.parse().unwrap();
            let connection =
                Connection { listener: ListenerKind::Inbound, destination, ..connection(&local) };
            let decision = proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent);
            assert_eq!(decision.plan, plan, "{destination}");
            // Nor does it matter if the control plane says that there is nothing.
            let linked = decision.linked.unwrap();
            let absent = crate::Resource::Resolution(Arc::new(crate::resource::Resolution::Absent));
            let absent = change(ResourceKey::Resolution(linked.key.clone()), Some(absent));
            proxy.view = proxy.view.apply([absent]).0;
            let decision = proxy.decide(&Traffic::Connection(connection), Draw(0), &mut Silent);
            assert_eq!(decision.plan, plan, "nothing is known of {destination}");
        }
    }
}

#[test]
fn a_decision_tells_what_its_rule_says() {
    let retry = Retry {
        attempts: 2,
        per_try_timeout: Some(Duration::from_millis(10)),
        on: vec![RetryOn::Condition(RetryCondition::Reset)],
        ..Retry::default()
    };
    let rules = vec![
        Rule {
            timeout: Some(Duration::from_secs(3)),
            retry: Some(retry.clone()),
            ..rule(vec![exact("/told")], &[(APP, "v1", 0), (APP, "v2", 1)])
        },
        to(Vec::new(), "v1"),
    ];
    let mut proxy = sidecar(rules);
    let told = proxy.get("app", "/told");
    assert_eq!((told.timeout(), told.retry()), (Some(Duration::from_secs(3)), Some(&retry)));
    assert_eq!(told.backend_index(), Some(1));
    assert_eq!(told.backends().unwrap().len(), 2);
    assert!(Arc::ptr_eq(
        told.group().unwrap(),
        told.backends().unwrap()[1].group.as_ref().unwrap()
    ));
    let route = crate::ObjectId::new("VirtualService", "default", "r");
    let held = proxy.view.get(&ResourceKey::Route(route)).unwrap().version;
    assert_eq!(told.route_version(), Some(held));

    let other = proxy.get("app", "/");
    assert_eq!((other.timeout(), other.retry()), (None, None));
    assert_eq!(other.backends().unwrap().len(), 1);
    let unknown = proxy.get("nowhere", "/");
    assert!(unknown.backend().is_none() && unknown.backends().is_none());
    assert_eq!((unknown.route_name(), unknown.route_version()), (None, None));
    assert_eq!(unknown.retry(), None);
}

/// A rule for connections has the number of a rule for requests, and is another one.
#[test]
fn what_a_rule_for_requests_says_does_not_hold_for_connections() {
    let mut objects =
        mesh(vec![Rule { timeout: Some(Duration::from_secs(3)), ..to(vec![exact("/a")], "v1") }]);
    let to_v2 = ConnectionRule {
        place: "tcp[0]".into(),
        matches: Vec::new(),
        backends: vec![backend((APP, "v2", 0))],
    };
    objects.routes[0].route.connection_rules = vec![to_v2];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let local = proxy.local();
    let traffic = Traffic::Connection(connection(&local));
    let decision = proxy.decide(&traffic, Draw(0), &mut Silent);
    assert_eq!(outcome(&decision), "default/r#tcp[0] v2");
    assert!(decision.winning_rule().is_none() && decision.winning_match().is_none());
    assert_eq!(decision.timeout(), None);
    assert_eq!(decision.direct_response(), None);
}

/// Two rules of even weights agree about half of the draws, whichever two they are.
#[test]
fn rules_draw_independently_of_each_other() {
    let even: &[(&str, &str, u32)] = &[(APP, "v1", 1), (APP, "v2", 1)];
    let mut objects = mesh(vec![rule(vec![exact("/0")], even), rule(vec![exact("/1")], even)]);
    let by_connection = ConnectionRule {
        place: "tcp[0]".into(),
        matches: Vec::new(),
        backends: even.iter().copied().map(backend).collect(),
    };
    objects.routes[0].route.connection_rules = vec![by_connection];
    objects.gateways.push(gateway(("default", "gw"), 0, &["*"]));
    for name in ["g0", "g1"] {
        let rules = vec![rule(vec![exact(&format!("/{name}"))], even)];
        objects.routes.push(route(("default", name), 0, &[EXTERNAL], &["default/gw"], rules));
    }
    let mut sidecar = Proxy::sidecar(objects.clone(), "default", &[]);
    let mut gateway = Proxy::gateway(objects);
    let headers = Vec::new();
    let chosen = |proxy: &mut Proxy, listener, path: Option<&str>| -> Vec<u32> {
        let local = proxy.local();
        let destination = match listener {
            ListenerKind::Gateway => "10.77.0.9:80".parse().unwrap(),
            _ => "10.96.0.1:9080".parse().unwrap(),
        };
        let connection = Connection { listener, destination, ..connection(&local) };
        let host = if listener == ListenerKind::Gateway { EXTERNAL } else { "app" };
        let traffic = match path {
            Some(path) => Traffic::Request(connection, request(&headers, host, path)),
            None => Traffic::Connection(connection),
        };
        let mut index = |draw| proxy.decide(&traffic, Draw(draw), &mut Silent).backend_index();
        (0..1_000).map(|draw| index(draw).unwrap()).collect()
    };
    let all = [
        chosen(&mut sidecar, ListenerKind::Outbound, Some("/0")),
        chosen(&mut sidecar, ListenerKind::Outbound, Some("/1")),
        chosen(&mut sidecar, ListenerKind::Outbound, None),
    ];
    let routes = [
        chosen(&mut gateway, ListenerKind::Gateway, Some("/g0")),
        chosen(&mut gateway, ListenerKind::Gateway, Some("/g1")),
    ];
    for (a, b) in [(&all[0], &all[1]), (&all[0], &all[2]), (&routes[0], &routes[1])] {
        let alike = a.iter().zip(b).filter(|(a, b)| a == b).count();
        // Binomial(1 000, 1/2): six sigma are 95.
        assert!(alike.abs_diff(500) < 95, "{alike} of 1000 are alike");
    }
}

fn events(proxy: &Proxy, traffic: &Traffic<'_>) -> Vec<Event> {
    let mut trace = Trace::default();
    decide(&proxy.view, traffic, Draw(0), &mut trace);
    trace.0
}

fn outcome_of_lookup(events: &[Event]) -> &str {
    match &events[0] {
        Event::Resolved { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_looked_up_is_said() {
    let mut objects = mesh(vec![to(Vec::new(), "v1")]);
    objects.workloads = vec![workload("default", "member", [10, 77, 5, 1], &[])];
    objects.services.push(service("default", "plain", 2, 9080, &[]));
    objects.routes.push(route(
        ("default", "e"),
        0,
        &[EXTERNAL],
        &["mesh"],
        vec![to(Vec::new(), "v1")],
    ));
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let local = proxy.local();
    let headers = Vec::new();
    let asking = |authority: &'static str| {
        Traffic::Request(connection(&local), request(&headers, authority, "/"))
    };
    let not_held = "not held: the proxy subscribes, and the traffic waits";
    assert_eq!(outcome_of_lookup(&events(&proxy, &asking("app"))), not_held);
    for (authority, said) in [
        ("app", "service default/app.default.svc.cluster.local, routes default/r"),
        ("plain", "service default/plain.default.svc.cluster.local, no routes"),
        (EXTERNAL, "no service by that name, routes default/e"),
        ("nowhere", "nothing of the mesh is there"),
    ] {
        proxy.decide(&asking(authority), Draw(0), &mut Silent);
        assert_eq!(outcome_of_lookup(&events(&proxy, &asking(authority))), said, "{authority}");
    }
    let member = Connection { destination: "10.77.5.1:1".parse().unwrap(), ..connection(&local) };
    let member = Traffic::Connection(member);
    proxy.decide(&member, Draw(0), &mut Silent);
    let said = "no service, but workload member.default, no routes";
    assert_eq!(outcome_of_lookup(&events(&proxy, &member)), said);

    let route = ResourceKey::Route(crate::ObjectId::new("VirtualService", "default", "r"));
    for (body, said) in [
        (
            Body::Nothing,
            "the proxy cannot use route VirtualService default/r; see `ironmesh proxy-status`",
        ),
        (Body::Forget, "a part of the answer has not arrived"),
    ] {
        let change = Change { key: route.clone(), version: crate::Version(1), body };
        proxy.view = proxy.view.apply([change]).0;
        assert_eq!(outcome_of_lookup(&events(&proxy, &asking("app"))), said);
    }
}

#[test]
fn what_a_gateway_has_no_route_for_is_said() {
    let mut objects = mesh(Vec::new());
    objects.gateways.push(gateway(("default", "gw"), 0, &["*"]));
    let mut proxy = Proxy::gateway(objects);
    proxy.get("app", "/");
    let local = proxy.local();
    let connection = Connection {
        listener: ListenerKind::Gateway,
        destination: "10.77.0.9:80".parse().unwrap(),
        ..connection(&local)
    };
    let headers = Vec::new();
    let events = events(&proxy, &Traffic::Request(connection, request(&headers, "app", "/")));
    assert_eq!(outcome_of_lookup(&events), "no route of the gateway is for this host");
}

#[test]
fn each_condition_says_why_it_failed() {
    let m = Match::default();
    let one = |value: &str| TextMatch::Exact(value.into());
    for (condition, why) in [
        (exact("/x"), "path \"/p\" is not exactly \"/x\""),
        (prefix("/x"), "path \"/p\" is not of prefix \"/x\""),
        (regex("/x+"), "path \"/p\" is not matched by regex \"/x+\""),
        (Match { method: Some(one("PUT")), ..m.clone() }, "method \"GET\" is not exactly \"PUT\""),
        (
            Match { scheme: Some(one("https")), ..m.clone() },
            "scheme \"http\" is not exactly \"https\"",
        ),
        (
            Match { authority: Some(one("x")), ..m.clone() },
            "authority \"app\" is not exactly \"x\"",
        ),
        (
            Match { headers: pair("h", one("2")), ..m.clone() },
            "header h: \"1\" is not exactly \"2\"",
        ),
        (
            Match { headers: pair("g", TextMatch::Present), ..m.clone() },
            "header g is not there; it would have to be present",
        ),
        (
            Match { without_headers: pair("h", one("1")), ..m.clone() },
            "header h: \"1\" is one that must not be there",
        ),
        (
            Match { query: pair("q", one("2")), ..m.clone() },
            "query parameter q=\"1\" is not exactly \"2\"",
        ),
        (
            Match { query: pair("r", one("2")), ..m.clone() },
            "query parameter r is not there; it would have to be exactly \"2\"",
        ),
        (Match { gateways: vec!["default/gw".into()], ..m.clone() }, "it holds only at default/gw"),
        (
            Match { source_labels: [("a", "b")].into_iter().collect(), ..m.clone() },
            "the caller lacks its sourceLabels",
        ),
        (
            Match { source_namespace: Some("other".into()), ..m.clone() },
            "it is for callers in other, not default",
        ),
        (Match { port: Some(81), ..m.clone() }, "it is for port 81, not 9080"),
    ] {
        let mut proxy = sidecar(vec![to(vec![condition], "v1"), to(Vec::new(), "v2")]);
        let local = proxy.local();
        let headers = vec![("h".to_owned(), "1".to_owned())];
        let request = Request { query: Some("q=1"), ..request(&headers, "app", "/p") };
        let traffic = Traffic::Request(connection(&local), request);
        proxy.decide(&traffic, Draw(0), &mut Silent);
        let events = events(&proxy, &traffic);
        let lost =
            Event::Lost { route: "default/r#0".into(), why: why.into(), alternatives: Vec::new() };
        let won = Event::Won { route: "default/r#1".into(), by: "it matches everything".into() };
        assert_eq!(events[1..], [lost, won]);
    }
}

/// The alternative that came furthest explains itself; of those that came as far the last.
#[test]
fn of_several_alternatives_the_one_that_came_furthest_says_why() {
    let header =
        |path: &str, name: &str| Match { headers: pair(name, TextMatch::Present), ..exact(path) };
    let elsewhere = Match { port: Some(81), ..Match::default() };
    let matches = vec![header("/p", "a"), header("/p", "b"), exact("/q"), elsewhere];
    let mut proxy = sidecar(vec![to(matches, "v1"), to(vec![exact("/p"), exact("/q")], "v2")]);
    let local = proxy.local();
    let headers = Vec::new();
    let traffic = Traffic::Request(connection(&local), request(&headers, "app", "/p"));
    proxy.decide(&traffic, Draw(0), &mut Silent);
    let why = "header b is not there; it would have to be present".to_owned();
    // The others say why, too, in their order.
    let alternatives = [
        "header a is not there; it would have to be present",
        &why,
        "path \"/p\" is not exactly \"/q\"",
        "it is for port 81, not 9080",
    ];
    let numbered = alternatives.iter().enumerate().map(|(at, why)| format!("match[{at}]: {why}"));
    let alternatives = numbered.collect();
    let lost = Event::Lost { route: "default/r#0".into(), why, alternatives };
    let won = Event::Won { route: "default/r#1".into(), by: "match[0]".into() };
    assert_eq!(events(&proxy, &traffic)[1..], [lost, won]);
}

/// Each condition that holds brings an alternative further.
#[test]
fn every_condition_that_holds_counts_towards_how_far_it_came() {
    let m = Match::default();
    let one = |value: &str| Some(TextMatch::Exact(value.into()));
    let some = |name: &str| pair(name, TextMatch::Present);
    let missing = |m: Match| Match { query: [m.query, some("missing")].concat(), ..m };
    for holds in [
        exact("/p"),
        Match { method: one("GET"), ..m.clone() },
        Match { scheme: one("http"), ..m.clone() },
        Match { authority: one("app"), ..m.clone() },
        Match { headers: some("h"), ..m.clone() },
        Match { without_headers: some("g"), ..m.clone() },
        Match { query: some("q"), ..m.clone() },
    ] {
        let name = format!("{holds:?}");
        let came_less_far = exact("/other");
        let mut proxy = sidecar(vec![to(vec![missing(holds), came_less_far], "v1")]);
        let local = proxy.local();
        let headers = vec![("h".to_owned(), "1".to_owned())];
        let request = Request { query: Some("q=1"), ..request(&headers, "app", "/p") };
        let traffic = Traffic::Request(connection(&local), request);
        proxy.decide(&traffic, Draw(0), &mut Silent);
        let expected = "query parameter missing is not there; it would have to be present";
        let events = events(&proxy, &traffic);
        let [Event::Lost { why, .. }] = &events[1..] else { panic!("{name}: {events:?}") };
        assert_eq!(why, expected, "{name}");
    }
}
