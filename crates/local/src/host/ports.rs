//! The gateway's ports on the host's loopback.
//!
//! Those that everybody expects (80 on 8080, 443 on 8443) are reserved from the start, so that their
//! addresses are known; they refuse until a gateway asks, since nobody serves them.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::progress;
use crate::agent_api::PublishedPort;

/// The ports of one mesh.
#[derive(Debug)]
pub(super) struct Ports {
    /// Where gateway's ports are wanted on the host.
    wanted: BTreeMap<u16, u16>,
    /// Bound, so that they are ours, and not listening.
    reserved: BTreeMap<u16, Socket>,
    open: BTreeMap<u16, TcpListener>,
}

impl Ports {
    /// Reserves the wanted ports, given as (gateway's port, host's port); says which ones another
    /// must stand in for.
    pub(super) fn reserve(wanted: &[(u16, u16)]) -> io::Result<Self> {
        let wanted: BTreeMap<u16, u16> = wanted.iter().copied().collect();
        let reserved = wanted
            .iter()
            .map(|(&port, &wanted)| Ok((port, reserve(wanted)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self { wanted, reserved, open: BTreeMap::new() })
    }

    /// The listening socket of a gateway's port, and its address. Made when a gateway asks for the
    /// first time, and once, so that a restarted gateway finds the connections that wait.
    pub(super) fn open(&mut self, port: u16) -> io::Result<(OwnedFd, SocketAddr)> {
        if !self.open.contains_key(&port) {
            let wanted = self.wanted.get(&port).copied().unwrap_or(port);
            let reserved = self.reserved.remove(&port).map_or_else(|| reserve(wanted), Ok)?;
            let listener = listen(reserved).or_else(|_| listen(reserve(0)?))?;
            progress::say(&format!(
                "gateway port {port} is published on {}",
                listener.local_addr()?
            ));
            self.open.insert(port, listener);
        }
        let listener = self.open.get(&port).ok_or(io::ErrorKind::NotFound)?;
        Ok((listener.try_clone()?.into(), listener.local_addr()?))
    }

    /// Closes a port that no gateway serves any more; one of those that are wanted stays reserved.
    pub(super) fn close(&mut self, port: u16) {
        let Some(listener) = self.open.remove(&port) else { return };
        let Ok(address) = listener.local_addr() else { return };
        drop(listener);
        if self.wanted.contains_key(&port)
            && let Ok(socket) = bind(address.port())
        {
            self.reserved.insert(port, socket);
        }
    }

    /// The ports that gateways serve.
    pub(super) fn published(&self) -> Vec<PublishedPort> {
        let published = |(&port, listener): (&u16, &TcpListener)| {
            Some(PublishedPort { port, address: listener.local_addr().ok()? })
        };
        self.open.iter().filter_map(published).collect()
    }

    /// Where a port will be, as long as no gateway serves it.
    pub(super) fn reserved(&self, port: u16) -> Option<SocketAddr> {
        self.reserved.get(&port)?.local_addr().ok()?.as_socket()
    }
}

/// A socket bound to the wanted port, or to a free one if it is taken or not allowed, which is said.
fn reserve(wanted: u16) -> io::Result<Socket> {
    bind(wanted).or_else(|error| {
        let why = error.kind();
        progress::say(&format!("port {wanted} of 127.0.0.1: {why}; another stands in for it"));
        bind(0)
    })
}

/// Binds so that nobody else can; only where connections of an earlier mesh that the kernel still
/// remembers forbid that, so that others who ask for it could, too.
fn bind(port: u16) -> io::Result<Socket> {
    bind_to(port, false).or_else(|_| bind_to(port, true))
}

fn bind_to(port: u16, reuse: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(reuse)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into())?;
    Ok(socket)
}

/// Listens; another process may have begun to on the same port meanwhile.
fn listen(socket: Socket) -> io::Result<TcpListener> {
    // So that the next mesh may bind while the kernel remembers connections of this one.
    socket.set_reuse_address(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Connections that wait for a gateway.
const BACKLOG: i32 = 4_096;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_taken_port_falls_back_to_a_free_one() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut ports = Ports::reserve(&[(80, port)]).unwrap();
        let reserved = ports.reserved(80).unwrap();
        assert_ne!(reserved.port(), port);
        let (_, address) = ports.open(80).unwrap();
        assert_eq!(address, reserved);
    }

    #[test]
    fn the_next_mesh_gets_the_port_again_at_once() {
        let mut ports = Ports::reserve(&[(80, 0)]).unwrap();
        let (listener, address) = ports.open(80).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        // The server closes first, so it is its port that the kernel remembers.
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(false).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop((client, listener, ports));
        let next = Ports::reserve(&[(80, address.port())]).unwrap();
        assert_eq!(next.reserved(80), Some(address));
    }

    #[test]
    fn two_meshes_do_not_reserve_one_port() {
        let first = Ports::reserve(&[(80, 0)]).unwrap().reserved;
        let port = first[&80].local_addr().unwrap().as_socket().unwrap().port();
        let second = Ports::reserve(&[(80, port)]).unwrap();
        assert_ne!(second.reserved(80).unwrap().port(), port);
    }

    #[test]
    fn a_port_that_nobody_serves_refuses() {
        let mut ports = Ports::reserve(&[(80, 0)]).unwrap();
        let address = ports.reserved(80).unwrap();
        assert!(TcpStream::connect(address).is_err());
        let gateway = ports.open(80).unwrap();
        TcpStream::connect(address).unwrap();
        assert_eq!(ports.published().len(), 1);
        assert_eq!(ports.reserved(80), None);
        drop(gateway);
        ports.close(80);
        assert!(TcpStream::connect(address).is_err());
        assert_eq!(ports.reserved(80), Some(address));
    }

    #[test]
    fn a_port_that_another_took_after_all_falls_back_when_it_is_needed() {
        let shared = bind_to(0, true).unwrap();
        let port = shared.local_addr().unwrap().as_socket().unwrap().port();
        let _other = listen(bind_to(port, true).unwrap()).unwrap();
        let reserved = BTreeMap::from([(80, shared)]);
        let mut ports = Ports { wanted: BTreeMap::new(), reserved, open: BTreeMap::new() };
        assert_ne!(ports.open(80).unwrap().1.port(), port);
    }
}
