//! The ports on which a gateway listens, and the host patterns that are served there.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::host::suffixes;
use crate::name::Name;

/// The listeners of one gateway workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// In order of their ports; one per port.
    pub listeners: Vec<GatewayListener>,
}

impl Listeners {
    /// The pattern that serves a host (lower case, without port) on a port; `None` if none does.
    ///
    /// A gateway asks for what applies by this pattern, so that it is the configuration and not its
    /// clients that says how much it holds.
    pub fn domain(&self, host: &str, port: u16) -> Option<&Name> {
        let at = self.listeners.binary_search_by_key(&port, |listener| listener.port).ok()?;
        self.listeners[at].domain(host)
    }
}

/// One port of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayListener {
    /// Port number, as the `Gateway` says.
    pub port: u16,
    /// Name that the first server on this port gives it.
    pub name: Name,
    /// What is spoken on it.
    pub protocol: GatewayProtocol,
    /// Patterns of the hosts that have routes here (names, `*` or `*.suffix`), in order, each once.
    pub domains: Vec<Name>,
}

impl GatewayListener {
    /// The most specific pattern that covers a host: its name, else the longest suffix.
    fn domain(&self, host: &str) -> Option<&Name> {
        let named = self.domains.binary_search_by(|domain| (**domain).cmp(host));
        let found = named.ok().or_else(|| {
            suffixes(host)
                .find_map(|suffix| self.domains.binary_search_by(|d| wildcard_cmp(d, suffix)).ok())
        });
        found.map(|at| &self.domains[at])
    }
}

/// How a pattern compares with `*` and a suffix.
fn wildcard_cmp(pattern: &str, suffix: &str) -> Ordering {
    pattern.bytes().cmp(std::iter::once(b'*').chain(suffix.bytes()))
}

/// What a gateway speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayProtocol {
    /// Plaintext HTTP/1 and HTTP/2.
    Http,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_served_by_its_most_specific_pattern() {
        let mut domains: Vec<Name> = ["*", "*.a.com", "*-b.a.com", "x.a.com", "*.x.a.com"]
            .into_iter()
            .map(Name::from)
            .collect();
        domains.sort();
        let listener = |port, domains| GatewayListener {
            port,
            name: "http".into(),
            protocol: GatewayProtocol::Http,
            domains,
        };
        let listeners = Listeners {
            listeners: vec![listener(80, domains), listener(8080, vec!["*.a.com".into()])],
        };
        for (host, port, domain) in [
            ("x.a.com", 80, Some("x.a.com")),
            ("y.a.com", 80, Some("*.a.com")),
            ("y-b.a.com", 80, Some("*-b.a.com")),
            ("y.x.a.com", 80, Some("*.x.a.com")),
            ("a.com", 80, Some("*")),
            ("*.a.com", 80, Some("*.a.com")),
            ("", 80, None),
            ("y.a.com", 8080, Some("*.a.com")),
            ("a.com", 8080, None),
            ("y.a.com", 81, None),
        ] {
            assert_eq!(listeners.domain(host, port).map(|d| &**d), domain, "{host}:{port}");
        }
    }
}
