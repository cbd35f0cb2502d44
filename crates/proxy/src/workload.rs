//! A workload that a proxy serves: its view, its certificate, its policies and how far it is on its
//! way out. Each connection carries the workload for which it is served.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use ironmesh_model::bootstrap::ProxyBootstrap;
use ironmesh_model::topology::{OwnTopology, Topology};
use ironmesh_model::{ListenerKind, Local, Name, View, WorkloadId};
use tokio::sync::watch;

use crate::edge::tls::EdgeTls;
use crate::names::AskedNames;
use crate::tls::Credentials;
use crate::views::Views;

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
    /// What it holds of the configuration. The groups of endpoints, with all that is known about
    /// them, belong to that.
    pub(crate) views: Views,
    /// Names of hosts that its requests name and that are resolved for them.
    pub(crate) asked_names: AskedNames,
    /// The TLS that it speaks as a gateway.
    pub(crate) edge_tls: ArcSwap<EdgeTls>,
    /// The ports on which it listens as a gateway.
    pub(crate) edge_ports: ArcSwap<EdgeAddresses>,
    /// What its own configuration says of what stands in front of it.
    topology: OwnTopology,
    hops: [String; 3],
    phase: watch::Sender<Phase>,
    /// The same, to be looked at by every request.
    phase_now: AtomicU8,
}

/// The ports on which a gateway listens, each with its addresses, in the pod and on the host.
pub(crate) type EdgeAddresses = BTreeMap<u16, Vec<SocketAddr>>;

/// How far a workload is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It is served.
    Serves,
    /// It is told to end: callers are sent elsewhere, one answer after the other, while what they
    /// still send is served, and its own calls go on as before.
    SendsAway,
    /// Its proxy ends as soon as nothing is open any more.
    Drains,
}

/// There is one of each in a process.
impl PartialEq for LocalWorkload {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for LocalWorkload {}

impl LocalWorkload {
    /// One of a test.
    #[cfg(test)]
    pub(crate) fn new(id: WorkloadId, owner: Name, local: Local, ip: IpAddr) -> Arc<Self> {
        Self::behind(id, owner, local, ip, OwnTopology::default())
    }

    /// A workload that has no certificate yet and holds nothing. `ip`: its address, from which it is
    /// near to some and far from others.
    fn behind(
        id: WorkloadId,
        owner: Name,
        local: Local,
        ip: IpAddr,
        topology: OwnTopology,
    ) -> Arc<Self> {
        let uid = id.uid.clone();
        let hops = [ListenerKind::Outbound, ListenerKind::Inbound, ListenerKind::Gateway]
            .map(|kind| format!("{} {}", kind.word(), id.uid));
        Arc::new(Self {
            id,
            owner,
            local: ArcSwap::from_pointee(local),
            credentials: ArcSwapOption::empty(),
            views: Views::new(View::of(ip, uid)),
            asked_names: AskedNames::default(),
            edge_tls: ArcSwap::default(),
            edge_ports: ArcSwap::default(),
            topology,
            hops,
            phase: watch::Sender::new(Phase::Serves),
            phase_now: AtomicU8::new(Phase::Serves as u8),
        })
    }

    /// Whether connections begin with a header of the PROXY protocol, at a gateway.
    pub(crate) fn expects_proxy_protocol(&self) -> bool {
        self.topology.proxy_protocol || self.views.load().settings().gateway_proxy_protocol
    }

    /// What stands in front of it, if it is a gateway.
    pub(crate) fn topology(&self) -> Topology {
        self.topology.over(self.views.load().settings().gateway_topology)
    }

    /// Where clients reach a port of this gateway who came to another of its ports at `from`: the
    /// address may be published at other numbers.
    pub(crate) fn published(&self, port: u16, from: IpAddr) -> Option<u16> {
        let ports = self.edge_ports.load();
        let own = ports.get(&port)?.iter().find(|address| address.ip() == from)?;
        Some(own.port())
    }

    /// Replaces the view, and takes the labels that the workload at `ip` has in it, if it is this
    /// one.
    ///
    /// Gives back what is wrong with the certificates that it has as a gateway.
    pub(crate) fn hold(&self, view: View, ip: IpAddr) -> Vec<String> {
        self.learn_labels(&view, ip);
        let flaws = self.learn_certificates(&view);
        self.views.replace(view);
        flaws
    }

    /// Makes the TLS of a gateway's servers again, if they are others.
    pub(crate) fn learn_certificates(&self, view: &View) -> Vec<String> {
        let before = self.edge_tls.load();
        if before.is_of(view.listeners()) {
            return Vec::new();
        }
        let (next, flaws) = before.next(view.listeners());
        self.edge_tls.store(Arc::new(next));
        flaws
    }

    fn learn_labels(&self, view: &View, ip: IpAddr) {
        let Some(Some(present)) = view.workload(ip) else { return };
        if present.id.uid == self.id.uid && present.labels != self.local.load().labels {
            let namespace = self.id.namespace.clone();
            self.local.store(Arc::new(Local { namespace, labels: present.labels.clone() }));
        }
    }

    /// The workload that a bootstrap names.
    pub(crate) fn of_bootstrap(bootstrap: &ProxyBootstrap) -> Arc<Self> {
        Self::behind(
            bootstrap.workload.clone(),
            bootstrap.owner.clone(),
            Local {
                namespace: bootstrap.workload.namespace.clone(),
                labels: bootstrap.labels.clone(),
            },
            bootstrap.ip,
            bootstrap.topology,
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

    /// Whether clients of a listener are to be sent elsewhere.
    pub(crate) fn sends_away(&self, listener: ListenerKind) -> bool {
        self.phase_now.load(Ordering::Relaxed) >= sends_away_from(listener) as u8
    }

    /// Waits until clients of a listener are to be sent elsewhere. Cancel safe.
    pub(crate) async fn begins_to_send_away(&self, listener: ListenerKind) {
        let from = sends_away_from(listener);
        let mut current = self.phase.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = current.wait_for(|current| *current >= from).await;
    }

    /// Whether it or its proxy is going away.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase_now.load(Ordering::Relaxed) > Phase::Serves as u8
    }

    /// Begins to send callers elsewhere, as it is told to end.
    pub(crate) fn send_away(&self) {
        self.enter(Phase::SendsAway);
    }

    /// Begins the drain: connections are closed after their request.
    pub(crate) fn drain(&self) {
        self.enter(Phase::Drains);
    }

    fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let is_news = *phase < next;
            *phase = next.max(*phase);
            self.phase_now.store(*phase as u8, Ordering::Relaxed);
            is_news
        });
    }
}

/// The phase in which clients of a listener are sent elsewhere: a workload that is to end still
/// calls others.
fn sends_away_from(listener: ListenerKind) -> Phase {
    match listener {
        ListenerKind::Outbound => Phase::Drains,
        ListenerKind::Inbound | ListenerKind::Gateway => Phase::SendsAway,
    }
}
