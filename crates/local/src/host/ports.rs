//! What a mesh has of the host's loopback: a part of its own of 127.128.0.0/9, and ports there.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use socket2::{Domain, Protocol, Socket, Type};
use twox_hash::XxHash3_64;

use crate::addresses::{HostAddresses, LOOPBACK_NETWORK, LOOPBACK_PREFIX};
use crate::host_link::Transport;

/// The part of the loopback that one mesh has.
#[derive(Debug)]
pub(super) struct Loopback {
    pub(super) addresses: HostAddresses,
    /// An abstract socket that only one process of the machine can have: no other mesh takes the
    /// same part while this lives.
    _lock: UnixListener,
}

impl Loopback {
    /// Takes a part that no other mesh has. It follows from user and name of the mesh, so that it is
    /// the same at each start, but where a mesh that runs has it.
    pub(super) fn take(uid: u32, mesh: &str) -> io::Result<Self> {
        let first = first_part(uid, mesh);
        let mut parts = (0..PARTS).map(|step| (first + step) % PARTS);
        let taken = parts.find_map(|part| Some((part, lock(part).ok()?)));
        let (part, lock) = taken.ok_or_else(|| {
            let (network, prefix) = LOOPBACK_NETWORK;
            io::Error::other(format!("other meshes have all of {network}/{prefix}"))
        })?;
        let network = LOOPBACK_NETWORK.0.to_bits() + (part << (32 - LOOPBACK_PREFIX));
        let network = Ipv4Addr::from_bits(network);
        let addresses = HostAddresses { network, lowest_port: lowest_port(network) };
        Ok(Self { addresses, _lock: lock })
    }
}

fn first_part(uid: u32, mesh: &str) -> u32 {
    let hash = XxHash3_64::oneshot(format!("{uid}/{mesh}").as_bytes());
    (hash % u64::from(PARTS)) as u32
}

fn lock(part: u32) -> io::Result<UnixListener> {
    let name = format!("ironmesh/loopback/{part}");
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// The lowest port that this process may listen on: any with the right to (CAP_NET_BIND_SERVICE), else
/// what the kernel says of all users.
fn lowest_port(own: Ipv4Addr) -> u16 {
    if bind(SocketAddrV4::new(own, 1)).is_ok() {
        return 0;
    }
    let setting = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    setting.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(UNPRIVILEGED_PORT)
}

/// A listening socket on the loopback; of UDP one that is bound.
///
/// # Errors
///
/// As `bind(2)` and `listen(2)`, for one: if another program listens there, or on that port of all
/// addresses.
pub(super) fn listen(address: SocketAddrV4, transport: Transport) -> io::Result<OwnedFd> {
    if !address.ip().is_loopback() {
        // Whatever the agent says: a mesh is reached from this machine alone.
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    match transport {
        Transport::Tcp => {
            let socket = bind(address)?;
            socket.listen(BACKLOG)?;
            Ok(socket.into())
        }
        Transport::Udp => {
            // Two programs may not share it, which reusing the address would allow.
            let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
            socket.bind(&address.into())?;
            Ok(socket.into())
        }
    }
}

fn bind(address: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections of an earlier mesh that the kernel remembers are no reason to refuse.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// How many meshes have a part.
const PARTS: u32 = 1 << (LOOPBACK_PREFIX - LOOPBACK_NETWORK.1);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 4_096;
/// The kernel's default of the lowest port of ordinary users.
const UNPRIVILEGED_PORT: u16 = 1_024;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_mesh_has_the_same_part_at_each_start_and_no_two_have_one() {
        // A user whom nobody is.
        let (uid, mesh) = (u32::MAX, std::process::id().to_string());
        let first = Loopback::take(uid, &mesh).unwrap();
        let other = Loopback::take(uid, &mesh).unwrap();
        assert_ne!(first.addresses.network, other.addresses.network);
        let network = first.addresses.network;
        drop((first, other));
        assert_eq!(Loopback::take(uid, &mesh).unwrap().addresses.network, network);
        assert_ne!(first_part(0, "a"), first_part(1, "a"));
        assert_ne!(first_part(0, "a"), first_part(0, "b"));
    }

    #[test]
    fn parts_lie_side_by_side_in_the_network() {
        let last = LOOPBACK_NETWORK.0.to_bits() + ((PARTS - 1) << (32 - LOOPBACK_PREFIX));
        assert_eq!(Ipv4Addr::from_bits(last), Ipv4Addr::new(127, 255, 240, 0));
    }

    #[test]
    fn a_port_is_taken_once_and_free_for_the_next_mesh_at_once() {
        let at = |port| SocketAddrV4::new(Ipv4Addr::new(127, 255, 239, 9), port);
        let listener = TcpListener::from(listen(at(0), Transport::Tcp).unwrap());
        let port = listener.local_addr().unwrap().port();
        let again = |transport| listen(at(port), transport);
        assert_eq!(again(Transport::Tcp).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let _datagrams = again(Transport::Udp).unwrap();
        assert_eq!(again(Transport::Udp).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mut client = TcpStream::connect(at(port)).unwrap();
        // The server closes first, so it is its port that the kernel remembers.
        listener.set_nonblocking(false).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop((client, listener));
        again(Transport::Tcp).unwrap();
    }

    #[test]
    fn nothing_is_opened_to_other_machines() {
        for ip in ["0.0.0.0", "192.0.2.1"] {
            for transport in [Transport::Tcp, Transport::Udp] {
                let at = SocketAddrV4::new(ip.parse().unwrap(), 0);
                let error = listen(at, transport).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{ip}");
            }
        }
    }
}
