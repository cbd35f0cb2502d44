//! Sidecars: what of the mesh the proxies of a namespace, or those of some workloads, see.

use std::net::SocketAddr;

use super::Created;
use super::reader::Reader;
use crate::host::covers;
use crate::name::{Labels, Name, ObjectId};
use crate::policy::ConnectionPool;
use crate::resource::DefaultBackend;
use crate::service::Protocol;
use crate::settings::OutboundPolicy;

/// What a `Sidecar` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SidecarSource {
    /// The object.
    pub id: ObjectId,
    /// Workloads of its namespace that it selects; `None`: all of them, or of the mesh if it is the
    /// root namespace.
    pub selector: Option<Labels>,
    /// What of the mesh they see; empty: all.
    pub egress: Vec<EgressHosts>,
    /// What happens to traffic for destinations that they do not see; `None`: as in the mesh.
    pub outbound_policy: Option<OutboundPolicy>,
    /// The service through which that goes, where it may go; `None`: to where callers dial.
    pub egress_proxy: Option<DefaultBackend>,
    /// Ports of the workloads; empty: those that services serve.
    pub ingress: Vec<IngressPort>,
    /// Limits of what enters them at ports that do not have their own.
    pub inbound_pool: Option<ConnectionPool>,
    /// Age.
    pub created: Created,
}

/// A port of a workload as a Sidecar has it (`ingress`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngressPort {
    /// Its number.
    pub number: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Where its connections go, as in [`InboundPort::to`](crate::resource::InboundPort::to).
    pub to: Option<SocketAddr>,
    /// Limits of connections and requests there.
    pub pool: Option<ConnectionPool>,
}

/// Hosts that are seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgressHosts {
    /// On this port alone, on which then no others are; `None`: on all ports that no other names.
    pub port: Option<u16>,
    /// Namespaces (`None`: all) and patterns of hosts.
    pub hosts: Vec<(Option<Name>, Name)>,
}

impl SidecarSource {
    /// Whether what is in a namespace under a host, a name or a pattern, is seen on a port.
    pub(super) fn shows(&self, namespace: &str, host: &str, port: u16) -> bool {
        let has_own = self.egress.iter().any(|hosts| hosts.port == Some(port));
        let here = self.egress.iter().filter(|hosts| hosts.port == has_own.then_some(port));
        let mut hosts = here.flat_map(|hosts| &hosts.hosts);
        let is_it = |(of, pattern): &(Option<Name>, Name)| {
            let is_of = of.as_ref().is_none_or(|of| **of == *namespace);
            is_of && (covers(pattern, host) || **pattern == *host)
        };
        self.egress.is_empty() || hosts.any(is_it)
    }
}

/// The Sidecar that holds for a workload: the oldest of its namespace that selects it, else the oldest
/// there that is for all, else the oldest such one of the root namespace (Istio, "Sidecar").
pub(super) fn of_workload(
    reader: &Reader<'_>,
    namespace: &str,
    labels: &Labels,
) -> Option<ObjectId> {
    let own = reader.sidecars_in(namespace);
    let selecting = own
        .iter()
        .find(|sidecar| sidecar.selector.as_ref().is_some_and(|selector| selector.selects(labels)));
    let for_all = || own.iter().find(|sidecar| sidecar.selector.is_none());
    let of_mesh = || {
        let root = reader.sidecars_in(reader.root_namespace());
        root.into_iter().find(|sidecar| sidecar.selector.is_none())
    };
    let found = selecting.or_else(for_all).copied().or_else(of_mesh);
    found.map(|sidecar| sidecar.id.clone())
}
