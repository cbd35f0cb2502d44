//! What a mesh is started with.

use std::fmt;
use std::path::PathBuf;

use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;

use crate::externals::External;

/// Applies the manifests of a mesh that has just begun to answer. It is called once, in the host
/// process, with the abstract name of the API's socket.
pub type Apply = Box<dyn FnOnce(&str) -> Result<(), String> + Send>;

/// Options of [`up`](super::up).
pub struct UpOptions {
    /// Name of the mesh, one per user and name. Default `default`.
    pub mesh: String,
    /// Folder that keeps objects, CA and logs over restarts; none: a private tmpfs, and logs under
    /// the user's state folder.
    pub state: Option<PathBuf>,
    /// Whether pods reach the host's network. Default yes.
    pub egress: bool,
    /// Names that lead to addresses of the host's network.
    pub externals: Vec<External>,
    /// Settings of the mesh.
    pub settings: Settings,
    /// Limits of the mesh.
    pub limits: Limits,
    /// `PATTERN=COMMAND`: commands that stand for images.
    pub images: Vec<String>,
    /// Whether to return after everything is ready, with the mesh in the background.
    pub detach: bool,
    /// Where gateways' ports appear on the host's 127.0.0.1, beside the addresses of their Services,
    /// as (gateway's port, host's port), for as long as nobody else has them. Defaults: 80 on 8080,
    /// 443 on 8443.
    pub published: Vec<(u16, u16)>,
    /// Applies the manifests, once the API answers.
    pub apply: Option<Apply>,
    /// Path, after the mesh's own address, of the page that is shown to the user, such as
    /// `/productpage`.
    pub page: String,
}

impl Default for UpOptions {
    fn default() -> Self {
        Self {
            mesh: "default".to_owned(),
            state: None,
            egress: true,
            externals: Vec::new(),
            settings: Settings::default(),
            limits: Limits::default(),
            images: Vec::new(),
            detach: false,
            published: vec![(80, 8080), (443, 8443)],
            apply: None,
            page: "/".to_owned(),
        }
    }
}

impl fmt::Debug for UpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpOptions")
            .field("mesh", &self.mesh)
            .field("state", &self.state)
            .field("egress", &self.egress)
            .field("externals", &self.externals)
            .field("settings", &self.settings)
            .field("limits", &self.limits)
            .field("images", &self.images)
            .field("detach", &self.detach)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}
