//! Tests of what ejects an endpoint, for how long, and whom that leaves.

use std::sync::Arc;

use super::*;
use crate::group::tests::{group, in_turn, picked};
use crate::policy::TrafficPolicy;

use Noted::{GatewayError, NoAnswer, ServerError, Success};

fn detecting(outlier: OutlierDetection) -> TrafficPolicy {
    TrafficPolicy { outlier: Some(outlier), ..in_turn() }
}

/// Whether these, one after the other, eject an endpoint.
fn ejects(outlier: OutlierDetection, noted: &[Noted]) -> bool {
    let outlier = OutlierDetection { max_ejection_percent: 100, ..outlier };
    let group = group(2, false, false, detecting(outlier));
    let member = group.members().all[0].clone();
    noted.iter().for_each(|noted| group.note(&member, *noted, || Tick(0)));
    member.state().is_ejected(Tick(1))
}

#[test]
fn each_count_has_its_own_failures() {
    let none = OutlierDetection { consecutive_5xx: 0, ..OutlierDetection::default() };
    let of_5xx = OutlierDetection { consecutive_5xx: 2, ..none };
    let of_gateway = OutlierDetection { consecutive_gateway: 2, ..none };
    let of_local = OutlierDetection { consecutive_local: Some(2), ..none };
    let split_5xx = OutlierDetection { consecutive_local: Some(0), ..of_5xx };
    for (outlier, noted, expected) in [
        (none, vec![ServerError, GatewayError, NoAnswer, NoAnswer, NoAnswer], false),
        (of_5xx, vec![ServerError, ServerError], true),
        (of_5xx, vec![ServerError, GatewayError], true),
        (of_5xx, vec![NoAnswer, GatewayError], true),
        (of_5xx, vec![ServerError, Success, ServerError], false),
        (of_gateway, vec![GatewayError, GatewayError], true),
        (of_gateway, vec![NoAnswer, GatewayError], true),
        (of_gateway, vec![ServerError, ServerError, ServerError], false),
        (of_gateway, vec![GatewayError, ServerError, GatewayError], false),
        (of_gateway, vec![GatewayError, Success, GatewayError], false),
        (of_local, vec![NoAnswer, NoAnswer], true),
        (of_local, vec![GatewayError, GatewayError, ServerError], false),
        (of_local, vec![NoAnswer, ServerError, NoAnswer], false),
        (of_local, vec![NoAnswer, Success, NoAnswer], false),
        (split_5xx, vec![NoAnswer, NoAnswer, NoAnswer], false),
        (split_5xx, vec![ServerError, NoAnswer, ServerError], true),
    ] {
        assert_eq!(ejects(outlier, &noted), expected, "{outlier:?} {noted:?}");
    }
}

#[test]
fn statuses_are_counted_as_envoy_counts_them() {
    for (status, grpc_status, noted) in [
        (200, None, Success),
        (404, None, Success),
        (500, None, ServerError),
        (501, None, ServerError),
        (502, None, GatewayError),
        (503, None, GatewayError),
        (504, None, GatewayError),
        (505, None, ServerError),
        (599, None, ServerError),
        (200, Some(0), Success),
        (200, Some(1), Success),
        (200, Some(2), ServerError),
        (200, Some(4), GatewayError),
        (200, Some(12), ServerError),
        (200, Some(13), ServerError),
        (200, Some(14), GatewayError),
        (200, Some(15), ServerError),
        (200, Some(16), Success),
    ] {
        assert_eq!(Noted::answer(status, grpc_status), noted, "{status} {grpc_status:?}");
    }
}

/// Envoy looks at its endpoints in intervals: one that is due comes back at the next look.
#[test]
fn an_endpoint_comes_back_when_it_is_looked_at() {
    for (interval, at, until) in [(1_000, 400, 6_000), (10_000, 400, 10_000), (1, 400, 5_400)] {
        let outlier = OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: 100,
            interval: Duration::from_millis(interval),
            base_ejection: Duration::from_secs(5),
            ..OutlierDetection::default()
        };
        let group = group(1, false, false, detecting(outlier));
        let member = group.members().all[0].clone();
        group.note(&member, NoAnswer, || Tick(at));
        let state = member.state();
        assert!(state.is_ejected(Tick(until - 1)) && !state.is_ejected(Tick(until)), "{interval}");
    }
}

#[test]
fn ejections_grow_up_to_a_bound_and_shrink_while_it_does_well() {
    let outlier = OutlierDetection {
        consecutive_5xx: 1,
        max_ejection_percent: 100,
        base_ejection: Duration::from_secs(100),
        ..OutlierDetection::default()
    };
    let group = group(1, false, false, detecting(outlier));
    let member = group.members().all[0].clone();
    let mut now = 0;
    let mut eject_after = |well: u64| {
        now += well;
        group.note(&member, ServerError, || Tick(now));
        let lasts = member.state().ejected_for(Tick(now));
        now += u64::try_from(lasts.as_millis()).unwrap();
        lasts.as_secs()
    };
    let lasts: Vec<u64> = [0, 0, 0, 0, 10_000, 30_000, 10_000].map(&mut eject_after).to_vec();
    assert_eq!(lasts, [100, 200, 300, 300, 300, 200, 200]);
    assert_eq!(eject_after(1_000_000), 100, "as if it had never been");
}

/// Envoy 1.40: those with the new one may be no more than the share of those that take requests.
#[test]
fn the_share_is_of_those_that_take_requests() {
    let outlier =
        OutlierDetection { consecutive_5xx: 1, max_ejection_percent: 50, ..<_>::default() };
    let group = group(4, false, true, detecting(outlier));
    let members: Vec<Arc<Member>> = group.members().all.to_vec();
    for member in [&members[0], &members[2]] {
        group.note(member, ServerError, || Tick(0));
    }
    let ejected = members.iter().filter(|member| member.state().is_ejected(Tick(1))).count();
    assert_eq!(ejected, 1, "one of two, though four are known");
}

#[test]
fn where_too_few_are_left_all_are_asked() {
    // Just as many as are asked for are enough: one of four is 25 %.
    for (count, min_health_percent, asked) in
        [(3, 0, 1), (3, 33, 1), (3, 34, 3), (3, 60, 3), (3, 100, 3), (4, 25, 1), (4, 26, 4)]
    {
        let outlier = OutlierDetection {
            consecutive_5xx: 1,
            max_ejection_percent: 100,
            min_health_percent,
            ..OutlierDetection::default()
        };
        let group = group(count, false, false, detecting(outlier));
        let members: Vec<Arc<Member>> = group.members().all.to_vec();
        members[..count - 1].iter().for_each(|member| group.note(member, ServerError, || Tick(0)));
        let turns = (0..60).map(|_| picked(&group, 1).unwrap());
        let turns: std::collections::BTreeSet<String> = turns.collect();
        assert_eq!(turns.len(), asked, "{min_health_percent} % of {count}: {turns:?}");
        assert_eq!(group.is_ejected(&members[0], Tick(1)), asked == 1);
        assert!(members[0].state().is_ejected(Tick(1)), "it is ejected all the same");
    }
}
