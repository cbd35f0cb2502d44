//! The one module of this crate that makes sockets. Others are inherited, come from the local agent,
//! or are accepted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use ironmesh_model::policy::Keepalive;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, UdpSocket};

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

/// A socket for datagrams to and from `address` alone, at a port of its own.
///
/// # Errors
///
/// If the kernel gives none.
pub(crate) async fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    Ok(socket)
}

/// Sees to it that a peer which has vanished is noticed: after so much silence it is asked whether
/// it is still there, and counts as gone when it has not answered for as long again (tcp(7),
/// `TCP_KEEPIDLE`).
///
/// # Errors
///
/// If the kernel refuses it.
pub(crate) fn keep_alive(socket: SockRef<'_>, silence: Duration) -> io::Result<()> {
    let (time, interval) = (Some(silence), Some(silence / PROBES));
    keep_alive_as(socket, &Keepalive { probes: Some(PROBES), time, interval })
}

/// The same as a policy says it; what it leaves open is as the kernel has it.
///
/// # Errors
///
/// If the kernel refuses it.
pub(crate) fn keep_alive_as(socket: SockRef<'_>, given: &Keepalive) -> io::Result<()> {
    // What the kernel takes (tcp(7)); a policy may say more.
    let seconds = |given: Duration| given.clamp(Duration::from_secs(1), KEEPALIVE_MAX);
    let mut keepalive = TcpKeepalive::new();
    if let Some(time) = given.time {
        keepalive = keepalive.with_time(seconds(time));
    }
    if let Some(interval) = given.interval {
        keepalive = keepalive.with_interval(seconds(interval));
    }
    if let Some(probes) = given.probes {
        keepalive = keepalive.with_retries(probes.clamp(1, KEEPALIVE_PROBES_MAX));
    }
    socket.set_tcp_keepalive(&keepalive)
}

/// Linux' `MAX_TCP_KEEPIDLE`.
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);
/// Linux' `MAX_TCP_KEEPCNT`.
const KEEPALIVE_PROBES_MAX: u32 = 127;

/// Questions that a peer leaves unanswered before it counts as gone.
const PROBES: u32 = 3;

/// Lets the process have as many descriptors as it may (getrlimit(2)), and tells how many.
pub(crate) fn raise_descriptor_limit() -> usize {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "the limit of descriptors is not known");
            return DESCRIPTORS_ASSUMED;
        }
    };
    let now = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(%error, soft, hard, "the limit of descriptors cannot be raised");
            soft
        }
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}

/// What Linux gives a process that is told nothing else.
const DESCRIPTORS_ASSUMED: usize = 1_024;

/// How many clients a process with so many descriptors may take: each needs another one for its
/// endpoint, and some are the proxy's own. New clients wait before anyone who is served lacks one.
pub(crate) fn clients_max(descriptors: usize) -> usize {
    let own = DESCRIPTORS_OWN.min(descriptors / 4);
    ((descriptors - own) / 2).max(1)
}

/// Descriptors for the control plane, the admin ports, listeners and runtimes.
const DESCRIPTORS_OWN: usize = 256;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_take_the_descriptors_of_endpoints() {
        for (descriptors, clients) in [(0, 1), (4, 1), (256, 96), (1_024, 384), (20_000, 9_872)] {
            assert_eq!(clients_max(descriptors), clients, "of {descriptors}");
        }
    }
}
