//! Routes that join others for a host, and subsets that are labels.

use super::*;
use crate::Decision;

fn joining(name: &str, precedence: i32, rules: Vec<Rule>) -> RouteSource {
    let source = route(("default", name), 0, &[APP], &["mesh"], rules);
    RouteSource { precedence: Some(precedence), fields: RouteFields::ROUTE_RULE, ..source }
}

fn to_labels(matches: Vec<Match>, labels: &str) -> Rule {
    rule(matches, &[(APP, labels, 0)])
}

/// `NAMESPACE/NAME#RULE SUBSET`.
fn outcome_of(decision: &Decision) -> String {
    let rule = decision.route_name().unwrap_or_else(|| decision.reason.code().to_owned());
    match decision.backend().and_then(|backend| backend.subset.as_deref()) {
        Some(subset) => format!("{rule} {subset}"),
        None => rule,
    }
}

fn mesh(routes: Vec<RouteSource>) -> Proxy {
    let mut objects = app(&[("a", "v1", true), ("b", "v2", true)]);
    objects.routes = routes;
    Proxy::sidecar(objects, "default", &[("app", "client")])
}

#[test]
fn joined_routes_are_tried_by_precedence_then_by_name() {
    let low = joining("low", 1, vec![to_labels(Vec::new(), "version=v1")]);
    let high = joining("z-high", 2, vec![to_labels(vec![exact("/x")], "version=v2")]);
    let even = joining("a-even", 2, vec![to_labels(vec![exact("/x")], "version=v1")]);
    for routes in [vec![low.clone(), high.clone()], vec![high.clone(), low.clone()]] {
        let mut proxy = mesh(routes);
        assert_eq!(outcome_of(&proxy.get("app", "/x")), "default/z-high#0 version=v2");
        assert_eq!(outcome_of(&proxy.get("app", "/")), "default/low#0 version=v1");
        assert_eq!(found(&proxy), []);
    }
    let mut proxy = mesh(vec![high.clone(), even]);
    assert_eq!(outcome_of(&proxy.get("app", "/x")), "default/a-even#0 version=v1");
    // None of them is for this one.
    let decision = proxy.get("app", "/y");
    assert_eq!((decision.plan.clone(), decision.reason), (Plan::Forward, Reason::DefaultRoute));
    assert_eq!(decision.group().unwrap().members().all.len(), 2);
}

#[test]
fn a_route_that_takes_its_hosts_alone_leaves_nothing_to_those_that_join() {
    let joins = joining("joins", 9, vec![to_labels(Vec::new(), "version=v2")]);
    let mut alone =
        route(("default", "alone"), 5, &[APP], &["mesh"], vec![to_app(vec![exact("/x")])]);
    let mut proxy = mesh(vec![joins.clone(), alone.clone()]);
    assert_eq!(outcome_of(&proxy.get("app", "/x")), "default/alone#0");
    assert_eq!(proxy.get("app", "/").reason, Reason::NoRoute);
    let taken = (FindingCode::HostTaken, "joins".to_owned(), "spec.destination".to_owned());
    assert_eq!(found(&proxy), [taken]);
    // One that this namespace does not see takes nothing here.
    alone.export_to = vec!["other".into()];
    let mut proxy = mesh(vec![joins, alone]);
    assert_eq!(outcome_of(&proxy.get("app", "/")), "default/joins#0 version=v2");
}

#[test]
fn labels_select_endpoints_and_a_policy_may_be_for_them() {
    let both = vec![to_labels(Vec::new(), "zone=a,version=v2")];
    let mut objects = app(&[("a", "v1", true), ("b", "v2", true)]);
    objects.routes = vec![joining("r", 0, both)];
    let proxy = Proxy::sidecar(objects.clone(), "default", &[("app", "client")]);
    let empty = |path: &str| (FindingCode::EmptySubset, "r".to_owned(), path.to_owned());
    assert_eq!(found(&proxy), [empty("spec.route[0].labels")], "they have no label zone");
    let mut proxy = mesh(vec![joining("r", 0, vec![to_labels(Vec::new(), "version=v2")])]);
    let decision = proxy.get("app", "/");
    assert_eq!(decision.group().unwrap().members().all.len(), 1);
    // A name that is no label stays one that somebody must define.
    let mut proxy = mesh(vec![joining("r", 0, vec![to_labels(Vec::new(), "v2")])]);
    assert_eq!(proxy.get("app", "/").reason, Reason::UndefinedSubset);
}

#[test]
fn a_later_rule_behind_one_that_takes_everything_is_found() {
    let first = joining("first", 2, vec![to_labels(Vec::new(), "version=v1")]);
    let second = joining("second", 1, vec![to_labels(Vec::new(), "version=v2")]);
    let proxy = mesh(vec![first, second]);
    let never = (FindingCode::Unreachable, "second".to_owned(), "spec".to_owned());
    assert_eq!(found(&proxy), [never]);
}
