//! Messages for links, addresses, routes and neighbours (rtnetlink).

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ironmesh_capture::netlink::{Batch, Payload};

/// A MAC address.
pub(crate) type Mac = [u8; 6];

/// Index of the loopback interface in every network namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// A pair of connected interfaces, the peer in another network namespace. Nothing is ever moved
/// between namespaces, which would cost 20 ms.
#[derive(Debug)]
pub(crate) struct VethPair<'a> {
    /// The near end, which is up at once.
    pub(crate) near: VethEnd<'a>,
    /// The peer, which must be set up from inside.
    pub(crate) peer: VethEnd<'a>,
    /// Namespace of the peer.
    pub(crate) peer_netns: BorrowedFd<'a>,
    /// Largest packet of both.
    pub(crate) mtu: u32,
}

/// One end of a [`VethPair`].
#[derive(Debug)]
pub(crate) struct VethEnd<'a> {
    /// Name of the interface.
    pub(crate) name: &'a str,
    /// Its index, chosen by us, so that the routes can go into the same batch.
    pub(crate) index: u32,
    /// Its address, chosen by us, so that neighbours can be permanent.
    pub(crate) mac: Mac,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NextHop {
    /// The destination is on the link of this interface.
    Link(u32),
    /// By a gateway that is on the link of an interface.
    Gateway(Ipv4Addr, u32),
}

/// Sets an interface up.
pub(crate) fn link_up(batch: &mut Batch, index: u32) {
    let what = ("set up interface", format!("{index}"));
    batch.push(libc::RTM_NEWLINK, 0, what, |message| {
        link_header(message, index, libc::IFF_UP as u32);
    });
}

/// Makes a pair of interfaces.
pub(crate) fn veth(batch: &mut Batch, pair: &VethPair<'_>) {
    let what = ("create interface", pair.near.name);
    batch.push(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, what, |message| {
        link_header(message, pair.near.index, libc::IFF_UP as u32);
        link_attributes(message, &pair.near, pair.mtu);
        message.nest(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "veth");
            info.nest(libc::IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    // Up from here would fail with ENOTCONN.
                    link_header(peer, pair.peer.index, 0);
                    link_attributes(peer, &pair.peer, pair.mtu);
                    peer.u32(libc::IFLA_NET_NS_FD, pair.peer_netns.as_raw_fd() as u32);
                });
            });
        });
    });
}

/// Gives an interface an address.
pub(crate) fn address(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8) {
    let what = ("add address", address.to_string());
    batch.push(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, what, |message| {
        // struct ifaddrmsg: family, prefix length, flags, scope, index.
        message.raw(&[libc::AF_INET as u8, prefix, 0, libc::RT_SCOPE_UNIVERSE]);
        message.raw(&index.to_ne_bytes());
        message.bytes(libc::IFA_LOCAL, &address.octets());
        message.bytes(libc::IFA_ADDRESS, &address.octets());
    });
}

/// Adds a route to a network.
pub(crate) fn route(batch: &mut Batch, network: Ipv4Addr, prefix: u8, hop: NextHop) {
    let what = ("add route to", format!("{network}/{prefix}"));
    let (scope, interface) = match hop {
        NextHop::Link(interface) => (libc::RT_SCOPE_LINK, interface),
        NextHop::Gateway(_, interface) => (libc::RT_SCOPE_UNIVERSE, interface),
    };
    batch.push(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, what, |message| {
        // struct rtmsg: family, destination and source length, tos, table, protocol, scope, type.
        let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_STATIC);
        message.raw(&[libc::AF_INET as u8, prefix, 0, 0]);
        message.raw(&[table, protocol, scope, libc::RTN_UNICAST]);
        message.raw(&0_u32.to_ne_bytes());
        if prefix > 0 {
            message.bytes(libc::RTA_DST, &network.octets());
        }
        if let NextHop::Gateway(gateway, _) = hop {
            message.bytes(libc::RTA_GATEWAY, &gateway.octets());
        }
        message.u32(libc::RTA_OIF, interface);
    });
}

/// Tells the MAC address of a neighbour for good, so that nothing depends on ARP.
pub(crate) fn neighbour(batch: &mut Batch, index: u32, address: Ipv4Addr, mac: Mac) {
    let what = ("add neighbour", address.to_string());
    batch.push(libc::RTM_NEWNEIGH, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, what, |message| {
        // struct ndmsg: family, three bytes of padding, index, state, flags, type.
        message.raw(&[libc::AF_INET as u8, 0, 0, 0]);
        message.raw(&index.to_ne_bytes());
        let state = libc::NUD_PERMANENT.to_ne_bytes();
        message.raw(&[state[0], state[1], 0, 0]);
        message.bytes(libc::NDA_DST, &address.octets());
        message.bytes(libc::NDA_LLADDR, &mac);
    });
}

/// `struct ifinfomsg`.
fn link_header(message: &mut Payload<'_>, index: u32, flags: u32) {
    message.raw(&[libc::AF_UNSPEC as u8, 0, 0, 0]);
    message.raw(&index.to_ne_bytes());
    message.raw(&flags.to_ne_bytes());
    message.raw(&flags.to_ne_bytes());
}

fn link_attributes(message: &mut Payload<'_>, end: &VethEnd<'_>, mtu: u32) {
    message.text(libc::IFLA_IFNAME, end.name);
    message.bytes(libc::IFLA_ADDRESS, &end.mac);
    message.u32(libc::IFLA_MTU, mtu);
}

/// Attribute with the other end of a veth pair.
const VETH_INFO_PEER: u16 = 1;
