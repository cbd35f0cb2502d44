//! Tests of decisions: conditions, weights, and who a rule is for.

use super::*;
use crate::Name;
use crate::name::Labels;
use crate::recorder::{Silent, Trace};
use crate::route::{Action, Match, PathRewrite, Rewrite, Rule};
use crate::settings::Settings;
use crate::snapshot::Objects;
use crate::test_world::*;
use crate::text_match::TextMatch;
use crate::traffic::Local;
use crate::view::{Body, Change};

mod answers;
mod connections;
mod edge;
mod hashes;
mod lookup;
mod outcomes;
mod outside;

const APP: &str = "app.default.svc.cluster.local";

/// A service with versions 1 and 2, and one route with these rules.
fn mesh(rules: Vec<Rule>) -> Objects {
    let pods = [("a", "v1", true), ("b", "v2", true)];
    Objects {
        services: vec![service("default", "app", 1, 9080, &pods)],
        routes: vec![route(("default", "r"), 0, &[APP], &["mesh"], rules)],
        destination_policies: vec![subsets(("default", "d"), 0, APP, &["v1", "v2"])],
        ..Objects::default()
    }
}

fn sidecar(rules: Vec<Rule>) -> Proxy {
    Proxy::sidecar(mesh(rules), "default", &[("app", "client"), ("version", "1.0")])
}

fn to(matches: Vec<Match>, subset: &str) -> Rule {
    rule(matches, &[(APP, subset, 0)])
}

fn text(kind: fn(Name) -> TextMatch, value: &str) -> Option<TextMatch> {
    Some(kind(value.into()))
}

fn pair(name: &str, matched: TextMatch) -> Vec<(Name, TextMatch)> {
    vec![(name.into(), matched)]
}

/// Trap 9: an exact path ignores the query and covers nothing below it.
#[test]
fn trap_9_exact_paths_ignore_the_query() {
    let mut proxy = sidecar(vec![to(vec![exact("/hello")], "v1")]);
    assert_eq!(outcome(&proxy.get("app", "/hello?x=/other")), "default/r#0 v1");
    for other in ["/hello/", "/hello/version", "/Hello", "/"] {
        assert_eq!(proxy.get("app", other).reason, Reason::NoRoute, "{other}");
    }
    assert_eq!(outcome(&proxy.get("app", "/x/../hello")), "default/r#0 v1", "it is normalised");
}

/// Trap 11: the host of a request in every form; the query is no part of the path.
#[test]
fn trap_11_hosts_come_in_every_form() {
    let mut proxy = sidecar(vec![to(vec![exact("/")], "v1")]);
    for host in [
        "app",
        "app:9080",
        "app:80",
        "APP",
        "app.default",
        "app.default:9080",
        "app.default.svc",
        "app.default.svc.cluster.local",
        "app.default.svc.cluster.local.:9080",
        "10.96.0.1",
        "10.96.0.1:9080",
    ] {
        assert_eq!(outcome(&proxy.get(host, "/?failRate=50")), "default/r#0 v1", "{host}");
    }
    assert_eq!(proxy.get("app.other", "/").plan, Plan::Passthrough);
    let mut elsewhere = Proxy::sidecar(mesh(Vec::new()), "other", &[]);
    assert_eq!(elsewhere.get("app", "/").reason, Reason::Passthrough, "short names are local");
    assert_eq!(elsewhere.get("app.default", "/").reason, Reason::DefaultRoute);
}

/// Trap 12: a host that is no service goes where the caller dialled, unless the mesh is closed.
#[test]
fn trap_12_unknown_hosts_go_to_their_original_destination() {
    let mut proxy = sidecar(Vec::new());
    assert_eq!(proxy.get("203.0.113.7:8080", "/").plan, Plan::Passthrough);
    let mut objects = mesh(Vec::new());
    objects.settings =
        Settings { outbound_policy: OutboundPolicy::RegistryOnly, ..Settings::default() };
    let mut closed = Proxy::sidecar(objects, "default", &[]);
    closed.subscribe(&ResourceKey::Settings);
    let decision = closed.get("203.0.113.7:8080", "/");
    assert_eq!((decision.plan, decision.reason), (Plan::Answer(502), Reason::Blocked));
}

/// Trap 5: rules for other callers leave a caller with the service as it is.
#[test]
fn trap_5_a_caller_for_whom_no_rule_is_gets_the_default_route() {
    let for_caller = |version: &str| Match {
        source_labels: [("app", "client"), ("version", version)].into_iter().collect(),
        ..Match::default()
    };
    let rules = vec![to(vec![for_caller("1.0")], "v1"), to(vec![for_caller("2.0")], "v2")];
    let mut first =
        Proxy::sidecar(mesh(rules.clone()), "default", &[("app", "client"), ("version", "1.0")]);
    let mut second =
        Proxy::sidecar(mesh(rules.clone()), "default", &[("app", "client"), ("version", "2.0")]);
    let mut third =
        Proxy::sidecar(mesh(rules), "default", &[("app", "client"), ("version", "3.0")]);
    assert_eq!(outcome(&first.get("app", "/")), "default/r#0 v1");
    assert_eq!(outcome(&second.get("app", "/")), "default/r#1 v2");
    let other = third.get("app", "/");
    assert_eq!(other.reason, Reason::DefaultRoute);
    assert_eq!(other.backend().unwrap().group.as_ref().unwrap().members().all.len(), 2);
}

#[test]
fn a_rule_for_this_caller_that_does_not_match_is_no_default_route() {
    let here = Match { source_labels: [("app", "client")].into_iter().collect(), ..exact("/only") };
    let mut proxy = sidecar(vec![to(vec![here], "v1")]);
    assert_eq!(proxy.get("app", "/other").reason, Reason::NoRoute);
    let dead = Match { source_labels: [("app", "client")].into_iter().collect(), ..regex("*") };
    let mut proxy = sidecar(vec![to(vec![dead], "v1")]);
    assert_eq!(proxy.get("app", "/").reason, Reason::NoRoute, "a dead rule opens nothing");
}

/// Trap 6: an undefined or empty subset is 503, neither 404 nor any pod.
#[test]
fn trap_6_undefined_and_empty_subsets_answer_503() {
    let mut proxy = sidecar(vec![to(vec![exact("/undefined")], "v9"), to(Vec::new(), "v3")]);
    let undefined = proxy.get("app", "/undefined");
    assert_eq!(
        (undefined.plan.clone(), undefined.reason),
        (Plan::Answer(503), Reason::UndefinedSubset)
    );
    assert_eq!(undefined.backend().unwrap().subset.as_deref(), Some("v9"));

    let mut objects = mesh(vec![to(Vec::new(), "v3")]);
    objects.destination_policies.push(subsets(("default", "e"), 1, APP, &["v3"]));
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let empty = proxy.get("app", "/");
    assert!(matches!(empty.plan, Plan::Forward), "which endpoint is not decided here");
    assert!(empty.backend().unwrap().group.as_ref().unwrap().members().ready.is_empty());
}

/// Trap 10: cookies of HTTP/2 come in crumbs; a lazy pattern must match the whole of them.
#[test]
fn trap_10_cookie_patterns_match_as_a_whole() {
    let cookie = |pattern: &str| Match {
        headers: pair("cookie", TextMatch::Regex(pattern.into())),
        ..Match::default()
    };
    let rules = vec![
        to(vec![cookie("^(.*?;)?(usertype=tester)(;.*)?$")], "v2"),
        to(vec![cookie("^(.*?; ?)?(featureflag=on)(;.*)?$")], "v2"),
        to(Vec::new(), "v1"),
    ];
    let mut proxy = sidecar(rules);
    for (cookies, expected) in [
        (&["usertype=tester"][..], "default/r#0 v2"),
        (&["a=b;usertype=tester"], "default/r#0 v2"),
        (&["a=b; usertype=tester"], "default/r#2 v1"),
        (&["usertype=testers"], "default/r#2 v1"),
        (&["featureflag=on"], "default/r#1 v2"),
        (&["a=b; featureflag=on; c=d"], "default/r#1 v2"),
        (&["a=b", "featureflag=on", "c=d"], "default/r#1 v2"),
        (&["featureflag="], "default/r#2 v1"),
        (&[], "default/r#2 v1"),
    ] {
        let headers: Vec<(&str, &str)> = cookies.iter().map(|c| ("cookie", *c)).collect();
        assert_eq!(outcome(&proxy.get_with("app", "/", &headers)), expected, "{cookies:?}");
    }
}

/// Trap 13: weights of every kind.
#[test]
fn trap_13_weights_are_relative_and_a_single_backend_needs_none() {
    let share = |weights: &[(&str, &str, u32)]| {
        let mut proxy = sidecar(vec![rule(Vec::new(), weights)]);
        proxy.get("app", "/");
        let local = Local { namespace: "default".into(), labels: Labels::default() };
        let headers: Vec<(String, String)> = Vec::new();
        let request = request(&headers, "app", "/");
        let mut second = 0u32;
        for sequence in 0..10_000 {
            let draw = Draw::of(b"r", b"h", sequence);
            let decision = decide(
                &proxy.view,
                &Traffic::Request(connection(&local), request),
                draw,
                &mut Silent,
            );
            match decision.backend_index() {
                Some(1) => second += 1,
                Some(0) => {}
                other => panic!("{other:?} {decision:?}"),
            }
        }
        second
    };
    // Binomial(10 000, p): five sigma are 250 for 1/2 and 150 for 1/10.
    assert!(share(&[(APP, "v1", 50), (APP, "v2", 50)]).abs_diff(5_000) < 250);
    assert!(share(&[(APP, "v1", 90), (APP, "v2", 10)]).abs_diff(1_000) < 150);
    assert!(share(&[(APP, "v1", 9), (APP, "v2", 1)]).abs_diff(1_000) < 150);
    assert_eq!(share(&[(APP, "v1", 100), (APP, "v2", 0)]), 0);
    assert_eq!(share(&[(APP, "v1", 0)]), 0, "a single backend takes all");
    assert_eq!(share(&[(APP, "v1", 100)]), 0);

    let mut proxy = sidecar(vec![rule(Vec::new(), &[(APP, "v1", 0), (APP, "v2", 0)])]);
    assert_eq!(proxy.get("app", "/").reason, Reason::DeadRule);
}

#[test]
fn the_same_draw_chooses_the_same_backend() {
    let rules = vec![rule(Vec::new(), &[(APP, "v1", 50), (APP, "v2", 50)])];
    let mut proxy = sidecar(rules);
    let local = Local { namespace: "default".into(), labels: Labels::default() };
    let headers: Vec<(String, String)> = Vec::new();
    let request = request(&headers, "app", "/");
    for draw in (0..100).map(|n| Draw::of(b"x", b"y", n)) {
        let first = proxy
            .decide(&Traffic::Request(connection(&local), request), draw, &mut Silent)
            .backend_index();
        let mut trace = Trace::default();
        assert_eq!(
            proxy
                .decide(&Traffic::Request(connection(&local), request), draw, &mut trace)
                .backend_index(),
            first
        );
        let chosen = trace.0.iter().find_map(|event| match event {
            Event::Weighted { chosen, .. } => u32::try_from(*chosen).ok(),
            _ => None,
        });
        assert_eq!(chosen, first, "what is written down is what happened");
    }
}

/// A connection to the service, from a workload.
fn connection(local: &Local) -> Connection<'_> {
    Connection {
        listener: ListenerKind::Outbound,
        local,
        destination: "10.96.0.1:9080".parse().unwrap(),
        peer: Seen::Absent,
        server_name: Seen::NotRead,
    }
}

fn request<'a>(
    headers: &'a Vec<(String, String)>,
    authority: &'a str,
    path: &'a str,
) -> Request<'a> {
    Request { method: "GET", scheme: "http", authority, path, query: None, headers }
}

/// Changes a request so that a condition no longer holds.
type Spoil = fn(&mut Request<'_>);

#[test]
fn every_condition_counts() {
    let conditions: [(&str, Match, Spoil); 7] = [
        ("path", exact("/p"), |r| r.path = "/other"),
        ("method", Match { method: text(TextMatch::Exact, "GET"), ..Match::default() }, |r| {
            r.method = "POST";
        }),
        ("scheme", Match { scheme: text(TextMatch::Exact, "http"), ..Match::default() }, |r| {
            r.scheme = "https";
        }),
        (
            "authority",
            Match { authority: text(TextMatch::Prefix, "app"), ..Match::default() },
            |r| r.authority = "10.96.0.1",
        ),
        (
            "query",
            Match { query: pair("q", TextMatch::Exact("1".into())), ..Match::default() },
            |r| {
                r.query = Some("q=2");
            },
        ),
        ("query", Match { query: pair("q", TextMatch::Present), ..Match::default() }, |r| {
            r.query = None;
        }),
        ("header", Match { headers: pair("h", TextMatch::Present), ..Match::default() }, |r| {
            r.headers = &crate::request::NoHeaders;
        }),
    ];
    for (name, condition, spoil) in conditions {
        let mut proxy = sidecar(vec![to(vec![condition], "v1"), to(Vec::new(), "v2")]);
        let local = Local { namespace: "default".into(), labels: Labels::default() };
        let headers = vec![("h".to_owned(), "x".to_owned())];
        let mut request = request(&headers, "app", "/p");
        request.query = Some("a=0&q=1");
        let won =
            proxy.decide(&Traffic::Request(connection(&local), request), Draw(0), &mut Silent);
        assert_eq!(outcome(&won), "default/r#0 v1", "{name}");
        spoil(&mut request);
        let lost =
            proxy.decide(&Traffic::Request(connection(&local), request), Draw(0), &mut Silent);
        assert_eq!(outcome(&lost), "default/r#1 v2", "{name}");
    }
}

#[test]
fn without_headers_and_letter_case() {
    let without = Match {
        without_headers: pair("x-debug", TextMatch::Exact("1".into())),
        ..Match::default()
    };
    let mut proxy = sidecar(vec![to(vec![without], "v1"), to(Vec::new(), "v2")]);
    assert_eq!(outcome(&proxy.get("app", "/")), "default/r#0 v1");
    assert_eq!(outcome(&proxy.get_with("app", "/", &[("x-debug", "0")])), "default/r#0 v1");
    assert_eq!(outcome(&proxy.get_with("app", "/", &[("X-Debug", "1")])), "default/r#1 v2");

    let ignoring = Match { ignore_path_case: true, ..prefix("/Api") };
    let mut proxy = sidecar(vec![to(vec![ignoring], "v1"), to(Vec::new(), "v2")]);
    assert_eq!(outcome(&proxy.get("app", "/aPI/x")), "default/r#0 v1");
    assert_eq!(outcome(&proxy.get("app", "/ap")), "default/r#1 v2");
}

#[test]
fn conditions_on_where_the_caller_is() {
    let from =
        |namespace: &str| Match { source_namespace: Some(namespace.into()), ..Match::default() };
    let at = |gateway: &str| Match { gateways: vec![gateway.into()], ..Match::default() };
    let at_either =
        Match { gateways: vec!["default/gw".into(), "mesh".into()], ..Match::default() };
    let port = |port| Match { port: Some(port), ..Match::default() };
    for (condition, outcome_of) in [
        (from("default"), "default/r#0 v1"),
        (from("other"), "default/r#1 v2"),
        (at("mesh"), "default/r#0 v1"),
        (at("default/gw"), "default/r#1 v2"),
        (at_either, "default/r#0 v1"),
        (port(9080), "default/r#0 v1"),
        (port(80), "default/r#1 v2"),
    ] {
        let name = format!("{condition:?}");
        let mut proxy = sidecar(vec![to(vec![condition], "v1"), to(Vec::new(), "v2")]);
        assert_eq!(outcome(&proxy.get("app", "/")), outcome_of, "{name}");
    }
}

#[test]
fn alternatives_are_ored_and_the_first_rule_wins() {
    let rules = vec![
        to(vec![prefix("/static"), exact("/login"), exact("/logout")], "v1"),
        to(vec![prefix("/")], "v2"),
        to(vec![exact("/login")], "v1"),
    ];
    let mut proxy = sidecar(rules);
    let decision = proxy.get("app", "/logout");
    assert_eq!(
        decision.rule,
        Some(RuleAt { route: 0, list: RuleList::Requests, rule: 0, alternative: Some(2) })
    );
    assert!(decision.winning_match().is_some_and(|m| m.path.is_some()));
    assert_eq!(outcome(&proxy.get("app", "/static/x.css")), "default/r#0 v1");
    assert_eq!(outcome(&proxy.get("app", "/other")), "default/r#1 v2");
}

/// Istio gives a rule without a condition on the path the prefix `/`.
#[test]
fn a_rewrite_without_a_path_condition_replaces_the_first_slash() {
    let rewriting = |condition: Match, by: &str| Rule {
        rewrite: Some(Rewrite { path: Some(PathRewrite::Matched(by.into())), authority: None }),
        ..to(vec![condition], "v1")
    };
    let post = || Match { method: text(TextMatch::Exact, "GET"), ..Match::default() };
    for (rule, target, expected) in [
        (rewriting(post(), "/v2"), "/a?q", "/v2a?q"),
        (rewriting(post(), "/v2/"), "/a", "/v2/a"),
        (Rule { matches: Vec::new(), ..rewriting(post(), "/v2/") }, "/a", "/v2/a"),
        (rewriting(prefix("/a"), "/v2"), "/a/b", "/v2/b"),
        (rewriting(exact("/a"), "/v2"), "/a", "/v2"),
        (rewriting(regex("/a.*"), "/v2"), "/a/b", "/v2"),
    ] {
        let decision = sidecar(vec![rule]).get("app", target);
        assert_eq!(decision.rewritten_target(target).as_deref(), Some(expected), "{target}");
    }
}

#[test]
fn the_authority_comes_from_the_rewrite_then_the_rule_then_the_backend() {
    let pairs = |value: &str| vec![(Name::from("host"), Name::from(value))];
    let mut all = to(Vec::new(), "v1");
    let Action::Forward(backends) = &mut all.action else { panic!("it forwards") };
    backends[0].headers.request.set = pairs("backend");
    let authority = |rule: &Rule| {
        let decision = sidecar(vec![rule.clone()]).get("app", "/");
        decision.rewritten_authority().map(str::to_owned)
    };
    assert_eq!(authority(&to(Vec::new(), "v1")), None);
    let mut other_header = to(Vec::new(), "v1");
    other_header.headers.request.set = vec![("x-host".into(), "other".into())];
    other_header.headers.response.set = pairs("response");
    assert_eq!(authority(&other_header), None);
    assert_eq!(authority(&all).as_deref(), Some("backend"));
    let mut by_pseudo_header = to(Vec::new(), "v1");
    by_pseudo_header.headers.request.set = vec![(":authority".into(), "pseudo".into())];
    assert_eq!(authority(&by_pseudo_header).as_deref(), Some("pseudo"));
    all.headers.request.add = pairs("rule");
    assert_eq!(authority(&all).as_deref(), Some("rule"));
    all.headers.request.set = pairs("set");
    assert_eq!(authority(&all).as_deref(), Some("rule"), "what is added goes before what is set");
    all.rewrite = Some(Rewrite { path: None, authority: Some("rewrite".into()) });
    assert_eq!(authority(&all).as_deref(), Some("rewrite"));
}

#[test]
fn the_trace_says_why_each_rule_lost() {
    let tester =
        Match { headers: pair("end-user", TextMatch::Exact("jason".into())), ..exact("/reviews") };
    let mut proxy = sidecar(vec![to(vec![exact("/a"), tester], "v1"), to(Vec::new(), "v2")]);
    proxy.get("app", "/reviews");
    let local = Local { namespace: "default".into(), labels: Labels::default() };
    let headers = vec![("end-user".to_owned(), "anna".to_owned())];
    let request = request(&headers, "app", "/reviews");
    let mut trace = Trace::default();
    decide(&proxy.view, &Traffic::Request(connection(&local), request), Draw(0), &mut trace);
    let lost = trace.0.iter().find_map(|event| match event {
        Event::Lost { route, why, .. } => Some((route.as_str(), why.as_str())),
        _ => None,
    });
    assert_eq!(
        lost,
        Some(("default/r#0", "header end-user: \"anna\" is not exactly \"jason\"")),
        "the alternative that came furthest explains itself"
    );
    assert!(
        trace.0.iter().any(|e| matches!(e, Event::Won { route, .. } if route == "default/r#1"))
    );
}

#[test]
fn an_inbound_request_goes_to_the_workload_whatever_its_host() {
    let mut proxy = sidecar(vec![to(vec![exact("/never")], "v1")]);
    let local = Local { namespace: "default".into(), labels: Labels::default() };
    let headers: Vec<(String, String)> = Vec::new();
    let connection = Connection {
        listener: ListenerKind::Inbound,
        destination: "10.77.1.0:9081".parse().unwrap(),
        ..connection(&local)
    };
    let request = request(&headers, "anything", "/");
    let decision = proxy.decide(&Traffic::Request(connection, request), Draw(0), &mut Silent);
    assert_eq!(
        (&decision.plan, decision.reason),
        (&Plan::ToWorkload(MtlsMode::Permissive), Reason::Inbound)
    );
    let service = decision.applies().unwrap().service.as_ref().unwrap();
    assert_eq!(&*service.name, "app");
}
