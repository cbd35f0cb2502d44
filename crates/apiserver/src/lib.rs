//! The API of one machine, in the shape of Kubernetes': the store of objects, what happens to an object
//! before it is stored, and the controllers that make pods from Deployments.
//!
//! It knows nothing of the mesh. What a mesh adds comes by [`Hooks`], as it would come to a Kubernetes
//! API server by a mutating webhook, and by an [`Extension`], as by an aggregated API server. The
//! control plane reads the objects through [`ApiServer::store`] and writes statuses by
//! [`ApiServer::update_status`].
//!
//! # Layout
//!
//! - [`store`]: objects as they were sent, journal, watch history.
//! - `access`: who calls, and what they may do; [`node`]: what is done where pods run.
//! - `registry`: what happens to an object before it is stored: defaults, checks, admission.
//! - `server`: the API on unix sockets and over TLS; `table`, `patch`, `selector`, [`failure`] are its
//!   pure parts.
//! - `controllers`: service accounts, what makes pods, claims, Endpoints, garbage collection,
//!   namespaces; what fails is tried again.
//! - `builtin`: what every store has from its start.
//! - [`lists`]: how items of lists are merged; clients that merge need the same.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_identity::api::ApiError;
use ironmesh_model::limits::ControlLimits;
use serde_json::Value;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

mod access;
mod builtin;
mod clock;
mod context;
mod controllers;
mod custom;
pub mod extension;
pub mod failure;
mod indexes;
pub mod lists;
pub mod node;
mod object;
mod ownership;
mod patch;
mod registry;
pub mod selector;
mod server;
pub mod store;
mod table;

pub use extension::Extension;
pub use failure::Failure;
pub use registry::addresses::NotANetwork;
use store::Key;
pub use store::Store;

use access::Access;
use context::Context;
use node::Node;
use registry::addresses::Network;
use registry::{Part, Registry};

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be opened.
    #[error("{0}")]
    Store(String),
    /// The network of Services is none.
    #[error(transparent)]
    ServiceNetwork(#[from] NotANetwork),
    /// Callers cannot be known.
    #[error(transparent)]
    Access(#[from] ApiError),
}

/// What an API server is made with.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Directory of the journal.
    pub state: &'a Path,
    /// Where the logs of containers are: `NAMESPACE_POD/CONTAINER.log`.
    pub logs: PathBuf,
    /// Network from which Services get their addresses, such as `10.96.0.0/16`.
    pub service_network: &'a str,
    /// Addresses by which the API is reached over TLS, beside 127.0.0.1.
    pub addresses: Vec<IpAddr>,
    /// Where pods reach the API over TLS; none: they do not.
    pub pods: Option<SocketAddr>,
    /// Limits.
    pub limits: ControlLimits,
    /// What the mesh adds.
    pub hooks: Hooks,
}

/// What a mesh adds to the objects of its machine.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Changes a new pod of a namespace (namespace, ConfigMaps, pod) before it is completed and checked:
    /// what is a mutating webhook in Kubernetes.
    pub admit_pod: Option<fn(&Value, ConfigMaps<'_>, &mut Value)>,
    /// Says why an object must not become another one, or go (`None`): what is a validating webhook in
    /// Kubernetes.
    pub guard: Option<Guard>,
    /// Objects that the store has beside the namespaces and the node, made in this order at a start
    /// where they are missing; a `status` is written, too.
    pub initial: Vec<Value>,
}

/// Why an object must not become another one, or go if there is none.
pub type Guard = fn(&Value, Option<&Value>) -> Result<(), String>;

/// Finds a ConfigMap by namespace and name.
pub type ConfigMaps<'a> = &'a dyn Fn(&str, &str) -> Option<Arc<Value>>;

/// The API of one machine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiServer {
    registry: Arc<Registry>,
    access: Access,
    logs: PathBuf,
}

/// Where an API server is served.
#[derive(Debug)]
pub struct Doors {
    /// Sockets to which only the user of the mesh and root may connect, who may do everything.
    pub trusted: Vec<UnixListener>,
    /// Where the administrator comes over TLS; connections are not counted by their addresses.
    pub administrator: Option<TcpListener>,
    /// Where pods come over TLS.
    pub pods: Option<TcpListener>,
}

impl ApiServer {
    /// Opens the store, and makes in a new one what every store has.
    ///
    /// # Errors
    ///
    /// If the store cannot be opened, or the network of Services is none.
    pub fn open(options: Options<'_>) -> Result<Self, Error> {
        let Options { state, logs, service_network, mut addresses, pods, limits, hooks } = options;
        let network: Network = service_network.parse()?;
        // By which the Service is known.
        addresses.push(network.first().into());
        let store = Store::open(state, &limits).map_err(|error| Error::Store(error.to_string()))?;
        for loss in store.losses() {
            tracing::error!("{loss}");
        }
        let access = Access::open(state, &addresses)?;
        let registry = Registry::new(store, network, limits)
            .with_admission(hooks.admit_pod)
            .with_guard(hooks.guard);
        let api = pods.map(|door| builtin::api_service(network.first(), door));
        let initial = api.into_iter().flatten().chain(hooks.initial).collect();
        builtin::ensure(&registry, initial);
        Ok(Self { registry: Arc::new(registry), access, logs })
    }

    /// The objects, for reading. Changes go through the API.
    pub fn store(&self) -> &Store {
        self.registry.store()
    }

    /// Changes the status of an object that is of a generation, and nothing else of it. If that is the
    /// same nothing is written.
    ///
    /// # Errors
    ///
    /// If there is no such object (404), it is of another generation (409), or the store does not take
    /// it.
    pub fn update_status(
        &self,
        resource: &Resource,
        key: &Key,
        generation: i64,
        change: impl Fn(&mut Value),
    ) -> Result<(), Failure> {
        let changed = |old: &Value| {
            if object::number(old, "/metadata/generation").unwrap_or_default() != generation {
                let why = format!("it is not of generation {generation} any more");
                return Err(Failure::conflict(resource, &key.name, &why));
            }
            let mut new = old.clone();
            change(&mut new);
            Ok(new)
        };
        self.registry.update(resource, key, Part::Status, changed).map(|_| ())
    }

    /// Serves the API, runs the controllers and tends the journal, until the process ends. `extension`
    /// answers what is not Kubernetes'.
    pub async fn run(self, doors: Doors, extension: Arc<dyn Extension>, node: Arc<dyn Node>) {
        let bodies = self.registry.limits().api_bodies_bytes_max.min(Semaphore::MAX_PERMITS);
        let address = doors.administrator.as_ref().and_then(|door| door.local_addr().ok());
        let context = Arc::new(Context {
            registry: self.registry,
            extension,
            node,
            access: self.access,
            address,
            parts: Default::default(),
            bodies: Arc::new(Semaphore::new(bodies)),
            logs: self.logs,
        });
        let limits = context.registry.limits();
        let (most, per_peer) = (limits.api_connections_max, limits.api_connections_per_peer_max);
        let mut tasks = tokio::task::JoinSet::new();
        for listener in doors.trusted {
            tasks.spawn(server::serve(listener, context.clone()));
        }
        for (listener, per_peer) in [(doors.administrator, most), (doors.pods, per_peer)] {
            if let Some(listener) = listener {
                tasks.spawn(server::serve_securely(listener, context.clone(), per_peer));
            }
        }
        tasks.spawn(controllers::run(context.clone()));
        tasks.spawn(tend_journal(context));
        tasks.join_all().await;
    }
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
                tokio::time::sleep(SYNC_AFTER).await;
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

/// How long after a change the disk is asked to take it, so that many changes cost one sync. Only a
/// machine that falls over loses what was not synced; the kernel has it before a request is answered.
const SYNC_AFTER: std::time::Duration = std::time::Duration::from_millis(10);

/// Pause before a disk that refused is asked again.
const SYNC_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
