//! What a request is known by, where a hash of that chooses its endpoint.

use super::*;
use crate::decide::Hashed;
use crate::policy::{Balance, Balancer, HashBalance, HashCookie, HashKey, HashTable};

/// What is known of a request with these headers, of which each destination asks as its subset says.
fn hashed(
    keys: [HashKey; 2],
    backends: &[(&str, &str, u32)],
    headers: &[(&str, &str)],
) -> Option<Hashed> {
    let mut objects = mesh(vec![rule(Vec::new(), backends)]);
    let subsets = &mut objects.destination_policies[0].policy.subsets;
    for (subset, key) in subsets.iter_mut().zip(keys) {
        let by =
            Balancer::Hash(Box::new(HashBalance { key, table: HashTable::Maglev { size: 7 } }));
        subset.traffic.balance = Some(Balance::by(by));
    }
    let mut proxy = Proxy::sidecar(objects, "default", &[]);
    let decision = proxy.get_with("app", "/", headers);
    let sent = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let headers: Vec<(String, String)> = headers.iter().map(sent).collect();
    let (client, dialled) = ("10.0.0.1:1".parse().unwrap(), "10.96.0.1:9080".parse().unwrap());
    decision.hashed(&request(&headers, "app", "/"), client, dialled)
}

fn header(name: &str) -> HashKey {
    HashKey::Header(name.into())
}

fn cookie(name: &str, ttl: Option<u64>) -> HashKey {
    let (ttl, path) = (ttl.map(Duration::from_secs), Name::from(""));
    HashKey::Cookie(HashCookie { name: name.into(), path, ttl, attributes: Vec::new() })
}

const BOTH: &[(&str, &str, u32)] = &[(APP, "v1", 1), (APP, "v2", 1)];

/// As Envoy mixes hashes, of which the order counts.
#[test]
fn all_that_destinations_ask_for_counts_in_its_order() {
    let of = |headers: &[(&str, &str)]| hashed([header("a"), header("b")], BOTH, headers);
    let hash = |headers: &[(&str, &str)]| of(headers).unwrap().hash;
    let (x, y) = (hash(&[("a", "x")]), hash(&[("b", "y")]));
    assert_eq!(x, twox_hash::XxHash64::oneshot(0, b"x"));
    assert_eq!(hash(&[("a", "x"), ("b", "y")]), x.rotate_left(1) ^ y);
    assert_ne!(hash(&[("a", "x"), ("b", "y")]), hash(&[("a", "y"), ("b", "x")]));
    assert_ne!(hash(&[("a", "x"), ("b", "x")]), 0, "equal values do not cancel each other out");
    assert_eq!(of(&[]), None, "nothing is known of it");
}

#[test]
fn what_a_destination_without_requests_asks_for_does_not_count() {
    let keys = || [header("a"), header("b")];
    let off: &[(&str, &str, u32)] = &[(APP, "v1", 1), (APP, "v2", 0)];
    let both = [("a", "x"), ("b", "y")];
    assert_eq!(hashed(keys(), off, &both), hashed(keys(), BOTH, &both[..1]));
    assert_eq!(hashed(keys(), off, &both[1..]), None);
    let only: &[(&str, &str, u32)] = &[(APP, "v2", 0)];
    assert!(hashed(keys(), only, &both[1..]).is_some(), "an only one has all requests");
}

#[test]
fn cookies_are_made_where_they_are_to_live_for_some_time() {
    let of = |keys, headers: &[(&str, &str)]| hashed(keys, BOTH, headers);
    let passive = || [cookie("a", None), cookie("b", None)];
    assert_eq!(of(passive(), &[]), None, "an endpoint is drawn");
    assert!(of(passive(), &[("cookie", "b=1")]).unwrap().set_cookies.is_empty());
    let made = |hashed: Option<Hashed>| {
        let cookies = hashed.unwrap().set_cookies;
        let names = cookies.iter().filter_map(|cookie| cookie.split_once('='));
        names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    };
    let active = || [cookie("a", Some(60)), cookie("b", Some(0))];
    assert_eq!(made(of(active(), &[])), ["a", "b"], "each that it has not yet");
    assert_eq!(made(of(active(), &[("cookie", "a=1")])), ["b"]);
    assert_eq!(made(of(active(), &[("cookie", "b=1")])), ["a"]);
    assert_eq!(made(of(active(), &[("cookie", "a=1; b=1")])), [""; 0]);
}
