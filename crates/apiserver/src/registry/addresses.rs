//! Addresses and node ports of Services. Pure functions.

use std::net::Ipv4Addr;

use twox_hash::XxHash3_64;

/// A network from which Services get their addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    base: u32,
    size: u32,
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.size.leading_zeros() + 1)
    }
}

/// A text that is no usable network.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("service network {0:?} is not of the form ADDRESS/LENGTH with a length from 8 to 30")]
pub struct NotANetwork(String);

impl std::str::FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let parsed = text.split_once('/').and_then(|(address, length)| {
            let address: Ipv4Addr = address.parse().ok()?;
            let length: u32 = length.parse().ok().filter(|n| (8..=30).contains(n))?;
            let size = 1u32 << (32 - length);
            Some(Self { base: u32::from(address) & !(size - 1), size })
        });
        parsed.ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

impl Network {
    /// Whether a Service can have this address: network and broadcast address are left out.
    pub(crate) fn has(self, address: Ipv4Addr) -> bool {
        (self.base + 1..self.base + (self.size - 1)).contains(&u32::from(address))
    }

    /// The first address, which is that of the API.
    pub(crate) fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// A free address for a Service. It depends on the Service's name as far as others leave it
    /// free, so that one that is deleted and made again has its address back.
    pub(crate) fn free_address(
        self,
        namespace: &str,
        name: &str,
        is_taken: impl Fn(&Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        // Network and broadcast address are left out.
        let count = self.size - 2;
        let start = start_of(namespace, name, count);
        (0..count)
            .map(|step| Ipv4Addr::from(self.base + 1 + (start + step) % count))
            .find(|address| !is_taken(address))
    }
}

/// A free node port for a port of a Service; none if all are taken.
pub(crate) fn free_node_port(
    namespace: &str,
    name: &str,
    port: i64,
    is_free: impl Fn(i64) -> bool,
) -> Option<i64> {
    let count = NODE_PORTS.end() - NODE_PORTS.start() + 1;
    let start = i64::from(start_of(namespace, &format!("{name}:{port}"), 1 << 31)) % count;
    (0..count).map(|step| NODE_PORTS.start() + (start + step) % count).find(|port| is_free(*port))
}

fn start_of(namespace: &str, name: &str, count: u32) -> u32 {
    let hash = XxHash3_64::oneshot(format!("{namespace}/{name}").as_bytes());
    (hash % u64::from(count)) as u32
}

/// As Kubernetes' default `--service-node-port-range`.
pub(crate) const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_are_stable_unlike_and_inside() {
        let network: Network = "10.96.0.0/29".parse().unwrap();
        let mut taken = BTreeSet::new();
        for name in ["a", "b", "c", "d", "e", "f"] {
            let address = network.free_address("default", name, |a| taken.contains(a)).unwrap();
            assert_eq!(network.free_address("default", name, |a| taken.contains(a)), Some(address));
            assert!((1..=6).contains(&(u32::from(address) & 7)), "{address}");
            assert!(taken.insert(address));
        }
        assert_eq!(network.free_address("default", "g", |a| taken.contains(a)), None);
        assert_eq!(network.to_string(), "10.96.0.0/29");
        let has = |last| network.has(Ipv4Addr::new(10, 96, 0, last));
        assert!(has(1) && has(6) && !has(0) && !has(7) && !has(8));
        assert!("10.96.0.0".parse::<Network>().is_err());
        assert!("10.96.0.0/32".parse::<Network>().is_err());
    }
}
