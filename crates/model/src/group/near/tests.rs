//! Tests of which endpoints get requests for being near.

use std::collections::BTreeMap;

use super::*;
use crate::group::tests::{group_of, in_turn};
use crate::group::{Group, Noted, Tried};
use crate::policy::{
    Distribute, Failover, HashBalance, HashKey, HashTable, OutlierDetection, TrafficPolicy,
};
use crate::retry::Retry;
use crate::service::Endpoint;
use crate::test_world::{service, workload};
use crate::{Draw, Name};

/// Endpoints are `ID LOCALITY`, with `!` behind those that are not ready, and labels behind that.
fn near(
    endpoints: &[&str],
    caller: (&str, &[(&str, &str)]),
    rule: LocalityBalance,
    traffic: TrafficPolicy,
) -> Arc<Group> {
    near_if(endpoints, caller, rule, traffic, false)
}

fn near_if(
    endpoints: &[&str],
    (locality, labels): (&str, &[(&str, &str)]),
    rule: LocalityBalance,
    traffic: TrafficPolicy,
    counts_unready: bool,
) -> Arc<Group> {
    let words: Vec<Vec<&str>> = endpoints.iter().map(|text| text.split(' ').collect()).collect();
    let given: Vec<(&str, &str, bool)> =
        words.iter().map(|words| (words[0], "v1", !words[1].ends_with('!'))).collect();
    let mut source = service("default", "app", 1, 9080, &given);
    for (endpoint, words) in source.endpoints.iter_mut().zip(&words) {
        endpoint.locality = words[1].trim_end_matches('!').into();
        let labels = words[2..].iter().filter_map(|pair| pair.split_once('='));
        let labels = labels.map(|(name, value)| (name.into(), value.into()));
        endpoint.labels.0.extend(labels.collect::<Vec<(Name, Name)>>());
    }
    let (_, mut caller) = workload("default", "caller", [10, 77, 0, 9], labels);
    caller.locality = locality.into();
    let preference = Preference { rule: rule.into(), counts_unready };
    let near = Nearness { preference, caller: caller.into() };
    let endpoints: Vec<Arc<Endpoint>> = source.endpoints.into_iter().map(Arc::new).collect();
    group_of(source.service, &endpoints, traffic, Some(near))
}

fn ejecting(min_health_percent: u8) -> TrafficPolicy {
    let outlier = OutlierDetection {
        consecutive_5xx: 1,
        max_ejection_percent: 100,
        min_health_percent,
        ..OutlierDetection::default()
    };
    TrafficPolicy { outlier: Some(outlier), ..in_turn() }
}

fn of(draw: u64, tried: &Tried) -> Ask<'_> {
    let dialled = "10.96.0.1:9080".parse().unwrap();
    Ask { dialled, tried, draw: Draw(draw), hash: None }
}

/// How many of a thousand requests each endpoint gets at a tick.
fn counts(group: &Group, now: u64) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let none = Tried::default();
    for draw in 0..1000 {
        if let Ok(member) = group.pick(&of(draw, &none), || Tick(now)) {
            *counts.entry(member.endpoint.id.to_string()).or_default() += 1;
        }
    }
    counts
}

fn all(group: &Group, now: u64) -> Vec<String> {
    counts(group, now).into_keys().collect()
}

fn eject(group: &Group, id: &str, now: u64) {
    let members = group.members();
    let member = members.all.iter().find(|member| &*member.endpoint.id == id).unwrap();
    group.note(member, Noted::ServerError, || Tick(now));
}

const PLACES: [&str; 5] = ["a eu/a/1", "b eu/a/2", "c eu/b/1", "d us/a/1", "e asia/a/1"];

#[test]
fn the_nearest_get_all_requests_until_they_fail_and_get_them_back() {
    let caller = ("eu/a/1", &[][..]);
    let group = near(&PLACES, caller, LocalityBalance::default(), ejecting(0));
    let mut seen = Vec::new();
    for id in ["a", "b", "c"] {
        assert_eq!(all(&group, 1), [id]);
        let members = group.members();
        let rank =
            |id: &str| members.rank(members.all.iter().find(|m| &*m.endpoint.id == id).unwrap());
        assert_eq!(
            (rank("a"), rank("b"), rank("d"), rank("e")),
            (Some(0), Some(1), Some(3), Some(3))
        );
        seen.push(id);
        eject(&group, id, 1);
    }
    assert_eq!(all(&group, 1), ["d", "e"], "regions elsewhere are alike");
    assert_eq!(all(&group, 3_600_000), ["a"], "ejections lapse");
    eject(&group, "d", 1);
    eject(&group, "e", 1);
    assert_eq!(all(&group, 1), [""; 0], "nobody is left");
}

#[test]
fn a_region_stands_in_for_another() {
    let failover = vec![
        Failover { from: "us".into(), to: "eu".into() },
        Failover { from: "eu".into(), to: "asia".into() },
    ];
    let rule = LocalityBalance { failover, ..LocalityBalance::default() };
    let group = near(&PLACES, ("eu/a/1", &[]), rule, ejecting(0));
    for id in ["a", "b", "c"] {
        eject(&group, id, 1);
    }
    assert_eq!(all(&group, 1), ["e"]);
}

#[test]
fn labels_are_compared_in_order_and_another_network_comes_last() {
    let endpoints = [
        "a x/x v=1 w=1",
        "b x/x v=1 w=2",
        "c x/x v=2 w=1",
        "d x/x v=1 w=1 topology.istio.io/network=other",
    ];
    let labels = [("v", "1"), ("w", "1")];
    let by = |names: &[&str]| LocalityBalance {
        failover_priority: names.iter().map(|name| Name::from(*name)).collect(),
        ..LocalityBalance::default()
    };
    let order = |names: &[&str]| {
        let group = near(&endpoints, ("", &labels), by(names), ejecting(0));
        let mut order = Vec::new();
        loop {
            let all = all(&group, 1);
            if all.is_empty() {
                return order.join(" ");
            }
            all.iter().for_each(|id| eject(&group, id, 1));
            order.push(all.concat());
        }
    };
    assert_eq!(order(&["v", "w"]), "ad b c");
    assert_eq!(order(&["w", "v"]), "ad c b");
    assert_eq!(order(&["w=2", "v"]), "b acd");
    assert_eq!(order(&["topology.istio.io/network", "v", "w"]), "a b c d");
    assert_eq!(order(&["nobody-has-it"]), "abcd");
}

/// As in Istio localities order those that have the same labels.
#[test]
fn labels_count_before_localities() {
    let endpoints = ["a eu/a v=2", "b us/a v=1", "c asia/a v=1", "d us/a v=2"];
    let rule = LocalityBalance {
        failover: vec![Failover { from: "eu".into(), to: "us".into() }],
        failover_priority: vec!["v".into()],
        ..LocalityBalance::default()
    };
    let group = near(&endpoints, ("eu/a", &[("v", "1")]), rule, ejecting(0));
    for id in ["b", "c", "a", "d"] {
        assert_eq!(all(&group, 1), [id]);
        eject(&group, id, 1);
    }
}

/// Envoy's load per priority: 1.4 times the part that is well, and the rest goes on.
#[test]
fn requests_spill_over_as_far_as_the_nearest_are_not_well() {
    let endpoints = ["a eu/a", "b eu/a", "c eu/a", "d eu/a", "e us/a"];
    let group = near(&endpoints, ("eu/a", &[]), LocalityBalance::default(), ejecting(0));
    eject(&group, "a", 1);
    assert_eq!(all(&group, 1), ["b", "c", "d"], "three of four are enough");
    eject(&group, "b", 1);
    let far = counts(&group, 1)["e"];
    assert!((250..350).contains(&far), "half of them can do 70 %: {far}");
}

#[test]
fn unready_endpoints_count_where_the_service_says_what_is_near() {
    let endpoints = ["a eu/a", "b eu/a!", "c eu/a!", "d eu/a!", "e us/a"];
    let rule = || LocalityBalance {
        failover_priority: vec!["topology.kubernetes.io/region".into()],
        ..LocalityBalance::default()
    };
    let by = |counts| near_if(&endpoints, ("eu/a", &[]), rule(), in_turn(), counts);
    let far = counts(&by(true), 0)["e"];
    assert!((600..700).contains(&far), "one of four can do 35 %: {far}");
    assert_eq!(all(&by(false), 0), ["a"]);
}

#[test]
fn too_few_healthy_ones_count_as_well_as_all() {
    let endpoints = ["a eu/a", "b eu/a", "c us/a", "d us/a"];
    let group = near(&endpoints, ("eu/a", &[]), LocalityBalance::default(), ejecting(60));
    eject(&group, "a", 1);
    assert_eq!(all(&group, 1), ["b", "c", "d"], "the regions have enough for all together");
    eject(&group, "c", 1);
    eject(&group, "d", 1);
    assert_eq!(all(&group, 1), ["a", "b", "c", "d"], "now there are too few everywhere");
}

fn shares(to: &[(&str, u32)]) -> LocalityBalance {
    let to = to.iter().map(|(name, share)| (Name::from(*name), *share)).collect();
    let other = Distribute { from: "us/*".into(), to: [("asia".into(), 100)].into() };
    let rule = Distribute { from: "eu/a/*".into(), to };
    LocalityBalance { distribute: vec![other, rule], ..LocalityBalance::default() }
}

#[test]
fn shares_are_kept_and_others_get_nothing() {
    let rule = || shares(&[("eu/a/*", 70), ("us/*", 30)]);
    let group = near(&PLACES, ("eu/a/1", &[]), rule(), in_turn());
    let counts = counts(&group, 0);
    assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "b", "d"]);
    // Within four times the standard deviation of a share of a thousand.
    assert!((242..358).contains(&counts["d"]), "{counts:?}");
    assert!((290..410).contains(&counts["a"]), "{counts:?}");
    let elsewhere = near(&PLACES, ("asia/a/1", &[]), rule(), in_turn());
    assert_eq!(all(&elsewhere, 0).len(), 5, "no rule is about its callers");
}

/// Turns within a locality are strict, whatever others get in between.
#[test]
fn turns_are_strict_in_each_locality() {
    let endpoints = ["a eu/a", "b eu/a", "c eu/a", "d us/a", "e us/a"];
    let group = near(&endpoints, ("eu/a", &[]), shares(&[("eu/a", 50), ("us/a", 50)]), in_turn());
    let none = Tried::default();
    let picks = (0..200).map(|draw| group.pick(&of(draw, &none), || Tick(0)).unwrap());
    let ids: Vec<String> = picks.map(|member| member.endpoint.id.to_string()).collect();
    let of_eu: Vec<&String> = ids.iter().filter(|id| ["a", "b", "c"].contains(&&***id)).collect();
    assert!(of_eu.windows(4).all(|turn| turn[0] == turn[3] && turn[0] != turn[1]), "{ids:?}");
}

#[test]
fn a_locality_that_fails_gives_its_share_away() {
    let group =
        near(&PLACES, ("eu/a/1", &[]), shares(&[("eu/a/*", 70), ("us/*", 30)]), ejecting(0));
    eject(&group, "d", 1);
    assert_eq!(all(&group, 1), ["a", "b"]);
}

#[test]
fn a_hash_keeps_its_endpoint_and_shares_hold_for_all_hashes() {
    let table = HashTable::Maglev { size: HashTable::MAGLEV_SIZE };
    let by = Balancer::Hash(Box::new(HashBalance { key: HashKey::SourceIp, table }));
    let traffic = TrafficPolicy { balance: Some(Balance::by(by)), ..TrafficPolicy::default() };
    let rule = shares(&[("eu/a/*", 70), ("us/*", 30)]);
    let group = near(&PLACES, ("eu/a/1", &[]), rule, traffic);
    let none = Tried::default();
    let mut far = 0;
    for hash in (0..1000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
        let ask = |draw| Ask { hash: Some(hash), ..of(draw, &none) };
        let one = group.pick(&ask(1), || Tick(0)).unwrap();
        let again = group.pick(&ask(2), || Tick(0)).unwrap();
        assert_eq!(one.endpoint.id, again.endpoint.id);
        far += u64::from(&*one.endpoint.id == "d");
    }
    assert!((242..358).contains(&far), "{far}");
}

#[test]
fn zones_keep_their_own_requests_as_far_as_they_have_endpoints() {
    let zone_aware = |endpoints_min| LocalityBalance {
        zone_aware: Some(ZoneAware { endpoints_min }),
        ..LocalityBalance::default()
    };
    let even = ["a eu/a", "b eu/a", "c eu/b", "d eu/b", "e us/a"];
    let of_zones = |places: &[&str], caller, least| {
        counts(&near(places, (caller, &[]), zone_aware(least), in_turn()), 0)
    };
    let own = of_zones(&even, "eu/a", 2);
    assert_eq!(own.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(of_zones(&even, "eu/a", 6).len(), 4, "too few for zones to matter");
    assert_eq!(of_zones(&even, "eu/c", 2).len(), 4, "none is in the caller's zone");
    // One of four is half of what the zone's callers need.
    let few = ["a eu/a", "b eu/b", "c eu/b", "d eu/b", "e us/a"];
    let counts = of_zones(&few, "eu/a", 2);
    assert!((430..570).contains(&counts["a"]), "{counts:?}");
    assert_eq!(counts.len(), 4);
    assert_eq!(of_zones(&few, "eu/b", 2).len(), 3);
}

#[test]
fn a_retry_goes_to_another_place_rather_than_to_the_same_endpoint() {
    let group = near(&PLACES, ("eu/a/1", &[]), LocalityBalance::default(), ejecting(0));
    let mut tried = Tried::default();
    let mut seen = Vec::new();
    for draw in 0..5 {
        let member = group.pick(&of(draw, &tried), || Tick(1)).unwrap();
        seen.push(member.endpoint.id.to_string());
        tried.push(member, None);
    }
    seen.sort();
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    let again = group.pick(&of(9, &tried), || Tick(1)).unwrap();
    assert_eq!(&*again.endpoint.id, "a", "all were tried, and the nearest is as good as any");
}

#[test]
fn with_each_second_attempt_localities_are_left() {
    let endpoints = ["a eu/a", "b eu/a", "c eu/a", "d eu/a", "e us/a"];
    let group = near(&endpoints, ("eu/a", &[]), LocalityBalance::default(), ejecting(0));
    let third = |leaves_localities, avoids_tried| {
        let mut tried = Tried::default();
        for draw in 0..2 {
            let member = group.pick(&of(draw, &tried), || Tick(1)).unwrap();
            assert_eq!(&*member.endpoint.locality, "eu/a");
            let retry = Retry { leaves_localities, avoids_tried, ..Retry::default() };
            tried.push(member, Some(&retry));
        }
        let member = group.pick(&of(3, &tried), || Tick(1)).unwrap();
        member.endpoint.locality.to_string()
    };
    assert_eq!(third(true, true), "us/a");
    assert_eq!(third(true, false), "us/a");
    assert_eq!(third(false, true), "eu/a");
}
