//! DialGuard: with the mark that lets the connection pass the capture rules, and from the right
//! network.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use ironmesh_model::bootstrap::{INBOUND_MARK, OUTBOUND_MARK};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::network::Network;
use ironmesh_model::policy::Keepalive;
use ironmesh_model::{ListenerKind, Special};

use crate::agent_channel::Egress;
use crate::sockets;

/// How this proxy dials.
#[derive(Debug)]
pub(crate) struct Connector {
    /// Whether sockets may be marked. Where they may not (no CAP_NET_RAW), the capture rules exempt
    /// the proxy by its user.
    marks: bool,
    /// Networks dialled from the proxy's own network namespace; with `egress`, all else is not.
    mesh_networks: Vec<Network>,
    egress: Option<Egress>,
    keepalive: Duration,
}

impl Connector {
    /// A connector for these networks.
    pub(crate) fn new(mesh_networks: Vec<Network>, egress: Option<Egress>) -> Self {
        let marks = sockets::may_mark(OUTBOUND_MARK);
        if !marks {
            tracing::info!("connections are not marked: that needs CAP_NET_RAW");
        }
        Self { marks, mesh_networks, egress, keepalive: ProxyLimits::default().keepalive }
    }

    /// The same with another silence after which peers are asked whether they are still there.
    pub(crate) fn keeping_alive(self, keepalive: Duration) -> Self {
        Self { keepalive, ..self }
    }

    /// A connector for tests, whose mesh is on the loopback.
    #[cfg(test)]
    pub(crate) fn of_loopback() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap());
        Self::new(loopback.to_vec(), None)
    }

    /// Connects to an address on behalf of a connection of `listener`. `keepalive`: when a silent peer
    /// is asked whether it is still there, if that is not as it always is.
    ///
    /// # Errors
    ///
    /// As `connect(2)`; `AddrNotAvailable` for an address that is no host's, such as the loopback,
    /// unless the workload itself is what is dialled: whatever configuration or a client says, what
    /// listens there is nobody's service.
    pub(crate) async fn connect(
        &self,
        listener: ListenerKind,
        address: SocketAddr,
        connect_timeout: Duration,
        keepalive: Option<&Keepalive>,
    ) -> io::Result<TcpStream> {
        if let Some(special) = self.forbidden(listener, address.ip()) {
            let why = format!("{address} is not dialled: {special:?}");
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, why));
        }
        let dial = async {
            let socket = self.socket(listener, address).await?;
            let tcp = socket.connect(address).await?;
            tcp.set_nodelay(true)?;
            let socket = SockRef::from(&tcp);
            match keepalive {
                Some(given) => sockets::keep_alive_as(socket, given)?,
                None => sockets::keep_alive(socket, self.keepalive)?,
            }
            Ok(tcp)
        };
        timeout(connect_timeout, dial).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// What is wrong with an address that is not to be dialled.
    fn forbidden(&self, listener: ListenerKind, ip: IpAddr) -> Option<Special> {
        let special = Special::of(ip)?;
        let may = listener == ListenerKind::Inbound || self.is_own_network(ip);
        (!may).then_some(special)
    }

    fn is_own_network(&self, ip: IpAddr) -> bool {
        self.mesh_networks.iter().any(|network| network.contains(ip))
    }

    async fn socket(&self, listener: ListenerKind, address: SocketAddr) -> io::Result<TcpSocket> {
        if let Some(egress) = &self.egress
            && listener != ListenerKind::Inbound
            && !self.is_own_network(address.ip())
        {
            return egress.socket(address.is_ipv6()).await;
        }
        let mark = if listener == ListenerKind::Inbound { INBOUND_MARK } else { OUTBOUND_MARK };
        sockets::dialling(address, self.marks.then_some(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_host_is_not_dialled() {
        let listening = sockets::listening(0).unwrap();
        let port = listening.local_addr().unwrap().port();
        let connector = Connector::new(vec!["10.77.0.0/16".parse().unwrap()], None);
        let connect = async |listener, ip: &str| {
            let address = SocketAddr::new(ip.parse().unwrap(), port);
            connector.connect(listener, address, Duration::from_secs(5), None).await
        };
        for ip in ["127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "::", "169.254.169.254", "224.0.0.1"]
        {
            for listener in [ListenerKind::Outbound, ListenerKind::Gateway] {
                let error = connect(listener, ip).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable, "{ip}: {error}");
            }
        }
        // The workload itself may be reached so.
        connect(ListenerKind::Inbound, "127.0.0.1").await.unwrap();
    }

    /// Small answers are not held back, and a peer that has vanished is noticed.
    #[tokio::test]
    async fn connections_are_set_up_as_they_are_used() {
        let listening = sockets::listening(0).unwrap();
        let port = listening.local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let silence = Duration::from_secs(30);
        let connector = Connector::of_loopback().keeping_alive(silence);
        for (listener, mark) in [
            (ListenerKind::Outbound, OUTBOUND_MARK),
            (ListenerKind::Gateway, OUTBOUND_MARK),
            (ListenerKind::Inbound, INBOUND_MARK),
        ] {
            let longest = Duration::from_secs(5);
            let tcp = connector.connect(listener, address, longest, None).await.unwrap();
            assert!(tcp.nodelay().unwrap());
            let socket = SockRef::from(&tcp);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), silence);
            assert_eq!(socket.tcp_keepalive_interval().unwrap(), silence / 3);
            if connector.marks {
                assert_eq!(socket.mark().unwrap(), mark, "{listener:?}");
            } else {
                eprintln!("skipped: sockets cannot be marked without CAP_NET_RAW");
            }
        }
    }

    /// What a policy leaves open is as the kernel has it, and what it says beyond all measure is what
    /// the kernel takes.
    #[tokio::test]
    async fn a_policy_says_when_a_silent_peer_is_asked() {
        let listening = sockets::listening(0).unwrap();
        let port = listening.local_addr().unwrap().port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let connector = Connector::of_loopback();
        let seconds = |n| Some(Duration::from_secs(n));
        for (given, probes, time, interval) in [
            (Keepalive { probes: Some(4), time: seconds(50), interval: seconds(6) }, 4, 50, 6),
            (Keepalive { probes: None, time: seconds(50), interval: None }, 0, 50, 0),
            (
                Keepalive { probes: Some(u32::MAX), time: seconds(u64::MAX), interval: seconds(0) },
                127,
                32_767,
                1,
            ),
        ] {
            let longest = Duration::from_secs(5);
            let tcp = connector.connect(ListenerKind::Outbound, address, longest, Some(&given));
            let tcp = tcp.await.unwrap();
            let socket = SockRef::from(&tcp);
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap().as_secs(), time, "{given:?}");
            if probes > 0 {
                assert_eq!(socket.tcp_keepalive_retries().unwrap(), probes, "{given:?}");
                assert_eq!(socket.tcp_keepalive_interval().unwrap().as_secs(), interval);
            }
        }
    }
}
