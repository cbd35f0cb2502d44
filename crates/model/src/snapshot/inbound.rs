//! What applies to traffic that enters a workload.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::index::{InboundPolicyEntry, Index};
use super::reader::{Reader, inbound_policies_in};
use super::scope::Scope;
use super::sidecar::{IngressPort, SidecarSource};
use crate::name::{Labels, ObjectId};
use crate::policy::{InboundPolicy, MtlsMode, Policy};
use crate::resource::{Applies, InboundPort, Join};
use crate::service::Protocol;

/// What applies to connections to an address of the asker's own workload, over all its ports.
/// A port belongs to the oldest service that is served there; its protocol is what all of them have
/// in common.
///
/// Where its Sidecar names ports, those are all that it has, each with the service whose connections go
/// there; others are as a port that no service serves (Istio, "Sidecar", `ingress`).
pub(super) fn address(
    reader: &Reader<'_>,
    ip: IpAddr,
    scope: &Scope,
    sidecar: Option<&SidecarSource>,
) -> Applies {
    let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
    for (entry, endpoint) in reader.endpoints_at(ip) {
        for map in &endpoint.ports {
            let Some(declared) = entry.service.port(map.service) else { continue };
            let port = ports.entry(map.target).or_insert_with(|| InboundPort {
                number: map.target,
                protocol: declared.protocol,
                service: Some(entry.service.id.clone()),
                to: None,
                pool: sidecar.and_then(|sidecar| sidecar.inbound_pool),
            });
            port.protocol = port.protocol.in_common(declared.protocol);
        }
    }
    if let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.ingress.is_empty()) {
        ports = named(sidecar, &ports);
    }
    Applies {
        protocol: Protocol::Undeclared,
        service: None,
        default_backend: None,
        routes: Vec::new(),
        join: Join::InOrder,
        attached_to: Vec::new(),
        destinations: Vec::new(),
        inbound_policies: scope.inbound_policies.to_vec(),
        inbound_ports: ports.into_values().collect(),
        by_server_name: Vec::new(),
        member: None,
    }
}

/// The ports that a Sidecar names; of two of one number the first.
fn named(
    sidecar: &SidecarSource,
    served: &BTreeMap<u16, InboundPort>,
) -> BTreeMap<u16, InboundPort> {
    let mut ports = BTreeMap::new();
    for IngressPort { number, protocol, to, pool } in &sidecar.ingress {
        ports.entry(*number).or_insert_with(|| InboundPort {
            number: *number,
            protocol: *protocol,
            service: served.get(number).and_then(|port| port.service.clone()),
            to: *to,
            pool: pool.or(sidecar.inbound_pool),
        });
    }
    ports
}

/// Where a workload that has a proxy takes mutual TLS from the callers of the mesh: they speak to
/// it as its policies let it listen (Istio, "auto mutual TLS").
pub(super) struct Takes<'a> {
    labels: &'a Labels,
    policies: Vec<&'a InboundPolicy>,
    otherwise: MtlsMode,
}

impl<'a> Takes<'a> {
    pub(super) fn of(index: &'a Index, namespace: &str, labels: &'a Labels) -> Self {
        let root = &*index.settings.root_namespace;
        let of_root = inbound_policies_in(index, root);
        let own = inbound_policies_in(index, namespace).filter(|_| namespace != root);
        let all = in_order(own.chain(of_root), namespace, labels, root);
        let policies = all.filter_map(|entry| match &*entry.policy {
            Policy::Inbound(policy) => Some(policy),
            Policy::Destination(_) => None,
        });
        Self { labels, policies: policies.collect(), otherwise: index.settings.mtls_mode }
    }

    /// At a port of it; [`crate::resource::EVERY_PORT`]: at those of which nothing else is said.
    pub(super) fn mutual_tls_at(&self, port: u16) -> bool {
        let said = InboundPolicy::mode(|| self.policies.iter().copied(), port, self.labels);
        said.map_or(self.otherwise, |said| said.mtls) != MtlsMode::Disable
    }

    /// The ports of which its policies say something of their own.
    pub(super) fn ports(&self) -> BTreeSet<u16> {
        let parts = self.policies.iter().flat_map(|policy| &policy.parts);
        parts.filter_map(|part| part.port).collect()
    }
}

/// Policies of a workload, of its namespace, and of the mesh, each oldest first.
pub(super) fn policies(reader: &Reader<'_>, namespace: &str, labels: &Labels) -> Vec<ObjectId> {
    let root = &**reader.root_namespace();
    let of_root = reader.inbound_policies_in(root);
    let own = reader.inbound_policies_in(namespace).filter(|_| namespace != root);
    let ordered = in_order(own.chain(of_root), namespace, labels, root);
    ordered.map(|entry| entry.policy.id().clone()).collect()
}

/// Those of the policies that hold for a workload, the narrowest first, without those that an older
/// one leaves no effect.
fn in_order<'a>(
    policies: impl Iterator<Item = &'a InboundPolicyEntry>,
    namespace: &str,
    labels: &Labels,
    root: &str,
) -> impl Iterator<Item = &'a InboundPolicyEntry> {
    let mut found: Vec<(Width, &InboundPolicyEntry)> = policies
        .filter_map(|entry| Some((width(entry, namespace, labels, root)?, entry)))
        .collect();
    // Stable, so that age decides within a width.
    found.sort_by_key(|(width, _)| *width);
    let mut last = None;
    found.retain(|(width, entry)| !entry.only_oldest || last.replace(*width) != Some(*width));
    found.into_iter().map(|(_, entry)| entry)
}

/// How wide a policy is; the narrowest counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    Workload,
    Namespace,
    Mesh,
}

/// How widely a policy holds for a workload, if it does. As in Istio a selector in the root
/// namespace selects nothing: there a policy is for the whole mesh or for none.
fn width(
    entry: &InboundPolicyEntry,
    namespace: &str,
    labels: &Labels,
    root: &str,
) -> Option<Width> {
    let of_root = *entry.policy.id().namespace == *root;
    let own = *entry.policy.id().namespace == *namespace;
    match &entry.selectors {
        Some(any) => {
            let selected = any.iter().any(|selector| selector.selects(labels));
            (own && !of_root && selected).then_some(Width::Workload)
        }
        None if of_root => Some(Width::Mesh),
        None => own.then_some(Width::Namespace),
    }
}
