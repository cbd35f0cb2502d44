//! Host names and wildcards: which names a pattern covers, and which of two is more specific.
//!
//! A pattern is a name, `*`, or `*` and a suffix (`*.example.com`, but also `*-shadow`), as
//! Envoy's virtual host domains are. A wildcard stands for at least one character.

use std::net::IpAddr;

use crate::name::Name;

/// Domain under which Kubernetes names its services.
pub(crate) const CLUSTER_DOMAIN: &str = "cluster.local";

/// Whether `host` (a name, no pattern) is one of `pattern`.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => pattern == host,
    }
}

/// Whether `host`, in letters of any case, is one of `pattern`, which is in lower case.
pub(crate) fn covers_any_case(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => {
            let start = host.len().checked_sub(suffix.len()).filter(|start| *start > 0);
            start.is_some_and(|at| host.as_bytes()[at..].eq_ignore_ascii_case(suffix.as_bytes()))
        }
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// The hosts that both patterns cover, as a pattern; `None` if there are none.
pub fn intersection<'a>(a: &'a str, b: &'a str) -> Option<&'a str> {
    match (a.strip_prefix('*'), b.strip_prefix('*')) {
        (Some(x), Some(y)) if x.ends_with(y) => Some(a),
        (Some(x), Some(y)) if y.ends_with(x) => Some(b),
        (Some(_), Some(_)) => None,
        (None, _) => covers(b, a).then_some(a),
        (_, None) => covers(a, b).then_some(b),
    }
}

/// Every wildcard that covers `host`, the most specific first, without their leading `*`.
pub(crate) fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    host.char_indices().skip(1).map(|(at, _)| &host[at..]).chain((!host.is_empty()).then_some(""))
}

/// The fully qualified names that `host` may stand for when a workload of `namespace` uses it, in
/// the order in which they are tried: as it is, then as the search list of a pod completes it.
pub(crate) fn candidates(host: &str, namespace: &str) -> Vec<Name> {
    if host.parse::<IpAddr>().is_ok() {
        return vec![host.into()];
    }
    let completed = match host.split('.').count() {
        1 => Some(format!("{host}.{namespace}.svc.{CLUSTER_DOMAIN}")),
        2 => Some(format!("{host}.svc.{CLUSTER_DOMAIN}")),
        3 if host.ends_with(".svc") => Some(format!("{host}.{CLUSTER_DOMAIN}")),
        _ => None,
    };
    completed.map(Name::from).into_iter().chain([host.into()]).collect()
}

/// A service as meshes name it to one another in the ClientHello: `outbound_.PORT_.SUBSET_.HOST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MeshName<'a> {
    /// The port of the service.
    pub port: u16,
    /// The subset; empty if none.
    pub subset: &'a str,
    /// The host.
    pub host: &'a str,
}

impl<'a> MeshName<'a> {
    /// Reads such a name; `None`: it is another.
    pub(crate) fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.strip_prefix("outbound_.")?.splitn(3, "_.");
        let port = parts.next()?.parse().ok()?;
        let (subset, host) = (parts.next()?, parts.next()?);
        (!host.is_empty()).then_some(Self { port, subset, host })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_what_envoys_do() {
        for (pattern, host, covered) in [
            ("*", "a", true),
            ("*", "", false),
            ("*.a.com", "b.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.a.com", ".a.com", false),
            ("*-shadow", "v2-shadow", true),
            ("*-shadow", "-shadow", false),
            ("a.com", "a.com", true),
            ("a.com", "b.a.com", false),
        ] {
            assert_eq!(covers(pattern, host), covered, "{pattern} {host}");
            for host in [host, &host.to_ascii_uppercase()] {
                assert_eq!(covers_any_case(pattern, host), covered, "{pattern} {host}");
            }
            let by_lookup = pattern
                .strip_prefix('*')
                .map_or(pattern == host, |suffix| suffixes(host).any(|s| s == suffix));
            assert_eq!(by_lookup, covered, "lookup of {pattern} for {host}");
        }
    }

    #[test]
    fn suffixes_go_from_long_to_short() {
        assert_eq!(suffixes("a.b").collect::<Vec<_>>(), [".b", "b", ""]);
    }

    #[test]
    fn intersections_are_the_narrower_pattern() {
        for (a, b, both) in [
            ("*", "*.a.com", Some("*.a.com")),
            ("*.a.com", "b.a.com", Some("b.a.com")),
            ("*.a.com", "*.b.com", None),
            ("a.com", "a.com", Some("a.com")),
            ("a.com", "b.com", None),
            ("*", "*", Some("*")),
        ] {
            assert_eq!(intersection(a, b), both);
            assert_eq!(intersection(b, a), both);
        }
    }

    #[test]
    fn every_form_of_a_service_name_leads_to_it() {
        let full = "reviews.default.svc.cluster.local";
        for form in ["reviews", "reviews.default", "reviews.default.svc", full] {
            assert!(candidates(form, "default").iter().any(|c| &**c == full), "{form}");
        }
        assert_eq!(candidates("10.96.0.1", "default").len(), 1);
    }

    #[test]
    fn services_are_named_from_mesh_to_mesh() {
        let to = MeshName { port: 80, subset: "v1", host: "web.shop.svc.cluster.local" };
        let name = "outbound_.80_.v1_.web.shop.svc.cluster.local";
        assert_eq!(MeshName::parse(name), Some(to));
        let whole = "outbound_.80_._.web.shop.svc.cluster.local";
        assert_eq!(MeshName::parse(whole), Some(MeshName { subset: "", ..to }));
        for other in
            ["web.shop", "outbound_.80_._.", "outbound_.99999_._.web", "outbound_.80_.web", ""]
        {
            assert_eq!(MeshName::parse(other), None, "{other}");
        }
    }
}
