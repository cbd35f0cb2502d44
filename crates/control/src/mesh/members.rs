//! Who the proxies are, and the certificates that they get.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::object::value as object;
use ironmesh_identity::channel::{ChannelError, ControlServer};
use ironmesh_identity::{
    Attest, Authority, Claims, Clock, LocalAttestation, SystemClock, TokenKey,
};
use ironmesh_model::limits::ControlLimits;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::{Identity, Labels, Snapshot, WorkloadId};
use ironmesh_wire::Certificate;
use ironmesh_wire::server::{Backend, Peer};
use serde_json::Value;
use tokio::sync::watch;

use super::Published;
use crate::source::{ObjectKey, Source};

/// What the identities of the mesh rest on cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// The authority.
    #[error("certificate authority: {0}")]
    Authority(#[from] ironmesh_identity::ca::CaError),
    /// The key of the agent.
    #[error("token key of the bootstrap: {0}")]
    Key(#[from] ironmesh_identity::token::TokenError),
    /// The server's own certificate.
    #[error("certificate of the control plane: {0}")]
    Server(#[from] ChannelError),
    /// The trust anchors cannot be left for the agent.
    #[error("{ANCHORS_FILE} in the state directory: {0}")]
    Anchors(#[from] std::io::Error),
}

/// The certificate authority and the agent's key.
#[derive(Debug)]
pub(crate) struct Trust {
    authority: Arc<Authority>,
    attestation: LocalAttestation,
    settings: Settings,
}

impl Trust {
    /// Opens the authority of a state directory, and leaves its trust anchors there for the agent.
    ///
    /// # Errors
    ///
    /// If files cannot be read or written, or the key is none.
    pub(crate) fn open(
        state: &Path,
        token_key: &str,
        settings: &Settings,
        limits: &ControlLimits,
    ) -> Result<Self, TrustError> {
        let authority = Arc::new(Authority::open(state, SystemClock.now())?);
        let attestation = LocalAttestation {
            key: TokenKey::from_hex(token_key)?,
            token_bytes_max: limits.token_bytes_max,
        };
        let anchors = state.join(ANCHORS_FILE);
        // Whoever reads it sees all of it or nothing.
        let pem = authority.anchors_pem();
        // On a full disk those that are there are as good.
        if std::fs::read_to_string(&anchors).ok().as_deref() != Some(pem) {
            let unfinished = anchors.with_extension("next");
            std::fs::write(&unfinished, pem)?;
            std::fs::rename(&unfinished, &anchors)?;
        }
        Ok(Self { authority, attestation, settings: settings.clone() })
    }

    /// TLS for the push protocol.
    ///
    /// # Errors
    ///
    /// If no certificate can be made.
    pub(crate) fn server(&self) -> Result<ControlServer, TrustError> {
        let identity = Identity {
            trust_domain: self.settings.trust_domain.clone(),
            namespace: self.settings.root_namespace.clone(),
            service_account: "istiod".into(),
        };
        Ok(ControlServer::new(self.authority.clone(), identity, Arc::new(SystemClock))?)
    }
}

/// Knows the proxies by their tokens, and their workloads by the source.
#[derive(Debug)]
pub(crate) struct Members {
    trust: Trust,
    source: Arc<dyn Source>,
    /// Has the settings of the moment.
    published: watch::Receiver<Published>,
}

impl Members {
    /// Members of the mesh whose workloads are at a source.
    pub(crate) fn new(
        trust: Trust,
        source: Arc<dyn Source>,
        published: watch::Receiver<Published>,
    ) -> Self {
        Self { trust, source, published }
    }

    /// Whom claims name, if their pod is there.
    fn peer_of(&self, claims: Claims) -> Result<Peer, String> {
        let ip = claims.ip;
        let identity = claims.identity(self.trust.settings.trust_domain.clone());
        let workload = WorkloadId {
            cluster: CLUSTER.into(),
            namespace: claims.namespace,
            name: claims.pod,
            uid: claims.uid,
        };
        let pod = self.pod_of(&workload, &identity)?;
        let mut subscriber = subscriber(&workload.namespace, Some(&pod));
        subscriber.addresses.push(ip);
        Ok(Peer { identity, subscriber, workload, kind: claims.kind })
    }

    /// The pod of a workload, if it is there and has this identity: tokens and sessions outlive pods,
    /// an identity must not.
    fn pod_of(&self, workload: &WorkloadId, identity: &Identity) -> Result<Arc<Value>, String> {
        let WorkloadId { namespace, name, uid, .. } = workload;
        let pod = self.source.object(&ObjectKey::pod(namespace, name));
        let pod = pod.filter(|pod| object::uid(pod) == &**uid && !Pod::of(pod).is_finished());
        let Some(pod) = pod else {
            return Err(format!("the pod {namespace}/{name} of uid {uid} is not there any more"));
        };
        let account = Pod::of(&pod).spec().service_account();
        if *account != *identity.service_account {
            return Err(format!(
                "the pod {namespace}/{name} has the service account {account:?}, not {:?}",
                identity.service_account
            ));
        }
        Ok(pod)
    }
}

/// As whom the proxy of a pod sees the snapshot.
pub(crate) fn subscriber(namespace: &str, pod: Option<&Value>) -> Subscriber {
    let labels = pod.map(|pod| Pod::of(pod).metadata().labels().iter().collect());
    let labels: Labels = labels.unwrap_or_default();
    let ip = pod.and_then(|pod| Pod::of(pod).status().pod_ip().parse().ok());
    Subscriber { namespace: namespace.into(), labels, addresses: ip.into_iter().collect() }
}

impl Backend for Members {
    type Source = Snapshot;

    async fn authenticate(&self, token: &str, from: IpAddr) -> Result<Peer, String> {
        let claims = self.trust.attestation.attest(token).await.map_err(|e| e.to_string())?;
        // Whoever came by a token elsewhere gets nothing for it.
        if claims.ip != from.to_canonical() {
            let (namespace, pod) = (&claims.namespace, &claims.pod);
            return Err(format!(
                "the token of {namespace}/{pod} is used from {from}, not its address"
            ));
        }
        self.peer_of(claims)
    }

    async fn sign(&self, peer: &Peer, csr_der: &[u8]) -> Result<Certificate, String> {
        self.pod_of(&peer.workload, &peer.identity)?;
        let ttl = self.published.borrow().snapshot.settings().certificate_ttl;
        let issued = self
            .trust
            .authority
            .sign(csr_der, &peer.identity, ttl, SystemClock.now())
            .map_err(|error| error.to_string())?;
        Ok(Certificate {
            chain: issued.chain,
            anchors_pem: issued.anchors_pem,
            not_after: issued.not_after.unix_seconds(),
        })
    }
}

/// Name of the one cluster, as Istio calls it.
const CLUSTER: &str = "Kubernetes";
/// Where the agent finds by what proxies know the control plane.
const ANCHORS_FILE: &str = "anchors.pem";
