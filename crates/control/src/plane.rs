//! The control plane proper: what the proxies are told, who gets certificates, and what is explained,
//! all from one [`Source`]. It would run as it is on Kubernetes: nothing here knows a store.

use std::path::Path;
use std::sync::Arc;

use ironmesh_identity::channel::ControlServer;
use ironmesh_model::Finding;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::{Setting, Settings};
use tokio::net::TcpListener;

use crate::api::mesh::{FindingItem, ProxyEndpoints, ProxyItem};
use crate::api::{ExplainRequest, Explanation};
use crate::explain;
use crate::mesh::{self, Members, Mesh, Trust, TrustError};
use crate::source::{ObjectKey, Source};

pub(crate) mod endpoints;
mod proxies;

/// Why a question was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// It makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// There is no such pod.
    #[error("pods {0:?} not found")]
    NoPod(String),
    /// The snapshot is late.
    #[error("{0}")]
    Late(String),
}

/// A control plane over a source.
#[derive(Debug)]
pub struct Plane {
    pub(crate) source: Arc<dyn Source>,
    pub(crate) mesh: Mesh,
    /// Settings that the mesh was started with.
    pub(crate) settings: Settings,
    /// Limits of the mesh.
    pub(crate) limits: Limits,
    /// Whether the platform can give containers user ids of their own.
    pub(crate) user_ids: bool,
    pub(crate) keeps_claims: bool,
    tls: ControlServer,
}

/// What a control plane is made with.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Directory with the certificate authority, made there if need be.
    pub state: &'a Path,
    /// Key of the proxies' tokens, in hex.
    pub token_key: &'a str,
    /// Settings of the mesh, where its MeshConfig does not say otherwise.
    pub settings: Settings,
    /// Limits of the mesh.
    pub limits: Limits,
    /// Whether the platform can give containers user ids of their own.
    pub user_ids: bool,
    /// Whether the files of claims outlive the mesh.
    pub keeps_claims: bool,
}

impl Plane {
    /// A control plane that knows nothing yet; [`Plane::run`] lets it follow its source.
    ///
    /// # Errors
    ///
    /// If there is no certificate authority and none can be made, or the key is none; as text.
    pub fn open(source: Arc<dyn Source>, options: Options<'_>) -> Result<Arc<Self>, String> {
        let Options { state, token_key, settings, limits, user_ids, keeps_claims } = options;
        let unusable = |error: TrustError| error.to_string();
        let trust = Trust::open(state, token_key, &settings, &limits.control).map_err(unusable)?;
        let tls = trust.server().map_err(unusable)?;
        let published = mesh::published(&settings);
        let members = Members::new(trust, source.clone(), published.subscribe());
        let server = ironmesh_wire::Server::new(members, limits.wire.clone());
        let mesh = Mesh::new(server, published);
        Ok(Arc::new(Self { source, mesh, settings, limits, user_ids, keeps_claims, tls }))
    }

    /// Follows the source, serves proxies and writes statuses until the process ends.
    pub async fn run(self: Arc<Self>, proxies: TcpListener) {
        let served = mesh::serve(proxies, self.tls.clone(), self.clone());
        tokio::join!(mesh::follow(self.clone()), served, mesh::write(self.clone()));
    }

    /// Findings about all objects that were at the source when the question came, or about some.
    ///
    /// # Errors
    ///
    /// If the snapshot has not caught up in time (`limits.control.snapshot_wait`).
    pub async fn findings(
        &self,
        namespace: Option<&str>,
        kind: Option<&str>,
        name: Option<&str>,
    ) -> Result<Vec<FindingItem>, Refused> {
        self.mesh.at(self.source.version(), self.limits.control.snapshot_wait).await?;
        let all = self.mesh.findings().into_iter();
        let is = |asked: Option<&str>, value: &str| asked.is_none_or(|asked| asked == value);
        let wanted = all.filter(|finding| {
            let object = &finding.object;
            is(namespace, &object.namespace) && is(kind, &object.kind) && is(name, &object.name)
        });
        let item = |finding: Finding| FindingItem { severity: finding.code.severity(), finding };
        Ok(wanted.map(item).collect())
    }

    /// Findings about one object as it is at the source when the question comes. The cost does not grow
    /// with the mesh.
    ///
    /// # Errors
    ///
    /// If the snapshot has not caught up in time (`limits.control.advice_wait`).
    pub async fn findings_about(&self, key: &ObjectKey) -> Result<Vec<Finding>, Refused> {
        self.mesh.at(self.source.version(), self.limits.control.advice_wait).await?;
        Ok(self.mesh.findings_about(key))
    }

    /// The proxies of all pods that have one, in order of namespace and name.
    pub fn proxies(&self) -> Vec<ProxyItem> {
        proxies::proxies(self)
    }

    /// What the proxy of a pod tells of the endpoints that it uses.
    ///
    /// # Errors
    ///
    /// If there is no such pod. A proxy that tells nothing is no error.
    pub async fn endpoints(&self, namespace: &str, pod: &str) -> Result<ProxyEndpoints, Refused> {
        endpoints::endpoints(self, namespace, pod).await
    }

    /// The settings and limits of the mesh, as they are at the source when the question comes.
    ///
    /// # Errors
    ///
    /// If the snapshot has not caught up in time.
    pub async fn settings(&self) -> Result<Vec<Setting>, Refused> {
        let longest = self.limits.control.snapshot_wait;
        let published = self.mesh.at(self.source.version(), longest).await?;
        let mut rows = published.snapshot.settings().rows();
        rows.extend(self.limits.rows());
        Ok(rows)
    }

    /// What the proxies would decide about a request.
    ///
    /// # Errors
    ///
    /// If the request makes no sense, or the snapshot has not caught up in time.
    pub async fn explain(&self, request: &ExplainRequest) -> Result<Explanation, Refused> {
        explain::explain(self, request).await
    }
}
