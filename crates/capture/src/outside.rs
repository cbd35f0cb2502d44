//! What pods without a proxy send out of the mesh: led to a relay, by an nf_tables rule in the mesh's
//! root network namespace.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::KernelError;
use crate::netlink::{Connection, Subsystem};
use crate::nft::{self, Expression, Hook, Transaction};

/// Leads each TCP connection of a pod to an address outside of these networks (address, prefix length)
/// to `relay`, which finds where it was meant to go by `SO_ORIGINAL_DST`. Works in the network namespace
/// of the calling thread. What comes from there itself is left alone.
///
/// # Errors
///
/// The step that failed, and nothing is changed.
pub fn lead_to(relay: SocketAddrV4, inside: &[(Ipv4Addr, u8)]) -> Result<(), KernelError> {
    let connection = Connection::open(Subsystem::Netfilter)?;
    let mut transaction = Transaction::new(TABLE);
    transaction.replace_table();
    let point = libc::NF_INET_PRE_ROUTING;
    transaction.chain(CHAIN, Some(Hook { kind: "nat", point, priority: -100 }));
    for network in inside {
        transaction.rule(CHAIN, &[&nft::to_network(*network)[..], &[Expression::Return]].concat());
    }
    let [high, low] = relay.port().to_be_bytes();
    let to_relay = [&relay.ip().octets()[..], &[high, low, 0, 0]].concat();
    let lead = [Expression::Load(to_relay), Expression::Destination];
    transaction.rule(CHAIN, &[&nft::tcp()[..], &lead].concat());
    transaction.commit(&connection)
}

/// Name of the table.
const TABLE: &str = "ironmesh-outside";
/// Name of its chain.
const CHAIN: &str = "prerouting";
