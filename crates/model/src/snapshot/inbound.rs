//! What applies to traffic that enters a workload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Subscriber;
use super::index::{InboundPolicyEntry, Index};
use crate::name::Labels;
use crate::policy::{MtlsMode, Policy};
use crate::resource::{Applies, InboundPort, Join};
use crate::service::Protocol;

/// What applies to connections to an address of the subscriber's own workload, over all its ports.
/// The protocol of a port is the one that the oldest service declares which is served there.
pub(super) fn address(index: &Index, ip: IpAddr, subscriber: &Subscriber) -> Applies {
    let mut ports: BTreeMap<u16, InboundPort> = BTreeMap::new();
    for (entry, endpoint) in index.endpoints_at(ip) {
        for map in &endpoint.ports {
            let Some(declared) = entry.service.port(map.service) else { continue };
            ports.entry(map.target).or_insert_with(|| InboundPort {
                number: map.target,
                protocol: declared.protocol,
                service: entry.service.id.clone(),
            });
        }
    }
    Applies {
        protocol: Protocol::Undeclared,
        service: None,
        default_backend: None,
        routes: Vec::new(),
        join: Join::InOrder,
        attached_to: Vec::new(),
        destinations: Vec::new(),
        inbound_policies: policies(index, &subscriber.namespace, &subscriber.labels)
            .map(|entry| entry.policy.id().clone())
            .collect(),
        inbound_ports: ports.into_values().collect(),
    }
}

/// Whether a workload that has a proxy takes mutual TLS from the callers of the mesh: they speak to
/// it as its policies let it listen (Istio, "auto mutual TLS").
pub(super) fn takes_mutual_tls(index: &Index, namespace: &str, labels: &Labels) -> bool {
    let mode = policies(index, namespace, labels).find_map(|entry| match &*entry.policy {
        Policy::Inbound(policy) => policy.mtls,
        Policy::Destination(_) => None,
    });
    mode.unwrap_or(index.settings.mtls_mode) != MtlsMode::Disable
}

/// Policies of a workload, of its namespace, and of the mesh, each oldest first.
fn policies<'a>(
    index: &'a Index,
    namespace: &str,
    labels: &Labels,
) -> impl Iterator<Item = &'a InboundPolicyEntry> {
    let root = &index.settings.root_namespace;
    let mut found: Vec<(Scope, &InboundPolicyEntry)> = index
        .inbound_policies
        .iter()
        .filter_map(|entry| Some((scope(entry, namespace, labels, root)?, entry)))
        .collect();
    // Stable, so that age decides within a scope.
    found.sort_by_key(|(scope, _)| *scope);
    found.into_iter().map(|(_, entry)| entry)
}

/// How wide a policy is; the narrowest counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Workload,
    Namespace,
    Mesh,
}

/// The scope in which a policy holds for a workload, if it does. As in Istio a selector in the root
/// namespace selects nothing: there a policy is for the whole mesh or for none.
fn scope(
    entry: &InboundPolicyEntry,
    namespace: &str,
    labels: &Labels,
    root: &str,
) -> Option<Scope> {
    let of_root = *entry.policy.id().namespace == *root;
    let own = *entry.policy.id().namespace == *namespace;
    match &entry.selector {
        Some(selector) => (own && !of_root && selector.selects(labels)).then_some(Scope::Workload),
        None if of_root => Some(Scope::Mesh),
        None => own.then_some(Scope::Namespace),
    }
}
