//! Gives the agent what lies in the host's network: sockets for egress, published ports.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::Notify;

use super::prepare::{Outside, publish};
use super::progress;
use crate::local::UpError;
use crate::local::agent_api::PublishedPort;
use crate::local::host_link::{EGRESS_SOCKETS_MAX, FromHost, ToHost};
use crate::local::seqpacket::SeqPacket;

/// Serves one agent.
pub(super) struct Broker {
    mesh: Mesh,
    /// Where ports are wanted on the host.
    wanted: BTreeMap<u16, u16>,
}

/// The running mesh, as the host side sees it.
#[derive(Clone)]
pub(super) struct Mesh {
    socket: Rc<SeqPacket>,
    started: Rc<Notify>,
    listeners: Rc<RefCell<BTreeMap<u16, TcpListener>>>,
}

impl Mesh {
    /// Returns when the API answers; once.
    pub(super) async fn api_answers(&self) {
        self.started.notified().await;
    }

    /// Asks the agent to end the mesh.
    pub(super) async fn shut_down(&self) {
        // An agent that is gone has ended the mesh.
        let _ = self.socket.send(&FromHost::Shutdown, &[]).await;
    }

    /// The published ports.
    pub(super) fn urls(&self) -> Vec<PublishedPort> {
        let listeners = self.listeners.borrow();
        let published = |(&port, listener): (&u16, &TcpListener)| {
            Some(PublishedPort { port, address: listener.local_addr().ok()? })
        };
        listeners.iter().filter_map(published).collect()
    }
}

impl Broker {
    /// Takes over what was made before the fork.
    pub(super) fn new(outside: &mut Outside) -> io::Result<Self> {
        let agent = outside.agent.take().ok_or(io::ErrorKind::NotConnected)?;
        let wanted: BTreeMap<u16, u16> = outside.published.iter().copied().collect();
        let mesh = Mesh {
            socket: Rc::new(SeqPacket::new(agent)?),
            started: Rc::default(),
            listeners: Rc::default(),
        };
        Ok(Self { mesh, wanted })
    }

    /// The mesh that is served.
    pub(super) fn mesh(&self) -> Mesh {
        self.mesh.clone()
    }

    /// Serves until the agent ends.
    pub(super) async fn serve(self) -> Result<(), UpError> {
        let mut ending = None;
        while let Some((message, _)) = self.mesh.socket.receive::<ToHost>().await? {
            match message {
                ToHost::Started => self.mesh.started.notify_one(),
                ToHost::Ending { error } => ending = Some(error),
                ToHost::Egress { id, count, v6 } => {
                    let (sockets, refused) = match egress(count, v6) {
                        Ok(sockets) => (sockets, None),
                        Err(error) => (Vec::new(), Some(error.to_string())),
                    };
                    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                    self.mesh.socket.send(&FromHost::Egress { id, refused }, &fds).await?;
                }
                ToHost::Publish { id, port } => self.publish(id, port).await?,
                ToHost::Unpublish { port } => {
                    self.mesh.listeners.borrow_mut().remove(&port);
                }
            }
        }
        match ending {
            Some(None) => Ok(()),
            Some(Some(message)) => Err(UpError::Agent { message }),
            None => Err(UpError::Agent { message: "it was killed".to_owned() }),
        }
    }

    async fn publish(&self, id: u64, port: u16) -> Result<(), UpError> {
        let (answer, socket) = match self.listener(port) {
            Ok((socket, address)) => {
                (FromHost::Publish { id, address: Some(address), refused: None }, Some(socket))
            }
            Err(error) => {
                (FromHost::Publish { id, address: None, refused: Some(error.to_string()) }, None)
            }
        };
        let fds: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
        Ok(self.mesh.socket.send(&answer, &fds).await?)
    }

    /// The listening socket of a gateway's port. Made when a gateway asks for the first time, as a
    /// port that nobody serves is to refuse; and once, so that a restarted gateway finds the
    /// connections that wait.
    fn listener(&self, port: u16) -> io::Result<(OwnedFd, SocketAddr)> {
        let mut listeners = self.mesh.listeners.borrow_mut();
        let listener = match listeners.entry(port) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(free) => {
                let wanted = self.wanted.get(&port).copied().unwrap_or(port);
                let listener = publish(wanted)?;
                let address = listener.local_addr()?;
                note_publication(port, wanted, address);
                free.insert(listener)
            }
        };
        Ok((listener.try_clone()?.into(), listener.local_addr()?))
    }
}

fn note_publication(port: u16, wanted: u16, address: SocketAddr) {
    if wanted != address.port() && wanted != 0 {
        progress::say(&format!("port {wanted} of 127.0.0.1 is not free, another is taken"));
    }
    progress::say(&format!("gateway port {port} is published on {address}"));
}

/// Unconnected sockets of the host's network.
fn egress(count: u8, v6: bool) -> io::Result<Vec<OwnedFd>> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = || {
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        Ok(OwnedFd::from(socket))
    };
    (0..count.clamp(1, EGRESS_SOCKETS_MAX)).map(|_| socket()).collect()
}
