//! Destinations as a namespace sees them: which service a host is, and which policies hold.

use super::index::{Index, exported};
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
fn policies(index: &Index, host: &str, caller: &str, service: &str) -> Vec<ObjectId> {
    let root = &*index.settings.root_namespace;
    let in_namespace = |namespace: &str| {
        let hosts = index.destination_policies_in(namespace)?;
        hosts.covering(host).find_map(|positions| {
            let ids: Vec<ObjectId> = positions
                .iter()
                .map(|&at| &index.destination_policies[at])
                .filter(|entry| namespace == caller || exported(&entry.export_to, caller))
                .map(|entry| entry.policy.id().clone())
                .collect();
            (!ids.is_empty()).then_some(ids)
        })
    };
    [caller, service, root].into_iter().find_map(in_namespace).unwrap_or_default()
}
