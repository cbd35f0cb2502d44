//! The original destination of a captured connection.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// How a listener learns where its connections were going.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OriginalDestination {
    /// The kernel redirected them and tells (`SO_ORIGINAL_DST`).
    Captured {
        /// Ports that the proxy itself serves: whoever names one of them at the workload's own
        /// address would make the proxy dial itself.
        own_ports: Vec<u16>,
        /// Whether the workload's own address is the only one that they can have been going to.
        inbound: bool,
    },
    /// They were dialled as they are: at a gateway.
    Direct {
        /// The port by which routes know the listener.
        port: u16,
    },
    /// This address, whatever was dialled: tests have no capture.
    #[cfg(test)]
    Fixed(SocketAddr),
}

impl OriginalDestination {
    /// The destination of a connection from `peer`.
    ///
    /// # Errors
    ///
    /// If it is the proxy itself: its address.
    pub(crate) fn of(&self, tcp: &TcpStream, peer: SocketAddr) -> Result<SocketAddr, SocketAddr> {
        let unknown = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let local = tcp.local_addr().unwrap_or(unknown);
        match self {
            #[cfg(test)]
            Self::Fixed(address) => Ok(*address),
            Self::Direct { port } => Ok(SocketAddr::new(local.ip(), *port)),
            Self::Captured { own_ports, inbound } => {
                let socket = SockRef::from(tcp);
                let found = match local {
                    SocketAddr::V4(_) => socket.original_dst_v4(),
                    SocketAddr::V6(_) => {
                        socket.original_dst_v4().or_else(|_| socket.original_dst_v6())
                    }
                };
                // ENOENT: the kernel knows of no redirection, so the proxy was dialled directly.
                let address = found.ok().and_then(|found| found.as_socket()).ok_or(local)?;
                let own_address = *inbound || is_own(address.ip(), peer.ip());
                match own_address && own_ports.contains(&address.port()) {
                    true => Err(address),
                    false => Ok(address),
                }
            }
        }
    }
}

/// Whether what a workload at `peer` dials is the workload itself.
fn is_own(dialled: IpAddr, peer: IpAddr) -> bool {
    dialled == peer || dialled.is_loopback() || dialled.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_other_workloads_proxies_can_be_reached() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for (dialled, own) in [
            ("10.77.0.5", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("0.0.0.0", true),
            ("10.77.0.6", false),
        ] {
            assert_eq!(is_own(ip(dialled), ip("10.77.0.5")), own, "{dialled}");
        }
    }
}
