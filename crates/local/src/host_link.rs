//! The agent's way to the host side: sockets of the host's network, published ports, progress.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use ironmesh_images::Pull;
use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, oneshot};

use super::host::pull::{Outcome, failed};
use super::seqpacket::SeqPacket;

/// What the agent asks the host side.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToHost {
    /// Unconnected sockets of the host's network.
    Egress { id: u64, transport: Transport, count: u8, v6: bool },
    /// The host's files about names, opened: /etc/resolv.conf and /etc/hosts.
    NameFiles { id: u64 },
    /// A listening socket on the host's loopback; of UDP one that is bound.
    Listen { id: u64, address: SocketAddrV4, transport: Transport },
    /// A cgroup whose processes may have so many bytes of memory.
    LimitMemory { id: u64, bytes: u64 },
    /// The processes in the cgroup of this request have ended.
    UnlimitMemory { id: u64 },
    /// The MongoDB server is to be built, if it is not there.
    BuildMongoDb { id: u64 },
    /// An image is to be pulled into the user's store.
    PullImage { id: u64, pull: Box<Pull> },
    /// The API answers.
    Started,
    /// The agent ends: in order, or because it cannot go on.
    Ending { error: Option<String> },
}

/// What a socket carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

/// What the host side answers; descriptors come along.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromHost {
    /// As many sockets as descriptors came, or none and why.
    Egress { id: u64, refused: Option<String> },
    /// The files; an empty one for what cannot be opened.
    NameFiles { id: u64, refused: Option<String> },
    /// The listening socket, or why there is none.
    Listen { id: u64, refused: Option<String> },
    /// The file by which a process joins the cgroup, and that of its events; or why there is none.
    LimitMemory { id: u64, refused: Option<String> },
    /// It is there, or why not.
    BuildMongoDb { id: u64, refused: Option<String> },
    /// It is there, or why not, as JSON of its outcome.
    PullImage { id: u64, refused: Option<String> },
    /// End the mesh.
    Shutdown,
}

type Given = Result<Vec<OwnedFd>, String>;

/// A cgroup that bounds the memory of a container.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    id: u64,
    /// A process that writes 0 to it joins.
    pub(crate) join: OwnedFd,
    events: File,
}

impl MemoryLimit {
    /// Whether a process of it was killed, as all together had more.
    pub(crate) fn has_killed(&self) -> bool {
        let mut text = String::new();
        let mut events = &self.events;
        // What cannot be read says nothing.
        let _ = events.read_to_string(&mut text);
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.is_some_and(|count| count != "0")
    }
}

/// The agent's end.
#[derive(Clone)]
pub(crate) struct HostLink {
    socket: Rc<SeqPacket>,
    waiting: Rc<RefCell<HashMap<u64, oneshot::Sender<Given>>>>,
    next: Rc<Cell<u64>>,
    /// Whether the MongoDB server was built.
    mongodb: Rc<OnceCell<()>>,
}

impl HostLink {
    /// The agent's end.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            socket: Rc::new(SeqPacket::new(fd)?),
            waiting: Rc::default(),
            next: Rc::default(),
            mongodb: Rc::default(),
        })
    }

    /// Unconnected sockets of the host's network, at most 16.
    pub(crate) async fn sockets(&self, transport: Transport, count: u8, v6: bool) -> Given {
        let count = count.min(EGRESS_SOCKETS_MAX);
        self.ask(|id| ToHost::Egress { id, transport, count, v6 }).await
    }

    /// The host's /etc/resolv.conf and /etc/hosts as they are now, opened.
    pub(crate) async fn name_files(&self) -> Given {
        self.ask(|id| ToHost::NameFiles { id }).await
    }

    /// A listening socket on the host's loopback; of UDP one that is bound.
    pub(crate) async fn listen(
        &self,
        address: SocketAddrV4,
        transport: Transport,
    ) -> Result<OwnedFd, String> {
        let mut given = self.ask(|id| ToHost::Listen { id, address, transport }).await?;
        given.pop().ok_or_else(|| "the host side gave no socket".to_owned())
    }

    /// A limit of so many bytes for the processes that join it.
    pub(crate) async fn limit_memory(&self, bytes: u64) -> Result<MemoryLimit, String> {
        let id = self.next.get();
        let given = self.ask(|id| ToHost::LimitMemory { id, bytes }).await?;
        let Ok([join, events]) = <[OwnedFd; 2]>::try_from(given) else {
            return Err("the host side gave no cgroup".to_owned());
        };
        Ok(MemoryLimit { id, join, events: events.into() })
    }

    /// Gives a limit up whose processes have ended.
    pub(crate) async fn unlimit_memory(&self, limit: MemoryLimit) {
        self.tell(&ToHost::UnlimitMemory { id: limit.id }).await;
    }

    /// Whether the MongoDB server was built since the mesh began.
    pub(crate) fn has_mongodb(&self) -> bool {
        self.mongodb.initialized()
    }

    /// Has the MongoDB server built, once for all who ask; it can take minutes.
    pub(crate) async fn build_mongodb(&self) -> Result<(), String> {
        let build = || self.ask(|id| ToHost::BuildMongoDb { id });
        self.mongodb.get_or_try_init(|| async { build().await.map(drop) }).await.map(drop)
    }

    /// Has an image pulled into the user's store.
    pub(crate) async fn pull_image(&self, pull: Pull) -> Outcome {
        let asked = self.ask(|id| ToHost::PullImage { id, pull: Box::new(pull) }).await;
        match asked {
            Ok(_) => failed("the host side gave no outcome".to_owned()),
            Err(text) => serde_json::from_str(&text).unwrap_or_else(|_| failed(text)),
        }
    }

    /// Tells the host side something that has no answer.
    pub(crate) async fn tell(&self, message: &ToHost) {
        // When the host side is gone, the lifeline ends the mesh.
        let _ = self.socket.send(message, &[]).await;
    }

    /// Takes answers until the host side wants the mesh to end, or is gone.
    pub(crate) async fn until_shutdown(&self) {
        while let Ok(Some((message, fds))) = self.socket.receive::<FromHost>().await {
            let (id, result) = match message {
                FromHost::Shutdown => return,
                FromHost::Egress { id, refused }
                | FromHost::Listen { id, refused }
                | FromHost::NameFiles { id, refused }
                | FromHost::LimitMemory { id, refused }
                | FromHost::PullImage { id, refused }
                | FromHost::BuildMongoDb { id, refused } => (id, refused.map_or(Ok(fds), Err)),
            };
            if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
                // The proxy that asked may have ended.
                let _ = waiting.send(result);
            }
        }
    }

    async fn ask(&self, message: impl FnOnce(u64) -> ToHost) -> Given {
        let id = self.next.get();
        self.next.set(id + 1);
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, sender);
        self.socket.send(&message(id), &[]).await.map_err(|error| error.to_string())?;
        receiver.await.unwrap_or_else(|_closed| Err("the host side is gone".to_owned()))
    }
}

/// Sockets in one answer.
pub(crate) const EGRESS_SOCKETS_MAX: u8 = 16;
