//! What applies to traffic that enters a workload.

use std::net::IpAddr;

use super::Subscriber;
use super::index::{InboundPolicyEntry, Index};
use crate::name::ObjectId;
use crate::resource::{Applies, Join};
use crate::service::Protocol;

/// What applies to connections to a port of the subscriber's own workload. The protocol is the one
/// that the oldest service declares which is served there.
pub(super) fn address(index: &Index, ip: IpAddr, port: u16, subscriber: &Subscriber) -> Applies {
    let served = index.endpoints_at(ip).find_map(|(entry, endpoint)| {
        let map = endpoint.ports.iter().find(|map| map.target == port)?;
        Some((&entry.service, entry.service.port(map.service)?.protocol))
    });
    Applies {
        protocol: served.map_or(Protocol::Undeclared, |(_, protocol)| protocol),
        service: served.map(|(service, _)| service.id.clone()),
        default_backend: None,
        routes: Vec::new(),
        join: Join::InOrder,
        attached_to: Vec::new(),
        destinations: Vec::new(),
        inbound_policies: policies(index, subscriber),
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
