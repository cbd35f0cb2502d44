//! The agent: PID 1 of the mesh. It keeps the control plane running, runs the pods, answers names,
//! forwards plain Services, and serves the command line.
//!
//! One thread with one runtime; whatever forks does so on it, whatever blocks has a thread of its
//! own.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use ironmesh_client::{Address, Client};
use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::schema::{Typed, parse};
use ironmesh_identity::TokenKey;
use ironmesh_model::bootstrap::{CONTROL_PORT, OUTSIDE_NAMES_PORT};
use ironmesh_model::limits::{Limits, PlatformLimits};
use ironmesh_model::settings::Settings;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinSet, LocalSet, spawn_local};

use super::addresses::{GATEWAY, HostAddresses, SECURE_API_PORT};
use super::control_process::{self, ControlSpec};
use super::events::Events;
use super::exposure::{self, Exposure};
use super::externals::Externals;
use super::gateways::GatewayPorts;
use super::host_link::{HostLink, ToHost};
use super::images::Images;
use super::kubelet::claims::Claims;
use super::kubelet::cordon::Cordon;
use super::logs::{LogFile, Logs};
use super::node::Node;
use super::reaper::Reaper;
use super::reflector::{Change, Reflector, follow, key_of};
use super::{agent_server, directory, dns, egress, health, kubelet};
use crate::sandbox::ProgramFile;
use crate::sandbox::mesh::RUN_DIRECTORY;
use crate::sandbox::user_ranges::{UserBlocks, UserRanges};

/// What the host side gives to the agent.
#[derive(Debug)]
pub(crate) struct AgentSpec {
    pub(crate) mesh: String,
    /// `--state`; none: the mesh's private memory.
    pub(crate) state: Option<PathBuf>,
    pub(crate) logs: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) limits: Limits,
    pub(crate) images: Images,
    pub(crate) egress: bool,
    pub(crate) externals: Externals,
    /// What of the host's loopback is the mesh's.
    pub(crate) host_addresses: HostAddresses,
    /// Where gateways' ports are wanted at 127.0.0.1, as (gateway's port, host's port).
    pub(crate) published: Vec<(u16, u16)>,
    pub(crate) api: UnixListener,
    /// Of the API over TLS, in the host's network namespace.
    pub(crate) secure_api: OwnedFd,
    pub(crate) agent: UnixListener,
    /// To the host side.
    pub(crate) host: OwnedFd,
    /// Of the folders of state and logs: held until the agent ends.
    pub(crate) _lock: File,
    /// Its end is the end of the host side, and so of the mesh.
    pub(crate) lifeline: OwnedFd,
    /// The sample applications.
    pub(crate) samples: Option<PathBuf>,
    /// Where programs are that were built.
    pub(crate) programs: PathBuf,
    pub(crate) hidden: Vec<PathBuf>,
    /// The users of pods, where the mesh was started by root.
    pub(crate) users: Option<UserBlocks>,
}

/// Runs the agent until the mesh is told to end, or the host side is gone.
pub(crate) fn run(spec: AgentSpec) -> io::Result<()> {
    // The terminal's Ctrl-C is for the host side, which ends the mesh in order.
    let _already_leader = nix::unistd::setsid();
    raise_descriptor_limit();
    log_to(&spec.logs.join("agent.log"), spec.limits.platform.log_bytes_max)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let result = local.block_on(&runtime, serve(spec));
    runtime.shutdown_background();
    result
}

/// What the limits say of answers of the API.
pub(super) fn client_limits(limits: &PlatformLimits) -> ironmesh_client::Limits {
    ironmesh_client::Limits {
        answer_timeout: limits.api_answer_timeout,
        answer_bytes_max: limits.api_body_bytes_max,
    }
}

async fn serve(spec: AgentSpec) -> io::Result<()> {
    let host = HostLink::new(spec.host.try_clone()?)?;
    let result = serve_all(spec, &host).await;
    let error = result.as_ref().err().map(ToString::to_string);
    host.tell(&ToHost::Ending { error }).await;
    result
}

/// The API, from inside the mesh.
fn api(limits: &PlatformLimits) -> Client {
    let address = Address::Path(Path::new(RUN_DIRECTORY).join("api.sock"));
    Client::new(address, client_limits(limits))
}

async fn serve_all(spec: AgentSpec, host: &HostLink) -> io::Result<()> {
    let lifeline = tokio::net::unix::pipe::Receiver::from_owned_fd(spec.lifeline)?;
    let state = spec.state.clone().unwrap_or_else(|| Path::new(RUN_DIRECTORY).join("state"));
    fs::create_dir_all(&state)?;
    if spec.state.is_some() {
        spec.externals.keep_in(state.join("externals.json"));
    }
    let api = api(&spec.limits.platform);
    let (events, posting) = Events::new(api.clone(), &spec.limits.platform);
    let push_address = SocketAddr::from((GATEWAY, CONTROL_PORT));
    let node = Rc::new(Node {
        mesh: spec.mesh,
        cordon: Cordon::default(),
        claims: Claims::new(&state, spec.state.is_some(), &spec.limits.platform),
        logs: Logs::new(spec.logs, spec.limits.platform.log_bytes_max)?,
        api: api.clone(),
        services: Reflector::default(),
        given_endpoints: Reflector::default(),
        secrets: Reflector::default(),
        config_maps: Reflector::default(),
        gateway_ports: GatewayPorts::new(spec.settings.clone()),
        entries: RefCell::default(),
        host_ports: Default::default(),
        edge: Notify::new(),
        topology: Notify::new(),
        configuration: Notify::new(),
        pods: RefCell::default(),
        addresses: Default::default(),
        images: spec.images,
        samples: spec.samples.as_deref().and_then(samples),
        reaper: Reaper::default(),
        events,
        host: host.clone(),
        token_key: TokenKey::generate().map_err(io::Error::other)?,
        state: state.clone(),
        push_address,
        exposure: Exposure::new(spec.host_addresses, spec.published, &spec.limits.platform),
        limits: spec.limits,
        egress: spec.egress,
        externals: Rc::new(spec.externals),
        users: spec.users.map(UserRanges::new),
        programs: spec.programs,
        hidden: spec.hidden,
        control_pid: Default::default(),
        has_started: Default::default(),
        is_ending: Default::default(),
    });
    let agent_socket = Path::new(RUN_DIRECTORY).join("agent.sock");
    let control = ControlSpec {
        host_api: spec.api,
        own_api: UnixListener::bind(Path::new(RUN_DIRECTORY).join("api.sock"))?,
        host_secure_api: spec.secure_api,
        own_secure_api: std::net::TcpListener::bind((GATEWAY, SECURE_API_PORT))?,
        agent_socket: agent_socket.clone(),
        push: std::net::TcpListener::bind(push_address)?,
        push_address,
        state,
        settings: spec.settings,
    };
    let shutdown = Rc::new(Notify::new());
    let listeners = [listening(spec.agent)?, tokio::net::UnixListener::bind(agent_socket)?];
    let mut parts = begin(&node, control, posting, listeners, &shutdown);
    tokio::select! {
        ended = parts.until_one_ends() => return ended,
        () = until_closed(lifeline) => {}
        () = host.until_shutdown() => end_pods(&node).await,
        () = shutdown.notified() => end_pods(&node).await,
    }
    Ok(())
}

/// Begins all that the agent does, but to end.
fn begin(
    node: &Rc<Node>,
    control: ControlSpec,
    posting: impl Future<Output = ()> + 'static,
    listeners: [tokio::net::UnixListener; 2],
    shutdown: &Rc<Notify>,
) -> Parts {
    let mut parts = Parts::default();
    parts.keep(node.reaper.clone().run());
    parts.keep(control_process::supervise(Rc::clone(node), control));
    parts.keep(for_ever(posting));
    for listener in listeners {
        parts.keep(for_ever(agent_server::serve(Rc::clone(node), listener, Rc::clone(shutdown))));
    }
    parts.keep(for_ever(directory::forward(Rc::clone(node))));
    parts.keep(resolve_names(Rc::clone(node)));
    parts.keep(for_ever(follow_all(Rc::clone(node))));
    parts.keep(egress::serve(Rc::clone(node)));
    parts
}

/// Answers for names, for ever.
async fn resolve_names(node: Rc<Node>) -> io::Result<()> {
    let outside =
        dns::Outside::new(node.host.clone(), Rc::clone(&node.externals), &node.limits.platform);
    let resolver = dns::Resolver {
        names: Rc::clone(&node) as Rc<dyn dns::Names>,
        outside: node.egress.then(|| Rc::new(outside)),
        for_workloads: true,
    };
    let for_proxies = dns::Resolver { for_workloads: false, ..resolver.clone() };
    let limits = &node.limits.platform;
    tokio::try_join!(
        resolve_at(DNS_PORT, resolver, limits.clone()),
        resolve_at(OUTSIDE_NAMES_PORT, for_proxies, limits.clone()),
    )?;
    Ok(())
}

async fn resolve_at(port: u16, resolver: dns::Resolver, limits: PlatformLimits) -> io::Result<()> {
    let udp = tokio::net::UdpSocket::bind((GATEWAY, port)).await?;
    let tcp = tokio::net::TcpListener::bind((GATEWAY, port)).await?;
    dns::serve(udp, tcp, resolver, limits).await;
    Ok(())
}

fn listening(socket: UnixListener) -> io::Result<tokio::net::UnixListener> {
    socket.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(socket)
}

/// The parts of the agent, each of which goes on as long as the mesh does: without one of them the
/// mesh would seem to run and not do what it should.
#[derive(Default)]
struct Parts(JoinSet<io::Result<()>>);

impl Parts {
    fn keep(&mut self, part: impl Future<Output = io::Result<()>> + 'static) {
        self.0.spawn_local(part);
    }

    /// Returns when a part has ended, as it never should, with the reason.
    async fn until_one_ends(&mut self) -> io::Result<()> {
        match self.0.join_next().await {
            Some(Ok(ended)) => ended.and(Err(io::Error::other("a part of the agent ended"))),
            Some(Err(panic)) => Err(io::Error::other(format!("a part of the agent: {panic}"))),
            None => Ok(()),
        }
    }
}

async fn for_ever(part: impl Future<Output = ()>) -> io::Result<()> {
    part.await;
    Ok(())
}

/// Lets the agent, the proxies and everything else have as many descriptors as the user may have:
/// what is usual as a first limit (1 024) is little for a proxy.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // Where it is refused, the first limit stays.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// The sample applications, if they can be opened.
fn samples(path: &Path) -> Option<ProgramFile> {
    match ProgramFile::open(path) {
        Ok(file) => Some(file),
        Err(error) => {
            tracing::warn!(%error, "the sample applications cannot be used");
            None
        }
    }
}

/// Leaves the terminal to the host side: what the agent says goes to its log. What it cannot write
/// there is lost, and no reason to end.
fn log_to(path: &Path, bytes_max: u64) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    // What a panic says, which knows of no limit but is no more than that.
    let direct = File::options().append(true).create(true).open(path).unwrap_or(null);
    nix::unistd::dup2_stdout(&direct)?;
    nix::unistd::dup2_stderr(&direct)?;
    let filter = std::env::var("RUST_LOG").ok().and_then(|filter| filter.parse().ok());
    tracing_subscriber::fmt()
        .with_writer(Mutex::new(LogFile::new(path.to_owned(), bytes_max)))
        .log_internal_errors(false)
        .with_ansi(false)
        .with_max_level(filter.unwrap_or(tracing::Level::INFO))
        .try_init()
        .map_err(io::Error::other)
}

/// Copies the API's objects, and runs its pods once everything that they may refer to is known.
async fn follow_all(node: Rc<Node>) {
    while !node.api.is_healthy().await {
        tokio::time::sleep(HEALTH_PAUSE).await;
    }
    forget_statuses(&node.api).await;
    node.has_started.set(true);
    node.host.tell(&ToHost::Started).await;
    let on_service = || {
        let node = Rc::clone(&node);
        move || node.note_topology()
    };
    let on_configuration = || {
        let node = Rc::clone(&node);
        move || node.configuration.notify_one()
    };
    let on_config_map = {
        let node = Rc::clone(&node);
        move || {
            node.configuration.notify_one();
            node.note_mesh_config();
        }
    };
    let on_gateway = {
        let node = Rc::clone(&node);
        move || node.note_edge()
    };
    tokio::join!(
        copy(GATEWAYS, &node, node.gateway_ports.gateways.clone(), on_gateway),
        copy("/api/v1/services", &node, node.services.clone(), on_service()),
        copy("/api/v1/endpoints", &node, node.given_endpoints.clone(), on_service()),
        copy("/api/v1/secrets", &node, node.secrets.clone(), on_configuration()),
        copy("/api/v1/configmaps", &node, node.config_maps.clone(), on_config_map),
        kubelet::claims::follow_all(&node),
        kubelet::cordon::follow_node(&node),
        copy_entries(&node),
    );
    spawn_local(kubelet::refresh_volumes(Rc::clone(&node)));
    for (path, copy) in [
        (INGRESSES, node.gateway_ports.ingresses.clone()),
        (INGRESS_CLASSES, node.gateway_ports.ingress_classes.clone()),
    ] {
        spawn_local(copy_at_edge(Rc::clone(&node), path, copy));
    }
    spawn_local(exposure::run(Rc::clone(&node)));
    spawn_local(health::run(Rc::clone(&node)));
    let (sender, changes) = mpsc::channel(node.limits.platform.changes_waiting_max);
    spawn_local(follow(node.api.clone(), "/api/v1/pods", sender));
    kubelet::run(node, changes).await;
}

/// Takes back what an earlier mesh of the same `--state` said of its pods: none of them runs.
async fn forget_statuses(api: &Client) {
    let Ok(pods) = api.get("/api/v1/pods").await else { return };
    for pod in pods["items"].as_array().into_iter().flatten() {
        if Pod::of(pod).is_finished() {
            continue;
        }
        let mut pod = pod.clone();
        let (namespace, name) = key_of(&pod);
        let mut status = serde_json::json!({"phase": "Pending"});
        // Whether it has run here before: then it need not be placed again.
        if let Some(start) = pod.pointer("/status/startTime") {
            status["startTime"] = start.clone();
        }
        pod["status"] = status;
        if let Err(error) =
            api.put(&format!("/api/v1/namespaces/{namespace}/pods/{name}/status"), &pod).await
        {
            tracing::warn!(namespace, name, %error, "the status of a pod stays as it was");
        }
    }
}

/// Begins to copy a collection; returns when all that is there now was copied.
async fn copy<T: Typed + Clone + 'static>(
    path: &'static str,
    node: &Rc<Node>,
    copy: Reflector<T>,
    changed: impl Fn() + 'static,
) {
    let (sender, mut changes) = mpsc::channel(node.limits.platform.changes_waiting_max);
    spawn_local(follow(node.api.clone(), path, sender));
    let synced = Rc::new(Notify::new());
    let tell = Rc::clone(&synced);
    spawn_local(async move {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Is(object) => {
                    let key = key_of(&object);
                    match parse(&object) {
                        Ok(object) => copy.insert(key, object),
                        Err(error) => {
                            tracing::warn!(path, object = ?key, %error, "an object cannot be read");
                        }
                    }
                }
                Change::Gone(key) => copy.remove(&key),
                Change::Synced => tell.notify_one(),
            }
            changed();
        }
    });
    synced.notified().await;
}

/// Begins to copy the ServiceEntries; returns when all that are there now were copied.
async fn copy_entries(node: &Rc<Node>) {
    let (sender, mut changes) = mpsc::channel(node.limits.platform.changes_waiting_max);
    spawn_local(follow(node.api.clone(), ENTRIES, sender));
    let (synced, node) = (Rc::new(Notify::new()), Rc::clone(node));
    let tell = Rc::clone(&synced);
    spawn_local(async move {
        while let Some(change) = changes.recv().await {
            match change {
                Change::Is(object) => node.entries.borrow_mut().put(object),
                Change::Gone((namespace, name)) => {
                    node.entries.borrow_mut().take(&namespace, &name);
                }
                Change::Synced => tell.notify_one(),
            }
        }
    });
    synced.notified().await;
}

/// Copies what says of ports of gateways, for ever.
async fn copy_at_edge(node: Rc<Node>, path: &'static str, copy: Reflector<Value>) {
    let (sender, mut changes) = mpsc::channel(node.limits.platform.changes_waiting_max);
    spawn_local(follow(node.api.clone(), path, sender));
    while let Some(change) = changes.recv().await {
        match change {
            Change::Is(object) => copy.insert(key_of(&object), object),
            Change::Gone(key) => copy.remove(&key),
            Change::Synced => {}
        }
        node.note_edge();
    }
}

/// Ends all pods in order, for as long as that is allowed to take; what is left dies with the
/// agent.
async fn end_pods(node: &Node) {
    node.is_ending.set(true);
    let limits = &node.limits.platform;
    let pods: Vec<_> = node.pods.borrow().values().cloned().collect();
    for pod in &pods {
        pod.stop(limits.shutdown_grace_period.as_secs());
    }
    let ended = async {
        while pods.iter().any(|pod| pod.runs()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Whatever takes longer is killed.
    let _ = tokio::time::timeout(limits.shutdown_timeout, ended).await;
}

async fn until_closed(mut lifeline: tokio::net::unix::pipe::Receiver) {
    use tokio::io::AsyncReadExt;
    let mut nothing = [0; 1];
    // Nothing is ever written: data would be a mistake, and an error is as good as the end.
    let _ = lifeline.read(&mut nothing).await;
}

/// Where the API has the ServiceEntries.
const ENTRIES: &str = "/apis/networking.istio.io/v1/serviceentries";
/// Where the API has the Gateways.
pub(super) const GATEWAYS: &str = "/apis/networking.istio.io/v1/gateways";
/// Where the API has the Ingresses.
pub(super) const INGRESSES: &str = "/apis/networking.k8s.io/v1/ingresses";
/// Where the API has the IngressClasses.
pub(super) const INGRESS_CLASSES: &str = "/apis/networking.k8s.io/v1/ingressclasses";
/// Port of the resolver.
const DNS_PORT: u16 = 53;
/// Pause between questions whether the API is there.
const HEALTH_PAUSE: Duration = Duration::from_millis(10);
