//! Gives the agent what lies in the host's network: sockets for egress, published ports.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Mutex, Notify};
use tokio::task::spawn_local;

use super::memory::MemoryGroups;
use super::ports;
use super::prepare::Outside;
use super::{programs, pull};
use crate::UpError;
use crate::host_link::{EGRESS_SOCKETS_MAX, FromHost, ToHost, Transport};
use crate::seqpacket::SeqPacket;

/// Serves one agent.
pub(super) struct Broker {
    mesh: Mesh,
    /// Where programs are built.
    programs: PathBuf,
    build_timeout: Duration,
    /// Held while one is built: who asks meanwhile has it then.
    building: Rc<Mutex<()>>,
}

/// The running mesh, as the host side sees it.
#[derive(Clone)]
pub(super) struct Mesh {
    socket: Rc<SeqPacket>,
    started: Rc<Notify>,
    /// Made when the first container with a limit comes.
    memory: Rc<RefCell<Option<Result<MemoryGroups, String>>>>,
    /// The name of the mesh.
    name: Rc<str>,
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
}

impl Broker {
    /// Takes over what was made before the fork.
    pub(super) fn new(outside: &mut Outside) -> io::Result<Self> {
        let agent = outside.agent.take().ok_or(io::ErrorKind::NotConnected)?;
        let mesh = Mesh {
            socket: Rc::new(SeqPacket::new(agent)?),
            started: Rc::default(),
            memory: Rc::default(),
            name: outside.mesh.as_str().into(),
        };
        let build_timeout = outside.build_timeout;
        let programs = outside.programs.clone();
        Ok(Self { mesh, programs, build_timeout, building: Rc::default() })
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
                ToHost::Egress { id, transport, count, v6 } => {
                    let (sockets, refused) = match egress(transport, count, v6) {
                        Ok(sockets) => (sockets, None),
                        Err(error) => (Vec::new(), Some(error.to_string())),
                    };
                    let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                    self.mesh.socket.send(&FromHost::Egress { id, refused }, &fds).await?;
                }
                ToHost::NameFiles { id } => {
                    let (files, refused) = match name_files() {
                        Ok(files) => (Vec::from(files), None),
                        Err(error) => (Vec::new(), Some(error.to_string())),
                    };
                    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                    self.mesh.socket.send(&FromHost::NameFiles { id, refused }, &fds).await?;
                }
                ToHost::Listen { id, address, transport } => {
                    let (socket, refused) = match ports::listen(address, transport) {
                        Ok(socket) => (Some(socket), None),
                        Err(error) => (None, Some(error.kind().to_string())),
                    };
                    let fds: Vec<_> = socket.iter().map(AsFd::as_fd).collect();
                    self.mesh.socket.send(&FromHost::Listen { id, refused }, &fds).await?;
                }
                ToHost::LimitMemory { id, bytes } => {
                    let (files, refused) = match self.limit_memory(id, bytes) {
                        Ok(files) => (Vec::from(files), None),
                        Err(why) => (Vec::new(), Some(why)),
                    };
                    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
                    self.mesh.socket.send(&FromHost::LimitMemory { id, refused }, &fds).await?;
                }
                ToHost::BuildMongoDb { id } => {
                    let (socket, folder) = (Rc::clone(&self.mesh.socket), self.programs.clone());
                    let (limit, building) = (self.build_timeout, Rc::clone(&self.building));
                    spawn_local(async move {
                        let _one = building.lock().await;
                        let refused = programs::build_mongodb(&folder, limit).await.err();
                        // An agent that is gone needs no answer.
                        let _ = socket.send(&FromHost::BuildMongoDb { id, refused }, &[]).await;
                    });
                }
                ToHost::PullImage { id, pull } => {
                    let (socket, store) = (Rc::clone(&self.mesh.socket), programs::image_store());
                    spawn_local(async move {
                        let outcome = pull::pull(&store, *pull).await;
                        let refused = serde_json::to_string(&outcome).ok();
                        // An agent that is gone needs no answer.
                        let _ = socket.send(&FromHost::PullImage { id, refused }, &[]).await;
                    });
                }
                ToHost::UnlimitMemory { id } => {
                    if let Some(Ok(groups)) = &mut *self.mesh.memory.borrow_mut() {
                        groups.remove(id);
                    }
                }
            }
        }
        match ending {
            Some(None) => Ok(()),
            Some(Some(message)) => Err(UpError::Agent { message }),
            None => Err(UpError::Agent { message: "its agent was killed".to_owned() }),
        }
    }

    fn limit_memory(&self, id: u64, bytes: u64) -> Result<[OwnedFd; 2], String> {
        let mut memory = self.mesh.memory.borrow_mut();
        let groups = memory.get_or_insert_with(|| MemoryGroups::new(&self.mesh.name));
        let groups = groups.as_mut().map_err(|why| why.clone())?;
        groups.make(id, bytes).map_err(|error| format!("its cgroup cannot be made: {error}"))
    }
}

/// Unconnected sockets of the host's network.
fn egress(transport: Transport, count: u8, v6: bool) -> io::Result<Vec<OwnedFd>> {
    let domain = if v6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = || match transport {
        Transport::Udp => {
            Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).map(OwnedFd::from)
        }
        Transport::Tcp => {
            let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
            socket.set_tcp_nodelay(true)?;
            Ok(OwnedFd::from(socket))
        }
    };
    (0..count.clamp(1, EGRESS_SOCKETS_MAX)).map(|_| socket()).collect()
}

/// What the host's programs find names by. Opened here, as the mesh has a /run of its own, to which they
/// may be links.
fn name_files() -> io::Result<[OwnedFd; 2]> {
    let open = |path: &str| -> io::Result<OwnedFd> {
        let mut options = File::options();
        // Whatever stands there is not waited for.
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open(path).or_else(|_| File::open("/dev/null"))?;
        Ok(file.into())
    };
    Ok([open("/etc/resolv.conf")?, open("/etc/hosts")?])
}
