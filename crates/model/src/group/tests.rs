//! Tests of picking, ejecting and counting.

use super::*;
use crate::draw::Share;
use crate::policy::{Balancer, OutlierDetection, RetryBudget};
use crate::test_world::service;

mod choosing;

/// A group of `count` endpoints, of which those at odd places are not ready if `some_unready`.
pub(super) fn group(
    count: usize,
    headless: bool,
    some_unready: bool,
    traffic: TrafficPolicy,
) -> Arc<Group> {
    let names: Vec<String> = (0..count).map(|at| format!("e{at:02}")).collect();
    let endpoints: Vec<(&str, &str, bool)> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_str(), "v1", !some_unready || at % 2 == 0))
        .collect();
    let mut source = service("default", "app", 1, 9080, &endpoints);
    source.service.headless = headless;
    let endpoints: Vec<Arc<Endpoint>> = source.endpoints.into_iter().map(Arc::new).collect();
    group_of(source.service, &endpoints, traffic, None)
}

/// The group of these endpoints.
pub(super) fn group_of(
    service: Service,
    endpoints: &[Arc<Endpoint>],
    traffic: TrafficPolicy,
    near: Option<Nearness>,
) -> Arc<Group> {
    let key = GroupKey { service: service.id.clone(), port: 9080, subset: None };
    let service = Arc::new(service);
    let (protocol, selector) = (Protocol::Http, None);
    let group = Group::new(key, GroupPolicy { service, protocol, selector, traffic, near });
    group.set_members(endpoints.iter());
    Arc::new(group)
}

fn ask(tried: &Tried) -> Ask<'_> {
    ask_for("10.96.0.1:9080".parse().unwrap(), tried)
}

fn ask_for(dialled: SocketAddr, tried: &Tried) -> Ask<'_> {
    Ask { dialled, tried, draw: Draw(7), hash: None }
}

/// Strictly one after the other.
pub(super) fn in_turn() -> TrafficPolicy {
    by(Balancer::RoundRobin)
}

fn by(by: Balancer) -> TrafficPolicy {
    TrafficPolicy { balance: Some(Balance::by(by)), ..TrafficPolicy::default() }
}

pub(super) fn picked(group: &Group, now: u64) -> Result<String, Reason> {
    group.pick(&ask(&Tried::default()), || Tick(now)).map(|member| member.endpoint.id.to_string())
}

fn outlier(consecutive_5xx: u32, max_ejection_percent: u8) -> TrafficPolicy {
    TrafficPolicy {
        outlier: Some(OutlierDetection {
            consecutive_5xx,
            base_ejection: Duration::from_secs(30),
            max_ejection_percent,
            ..OutlierDetection::default()
        }),
        ..in_turn()
    }
}

#[test]
fn ready_endpoints_take_turns() {
    let group = group(5, false, true, in_turn());
    let turns: Vec<String> = (0..6).map(|_| picked(&group, 0).unwrap()).collect();
    assert_eq!(turns, ["e00", "e02", "e04", "e00", "e02", "e04"]);
    let none = Tried::default();
    let peeked = group.peek(&ask(&none), || Tick(0)).unwrap().endpoint.id.clone();
    assert_eq!(picked(&group, 0).unwrap(), *peeked, "to look takes no turn");
}

#[test]
fn tried_endpoints_are_passed_over_while_there_are_others() {
    let group = group(2, false, false, in_turn());
    let mut tried = Tried::default();
    let first = group.pick(&ask(&tried), || Tick(0)).unwrap();
    tried.push(first.clone(), None);
    for _ in 0..4 {
        assert_ne!(group.pick(&ask(&tried), || Tick(0)).unwrap().endpoint.id, first.endpoint.id);
    }
    tried.push(group.pick(&ask(&tried), || Tick(0)).unwrap(), None);
    assert!(group.pick(&ask(&tried), || Tick(0)).is_ok(), "better one again than none");
}

#[test]
fn callers_of_a_headless_service_get_the_endpoint_that_they_dialled() {
    let group = group(3, true, true, in_turn());
    let own = group.members().all[1].clone();
    assert!(!own.endpoint.ready);
    let mut tried = Tried::default();
    let dialled = own.address().unwrap();
    let ask_for = |tried: &Tried| group.pick(&ask_for(dialled, tried), || Tick(0));
    assert!(Arc::ptr_eq(&ask_for(&tried).unwrap(), &own));
    tried.push(own, None);
    assert_eq!(ask_for(&tried).err(), Some(Reason::NoEndpoints), "and no other");
}

#[test]
fn an_endpoint_that_fails_often_is_ejected_and_comes_back() {
    let group = group(4, false, false, outlier(3, 50));
    let bad = group.members().all[0].clone();
    let fail = |now: u64| group.note(&bad, Noted::GatewayError, || Tick(now));
    fail(0);
    fail(0);
    group.note(&bad, Noted::Success, || Tick(0));
    fail(0);
    fail(0);
    assert!(!bad.state().is_ejected(Tick(0)), "a success begins the count anew");
    fail(0);
    assert_eq!(bad.state().ejected_for(Tick(0)), Duration::from_secs(30));
    let turns: Vec<String> = (0..8).map(|_| picked(&group, 29_999).unwrap()).collect();
    assert!(!turns.contains(&"e00".to_owned()), "{turns:?}");
    let turns: Vec<String> = (0..8).map(|_| picked(&group, 30_000).unwrap()).collect();
    assert!(turns.contains(&"e00".to_owned()), "{turns:?}");
    (0..3).for_each(|_| fail(35_000));
    let longer = bad.state().ejected_for(Tick(35_000));
    assert_eq!(longer, Duration::from_secs(65), "twice as long, and until it is looked at");
}

/// Answers to requests that were under way at its ejection come while it lasts.
#[test]
fn an_endpoint_that_fails_on_is_ejected_no_longer_for_it() {
    let group = group(2, false, false, outlier(2, 100));
    let bad = group.members().all[0].clone();
    let fail = |now: u64| group.note(&bad, Noted::GatewayError, || Tick(now));
    (0..6).for_each(|_| fail(1_000));
    assert_eq!(bad.state().ejected_for(Tick(1_000)), Duration::from_secs(39));
    assert!(!bad.state().is_ejected(Tick(40_000)));
}

#[test]
fn after_an_ejection_failures_are_counted_from_the_beginning() {
    let group = group(2, false, false, outlier(3, 100));
    let bad = group.members().all[0].clone();
    (0..3).for_each(|_| group.note(&bad, Noted::ServerError, || Tick(0)));
    assert_eq!((bad.state().is_ejected(Tick(1)), bad.state().failures()), (true, 0));
    // Answers to what had begun before.
    (0..5).for_each(|_| group.note(&bad, Noted::ServerError, || Tick(10_000)));
    (0..2).for_each(|_| group.note(&bad, Noted::ServerError, || Tick(40_000)));
    assert!(!bad.state().is_ejected(Tick(40_000)), "two are not three");
    group.note(&bad, Noted::ServerError, || Tick(40_000));
    assert!(bad.state().is_ejected(Tick(40_000)));
}

#[test]
fn no_more_are_ejected_than_the_share_that_is_allowed() {
    for (percent, count, most) in [(10, 2, 0), (10, 10, 1), (50, 4, 2), (100, 3, 3), (0, 9, 0)] {
        let group = group(count, false, false, outlier(1, percent));
        let members: Vec<Arc<Member>> = group.members().all.to_vec();
        members.iter().for_each(|member| group.note(member, Noted::ServerError, || Tick(0)));
        let ejected = members.iter().filter(|member| member.state().is_ejected(Tick(1))).count();
        assert_eq!(ejected, most, "{percent} % of {count}");
    }
    let all = group(2, false, false, outlier(1, 100));
    let members: Vec<Arc<Member>> = all.members().all.to_vec();
    members.iter().for_each(|member| all.note(member, Noted::ServerError, || Tick(0)));
    assert_eq!(picked(&all, 1), Err(Reason::NoEndpoints), "all are ejected");
}

#[test]
fn what_is_known_of_an_endpoint_outlives_its_changes() {
    let group = group(4, false, false, outlier(1, 100));
    let before: Vec<Arc<Member>> = group.members().all.to_vec();
    group.note(&before[1], Noted::ServerError, || Tick(0));
    let relabelled = Endpoint {
        labels: [("version", "v2")].into_iter().collect(),
        ..(*before[1].endpoint).clone()
    };
    let elsewhere = Endpoint {
        address: EndpointAddress::Ip("10.77.9.9".parse().unwrap()),
        ..(*before[2].endpoint).clone()
    };
    group.note(&before[2], Noted::ServerError, || Tick(0));
    let next = [before[0].endpoint.clone(), Arc::new(relabelled), Arc::new(elsewhere)];
    group.set_members(next.iter());
    let after: Vec<Arc<Member>> = group.members().all.to_vec();
    assert!(Arc::ptr_eq(&after[0], &before[0]));
    assert!(after[1].state().is_ejected(Tick(1)), "it is the same place");
    assert!(!after[2].state().is_ejected(Tick(1)), "it is another place");
}

#[test]
fn connections_and_waits_are_counted_up_to_their_limits() {
    let limits =
        ConnectionPool { connections_max: Some(2), pending_max: Some(1), ..<_>::default() };
    let traffic = TrafficPolicy { pool: Some(limits), ..in_turn() };
    let limited = group(1, false, false, traffic);
    let first = limited.open_connection(false).unwrap();
    let _second = limited.open_connection(false).unwrap();
    assert!(limited.open_connection(false).is_none());
    let third = limited.open_connection(true).unwrap();
    assert_eq!(limited.usage(), (3, 0));
    let waiting = limited.wait().unwrap();
    let told = limited.report(Tick(1), |_, _| None).usage;
    assert_eq!(told, Some(GroupUsage { connections: 3, waiting: 1 }));
    assert_eq!(limited.wait().err(), Some(Reason::UpstreamOverflow));
    drop((first, third, waiting));
    assert_eq!(limited.usage(), (1, 0));
    assert!(limited.wait().is_ok());
    let free = group(1, false, false, in_turn());
    assert!(free.open_connection(false).is_none(), "nothing is counted without a limit");
}

#[test]
fn who_adopts_a_report_picks_as_the_one_does_that_told_it() {
    let own = group(3, false, false, outlier(2, 100));
    let members = own.members().all.to_vec();
    for failed in [true, false, true, true] {
        let noted = if failed { Noted::NoAnswer } else { Noted::Success };
        own.note(&members[0], noted, || Tick(1_000));
    }
    own.note(&members[1], Noted::ServerError, || Tick(1_000));
    let load = |_, member: &Member| {
        (member.endpoint.id == members[2].endpoint.id)
            .then_some(EndpointLoad { connections: 2, requests: 1 })
    };
    let report = own.report(Tick(11_000), load);
    let [ejected, failed, well] = &report.members[..] else { panic!("{report:?}") };
    assert_eq!((ejected.ejected_for, ejected.failures), (Duration::from_secs(29), 3));
    assert_eq!((failed.ejected_for, failed.failures_in_a_row), (Duration::ZERO, 1));
    assert_eq!((well.failures, well.load.map(|load| load.connections)), (0, Some(2)));
    assert_eq!((report.usage, ejected.load), (None, None));

    let other = group(3, false, false, outlier(2, 100));
    other.adopt(&report, Tick(5));
    assert!(other.members().all[0].state().is_ejected(Tick(5)));
    assert!(!other.members().all[0].state().is_ejected(Tick(29_005)), "it lapses there, too");
    assert_eq!(other.report(Tick(5), load), report);
    let gone = GroupReport { members: Vec::new(), ..report };
    other.adopt(&gone, Tick(5));
    assert!(other.members().all[0].state().is_ejected(Tick(5)), "nothing is known of it anew");
}

/// Time is asked for only where endpoints may be ejected.
#[test]
fn without_outlier_detection_nothing_is_ejected_and_no_clock_is_read() {
    let group = group(2, false, false, in_turn());
    let none = Tried::default();
    let no_clock = || -> Tick { panic!("the clock was read") };
    let member = group.pick(&ask(&none), no_clock).unwrap();
    for _ in 0..100 {
        group.note(&member, Noted::ServerError, no_clock);
    }
    assert_eq!(member.state().failures(), 0);
    assert!(!member.state().is_ejected(Tick(0)));
    let turns: Vec<_> = (0..2).map(|_| group.pick(&ask(&none), no_clock).unwrap()).collect();
    assert!(turns.iter().any(|turn| Arc::ptr_eq(turn, &member)));
}

/// What is ejected when the policy goes is picked again at once.
#[test]
fn ejections_end_with_the_policy_that_made_them() {
    let group = group(2, false, false, outlier(1, 100));
    let members: Vec<Arc<Member>> = group.members().all.to_vec();
    group.note(&members[0], Noted::ServerError, || Tick(0));
    assert!(group.is_ejected(&members[0], Tick(1)) && !group.is_ejected(&members[1], Tick(1)));
    assert!(!group.is_ejected(&members[0], Tick(30_000)));
    let policy = GroupPolicy { traffic: in_turn(), ..(**group.policy()).clone() };
    group.set_policy(policy);
    assert!(!group.is_ejected(&members[0], Tick(1)));
    let turns: Vec<String> = (0..2).map(|_| picked(&group, 1).unwrap()).collect();
    assert!(turns.contains(&"e00".to_owned()), "{turns:?}");
}

#[test]
fn with_a_limit_of_zero_failures_nothing_is_ejected() {
    let group = group(2, false, false, outlier(0, 100));
    let member = group.members().all[0].clone();
    (0..100).for_each(|_| group.note(&member, Noted::ServerError, || Tick(0)));
    assert!(!member.state().is_ejected(Tick(0)));
    assert_eq!(member.state().failures(), 100);
}

/// Attempts that had begun before do not make an ejection longer when they fail, too.
#[test]
fn an_ejection_lasts_as_long_as_it_was_said_to() {
    let group = group(2, false, false, outlier(2, 50));
    let member = group.members().all[0].clone();
    let fail = |now| group.note(&member, Noted::ServerError, || Tick(now));
    (0..2).for_each(|_| fail(0));
    (0..9).for_each(|_| fail(10_000));
    assert_eq!(member.state().ejected_for(Tick(10_000)), Duration::from_secs(20));
    assert!(member.state().is_ejected(Tick(29_999)) && !member.state().is_ejected(Tick(30_000)));
    assert_eq!(member.state().ejected_for(Tick(30_001)), Duration::ZERO);
    group.note(&member, Noted::Success, || Tick(30_001));
    fail(30_001);
    assert!(!member.state().is_ejected(Tick(30_001)), "it begins anew");
    fail(30_001);
    assert_eq!(member.state().ejected_for(Tick(30_001)), Duration::from_millis(69_999));
}

#[test]
fn all_ejections_end_some_time_whatever_was_configured() {
    let mut traffic = outlier(1, 100);
    traffic.outlier.as_mut().unwrap().base_ejection = Duration::MAX;
    let group = group(1, false, false, traffic);
    let member = group.members().all[0].clone();
    group.note(&member, Noted::ServerError, || Tick(7));
    assert!(member.state().is_ejected(Tick(u64::MAX - 1)));
}

#[test]
fn callers_of_a_headless_service_that_dialled_something_else_take_turns() {
    let group = group(3, true, true, in_turn());
    let turns: Vec<String> = (0..3).map(|_| picked(&group, 0).unwrap()).collect();
    assert_eq!(turns, ["e00", "e02", "e00"]);
    let none = Tried::default();
    let own = group.members().all[1].address().unwrap();
    let other_port = ask_for(SocketAddr::new(own.ip(), 1), &none);
    assert_eq!(&*group.pick(&other_port, || Tick(0)).unwrap().endpoint.id, "e02");
}

#[test]
fn an_address_of_an_endpoint_means_nothing_to_a_service_with_one_of_its_own() {
    let group = group(2, false, false, in_turn());
    let dialled = group.members().all[1].address().unwrap();
    let none = Tried::default();
    let turn = || group.pick(&ask_for(dialled, &none), || Tick(0)).unwrap();
    assert_eq!([&*turn().endpoint.id, &*turn().endpoint.id], ["e00", "e01"]);
}

#[test]
fn who_was_tried_is_passed_over_even_if_others_are_ejected() {
    let group = group(3, false, false, outlier(1, 100));
    let members: Vec<Arc<Member>> = group.members().all.to_vec();
    group.note(&members[1], Noted::ServerError, || Tick(0));
    let mut tried = Tried::default();
    tried.push(members[0].clone(), None);
    for _ in 0..6 {
        let next = group.pick(&ask(&tried), || Tick(1)).unwrap();
        assert_eq!(&*next.endpoint.id, "e02");
        let peeked = group.peek(&ask(&tried), || Tick(1)).unwrap();
        assert_eq!(&*peeked.endpoint.id, "e02");
    }
}

#[test]
fn a_limit_that_is_not_set_does_not_limit() {
    let limited = |connections_max, pending_max| {
        let limits = ConnectionPool { connections_max, pending_max, ..<_>::default() };
        group(1, false, false, TrafficPolicy { pool: Some(limits), ..in_turn() })
    };
    let pending_only = limited(None, Some(0));
    let open: Vec<_> = (0..100).map(|_| pending_only.open_connection(false).unwrap()).collect();
    assert_eq!((open.len(), pending_only.usage()), (100, (100, 0)));
    assert_eq!(pending_only.wait().err(), Some(Reason::UpstreamOverflow));
    let connections_only = limited(Some(0), None);
    assert!(connections_only.open_connection(false).is_none());
    let waiting: Vec<_> = (0..100).map(|_| connections_only.wait().unwrap()).collect();
    assert_eq!((waiting.len(), connections_only.usage()), (100, (0, 100)));
    drop((open, waiting));
    assert_eq!((pending_only.usage(), connections_only.usage()), ((0, 0), (0, 0)));
}

#[test]
fn requests_and_retries_are_counted_where_they_are_limited() {
    let pool =
        ConnectionPool { requests_max: Some(2), retries_max: Some(1), ..ConnectionPool::default() };
    let limited =
        group(1, false, false, TrafficPolicy { pool: Some(pool), ..TrafficPolicy::default() });
    let requests: Vec<_> = (0..2).map(|_| limited.request().unwrap().unwrap()).collect();
    assert_eq!(limited.request().err(), Some(Reason::UpstreamOverflow));
    let retry = limited.retry(false).unwrap();
    assert!(retry.is_some());
    assert_eq!(limited.retry(false).err(), Some(Reason::UpstreamOverflow));
    assert_eq!(limited.under_way(), (2, 1));
    drop((requests, retry));
    assert_eq!(limited.under_way(), (0, 0));
    assert!(limited.request().is_ok() && limited.retry(false).is_ok());
    let free = group(1, false, false, TrafficPolicy::default());
    assert!(free.request().unwrap().is_none() && free.retry(true).unwrap().is_none());
}

#[test]
fn endpoints_that_do_not_serve_the_port_are_no_members() {
    let group = group(2, false, false, in_turn());
    let mut other = (*group.members().all[0].endpoint).clone();
    other.ports[0].service = 1;
    let kept = group.members().all[1].endpoint.clone();
    group.set_members([Arc::new(other), kept].iter());
    let members = group.members();
    assert_eq!((members.all.len(), &*members.all[0].endpoint.id), (1, "e01"));
    assert_eq!(*members.ready, [0]);
    assert_eq!(members.all[0].port, 9081);
}

/// A budget says how many of what is under way may be retries, and outdoes a fixed number.
#[test]
fn retries_are_bounded_by_a_budget_or_by_a_number() {
    let with = |retries_max, retry_budget| {
        let pool = ConnectionPool { retries_max, ..ConnectionPool::default() };
        let traffic = TrafficPolicy { pool: Some(pool), retry_budget, ..TrafficPolicy::default() };
        group(1, false, false, traffic)
    };
    let most = |group: &Arc<Group>| {
        let mut held = Vec::new();
        while held.len() < 50 {
            match group.retry(true) {
                Ok(retrying) => held.push(retrying),
                Err(reason) => {
                    assert_eq!(reason, Reason::UpstreamOverflow);
                    break;
                }
            }
        }
        held.len()
    };
    assert_eq!(most(&with(None, None)), 50, "as many as there are");
    assert_eq!(most(&with(Some(2), None)), 2);
    let budget =
        with(Some(2), Some(RetryBudget { share: Share::of_percent(50.0), retries_min: 1 }));
    assert_eq!(most(&budget), 1);
    let requests: Vec<_> = (0..10).map(|_| budget.request().unwrap()).collect();
    assert_eq!(most(&budget), 5);
    drop(requests);
    assert_eq!(most(&budget), 1, "what has ended does not count");
}

/// A fifth of what is under way, and three in any case; but only where nobody has said how often a
/// request is tried.
#[test]
fn retries_that_nobody_configured_have_a_budget() {
    let group = group(2, false, false, TrafficPolicy::default());
    let mut retries = Vec::new();
    let mut taken = |is_configured: bool, times: usize| {
        let before = retries.len();
        let more = (0..times).map_while(|_| group.retry(is_configured).ok().flatten());
        retries.extend(more);
        retries.len() - before
    };
    assert_eq!(taken(false, 10), 3);
    assert!((0..10).all(|_| group.retry(true).unwrap().is_none()), "as many as are asked for");
    let members = group.members();
    let under_way: Vec<UnderWay> = (0..25).map(|at| members.all[at % 2].begin()).collect();
    assert_eq!(taken(false, 10), 2, "five of twenty-five, with those from before");
    drop(under_way);
    assert_eq!(taken(false, 1), 0);
}
