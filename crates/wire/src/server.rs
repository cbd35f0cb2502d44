//! The control plane's end: gives each proxy the resources that it asks for, and from then on what
//! of them changes.
//!
//! [`Server::publish`] swaps the snapshot. Each connection then computes only what its proxy
//! subscribes to and sends what differs from what it sent before; nothing is delayed to collect
//! changes, but while a proxy has not acknowledged [`WireLimits::updates_in_flight_max`] updates,
//! later ones become one. Before the first snapshot nothing is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::{Identity, Name, ResourceKey, Version, WorkloadId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use crate::messages::Certificate;

mod generation;
mod ledger;
mod session;

use generation::Generation;
pub use generation::{Source, expand};
use ledger::Ledger;
pub use session::SessionError;

/// What the server asks of the control plane.
pub trait Backend: Send + Sync + 'static {
    /// The snapshots that are published.
    type Source: Source;

    /// Who holds a token. Its error goes to the proxy.
    fn authenticate(&self, token: &str) -> impl Future<Output = Result<Peer, String>> + Send;

    /// Signs a certificate for a proxy's workload. Its error goes to the proxy.
    fn sign(
        &self,
        peer: &Peer,
        csr_der: &[u8],
    ) -> impl Future<Output = Result<Certificate, String>> + Send;
}

/// A proxy, as its token tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The workload that it serves.
    pub workload: WorkloadId,
    /// The workload's identity.
    pub identity: Identity,
    /// What the proxy is.
    pub kind: ProxyKind,
    /// As whom it sees the snapshot.
    pub subscriber: Subscriber,
}

/// The server. One for all connections of a control plane.
#[derive(Debug)]
pub struct Server<B: Backend> {
    backend: B,
    limits: WireLimits,
    generations: watch::Sender<Option<Arc<Generation<B::Source>>>>,
    /// Connected proxies by the uids of their workloads.
    proxies: Mutex<BTreeMap<Name, Arc<Proxy>>>,
}

/// A connected proxy and what it holds.
#[derive(Debug)]
struct Proxy {
    peer: Peer,
    ledger: Mutex<Ledger>,
}

/// How far a connected proxy is.
#[derive(Clone, Debug)]
pub struct ProxyStatus {
    /// The proxy.
    pub peer: Peer,
    /// Keys that it subscribed to or that those refer to.
    pub resources: usize,
    /// How many of them it acknowledged in the version that was sent last.
    pub acknowledged: usize,
    /// Resources sent on this connection, each time counted.
    pub pushed_resources: u64,
    /// Bytes of resource bodies sent on this connection.
    pub pushed_bytes: u64,
    /// Whether it acknowledged everything of the snapshot published last.
    pub synced: bool,
    /// What it said that it cannot use.
    pub errors: Vec<(ResourceKey, String)>,
}

/// What a proxy has of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Version that was sent last.
    pub sent: Option<Version>,
    /// Version that it acknowledged last.
    pub acknowledged: Option<Version>,
}

impl<B: Backend> Server<B> {
    /// A server without a snapshot yet.
    pub fn new(backend: B, limits: WireLimits) -> Arc<Self> {
        let generations = watch::Sender::new(None);
        Arc::new(Self { backend, limits, generations, proxies: Mutex::default() })
    }

    /// What the server was made with.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Makes a snapshot the current one. Every connection looks at once for what its proxy uses of
    /// it.
    pub fn publish(&self, snapshot: Arc<B::Source>) {
        self.generations.send_modify(|current| {
            let number = current.as_ref().map_or(1, |generation| generation.number + 1);
            *current = Some(Arc::new(Generation::new(snapshot, number)));
        });
    }

    /// Serves one proxy until its connection ends. `io` is a byte stream of which the proxy has
    /// verified who this is (TLS).
    ///
    /// # Errors
    ///
    /// Why the connection ended; there is always a reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; the proxy comes back and loses nothing.
    pub async fn serve<IO>(&self, io: IO) -> SessionError
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        session::run(self, io).await
    }

    /// Connected proxies, in order of their uids.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        let latest = self.generations.borrow().as_ref().map_or(0, |generation| generation.number);
        self.proxies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|proxy| proxy.ledger().status(proxy.peer.clone(), latest))
            .collect()
    }

    /// What the connected proxy of a workload has of a resource; `None` if it is not connected or
    /// has not subscribed.
    pub fn holding(&self, workload_uid: &str, key: &ResourceKey) -> Option<Holding> {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.get(workload_uid)?.ledger().holding(key)
    }

    fn connected(&self, peer: Peer) -> Arc<Proxy> {
        let proxy = Arc::new(Proxy { peer, ledger: Mutex::default() });
        proxy.ledger().look_again();
        self.proxies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            // One that came back before its old connection ended replaces it.
            .insert(proxy.peer.workload.uid.clone(), proxy.clone());
        proxy
    }

    fn disconnected(&self, proxy: &Arc<Proxy>) {
        let mut proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = &proxy.peer.workload.uid;
        if proxies.get(uid).is_some_and(|current| Arc::ptr_eq(current, proxy)) {
            proxies.remove(uid);
        }
    }
}

impl Proxy {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
