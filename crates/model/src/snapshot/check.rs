//! Findings that only all objects together show.

use super::gateway::{admits, gateway_name};
use super::index::{Index, MESH, RouteEntry};
use crate::finding::{Finding, FindingCode};
use crate::host::intersection;
use crate::name::Labels;
use crate::policy::{Policy, Subset};
use crate::route::{Action, Backend};

/// All of them, in order of their objects.
pub(super) fn findings(index: &Index) -> Vec<Finding> {
    let mut out = Vec::new();
    for route in &index.routes {
        destinations(index, route, &mut out);
        gateways(index, route, &mut out);
        taken_hosts(index, route, &mut out);
        not_attached(index, route, &mut out);
    }
    subsets(index, &mut out);
    selectors(index, &mut out);
    out.sort();
    out.dedup();
    out
}

fn destinations(index: &Index, entry: &RouteEntry, out: &mut Vec<Finding>) {
    for (r, rule) in entry.route.rules.iter().enumerate() {
        let Action::Forward(backends) = &rule.action;
        for (b, backend) in backends.iter().enumerate() {
            let at = format!("{}[{r}].{}[{b}]", entry.fields.rules, entry.fields.backends);
            destination(index, entry, backend, &at, out);
        }
    }
}

fn destination(
    index: &Index,
    entry: &RouteEntry,
    backend: &Backend,
    at: &str,
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
    if let Some(name) = &backend.subset
        && !subsets_of(index, &backend.host).any(|subset| subset.name == *name)
    {
        out.push(Finding::new(
            id,
            format!("{at}.{}", entry.fields.subset),
            FindingCode::UndefinedSubset,
            format!("no DestinationRule for {} defines subset {name:?}", backend.host),
        ));
    }
}

/// Subsets that any policy defines for a host, whoever sees it.
fn subsets_of<'a>(index: &'a Index, host: &'a str) -> impl Iterator<Item = &'a Subset> {
    let policies = index.destination_policies_of(host);
    policies
        .filter_map(|entry| match &*entry.policy {
            Policy::Destination(policy) => Some(&policy.subsets),
            Policy::Inbound(_) => None,
        })
        .flatten()
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
        if index.service_named(host, &entry.route.id.namespace).is_some() {
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

/// Subsets that no endpoint carries the labels of.
fn subsets(index: &Index, out: &mut Vec<Finding>) {
    for entry in &index.destination_policies {
        let Policy::Destination(policy) = &*entry.policy else { continue };
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
