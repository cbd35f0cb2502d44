//! Tests of views: what is asked for, what is kept, what a change moves.

use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::*;
use crate::chunk::Chunk;
use crate::finding::FindingCode;
use crate::group::{Ask, Group, Tick, Tried};
use crate::policy::{Balance, Balancer, MtlsMode};
use crate::resource::{Applies, Join, Resolution};
use crate::snapshot::Objects;
use crate::test_world::*;
use crate::{Draw, Plan, Reason};

mod groups;
mod names;

const REVIEWS: &str = "reviews.default.svc.cluster.local";

fn reviews(endpoints: &[(&str, &str, bool)]) -> Objects {
    Objects {
        services: vec![service("default", "reviews", 1, 9080, endpoints)],
        ..Objects::default()
    }
}

fn group(decision: &crate::Decision) -> Arc<Group> {
    decision.backend().unwrap().group.as_ref().unwrap().clone()
}

#[test]
fn borrowed_keys_hash_and_compare_as_owned_ones() {
    let hasher = hashbrown::DefaultHashBuilder::default();
    let address: SocketAddr = "10.96.0.1:9080".parse().unwrap();
    for listener in [ListenerKind::Outbound, ListenerKind::Inbound, ListenerKind::Gateway] {
        let owned = |target| ResolutionKey { listener, target, namespace: "default".into() };
        let by_host = owned(Target::Host("reviews".into(), 9080));
        let host = HostQuery { listener, host: "reviews", port: 9080, namespace: "default" };
        assert_eq!(hasher.hash_one(&host), hasher.hash_one(&by_host));
        assert!(host.equivalent(&by_host));
        let by_address = owned(Target::Address(address.ip(), address.port()));
        let query = AddressQuery { listener, address, namespace: "default" };
        assert_eq!(hasher.hash_one(&query), hasher.hash_one(&by_address));
        assert!(query.equivalent(&by_address));
        assert!(!query.equivalent(&by_host) && !host.equivalent(&by_address));
        let elsewhere = HostQuery { namespace: "other", ..host };
        assert!(!elsewhere.equivalent(&by_host));
    }
}

#[test]
fn an_empty_view_needs_the_resolution_and_then_knows() {
    let mut proxy = Proxy::sidecar(reviews(&[("a", "v1", true)]), "default", &[]);
    let decision = proxy.get("reviews:9080", "/");
    assert_eq!(decision.reason, Reason::DefaultRoute);
    assert_eq!(proxy.asked.len(), 1, "one question brings all: {:?}", proxy.asked);
    let decision = proxy.get("Reviews.", "/");
    assert_eq!(decision.reason, Reason::DefaultRoute);
    assert_eq!(proxy.asked.len(), 1, "the same host in another spelling is the same question");
    assert_eq!(proxy.get("nowhere", "/").plan, Plan::Passthrough);
    assert_eq!(proxy.get("nowhere", "/").reason, Reason::Passthrough);
    assert_eq!(proxy.asked.len(), 3, "absence is an answer, too; then who lives at the address");
}

#[test]
fn a_part_that_has_not_arrived_is_asked_for() {
    let mut objects = reviews(&[("a", "v1", true)]);
    objects.routes = vec![route(
        ("default", "r"),
        0,
        &[REVIEWS],
        &["mesh"],
        vec![rule(Vec::new(), &[(REVIEWS, "v1", 0)])],
    )];
    objects.destination_policies = vec![subsets(("default", "d"), 0, REVIEWS, &["v1"])];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let whole = proxy.get("reviews", "/");
    let held: Vec<ResourceKey> = proxy
        .view
        .held()
        .map(|(key, _)| key.clone())
        .filter(|key| !matches!(key, ResourceKey::Resolution(_)))
        .collect();
    assert_eq!(held.len(), 4, "route, policy, service and endpoints: {held:?}");
    for key in held {
        let forget = Change { key: key.clone(), version: Version(0), body: Body::Forget };
        proxy.view = proxy.view.apply([forget]).0;
        proxy.asked.clear();
        let again = proxy.get("reviews", "/");
        assert_eq!(proxy.asked, [key]);
        assert_eq!(outcome(&again), outcome(&whole));
    }
}

/// The next endpoint of a group, which takes turns from now on.
fn turn(group: &Group) -> String {
    let mut policy = (**group.policy()).clone();
    policy.traffic.balance = Some(Balance::by(Balancer::RoundRobin));
    group.set_policy(policy);
    let tried = Tried::default();
    let dialled = "10.96.0.1:9080".parse().unwrap();
    let ask = Ask { dialled, tried: &tried, draw: Draw(0), hash: None };
    group.pick(&ask, || Tick(0)).unwrap().endpoint.id.to_string()
}

#[test]
fn round_robin_goes_on_over_view_swaps() {
    let pods = [("a", "v1", true), ("b", "v1", true), ("c", "v1", true)];
    let mut proxy = Proxy::sidecar(reviews(&pods), "default", &[]);
    let before = group(&proxy.get("reviews", "/"));
    assert_eq!((turn(&before), turn(&before)), ("a".into(), "b".into()));
    proxy.replace(reviews(&[("a", "v1", true), ("b", "v1", false), ("c", "v1", true)]));
    let after = group(&proxy.get("reviews", "/"));
    assert!(Arc::ptr_eq(&before, &after));
    assert_eq!((turn(&after), turn(&before)), ("a".into(), "c".into()));
    assert_eq!(after.members().all.len(), 3, "an endpoint that is not ready keeps its place");
    assert_eq!(*after.members().ready, [0, 2]);
}

#[test]
fn groups_end_with_what_uses_them() {
    let mut proxy = Proxy::sidecar(reviews(&[("a", "v1", true)]), "default", &[]);
    proxy.get("reviews", "/");
    assert_eq!(proxy.view.groups().count(), 1);
    for _ in 0..2 {
        let keys: Vec<ResourceKey> = proxy.view.held().map(|(key, _)| key.clone()).collect();
        let forget = |key| Change { key, version: Version(0), body: Body::Forget };
        proxy.view = proxy.view.apply(keys.into_iter().map(forget)).0;
    }
    proxy.view = proxy.view.apply([]).0;
    assert_eq!(proxy.view.groups().count(), 0);
}

#[test]
fn what_came_and_went_leaves_nothing_behind() {
    let name = |n: usize| format!("s{n}");
    let services = (0..200).map(|n| service("default", &name(n), 1, 9080, &[("a", "v1", true)]));
    let objects = Objects { services: services.collect(), ..Objects::default() };
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    for n in 0..200 {
        assert_eq!(proxy.get(&name(n), "/").reason, Reason::DefaultRoute);
        let keys: Vec<ResourceKey> = proxy.view.held().map(|(key, _)| key.clone()).collect();
        let forget = |key| Change { key, version: Version(0), body: Body::Forget };
        proxy.view = proxy.view.apply(keys.into_iter().map(forget)).0;
    }
    let view = &proxy.view;
    assert!(view.groups.len() < 40, "{} services with groups", view.groups.len());
    assert!(view.held.is_empty() && view.linked.is_empty() && view.references.is_empty());
}

/// Objects in one of many states, and what a sidecar of `default` asks for.
fn some_objects(state: u16) -> Objects {
    let pods: &[(&str, &str, bool)] = match state % 3 {
        0 => &[("a", "v1", true)],
        1 => &[("a", "v1", true), ("b", "v2", false)],
        _ => &[],
    };
    let mut objects = reviews(pods);
    objects.services[0].service.headless = state & 4 != 0;
    if state & 8 != 0 {
        objects.services.push(service("default", "ratings", 2, 9080, &[("r", "v1", true)]));
    }
    let backends: &[(&str, &str, u32)] = match state >> 4 & 3 {
        0 => &[],
        1 => &[(REVIEWS, "v1", 1)],
        2 => &[(REVIEWS, "v2", 1), ("ratings.default.svc.cluster.local", "", 1)],
        _ => &[("ratings.default.svc.cluster.local", "v1", 1)],
    };
    if !backends.is_empty() {
        let rules = vec![rule(vec![prefix(&format!("/{}", state >> 6 & 1))], backends)];
        objects.routes.push(route(("default", "r"), 0, &[REVIEWS], &["mesh"], rules));
    }
    if state >> 7 & 1 != 0 {
        let versions: &[&str] = if state >> 8 & 1 != 0 { &["v1"] } else { &["v1", "v2"] };
        objects.destination_policies.push(subsets(("default", "d"), 0, REVIEWS, versions));
    }
    if state >> 9 & 1 != 0 {
        let mode = if state >> 10 & 1 != 0 { MtlsMode::Strict } else { MtlsMode::Disable };
        objects.inbound_policies.push(inbound_policy(("default", "p"), 0, None, Some(mode)));
    }
    if state >> 11 & 1 != 0 {
        objects.settings.mtls_mode = MtlsMode::Strict;
    }
    objects
}

/// All that a sidecar holds of objects: its questions, and what their answers refer to.
fn all_of(objects: Objects) -> std::collections::BTreeMap<ResourceKey, Change> {
    let proxy = Proxy::sidecar(objects, "default", &[]);
    let of = |listener, target| {
        ResourceKey::Resolution(ResolutionKey { listener, target, namespace: "default".into() })
    };
    let outbound = |host: &str| of(ListenerKind::Outbound, Target::Host(host.into(), 9080));
    let own = Target::Address(IpAddr::from([10, 77, 1, 0]), EVERY_PORT);
    let asked = [
        ResourceKey::Settings,
        outbound("reviews"),
        outbound("ratings"),
        outbound("nowhere"),
        of(ListenerKind::Inbound, own),
    ];
    let changes = asked.iter().flat_map(|key| proxy.answer(key));
    changes.map(|change| (change.key.clone(), change)).collect()
}

/// What a view says at each key, without what it remembers.
fn said(view: &View) -> Vec<String> {
    let backend = |backend: &LinkedBackend| match &backend.group {
        Ok(group) => {
            let members = group.members();
            let ids: Vec<String> = members.all.iter().map(|m| m.endpoint.id.to_string()).collect();
            format!("{} {:?} {ids:?} {:?}", backend.host, backend.subset, members.ready)
        }
        Err(reason) => format!("{} {:?} {reason:?}", backend.host, backend.subset),
    };
    let applies = |applies: &LinkedApplies| {
        let routes = applies.routes.iter().map(|route| {
            let backends = route.request_backends.iter().flatten().map(backend);
            format!("{} {} {:?}", route.name, route.version, backends.collect::<Vec<_>>())
        });
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            applies.service,
            applies.default_backend.as_ref().map(backend),
            routes.collect::<Vec<_>>(),
            applies.inbound,
            applies.missing,
            applies.unusable
        )
    };
    let mut said: Vec<String> = view
        .linked
        .iter()
        .map(|(key, linked)| format!("{key} {:?}", linked.applies.as_ref().map(applies)))
        .collect();
    said.push(view.policies.to_string());
    said.sort();
    said
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..<_>::default() })]

    /// A view that is sent only what differs says what one says that is sent all at once.
    #[test]
    fn a_view_follows_changes_as_if_it_began_anew(
        states in prop::collection::vec(any::<u16>(), 2..8),
        withheld in any::<prop::sample::Index>(),
    ) {
        let mut view = View::default();
        let mut held = all_of(some_objects(states[0]));
        view = view.apply(held.values().cloned()).0;
        for state in &states[1..] {
            let mut next = all_of(some_objects(*state));
            // One does not arrive, and counts as missing. (Settings that are gone hold on.)
            let may_be_lost = next.keys().filter(|key| **key != ResourceKey::Settings);
            let lost = may_be_lost.cycle().nth(withheld.index(next.len())).cloned().unwrap();
            next.remove(&lost);
            let gone = held.keys().filter(|key| !next.contains_key(*key));
            let gone = gone.map(|key| Change {
                key: key.clone(),
                version: Version(0),
                body: Body::Forget,
            });
            let changed = next.values().filter(|change| {
                held.get(&change.key).is_none_or(|before| before.version != change.version)
            });
            let changes: Vec<Change> = gone.chain(changed.cloned()).collect();
            view = view.apply(changes).0;
            let (anew, _) = View::default().apply(next.values().cloned());
            prop_assert_eq!(said(&view), said(&anew), "{:?} is lost", lost);
            held = next;
        }
    }
}

#[test]
fn two_names_of_a_service_share_its_turns() {
    let pods = [("a", "v1", true), ("b", "v1", true)];
    let mut proxy = Proxy::sidecar(reviews(&pods), "default", &[]);
    let short = group(&proxy.get("reviews", "/"));
    let full = group(&proxy.get(REVIEWS, "/"));
    assert_eq!((turn(&short), turn(&full)), ("a".into(), "b".into()));
}

#[test]
fn endpoints_that_change_link_nothing_anew_and_reach_requests_that_have_begun() {
    let mut objects = reviews(&[("a", "v1", true)]);
    objects.services.push(service("default", "ratings", 2, 9080, &[("b", "v1", true)]));
    let mut proxy = Proxy::sidecar(objects.clone(), "default", &[]);
    let (reviews_before, ratings_before) =
        (proxy.get("reviews", "/").linked.unwrap(), proxy.get("ratings", "/").linked.unwrap());
    objects.services[0] = service("default", "reviews", 1, 9080, &[("a", "v1", false)]);
    let (snapshot, _) = crate::Snapshot::new(objects);
    let key = ResourceKey::Endpoints(
        ServiceId { namespace: "default".into(), hostname: REVIEWS.into() },
        Chunk::WHOLE,
    );
    let resource = snapshot.resource(&key, &proxy.subscriber);
    let changes_before = proxy.view.endpoint_changes();
    proxy.view = proxy.view.apply([change(key, resource)]).0;
    let reviews_after = proxy.get("reviews", "/").linked.unwrap();
    let ratings_after = proxy.get("ratings", "/").linked.unwrap();
    assert!(Arc::ptr_eq(&reviews_before, &reviews_after));
    assert!(Arc::ptr_eq(&ratings_before, &ratings_after));
    assert_ne!(proxy.view.endpoint_changes(), changes_before, "pools are to be looked through");
    let old = reviews_before.applies.as_ref().unwrap().default_backend.as_ref().unwrap();
    assert_eq!(old.group.as_ref().unwrap().members().ready.len(), 0);
}

/// The key of what enters the workload of a sidecar.
fn inbound() -> ResolutionKey {
    ResolutionKey {
        listener: ListenerKind::Inbound,
        target: Target::Address(IpAddr::from([10, 77, 1, 0]), EVERY_PORT),
        namespace: "default".into(),
    }
}

#[test]
fn the_settings_of_the_mesh_reach_workloads_without_a_policy_of_their_own() {
    let mut proxy = Proxy::sidecar(reviews(&[("a", "v1", true)]), "default", &[]);
    proxy.subscribe(&ResourceKey::Settings);
    proxy.subscribe(&ResourceKey::Resolution(inbound()));
    let mode = |proxy: &Proxy| {
        let linked = |port| {
            let address = SocketAddr::new(IpAddr::from([10, 77, 1, 0]), port);
            proxy.view.at_address(ListenerKind::Inbound, address, "default").unwrap()
        };
        let applies = |port| linked(port).applies.as_ref().unwrap();
        [9081, 1].map(|port| proxy.view.inbound_mode(applies(port), port))
    };
    assert_eq!(mode(&proxy), [MtlsMode::Permissive; 2]);
    let mut objects = reviews(&[("a", "v1", true)]);
    objects.settings.mtls_mode = MtlsMode::Strict;
    proxy.snapshot = crate::Snapshot::new(objects).0;
    proxy.subscribe(&ResourceKey::Settings);
    assert_eq!(mode(&proxy), [MtlsMode::Strict; 2]);
}

#[test]
fn of_a_port_that_is_served_no_longer_nothing_is_left() {
    let mut objects = reviews(&[("a", "v1", true)]);
    let mut proxy = Proxy::sidecar(objects.clone(), "default", &[]);
    proxy.subscribe(&ResourceKey::Resolution(inbound()));
    let service = |proxy: &Proxy| {
        let address = "10.77.1.0:9081".parse().unwrap();
        let linked = proxy.view.at_address(ListenerKind::Inbound, address, "default");
        linked?.applies.as_ref()?.service.as_ref().map(|service| service.name.to_string())
    };
    assert_eq!(service(&proxy).as_deref(), Some("reviews"));
    objects.services[0].endpoints[0].ports[0].target = 9082;
    proxy.replace(objects.clone());
    assert_eq!(service(&proxy), None);
    objects.services[0].endpoints[0].ports[0].target = 9081;
    proxy.replace(objects);
    assert_eq!(service(&proxy).as_deref(), Some("reviews"));
    let key = ResourceKey::Resolution(inbound());
    proxy.view = proxy.view.apply([Change { key, version: Version(0), body: Body::Forget }]).0;
    assert_eq!(service(&proxy), None);
}

/// Who is in use is not given up because its configuration was edited.
#[test]
fn a_use_is_remembered_over_changes() {
    let mut proxy = Proxy::sidecar(reviews(&[("a", "v1", true)]), "default", &[]);
    proxy.get("reviews", "/").note_use(Tick(7));
    let ip = "10.77.9.9".parse().unwrap();
    proxy.subscribe(&ResourceKey::Workload(ip));
    proxy.view.use_workload(ip, Tick(8));
    let used = |proxy: &Proxy| {
        let mut used: Vec<u64> = proxy.view.held().map(|(_, held)| held.last_use.at().0).collect();
        used.retain(|at| *at > 0);
        used.sort_unstable();
        used
    };
    assert_eq!(used(&proxy), [7, 8]);
    proxy.replace(reviews(&[("a", "v1", true), ("b", "v1", true)]));
    assert_eq!(used(&proxy), [7, 8]);
    proxy.get("reviews", "/").note_use(Tick(9));
    assert_eq!(used(&proxy), [8, 9]);
}

#[test]
fn a_bad_regex_kills_its_rule_and_nothing_else() {
    let mut objects = reviews(&[("a", "v1", true), ("b", "v2", true)]);
    let rules = vec![
        rule(vec![regex("*bad")], &[(REVIEWS, "v1", 0)]),
        rule(vec![prefix("/ok")], &[(REVIEWS, "v2", 0)]),
    ];
    objects.routes = vec![route(("default", "r"), 0, &[REVIEWS], &["mesh"], rules)];
    objects.destination_policies = vec![subsets(("default", "d"), 0, REVIEWS, &["v1", "v2"])];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(outcome(&proxy.get("reviews", "/ok")), "default/r#1 v2");
    assert_eq!(proxy.get("reviews", "/xbad").reason, Reason::NoRoute);
    let route =
        proxy.answer(&ResourceKey::Route(crate::ObjectId::new("VirtualService", "default", "r")));
    let (_, errors) = View::default().apply(route);
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].to_string().contains("*bad"), "{}", errors[0]);
}

#[test]
fn a_port_that_the_service_lacks_is_an_unknown_destination() {
    let mut objects = reviews(&[("a", "v1", true)]);
    let mut broken = rule(Vec::new(), &[(REVIEWS, "", 0)]);
    let crate::route::Action::Forward(backends) = &mut broken.action else { panic!() };
    backends[0].port = Some(1);
    objects.routes = vec![route(("default", "r"), 0, &[REVIEWS], &["mesh"], vec![broken])];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let decision = proxy.get("reviews", "/");
    assert_eq!((decision.plan, decision.reason), (Plan::Answer(503), Reason::UnknownDestination));
    assert_eq!(proxy.findings[0].code, FindingCode::UnknownDestination);
    assert_eq!(proxy.findings[0].path, "spec.http[0].route[0].destination.port.number");
}

/// The service has lost the port; what is to replace the answer is on its way.
#[test]
fn a_port_that_the_service_has_no_more_is_an_unknown_destination() {
    let mut objects = reviews(&[("a", "v1", true)]);
    let mut proxy = Proxy::sidecar(objects.clone(), "default", &[]);
    let decision = proxy.get("reviews", "/");
    let id = decision.applies().unwrap().service.as_ref().unwrap().id.clone();
    objects.services[0].service.ports[0].number = 1;
    let (snapshot, _) = crate::Snapshot::new(objects);
    let key = ResourceKey::Service(id);
    let resource = snapshot.resource(&key, &proxy.subscriber);
    proxy.view = proxy.view.apply([change(key, resource)]).0;
    let decision = proxy.get("reviews", "/");
    assert_eq!((decision.plan, decision.reason), (Plan::Answer(503), Reason::UnknownDestination));
}

#[test]
fn a_connection_is_decided_by_its_address() {
    let mut proxy = Proxy::sidecar(reviews(&[("a", "v1", true)]), "default", &[]);
    let destination: SocketAddr = "10.96.0.1:9080".parse().unwrap();
    let local = proxy.local();
    let connection = crate::Connection {
        listener: ListenerKind::Outbound,
        local: &local,
        destination,
        peer: crate::Seen::Absent,
        server_name: crate::Seen::NotRead,
    };
    let traffic = crate::Traffic::Connection(connection);
    let decided = proxy.decide(&traffic, Draw(0), &mut crate::Silent);
    assert_eq!(proxy.asked.len(), 1, "it does not guess");
    assert_eq!(decided.protocol(), Protocol::Http);
    assert_eq!(group(&decided).members().all[0].port, 9081, "the target port");
    assert_eq!(decided.plan, Plan::Forward);
}

#[test]
fn rules_behind_a_catch_all_are_tried_last_or_never_where_routes_join() {
    let route_of = |name: &str, matches: Vec<Vec<crate::route::Match>>| {
        let rules = matches.into_iter().map(|m| rule(m, &[(REVIEWS, "", 0)])).collect();
        let source = route(("default", name), 0, &["*"], &["g"], rules);
        Arc::new(LinkedRoute {
            route: compile::route(&source.route, None).0,
            version: Version(0),
            name: name.into(),
            request_backends: Vec::new(),
            connection_backends: Vec::new(),
            mirrors: Vec::new(),
        })
    };
    let routes = [
        route_of("a", vec![vec![exact("/a"), prefix("/"), exact("/never")], vec![exact("/nor")]]),
        route_of("b", vec![vec![exact("/b")], Vec::new(), vec![exact("/c")]]),
    ];
    let turn = |route, rule, alternatives| Turn { route, rule, alternatives };
    let applies = |join| Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        routes: Vec::new(),
        join,
        attached_to: vec!["g".into()],
        destinations: Vec::new(),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
    };
    assert_eq!(
        turns::join(&routes, &applies(Join::CatchAllLast), 80),
        [turn(0, 0, 0..1), turn(1, 0, 0..1), turn(0, 0, 1..2), turn(1, 1, 0..0)]
    );
    assert_eq!(
        turns::join(&routes, &applies(Join::InOrder), 80),
        [turn(0, 0, 0..3), turn(0, 1, 0..1), turn(1, 0, 0..1), turn(1, 1, 0..0), turn(1, 2, 0..1)]
    );
    let elsewhere = crate::route::Match { port: Some(81), ..prefix("/") };
    let conditional = [route_of("c", vec![vec![elsewhere], vec![exact("/reached")]])];
    assert_eq!(
        turns::join(&conditional, &applies(Join::CatchAllLast), 80),
        [turn(0, 0, 0..1), turn(0, 1, 0..1)],
        "a catch-all for another port catches nothing here"
    );
    let header = vec![("x".into(), crate::text_match::TextMatch::Present)];
    let asks_more = crate::route::Match { headers: header, ..prefix("/") };
    let conditional = [route_of("d", vec![vec![asks_more], vec![exact("/reached")]])];
    assert_eq!(
        turns::join(&conditional, &applies(Join::CatchAllLast), 80),
        [turn(0, 0, 0..1), turn(0, 1, 0..1)],
        "what asks for a header is no catch-all"
    );
}

/// A route that a proxy cannot read might have kept traffic from somewhere: it is not left out, and
/// nobody waits for it.
#[test]
fn what_cannot_be_used_is_answered_at_once_until_it_can() {
    let mut objects = reviews(&[("a", "v1", true)]);
    let rules = vec![rule(Vec::new(), &[(REVIEWS, "", 0)])];
    objects.routes = vec![route(("default", "r"), 0, &[REVIEWS], &["mesh"], rules)];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    assert_eq!(outcome(&proxy.get("reviews", "/")), "default/r#0");
    let held: Vec<ResourceKey> = proxy.view.held().map(|(key, _)| key.clone()).collect();
    for key in held {
        let nothing = |key| Change { key, version: Version(1), body: Body::Nothing };
        let other = ResourceKey::Workload("10.77.9.9".parse().unwrap());
        proxy.view = proxy.view.apply([nothing(key.clone()), nothing(other)]).0;
        let decision = proxy.get("reviews", "/");
        assert_eq!(
            (decision.plan, decision.reason),
            (Plan::Answer(503), Reason::NotConfigured),
            "{key}"
        );
        proxy.view = proxy.view.apply(proxy.answer(&key)).0;
        assert_eq!(outcome(&proxy.get("reviews", "/")), "default/r#0", "{key}");
    }
}

#[test]
fn backends_of_one_group_share_it() {
    let mut objects = reviews(&[("a", "v1", true), ("b", "v2", true)]);
    objects.destination_policies = vec![subsets(("default", "d"), 0, REVIEWS, &["v1"])];
    let to = |path: &str, subset| rule(vec![exact(path)], &[(REVIEWS, subset, 0)]);
    let rules = vec![to("/1", "v1"), to("/2", "v1"), to("/3", ""), to("/4", "")];
    objects.routes = vec![route(("default", "r"), 0, &[REVIEWS], &["mesh"], rules)];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let [one, two, three, four] = ["/1", "/2", "/3", "/4"].map(|p| group(&proxy.get("reviews", p)));
    assert!(Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&three, &four));
    assert!(!Arc::ptr_eq(&one, &three));
    assert!(Arc::ptr_eq(&one.members().all[0].endpoint, &three.members().all[0].endpoint));
}

#[test]
fn nothing_and_forgotten_differ() {
    let mut proxy = Proxy::sidecar(reviews(&[]), "default", &[]);
    let key = ResourceKey::Workload("10.77.9.9".parse().unwrap());
    assert_eq!(proxy.view.workload("10.77.9.9".parse().unwrap()), None);
    proxy.subscribe(&key);
    assert_eq!(proxy.view.workload("10.77.9.9".parse().unwrap()), Some(None));
    let resolution = ResourceKey::Resolution(ResolutionKey {
        listener: ListenerKind::Outbound,
        target: Target::Host("x".into(), 80),
        namespace: "default".into(),
    });
    proxy.subscribe(&resolution);
    let held = proxy.view.get(&resolution).unwrap().resource.clone();
    let Some(Resource::Resolution(body)) = held else { panic!("{held:?}") };
    assert_eq!(*body, Resolution::Absent);
    let ResourceKey::Resolution(resolution) = resolution else { panic!() };
    assert!(proxy.view.is_absent(&resolution));
    assert!(!proxy.view.is_absent(&inbound()), "of that nobody has said anything");
}
