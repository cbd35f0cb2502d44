//! Delegation, as it is seen by proxies and in findings.

use super::*;
use crate::Decision;
use crate::route::Route;
use crate::snapshot::RouteSource;
use crate::text_match::TextMatch;

/// A root that delegates what is under `/a` to `shop/leaf`, and takes the rest itself.
fn mesh(leaf: Vec<Rule>) -> Objects {
    let mut objects = app(&[("a", "v1", true)]);
    let other = service("shop", "other", 2, 9080, &[("b", "v1", true)]);
    objects.services.push(other);
    let delegating =
        Rule { matches: vec![prefix("/a")], name: "root".to_owned(), ..Rule::default() };
    let root =
        route(("default", "root"), 1, &[APP], &["mesh"], vec![delegating, to_app(Vec::new())]);
    let to = ObjectId::new("VirtualService", "shop", "leaf");
    let leaf = route(("shop", "leaf"), 2, &[], &[], leaf);
    objects.routes = vec![RouteSource { delegations: vec![(0, to)], ..root }, leaf];
    objects
}

const OTHER: &str = "other.shop.svc.cluster.local";

fn to_other(matches: Vec<Match>) -> Rule {
    rule(matches, &[(OTHER, "", 0)])
}

fn prefix(path: &str) -> Match {
    Match { path: Some(TextMatch::Prefix(path.into())), ..Match::default() }
}

fn got(proxy: &mut Proxy, path: &str) -> (Option<String>, Option<String>) {
    let decision: Decision = proxy.get("app", path);
    (decision.route_name(), decision.backend().map(|backend| backend.host.to_string()))
}

#[test]
fn the_rules_of_a_delegate_stand_where_its_root_says() {
    let leaf = vec![to_other(vec![prefix("/a/b")]), to_other(vec![prefix("/c")])];
    let mut proxy = Proxy::sidecar(mesh(leaf), "default", &[]);
    let of = |name: &str, host: &str| (Some(name.to_owned()), Some(host.to_owned()));
    assert_eq!(got(&mut proxy, "/a/b/c"), of("default/root#0:shop/leaf#0", OTHER));
    // What the root does not let through the delegate does not take.
    assert_eq!(got(&mut proxy, "/c"), of("default/root#1", APP));
    assert_eq!(got(&mut proxy, "/a"), of("default/root#1", APP));
    let expected = (FindingCode::NoEffect, "root".to_owned(), "spec.http[0].delegate".to_owned());
    assert_eq!(found(&proxy), [expected]);
}

/// Where a delegate does not say at which gateways a condition holds, its root does.
#[test]
fn a_condition_of_a_delegate_holds_at_the_gateways_of_its_own_or_its_root() {
    let own = Match { gateways: vec!["default/edge".into()], ..prefix("/a/own") };
    let leaf = vec![to_other(vec![own]), to_other(vec![prefix("/a/any")])];
    let of = |root: &[&str], path: &str| {
        let mut objects = mesh(leaf.clone());
        objects.routes[0].gateways.push("default/edge".into());
        let gateways = root.iter().map(|gateway| Name::from(*gateway)).collect();
        objects.routes[0].route.rules[0].matches[0].gateways = gateways;
        got(&mut Proxy::sidecar(objects, "default", &[]), path).1.unwrap()
    };
    let both = ["default/edge", "mesh"];
    assert_eq!((&*of(&both, "/a/own"), &*of(&both, "/a/any")), (APP, OTHER));
    assert_eq!(of(&both[..1], "/a/any"), APP);
}

/// Of an edit of the delegate those hear who hold the root, and an answer is what it would be if it
/// were made anew.
#[test]
fn an_edit_of_a_delegate_touches_the_answers_about_its_roots() {
    let before = mesh(vec![to_other(Vec::new())]);
    let (snapshot, _) = Snapshot::new(before);
    let scope = snapshot
        .scope(
            &Subscriber {
                namespace: "default".into(),
                labels: Labels::default(),
                addresses: Vec::new(),
            },
            None,
        )
        .0;
    let ask = |snapshot: &Snapshot, id: &ObjectId| {
        let answer = snapshot.answer(&ResourceKey::Route(id.clone()), &scope);
        let Some(Resource::Route(route)) = answer.resource else { panic!("{id}") };
        let route: Route = (*route).clone();
        (route, answer.reads)
    };
    let root = ObjectId::new("VirtualService", "default", "root");
    let (route_before, reads) = ask(&snapshot, &root);
    assert_eq!(route_before.rules.len(), 2);
    let leaf = mesh(vec![to_other(vec![prefix("/a/1")]), to_app(Vec::new())]).routes.remove(1);
    let id = leaf.route.id.clone();
    let (after, touched) = snapshot.edited([Edit::Route(id.clone(), Some(Box::new(leaf)))]);
    assert!(reads.iter().any(|cell| touched.cells.contains(cell)));
    let (route_after, reads) = ask(&after, &root);
    assert_eq!(route_after.rules.len(), 3);
    // And of its end.
    let (gone, touched) = after.edited([Edit::Route(id, None)]);
    assert!(reads.iter().any(|cell| touched.cells.contains(cell)));
    assert_eq!(ask(&gone, &root).0.rules.len(), 1);
}

#[test]
fn a_delegate_that_is_not_there_or_not_for_the_root_is_found() {
    let codes = |objects: Objects| {
        let proxy = Proxy::sidecar(objects, "default", &[]);
        found(&proxy).into_iter().map(|(code, ..)| code).collect::<Vec<_>>()
    };
    let mut objects = mesh(vec![to_other(Vec::new())]);
    assert_eq!(codes(objects.clone()), []);
    objects.routes[1].export_to = vec!["shop".into()];
    assert_eq!(codes(objects.clone()), [FindingCode::UnknownDelegate]);
    objects.routes[1].export_to = vec!["default".into()];
    assert_eq!(codes(objects.clone()), []);
    // One with hosts is for itself.
    objects.routes[1].hosts = vec![OTHER.into()];
    assert_eq!(codes(objects.clone()), [FindingCode::UnknownDelegate]);
    objects.routes.remove(1);
    assert_eq!(codes(objects), [FindingCode::UnknownDelegate]);
}
