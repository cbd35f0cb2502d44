//! The original destination of a captured connection.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// How a listener learns where its connections were going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginalDestination {
    /// The kernel redirected them and tells (`SO_ORIGINAL_DST`).
    Captured {
        /// Ports that the proxy itself serves: whoever names one of them as its destination would
        /// make the proxy dial itself.
        own_ports: Vec<u16>,
    },
    /// They were dialled as they are: at a gateway.
    Dialled {
        /// The port by which routes know the listener.
        port: u16,
    },
    /// This address, whatever was dialled: tests have no capture.
    #[cfg(test)]
    Fixed(SocketAddr),
}

impl OriginalDestination {
    /// The destination of a connection; `None` if it has none but the proxy itself.
    pub(crate) fn of(&self, tcp: &TcpStream) -> Option<SocketAddr> {
        match self {
            #[cfg(test)]
            Self::Fixed(address) => Some(*address),
            Self::Dialled { port } => {
                let ip = tcp.local_addr().map_or(Ipv4Addr::UNSPECIFIED.into(), |a| a.ip());
                Some(SocketAddr::new(ip, *port))
            }
            Self::Captured { own_ports } => {
                let socket = SockRef::from(tcp);
                // ENOENT: the kernel knows of no redirection, so the proxy was dialled directly.
                let found = match tcp.local_addr().ok()? {
                    SocketAddr::V4(_) => socket.original_dst_v4(),
                    SocketAddr::V6(_) => {
                        socket.original_dst_v4().or_else(|_| socket.original_dst_v6())
                    }
                };
                let address = found.ok()?.as_socket()?;
                (!own_ports.contains(&address.port())).then_some(address)
            }
        }
    }
}
