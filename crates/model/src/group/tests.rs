//! Tests of picking, ejecting and counting.

use super::*;
use crate::test_world::service;

/// A group of `count` endpoints, of which those at odd places are not ready if `some_unready`.
fn group(count: usize, headless: bool, some_unready: bool, traffic: TrafficPolicy) -> Arc<Group> {
    let names: Vec<String> = (0..count).map(|at| format!("e{at:02}")).collect();
    let endpoints: Vec<(&str, &str, bool)> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_str(), "v1", !some_unready || at % 2 == 0))
        .collect();
    let mut source = service("default", "app", 1, 9080, &endpoints);
    source.service.headless = headless;
    let key = GroupKey { service: source.service.id.clone(), port: 9080, subset: None };
    let policy = GroupPolicy {
        service: Arc::new(source.service),
        protocol: Protocol::Http,
        selector: None,
        traffic,
    };
    let group = Arc::new(Group::new(key, policy));
    let endpoints: Vec<Arc<Endpoint>> = source.endpoints.into_iter().map(Arc::new).collect();
    group.set_members(endpoints.iter());
    group
}

fn ask(tried: &Tried) -> Ask<'_> {
    Ask { dialled: "10.96.0.1:9080".parse().unwrap(), tried }
}

fn picked(group: &Group, now: u64) -> Result<String, Reason> {
    group.pick(&ask(&Tried::default()), || Tick(now)).map(|member| member.endpoint.id.to_string())
}

fn outlier(consecutive_5xx: u32, max_ejection_percent: u8) -> TrafficPolicy {
    TrafficPolicy {
        outlier: Some(OutlierDetection {
            consecutive_5xx,
            base_ejection: Duration::from_secs(30),
            max_ejection_percent,
        }),
        ..TrafficPolicy::default()
    }
}

#[test]
fn ready_endpoints_take_turns() {
    let group = group(5, false, true, TrafficPolicy::default());
    let turns: Vec<String> = (0..6).map(|_| picked(&group, 0).unwrap()).collect();
    assert_eq!(turns, ["e00", "e02", "e04", "e00", "e02", "e04"]);
    let none = Tried::default();
    let peeked = group.peek(&ask(&none), || Tick(0)).unwrap().endpoint.id.clone();
    assert_eq!(picked(&group, 0).unwrap(), *peeked, "to look takes no turn");
}

#[test]
fn tried_endpoints_are_passed_over_while_there_are_others() {
    let group = group(2, false, false, TrafficPolicy::default());
    let mut tried = Tried::default();
    let first = group.pick(&ask(&tried), || Tick(0)).unwrap();
    tried.push(first.clone());
    for _ in 0..4 {
        assert_ne!(group.pick(&ask(&tried), || Tick(0)).unwrap().endpoint.id, first.endpoint.id);
    }
    tried.push(group.pick(&ask(&tried), || Tick(0)).unwrap());
    assert!(group.pick(&ask(&tried), || Tick(0)).is_ok(), "better one again than none");
}

#[test]
fn callers_of_a_headless_service_get_the_endpoint_that_they_dialled() {
    let group = group(3, true, true, TrafficPolicy::default());
    let own = group.members().all[1].clone();
    assert!(!own.endpoint.ready);
    let mut tried = Tried::default();
    let dialled = own.address().unwrap();
    let ask_for = |tried: &Tried| group.pick(&Ask { dialled, tried }, || Tick(0));
    assert!(Arc::ptr_eq(&ask_for(&tried).unwrap(), &own));
    tried.push(own);
    assert_eq!(ask_for(&tried).err(), Some(Reason::NoEndpoints), "and no other");
}

#[test]
fn an_endpoint_that_fails_often_is_ejected_and_comes_back() {
    let group = group(4, false, false, outlier(3, 50));
    let bad = group.members().all[0].clone();
    let fail = |now: u64| group.note(&bad, true, || Tick(now));
    fail(0);
    fail(0);
    group.note(&bad, false, || Tick(0));
    fail(0);
    fail(0);
    assert!(!bad.state().is_ejected(Tick(0)), "a success begins the count anew");
    fail(0);
    assert_eq!(bad.state().ejected_for(Tick(0)), Duration::from_secs(30));
    let turns: Vec<String> = (0..8).map(|_| picked(&group, 29_999).unwrap()).collect();
    assert!(!turns.contains(&"e00".to_owned()), "{turns:?}");
    let turns: Vec<String> = (0..8).map(|_| picked(&group, 30_000).unwrap()).collect();
    assert!(turns.contains(&"e00".to_owned()), "{turns:?}");
    (0..3).for_each(|_| fail(40_000));
    assert_eq!(bad.state().ejected_for(Tick(40_000)), Duration::from_secs(60), "longer each time");
}

#[test]
fn no_more_are_ejected_than_the_share_that_is_allowed() {
    for (percent, count, most) in [(10, 2, 0), (10, 10, 1), (50, 4, 2), (100, 3, 3), (0, 9, 0)] {
        let group = group(count, false, false, outlier(1, percent));
        let members: Vec<Arc<Member>> = group.members().all.to_vec();
        members.iter().for_each(|member| group.note(member, true, || Tick(0)));
        let ejected = members.iter().filter(|member| member.state().is_ejected(Tick(1))).count();
        assert_eq!(ejected, most, "{percent} % of {count}");
    }
    let all = group(2, false, false, outlier(1, 100));
    let members: Vec<Arc<Member>> = all.members().all.to_vec();
    members.iter().for_each(|member| all.note(member, true, || Tick(0)));
    assert_eq!(picked(&all, 1), Err(Reason::NoEndpoints), "all are ejected");
}

#[test]
fn what_is_known_of_an_endpoint_outlives_its_changes() {
    let group = group(4, false, false, outlier(1, 100));
    let before: Vec<Arc<Member>> = group.members().all.to_vec();
    group.note(&before[1], true, || Tick(0));
    let relabelled = Endpoint {
        labels: [("version", "v2")].into_iter().collect(),
        ..(*before[1].endpoint).clone()
    };
    let elsewhere = Endpoint {
        address: EndpointAddress::Ip("10.77.9.9".parse().unwrap()),
        ..(*before[2].endpoint).clone()
    };
    group.note(&before[2], true, || Tick(0));
    let next = [before[0].endpoint.clone(), Arc::new(relabelled), Arc::new(elsewhere)];
    group.set_members(next.iter());
    let after: Vec<Arc<Member>> = group.members().all.to_vec();
    assert!(Arc::ptr_eq(&after[0], &before[0]));
    assert!(after[1].state().is_ejected(Tick(1)), "it is the same place");
    assert!(!after[2].state().is_ejected(Tick(1)), "it is another place");
}

#[test]
fn connections_and_waits_are_counted_up_to_their_limits() {
    let limits = ConnectionLimits { connections_max: Some(2), pending_max: Some(1) };
    let traffic = TrafficPolicy { limits: Some(limits), ..TrafficPolicy::default() };
    let limited = group(1, false, false, traffic);
    let first = limited.open_connection(false).unwrap();
    let _second = limited.open_connection(false).unwrap();
    assert!(limited.open_connection(false).is_none());
    let third = limited.open_connection(true).unwrap();
    assert_eq!(limited.usage(), (3, 0));
    let waiting = limited.wait().unwrap();
    assert_eq!(limited.wait().err(), Some(Reason::UpstreamOverflow));
    drop((first, third, waiting));
    assert_eq!(limited.usage(), (1, 0));
    assert!(limited.wait().is_ok());
    let free = group(1, false, false, TrafficPolicy::default());
    assert!(free.open_connection(false).is_none(), "nothing is counted without a limit");
}

#[test]
fn who_adopts_a_report_picks_as_the_one_does_that_told_it() {
    let own = group(3, false, false, outlier(2, 100));
    let members = own.members().all.to_vec();
    for failed in [true, false, true, true] {
        own.note(&members[0], failed, || Tick(1_000));
    }
    own.note(&members[1], true, || Tick(1_000));
    let load = |_, member: &Member| {
        (member.endpoint.id == members[2].endpoint.id)
            .then_some(EndpointLoad { connections: 2, requests: 1 })
    };
    let report = own.report(Tick(11_000), load);
    let [ejected, failed, well] = &report.members[..] else { panic!("{report:?}") };
    assert_eq!((ejected.ejected_for, ejected.failures), (Duration::from_secs(20), 3));
    assert_eq!((failed.ejected_for, failed.failures_in_a_row), (Duration::ZERO, 1));
    assert_eq!((well.failures, well.load.map(|load| load.connections)), (0, Some(2)));
    assert_eq!((report.usage, ejected.load), (None, None));

    let other = group(3, false, false, outlier(2, 100));
    other.adopt(&report, Tick(5));
    assert!(other.members().all[0].state().is_ejected(Tick(5)));
    assert!(!other.members().all[0].state().is_ejected(Tick(20_005)), "it lapses there, too");
    assert_eq!(other.report(Tick(5), load), report);
    let gone = GroupReport { members: Vec::new(), ..report };
    other.adopt(&gone, Tick(5));
    assert!(other.members().all[0].state().is_ejected(Tick(5)), "nothing is known of it anew");
}
