//! Findings that only all objects together show.

use std::collections::{BTreeSet, HashMap};

use super::gateway::{admits, gateway_name};
use super::index::{DestinationPolicyEntry, Index, MESH, RouteEntry};
use super::{GatewaySource, RouteFields, destination};
use crate::finding::{Finding, FindingCode};
use crate::host::{CLUSTER_DOMAIN, candidates, intersection};
use crate::name::{Labels, Name};
use crate::policy::Policy;
use crate::route::{Action, Backend};
use crate::service::UpstreamTls;

/// All of them, in order of their objects.
pub(super) fn findings(index: &Index) -> Vec<Finding> {
    let mut out = Vec::new();
    let served = namespaces_served(index);
    for route in &index.routes {
        let callers = callers(&served, route);
        destinations(index, route, &callers, &mut out);
        gateways(index, route, &mut out);
        match_gateways(index, route, &mut out);
        unknown_hosts(index, route, &mut out);
        taken_hosts(index, route, &mut out);
        not_attached(index, route, &mut out);
    }
    destination_policies(index, &mut out);
    selectors(index, &mut out);
    out.sort();
    out.dedup();
    out
}

/// The namespaces of the workloads that serve each gateway, by its name.
fn namespaces_served(index: &Index) -> HashMap<String, BTreeSet<&Name>> {
    let of = |gateway: &GatewaySource| {
        let workloads = index.workloads().filter(|w| gateway.selector.selects(&w.labels));
        workloads.map(|workload| &workload.id.namespace).collect()
    };
    index.gateways.iter().map(|gateway| (gateway_name(gateway), of(gateway))).collect()
}

/// The namespaces whose proxies surely use a route: its own inside the mesh, and those of its
/// gateways. (Others see other destination policies: what is wrong for them may be meant so.)
fn callers<'a>(
    served: &HashMap<String, BTreeSet<&'a Name>>,
    entry: &'a RouteEntry,
) -> BTreeSet<&'a Name> {
    let mut callers = BTreeSet::new();
    for gateway in &entry.gateways {
        if **gateway == *MESH {
            callers.insert(&entry.route.id.namespace);
        } else if let Some(namespaces) = served.get(&**gateway) {
            callers.extend(namespaces);
        }
    }
    callers.retain(|namespace| entry.visible_from(namespace));
    callers
}

fn destinations(
    index: &Index,
    entry: &RouteEntry,
    callers: &BTreeSet<&Name>,
    out: &mut Vec<Finding>,
) {
    for (r, rule) in entry.route.rules.iter().enumerate() {
        let Action::Forward(backends) = &rule.action;
        for (b, backend) in backends.iter().enumerate() {
            let at = format!("{}[{r}].{}[{b}]", entry.fields.rules, entry.fields.backends);
            destination(index, entry, (backend, &at), callers, out);
        }
    }
}

fn destination(
    index: &Index,
    entry: &RouteEntry,
    (backend, at): (&Backend, &str),
    callers: &BTreeSet<&Name>,
    out: &mut Vec<Finding>,
) {
    let id = &entry.route.id;
    let Some(service) = index.service_named(&backend.host, &id.namespace) else {
        out.push(Finding::new(
            id,
            format!("{at}.{}", entry.fields.host),
            FindingCode::UnknownDestination,
            format!("no service is called {}", backend.host),
        ));
        return;
    };
    let service = &service.service;
    if let Some(port) = backend.port
        && service.port(port).is_none()
    {
        let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
        out.push(Finding::new(
            id,
            format!("{at}.{}", entry.fields.port),
            FindingCode::UnknownDestination,
            format!("{} has no port {port}, only {}", backend.host, ports.join(", ")),
        ));
    }
    let Some(name) = &backend.subset else { return };
    let message = if !index.destination_policies_of(&backend.host).any(|e| defines(&e.policy, name))
    {
        format!("no DestinationRule for {} defines subset {name:?}", backend.host)
    } else if let Some(caller) = callers.iter().find(|caller| {
        let seen = destination::destination(index, &backend.host, caller).policies;
        !seen.iter().filter_map(|id| index.policy(id)).any(|policy| defines(policy, name))
    }) {
        format!(
            "no DestinationRule for {} that proxies in {caller} go by defines subset {name:?}; \
             they look in their own namespace, then in {}, then in {}",
            backend.host, service.id.namespace, index.settings.root_namespace
        )
    } else {
        return;
    };
    let path = format!("{at}.{}", entry.fields.subset);
    out.push(Finding::new(id, path, FindingCode::UndefinedSubset, message));
}

/// Whether a policy defines a subset.
fn defines(policy: &Policy, subset: &str) -> bool {
    match policy {
        Policy::Destination(policy) => policy.subsets.iter().any(|own| *own.name == *subset),
        Policy::Inbound(_) => false,
    }
}

fn gateways(index: &Index, entry: &RouteEntry, out: &mut Vec<Finding>) {
    for (at, name) in entry.gateways.iter().enumerate() {
        if **name != *MESH && !index.has_gateway(name) {
            out.push(Finding::new(
                &entry.route.id,
                format!("{}[{at}]", entry.fields.gateways),
                FindingCode::UnknownGateway,
                format!("there is no Gateway {name}"),
            ));
        }
    }
}

/// Alternatives for gateways that do not exist, or that the object is not attached to.
fn match_gateways(index: &Index, entry: &RouteEntry, out: &mut Vec<Finding>) {
    let RouteFields { rules, matches, match_gateways, .. } = entry.fields;
    for (r, rule) in entry.route.rules.iter().enumerate() {
        for (m, alternative) in rule.matches.iter().enumerate() {
            for (g, name) in alternative.gateways.iter().enumerate() {
                let (code, message) = if **name != *MESH && !index.has_gateway(name) {
                    (FindingCode::UnknownGateway, format!("there is no Gateway {name}"))
                } else if !entry.gateways.contains(name) {
                    let message =
                        format!("the object is not attached to {name}, so nothing matches there");
                    (FindingCode::NoEffect, message)
                } else {
                    continue;
                };
                let path = format!("{rules}[{r}].{matches}[{m}].{match_gateways}[{g}]");
                out.push(Finding::new(&entry.route.id, path, code, message));
            }
        }
    }
}

/// Hosts inside the cluster that are no services, or not as they are written.
fn unknown_hosts(index: &Index, entry: &RouteEntry, out: &mut Vec<Finding>) {
    let id = &entry.route.id;
    if !entry.gateways.iter().any(|name| **name == *MESH) {
        return;
    }
    for (at, host) in entry.hosts.iter().enumerate() {
        if let Some(message) = unknown_host(index, host, &id.namespace) {
            let path = format!("{}[{at}]", entry.fields.hosts);
            out.push(Finding::new(id, path, FindingCode::UnknownHost, message));
        }
    }
}

/// Why a host is that of no service, if it looks like one's.
fn unknown_host(index: &Index, host: &str, namespace: &str) -> Option<String> {
    if host.starts_with('*') || index.service_named(host, namespace).is_some() {
        return None;
    }
    let completed = candidates(host, namespace);
    let meant = completed.iter().find(|name| index.service_named(name, namespace).is_some());
    match meant {
        Some(meant) => Some(format!("{host} is not completed; write {meant}")),
        None if host.ends_with(&format!(".svc.{CLUSTER_DOMAIN}")) => {
            Some(format!("no service is called {host}"))
        }
        None => None,
    }
}

/// Within the mesh one host has one route; see [`super::outbound::mesh_route`].
fn taken_hosts(index: &Index, entry: &RouteEntry, out: &mut Vec<Finding>) {
    if !entry.gateways.iter().any(|name| **name == *MESH) {
        return;
    }
    for (at, host) in entry.hosts.iter().enumerate() {
        let older = index
            .mesh_routes()
            .of_pattern(host)
            .iter()
            .map(|&at| &index.routes[at])
            .take_while(|other| other.route.id != entry.route.id)
            .find(|other| other.export_to.is_empty() || other.export_to == entry.export_to);
        if let Some(older) = older {
            out.push(Finding::new(
                &entry.route.id,
                format!("{}[{at}]", entry.fields.hosts),
                FindingCode::HostTaken,
                format!("{} has the host {host}, too, and is older", older.route.id),
            ));
        }
    }
}

/// A route inside the mesh for a host that only a gateway serves: most likely `gateways` was
/// forgotten.
fn not_attached(index: &Index, entry: &RouteEntry, out: &mut Vec<Finding>) {
    if entry.gateways.iter().any(|name| **name != *MESH) {
        return;
    }
    for (at, host) in entry.hosts.iter().enumerate() {
        let namespace = &entry.route.id.namespace;
        let in_cluster = index.service_named(host, namespace).is_some()
            || unknown_host(index, host, namespace).is_some();
        if in_cluster {
            continue;
        }
        let serving = index.gateways.iter().find(|gateway| {
            gateway.servers.iter().flat_map(|server| &server.hosts).any(|(allowed, served)| {
                admits(allowed.as_ref(), entry) && intersection(served, host).is_some()
            })
        });
        if let Some(gateway) = serving {
            let name = gateway_name(gateway);
            out.push(Finding::new(
                &entry.route.id,
                format!("{}[{at}]", entry.fields.hosts),
                FindingCode::NotAttached,
                format!("Gateway {name} serves {host}; requests through it get 404"),
            ));
        }
    }
}

/// Destination policies for no service, subsets that no endpoint carries the labels of, and mutual
/// TLS with endpoints that take none.
fn destination_policies(index: &Index, out: &mut Vec<Finding>) {
    for entry in &index.destination_policies {
        let Policy::Destination(policy) = &*entry.policy else { continue };
        if let Some(why) = unknown_host(index, &entry.host, &policy.id.namespace) {
            out.push(Finding::new(&policy.id, "spec.host", FindingCode::UnknownHost, why));
        }
        plaintext_endpoints(index, entry, out);
        let Some(service) = index.service_named(&entry.host, &policy.id.namespace) else {
            continue;
        };
        for (at, subset) in policy.subsets.iter().enumerate() {
            let endpoints = &service.endpoints.endpoints;
            if !endpoints.iter().any(|endpoint| subset.labels.selects(&endpoint.labels)) {
                out.push(Finding::new(
                    &policy.id,
                    format!("spec.subsets[{at}]"),
                    FindingCode::EmptySubset,
                    format!("no endpoint of {} has {}", entry.host, text(&subset.labels)),
                ));
            }
        }
    }
}

fn plaintext_endpoints(index: &Index, entry: &DestinationPolicyEntry, out: &mut Vec<Finding>) {
    if entry.mutual_tls_at.is_empty() {
        return;
    }
    let services =
        index.services.iter().filter(|service| is_for(&entry.host, &service.service.id.hostname));
    let plain = services
        .flat_map(|service| &service.endpoints.endpoints)
        .find(|endpoint| endpoint.tls == UpstreamTls::None);
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

/// Selectors that match no workload.
fn selectors(index: &Index, out: &mut Vec<Finding>) {
    for gateway in &index.gateways {
        if !index.workloads().any(|workload| gateway.selector.selects(&workload.labels)) {
            out.push(Finding::new(
                &gateway.id,
                "spec.selector",
                FindingCode::NothingSelected,
                format!("no workload has {}", text(&gateway.selector)),
            ));
        }
    }
    for entry in &index.inbound_policies {
        let Some(selector) = &entry.selector else { continue };
        let id = entry.policy.id();
        if id.namespace == index.settings.root_namespace {
            out.push(Finding::new(
                id,
                "spec.selector",
                FindingCode::NoEffect,
                format!(
                    "in {}, the root namespace, a policy is for the whole mesh and has no \
                     selector; put it into the namespace of its workloads",
                    id.namespace
                ),
            ));
            continue;
        }
        let mut own = index.workloads().filter(|w| w.id.namespace == id.namespace);
        if !own.any(|workload| selector.selects(&workload.labels)) {
            out.push(Finding::new(
                id,
                "spec.selector",
                FindingCode::NothingSelected,
                format!("no workload of {} has {}", id.namespace, text(selector)),
            ));
        }
    }
}

fn text(labels: &Labels) -> String {
    let pairs: Vec<String> =
        labels.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}
