//! The control plane's end: gives each proxy the resources that it asks for, and from then on what
//! of them changes.
//!
//! [`Server::publish`] takes the next snapshot and what it touches. The answers that depend on that
//! are made again, each once for all who hold it, and those of which the bytes differ are sent to the
//! proxies that hold them. Nothing is delayed to collect changes, but while a proxy has not
//! acknowledged [`WireLimits::updates_in_flight_max`] updates, later ones become one. Before the first
//! snapshot nothing is answered.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::snapshot::{Subscriber, Touched};
use ironmesh_model::{Identity, Name, ResourceKey, Version, WorkloadId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use crate::messages::Certificate;

mod answers;
mod ledger;
mod questions;
mod session;
mod source;

use answers::{Answers, ProxyId};
use ledger::Ledger;
use questions::Questions;
pub use questions::{AskError, GroupsTold};
pub use session::SessionError;
pub use source::{Source, expand};

/// What the server asks of the control plane.
pub trait Backend: Send + Sync + 'static {
    /// The snapshots that are published.
    type Source: Source;

    /// Who holds a token and connects from an address. Its error goes to the proxy.
    fn authenticate(
        &self,
        token: &str,
        from: IpAddr,
    ) -> impl Future<Output = Result<Peer, String>> + Send;

    /// Signs a certificate for a proxy's workload, if that is still there: sessions outlive pods. Its
    /// error goes to the proxy.
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
    /// Locked before any ledger.
    answers: Mutex<Answers<B::Source>>,
    /// Connected proxies by the uids of their workloads.
    proxies: Mutex<BTreeMap<Name, Arc<Proxy>>>,
}

/// A connected proxy and what it holds.
#[derive(Debug)]
struct Proxy {
    id: ProxyId,
    peer: Peer,
    ledger: Mutex<Ledger>,
    questions: Mutex<Questions>,
    /// There may be something to send.
    changed: Notify,
}

/// What answering cost so far. It grows with what changes concern, never with the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Questions over the objects: what applies at a host or an address, what a gateway serves.
    pub queries: u64,
    /// Resources that were encoded.
    pub encodings: u64,
    /// Keys sent, over all proxies.
    pub keys: u64,
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
    /// Whether it acknowledged everything of the snapshot that was published last.
    pub synced: bool,
    /// What one side cannot use of what the other says.
    pub errors: Vec<ProxyError>,
}

/// A resource or key that one side cannot use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// The resource.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
    /// Whether it is this control plane that cannot use what the proxy says.
    pub is_refused_here: bool,
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
        Arc::new(Self {
            backend,
            limits,
            answers: Mutex::new(Answers::default()),
            proxies: Mutex::default(),
        })
    }

    /// What the server was made with.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Makes a snapshot the current one, which differs from the last one in what is touched. The
    /// connections of proxies that hold something of that send it.
    pub fn publish(&self, snapshot: Arc<B::Source>, touched: &Touched) {
        self.answers().publish(snapshot, touched);
    }

    /// The work that was done so far.
    pub fn work(&self) -> Work {
        *self.answers().work()
    }

    /// Serves one proxy until its connection ends. `io` is a byte stream of which the proxy has
    /// verified who this is (TLS), `from` the address that it comes from.
    ///
    /// # Errors
    ///
    /// Why the connection ended; there is always a reason.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection; the proxy comes back and loses nothing.
    pub async fn serve<IO>(&self, io: IO, from: IpAddr) -> SessionError
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.serve_from(io, from, || ()).await
    }

    /// As [`serve`](Self::serve); calls `known` once the proxy has proven who it is.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve).
    pub async fn serve_from<IO>(
        &self,
        io: IO,
        from: IpAddr,
        known: impl FnOnce() + Send,
    ) -> SessionError
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        session::run(self, io, from, known).await
    }

    /// Connected proxies, in order of their uids.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        self.proxies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .map(|proxy| proxy.ledger().status(proxy.peer.clone()))
            .collect()
    }

    /// What the connected proxy of a workload has of a resource; `None` if it is not connected or
    /// has not subscribed.
    pub fn holding(&self, workload_uid: &str, key: &ResourceKey) -> Option<Holding> {
        self.connected_proxy(workload_uid)?.ledger().holding(key)
    }

    /// Whether the proxy of a workload is connected.
    pub fn is_connected(&self, workload_uid: &str) -> bool {
        self.connected_proxy(workload_uid).is_some()
    }

    fn connected_proxy(&self, workload_uid: &str) -> Option<Arc<Proxy>> {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.get(workload_uid).cloned()
    }

    fn answers(&self) -> MutexGuard<'_, Answers<B::Source>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connected(&self, peer: Peer) -> Arc<Proxy> {
        let proxy = self.answers().connect(|id| {
            Arc::new(Proxy {
                id,
                peer,
                ledger: Mutex::default(),
                questions: Mutex::default(),
                changed: Notify::new(),
            })
        });
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
        drop(proxies);
        proxy.questions().clear();
        let mut answers = self.answers();
        let held = proxy.ledger().answers();
        answers.disconnect(proxy.id, held);
    }
}

impl Proxy {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
