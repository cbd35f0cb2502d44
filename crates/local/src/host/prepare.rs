//! What is made on the host before the namespaces are entered: sockets, folders, descriptors.

use std::fs::File;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ironmesh_fds as fds;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;

use super::folders::{self, Folders};
use super::ports::{self, Loopback};
use super::programs;
use crate::UpError;
use crate::addresses::{GATEWAY, HostAddresses, SECURE_API_PORT, SERVICE_NETWORK};
use crate::agent::AgentSpec;
use crate::agent_api::{agent_socket, api_socket};
use crate::externals::Externals;
use crate::host_link::Transport;
use crate::images::{Images, SAMPLES};
use crate::options::UpOptions;
use crate::sandbox::mesh::{MeshSpec, may_administer};
use crate::sandbox::user_ranges::UserBlocks;

/// Everything that is made before the fork.
pub(super) struct Prepared {
    outside: Outside,
    inside: Inside,
}

/// What the host side keeps.
pub(super) struct Outside {
    /// To the agent.
    pub(super) agent: Option<OwnedFd>,
    /// What of the host's loopback is the mesh's.
    pub(super) _loopback: Loopback,
    /// Name of the mesh.
    pub(super) mesh: String,
    /// Where programs are built, and how long that may take.
    pub(super) programs: PathBuf,
    pub(super) build_timeout: Duration,
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
    externals: Externals,
    host_addresses: HostAddresses,
    published: Vec<(u16, u16)>,
    api: UnixListener,
    secure_api: OwnedFd,
    agent: UnixListener,
    host: OwnedFd,
    lock: File,
    samples: Option<PathBuf>,
    programs: PathBuf,
    hidden: Vec<PathBuf>,
    users: Option<UserBlocks>,
}

impl Prepared {
    /// Makes everything; the socket of the API is the lock of a mesh's name.
    pub(super) fn new(options: &UpOptions) -> Result<Self, UpError> {
        if !crate::is_mesh_name(&options.mesh) {
            return Err(UpError::Name { mesh: options.mesh.clone() });
        }
        let uid = nix::unistd::geteuid().as_raw();
        let mut images = Images::new(&options.images)?;
        images.store = programs::image_store();
        let api = listen(&api_socket(uid, &options.mesh), &options.mesh)?;
        let agent = listen(&agent_socket(uid, &options.mesh), &options.mesh)?;
        let folders = Folders::new(options.state.as_deref(), &options.mesh, uid)?;
        let hidden = folders::hidden(&folders);
        let users = may_administer().then(|| UserBlocks::take(options.limits.platform.pods_max));
        let programs = programs::folder();
        let (ours, theirs) = fds::seqpacket_pair()?;
        let externals =
            Externals::new(options.limits.platform.externals_max, options.externals.clone())
                .map_err(|message| UpError::External { message })?;
        let loopback = Loopback::take(uid, &options.mesh)?;
        let host_addresses = loopback.addresses;
        let secure_api = listen_securely(host_addresses)?;
        Ok(Self {
            outside: Outside {
                _lock: api.try_clone()?,
                agent: Some(ours),
                _loopback: loopback,
                mesh: options.mesh.clone(),
                programs: programs.clone(),
                build_timeout: options.limits.platform.program_build_timeout,
            },
            inside: Inside {
                mesh: options.mesh.clone(),
                state: folders.state.map(|state| state.join("control")),
                logs: folders.logs,
                lock: folders.lock,
                settings: options.settings.clone(),
                limits: options.limits.clone(),
                images,
                egress: options.egress,
                externals,
                host_addresses,
                published: options.published.clone(),
                api,
                secure_api,
                agent,
                host: theirs,
                samples: samples(),
                programs,
                hidden,
                users: users.transpose()?,
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
    pub(super) fn into_agent(self, lifeline: OwnedFd) -> AgentSpec {
        AgentSpec {
            mesh: self.mesh,
            state: self.state,
            logs: self.logs,
            settings: self.settings,
            limits: self.limits,
            images: self.images,
            egress: self.egress,
            externals: self.externals,
            host_addresses: self.host_addresses,
            published: self.published,
            api: self.api,
            secure_api: self.secure_api,
            agent: self.agent,
            host: self.host,
            _lock: self.lock,
            lifeline,
            samples: self.samples,
            programs: self.programs,
            hidden: self.hidden,
            users: self.users,
        }
    }
}

/// What the mesh's own namespaces are like.
pub(super) fn mesh_spec(mesh: &str) -> MeshSpec {
    MeshSpec { address: GATEWAY, services: SERVICE_NETWORK, hostname: format!("ironmesh-{mesh}") }
}

fn listen(name: &str, mesh: &str) -> Result<UnixListener, UpError> {
    let address = SocketAddr::from_abstract_name(name)?;
    UnixListener::bind_addr(&address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => UpError::Running { mesh: mesh.to_owned() },
        _ => UpError::Io(error),
    })
}

/// The listening socket of the API over TLS, at the mesh's own address: at the port that Kubernetes has,
/// or if another program has that for all addresses at any that is free.
fn listen_securely(host: HostAddresses) -> Result<OwnedFd, UpError> {
    let at = |port| ports::listen(SocketAddrV4::new(host.node(), port), Transport::Tcp);
    Ok(at(SECURE_API_PORT).or_else(|_taken| at(0))?)
}

/// The sample applications: beside this program, or in the search path.
fn samples() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(SAMPLES)).find(|file| {
        let metadata = file.metadata();
        metadata.is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_lead_elsewhere_names_no_mesh() {
        for mesh in ["../../x", "", "a/b", "..", ".a", "-a", "bad name", "a\0", "ä"] {
            let options = UpOptions { mesh: mesh.to_owned(), ..UpOptions::default() };
            assert!(matches!(Prepared::new(&options), Err(UpError::Name { .. })), "{mesh}");
        }
    }

    #[test]
    fn the_second_mesh_of_a_name_is_told_so() {
        let name = format!("ironmesh/test/{}/api", std::process::id());
        let _first = listen(&name, "shop").unwrap();
        let error = listen(&name, "shop").unwrap_err().to_string();
        assert!(error.contains("\"shop\" is running already"), "{error}");
    }
}
