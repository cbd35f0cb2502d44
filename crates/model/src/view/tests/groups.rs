//! Which group a backend has, and what holds for it.

use std::time::Duration;

use super::*;
use crate::policy::{
    Balance, Balancer, ClientTls, ConnectionPool, OutlierDetection, PortPolicy, TlsMode,
    TrafficPolicy,
};
use crate::service::ServicePort;

/// The service `reviews` in two versions with rules `/0`, `/1`, ... to these subsets.
fn with_subsets(subsets: &[&str]) -> Objects {
    let mut objects = reviews(&[("a", "v1", true), ("b", "v2", true)]);
    let rules = subsets
        .iter()
        .enumerate()
        .map(|(at, subset)| rule(vec![exact(&format!("/{at}"))], &[(REVIEWS, subset, 0)]));
    objects.routes = vec![route(("default", "r"), 0, &[REVIEWS], &["mesh"], rules.collect())];
    objects
}

#[test]
fn a_subset_has_what_it_says_and_else_what_its_destination_says() {
    let limits = |connections| ConnectionPool {
        connections_max: Some(connections),
        pending_max: None,
        ..<_>::default()
    };
    let outlier = OutlierDetection {
        consecutive_5xx: 3,
        base_ejection: Duration::from_secs(1),
        max_ejection_percent: 100,
        ..OutlierDetection::default()
    };
    let mut objects = with_subsets(&["", "v1", "v2"]);
    let mut policy = subsets(("default", "d"), 0, REVIEWS, &["v1", "v2"]);
    let wider = TrafficPolicy { pool: Some(limits(7)), outlier: Some(outlier), ..<_>::default() };
    policy.policy.traffic = Some(wider.clone());
    let own = OutlierDetection { consecutive_5xx: 9, ..outlier };
    policy.policy.subsets[1].traffic.pool = Some(limits(1));
    policy.policy.subsets[1].traffic.outlier = Some(own);
    objects.destination_policies = vec![policy];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let mut traffic = |path| group(&proxy.get("reviews", path)).policy().traffic.clone();
    assert_eq!(traffic("/0"), wider);
    assert_eq!(traffic("/1"), wider);
    assert_eq!(traffic("/2"), TrafficPolicy { pool: Some(limits(1)), outlier: Some(own), ..wider });
}

#[test]
fn a_group_follows_its_policy_and_keeps_its_turns() {
    let with = |limits| {
        let mut objects = with_subsets(&[""]);
        let mut policy = subsets(("default", "d"), 0, REVIEWS, &[]);
        let traffic = TrafficPolicy { pool: limits, ..<_>::default() };
        policy.policy.traffic = Some(traffic);
        objects.destination_policies = vec![policy];
        objects
    };
    let mut proxy = Proxy::sidecar(with(None), "default", &[]);
    let before = group(&proxy.get("reviews", "/0"));
    assert_eq!((turn(&before), before.pool()), ("a".into(), None));
    let limits =
        ConnectionPool { connections_max: Some(3), pending_max: Some(4), ..<_>::default() };
    proxy.replace(with(Some(limits)));
    let after = group(&proxy.get("reviews", "/0"));
    assert!(Arc::ptr_eq(&before, &after));
    assert_eq!((turn(&after), after.pool()), ("b".into(), Some(limits)));
}

/// A subset that is named and not named any more, again and again, as a canary is.
#[test]
fn groups_that_come_and_go_leave_nothing_with_their_service() {
    let version = |n: usize| format!("v{n}");
    let mut proxy = Proxy::sidecar(with_subsets(&[""]), "default", &[]);
    for n in 0..50 {
        let mut objects = with_subsets(&["", &version(n)]);
        let policy = subsets(("default", "d"), 0, REVIEWS, &[&version(n)]);
        objects.destination_policies = vec![policy];
        proxy.replace(objects);
        assert_eq!(proxy.get("reviews", "/1").reason, Reason::Route);
    }
    let kept: usize = proxy.view.groups.values().map(|of_service| of_service.len()).sum();
    assert!(kept < 5, "{kept} groups");
}

/// To look through all groups costs as much as there are: so it is done again only when there may be
/// as many that nothing uses.
#[test]
fn the_more_groups_are_used_the_more_seldom_the_unused_are_looked_for() {
    let name = |n: usize| format!("s{n}");
    let services = (0..200).map(|n| service("default", &name(n), 1, 9080, &[("a", "v1", true)]));
    let objects = Objects { services: services.collect(), ..Objects::default() };
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let mut looks = std::collections::HashSet::new();
    for n in 0..200 {
        proxy.get(&name(n), "/");
        looks.insert(proxy.view.groups_max);
    }
    assert!((2..10).contains(&looks.len()), "{looks:?}");
    assert_eq!(proxy.view.groups().count(), 200, "those that are used stay");
}

/// As Istio merges DestinationRules of one host: the oldest one's settings, the subsets of all.
#[test]
fn of_several_policies_the_first_gives_the_settings_and_each_its_subsets() {
    let mut objects = with_subsets(&["", "v1", "v2"]);
    let limited = |name: &str, created, version: &str, connections| {
        let mut source = subsets(("default", name), created, REVIEWS, &[version]);
        let limits = ConnectionPool {
            connections_max: Some(connections),
            pending_max: None,
            ..<_>::default()
        };
        let traffic = TrafficPolicy { pool: Some(limits), ..<_>::default() };
        source.policy.traffic = Some(traffic);
        source
    };
    objects.destination_policies = vec![limited("young", 2, "v2", 2), limited("old", 1, "v1", 1)];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    for (path, members) in [("/0", 2), ("/1", 1), ("/2", 1)] {
        let group = group(&proxy.get("reviews", path));
        assert_eq!(group.pool().unwrap().connections_max, Some(1), "{path}");
        assert_eq!(group.members().all.len(), members, "{path}");
    }
}

/// A policy without `trafficPolicy` has only its subsets to say.
#[test]
fn the_settings_are_those_of_the_first_policy_that_has_any() {
    let mut objects = with_subsets(&["", "v1", "v2"]);
    let silent = subsets(("default", "silent"), 0, REVIEWS, &["v1"]);
    let mut limited = subsets(("default", "limited"), 1, REVIEWS, &["v1", "v2"]);
    let limits = ConnectionPool { connections_max: Some(7), ..<_>::default() };
    limited.policy.traffic = Some(TrafficPolicy { pool: Some(limits), ..<_>::default() });
    limited.policy.subsets[0].labels = [("version", "v2")].into_iter().collect();
    objects.destination_policies = vec![limited, silent];
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    for (path, first) in [("/0", "a"), ("/1", "a"), ("/2", "b")] {
        let group = group(&proxy.get("reviews", path));
        assert_eq!(group.pool(), Some(limits), "{path}");
        assert_eq!(&*group.members().all[0].endpoint.id, first, "{path}");
    }
}

/// A policy of an older generation says what those of today leave open, whichever is older.
#[test]
fn a_policy_that_fills_has_the_sections_that_others_leave_open() {
    let pool = |n| Some(ConnectionPool { connections_max: Some(n), ..<_>::default() });
    let of = |name: &str, created, fills, traffic| {
        let mut source = subsets(("default", name), created, REVIEWS, &[]);
        (source.policy.traffic, source.policy.fills) = (Some(traffic), fills);
        source
    };
    let balance = Some(Balance::by(Balancer::RoundRobin));
    let today = TrafficPolicy { balance, ..<_>::default() };
    let limited = TrafficPolicy { pool: pool(1), ..today.clone() };
    for (own, expected) in [(today, pool(2)), (limited, pool(1))] {
        for (first, second) in [(1, 2), (2, 1)] {
            let mut objects = with_subsets(&[""]);
            let older = TrafficPolicy { pool: pool(2), ..<_>::default() };
            objects.destination_policies =
                vec![of("today", first, false, own.clone()), of("old", second, true, older)];
            let group = group(&Proxy::sidecar(objects, "default", &[]).get("reviews", "/0"));
            assert_eq!(group.pool(), expected);
            assert_eq!(*group.policy().traffic.balancer(), Balancer::RoundRobin);
        }
    }
}

/// Istio: "port level settings override destination level settings, and inherit nothing".
#[test]
fn settings_of_a_port_take_the_place_of_all_sections_and_inherit_none() {
    let limits = |n| Some(ConnectionPool { requests_max: Some(n), ..<_>::default() });
    let outlier = Some(OutlierDetection::default());
    let with = |traffic| PortPolicy { port: 9080, traffic };
    let tls = Some(ClientTls { mode: TlsMode::Simple, ..ClientTls::default() });
    let whole = TrafficPolicy { pool: limits(1), outlier, tls, ..<_>::default() };
    let at_port = TrafficPolicy { pool: limits(2), ..<_>::default() };
    let nothing = TrafficPolicy::default();
    let of_v1 =
        TrafficPolicy { balance: Some(Balance::by(Balancer::RoundRobin)), ..<_>::default() };
    let of_v2 = TrafficPolicy { outlier, ports: vec![with(of_v1.clone())], ..<_>::default() };
    for (ports, whole_expected, v1_expected) in [
        (
            Vec::new(),
            whole.clone(),
            TrafficPolicy { balance: of_v1.balance.clone(), ..whole.clone() },
        ),
        (
            vec![with(at_port.clone())],
            at_port.clone(),
            TrafficPolicy { balance: of_v1.balance.clone(), ..at_port.clone() },
        ),
        (vec![with(nothing.clone())], nothing, of_v1.clone()),
    ] {
        let mut objects = with_subsets(&["", "v1", "v2"]);
        let mut policy = subsets(("default", "d"), 0, REVIEWS, &["v1", "v2"]);
        policy.policy.traffic = Some(TrafficPolicy { ports, ..whole.clone() });
        policy.policy.subsets[0].traffic = of_v1.clone();
        policy.policy.subsets[1].traffic = of_v2.clone();
        objects.destination_policies = vec![policy];
        let mut proxy = Proxy::sidecar(objects, "default", &[]);
        let mut traffic = |path| group(&proxy.get("reviews", path)).policy().traffic.clone();
        assert_eq!(traffic("/0"), whole_expected);
        assert_eq!(traffic("/1"), v1_expected, "a subset inherits what the port says");
        assert_eq!(traffic("/2"), of_v1, "unless it has settings for the port itself");
    }
}

#[test]
fn a_backend_without_a_port_has_the_only_one_or_the_one_that_was_dialled() {
    let to_ratings = |port: Option<u16>| {
        let mut objects = reviews(&[("a", "v1", true)]);
        let mut ratings = service("default", "ratings", 2, 80, &[("r", "v1", true)]);
        ratings.endpoints[0].ports.push(crate::service::PortMap { service: 9080, target: 7 });
        objects.services.push(ratings);
        let mut to = rule(Vec::new(), &[("ratings.default.svc.cluster.local", "", 0)]);
        let crate::route::Action::Forward(backends) = &mut to.action else { panic!() };
        backends[0].port = port;
        objects.routes = vec![route(("default", "r"), 0, &[REVIEWS], &["mesh"], vec![to])];
        objects
    };
    let second = ServicePort { number: 9080, name: "http-b".into(), protocol: Protocol::Http };
    for (port, two, expected) in
        [(None, false, 81), (None, true, 7), (Some(80), true, 81), (Some(9080), true, 7)]
    {
        let mut objects = to_ratings(port);
        if two {
            objects.services[1].service.ports.push(second.clone());
        }
        let mut proxy = Proxy::sidecar(objects, "default", &[]);
        let decision = proxy.get("reviews", "/");
        assert_eq!(group(&decision).members().all[0].port, expected, "{port:?} {two}");
    }
}

/// Endpoints of a large service come in chunks by hash; turns go by their ids all the same.
#[test]
fn members_are_in_order_of_their_ids_however_many_chunks_they_come_in() {
    let names: Vec<String> = (0..250).map(|at| format!("e{at:03}")).collect();
    let pods: Vec<(&str, &str, bool)> = names.iter().map(|id| (&**id, "v1", true)).collect();
    let mut proxy = Proxy::sidecar(reviews(&pods), "default", &[]);
    let decision = proxy.get("reviews", "/");
    let service = decision.applies().unwrap().service.clone().unwrap();
    assert!(service.endpoint_chunks.len() > 1, "one chunk shows nothing");
    let group = group(&decision);
    let turns: Vec<String> = (0..names.len()).map(|_| turn(&group)).collect();
    assert_eq!(turns, names);
}

/// A connection is kept until `policies` of the view differs: so each mode differs from the others,
/// and a mode that comes back is what it was.
#[test]
fn each_mode_of_mutual_tls_is_another_policy_of_connections() {
    let with = |mesh, own: Option<MtlsMode>| {
        let mut objects = reviews(&[("a", "v1", true)]);
        objects.settings.mtls_mode = mesh;
        let policy = |mode| inbound_policy(("default", "p"), 0, None, Some(mode));
        objects.inbound_policies = own.map(policy).into_iter().collect();
        objects
    };
    let modes = [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable];
    let mut proxy = Proxy::sidecar(with(modes[0], None), "default", &[]);
    proxy.subscribe(&ResourceKey::Settings);
    proxy.subscribe(&ResourceKey::Resolution(ResolutionKey {
        listener: ListenerKind::Inbound,
        target: Target::Address(IpAddr::from([10, 77, 1, 0]), EVERY_PORT),
        namespace: "default".into(),
    }));
    let own = modes.map(Some).into_iter().chain([None]);
    let each: Vec<_> = own.flat_map(|own| modes.map(|mesh| (mesh, own))).collect();
    let mut policies = |(mesh, own)| {
        proxy.replace(with(mesh, own));
        proxy.view.policies()
    };
    let first: Vec<u64> = each.iter().map(|modes| policies(*modes)).collect();
    let again: Vec<u64> = each.iter().map(|modes| policies(*modes)).collect();
    assert_eq!(first, again);
    let mut closed = with(modes[0], None);
    closed.settings.outbound_policy = crate::settings::OutboundPolicy::RegistryOnly;
    proxy.replace(closed);
    assert_ne!(proxy.view.policies(), first[first.len() - 3], "a mesh that closes is another, too");
    let different: std::collections::HashSet<u64> = first.into_iter().collect();
    assert!(different.len() >= 6, "{different:?} of {each:?}");
}
