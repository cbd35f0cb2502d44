//! What the parts of the control plane share.

use std::path::PathBuf;
use std::sync::Arc;

use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;

use crate::mesh::Mesh;
use crate::registry::Registry;
use crate::server::parts::Parts;

/// The parts that requests are answered from.
#[derive(Debug)]
pub(crate) struct Context {
    /// Objects.
    pub(crate) registry: Arc<Registry>,
    /// What the proxies are told.
    pub(crate) mesh: Mesh,
    /// Parts of answers that wait for their clients.
    pub(crate) parts: Parts,
    /// Where the logs of containers are.
    pub(crate) logs: PathBuf,
    /// Settings of the mesh.
    pub(crate) settings: Settings,
    /// Limits of the mesh.
    pub(crate) limits: Limits,
    /// Whether containers may have user ids of their own.
    pub(crate) user_ids: bool,
}
