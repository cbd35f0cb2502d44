//! What the parts of the control plane share.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::plane::Plane;
use crate::registry::Registry;
use crate::server::parts::Parts;

/// The parts that requests are answered from.
#[derive(Debug)]
pub(crate) struct Context {
    /// Objects.
    pub(crate) registry: Arc<Registry>,
    /// The control plane proper.
    pub(crate) plane: Arc<Plane>,
    /// Parts of answers that wait for their clients.
    pub(crate) parts: Parts,
    /// Bytes that the bodies of requests may still take.
    pub(crate) bodies: Arc<Semaphore>,
    /// Where the logs of containers are.
    pub(crate) logs: PathBuf,
}
