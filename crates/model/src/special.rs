//! Addresses that stand for no host of the network: nothing that a user writes may lead there.

use std::net::{IpAddr, Ipv4Addr};

/// What an address is, if it is not that of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `0.0.0.0/8` and `::`: this host. Connecting to `0.0.0.0` reaches the loopback.
    Unspecified,
    /// `127.0.0.0/8` and `::1`.
    Loopback,
    /// `169.254.0.0/16` and `fe80::/10`: also where clouds have the credentials of a machine.
    LinkLocal,
    /// `224.0.0.0/24`, `ff02::/16`.
    LinkLocalMulticast,
    /// Other addresses of `224.0.0.0/4` and `ff00::/8`.
    Multicast,
    /// `255.255.255.255`.
    Broadcast,
}

impl Special {
    /// What an address is; none: that of a host. An IPv4 address in the clothes of IPv6
    /// (`::ffff:127.0.0.1`) is what it is as IPv4.
    pub fn of(ip: IpAddr) -> Option<Self> {
        match ip.to_canonical() {
            IpAddr::V4(ip) if ip.octets()[0] == 0 => Some(Self::Unspecified),
            IpAddr::V4(Ipv4Addr::BROADCAST) => Some(Self::Broadcast),
            IpAddr::V4(ip) if ip.is_link_local() => Some(Self::LinkLocal),
            IpAddr::V4(ip) if ip.is_multicast() => match ip.octets() {
                [224, 0, 0, _] => Some(Self::LinkLocalMulticast),
                _ => Some(Self::Multicast),
            },
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(Self::LinkLocal),
            IpAddr::V6(ip) if ip.is_multicast() => match ip.segments()[0] & 0xf {
                2 => Some(Self::LinkLocalMulticast),
                _ => Some(Self::Multicast),
            },
            ip if ip.is_unspecified() => Some(Self::Unspecified),
            ip if ip.is_loopback() => Some(Self::Loopback),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host() {
        for (ip, special) in [
            ("0.0.0.0", Some(Special::Unspecified)),
            ("0.1.2.3", Some(Special::Unspecified)),
            ("::", Some(Special::Unspecified)),
            ("127.0.0.1", Some(Special::Loopback)),
            ("127.255.0.1", Some(Special::Loopback)),
            ("::1", Some(Special::Loopback)),
            ("::ffff:127.0.0.1", Some(Special::Loopback)),
            ("::ffff:0.0.0.0", Some(Special::Unspecified)),
            ("169.254.169.254", Some(Special::LinkLocal)),
            ("::ffff:169.254.169.254", Some(Special::LinkLocal)),
            ("fe80::1", Some(Special::LinkLocal)),
            ("febf::1", Some(Special::LinkLocal)),
            ("224.0.0.1", Some(Special::LinkLocalMulticast)),
            ("239.1.2.3", Some(Special::Multicast)),
            ("ff02::1", Some(Special::LinkLocalMulticast)),
            ("ff0e::1", Some(Special::Multicast)),
            ("255.255.255.255", Some(Special::Broadcast)),
            ("10.77.0.2", None),
            ("192.0.2.1", None),
            ("128.0.0.1", None),
            ("2001:db8::1", None),
            ("fec0::1", None),
        ] {
            assert_eq!(Special::of(ip.parse().unwrap()), special, "{ip}");
        }
    }
}
