//! What the parts of the control plane share.

use std::path::PathBuf;

use ironmesh_model::settings::Settings;

use crate::registry::Registry;

/// The parts that requests are answered from.
#[derive(Debug)]
pub(crate) struct Context {
    /// Objects.
    pub(crate) registry: Registry,
    /// Where the logs of containers are.
    pub(crate) logs: PathBuf,
    /// Settings of the mesh.
    pub(crate) settings: Settings,
}
