//! The addresses and ports of a mesh. Those of pods are given out in order, so that one that was just given
//! back is not used soon.

use std::cell::RefCell;
use std::collections::HashSet;
use std::net::Ipv4Addr;

use ironmesh_capture::{Exemption, ProxyPorts};
use ironmesh_model::bootstrap::{
    HEALTH_PORT, INBOUND_MARK, INBOUND_PORT, MERGED_METRICS_PORT, METRICS_PORT, OUTBOUND_MARK,
    OUTBOUND_PORT,
};

/// Address of the mesh's root namespace: the pods' gateway, and the one node.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The same as text.
pub(crate) const HOST_IP: &str = "10.77.0.1";
/// Port at which the API is served over TLS, on the host's loopback and to pods, as Kubernetes has it.
pub(crate) const SECURE_API_PORT: u16 = 6443;
/// Network (address, prefix length) of the pods.
pub(crate) const POD_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 0), 16);
/// Network (address, prefix length) from which Services get their addresses.
pub(crate) const SERVICE_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);

/// Network (address, prefix length) in which names of `--external` have addresses.
pub(crate) const EXTERNAL_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 97, 0, 0), 16);
/// Network (address, prefix length) of the host's loopback from which meshes take addresses.
pub(crate) const LOOPBACK_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 128, 0, 0), 9);
/// Length of the prefix of the part of it that one mesh has.
pub(crate) const LOOPBACK_PREFIX: u8 = 20;

/// What of the host's loopback a mesh has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostAddresses {
    /// The first address of the mesh's part.
    pub(crate) network: Ipv4Addr,
    /// The lowest port that the mesh may listen on.
    pub(crate) lowest_port: u16,
}

impl HostAddresses {
    /// The mesh's own address, at which node ports answer: the first of its part.
    pub(crate) fn node(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 1)
    }

    /// How many Services can have an address of their own.
    pub(crate) fn count() -> u32 {
        // Neither the network's own address, nor the node's, nor that of a broadcast.
        (1 << (32 - LOOPBACK_PREFIX)) - 3
    }

    /// The address of this number, which is below [`count`](Self::count).
    pub(crate) fn of_service(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.network.to_bits() + 2 + number)
    }

    /// Whether a Service can have this address.
    pub(crate) fn has(self, address: Ipv4Addr) -> bool {
        let number = address.to_bits().checked_sub(self.network.to_bits() + 2);
        number.is_some_and(|number| number < Self::count())
    }

    /// Where a port is on the host that may be too low for the mesh: there, or
    /// [`LOW_PORT_OFFSET`] higher.
    pub(crate) fn port(self, port: u16) -> u16 {
        if port < self.lowest_port { port.saturating_add(LOW_PORT_OFFSET) } else { port }
    }
}

/// What is added to a port that an ordinary user may not listen on: 80 is 8080, 443 is 8443.
pub(crate) const LOW_PORT_OFFSET: u16 = 8_000;

/// Where capture leads the traffic of a pod.
pub const PROXY_PORTS: ProxyPorts = ProxyPorts {
    outbound: OUTBOUND_PORT,
    inbound: INBOUND_PORT,
    own: [MERGED_METRICS_PORT, HEALTH_PORT, METRICS_PORT],
};

/// How it tells what the proxy dials: by its marks, and by whose sockets they are on, where
/// applications may mark theirs.
#[must_use]
pub const fn marks(user: Option<u32>) -> Exemption {
    Exemption::Marks { outbound: OUTBOUND_MARK, inbound: INBOUND_MARK, user }
}

/// Whether an address is in a network.
pub(crate) fn is_in(address: Ipv4Addr, (network, prefix): (Ipv4Addr, u8)) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
    (address.to_bits() ^ network.to_bits()) & mask == 0
}

/// A network as it is usually written.
pub(crate) fn cidr((address, prefix): (Ipv4Addr, u8)) -> String {
    format!("{address}/{prefix}")
}

/// The addresses of the pods of a mesh: 10.77.0.2 to 10.77.255.254.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    used: RefCell<Used>,
}

#[derive(Debug, Default)]
struct Used {
    addresses: HashSet<u16>,
    last: u16,
}

impl Addresses {
    /// An address that no pod has; `None` if all are used.
    pub(crate) fn take(&self) -> Option<Ipv4Addr> {
        let mut used = self.used.borrow_mut();
        for step in 1..=u16::MAX {
            let number = used.last.wrapping_add(step);
            if (FIRST..=LAST).contains(&number) && used.addresses.insert(number) {
                used.last = number;
                return Some(Ipv4Addr::from(POD_NETWORK.0.to_bits() | u32::from(number)));
            }
        }
        None
    }

    /// Gives an address back.
    pub(crate) fn give_back(&self, ip: Ipv4Addr) {
        let number = (u32::from(ip) & 0xffff) as u16;
        self.used.borrow_mut().addresses.remove(&number);
    }
}

const FIRST: u16 = 2;
const LAST: u16 = 0xfffe;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_on_the_host_are_within_the_part_of_the_mesh() {
        let of = |lowest_port| HostAddresses { network: [127, 129, 16, 0].into(), lowest_port };
        let host = of(1024);
        assert_eq!(host.node(), Ipv4Addr::new(127, 129, 16, 1));
        let (first, last) = (host.of_service(0), host.of_service(HostAddresses::count() - 1));
        assert_eq!((first, last), ([127, 129, 16, 2].into(), [127, 129, 31, 254].into()));
        assert!(host.has(first) && host.has(last));
        let strange = [[127, 129, 16, 1], [127, 129, 31, 255], [127, 129, 32, 2], [10, 0, 0, 1]];
        assert!(strange.iter().all(|ip| !host.has(Ipv4Addr::from(*ip))));
        assert_eq!([80, 443, 1023, 1024].map(|port| host.port(port)), [8080, 8443, 9023, 1024]);
        assert_eq!(of(0).port(80), 80);
    }

    #[test]
    fn addresses_are_distinct_and_used_again_only_when_the_others_were() {
        assert_eq!(HOST_IP.parse(), Ok(GATEWAY));
        let addresses = Addresses::default();
        let first = addresses.take().unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 77, 0, 2));
        addresses.give_back(first);
        assert_eq!(addresses.take().unwrap(), Ipv4Addr::new(10, 77, 0, 3));
        let mut count = 1;
        while addresses.take().is_some() {
            count += 1;
        }
        assert_eq!(count, usize::from(LAST - FIRST + 1));
    }
}
