//! The ports on which a gateway listens, and the host patterns that are served there.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::Equivalent;
use serde::{Deserialize, Serialize};

use crate::chunk::Chunk;
use crate::name::Name;
use crate::shared_map::SharedMap;

mod server;

pub use server::{
    ClientCertificate, ListenerServer, ServerTls, Termination, TlsVersion, server_for,
};

/// The listeners of one gateway workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listeners {
    /// In order of their ports; one per port.
    pub listeners: Vec<GatewayListener>,
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
    /// The chunks of its domains, in order.
    pub domain_chunks: Vec<Chunk>,
    /// Its servers, the oldest first; of HTTP in plaintext only those that redirect.
    pub servers: Vec<ListenerServer>,
}

impl Listeners {
    /// The listener of a port.
    pub fn at(&self, port: u16) -> Option<&GatewayListener> {
        let at = self.listeners.binary_search_by_key(&port, |listener| listener.port).ok()?;
        self.listeners.get(at)
    }
}

/// What a gateway speaks on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GatewayProtocol {
    /// Plaintext HTTP/1 and HTTP/2.
    Http,
    /// TLS, whose ClientHello tells the server.
    Tls,
    /// Bytes that nobody looks at.
    Tcp,
}

/// A chunk of the patterns of the hosts that have routes on a port of a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domains {
    /// The port.
    pub port: u16,
    /// Which chunk.
    pub chunk: Chunk,
    /// Names, `*` or `*.suffix`, in order, each once.
    pub domains: Vec<Name>,
}

/// All domains of a gateway, for lookup. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct DomainSet {
    names: SharedMap<At, Entry>,
    /// By what follows the `*`.
    wildcards: SharedMap<At, Entry>,
    /// How many wildcards there are on a port with a suffix of a length, the longest first.
    lengths: Arc<BTreeMap<(u16, Reverse<usize>), u32>>,
}

/// A text on a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct At {
    port: u16,
    text: Name,
}

/// The same borrowed; hashes alike.
#[derive(Hash)]
struct Asked<'a> {
    port: u16,
    text: &'a str,
}

impl Equivalent<At> for Asked<'_> {
    fn equivalent(&self, key: &At) -> bool {
        self.port == key.port && *self.text == *key.text
    }
}

/// A pattern, and in how many chunks it stands: two while one of them is on its way out.
#[derive(Clone, Debug)]
struct Entry {
    pattern: Name,
    times: u32,
}

impl DomainSet {
    /// Adds the domains of a chunk.
    pub(crate) fn add(&mut self, chunk: &Domains) {
        for pattern in &chunk.domains {
            let (map, key) = self.place(chunk.port, pattern);
            let times = map.get(&key).map_or(1, |entry| entry.times + 1);
            map.insert(key, Entry { pattern: pattern.clone(), times });
            if times == 1
                && let Some(suffix) = pattern.strip_prefix('*')
            {
                let lengths = Arc::make_mut(&mut self.lengths);
                *lengths.entry((chunk.port, Reverse(suffix.len()))).or_default() += 1;
            }
        }
    }

    /// Takes out those of a chunk that was added.
    pub(crate) fn remove(&mut self, chunk: &Domains) {
        for pattern in &chunk.domains {
            let (map, key) = self.place(chunk.port, pattern);
            let times = map.get(&key).map_or(0, |entry| entry.times.saturating_sub(1));
            if times > 0 {
                map.insert(key, Entry { pattern: pattern.clone(), times });
                continue;
            }
            map.remove(&key);
            let Some(suffix) = pattern.strip_prefix('*') else { continue };
            let length = (chunk.port, Reverse(suffix.len()));
            let lengths = Arc::make_mut(&mut self.lengths);
            match lengths.get_mut(&length) {
                Some(times) if *times > 1 => *times -= 1,
                _ => {
                    lengths.remove(&length);
                }
            }
        }
    }

    fn place(&mut self, port: u16, pattern: &Name) -> (&mut SharedMap<At, Entry>, At) {
        match pattern.strip_prefix('*') {
            Some(suffix) => (&mut self.wildcards, At { port, text: suffix.into() }),
            None => (&mut self.names, At { port, text: pattern.clone() }),
        }
    }

    /// The most specific pattern that covers a host (lower case, without port) on a port: its name,
    /// else the longest suffix.
    ///
    /// A gateway asks for what applies by this pattern, so that it is the configuration and not its
    /// clients that says how much it holds.
    pub(crate) fn find(&self, host: &str, port: u16) -> Option<&Name> {
        if let Some(entry) = self.names.get(&Asked { port, text: host }) {
            return Some(&entry.pattern);
        }
        // A wildcard stands for at least one character.
        let longest = host.len().checked_sub(1)?;
        let lengths = self.lengths.range((port, Reverse(longest))..=(port, Reverse(0)));
        let mut suffixes = lengths.filter_map(|((_, length), _)| host.get(host.len() - length.0..));
        let found = suffixes.find_map(|text| self.wildcards.get(&Asked { port, text }))?;
        Some(&found.pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains(port: u16, patterns: &[&str]) -> Domains {
        let domains = patterns.iter().map(|pattern| Name::from(*pattern)).collect();
        Domains { port, chunk: Chunk::WHOLE, domains }
    }

    #[test]
    fn a_host_is_served_by_its_most_specific_pattern() {
        let mut set = DomainSet::default();
        set.add(&domains(80, &["*", "*.a.com", "*-b.a.com", "x.a.com", "*.x.a.com"]));
        set.add(&domains(8080, &["*.a.com"]));
        for (host, port, domain) in [
            ("x.a.com", 80, Some("x.a.com")),
            ("y.a.com", 80, Some("*.a.com")),
            ("y-b.a.com", 80, Some("*-b.a.com")),
            ("y.x.a.com", 80, Some("*.x.a.com")),
            ("a.com", 80, Some("*")),
            ("*.a.com", 80, Some("*.a.com")),
            ("", 80, None),
            ("\u{e9}.a.com", 80, Some("*.a.com")),
            ("y.a.com", 8080, Some("*.a.com")),
            ("a.com", 8080, None),
            ("y.a.com", 81, None),
        ] {
            assert_eq!(set.find(host, port).map(|d| &**d), domain, "{host}:{port}");
        }
    }

    #[test]
    fn a_domain_that_moves_from_chunk_to_chunk_is_there_all_the_time() {
        let mut set = DomainSet::default();
        let chunk = domains(80, &["x.a.com", "*.b.com"]);
        set.add(&chunk);
        set.add(&chunk);
        set.remove(&chunk);
        assert!(set.find("x.a.com", 80).is_some() && set.find("y.b.com", 80).is_some());
        set.remove(&chunk);
        assert!(set.find("x.a.com", 80).is_none() && set.find("y.b.com", 80).is_none());
        assert!(set.lengths.is_empty());
    }
}
