//! What the command line says to a running mesh's agent, and a small blocking client for it.
//!
//! The agent listens on an abstract socket ([`agent_socket`]) and serves the user who started the
//! mesh, and nobody else. A connection carries one JSON request on a line of its own, then one JSON
//! [`Answer`] on a line, then what the request asks for: raw bytes of a forwarded port, or a second
//! line with [`Exit`] when a command ended.

pub mod streams;
mod terminal;

pub use terminal::Terminal;

use std::io::{self, BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use ironmesh_fds::{recv_with_fds, send_with_fds};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::externals::External;

/// The abstract name of the socket of a mesh's Kubernetes-shaped API, without the leading NUL.
pub fn api_socket(uid: u32, mesh: &str) -> String {
    format!("ironmesh/{uid}/{mesh}/api")
}

/// The abstract name of the socket of a mesh's agent, without the leading NUL.
pub fn agent_socket(uid: u32, mesh: &str) -> String {
    format!("ironmesh/{uid}/{mesh}/agent")
}

/// Whether a mesh's socket is one to talk to: names of abstract sockets are anybody's to take, so
/// who listens must be the calling user, or root.
///
/// # Errors
///
/// `PermissionDenied`, if another user listens.
pub(super) fn is_trusted(uid: u32) -> io::Result<()> {
    if uid == 0 || uid == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let why = format!("user {uid} listens on the socket of this mesh, which is not you");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// What can be asked of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// What runs; the answer's `status` is set.
    Status,
    /// End the mesh; the connection closes when nothing is left.
    Shutdown,
    /// Run a command in a container. The client's standard input, output and error follow the
    /// request line with one more line end, as `SCM_RIGHTS`; with `tty` it is one unix socket
    /// instead, over which the master of a terminal made inside is sent.
    Exec(Exec),
    /// Change which names lead out of the mesh; the answer's `externals` is set to what there is then.
    External {
        /// What is given, or given anew.
        set: Vec<External>,
        /// Names that are taken back.
        remove: Vec<String>,
    },
    /// Change which commands stand for images; the answer's `images` is set to what there is then.
    /// Containers that wait for an image look for it again, whether anything was changed or not.
    Images {
        /// Mappings, `PATTERN=COMMAND` each, that are given or given anew.
        map: Vec<String>,
        /// Patterns whose mappings are taken back.
        unmap: Vec<String>,
    },
    /// What containers take of the machine, which is measured for a second; the answer's `usage` is set.
    Usage,
    /// Write to the standard input of a container that has one; raw bytes follow the answer.
    Input {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// Name of the container.
        container: String,
    },
    /// Connect to a port on a pod's own 127.0.0.1; raw bytes follow the answer.
    Forward {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// The port.
        port: u16,
    },
}

/// A command to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container; none: the pod's default container.
    #[serde(default)]
    pub container: Option<String>,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Whether the command gets a terminal of its own.
    #[serde(default)]
    pub tty: bool,
    /// Rows and columns of that terminal; set by [`Client::exec`].
    #[serde(default)]
    pub size: Option<(u16, u16)>,
    /// Whether standard input is passed; otherwise it is empty.
    #[serde(default)]
    pub stdin: bool,
    /// `TERM` of the client.
    #[serde(default)]
    pub term: Option<String>,
}

/// The agent's answer to any request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The names that lead out of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub externals: Option<Vec<External>>,
    /// The patterns of images that commands stand for, with the commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<(String, String)>>,
    /// What runs takes of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// How long the end of the mesh may take, as its limits say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_timeout: Option<Duration>,
}

/// What runs in a mesh takes of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// For how long CPU time was counted.
    pub window: Duration,
    /// Of all processes of the mesh.
    pub all: Taken,
    /// Of the containers that run.
    pub containers: Vec<ContainerUsage>,
}

/// What a container takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerUsage {
    /// Namespace of its pod.
    pub namespace: String,
    /// Name of its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
    /// What it takes, without commands that are run in it.
    pub taken: Taken,
}

/// What processes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// CPU time per second.
    pub cpu_per_second: Duration,
    /// Bytes of memory; of what several processes share, each has its part.
    pub memory_bytes: u64,
}

/// How a command in a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its exit status; 128 and the number of the signal if one ended it.
    pub code: i32,
    /// Why it could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What runs in a mesh. Process ids are those of the agent's PID namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the mesh.
    pub mesh: String,
    /// The agent, always 1.
    pub agent_pid: i32,
    /// The control plane, if it runs.
    pub control_pid: Option<i32>,
    /// Where the ports of gateways answer on the host.
    pub urls: Vec<PublishedPort>,
    /// What stands in the way of others at 127.0.0.1.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The address of the host at which node ports answer.
    #[serde(default)]
    pub node_address: Option<Ipv4Addr>,
    /// The lowest port that the mesh may listen on there.
    #[serde(default)]
    pub lowest_port: u16,
    /// Services of the types LoadBalancer and NodePort, by namespace and name.
    #[serde(default)]
    pub services: Vec<ExposedService>,
    /// Folder of the logs, as the host sees it.
    pub log_directory: PathBuf,
    /// The pods, by namespace and name.
    pub pods: Vec<PodStatus>,
}

/// A port of a gateway that is published on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The gateway's port.
    pub port: u16,
    /// The address on the host.
    pub address: std::net::SocketAddr,
}

impl PublishedPort {
    /// Its URL, without a path. The port is always there, so that scripts can split it off.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.port == 443 { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }
}

/// A Service that answers on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposedService {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its own address on the host, if its type is LoadBalancer.
    pub address: Option<Ipv4Addr>,
    /// Where it answers, at node ports, too.
    pub ports: Vec<std::net::SocketAddr>,
    /// Which ports do not, or are not where they are looked for, and why.
    pub notes: Vec<String>,
}

/// A pod that runs in a mesh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Address in the mesh; empty before it has one.
    pub ip: String,
    /// Phase.
    pub phase: String,
    /// Ready containers of all, such as `2/2`.
    pub ready: String,
    /// Restarts of all containers.
    pub restarts: u32,
    /// The first application container's process, or the proxy of a gateway.
    pub pid: Option<i32>,
    /// The proxy of an injected pod.
    pub sidecar_pid: Option<i32>,
    /// Folder of its logs, as the host sees it.
    pub log_directory: PathBuf,
    /// Its containers.
    pub containers: Vec<ContainerStatus>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Name.
    pub name: String,
    /// Its process, if it runs.
    pub pid: Option<i32>,
    /// Its log, as the host sees it.
    pub log: PathBuf,
}

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no mesh called {mesh:?} is running (start one with `ironmesh up`)")]
    NotRunning {
        /// Name of the mesh.
        mesh: String,
    },
    /// The agent refused, with its reason.
    #[error("{0}")]
    Refused(String),
    /// The connection failed.
    #[error("agent of the mesh: {0}")]
    Io(#[from] io::Error),
    /// The answer is not one.
    #[error("agent of the mesh answered what is no answer: {0}")]
    Answer(#[from] serde_json::Error),
}

/// A connection to the agent of a mesh, for one request.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the agent of a mesh of a user.
    ///
    /// # Errors
    ///
    /// If no such mesh runs.
    pub fn connect(uid: u32, mesh: &str) -> Result<Self, ClientError> {
        let address = SocketAddr::from_abstract_name(agent_socket(uid, mesh))?;
        let stream = UnixStream::connect_addr(&address).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => ClientError::NotRunning { mesh: mesh.to_owned() },
            _ => ClientError::Io(error),
        })?;
        let peer = getsockopt(&stream, PeerCredentials).map_err(io::Error::from)?;
        is_trusted(peer.uid())?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// What runs.
    ///
    /// # Errors
    ///
    /// If the agent does not answer.
    pub fn status(mut self) -> Result<Status, ClientError> {
        self.ask(&Request::Status)?
            .status
            .ok_or_else(|| ClientError::Refused("the answer holds no status".to_owned()))
    }

    /// Changes which names lead out of the mesh; returns those that do then.
    ///
    /// # Errors
    ///
    /// If the agent does not answer, the mesh has no egress, or a name that is to be taken back is none.
    pub fn external(
        mut self,
        set: Vec<External>,
        remove: Vec<String>,
    ) -> Result<Vec<External>, ClientError> {
        Ok(self.ask(&Request::External { set, remove })?.externals.unwrap_or_default())
    }

    /// Changes which commands stand for images; returns the patterns and commands that there are then.
    ///
    /// # Errors
    ///
    /// If the agent does not answer, or a mapping cannot be taken.
    pub fn images(
        mut self,
        map: Vec<String>,
        unmap: Vec<String>,
    ) -> Result<Vec<(String, String)>, ClientError> {
        Ok(self.ask(&Request::Images { map, unmap })?.images.unwrap_or_default())
    }

    /// Ends the mesh; returns when nothing of it is left, or after its `down_timeout`.
    ///
    /// # Errors
    ///
    /// If the agent does not answer, or the mesh does not end.
    pub fn shutdown(mut self) -> Result<(), ClientError> {
        let peer = self.stream.get_ref().peer_addr()?;
        let time_max = self.ask(&Request::Shutdown)?.down_timeout.unwrap_or(DOWN_TIMEOUT);
        let late = || ClientError::Refused(format!("the mesh has not ended in {time_max:?}"));
        let begun = Instant::now();
        self.stream.get_ref().set_read_timeout(Some(time_max))?;
        match self.stream.read_line(&mut String::new()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(late()),
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                return Err(error.into());
            }
            _ => {}
        }
        // The agent is gone. The host side, which holds the socket of the API, ends right after it.
        let name = peer.as_abstract_name().unwrap_or_default();
        let name = name.strip_suffix(b"agent").unwrap_or_default();
        let api = SocketAddr::from_abstract_name([name, b"api"].concat())?;
        while begun.elapsed() < time_max {
            if UnixStream::connect_addr(&api).is_err() {
                return Ok(());
            }
            std::thread::sleep(SHUTDOWN_LOOK_PAUSE);
        }
        Err(late())
    }

    /// Runs a command with the caller's standard input, output and error. With `tty` it gets a
    /// terminal of its own instead, and the first two descriptors, which may be the same terminal
    /// (made raw by the caller), are relayed to it. Returns when the command ended.
    ///
    /// # Errors
    ///
    /// If the pod, the container or the program is not there.
    pub fn exec(mut self, mut exec: Exec, fds: &[BorrowedFd<'_>]) -> Result<Exit, ClientError> {
        let is_terminal = exec.tty;
        if let (true, Some(terminal)) = (is_terminal, fds.first()) {
            exec.size = terminal::size(*terminal);
        }
        self.send(&Request::Exec(exec))?;
        let socket = self.stream.get_ref().as_fd();
        if !is_terminal {
            send_with_fds(socket, b"\n", fds)?;
            self.answer()?;
            return self.read();
        }
        let (ours, theirs) = UnixStream::pair()?;
        send_with_fds(socket, b"\n", &[theirs.as_fd()])?;
        drop(theirs);
        self.answer()?;
        let mut byte = [0; 1];
        let (_, masters) = recv_with_fds(ours.as_fd(), &mut byte)?;
        if let (Some(master), [input, ..]) = (masters.first(), fds) {
            terminal::relay(*input, *fds.get(1).unwrap_or(input), master)?;
        }
        self.read()
    }

    /// Connects to a port on a pod's own loopback; the stream carries its raw bytes.
    ///
    /// # Errors
    ///
    /// If the pod is not there or nothing listens on the port.
    pub fn forward(
        mut self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<BufReader<UnixStream>, ClientError> {
        let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
        self.ask(&Request::Forward { namespace, pod, port })?;
        Ok(self.stream)
    }

    fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.send(request)?;
        self.answer()
    }

    fn send(&self, request: &Request) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        Ok(self.stream.get_ref().write_all(&line)?)
    }

    fn answer(&mut self) -> Result<Answer, ClientError> {
        let answer: Answer = self.read()?;
        match answer.error {
            Some(error) => Err(ClientError::Refused(error)),
            None => Ok(answer),
        }
    }

    fn read<T: DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(serde_json::from_str(&line)?)
    }
}

/// How long the end may take, if the agent does not say.
const DOWN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between looks for the end of the host side.
const SHUTDOWN_LOOK_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_user_is_not_trusted() {
        let own = nix::unistd::geteuid().as_raw();
        assert!(is_trusted(own).is_ok() && is_trusted(0).is_ok());
        let error = is_trusted(own + 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }
}
