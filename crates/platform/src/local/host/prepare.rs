//! What is made on the host before the namespaces are entered: sockets, folders, descriptors.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;

use crate::fds;
use crate::local::UpError;
use crate::local::agent::AgentSpec;
use crate::local::agent_api::{PublishedPort, agent_socket, api_socket};
use crate::local::control_process::SERVICE_NETWORK;
use crate::local::images::{Images, SAMPLES};
use crate::local::kubelet::pod::GATEWAY;
use crate::local::options::UpOptions;
use crate::sandbox::mesh::MeshSpec;

/// Everything that is made before the fork.
pub(super) struct Prepared {
    outside: Outside,
    inside: Inside,
}

/// What the host side keeps.
pub(super) struct Outside {
    /// To the agent.
    pub(super) agent: Option<OwnedFd>,
    /// Ports that are published, by the gateway's port.
    pub(super) listeners: Vec<(u16, TcpListener)>,
    pub(super) published: Vec<(u16, u16)>,
    /// The API's socket, which is the lock of the mesh's name: held until all has ended.
    pub(super) _lock: UnixListener,
}

/// What the agent gets.
pub(super) struct Inside {
    mesh: String,
    state: Option<PathBuf>,
    logs: PathBuf,
    settings: Settings,
    limits: Limits,
    images: Images,
    egress: bool,
    api: UnixListener,
    agent: UnixListener,
    host: OwnedFd,
    published: Vec<PublishedPort>,
    samples: Option<File>,
    hidden: Vec<PathBuf>,
}

impl Prepared {
    /// Makes everything; the socket of the API is the lock of a mesh's name.
    pub(super) fn new(options: &UpOptions) -> Result<Self, UpError> {
        let uid = nix::unistd::geteuid().as_raw();
        let images = Images::new(&options.images)?;
        let api = listen(&api_socket(uid, &options.mesh), &options.mesh)?;
        let agent = listen(&agent_socket(uid, &options.mesh), &options.mesh)?;
        let state = options.state.as_deref().map(state_folder).transpose()?;
        let logs = log_folder(options, state.as_deref(), uid)?;
        let (ours, theirs) = fds::seqpacket_pair()?;
        let mut listeners = Vec::new();
        for &(port, wanted) in &options.published {
            listeners.push((port, publish(wanted)?));
        }
        let published = listeners
            .iter()
            .map(|(port, listener)| {
                Ok(PublishedPort { port: *port, address: listener.local_addr()? })
            })
            .collect::<io::Result<_>>()?;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let home = home.filter(|home| home.is_absolute() && home.parent().is_some());
        let hidden = home.into_iter().chain(state.clone()).chain([logs.clone()]).collect();
        Ok(Self {
            outside: Outside {
                _lock: api.try_clone()?,
                agent: Some(ours),
                listeners,
                published: options.published.clone(),
            },
            inside: Inside {
                mesh: options.mesh.clone(),
                state: state.map(|state| state.join("control")),
                logs,
                settings: options.settings.clone(),
                limits: options.limits.clone(),
                images,
                egress: options.egress,
                api,
                agent,
                host: theirs,
                published,
                samples: samples(),
                hidden,
            },
        })
    }

    /// The two sides of the fork.
    pub(super) fn split(self) -> (Outside, Inside) {
        (self.outside, self.inside)
    }
}

impl Inside {
    /// What the agent is started with, once it is inside.
    pub(super) fn into_agent(self, lifeline: OwnedFd, root: bool) -> AgentSpec {
        AgentSpec {
            mesh: self.mesh,
            state: self.state,
            logs: self.logs,
            settings: self.settings,
            limits: self.limits,
            images: self.images,
            egress: self.egress,
            api: self.api,
            agent: self.agent,
            host: self.host,
            published: self.published,
            lifeline,
            samples: self.samples,
            hidden: self.hidden,
            root,
        }
    }
}

/// What the mesh's own namespaces are like.
pub(super) fn mesh_spec(mesh: &str) -> MeshSpec {
    MeshSpec { address: GATEWAY, services: SERVICE_NETWORK, hostname: format!("ironmesh-{mesh}") }
}

/// A listening socket on the host's loopback: the wanted port, or a free one if it is taken or not
/// allowed.
pub(super) fn publish(wanted: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, wanted))
        .or_else(|_taken| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn listen(name: &str, mesh: &str) -> Result<UnixListener, UpError> {
    let address = SocketAddr::from_abstract_name(name)?;
    UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => UpError::Running { mesh: mesh.to_owned() },
        _ => UpError::Io(error),
    })
}

/// The sample applications: beside this program, or in the search path.
fn samples() -> Option<File> {
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(SAMPLES)).find_map(|file| {
        let file = File::open(file).ok()?;
        let metadata = file.metadata().ok()?;
        (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(file)
    })
}

fn state_folder(state: &Path) -> Result<PathBuf, UpError> {
    let bad = |source| UpError::Folder { path: state.to_owned(), source };
    private_folder(state).map_err(bad)?;
    let state = state.canonicalize().map_err(bad)?;
    if is_hidden(&state) {
        return Err(bad(io::Error::other("the mesh has a /run of its own; choose another folder")));
    }
    Ok(state)
}

/// Whether a folder of the host is not seen inside the mesh.
fn is_hidden(path: &Path) -> bool {
    path.starts_with("/run")
}

/// The folder of the logs: in the state folder if there is one, else where the user's programs keep
/// their state, else in the folder for temporary files.
fn log_folder(options: &UpOptions, state: Option<&Path>, uid: u32) -> Result<PathBuf, UpError> {
    let user = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    let user = user.filter(|folder| folder.is_absolute() && !is_hidden(folder));
    let temporary = std::env::temp_dir().join(format!("ironmesh-{uid}"));
    let folders = match (state, user) {
        (Some(state), _) => vec![state.to_owned()],
        (None, Some(user)) => {
            vec![user.join("ironmesh").join(&options.mesh), temporary.join(&options.mesh)]
        }
        (None, None) => vec![temporary.join(&options.mesh)],
    };
    let mut last = None;
    for folder in folders {
        let logs = folder.join("logs");
        match fresh_folder(&logs, uid) {
            Ok(()) => return Ok(logs),
            Err(source) => last = Some(UpError::Folder { path: logs, source }),
        }
    }
    Err(last.expect("there is at least one candidate"))
}

/// An empty folder of this user: the logs of an earlier mesh of the same name end with it.
fn fresh_folder(path: &Path, uid: u32) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => private_folder(path)?,
    }
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() && metadata.uid() == uid {
        return Ok(());
    }
    Err(io::Error::other("it belongs to another user"))
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_falls_back_to_a_free_one() {
        let taken = publish(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let other = publish(port).unwrap().local_addr().unwrap().port();
        assert_ne!(other, port);
        assert_ne!(other, 0);
    }

    #[test]
    fn the_second_mesh_of_a_name_is_told_so() {
        let name = format!("ironmesh/test/{}/api", std::process::id());
        let _first = listen(&name, "shop").unwrap();
        let error = listen(&name, "shop").unwrap_err().to_string();
        assert!(error.contains("\"shop\" is running already"), "{error}");
    }

    #[test]
    fn logs_of_an_earlier_mesh_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let options = UpOptions::default();
        let uid = nix::unistd::geteuid().as_raw();
        let logs = log_folder(&options, Some(folder.path()), uid).unwrap();
        fs::write(logs.join("old.log"), "x").unwrap();
        assert_eq!(log_folder(&options, Some(folder.path()), uid).unwrap(), logs);
        assert_eq!(fs::read_dir(&logs).unwrap().count(), 0);
    }
}
