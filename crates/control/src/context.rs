//! What the parts of the control plane share.

use std::path::PathBuf;
use std::sync::Arc;

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
    /// Where the logs of containers are.
    pub(crate) logs: PathBuf,
}
