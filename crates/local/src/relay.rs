//! Plain relays of TCP: what comes to a listening socket goes on to where it is dialled, both ways
//! until both have ended.

pub(crate) mod datagrams;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ironmesh_fds::slots::Slots;
use ironmesh_model::limits::PlatformLimits;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::carry::both_ways;

/// Where the connections of a relay go.
pub(crate) trait Dial {
    /// Connects for a connection that was accepted, which came from `peer`.
    async fn dial(&self, accepted: &TcpStream, peer: SocketAddr) -> io::Result<TcpStream>;
}

/// Dials the same address for all.
pub(crate) struct To(pub(crate) SocketAddr);

impl Dial for To {
    async fn dial(&self, _: &TcpStream, _: SocketAddr) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }
}

/// How many connections relays may have, in all and per peer.
pub(crate) fn slots(limits: &PlatformLimits) -> Slots {
    Slots::new(limits.relay_connections_max, limits.relay_connections_per_peer_max)
}

/// Relays for ever; connections end with this. One that finds no slot, or whose destination cannot be
/// reached in time, is closed.
pub(crate) async fn serve<D: Dial + 'static>(
    listener: TcpListener,
    slots: Slots,
    connect_timeout: Duration,
    dial: D,
) {
    let dial = Rc::new(dial);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors: others will be closed.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(slot) = slots.take(peer.ip()) else { continue };
        let dial = Rc::clone(&dial);
        connections.spawn_local(async move {
            // Who is relayed does not go for another one.
            slot.use_it();
            if let Err(error) = relay(stream, peer, connect_timeout, &*dial).await {
                tracing::debug!(%peer, %error, "a relayed connection ended");
            }
        });
    }
}

async fn relay(
    mut stream: TcpStream,
    peer: SocketAddr,
    connect_timeout: Duration,
    dial: &impl Dial,
) -> io::Result<()> {
    let dialled = timeout(connect_timeout, dial.dial(&stream, peer)).await;
    let mut other = match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(other) => other,
        Err(error) => {
            // A reset says that there was nobody, where an end would be an empty answer.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            return Err(error);
        }
    };
    for stream in [&stream, &other] {
        stream.set_nodelay(true)?;
        let silent = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        SockRef::from(stream).set_tcp_keepalive(&silent)?;
    }
    both_ways(&mut stream, &mut other).await;
    Ok(())
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Silence after which a peer is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// A relay with so many places; where it listens.
    async fn relay_to(to: SocketAddr, most: usize) -> SocketAddr {
        let (listener, address) = listening().await;
        spawn_local(serve(listener, Slots::new(most, most), Duration::from_secs(5), To(to)));
        address
    }

    #[tokio::test]
    async fn each_half_ends_alone() {
        let tell = async {
            let (server, to) = listening().await;
            let relay = relay_to(to, 4).await;
            let mut client = TcpStream::connect(relay).await.unwrap();
            let (mut served, _) = server.accept().await.unwrap();
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = String::new();
            served.read_to_string(&mut heard).await.unwrap();
            served.write_all(b"answer").await.unwrap();
            drop(served);
            let mut told = String::new();
            client.read_to_string(&mut told).await.unwrap();
            assert_eq!((heard.as_str(), told.as_str()), ("question", "answer"));
        };
        LocalSet::new().run_until(tell).await;
    }

    #[tokio::test]
    async fn nobody_there_is_a_reset_and_no_place_is_an_end() {
        let tell = async {
            let (server, to) = listening().await;
            let relay = relay_to(to, 1).await;
            let mut first = TcpStream::connect(relay).await.unwrap();
            let (served, _) = server.accept().await.unwrap();
            let mut second = TcpStream::connect(relay).await.unwrap();
            // It never reaches the server.
            assert_eq!(second.read(&mut [0]).await.unwrap_or(0), 0);
            drop((served, server));
            assert_eq!(first.read(&mut [0]).await.unwrap(), 0);
            drop(first);
            // The place is free a moment later.
            loop {
                let mut client = TcpStream::connect(relay).await.unwrap();
                match client.read(&mut [0]).await {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        LocalSet::new().run_until(tell).await;
    }
}
