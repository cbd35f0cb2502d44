//! What applies to traffic that enters a workload.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Subscriber;
use super::index::{InboundPolicyEntry, Index};
use crate::name::ObjectId;
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
        inbound_policies: policies(index, subscriber),
        inbound_ports: ports.into_values().collect(),
    }
}

/// Policies of the workload, of its namespace, and of the mesh, each oldest first.
fn policies(index: &Index, subscriber: &Subscriber) -> Vec<ObjectId> {
    let mut found: Vec<(Scope, &ObjectId)> = index
        .inbound_policies
        .iter()
        .filter_map(|entry| {
            Some((scope(entry, subscriber, &index.settings.root_namespace)?, entry.policy.id()))
        })
        .collect();
    // Stable, so that age decides within a scope.
    found.sort_by_key(|(scope, _)| *scope);
    found.into_iter().map(|(_, id)| id.clone()).collect()
}

/// How wide a policy is; the narrowest counts first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    Workload,
    Namespace,
    Mesh,
}

fn scope(entry: &InboundPolicyEntry, subscriber: &Subscriber, root: &str) -> Option<Scope> {
    let namespace = &entry.policy.id().namespace;
    let own = *namespace == subscriber.namespace;
    match &entry.selector {
        Some(selector) => (own && selector.selects(&subscriber.labels)).then_some(Scope::Workload),
        None if **namespace == *root => Some(Scope::Mesh),
        None => own.then_some(Scope::Namespace),
    }
}
