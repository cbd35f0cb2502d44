//! Destinations as a namespace sees them: which service a host is, and which policies hold.

use super::NamedSecret;
use super::cell::Map;
use super::index::{DestinationPolicyEntry, exported};
use super::reader::Reader;
use crate::credential::{Certificate, ClientCredential, CredentialSource};
use crate::name::{Name, ObjectId};
use crate::resource::{Destination, ListenerKind};
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
    let service = reader.service_meant(host, namespace).map(|entry| entry.service.id.clone());
    let policies = match &service {
        Some(id) => policies(reader, host, namespace, &id.namespace),
        None => Vec::new(),
    };
    Destination { host: host.clone(), service, policies, credentials: Vec::new() }
}

/// What the Secrets have that these policies name, if the asker may have it. As in Istio gateways may,
/// and workloads that a policy selects; they are looked for in the asker's namespace.
pub(super) fn credentials(
    reader: &Reader<'_>,
    policies: &[ObjectId],
    listener: ListenerKind,
    namespace: &Name,
) -> Vec<ClientCredential> {
    let mut found: Vec<ClientCredential> = Vec::new();
    for entry in policies.iter().filter_map(|id| reader.destination_policy(id)) {
        if listener != ListenerKind::Gateway && entry.selector.is_none() {
            continue;
        }
        for NamedSecret { name, .. } in &entry.credentials {
            if found.iter().all(|known| known.name != *name) {
                found.push(credential(reader, namespace, name));
            }
        }
    }
    found
}

/// What a Secret has, and the one of its name with `-cacert`, which may hold the authorities. What is
/// not there is left empty, so that nothing is spoken instead of what was meant.
pub(super) fn credential(reader: &Reader<'_>, namespace: &Name, name: &Name) -> ClientCredential {
    let own = reader.credential(namespace, name);
    let beside = reader.credential(namespace, &format!("{name}-cacert").into());
    let has = |source: &&CredentialSource| source.trusted.is_some();
    let authorities = beside.filter(has).or(own.filter(has));
    ClientCredential {
        name: name.clone(),
        certificate: own.and_then(|own| {
            Some(Certificate { chain: own.certificate.clone()?, key: own.key.clone()? })
        }),
        trusted: authorities.and_then(|source| source.trusted.clone()),
        revoked: authorities.and_then(|source| source.revoked.clone()),
    }
}

/// Policies of a destination: those in the caller's namespace, else those in the service's, else
/// those in the root namespace (Istio, "DestinationRule lookup path"). Within the namespace the
/// most specific host counts. A policy that is for some workloads counts for these alone, as if it
/// were not there for others.
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
        let entries = policies.iter().filter_map(|policy| reader.destination_policy(&policy.id));
        let holds = |entry: &&DestinationPolicyEntry| {
            counts(entry) && (entry.selector.is_none() || reader.is_selecting(entry.policy.id()))
        };
        let joined = join(&entries.filter(holds).collect::<Vec<_>>());
        (!joined.is_empty()).then(|| joined.iter().map(|e| e.policy.id().clone()).collect())
    })
}

/// Those of the policies for one host that hold together, oldest first. As Istio merges them: the
/// oldest that selects the caller, joined by younger ones with the same selector or none; without one
/// all that are exported alike. Of those that are not, the ones exported in the way that was used last
/// hold, and are joined by those that more see.
fn join<'a>(policies: &[&'a DestinationPolicyEntry]) -> Vec<&'a DestinationPolicyEntry> {
    let selecting = policies.iter().position(|entry| entry.selector.is_some());
    let first = match selecting {
        Some(at) => at,
        None => {
            let is_new = |at: &usize| {
                policies[..*at]
                    .iter()
                    .all(|older| !alike(&older.export_to, &policies[*at].export_to))
            };
            match (0..policies.len()).rev().find(is_new) {
                Some(at) => at,
                None => return Vec::new(),
            }
        }
    };
    let base = policies[first];
    let joins = |other: &&&'a DestinationPolicyEntry| {
        let selector = other.selector.is_none() || other.selector == base.selector;
        let (own, wide) = (&base.export_to, &other.export_to);
        let superset = !own.is_empty() && own.iter().all(|namespace| wide.contains(namespace));
        selector && (alike(own, wide) || superset)
    };
    let younger = policies[first + 1..].iter().filter(joins).copied();
    std::iter::once(base).chain(younger).collect()
}

/// Whether two lists name the same namespaces.
fn alike(a: &[Name], b: &[Name]) -> bool {
    a.iter().all(|name| b.contains(name)) && b.iter().all(|name| a.contains(name))
}
