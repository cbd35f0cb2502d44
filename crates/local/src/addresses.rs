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
/// Network (address, prefix length) of the pods.
pub(crate) const POD_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 0), 16);
/// Network (address, prefix length) from which Services get their addresses.
pub(crate) const SERVICE_NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);

/// Where capture leads the traffic of a pod.
pub const PROXY_PORTS: ProxyPorts = ProxyPorts {
    outbound: OUTBOUND_PORT,
    inbound: INBOUND_PORT,
    own: [MERGED_METRICS_PORT, HEALTH_PORT, METRICS_PORT],
};
/// How it tells the proxy's own.
pub const MARKS: Exemption = Exemption::Marks { outbound: OUTBOUND_MARK, inbound: INBOUND_MARK };

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
