//! What pods without a sidecar send out of the mesh, and what any pod sends to a name of
//! [`Externals`]: relayed by the agent over sockets of the host's network.
//!
//! What a pod with a sidecar sends out comes from its sidecar, over sockets of its own. Whatever else comes
//! from such a pod has gone past the sidecar, and is refused.
//!
//! It leads where a host leads, and not to what is this machine's own: its loopback, the addresses of
//! meshes there, or link-local addresses, where clouds have credentials. Those are reached by a name of
//! `--external` alone.
//!
//! [`Externals`]: crate::externals::Externals

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;
use std::rc::Rc;

use nix::sys::socket::{getsockopt, sockopt::OriginalDst};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::addresses::{EXTERNAL_NETWORK, GATEWAY, POD_NETWORK, SERVICE_NETWORK, is_in};
use crate::externals::is_closed;
use crate::host_link::Transport;
use crate::node::Node;
use crate::relay::{self, Dial};

/// Leads what leaves the mesh to the relay, and serves it, for ever. In a mesh without egress nothing
/// leads anywhere.
pub(crate) async fn serve(node: Rc<Node>) -> io::Result<()> {
    if !node.egress {
        return std::future::pending().await;
    }
    let relay = SocketAddrV4::new(GATEWAY, RELAY_PORT);
    let listener = TcpListener::bind(relay).await?;
    ironmesh_capture::outside::lead_to(relay, &[POD_NETWORK, SERVICE_NETWORK])
        .map_err(io::Error::other)?;
    let limits = &node.limits.platform;
    let (slots, time) = (relay::slots(limits), limits.relay_connect_timeout);
    relay::serve(listener, slots, time, ToOutside(node)).await;
    Ok(())
}

/// Dials what was dialled in the pod.
struct ToOutside(Rc<Node>);

impl Dial for ToOutside {
    async fn dial(&self, accepted: &TcpStream, peer: SocketAddr) -> io::Result<TcpStream> {
        let dialled = original_destination(accepted)?;
        let node = &self.0;
        let to = match is_in(*dialled.ip(), EXTERNAL_NETWORK) {
            true => node.externals.target(dialled).ok_or(io::ErrorKind::ConnectionRefused)?,
            false if has_sidecar(node, peer) => return Err(io::ErrorKind::PermissionDenied.into()),
            false => allowed(dialled)?,
        };
        tracing::debug!(%peer, %dialled, %to, "relayed");
        dial_outside(node, to).await
    }
}

/// Dials a workload that is none of the mesh's pods, or one of them, as a pod without a sidecar would.
pub(crate) async fn dial_workload(node: &Node, to: SocketAddr) -> io::Result<TcpStream> {
    let to = match to {
        SocketAddr::V4(v4) if is_in(*v4.ip(), POD_NETWORK) && *v4.ip() != GATEWAY => {
            return TcpStream::connect(to).await;
        }
        _ if !node.egress => {
            return Err(io::Error::other("nothing leaves this mesh (--no-egress)"));
        }
        SocketAddr::V4(v4) if is_in(*v4.ip(), EXTERNAL_NETWORK) => {
            node.externals.target(v4).ok_or(io::ErrorKind::ConnectionRefused)?
        }
        SocketAddr::V4(v4) => allowed(v4)?,
        SocketAddr::V6(v6) if is_closed((*v6.ip()).into()) => {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{v6} is closed")));
        }
        SocketAddr::V6(_) => to,
    };
    dial_outside(node, to).await
}

/// Dials by a socket of the host's network.
async fn dial_outside(node: &Node, to: SocketAddr) -> io::Result<TcpStream> {
    let given = node.host.sockets(Transport::Tcp, 1, to.is_ipv6()).await;
    let given = given.map_err(io::Error::other)?;
    let socket = given.into_iter().next().ok_or(io::ErrorKind::NotConnected)?;
    TcpSocket::from_std_stream(socket.into()).connect(to).await
}

/// Whether a connection comes from a pod whose traffic outwards its sidecar carries.
fn has_sidecar(node: &Node, peer: SocketAddr) -> bool {
    let pods = node.pods.borrow();
    let from = pods.values().find(|pod| pod.ip().map(IpAddr::V4) == Some(peer.ip()));
    from.is_some_and(|pod| pod.slots(false).iter().any(|slot| slot.is_proxy()))
}

/// Where a connection was to go before it was led here.
fn original_destination(stream: &TcpStream) -> io::Result<SocketAddrV4> {
    let address = getsockopt(&stream.as_fd(), OriginalDst)?;
    let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}

/// An address that a pod may reach by itself.
fn allowed(dialled: SocketAddrV4) -> io::Result<SocketAddr> {
    let ip = *dialled.ip();
    // The relay's own address among them, to which nothing is led.
    let is_mesh = [POD_NETWORK, SERVICE_NETWORK].iter().any(|network| is_in(ip, *network));
    match is_mesh || is_closed(ip.into()) {
        true => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{ip} is closed"))),
        false => Ok(dialled.into()),
    }
}

/// Port of the relay, at the mesh's own address.
const RELAY_PORT: u16 = 15_007;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_this_machines_own_is_closed() {
        for (ip, open) in [
            ("192.0.2.1", true),
            ("10.0.0.7", true),
            ("127.0.0.1", false),
            ("127.130.4.5", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("224.0.0.1", false),
            ("10.77.0.1", false),
            ("10.77.0.9", false),
            ("10.96.0.1", false),
        ] {
            let to = SocketAddrV4::new(ip.parse().unwrap(), 80);
            assert_eq!(allowed(to).is_ok(), open, "{ip}");
        }
    }
}
