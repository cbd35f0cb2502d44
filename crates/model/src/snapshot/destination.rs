//! Destinations as a namespace sees them: which service a host is, and which policies hold.

use super::index::{DestinationPolicyEntry, Index, exported};
use crate::name::{Name, ObjectId};
use crate::resource::Destination;
use crate::route::{Action, Route};

/// The destinations that these routes and this default host name, each once, in order.
pub(super) fn of_routes<'a>(
    index: &Index,
    routes: impl Iterator<Item = &'a Route>,
    default: Option<&'a Name>,
    namespace: &str,
) -> Vec<Destination> {
    let named = routes.flat_map(|route| &route.rules).flat_map(|rule| {
        let Action::Forward(backends) = &rule.action;
        backends.iter().map(|backend| &backend.host)
    });
    let mut destinations: Vec<Destination> = Vec::new();
    for host in named.chain(default) {
        if destinations.iter().all(|d| d.host != *host) {
            destinations.push(destination(index, host, namespace));
        }
    }
    destinations
}

/// One destination by its fully qualified host.
pub(super) fn destination(index: &Index, host: &Name, namespace: &str) -> Destination {
    let service = index.service_named(host, namespace).map(|entry| entry.service.id.clone());
    let policies = match &service {
        Some(id) => policies(index, host, namespace, &id.namespace),
        None => Vec::new(),
    };
    Destination { host: host.clone(), service, policies }
}

/// Policies of a destination: those in the caller's namespace, else those in the service's, else
/// those in the root namespace (Istio, "DestinationRule lookup path"). Within the namespace the
/// most specific host counts, and all policies for it join, oldest first.
///
/// For callers in the root namespace, such as gateways, the first step sees only what is exported to
/// nobody else: policies there that are for the whole mesh must not hide those of services.
fn policies(index: &Index, host: &str, caller: &str, service: &str) -> Vec<ObjectId> {
    let root = &*index.settings.root_namespace;
    let is_own = |entry: &DestinationPolicyEntry| {
        caller != root || matches!(&entry.export_to[..], [only] if **only == *root)
    };
    let is_exported = |entry: &DestinationPolicyEntry| exported(&entry.export_to, caller);
    in_namespace(index, host, caller, is_own)
        .or_else(|| in_namespace(index, host, service, is_exported))
        .or_else(|| in_namespace(index, host, root, is_exported))
        .unwrap_or_default()
}

fn in_namespace(
    index: &Index,
    host: &str,
    namespace: &str,
    counts: impl Fn(&DestinationPolicyEntry) -> bool,
) -> Option<Vec<ObjectId>> {
    let hosts = index.destination_policies_in(namespace)?;
    hosts.covering(host).find_map(|positions| {
        let ids: Vec<ObjectId> = positions
            .iter()
            .map(|&at| &index.destination_policies[at])
            .filter(|entry| counts(entry))
            .map(|entry| entry.policy.id().clone())
            .collect();
        (!ids.is_empty()).then_some(ids)
    })
}
