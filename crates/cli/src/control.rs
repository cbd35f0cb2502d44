//! The control process of a mesh on one machine: the API server and the control plane, put together.
//! Neither knows the other: here the control plane gets its source, and the API server its hooks.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_apiserver::node::{NoNode, Node};
use ironmesh_apiserver::{ApiServer, Doors, Hooks};
use ironmesh_control::plane::{self, Plane};
use ironmesh_control::{gateway, inject};
use ironmesh_fds as fds;
use ironmesh_model::bootstrap::ControlBootstrap;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

mod local_node;
mod local_source;
mod mesh_api;

use local_node::LocalNode;
use local_source::LocalSource;
use mesh_api::MeshApi;

/// Why the control process cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no API.
    #[error(transparent)]
    Api(#[from] ironmesh_apiserver::Error),
    /// An inherited socket is of no use.
    #[error("inherited socket {fd}: {source}")]
    Socket {
        /// The descriptor.
        fd: i32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Identities cannot be given.
    #[error("{0}")]
    Trust(String),
    /// No runtime can be made.
    #[error("runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs the control process until it is ended.
///
/// # Errors
///
/// If the bootstrap does not fit, the store cannot be opened, or an inherited socket is unusable.
pub(crate) fn run(bootstrap: ControlBootstrap) -> Result<(), Error> {
    log_to_standard_error();
    let report = bootstrap.report_fd;
    let result = run_here(bootstrap);
    if let (Err(error), Some(report)) = (&result, report) {
        // Where it cannot be reported, the log has it.
        let _ = fds::take_inherited(report)
            .and_then(|report| File::from(report).write_all(error.to_string().as_bytes()));
    }
    result
}

fn run_here(bootstrap: ControlBootstrap) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()?;
    runtime.block_on(serve(bootstrap))
}

async fn serve(bootstrap: ControlBootstrap) -> Result<(), Error> {
    let secure = bootstrap.secure_api_fds.into_iter().map(tcp_listener);
    let mut secure = secure.collect::<Result<Vec<_>, _>>()?.into_iter();
    let (administrator, pods) = (secure.next(), secure.next());
    let at = |door: &Option<TcpListener>| door.as_ref().and_then(|door| door.local_addr().ok());
    let addresses = [at(&administrator), at(&pods)].into_iter().flatten();
    let addresses = addresses.map(|address| address.ip()).collect();
    let api = ApiServer::open(ironmesh_apiserver::Options {
        state: &bootstrap.state,
        logs: bootstrap.logs,
        service_network: &bootstrap.service_network,
        addresses,
        pods: at(&pods),
        limits: bootstrap.limits.control.clone(),
        hooks: Hooks {
            admit_pod: Some(inject::inject),
            guard: Some(gateway::guard),
            initial: gateway::ingress(bootstrap.gateway_ports),
        },
    })?;
    let options = plane::Options {
        state: &bootstrap.state,
        token_key: &bootstrap.token_key,
        settings: bootstrap.settings,
        limits: bootstrap.limits,
        user_ids: bootstrap.user_ids,
        keeps_claims: bootstrap.keeps_claims,
    };
    let source = Arc::new(LocalSource(api.clone()));
    let plane = Plane::open(source, options).map_err(Error::Trust)?;

    let proxies = tcp_listener(bootstrap.push_fd)?;
    let trusted = bootstrap.api_fds.into_iter().map(unix_listener).collect::<Result<_, _>>()?;
    let doors = Doors { trusted, administrator, pods };
    let node: Arc<dyn Node> = match bootstrap.agent_socket {
        Some(socket) => Arc::new(LocalNode::new(&bootstrap.mesh, socket)),
        None => Arc::new(NoNode),
    };
    let extension = Arc::new(MeshApi(plane.clone()));
    let memory = give_back_memory(api.store().subscribe());
    tokio::join!(plane.run(proxies), api.run(doors, extension, node), memory);
    Ok(())
}

/// Gives free memory back each time that much has changed, and then nothing for a while: what was needed
/// for it meanwhile is free, and the allocator would keep it.
async fn give_back_memory(mut revisions: watch::Receiver<u64>) {
    let mut given = 0;
    loop {
        let mut revision = *revisions.borrow_and_update();
        loop {
            tokio::time::sleep(QUIET_FOR).await;
            let before = std::mem::replace(&mut revision, *revisions.borrow_and_update());
            if before == revision {
                break;
            }
        }
        if revision - given >= MANY_CHANGES {
            given = revision;
            ironmesh_proxy::memory::give_back();
        }
        if revisions.changed().await.is_err() {
            return;
        }
    }
}

/// Takes over a listening TCP socket that the agent made.
fn tcp_listener(fd: i32) -> Result<TcpListener, Error> {
    let listener = fds::take_inherited(fd).map(std::net::TcpListener::from).and_then(|listener| {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    });
    listener.map_err(|source| Error::Socket { fd, source })
}

/// Takes over a listening unix socket that the agent made.
fn unix_listener(fd: i32) -> Result<UnixListener, Error> {
    let listener = fds::take_inherited(fd).map(std::os::unix::net::UnixListener::from);
    let listener = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    listener.map_err(|source| Error::Socket { fd, source })
}

/// Logs what is worth knowing; `RUST_LOG` asks for more or less.
fn log_to_standard_error() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written, as on a full disk, is lost; saying so would panic.
        .log_internal_errors(false)
        .with_ansi(false);
    // A process that logs already goes on as it does.
    let _ = lines.try_init();
}

/// For how long nothing changes before free memory is given back.
const QUIET_FOR: Duration = Duration::from_secs(1);
/// After how many changes it is worth the milliseconds that it takes.
const MANY_CHANGES: u64 = 1_000;
/// Threads beside the one that serves: they sync the journal and read logs.
const BLOCKING_THREADS_MAX: usize = 3;
