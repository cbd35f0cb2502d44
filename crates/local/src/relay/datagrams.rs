//! A plain relay of UDP: what a client sends to a socket goes on by a socket of its own, so that what is
//! answered finds its way back.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ironmesh_fds::slots::{Slot, Slots};
use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// A client's way to the destination.
struct Flow {
    client: SocketAddr,
    /// Towards the destination.
    socket: UdpSocket,
    /// When something last went one way or the other.
    last: Cell<Instant>,
    _slot: Slot,
}

/// Relays for ever; flows end with this, and each after so long a silence. A datagram that finds no slot
/// is dropped, as the network may drop any.
pub(crate) async fn serve(socket: UdpSocket, slots: Slots, silence: Duration, to: SocketAddr) {
    let socket = Rc::new(socket);
    let mut flows: HashMap<SocketAddr, Rc<Flow>> = HashMap::new();
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            biased;
            // First, so that nothing is sent by a flow that nobody listens to any more.
            Some(ended) = answering.join_next() => {
                if let Ok(client) = ended {
                    flows.remove(&client);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => received,
        };
        let Ok((length, client)) = received else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let flow = match flows.entry(client) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let Some(slot) = slots.take(client.ip()) else { continue };
                slot.use_it();
                let Ok(flow) = Flow::open(client, to, slot).await.map(Rc::new) else { continue };
                answering.spawn_local(answer(Rc::clone(&socket), Rc::clone(&flow), silence));
                place.insert(flow)
            }
        };
        flow.last.set(Instant::now());
        // Nobody there: the client hears nothing, as anywhere.
        let _ = flow.socket.send(&buffer[..length]).await;
    }
}

impl Flow {
    async fn open(client: SocketAddr, to: SocketAddr, slot: Slot) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(to).await?;
        Ok(Self { client, socket, last: Cell::new(Instant::now()), _slot: slot })
    }

    /// The next datagram from the destination. While there is none it takes no memory.
    async fn answered(&self) -> io::Result<Vec<u8>> {
        loop {
            self.socket.readable().await?;
            let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
            match self.socket.try_recv(&mut buffer) {
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Gives the client what the destination answers, until both have been silent for long; the client.
async fn answer(socket: Rc<UdpSocket>, flow: Rc<Flow>, silence: Duration) -> SocketAddr {
    loop {
        let end = flow.last.get() + silence;
        match timeout_at(end, flow.answered()).await {
            Ok(Ok(datagram)) => {
                flow.last.set(Instant::now());
                // A client that is gone hears nothing.
                let _ = socket.send_to(&datagram, flow.client).await;
            }
            // It was told that nobody is there; somebody may come.
            Ok(Err(_)) => tokio::time::sleep(PAUSE).await,
            Err(_elapsed) if flow.last.get() + silence > Instant::now() => {}
            Err(_elapsed) => return flow.client,
        }
    }
}

/// Bytes of a datagram; IPv4 has no longer ones.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Pause after an error.
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::task::{LocalSet, spawn_local};

    use super::*;

    async fn socket() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    async fn heard(socket: &UdpSocket) -> (String, SocketAddr) {
        let mut buffer = [0; 64];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), from)
    }

    #[tokio::test]
    async fn each_client_has_its_own_answers() {
        let tell = async {
            let ((server, to), (entry, relay)) = (socket().await, socket().await);
            spawn_local(serve(entry, Slots::new(9, 9), Duration::from_secs(600), to));
            let ((one, _), (two, _)) = (socket().await, socket().await);
            one.send_to(b"one", relay).await.unwrap();
            let (said, first) = heard(&server).await;
            assert_eq!(said, "one");
            two.send_to(b"two", relay).await.unwrap();
            let (_, second) = heard(&server).await;
            assert_ne!(first, second);
            server.send_to(b"to two", second).await.unwrap();
            server.send_to(b"to one", first).await.unwrap();
            assert_eq!(heard(&one).await, ("to one".to_owned(), relay));
            assert_eq!(heard(&two).await, ("to two".to_owned(), relay));
            one.send_to(b"more", relay).await.unwrap();
            assert_eq!(heard(&server).await, ("more".to_owned(), first));
        };
        LocalSet::new().run_until(tell).await;
    }

    /// One place: the second client has it once the first has been silent for long.
    #[tokio::test]
    async fn who_is_silent_is_forgotten_and_the_place_is_free() {
        let tell = async {
            let ((server, to), (entry, relay)) = (socket().await, socket().await);
            spawn_local(serve(entry, Slots::new(1, 1), Duration::from_millis(50), to));
            let ((one, _), (two, _)) = (socket().await, socket().await);
            one.send_to(b"one", relay).await.unwrap();
            assert_eq!(heard(&server).await.0, "one");
            loop {
                two.send_to(b"two", relay).await.unwrap();
                let next = tokio::time::timeout(Duration::from_millis(20), heard(&server)).await;
                if let Ok((said, _)) = next {
                    assert_eq!(said, "two");
                    return;
                }
            }
        };
        LocalSet::new().run_until(tell).await;
    }
}
