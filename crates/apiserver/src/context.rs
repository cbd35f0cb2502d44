//! What the parts of the API server share.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::extension::Extension;
use crate::registry::Registry;
use crate::server::parts::Parts;

/// The parts that requests are answered from.
#[derive(Debug)]
pub(crate) struct Context {
    /// Objects.
    pub(crate) registry: Arc<Registry>,
    /// Answers what is not Kubernetes'.
    pub(crate) extension: Arc<dyn Extension>,
    /// Parts of answers that wait for their clients.
    pub(crate) parts: Parts,
    /// Bytes that the bodies of requests may still take.
    pub(crate) bodies: Arc<Semaphore>,
    /// Where the logs of containers are.
    pub(crate) logs: PathBuf,
}
