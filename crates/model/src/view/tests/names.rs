//! Endpoints that are names.

use super::*;
use crate::service::{Discovery, EndpointAddress};

/// `reviews` with endpoints that are these names.
fn named(names: &[&str], discovery: Discovery) -> Objects {
    let endpoints: Vec<(&str, &str, bool)> = names.iter().map(|name| (*name, "v1", true)).collect();
    let mut objects = reviews(&endpoints);
    objects.services[0].service.discovery = discovery;
    for endpoint in &mut objects.services[0].endpoints {
        endpoint.address = EndpointAddress::Dns(endpoint.id.clone());
    }
    objects
}

fn addresses(group: &Group) -> Vec<String> {
    let members = group.members();
    members.all.iter().filter_map(|m| m.address()).map(|a| a.ip().to_string()).collect()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_name_is_all_the_addresses_for_which_it_stands_at_the_moment() {
    let mut proxy =
        Proxy::sidecar(named(&["a.test", "b.test"], Discovery::Endpoints), "default", &[]);
    let group = group(&proxy.get("reviews", "/"));
    let mut names: Vec<String> = proxy.view.names().map(ToString::to_string).collect();
    names.sort();
    assert_eq!(names, ["a.test", "b.test"]);
    assert!(group.is_unresolved() && addresses(&group).is_empty());
    let answer =
        |view: &View, name: &str, texts: &[&str]| view.with_answer(&name.into(), Some(&ips(texts)));
    let first = answer(&proxy.view, "a.test", &["192.0.2.2", "192.0.2.1"]);
    assert!(group.is_unresolved());
    assert_eq!(addresses(&group), ["192.0.2.1", "192.0.2.2"]);
    let second = answer(&first, "b.test", &[]);
    assert!(!group.is_unresolved());
    assert_ne!(first.endpoint_changes(), second.endpoint_changes());
    // An address that stays keeps what is known of it; one that is gone gets nothing.
    let kept = group.members().all[1].clone();
    let third = answer(&second, "a.test", &["192.0.2.2", "192.0.2.3"]);
    assert_eq!(addresses(&group), ["192.0.2.2", "192.0.2.3"]);
    assert!(std::ptr::eq(kept.state(), group.members().all[0].state()));
    assert_eq!(third.answer("a.test").map(<[_]>::len), Some(2));
    // What nobody has for an endpoint any more changes nothing.
    let other = answer(&third, "other.test", &["192.0.2.9"]);
    assert_eq!(addresses(&group), ["192.0.2.2", "192.0.2.3"]);
    proxy.view = other.with_answer(&"other.test".into(), None);
    // An endpoint goes, and its name with it.
    proxy.replace(named(&["b.test"], Discovery::Endpoints));
    assert_eq!(proxy.view.names().count(), 1);
    assert_eq!((addresses(&group).len(), group.is_unresolved()), (0, false));
}

#[test]
fn round_robin_by_dns_takes_the_first_address_of_the_answer() {
    let mut proxy = Proxy::sidecar(named(&["a.test"], Discovery::FirstAddress), "default", &[]);
    let group = group(&proxy.get("reviews", "/"));
    for order in [["192.0.2.9", "192.0.2.1"], ["192.0.2.1", "192.0.2.9"]] {
        proxy.view = proxy.view.with_answer(&"a.test".into(), Some(&ips(&order)));
        assert_eq!(addresses(&group), order[..1]);
    }
}
