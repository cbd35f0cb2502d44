//! A proxy process: the workers, and this thread, which talks to the control plane, serves the
//! admin API, and ends it all.

use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::thread;

use ironmesh_identity::SystemClock;
use ironmesh_identity::channel::ControlClient;
use ironmesh_identity::peer::BadAnchors;
use ironmesh_model::bootstrap::{
    ADMIN_PORT, HEALTH_PORT, INBOUND_PORT, ListenerRole, MERGED_METRICS_PORT, METRICS_PORT,
    OUTBOUND_PORT, ProxyBootstrap, ProxyKind,
};
use ironmesh_model::limits::ProxyLimits;
use ironmesh_model::network::{Network, NotANetwork};
use ironmesh_model::view::ApplyError;
use ironmesh_model::{ListenerKind, ResourceKey};
use ironmesh_telemetry::metrics::Single;
use ironmesh_telemetry::{AccessLog, Registry};
use ironmesh_wire::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::admin::{self, Admin};
use crate::agent_channel::{self, EdgePorts};
use crate::certificates;
use crate::connect::Connector;
use crate::destination::OriginalDestination;
use crate::edge::{self, EdgeListeners};
use crate::http::mirror;
use crate::logging;
use crate::names;
use crate::process::Process;
use crate::report;
use crate::sockets;
use crate::subscriptions;
use crate::worker::{Listener, Workers};
use crate::workload::LocalWorkload;

/// Why a proxy cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A descriptor of the bootstrap cannot be used.
    #[error("descriptor {fd} of the bootstrap: {source}")]
    Descriptor {
        /// Its number.
        fd: i32,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The bootstrap names no address range.
    #[error("bootstrap: mesh_networks: {0}")]
    Networks(#[from] NotANetwork),
    /// The trust anchors of the control plane cannot be used.
    #[error("bootstrap: trust anchors of the control plane: {0}")]
    Anchors(#[from] BadAnchors),
    /// A thread, a runtime or a signal handler cannot be made.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// Runs a proxy until it is told to stop (SIGTERM, SIGINT) and has drained.
///
/// # Errors
///
/// If it cannot be started.
pub fn run(bootstrap: ProxyBootstrap) -> Result<(), RunError> {
    let log_level = logging::start();
    let registry = Registry::new(bootstrap.limits.metric_series_max);
    let access_log = AccessLog::start(io::stdout(), bootstrap.limits.access_log_bytes_max)?;
    registry.single(LINES_DROPPED, access_log.dropped());
    let networks: Result<Vec<Network>, NotANetwork> =
        bootstrap.mesh_networks.iter().map(|text| text.parse()).collect();
    let (egress, edge_ports, questions) =
        agent_channel::questions(bootstrap.limits.agent_questions_max);
    let agent = match bootstrap.agent_fd {
        None => None,
        Some(fd) => Some(descriptor(fd)?),
    };
    let connector = Connector::new(networks?, agent.is_some().then_some(egress))
        .keeping_alive(bootstrap.limits.keepalive);
    let workload = LocalWorkload::of_bootstrap(&bootstrap);
    let limits = limits(&bootstrap);
    let workers = workers(&bootstrap);
    let process = Arc::new(Process::new(limits, connector, workers));
    registry.single(mirror::SENT, process.mirrors.sent.clone());
    registry.single(mirror::FAILED, process.mirrors.failed.clone());
    let workers = Arc::new(Workers::start(&process, &registry, &access_log)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control = Control {
        admin: Admin::new(
            process.clone(),
            workload.clone(),
            registry,
            log_level,
            bootstrap.kind,
            Some(workers.clone()),
        ),
        edge_ports: agent.is_some().then_some(edge_ports),
        process,
        workload,
        workers,
        bootstrap,
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        if let Some(agent) = agent {
            let workload = control.workload.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = agent_channel::run(agent, questions, workload).await {
                    tracing::warn!(%error, "the local agent is gone");
                }
            });
        }
        control.run().await
    })
}

/// The control thread.
struct Control {
    bootstrap: ProxyBootstrap,
    process: Arc<Process>,
    /// The workload that the process was started for.
    workload: Arc<LocalWorkload>,
    workers: Arc<Workers>,
    admin: Arc<Admin>,
    edge_ports: Option<EdgePorts>,
}

impl Control {
    async fn run(self) -> Result<(), RunError> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let of_edge = self.listen()?;
        let mut work = pin!(self.work(of_edge)?);
        let works = tokio::select! {
            () = &mut work => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        };
        tracing::info!("draining");
        // The work goes on meanwhile: the last requests may need what is not held yet.
        let mut drain = pin!(self.drain());
        tokio::select! {
            () = &mut drain => {}
            () = &mut work, if works => drain.await,
        }
        Ok(())
    }

    /// All that is done for the workload beside serving its connections: it gets its part of the
    /// configuration, its certificate and, at the edge, its ports.
    fn work(&self, of_edge: EdgeListeners) -> Result<impl Future<Output = ()>, BadAnchors> {
        let Self { bootstrap, process, workload, workers, .. } = self;
        let ip = bootstrap.ip;
        let apply = move |changes| {
            let (view, errors) = workload.views.load().apply(changes);
            let flaws = workload.hold(view, ip).into_iter();
            let of_listeners = |why| ApplyError { key: ResourceKey::Listeners, why };
            errors.into_iter().chain(flaws.map(of_listeners)).collect()
        };
        let control = bootstrap.control.address;
        let channel = ControlClient::new(&bootstrap.control.anchors_pem, Arc::new(SystemClock))?;
        let limits = &process.limits;
        let connect = move || {
            let channel = channel.clone();
            async move {
                let longest = limits.control_connect_timeout;
                let connector = &process.connector;
                let tcp = connector.connect(ListenerKind::Outbound, control, longest, None).await?;
                channel.connect(tcp).await
            }
        };
        let (wire_limits, token) = (bootstrap.wire_limits.clone(), bootstrap.token.clone());
        // The workers have half of the time in which the control plane wants to know.
        let (questions_max, longest) = (wire_limits.questions_max, wire_limits.question_wait / 2);
        let (to, questions) = mpsc::channel(questions_max);
        let (client, driver) = Client::new(wire_limits, bootstrap.kind, token, connect, apply);
        let driver = driver.with_questions(to);
        client.subscribe([ResourceKey::Settings]);
        if bootstrap.kind == ProxyKind::Gateway {
            client.subscribe([ResourceKey::Listeners]);
        }
        Ok(async move {
            tokio::select! {
                () = driver.run() => {}
                () = subscriptions::run(process, workload, &client, ip) => {}
                () = names::follow(process, workload, &bootstrap.name_servers) => {}
                () = certificates::rotate(workload, limits, &client) => {}
                () = report::answer(process, workload, workers, questions, longest) => {}
                () = edge::keep_open(process, workload, workers, self.edge_ports.as_ref(), of_edge) => {}
            }
        })
    }

    /// Serves on the sockets that were inherited.
    fn listen(&self) -> Result<EdgeListeners, RunError> {
        let mut of_edge = EdgeListeners::default();
        if let Some(fd) = self.bootstrap.probe_fd {
            admin::serve_probes(&self.admin, descriptor(fd)?)?;
        }
        for inherited in &self.bootstrap.listeners {
            let socket = TcpListener::from(descriptor(inherited.fd)?);
            if !matches!(inherited.role, ListenerRole::Gateway(_)) {
                self.admin.note_listener(inherited.role, socket.local_addr()?);
            }
            let captured = |inbound| {
                let own_ports = OWN_PORTS.to_vec();
                OriginalDestination::Captured { own_ports, inbound }
            };
            match inherited.role {
                ListenerRole::Outbound => {
                    self.accept(ListenerKind::Outbound, captured(false), socket);
                }
                ListenerRole::Inbound => {
                    self.accept(ListenerKind::Inbound, captured(true), socket);
                }
                ListenerRole::Gateway(port) => {
                    let direct = OriginalDestination::Direct { port };
                    let listener = self.accept(ListenerKind::Gateway, direct, socket);
                    of_edge.entry(port).or_default().push(listener);
                }
                ListenerRole::Admin => admin::serve(&self.admin, socket, admin::Site::Admin)?,
                ListenerRole::Metrics => admin::serve(&self.admin, socket, admin::Site::Metrics)?,
                ListenerRole::Health => admin::serve(&self.admin, socket, admin::Site::Health)?,
            }
        }
        Ok(of_edge)
    }

    fn accept(
        &self,
        kind: ListenerKind,
        original: OriginalDestination,
        socket: TcpListener,
    ) -> Arc<Listener> {
        let listener = Listener::new(kind, self.workload.clone(), original, socket);
        let listener = Arc::new(listener);
        self.workers.listen(&listener);
        listener
    }

    /// Lets what is open come to its end. The admin API and health go on meanwhile.
    async fn drain(&self) {
        self.workload.drain();
        self.process.drain();
        let workers = self.workers.clone();
        if tokio::task::spawn_blocking(move || workers.join()).await.is_err() {
            let connections = self.process.connections();
            tracing::error!(connections, "the drain was cut short");
        }
    }
}

/// The limits that were set, as far as the system lets the process reach them.
fn limits(bootstrap: &ProxyBootstrap) -> ProxyLimits {
    let mut limits = bootstrap.limits.clone();
    let descriptors = sockets::raise_descriptor_limit();
    let clients_max = sockets::clients_max(descriptors);
    if limits.connections_max > clients_max {
        let connections_max = limits.connections_max;
        tracing::info!(connections_max, clients_max, descriptors, "fewer clients than set");
        limits.connections_max = clients_max;
    }
    limits
}

/// Worker threads: as told, or two beside a workload and one a core at the edge.
fn workers(bootstrap: &ProxyBootstrap) -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let wanted = bootstrap.workers.unwrap_or(match bootstrap.kind {
        ProxyKind::Sidecar => 2,
        ProxyKind::Gateway => cores,
    });
    wanted.clamp(1, cores)
}

fn descriptor(fd: i32) -> Result<std::os::fd::OwnedFd, RunError> {
    ironmesh_fds::take_inherited(fd).map_err(|source| RunError::Descriptor { fd, source })
}

const LINES_DROPPED: Single = Single {
    name: "ironmesh_access_log_dropped_total",
    help: "Lines of the access log that were dropped because standard output did not take them.",
    gauge: false,
};
/// Ports that the proxy itself serves in the pod.
const OWN_PORTS: [u16; 6] =
    [OUTBOUND_PORT, INBOUND_PORT, ADMIN_PORT, METRICS_PORT, MERGED_METRICS_PORT, HEALTH_PORT];
