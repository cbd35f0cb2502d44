//! Tests of the ways to choose an endpoint.

use std::collections::BTreeMap;

use super::*;
use crate::draw::Share;
use crate::policy::{HashBalance, HashKey, HashTable, Warmup};

fn hashed(table: HashTable) -> TrafficPolicy {
    by(Balancer::Hash(Box::new(HashBalance { key: HashKey::SourceIp, table })))
}

fn both_tables() -> [TrafficPolicy; 2] {
    [HashTable::Ring { points_min: 1024 }, HashTable::Maglev { size: 251 }].map(hashed)
}

/// Which endpoint each of so many draws gets.
fn counts(group: &Group, tried: &Tried, draws: u64) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for sequence in 0..draws {
        let draw = Draw::of(b"id", b"hop", sequence);
        let picked = group.pick(&Ask { draw, ..ask(tried) }, || Tick(0)).unwrap();
        *counts.entry(picked.endpoint.id.to_string()).or_default() += 1;
    }
    counts
}

fn weighted(weights: &[u32], traffic: TrafficPolicy) -> Arc<Group> {
    let group = group(weights.len(), false, false, traffic);
    let members: Vec<Arc<Member>> = group.members().all.to_vec();
    let weigh = |(member, weight): (&Arc<Member>, &u32)| {
        Arc::new(Endpoint { weight: *weight, ..(*member.endpoint).clone() })
    };
    let endpoints: Vec<Arc<Endpoint>> = members.iter().zip(weights).map(weigh).collect();
    group.set_members(endpoints.iter());
    group
}

#[test]
fn at_random_all_get_the_same_and_in_no_order() {
    let group = group(4, false, false, by(Balancer::Random));
    let counts = counts(&group, &Tried::default(), 40_000);
    assert!(counts.values().all(|count| count.abs_diff(10_000) < 600), "{counts:?}");
    let none = Tried::default();
    let pick = |sequence| {
        let draw = Draw::of(b"id", b"hop", sequence);
        group.peek(&Ask { draw, ..ask(&none) }, || Tick(0)).unwrap().endpoint.id.clone()
    };
    let picks: Vec<_> = (0..16).map(pick).collect();
    assert_eq!(picks, (0..16).map(pick).collect::<Vec<_>>(), "the same draw, the same endpoint");
    assert!(picks.windows(4).any(|four| four[0] == four[1]), "{picks:?}");
}

#[test]
fn whoever_says_nothing_gets_the_one_of_two_with_fewer_requests() {
    let group = group(2, false, false, TrafficPolicy::default());
    let busy = group.members().all[0].begin();
    let alone = counts(&group, &Tried::default(), 100);
    assert_eq!(alone.get("e01"), Some(&100), "{alone:?}");
    let other = [group.members().all[1].begin(), group.members().all[1].begin()];
    assert_eq!(counts(&group, &Tried::default(), 100).get("e00"), Some(&100));
    drop((busy, other));
    let even = counts(&group, &Tried::default(), 10_000);
    assert!(even.values().all(|count| count.abs_diff(5_000) < 400), "{even:?}");
}

/// Workers share the state of an endpoint, so that what one has under way the other sees.
#[test]
fn requests_of_all_workers_count() {
    let group = group(2, false, false, by(Balancer::LeastRequest));
    let busy = group.members().all[0].clone();
    let held = std::thread::spawn(move || busy.begin()).join().unwrap();
    assert_eq!(group.members().all[0].state().under_way(), 1);
    assert_eq!(counts(&group, &Tried::default(), 50).get("e01"), Some(&50));
    drop(held);
    assert_eq!(group.members().all[0].state().under_way(), 0);
}

#[test]
fn weights_count_however_an_endpoint_is_chosen() {
    for traffic in [in_turn(), by(Balancer::Random), by(Balancer::LeastRequest)] {
        let group = weighted(&[1, 3], traffic.clone());
        let counts = counts(&group, &Tried::default(), 4_000);
        let (light, heavy) = (counts["e00"], counts["e01"]);
        let exact = traffic == in_turn();
        assert!(heavy.abs_diff(3_000) < if exact { 1 } else { 200 }, "{traffic:?}: {counts:?}");
        assert_eq!(light + heavy, 4_000);
    }
    let loaded = weighted(&[1, 4], TrafficPolicy::default());
    let _held: Vec<_> = (0..2).map(|_| loaded.members().all[1].begin()).collect();
    assert!(
        counts(&loaded, &Tried::default(), 100)["e01"] > 50,
        "two for a weight of four are few"
    );
}

#[test]
fn turns_by_weight_are_spread() {
    let group = weighted(&[2, 1, 1], in_turn());
    let turns: Vec<String> = (0..8).map(|_| picked(&group, 0).unwrap()).collect();
    assert_eq!(turns, ["e00", "e01", "e02", "e00", "e00", "e01", "e02", "e00"]);
    let large = weighted(&[u32::MAX, 1, u32::MAX], in_turn());
    let turns: Vec<String> = (0..8).map(|_| picked(&large, 0).unwrap()).collect();
    assert!(turns.contains(&"e02".to_owned()), "{turns:?}");
}

#[test]
fn a_hash_leads_to_one_endpoint_and_its_retries_to_others() {
    for traffic in both_tables() {
        let group = group(5, false, true, traffic);
        let mut tried = Tried::default();
        let mut seen = Vec::new();
        for attempt in 0..3 {
            let ask = Ask { hash: Some(77), ..ask(&tried) };
            let first = group.pick(&ask, || Tick(0)).unwrap();
            for draw in 0..9 {
                let again = Ask { draw: Draw(draw), ..ask };
                assert!(Arc::ptr_eq(&first, &group.pick(&again, || Tick(0)).unwrap()), "{attempt}");
            }
            seen.push(first.endpoint.id.to_string());
            tried.push(first, None);
        }
        seen.sort();
        assert_eq!(seen, ["e00", "e02", "e04"], "each of the three that are ready");
        let all_tried = Ask { hash: Some(77), ..ask(&tried) };
        assert!(group.pick(&all_tried, || Tick(0)).is_ok(), "better one again than none");
        let all = counts(&group, &Tried::default(), 3_000);
        assert!(
            all.len() == 3 && all.values().all(|count| *count > 500),
            "without a hash: {all:?}"
        );
    }
}

#[test]
fn keys_of_an_ejected_endpoint_go_to_the_others_and_come_back() {
    for traffic in both_tables() {
        let traffic = TrafficPolicy { balance: traffic.balance, ..outlier(1, 100) };
        let group = group(3, false, false, traffic);
        let none = Tried::default();
        let pick = |hash: u64, now| {
            let ask = Ask { hash: Some(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15)), ..ask(&none) };
            group.pick(&ask, || Tick(now)).unwrap().endpoint.id.clone()
        };
        let before: Vec<_> = (0..300).map(|hash| pick(hash, 0)).collect();
        group.note(&group.members().all[1].clone(), Noted::NoAnswer, || Tick(0));
        let meanwhile: Vec<_> = (0..300).map(|hash| pick(hash, 1)).collect();
        for (before, meanwhile) in before.iter().zip(&meanwhile) {
            assert_ne!(&**meanwhile, "e01");
            assert!(before == meanwhile || &**before == "e01", "the others' keys stay");
        }
        for other in ["e00", "e02"] {
            let moved =
                before.iter().zip(&meanwhile).filter(|(b, m)| &***b == "e01" && &***m == other);
            assert!(moved.count() > 10, "they are shared out");
        }
        assert_eq!(before, (0..300).map(|hash| pick(hash, 40_000)).collect::<Vec<_>>());
    }
}

#[test]
fn whoever_was_tried_is_passed_over_however_an_endpoint_is_chosen() {
    for traffic in [by(Balancer::Random), by(Balancer::LeastRequest), in_turn()] {
        let group = group(3, false, false, traffic);
        let mut tried = Tried::default();
        tried.push(group.members().all[1].clone(), None);
        // Its load does not make it the better choice.
        let _busy: Vec<_> =
            [0, 2].map(|at: usize| group.members().all[at].clone()).map(|m| m.begin()).into();
        let counts = counts(&group, &tried, 300);
        assert!(!counts.contains_key("e01") && counts.len() == 2, "{counts:?}");
    }
}

/// However busy the others are, and however idle the one that has just failed is.
#[test]
fn whoever_was_tried_is_not_asked_again_for_being_idle() {
    for balancer in [Balancer::LeastRequest, Balancer::PeakEwma] {
        let group = group(2, false, false, by(balancer));
        let members = group.members().all.to_vec();
        members[1].state().note_latency(Duration::from_secs(1), Tick(0));
        members[0].state().note_latency(Duration::from_millis(1), Tick(0));
        let _busy = [members[1].begin(), members[1].begin()];
        let mut tried = Tried::default();
        assert_eq!(counts(&group, &tried, 100)["e00"], 100);
        tried.push(members[0].clone(), None);
        assert_eq!(counts(&group, &tried, 100)["e01"], 100);
    }
}

#[test]
fn another_way_to_choose_holds_at_once() {
    let group = group(3, false, false, in_turn());
    let hashed = hashed(HashTable::Maglev { size: 251 });
    let policy = GroupPolicy { traffic: hashed, ..(**group.policy()).clone() };
    let endpoints: Vec<_> = group.members().all.iter().map(|m| m.endpoint.clone()).collect();
    group.set_policy(policy);
    let none = Tried::default();
    let pick = || group.pick(&Ask { hash: Some(1), ..ask(&none) }, || Tick(0)).unwrap();
    assert!(Arc::ptr_eq(&pick(), &pick()), "before the table is made it goes to one, too");
    group.set_members(endpoints.iter());
    assert!(Arc::ptr_eq(&pick(), &pick()));
    let before = group.members().clone();
    group.set_members(endpoints.iter());
    assert!(Arc::ptr_eq(&before, &group.members()), "what has not changed is not made anew");
}

#[test]
fn what_is_passed_through_goes_to_who_was_dialled_or_to_anyone() {
    let group = group(3, false, true, by(Balancer::Passthrough));
    let own = group.members().all[1].clone();
    let (none, dialled) = (Tried::default(), own.address().unwrap());
    for draw in 0..9 {
        let ask = Ask { draw: Draw(draw), ..ask_for(dialled, &none) };
        assert!(Arc::ptr_eq(&group.pick(&ask, || Tick(0)).unwrap(), &own), "ready or not");
    }
    let anyone = counts(&group, &none, 300);
    assert!(anyone.len() == 2 && anyone.values().all(|count| *count > 90), "{anyone:?}");
}

fn warming(by: Balancer, minimum: f64, aggression_thousandths: u32) -> TrafficPolicy {
    let duration = Duration::from_secs(60);
    let warmup = Warmup { duration, minimum: Share::of_percent(minimum), aggression_thousandths };
    let balance = Some(Balance { warmup: Some(warmup), ..Balance::by(by) });
    TrafficPolicy { balance, ..TrafficPolicy::default() }
}

/// How many of 1 000 requests the last of two endpoints gets at a moment.
fn share_of_last(group: &Group, now: u64) -> usize {
    let none = Tried::default();
    let picks = (0..1_000).map(|sequence| {
        let draw = Draw::of(b"id", b"hop", sequence);
        group.pick(&Ask { draw, ..ask(&none) }, || Tick(now)).unwrap()
    });
    let last = group.members().all.last().unwrap().clone();
    picks.filter(|picked| Arc::ptr_eq(picked, &last)).count()
}

#[test]
fn an_endpoint_that_is_new_gets_fewer_requests_and_then_its_share() {
    for by in [Balancer::RoundRobin, Balancer::LeastRequest] {
        let group = group(2, false, false, warming(by.clone(), 10.0, 1000));
        let both: Vec<_> = group.members().all.iter().map(|m| m.endpoint.clone()).collect();
        group.set_members(both[..1].iter());
        assert_eq!(share_of_last(&group, 0), 1_000, "who is alone gets all, however new");
        let warm = 60_000;
        group.set_members(both.iter());
        let shares = [0, 30_000, 60_000].map(|age| share_of_last(&group, warm + age));
        // Of two that were drawn equally, the new one's are given to the other.
        let expected = [50, 250, 500];
        for (share, expected) in shares.iter().zip(expected) {
            assert!(share.abs_diff(expected) < 60, "{by:?}: {shares:?}");
        }
    }
    let random = group(2, false, false, warming(Balancer::Random, 10.0, 1000));
    assert!(share_of_last(&random, 0) > 400, "it has no effect there, as in Istio");
}

#[test]
fn a_retry_goes_to_a_new_endpoint_rather_than_to_one_that_was_tried() {
    for balancer in [Balancer::LeastRequest, Balancer::RoundRobin] {
        let group = group(2, false, false, warming(balancer, 0.0, 1000));
        let mut tried = Tried::default();
        tried.push(group.members().all[0].clone(), None);
        assert_eq!(counts(&group, &tried, 50)["e01"], 50);
    }
}

#[test]
fn a_warm_up_grows_as_it_is_said_to() {
    let after = |minimum, aggression_thousandths, seconds| {
        let duration = Duration::from_secs(100);
        let warmup =
            Warmup { duration, minimum: Share::of_percent(minimum), aggression_thousandths };
        warmup.share_after(Duration::from_secs(seconds)).millionths()
    };
    assert_eq!(after(10.0, 1000, 1), 100_000, "no less than the minimum");
    assert_eq!(after(10.0, 1000, 25), 250_000);
    assert_eq!(after(10.0, 2000, 25), 500_000, "faster at first");
    assert_eq!(after(10.0, 500, 50), 250_000, "slower at first");
    assert_eq!(after(0.0, 0, 50), 0);
    assert_eq!([after(10.0, 1000, 100), after(10.0, 1000, 1_000)], [1_000_000; 2]);
    let none = Warmup { duration: Duration::ZERO, minimum: Share::ALL, aggression_thousandths: 1 };
    let balance = Balance { warmup: Some(none), ..Balance::by(Balancer::RoundRobin) };
    assert_eq!(balance.effective_warmup(), None);
}

#[test]
fn the_endpoint_whose_answers_come_sooner_is_asked() {
    let group = group(2, false, false, by(Balancer::PeakEwma));
    let [fast, slow] = [0, 1].map(|at: usize| group.members().all[at].clone());
    fast.state().note_latency(Duration::from_millis(1), Tick(0));
    slow.state().note_latency(Duration::from_millis(50), Tick(0));
    assert_eq!(counts(&group, &Tried::default(), 100).get("e00"), Some(&100));
    // Until it has so many requests that the other would be sooner all the same.
    let _busy: Vec<_> = (0..60).map(|_| fast.begin()).collect();
    assert_eq!(counts(&group, &Tried::default(), 100).get("e01"), Some(&100));
}

#[test]
fn another_attempt_at_a_name_gets_another_of_its_addresses() {
    let group = group(2, false, false, TrafficPolicy::default());
    let addresses: Vec<IpAddr> = (1..=3).map(|n| [192, 0, 2, n].into()).collect();
    let at = |tried: &Tried, addresses: &[IpAddr]| {
        let member = group.member_named(&"a.test".into(), addresses, &ask(tried))?;
        match member.endpoint.address {
            EndpointAddress::Ip(ip) => Some(ip),
            _ => panic!("{member:?}"),
        }
    };
    let mut tried = Tried::default();
    let mut seen = Vec::new();
    for member in [None, Some(0), Some(1)] {
        if let Some(member) = member {
            tried.push(group.members.load().all[member].clone(), None);
        }
        seen.push(at(&tried, &addresses).unwrap());
    }
    seen.sort();
    assert_eq!(seen, addresses);
    assert_eq!(at(&tried, &[]), None);
}
