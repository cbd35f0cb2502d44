//! Findings about TLS towards destinations: endpoints that take none, and Secrets that are of no use.

use std::collections::BTreeSet;

use crate::finding::{Finding, FindingCode};
use crate::host::intersection;
use crate::name::Name;
use crate::policy::Policy;
use crate::service::{Endpoint, UpstreamTls};
use crate::snapshot::NamedSecret;
use crate::snapshot::destination::credential;
use crate::snapshot::index::DestinationPolicyEntry;
use crate::snapshot::reader::Reader;

/// Mutual TLS with endpoints that take none.
pub(super) fn plaintext_endpoints(
    reader: &Reader<'_>,
    entry: &DestinationPolicyEntry,
    out: &mut Vec<Finding>,
) {
    if entry.mutual_tls_at.is_empty() {
        return;
    }
    let services = if entry.host.starts_with('*') {
        let all = reader.services().into_iter();
        all.filter(|service| is_for(&entry.host, &service.service.id.hostname)).collect()
    } else {
        reader.services_named(&entry.host)
    };
    let Policy::Destination(policy) = &*entry.policy else { return };
    let subsets = policy.subsets.iter().map(|subset| &subset.traffic);
    let own_ports = policy.traffic.iter().chain(subsets).flat_map(|traffic| &traffic.ports);
    let own_ports: BTreeSet<u16> = own_ports.map(|own| own.port).collect();
    // What is said for single ports takes the place of what is said of all.
    let is_plain = |endpoint: &&Endpoint| {
        let ports = endpoint.ports.iter().filter(|map| !own_ports.contains(&map.service));
        ports.map(|map| endpoint.tls_at(map.target)).any(|tls| *tls == UpstreamTls::None)
    };
    let plain =
        services.into_iter().flat_map(|service| reader.all_endpoints(service)).find(is_plain);
    let Some(endpoint) = plain else { return };
    let workload = &endpoint.workload;
    for path in &entry.mutual_tls_at {
        let message = format!(
            "{}.{} has no sidecar, or its PeerAuthentication turns mutual TLS off",
            workload.name, workload.namespace
        );
        out.push(Finding::new(entry.policy.id(), path, FindingCode::NoMutualTls, message));
    }
}

/// Whether a host, which may be a wildcard, is also that of a service.
fn is_for(pattern: &str, hostname: &str) -> bool {
    intersection(pattern, hostname) == Some(hostname)
}

/// Secrets that are not there, or lack what is asked of them, where those look who may have them: the
/// workloads that the policy selects, or gateways. Of several namespaces with gateways one will do.
pub(super) fn secrets(reader: &Reader<'_>, entry: &DestinationPolicyEntry, out: &mut Vec<Finding>) {
    let id = entry.policy.id();
    if entry.credentials.is_empty() {
        return;
    }
    let namespaces: BTreeSet<&Name> = match entry.selector {
        Some(_) => [&id.namespace].into(),
        None => {
            let gateways = reader.gateways();
            gateways.iter().flat_map(|own| reader.namespaces_selected(&own.selector)).collect()
        }
    };
    for named in &entry.credentials {
        let flaws = namespaces.iter().map(|namespace| flaw(reader, namespace, named));
        let message = match flaws.collect::<Option<Vec<String>>>() {
            None => continue,
            Some(flaws) if flaws.is_empty() => {
                "there is no gateway, and other workloads take a Secret \
                 only by a DestinationRule whose workloadSelector selects them"
                    .to_owned()
            }
            Some(flaws) => flaws.join("; "),
        };
        out.push(Finding::new(id, &named.place, FindingCode::BadCredential, message));
    }
}

/// Why a Secret is of no use in a namespace.
fn flaw(reader: &Reader<'_>, namespace: &Name, named: &NamedSecret) -> Option<String> {
    let name = &named.name;
    let source = reader.credential(namespace, name);
    if let Some(flaw) = source.and_then(|source| source.flaw.as_ref()) {
        return Some(format!("Secret {namespace}/{name} cannot be used: {flaw}"));
    }
    let has = credential(reader, namespace, name);
    let lacks = match (source, &has.certificate, &has.trusted) {
        (None, _, None) => "is not there, or has nothing for TLS",
        (_, None, _) if named.is_shown => "has no certificate with its key (tls.crt, tls.key)",
        (_, _, None) => "has no authorities to verify the other side by (ca.crt)",
        _ => return None,
    };
    Some(format!("Secret {namespace}/{name} {lacks}"))
}
