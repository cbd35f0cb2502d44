//! `PeerAuthentication`.

use std::collections::BTreeMap;

use ironmesh_model::Finding;
use ironmesh_model::policy::{InboundPolicy, MtlsMode};
use ironmesh_model::snapshot::InboundPolicySource;

use super::{WorkloadSelector, labels};
use crate::Object;
use crate::schema::{fields, kind, read, words};
use crate::translate::Part;

pub(crate) fn peer_authentication(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let PeerAuthentication { spec, .. } = read(object, findings)?;
    let mtls = match spec.mtls.mode {
        MutualTlsMode::Strict => Some(MtlsMode::Strict),
        MutualTlsMode::Permissive => Some(MtlsMode::Permissive),
        MutualTlsMode::Disable => Some(MtlsMode::Disable),
        MutualTlsMode::Unset => None,
    };
    let selector = Some(labels(&spec.selector.match_labels)).filter(|s| !s.is_empty());
    let selectors = selector.map(|selector| vec![selector]);
    Some(Part::InboundPolicy(Box::new(InboundPolicySource {
        policy: InboundPolicy { id: object.id().clone(), mtls },
        selectors,
        selected_by: "spec.selector",
        created: object.created(),
    })))
}

kind! {
    istio;
    /// Which connections workloads take.
    pub struct PeerAuthentication "PeerAuthentication" {
        /// Which workloads, and which connections.
        honoured spec: Spec,
        /// What controllers have found out about it.
        honoured status: serde_json::Value,
    }
}

fields! {
    istio;
    /// What a `PeerAuthentication` says.
    pub struct Spec "PeerAuthentication.spec" {
        /// The workloads; none: all of the namespace, or of the mesh if that is the root namespace.
        honoured selector: WorkloadSelector,
        /// Which connections they take.
        honoured mtls: MutualTls,
        /// The same for single ports, by number.
        later port_level_mtls "portLevelMtls": BTreeMap<String, MutualTls>,
    }

    /// Which connections are taken.
    pub struct MutualTls "mtls" {
        /// Which; that of the namespace or mesh if left out.
        honoured mode: MutualTlsMode,
    }
}

words! {
    /// Which connections are taken.
    pub enum MutualTlsMode {
        /// As the namespace or mesh has it.
        honoured Unset = "UNSET",
        /// Plaintext only.
        honoured Disable = "DISABLE",
        /// Plaintext and mutual TLS.
        honoured Permissive = "PERMISSIVE",
        /// Mutual TLS only.
        honoured Strict = "STRICT",
    }
}
