//! The proxy's end: keeps what the proxy wants subscribed, whatever happens to the control plane.
//!
//! A [`Client`] is a handle for all workers of a proxy. [`Driver::run`] holds the connection: it
//! connects, says who it is and what is wanted and held, hands every update to the proxy's function
//! and acknowledges it with what that could not use. When the connection ends it waits, longer each
//! time, and connects again; what is held stays held meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ironmesh_model::ResourceKey;
use ironmesh_model::bootstrap::ProxyKind;
use ironmesh_model::limits::WireLimits;
use ironmesh_model::view::{ApplyError, Change};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};

use crate::messages::Certificate;

mod driver;
mod questions;

pub use driver::Driver;
pub(crate) use driver::KEYS_PER_MESSAGE;
pub use questions::Question;

/// What a proxy's workers ask of the control plane. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the handles and the driver share.
struct Shared {
    wishes: Mutex<Wishes>,
    changed: Notify,
    subscriptions_max: usize,
    sign_requests_max: usize,
}

/// What is wanted.
#[derive(Default)]
struct Wishes {
    wanted: HashSet<ResourceKey>,
    /// Keys of which the driver does not know yet that they are wanted, or no longer.
    dirty: HashSet<ResourceKey>,
    /// Certificates that are asked for.
    sign: VecDeque<SignRequest>,
    connection: ConnectionStatus,
}

/// A certificate that is asked for.
struct SignRequest {
    csr_der: Vec<u8>,
    answer: oneshot::Sender<Result<Certificate, String>>,
}

/// Whether the control plane can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Whether it is connected now.
    pub connected: bool,
    /// Why the last connection, or attempt, ended.
    pub last_error: Option<String>,
}

/// A certificate that was not given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The control plane refused.
    #[error("the control plane signs no certificate: {0}")]
    Refused(String),
    /// Too many wait already.
    #[error("too many requests for a certificate wait for the control plane")]
    TooMany,
    /// The driver is gone.
    #[error("the proxy is stopping")]
    Stopped,
}

impl Client {
    /// A handle, and the driver that must be run for it to do anything. `kind` says which limits hold,
    /// `connect` makes a stream to
    /// the control plane, verified to be that; `apply` takes what changed and gives back what of it
    /// cannot be used. `token` proves which workload this is.
    pub fn new<C, A>(
        limits: WireLimits,
        kind: ProxyKind,
        token: String,
        connect: C,
        apply: A,
    ) -> (Self, Driver<C, A>)
    where
        C: Connect,
        A: FnMut(Vec<Change>) -> Vec<ApplyError>,
    {
        let shared = Arc::new(Shared {
            wishes: Mutex::default(),
            changed: Notify::new(),
            subscriptions_max: limits.subscriptions_max(kind),
            sign_requests_max: limits.sign_requests_max,
        });
        let driver = Driver {
            shared: shared.clone(),
            limits,
            token,
            connect,
            apply,
            questions: None,
            held: HashMap::new(),
        };
        (Self { shared }, driver)
    }

    /// Wants these keys from now on. Ones that are wanted already cost nothing. Beyond
    /// [`WireLimits::subscriptions_max`] nothing more is wanted; the result tells whether all are.
    pub fn subscribe(&self, keys: impl IntoIterator<Item = ResourceKey>) -> bool {
        let mut wishes = self.shared.wishes();
        let mut all = true;
        let mut any = false;
        for key in keys {
            if wishes.wanted.contains(&key) {
                continue;
            }
            if wishes.wanted.len() >= self.shared.subscriptions_max {
                all = false;
                break;
            }
            wishes.wanted.insert(key.clone());
            wishes.dirty.insert(key);
            any = true;
        }
        drop(wishes);
        if any {
            self.shared.changed.notify_one();
        }
        all
    }

    /// No longer wants these keys. The control plane then says which resources to forget: those
    /// that nothing else refers to.
    pub fn unsubscribe(&self, keys: impl IntoIterator<Item = ResourceKey>) {
        let mut wishes = self.shared.wishes();
        for key in keys {
            if wishes.wanted.remove(&key) {
                wishes.dirty.insert(key);
            }
        }
        drop(wishes);
        self.shared.changed.notify_one();
    }

    /// Asks for a certificate for the key that signed `csr_der` (PKCS #10). Waits as long as it
    /// takes, over lost connections, too: give it a timeout.
    ///
    /// # Errors
    ///
    /// If the control plane refuses, or too many requests wait already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the request.
    pub async fn sign(&self, csr_der: Vec<u8>) -> Result<Certificate, SignError> {
        let (answer, answered) = oneshot::channel();
        {
            let mut wishes = self.shared.wishes();
            wishes.sign.retain(|request| !request.answer.is_closed());
            if wishes.sign.len() >= self.shared.sign_requests_max {
                return Err(SignError::TooMany);
            }
            wishes.sign.push_back(SignRequest { csr_der, answer });
        }
        self.shared.changed.notify_one();
        answered.await.map_err(|_| SignError::Stopped)?.map_err(SignError::Refused)
    }

    /// Whether the control plane can be reached.
    pub fn connection(&self) -> ConnectionStatus {
        self.shared.wishes().connection.clone()
    }
}

impl Shared {
    fn wishes(&self) -> MutexGuard<'_, Wishes> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection()).finish_non_exhaustive()
    }
}

/// Makes streams to the control plane.
pub trait Connect {
    /// The stream.
    type Io: AsyncRead + AsyncWrite + Unpin;

    /// A new one.
    fn connect(&mut self) -> impl Future<Output = io::Result<Self::Io>>;
}

impl<F, Connecting, Io> Connect for F
where
    F: FnMut() -> Connecting,
    Connecting: Future<Output = io::Result<Io>>,
    Io: AsyncRead + AsyncWrite + Unpin,
{
    type Io = Io;

    fn connect(&mut self) -> impl Future<Output = io::Result<Io>> {
        self()
    }
}

#[cfg(test)]
mod tests;
