//! The control plane: the store of objects and its API, the controllers that make pods from them,
//! and what the proxies are told.
//!
//! # Layout
//!
//! - [`api`]: what clients share: the table of kinds, and the types of the parts of the API that
//!   are not Kubernetes'.
//! - `store`: objects as they were sent, journal, watch history.
//! - `registry`: what happens to an object before it is stored: defaults, checks, injection.
//! - `server`: the API on unix sockets; `table`, `patch`, `selector`, `failure`, `base64` are its
//!   pure parts.
//! - `controllers`: service accounts, Deployments, ReplicaSets, Endpoints, garbage collection,
//!   namespaces; what fails is tried again.
//! - [`source`]: where the control plane proper has its objects from; `local_source`: from the store.
//! - [`plane`]: the control plane proper. It knows its source, and no store.
//! - `mesh`: the snapshot that follows the source, the push to proxies, the certificate authority.
//! - `explain`: what the proxies would decide about a request, written down.
//! - `inject`: what a pod of the mesh gets beside its containers.
//! - `builtin`: what every mesh has from its start.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use ironmesh_model::bootstrap::ControlBootstrap;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

pub mod api;
mod base64;
mod builtin;
mod clock;
mod context;
mod controllers;
mod explain;
mod failure;
mod inject;
mod local_source;
mod mesh;
mod object;
mod patch;
pub mod plane;
mod registry;
mod selector;
mod server;
pub mod source;
mod store;
mod table;

pub use registry::addresses::NotANetwork;

use context::Context;
use local_source::LocalSource;
use plane::Plane;
use registry::Registry;
use store::Store;

/// Why the control plane cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
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
    /// The network of Services is none.
    #[error(transparent)]
    ServiceNetwork(#[from] NotANetwork),
    /// No runtime can be made.
    #[error("runtime: {0}")]
    Runtime(#[from] std::io::Error),
}

/// Runs the control plane until the process is ended.
///
/// # Errors
///
/// If the bootstrap does not fit, the store cannot be opened, or an inherited socket is unusable.
pub fn run(bootstrap: ControlBootstrap) -> Result<(), Error> {
    log_to_standard_error();
    let report = bootstrap.report_fd;
    let result = run_here(bootstrap);
    if let (Err(error), Some(report)) = (&result, report) {
        // Where it cannot be reported, the log has it.
        let _ = ironmesh_fds::take_inherited(report)
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

/// As [`run`], on a runtime that is there already.
///
/// # Errors
///
/// As [`run`].
pub async fn serve(bootstrap: ControlBootstrap) -> Result<(), Error> {
    let network = bootstrap.service_network.parse()?;
    let store = Store::open(&bootstrap.state, &bootstrap.limits.control)
        .map_err(|error| Error::Store(error.to_string()))?;
    for loss in store.losses() {
        tracing::error!("{loss}");
    }
    let registry = Arc::new(Registry::new(store, network, bootstrap.limits.control.clone()));
    builtin::ensure(&registry);
    let options = plane::Options {
        state: &bootstrap.state,
        token_key: &bootstrap.token_key,
        settings: bootstrap.settings,
        limits: bootstrap.limits,
        user_ids: bootstrap.user_ids,
    };
    let source = Arc::new(LocalSource(registry.clone()));
    let plane = Plane::open(source, options).map_err(Error::Trust)?;
    let bodies = registry.limits().api_bodies_bytes_max.min(Semaphore::MAX_PERMITS);
    let context = Arc::new(Context {
        registry,
        plane: plane.clone(),
        parts: Default::default(),
        bodies: Arc::new(Semaphore::new(bodies)),
        logs: bootstrap.logs,
    });

    let mut tasks = tokio::task::JoinSet::new();
    let fd = bootstrap.push_fd;
    let listener = tcp_listener(fd).map_err(|source| Error::Socket { fd, source })?;
    tasks.spawn(plane.run(listener));
    for fd in bootstrap.api_fds {
        let listener = unix_listener(fd).map_err(|source| Error::Socket { fd, source })?;
        tasks.spawn(server::serve(listener, context.clone()));
    }
    tasks.spawn(controllers::run(context.clone()));
    tasks.spawn(tend_journal(context));
    tasks.join_all().await;
    Ok(())
}

/// Takes over a listening TCP socket that the agent made.
fn tcp_listener(fd: i32) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(ironmesh_fds::take_inherited(fd)?);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Takes over a listening unix socket that the agent made.
fn unix_listener(fd: i32) -> std::io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(ironmesh_fds::take_inherited(fd)?);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
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

/// Tends the journal after changes, many at once. A disk that refuses is asked again until it takes
/// what it was given.
async fn tend_journal(context: Arc<Context>) {
    let mut changes = context.registry.store().subscribe();
    let mut failed = false;
    loop {
        changes.mark_unchanged();
        let registry = context.registry.clone();
        let tended = tokio::task::spawn_blocking(move || registry.store().tend(failed)).await;
        match tended {
            Ok(Ok(())) => {
                if std::mem::take(&mut failed) {
                    tracing::info!("journal reaches the disk again");
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
            refused => {
                if !std::mem::replace(&mut failed, true) {
                    let error = match refused {
                        Ok(Err(error)) => error.to_string(),
                        other => format!("{other:?}"),
                    };
                    tracing::error!(error, "journal not synced to disk; trying again");
                }
                tokio::time::sleep(SYNC_PAUSE).await;
            }
        }
    }
}

/// Pause before a disk that refused is asked again.
const SYNC_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// Threads beside the one that serves: they sync the journal and read logs.
const BLOCKING_THREADS_MAX: usize = 3;
