//! Destinations as a namespace sees them: which service a host is, and which policies hold.

use super::cell::Map;
use super::index::{DestinationPolicyEntry, exported};
use super::reader::Reader;
use crate::name::{Name, ObjectId};
use crate::resource::Destination;
use crate::route::Route;

/// The hosts that a route sends requests to, each once, in order.
pub(super) fn named(route: &Route) -> Vec<Name> {
    let mut named: Vec<Name> = Vec::new();
    for backend in route.backends() {
        if !named.contains(&backend.host) {
            named.push(backend.host.clone());
        }
    }
    named
}

/// The destinations that these routes and this default host name, each once, in order.
pub(super) fn of_routes(
    reader: &Reader<'_>,
    routes: &[ObjectId],
    default: Option<&Name>,
    namespace: &str,
) -> Vec<Destination> {
    let named = routes.iter().flat_map(|id| reader.destinations_of(id));
    let mut destinations: Vec<Destination> = Vec::new();
    for host in named.chain(default) {
        if destinations.iter().all(|d| d.host != *host) {
            destinations.push(destination(reader, host, namespace));
        }
    }
    destinations
}

/// One destination by its fully qualified host.
pub(super) fn destination(reader: &Reader<'_>, host: &Name, namespace: &str) -> Destination {
    let service = reader.service_named(host, namespace).map(|entry| entry.service.id.clone());
    let policies = match &service {
        Some(id) => policies(reader, host, namespace, &id.namespace),
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
fn policies(reader: &Reader<'_>, host: &str, caller: &str, service: &str) -> Vec<ObjectId> {
    let root = &**reader.root_namespace();
    let is_own = |entry: &DestinationPolicyEntry| {
        caller != root || matches!(&entry.export_to[..], [only] if **only == *root)
    };
    let is_exported = |entry: &DestinationPolicyEntry| exported(&entry.export_to, caller);
    in_namespace(reader, host, caller, is_own)
        .or_else(|| in_namespace(reader, host, service, is_exported))
        .or_else(|| in_namespace(reader, host, root, is_exported))
        .unwrap_or_default()
}

fn in_namespace(
    reader: &Reader<'_>,
    host: &str,
    namespace: &str,
    counts: impl Fn(&DestinationPolicyEntry) -> bool,
) -> Option<Vec<ObjectId>> {
    reader.covering(Map::Destination(namespace), host).find_map(|policies| {
        let ids: Vec<ObjectId> = policies
            .iter()
            .filter(|policy| reader.destination_policy(&policy.id).is_some_and(&counts))
            .map(|policy| policy.id.clone())
            .collect();
        (!ids.is_empty()).then_some(ids)
    })
}
