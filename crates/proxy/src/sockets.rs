//! The one module of this crate that makes sockets. Others are inherited, come from the local agent,
//! or are accepted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::SockRef;
use tokio::net::TcpSocket;

/// A socket that can dial `address`, with a mark if one is given.
///
/// # Errors
///
/// If the kernel gives none, or a mark that this process may not set was asked for.
pub(crate) fn dialling(address: SocketAddr, mark: Option<u32>) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark)?;
    }
    Ok(socket)
}

/// Whether sockets may be marked, which needs CAP_NET_RAW.
pub(crate) fn may_mark(mark: u32) -> bool {
    dialling((Ipv4Addr::LOCALHOST, 0).into(), Some(mark)).is_ok()
}

/// A socket that listens on a port of all addresses.
///
/// # Errors
///
/// If the port is taken, or may not be used.
pub(crate) fn listening(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
}
