//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of addresses such as `10.77.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address range such as 10.77.0.0/16")]
pub struct NotANetwork(String);

impl FromStr for Network {
    type Err = NotANetwork;

    /// Parses `ADDRESS/BITS`.
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            let bits = if address.is_ipv4() { 32 } else { 128 };
            (prefix <= bits).then_some(Self { address, prefix })
        });
        parsed.ok_or_else(|| NotANetwork(text.to_owned()))
    }
}

impl Network {
    /// A range, or a single address, as texts of users have it.
    pub fn of_text(text: &str) -> Option<Self> {
        let single = |address: IpAddr| {
            let prefix = if address.is_ipv4() { 32 } else { 128 };
            Self { address, prefix }
        };
        text.parse().ok().or_else(|| text.parse().ok().map(single))
    }

    /// How many bits its addresses have in common.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address is in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        let prefix = u32::from(self.prefix);
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_their_addresses() {
        for (network, ip, contains) in [
            ("10.77.0.0/16", "10.77.3.4", true),
            ("10.77.0.0/16", "10.76.255.255", false),
            ("10.77.0.0/16", "10.77.255.255", true),
            ("10.77.0.0/16", "10.78.0.1", false),
            ("10.77.0.8/31", "10.77.0.9", true),
            ("10.77.0.8/31", "10.77.0.10", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("10.77.0.1/32", "10.77.0.1", true),
            ("10.77.0.1/32", "10.77.0.0", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fc00::1", false),
            ("fd00::/16", "fd01::1", false),
            ("fd00::1/128", "fd00::1", true),
            ("fd00::1/128", "fd00::", false),
            ("::/0", "fd00::1", true),
            ("fd00::/8", "10.77.0.1", false),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(ip.parse().unwrap()), contains, "{network} {ip}");
        }
        for text in ["10.0.0.0/33", "fd00::/129", "10.0.0.0", "x/8", "10.0.0.0/-1", ""] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
