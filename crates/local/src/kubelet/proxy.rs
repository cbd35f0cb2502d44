//! The mesh's own containers: capture rules, sidecars and gateways.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::rc::Rc;

use ironmesh_dialects::istio::topology::{PROXY_CONFIG, own_topology};
use ironmesh_dialects::kubernetes::kinds::Container;
use ironmesh_fds as fds;
use ironmesh_identity::Claims;
use ironmesh_model::bootstrap::{
    ADMIN_PORT, ControlAddress, FromAgent, HEALTH_PORT, INBOUND_PORT, InheritedListener,
    ListenerRole, MERGED_METRICS_PORT, METRICS_PORT, OUTBOUND_PORT, OUTSIDE_NAMES_PORT,
    ProxyBootstrap, ProxyKind, ToAgent,
};
use ironmesh_model::{Labels, Name, WorkloadId};
use tokio::task::spawn_local;

use super::container::{Kind, NotStarted, Running, Slot};
use super::edge;
use super::handler::ProbeChannel;
use super::launch::{sandbox, started};
use super::pod::{PodState, blocking};
use crate::addresses::{EXTERNAL_NETWORK, GATEWAY, POD_NETWORK, SERVICE_NETWORK, cidr};
use crate::events::EventKind;
use crate::host_link::Transport;
use crate::sandbox::proxy::{FD_MIN, ProxySpec, spawn};
use crate::sandbox::user_ranges::UserRange;
use crate::seqpacket::SeqPacket;

/// Installs the rules that lead a pod's traffic through its proxy.
pub(super) async fn capture(state: &PodState) -> Result<(), NotStarted> {
    let sandbox = sandbox(state)?;
    blocking(move || sandbox.capture()).await.map_err(|error| NotStarted::Config(error.to_string()))
}

/// Starts the proxy of a pod; returns when it runs.
pub(super) async fn launch(
    state: &Rc<PodState>,
    slot: Slot,
    container: &Container,
) -> Result<Running, NotStarted> {
    let failed = |error: &dyn std::fmt::Display| NotStarted::Program(error.to_string());
    let kind = if slot.kind == Kind::Gateway { ProxyKind::Gateway } else { ProxyKind::Sidecar };
    listen(state, kind).await?;
    let sandbox = sandbox(state)?;
    let log = state.node.logs.begin(state.log(&container.name), true).await;
    let log = log.map_err(|error| failed(&error))?;
    let (ours, theirs) = fds::seqpacket_pair().map_err(|error| failed(&error))?;
    let (probes, probed) = UnixStream::pair().map_err(|error| failed(&error))?;
    let ended = {
        let listeners = state.listeners.borrow();
        let mut inherited: Vec<InheritedListener> = Vec::new();
        let mut descriptors: Vec<(BorrowedFd<'_>, i32)> =
            vec![(theirs.as_fd(), AGENT_FD), (probed.as_fd(), PROBE_FD)];
        for (listener, fd) in listeners.iter().zip(FIRST_LISTENER_FD..) {
            let ((role, _), listener) = listener;
            inherited.push(InheritedListener { role: *role, fd });
            descriptors.push((listener.as_fd(), fd));
        }
        let bootstrap = bootstrap(state, kind, inherited)?;
        let document = fds::json_memfd("bootstrap", &bootstrap).map_err(|error| failed(&error))?;
        descriptors.push((document.as_fd(), BOOTSTRAP_FD));
        let spec = ProxySpec {
            arguments: ["internal", "proxy", "--bootstrap-fd", &BOOTSTRAP_FD.to_string()]
                .map(str::to_owned)
                .to_vec(),
            environment: environment(),
            user: state.users.as_ref().map(UserRange::proxy),
            hidden: state.node.hidden.clone(),
        };
        let spawned =
            spawn(&sandbox, &spec, log.as_fd(), &descriptors).map_err(|error| failed(&error))?;
        let ended = state.node.reaper.expect(spawned.pid);
        (spawned, ended)
    };
    drop((theirs, probed));
    let (spawned, ended) = ended;
    let name = Some(container.name.as_str());
    let message = format!("Created container {}", container.name);
    state.event(name, EventKind::Normal, "Created", message);
    started(spawned.status).await.map_err(|error| failed(&error))?;
    let asker = ProbeChannel::new(&container.name, probes).await.map_err(|error| failed(&error))?;
    state.probes.replace(Some(asker));
    let channel = SeqPacket::new(ours).map_err(|error| failed(&error))?;
    spawn_local(serve(Rc::clone(state), kind, channel));
    Ok(Running { pid: spawned.pid, ended, memory: None, image_id: String::new() })
}

/// Makes the listening sockets of a pod's proxy, if they are not there yet.
async fn listen(state: &PodState, kind: ProxyKind) -> Result<(), NotStarted> {
    if !state.listeners.borrow().is_empty() {
        return Ok(());
    }
    let loopback = Ipv4Addr::LOCALHOST;
    let any = Ipv4Addr::UNSPECIFIED;
    let mut wanted = vec![
        (ListenerRole::Admin, loopback, ADMIN_PORT),
        (ListenerRole::Health, any, HEALTH_PORT),
        (ListenerRole::Metrics, any, METRICS_PORT),
        (ListenerRole::Metrics, any, MERGED_METRICS_PORT),
    ];
    if kind == ProxyKind::Sidecar {
        wanted.push((ListenerRole::Outbound, loopback, OUTBOUND_PORT));
        wanted.push((ListenerRole::Inbound, any, INBOUND_PORT));
    }
    let sandbox = sandbox(state)?;
    let made = blocking(move || {
        let listen = |(role, ip, port)| {
            let listener = sandbox.listen(SocketAddrV4::new(ip, port))?;
            Ok(((role, port), listener))
        };
        wanted.into_iter().map(listen).collect::<Result<Vec<_>, _>>()
    })
    .await
    .map_err(|error| NotStarted::Program(error.to_string()))?;
    state.listeners.borrow_mut().extend(made);
    Ok(())
}

fn bootstrap(
    state: &PodState,
    kind: ProxyKind,
    listeners: Vec<InheritedListener>,
) -> Result<ProxyBootstrap, NotStarted> {
    let node = &state.node;
    let pod = state.pod.borrow();
    let anchors_pem = node
        .anchors()
        .map_err(|error| NotStarted::Program(format!("trust anchors of the mesh: {error}")))?;
    let ip = state.ip().map_or(GATEWAY.into(), Into::into);
    let service_account: Name = pod.spec.service_account().into();
    let meta = &pod.metadata;
    let claims = Claims {
        namespace: meta.namespace.as_str().into(),
        service_account: service_account.clone(),
        pod: meta.name.as_str().into(),
        uid: meta.uid.as_str().into(),
        ip,
        kind,
    };
    Ok(ProxyBootstrap {
        kind,
        workload: WorkloadId {
            cluster: CLUSTER.into(),
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            uid: meta.uid.as_str().into(),
        },
        ip,
        owner: meta.pod_owner().into(),
        labels: meta.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Labels>(),
        service_account,
        control: ControlAddress { address: node.push_address, anchors_pem },
        token: node.token_key.sign(&claims),
        listeners,
        agent_fd: Some(AGENT_FD),
        probe_fd: Some(PROBE_FD),
        // Names of `--external` are dialled from the pod, too: the agent knows where they lead.
        mesh_networks: [POD_NETWORK, SERVICE_NETWORK, EXTERNAL_NETWORK].map(cidr).to_vec(),
        name_servers: vec![std::net::SocketAddr::from((GATEWAY, OUTSIDE_NAMES_PORT))],
        topology: own_topology(meta.annotations.get(PROXY_CONFIG).map(String::as_str)),
        workers: None,
        limits: node.limits.proxy.clone(),
        wire_limits: node.limits.wire.clone(),
    })
}

/// Gives a proxy the sockets that it asks for, until it ends. Tells it once when its pod is told to
/// end, which is before the applications are.
async fn serve(state: Rc<PodState>, kind: ProxyKind, channel: SeqPacket) {
    let mut pod_ends = pin!(state.told_to_end());
    let mut told = false;
    loop {
        let message = tokio::select! {
            message = channel.receive::<ToAgent>() => message,
            () = state.ports_moved.notified() => {
                // A proxy that is gone asks anew when it is back.
                let _ = channel.send(&FromAgent::PortsMoved, &[]).await;
                continue;
            }
            () = &mut pod_ends, if !told => {
                told = true;
                // A proxy that is gone has no callers.
                let _ = channel.send(&FromAgent::WorkloadEnds, &[]).await;
                continue;
            }
        };
        let Ok(Some((message, _))) = message else { return };
        let (answer, sockets) = match message {
            ToAgent::Egress { count, v6 } => egress(&state, count, v6).await,
            ToAgent::Listen { port } => edge::listen(&state, kind, port).await,
        };
        let borrowed: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        if channel.send(&answer, &borrowed).await.is_err() {
            return;
        }
    }
}

async fn egress(state: &PodState, count: u8, v6: bool) -> (FromAgent, Vec<OwnedFd>) {
    let given = if state.node.egress {
        state.node.host.sockets(Transport::Tcp, count, v6).await
    } else {
        Err("the mesh was started with --no-egress".to_owned())
    };
    match given {
        Ok(sockets) => (FromAgent::Egress { v6, refused: None }, sockets),
        Err(refused) => (FromAgent::Egress { v6, refused: Some(refused) }, Vec::new()),
    }
}

/// The environment of a proxy: only what changes its own log.
fn environment() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name == "RUST_LOG" || name == "RUST_BACKTRACE").collect()
}

/// Numbers of the descriptors that a proxy begins with.
const BOOTSTRAP_FD: i32 = FD_MIN;
const AGENT_FD: i32 = FD_MIN + 1;
const PROBE_FD: i32 = FD_MIN + 2;
const FIRST_LISTENER_FD: i32 = FD_MIN + 3;
/// The name of the one cluster, as Istio has it.
const CLUSTER: &str = "Kubernetes";
