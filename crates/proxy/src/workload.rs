//! The workload for which a connection is served: a property of each connection, never of the
//! process.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use ironmesh_model::bootstrap::ProxyBootstrap;
use ironmesh_model::{ListenerKind, Local, Name, View, WorkloadId};

use crate::tls::Credentials;

/// A workload that this proxy serves.
#[derive(Debug)]
pub(crate) struct LocalWorkload {
    /// Its id.
    pub(crate) id: WorkloadId,
    /// Name of what owns it.
    pub(crate) owner: Name,
    /// Its namespace and labels, as [`ironmesh_model::decide()`] takes them. Labels of a running
    /// pod may change.
    pub(crate) local: ArcSwap<Local>,
    /// Its certificate and whom it trusts; none before the first is issued.
    pub(crate) credentials: ArcSwapOption<Credentials>,
    hops: [String; 3],
}

/// There is one of each in a process.
impl PartialEq for LocalWorkload {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for LocalWorkload {}

impl LocalWorkload {
    /// A workload that has no certificate yet.
    pub(crate) fn new(id: WorkloadId, owner: Name, local: Local) -> Arc<Self> {
        let hops = [ListenerKind::Outbound, ListenerKind::Inbound, ListenerKind::Gateway]
            .map(|kind| format!("{} {}", kind.word(), id.uid));
        let credentials = ArcSwapOption::empty();
        Arc::new(Self { id, owner, local: ArcSwap::from_pointee(local), credentials, hops })
    }

    /// Takes the labels that the workload at `ip` has in a view, if it is this one.
    pub(crate) fn learn_labels(&self, view: &View, ip: IpAddr) {
        let Some(Some(present)) = view.workload(ip) else { return };
        if present.id.uid == self.id.uid && present.labels != self.local.load().labels {
            let namespace = self.id.namespace.clone();
            self.local.store(Arc::new(Local { namespace, labels: present.labels.clone() }));
        }
    }

    /// The workload that a bootstrap names.
    pub(crate) fn of_bootstrap(bootstrap: &ProxyBootstrap) -> Arc<Self> {
        Self::new(
            bootstrap.workload.clone(),
            bootstrap.owner.clone(),
            Local {
                namespace: bootstrap.workload.namespace.clone(),
                labels: bootstrap.labels.clone(),
            },
        )
    }

    /// What tells a hop through this workload's proxy from all other hops.
    pub(crate) fn hop(&self, kind: ListenerKind) -> &[u8] {
        let [outbound, inbound, gateway] = &self.hops;
        match kind {
            ListenerKind::Outbound => outbound.as_bytes(),
            ListenerKind::Inbound => inbound.as_bytes(),
            ListenerKind::Gateway => gateway.as_bytes(),
        }
    }
}
