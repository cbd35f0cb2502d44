//! Lookup of rules by index: what it finds is what trying one after the other finds.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::decide::rules::one_by_one;
use crate::view::Turn;

/// Paths that often are each other's beginning.
fn path() -> impl Strategy<Value = String> {
    let segment = select(vec!["a", "b", "c", "ab", "B", "", "%2f", "\u{e9}"]);
    prop::collection::vec(segment, 1..5).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn path_match() -> impl Strategy<Value = Option<TextMatch>> {
    prop_oneof![
        8 => path().prop_map(|path| Some(TextMatch::Exact(path.into()))),
        6 => path().prop_map(|path| Some(TextMatch::Prefix(path.into()))),
        1 => path().prop_map(|path| Some(TextMatch::Regex(format!("{path}.?").into()))),
        1 => Just(Some(TextMatch::Regex("*dead".into()))),
        1 => Just(None),
    ]
}

/// One condition beside the path, if any.
fn other_condition() -> impl Strategy<Value = Match> {
    let header = |value: &str| pair("h", TextMatch::Exact(value.into()));
    prop_oneof![
        4 => Just(Match::default()),
        2 => select(vec!["GET", "POST"])
            .prop_map(|method| Match { method: text(TextMatch::Exact, method), ..Match::default() }),
        2 => select(vec!["1", "2", "3"])
            .prop_map(move |value| Match { headers: header(value), ..Match::default() }),
        1 => select(vec!["1", "2"])
            .prop_map(move |value| Match { without_headers: header(value), ..Match::default() }),
        1 => select(vec!["1", "2"]).prop_map(|version| Match {
            source_labels: [("version", version)].into_iter().collect(),
            ..Match::default()
        }),
        1 => select(vec![80, 9080]).prop_map(|port| Match { port: Some(port), ..Match::default() }),
        1 => select(vec!["default", "istio-system"])
            .prop_map(|from| Match { source_namespace: Some(from.into()), ..Match::default() }),
        1 => select(vec!["mesh", "default/gw"])
            .prop_map(|at| Match { gateways: vec![at.into()], ..Match::default() }),
    ]
}

fn alternative() -> impl Strategy<Value = Match> {
    (path_match(), other_condition(), prop::bool::weighted(0.2)).prop_map(
        |(path, other, any_case)| {
            let method = match &path {
                // Seldom one that takes all, or there would be nothing behind it.
                None if other == Match::default() => text(TextMatch::Exact, "PUT"),
                _ => other.method.clone(),
            };
            Match { path, method, ignore_path_case: any_case, ..other }
        },
    )
}

fn rules(most: usize) -> impl Strategy<Value = Vec<Rule>> {
    let matches = prop_oneof![
        2000 => prop::collection::vec(alternative(), 1..4),
        1 => Just(Vec::new()),
    ];
    prop::collection::vec(matches.prop_map(|matches| to(matches, "v1")), 1..most)
}

/// A request: the path of some rule, changed a little or not, or another one.
#[derive(Clone, Debug)]
struct Asked {
    of_rule: Index,
    change: usize,
    other: String,
    method: &'static str,
    header: Option<&'static str>,
}

fn asked() -> impl Strategy<Value = Asked> {
    let method = select(vec!["GET", "POST", "PUT"]);
    let header = select(vec![None, Some("1"), Some("2"), Some("3")]);
    (any::<Index>(), 0usize..7, path(), method, header).prop_map(
        |(of_rule, change, other, method, header)| Asked { of_rule, change, other, method, header },
    )
}

impl Asked {
    fn path(&self, rules: &[Rule]) -> String {
        let mut matches = self.of_rule.get(rules).matches.iter();
        let path = matches.find_map(|m| match m.path.as_ref()? {
            TextMatch::Exact(path) | TextMatch::Prefix(path) => Some(path.to_string()),
            TextMatch::Regex(_) | TextMatch::Present => None,
        });
        let path = path.unwrap_or_else(|| self.other.clone());
        match self.change {
            0 | 1 => path,
            2 => format!("{path}/"),
            3 => format!("{path}{}", self.other),
            4 => path.to_ascii_uppercase(),
            5 => path.chars().take(path.chars().count() - 1).collect(),
            _ => self.other.clone(),
        }
    }
}

/// Decides as a proxy does, and as one that writes down what it does, and tries one rule after the
/// other.
fn compare(proxy: &mut Proxy, authority: &str, path: &str, asked: &Asked) {
    let local = proxy.local();
    let headers: Vec<(String, String)> =
        asked.header.iter().map(|value| ("h".to_owned(), (*value).to_owned())).collect();
    let at_gateway = &*local.namespace == "istio-system";
    let (listener, destination) = match at_gateway {
        true => (ListenerKind::Gateway, "10.77.0.9:80"),
        false => (ListenerKind::Outbound, "10.96.0.1:9080"),
    };
    let connection =
        Connection { listener, destination: destination.parse().unwrap(), ..connection(&local) };
    let request = Request { method: asked.method, ..request(&headers, authority, path) };
    let traffic = Traffic::Request(connection, request);
    let decision = proxy.decide(&traffic, Draw(0), &mut Silent);
    let applies = decision.applies().expect("the host is known");
    let (rule, reason) = match one_by_one(applies, &connection, &request) {
        Found::Matched(at) => (Some(at), Reason::Route),
        Found::NoneApplies if !at_gateway => (None, Reason::DefaultRoute),
        _ => (None, Reason::NoRoute),
    };
    assert_eq!((decision.rule, decision.reason), (rule, reason), "{request:?} {asked:?}");
    let mut trace = Trace::default();
    let traced = proxy.decide(&traffic, Draw(0), &mut trace);
    assert_eq!((traced.rule, traced.reason), (rule, reason));
    let won = trace.0.iter().find_map(|event| match event {
        Event::Won { route, .. } => Some(route.clone()),
        _ => None,
    });
    assert_eq!(won, decision.route_name(), "what is written down is what happened");
    let lost = trace.0.iter().filter(|event| matches!(event, Event::Lost { .. })).count();
    let before = |at: RuleAt| applies.order.iter().position(|turn: &Turn| turn.has(at)).unwrap();
    assert_eq!(lost, rule.map_or(applies.order.len(), before), "every rule before it is named");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..<_>::default() })]

    #[test]
    fn one_route_is_looked_up_as_if_tried_rule_by_rule(
        rules in prop_oneof![rules(40), rules(3_000)],
        version in select(vec!["1", "2", "3"]),
        asked in prop::collection::vec(asked(), 60),
    ) {
        let mut proxy = Proxy::sidecar(mesh(rules.clone()), "default", &[("version", version)]);
        for asked in asked {
            compare(&mut proxy, "app", &asked.path(&rules), &asked);
        }
    }

    #[test]
    fn many_routes_of_a_gateway_are_looked_up_as_if_tried_rule_by_rule(
        rules in prop_oneof![rules(40), rules(3_000)],
        routes in 1usize..30,
        asked in prop::collection::vec(asked(), 60),
    ) {
        let mut objects = mesh(Vec::new());
        objects.gateways.push(gateway(("default", "gw"), 0, &["*"]));
        let each = rules.len().div_ceil(routes);
        let of_gateway = rules.chunks(each).enumerate().map(|(at, rules)| {
            let name = format!("g{at:02}");
            route(("default", &name), 0, &["shop.example.com"], &["default/gw"], rules.to_vec())
        });
        objects.routes.extend(of_gateway);
        let mut proxy = Proxy::gateway(objects);
        for asked in asked {
            compare(&mut proxy, "shop.example.com", &asked.path(&rules), &asked);
        }
    }
}

/// A host with `count` exact paths and as many prefixes, with a rule for the others.
fn numbered(count: usize) -> Vec<Rule> {
    let exact = (0..count).map(|n| to(vec![exact(&format!("/exact/{n}"))], "v1"));
    let prefixes = (0..count).map(|n| to(vec![prefix(&format!("/prefix/{n}/"))], "v2"));
    exact.chain(prefixes).chain([to(Vec::new(), "v1")]).collect()
}

#[test]
fn routes_that_are_alone_share_their_index() {
    let mut objects = mesh(Vec::new());
    objects.routes[0] = route(("default", "r"), 0, &["a.com", "b.com"], &["mesh"], numbered(20));
    let mut proxy = Proxy::sidecar(objects.clone(), "default", &[]);
    // The test sends what an answer refers to with each answer.
    for host in ["a.com", "b.com"] {
        proxy.get(host, "/");
    }
    let indices = ["a.com", "b.com"].map(|host| {
        let decision = proxy.get(host, "/exact/7");
        assert_eq!(outcome(&decision), "default/r#7 v1");
        decision.applies().unwrap().index.clone().expect("there are many rules")
    });
    assert!(Arc::ptr_eq(&indices[0], &indices[1]));
    // One for other paths has another.
    objects.routes[0].route.rules[7].matches = vec![exact("/edited")];
    proxy.replace(objects);
    for host in ["a.com", "b.com"] {
        assert_eq!(outcome(&proxy.get(host, "/edited")), "default/r#7 v1");
        assert_eq!(outcome(&proxy.get(host, "/exact/7")), "default/r#40 v1");
    }
}

#[test]
fn a_change_that_moves_no_rule_makes_no_other_index() {
    let mut objects = mesh(Vec::new());
    objects.gateways.push(gateway(("default", "gw"), 0, &["*"]));
    for name in ["g1", "g2"] {
        let rules = numbered(20);
        objects.routes.push(route(("default", name), 0, &["a.com"], &["default/gw"], rules));
    }
    let mut proxy = Proxy::gateway(objects.clone());
    let index = |proxy: &mut Proxy| {
        let decision = proxy.get("a.com", "/prefix/19/x");
        assert_eq!(outcome(&decision), "default/g1#39 v2");
        decision.applies().unwrap().index.clone().expect("there are many rules")
    };
    let before = index(&mut proxy);
    objects.destination_policies[0] = subsets(("default", "d"), 0, APP, &["v2"]);
    proxy.snapshot = crate::Snapshot::new(objects).0;
    let policy = crate::ObjectId::new("DestinationRule", "default", "d");
    proxy.subscribe(&ResourceKey::Policy(policy));
    assert_eq!(proxy.get("a.com", "/exact/1").reason, Reason::UndefinedSubset, "it is in effect");
    assert!(Arc::ptr_eq(&before, &index(&mut proxy)));
}

/// One of many routes for a host is edited: the others are as they were, and so is the index while no
/// rule asks for something else.
#[test]
fn an_edit_of_one_route_leaves_the_others_of_its_host() {
    let mut objects = mesh(Vec::new());
    objects.gateways.push(gateway(("default", "gw"), 0, &["*"]));
    let names = ["g0", "g1", "g2", "g3"];
    for (at, name) in names.iter().enumerate() {
        let rule = |n: usize| to(vec![exact(&format!("/{at}/{n}"))], "v1");
        let rules = (0..10).map(rule).collect();
        objects.routes.push(route(("default", name), 0, &["a.com"], &["default/gw"], rules));
    }
    let mut proxy = Proxy::gateway(objects.clone());
    let linked = |proxy: &mut Proxy| proxy.get("a.com", "/").linked.unwrap();
    let before = linked(&mut proxy);
    let mut edit = |edit: fn(&mut Rule)| {
        let source = objects.routes.iter_mut().find(|source| &*source.route.id.name == "g2");
        edit(&mut source.unwrap().route.rules[5]);
        proxy.snapshot = crate::Snapshot::new(objects.clone()).0;
        let id = crate::ObjectId::new("VirtualService", "default", "g2");
        proxy.subscribe(&ResourceKey::Route(id));
        let after = linked(&mut proxy);
        let (was, is) = (before.applies.as_ref().unwrap(), after.applies.as_ref().unwrap());
        let same = was.routes.iter().zip(&is.routes).map(|(a, b)| Arc::ptr_eq(a, b));
        assert_eq!(same.collect::<Vec<_>>(), [true, true, false, true]);
        let indices = [was, is].map(|applies| applies.index.as_ref().unwrap());
        let won = ["/2/5", "/edited", "/3/9"].map(|path| outcome(&proxy.get("a.com", path)));
        (Arc::ptr_eq(indices[0], indices[1]), won)
    };
    let (same_index, won) = edit(|rule| rule.action = to(Vec::new(), "v2").action);
    assert!(same_index);
    assert_eq!(won, ["default/g2#5 v2", "no_route", "default/g3#9 v1"]);
    let (same_index, won) = edit(|rule| rule.matches = vec![exact("/edited")]);
    assert!(!same_index);
    assert_eq!(won, ["no_route", "default/g2#5 v2", "default/g3#9 v1"]);
    let (_, won) = edit(|rule| rule.matches = Vec::new());
    assert_eq!(won, ["default/g2#5 v2", "default/g2#5 v2", "default/g3#9 v1"]);
}

/// At a gateway what stands behind a catch-all is dropped, but only where that is one.
#[test]
fn a_catch_all_at_one_port_hides_nothing_at_another() {
    let at = |port: u16, m: Match| Match { port: Some(port), ..m };
    let mut rules = numbered(20);
    rules.pop();
    rules.push(to(vec![at(80, prefix("/"))], "v1"));
    rules.push(to(vec![prefix("/prefix/")], "v2"));
    let mut objects = mesh(Vec::new());
    let mut both = gateway(("default", "gw"), 0, &["*"]);
    both.servers.push(crate::snapshot::GatewayServer { port: 8080, ..both.servers[0].clone() });
    objects.gateways.push(both);
    objects.routes.push(route(("default", "g"), 0, &["a.com"], &["default/gw"], rules));
    let mut proxy = Proxy::gateway(objects);
    let local = proxy.local();
    let headers = Vec::new();
    let mut win = |port: u16, path: &str| {
        let connection = Connection {
            listener: ListenerKind::Gateway,
            destination: ([10, 77, 0, 9], port).into(),
            ..connection(&local)
        };
        let traffic = Traffic::Request(connection, request(&headers, "a.com", path));
        outcome(&proxy.decide(&traffic, Draw(0), &mut Silent))
    };
    for (port, path, won) in [
        (80, "/exact/19", "default/g#19 v1"),
        (80, "/prefix/99/", "default/g#40 v1"),
        (8080, "/prefix/99/", "default/g#41 v2"),
        (8080, "/prefix/0/x", "default/g#20 v2"),
        (8080, "/other", "no_route"),
        (80, "/other", "default/g#40 v1"),
    ] {
        assert_eq!(win(port, path), won, "{path} on port {port}");
    }
}

#[test]
fn of_many_rules_none_may_be_for_a_caller() {
    let of_version = |version: &str, m: Match| Match {
        source_labels: [("version", version)].into_iter().collect(),
        ..m
    };
    let rules = |versions: [&str; 2]| {
        let rule = |n: usize| of_version(versions[n % 2], exact(&format!("/{n}")));
        (0..40).map(|n| to(vec![rule(n)], "v1")).collect::<Vec<_>>()
    };
    let as_caller = |rules: Vec<Rule>, version: &str| {
        Proxy::sidecar(mesh(rules), "default", &[("version", version)])
    };
    for (version, matched, other) in [
        ("1", "default/r#38 v1", "no_route"),
        ("2", "no_route", "no_route"),
        ("3", "default_route", "default_route"),
    ] {
        let mut proxy = as_caller(rules(["1", "2"]), version);
        assert_eq!(outcome(&proxy.get("app", "/38")), matched, "version {version}");
        assert_eq!(outcome(&proxy.get("app", "/other")), other, "version {version}");
    }
    // Even a rule that can never match is one for the caller.
    let mut with_dead = rules(["1", "2"]);
    with_dead.push(to(vec![of_version("3", regex("*"))], "v1"));
    assert_eq!(as_caller(with_dead, "3").get("app", "/other").reason, Reason::NoRoute);
    let mut with_all = rules(["1", "2"]);
    with_all.push(to(vec![exact("/all")], "v1"));
    assert_eq!(as_caller(with_all, "3").get("app", "/other").reason, Reason::NoRoute);
}

/// The first of those that a path may match wins, whichever list it is in.
#[test]
fn paths_of_every_kind_keep_their_order() {
    let any_case = |m: Match| Match { ignore_path_case: true, ..m };
    let get = |m: Match| Match { method: text(TextMatch::Exact, "GET"), ..m };
    let kinds = [
        exact("/a/b"),
        prefix("/a"),
        prefix("/a/"),
        regex("/a/b.*"),
        any_case(exact("/A/B")),
        any_case(prefix("/A")),
        get(Match::default()),
    ];
    let others = || (0..20).map(|n| to(vec![exact(&format!("/other/{n}"))], "v1"));
    for first in 0..kinds.len() {
        let rotated = (0..kinds.len()).map(|n| kinds[(first + n) % kinds.len()].clone());
        let rules = others().chain(rotated.clone().map(|m| to(vec![m], "v2"))).collect();
        let mut proxy = sidecar(rules);
        for (path, matching) in [
            ("/a/b", [true, true, true, true, true, true, true]),
            ("/A/b", [false, false, false, false, true, true, true]),
            ("/a", [false, true, false, false, false, true, true]),
            ("/a/bc", [false, true, true, true, false, true, true]),
            ("/ab", [false, true, false, false, false, true, true]),
            ("/b", [false, false, false, false, false, false, true]),
        ] {
            let at = (0..kinds.len()).find(|n| matching[(first + n) % kinds.len()]).unwrap();
            let won = format!("default/r#{} v2", 20 + at);
            assert_eq!(outcome(&proxy.get("app", path)), won, "{path}, beginning at {first}");
        }
    }
}
