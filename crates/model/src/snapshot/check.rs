//! Findings that only several objects together show.

use std::collections::BTreeSet;

use super::cell::{Cell, Map};
use super::delegate::{self, NoDelegate};
use super::gateway::{admits, is_meant_for, name_of};
use super::index::{DestinationPolicyEntry, Index, MESH, RouteEntry};
use super::reader::Reader;
use super::{GatewaySource, RouteFields, destination, outbound};
use crate::finding::{Finding, FindingCode};
use crate::host::{CLUSTER_DOMAIN, candidates, intersection};
use crate::name::{Labels, Name, ObjectId};
use crate::policy::Policy;
use crate::route::{Backend, Match, Rule};
use crate::service::Service;

mod gateways;
mod inbound;
mod ports;
mod sidecars;
mod upstream_tls;

pub(super) use ports::object_of;

/// The objects that may have findings.
pub(super) fn objects(index: &Index) -> impl Iterator<Item = ObjectId> {
    let routes = index.routes.iter().map(|(id, _)| id);
    let policies = index.destination_policies.iter().map(|(id, _)| id);
    let policies = policies.chain(index.inbound_policies.iter().map(|(id, _)| id));
    let gateways = index.gateways.iter().map(|(id, _)| id);
    let gateways = gateways.chain(index.sidecars.iter().map(|(id, _)| id));
    let gateways = gateways.chain(index.found.iter().map(|(id, _)| id));
    let services = index.services.values().map(|entry| object_of(&entry.service));
    routes.chain(policies).chain(gateways).cloned().chain(services)
}

/// The findings about one object, in order, and what they depend on beside the object itself;
/// `None` if there is no such object.
pub(super) fn of(index: &Index, id: &ObjectId) -> Option<(Vec<Finding>, Vec<Cell>)> {
    let reader = Reader::new(index);
    let translated = index.found.get(id);
    let mut out: Vec<Finding> =
        translated.into_iter().flat_map(|all| all.iter().cloned()).collect();
    if let Some(entry) = index.routes.get(id) {
        route(&reader, entry, &mut out);
    } else if let Some(entry) = index.destination_policies.get(id) {
        destination_policy(&reader, entry, &mut out);
    } else if let Some(entry) = index.inbound_policies.get(id) {
        inbound::policy(&reader, entry, &mut out);
    } else if let Some(entry) = index.gateways.get(id) {
        gateway(&reader, entry, &mut out);
    } else if let Some(sidecar) = index.sidecars.get(id) {
        sidecars::sidecar(&reader, sidecar, &mut out);
    } else if let Some(entry) = ports::find(index, id) {
        ports::service(&reader, entry, &mut out);
    } else if translated.is_none() {
        return None;
    }
    out.sort();
    out.dedup();
    Some((out, reader.into_reads()))
}

fn route(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    out.extend(entry.found.iter().cloned());
    destinations(reader, entry, &callers(reader, entry), out);
    gateways(reader, entry, out);
    match_gateways(reader, entry, out);
    unknown_hosts(reader, entry, out);
    taken_hosts(reader, entry, out);
    not_attached(reader, entry, out);
    not_served(reader, entry, out);
    delegates(reader, entry, out);
    ports::connection_rules(reader, entry, out);
    ports::at_gateways(reader, entry, out);
}

/// Rules that delegate to what is not there, and rules of delegates that the rule does not let through.
fn delegates(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    for (at, to) in &entry.delegations {
        let path = format!("{}.{}", entry.fields.rule(*at as usize), entry.fields.delegate);
        let name = format!("{}/{}", to.namespace, to.name);
        let mut report = |code, message: String| {
            out.push(Finding::new(&entry.route.id, path.clone(), code, message));
        };
        let Some(rule) = entry.route.rules.get(*at as usize) else { continue };
        match delegate::find(reader, entry, to) {
            Err(NoDelegate::Unknown) => {
                let message = format!("there is no VirtualService {name} without hosts");
                report(FindingCode::UnknownDelegate, message);
            }
            Err(NoDelegate::NotExported) => {
                let message =
                    format!("{name} is not exported to namespace {}", entry.route.id.namespace);
                report(FindingCode::UnknownDelegate, message);
            }
            Ok(found) => {
                for (number, leaf) in delegate::rules_of(found) {
                    if delegate::join(rule, leaf).is_none() {
                        let message = format!(
                            "rule {number} of {name} asks for what this rule does not let \
                             through, so it is left out"
                        );
                        report(FindingCode::NoEffect, message);
                    }
                }
            }
        }
    }
}

/// The namespaces whose proxies surely use a route, by what it is attached to: its own inside the mesh,
/// and those of its gateways. (Others see other destination policies: what is wrong for them may be
/// meant so.)
fn callers<'a>(reader: &Reader<'a>, entry: &'a RouteEntry) -> Callers<'a> {
    let of_one = |name: &'a Name| {
        let of_mesh = (**name == *MESH).then_some(&entry.route.id.namespace);
        let gateways = reader.gateways_named(name);
        let at_gateways =
            gateways.flat_map(|gateway| reader.namespaces_selected(&gateway.selector));
        let all = of_mesh.into_iter().chain(at_gateways);
        (name, all.filter(|namespace| entry.visible_from(namespace)).collect())
    };
    Callers(entry.attachment.gateways.iter().map(of_one).collect())
}

/// Namespaces of proxies that use a route, by what it is attached to.
struct Callers<'a>(Vec<(&'a Name, BTreeSet<&'a Name>)>);

impl<'a> Callers<'a> {
    /// Those that use a rule: one whose alternatives all name gateways holds at these alone.
    fn of_rule<'m>(
        &self,
        alternatives: impl Iterator<Item = &'m [Name]> + Clone,
    ) -> BTreeSet<&'a Name> {
        let is_narrow = alternatives.clone().next().is_some()
            && alternatives.clone().all(|gateways| !gateways.is_empty());
        let holds_at = |name: &Name| {
            !is_narrow || alternatives.clone().any(|gateways| gateways.contains(name))
        };
        self.0.iter().filter(|(name, _)| holds_at(name)).flat_map(|(_, all)| all).copied().collect()
    }
}

fn destinations(
    reader: &Reader<'_>,
    entry: &RouteEntry,
    callers: &Callers<'_>,
    out: &mut Vec<Finding>,
) {
    let fields = entry.fields;
    for (at, rule) in entry.route.rules.iter().enumerate() {
        let at = fields.rule(at);
        let callers = callers.of_rule(rule.matches.iter().map(|m| &m.gateways[..]));
        let mut check = |backend: &Backend, at: String, host: &str| {
            destination(reader, entry, (backend, &at, host), &callers, out);
        };
        for (b, backend) in rule.action.backends().iter().enumerate() {
            check(backend, fields.backend(&at, b), fields.host);
        }
        for mirror in &rule.mirrors {
            // A mirror is a destination itself.
            let host = fields.host.strip_prefix("destination.").unwrap_or(fields.host);
            check(&mirror.to, format!("{at}.{}", mirror.place), host);
        }
    }
    for rule in &entry.route.connection_rules {
        let at = fields.connection_rule(&rule.place);
        let callers = callers.of_rule(rule.matches.iter().map(|m| &m.gateways[..]));
        for (b, backend) in rule.backends.iter().enumerate() {
            let at = fields.backend(&at, b);
            destination(reader, entry, (backend, &at, fields.host), &callers, out);
        }
    }
}

fn destination(
    reader: &Reader<'_>,
    entry: &RouteEntry,
    (backend, at, host_at): (&Backend, &str, &str),
    callers: &BTreeSet<&Name>,
    out: &mut Vec<Finding>,
) {
    let id = &entry.route.id;
    let Some(service) = reader.service_meant(&backend.host, &id.namespace) else {
        out.push(Finding::new(
            id,
            format!("{at}.{host_at}"),
            FindingCode::UnknownDestination,
            format!("no service is called {}", backend.host),
        ));
        return;
    };
    let service = &service.service;
    port_of_destination(entry, backend, (at, host_at), service, out);
    rules_of_mesh(reader, entry, backend, (at, host_at), out);
    let Some(name) = &backend.subset else { return };
    if let Some(labels) = Labels::parse(name) {
        let host = &backend.host;
        let endpoints = match reader.service_named(host, &id.namespace) {
            Some(service) => reader.all_endpoints(service),
            None => Vec::new(),
        };
        if !endpoints.iter().any(|endpoint| endpoint.is_selected_by(&labels)) {
            let path = format!("{at}.{}", entry.fields.subset);
            let message = format!("no endpoint of {host} has {labels}");
            out.push(Finding::new(id, path, FindingCode::EmptySubset, message));
        }
        return;
    }
    let mut all = reader.covering(Map::Destinations, &backend.host).flatten();
    let is_defined = all.any(|own| reader.policy(&own.id).is_some_and(|p| defines(p, name)));
    let message = if !is_defined {
        format!("no DestinationRule for {} defines subset {name:?}", backend.host)
    } else if let Some(caller) = callers.iter().find(|caller| {
        let seen = destination::destination(reader, &backend.host, caller).policies;
        !seen.iter().filter_map(|id| reader.policy(id)).any(|policy| defines(policy, name))
    }) {
        format!(
            "no DestinationRule for {} that proxies in {caller} go by defines subset {name:?}; \
             they look in their own namespace, then in {}, then in {}",
            backend.host,
            service.id.namespace,
            reader.root_namespace()
        )
    } else {
        return;
    };
    let path = format!("{at}.{}", entry.fields.subset);
    out.push(Finding::new(id, path, FindingCode::UndefinedSubset, message));
}

/// The port of a destination that its service does not have, or has beside others.
fn port_of_destination(
    entry: &RouteEntry,
    backend: &Backend,
    (at, host_at): (&str, &str),
    service: &Service,
    out: &mut Vec<Finding>,
) {
    let id = &entry.route.id;
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
    if let Some(name) = backend.port_name.as_ref().filter(|_| backend.port.is_none())
        && !service.ports.iter().any(|port| port.name == *name)
    {
        let names: Vec<&str> = service.ports.iter().map(|port| &*port.name).collect();
        out.push(Finding::new(
            id,
            format!("{at}.{}", entry.fields.port),
            FindingCode::UnknownDestination,
            format!("{} has no port named {name:?}, only {}", backend.host, names.join(", ")),
        ));
    }
    if backend.port.is_none() && backend.port_name.is_none() && service.ports.len() > 1 {
        let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
        let message = format!("{} has ports {}, and none is named", backend.host, ports.join(", "));
        let path = format!("{at}.{host_at}");
        out.push(Finding::new(id, path, FindingCode::PortNotChosen, message));
    }
}

/// Rules with subsets for a destination without one, which requests of a gateway do not meet (Istio's
/// analyzer, IST0140).
fn rules_of_mesh(
    reader: &Reader<'_>,
    entry: &RouteEntry,
    backend: &Backend,
    (at, host_at): (&str, &str),
    out: &mut Vec<Finding>,
) {
    let is_for_gateways = entry.attachment.gateways.iter().any(|name| **name != *MESH);
    if !is_for_gateways || backend.subset.is_some() {
        return;
    }
    let has_subsets = |other: &&RouteEntry| {
        let mut backends = other.route.rules.iter().flat_map(|rule| rule.action.backends());
        other.attachment.gateways.iter().all(|name| **name == *MESH)
            && backends.any(|backend| backend.subset.is_some())
    };
    let mut routes = reader.of_pattern(Map::Mesh, &backend.host).iter();
    let other = routes.find_map(|aged| reader.route(&aged.id).filter(has_subsets));
    if let Some(other) = other {
        let message =
            format!("rules of {} with subsets are for callers in the mesh", other.route.id);
        let path = format!("{at}.{host_at}");
        out.push(Finding::new(&entry.route.id, path, FindingCode::RulesOfMeshOnly, message));
    }
}

/// Whether a policy defines a subset.
fn defines(policy: &Policy, subset: &str) -> bool {
    match policy {
        Policy::Destination(policy) => policy.subsets.iter().any(|own| *own.name == *subset),
        Policy::Inbound(_) => false,
    }
}

fn gateways(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    for (at, name) in entry.attachment.gateways.iter().enumerate() {
        if !reader.is_attachable(name) {
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
fn match_gateways(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    let RouteFields { matches, match_gateways, .. } = entry.fields;
    // Where a delegate is attached others say.
    let is_delegate = entry.attachment.hosts.is_empty();
    for (r, rule) in entry.route.rules.iter().enumerate() {
        for (m, alternative) in rule.matches.iter().enumerate() {
            for (g, name) in alternative.gateways.iter().enumerate() {
                let (code, message) = if !reader.is_attachable(name) {
                    (FindingCode::UnknownGateway, format!("there is no Gateway {name}"))
                } else if !is_delegate && !entry.attachment.gateways.contains(name) {
                    let message =
                        format!("the object is not attached to {name}, so nothing matches there");
                    (FindingCode::NoEffect, message)
                } else {
                    continue;
                };
                let rule = entry.fields.rule(r);
                let path = format!("{rule}.{matches}[{m}].{match_gateways}[{g}]");
                out.push(Finding::new(&entry.route.id, path, code, message));
            }
        }
    }
}

/// Hosts inside the cluster that are no services, or not as they are written.
fn unknown_hosts(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    let id = &entry.route.id;
    if !entry.attachment.gateways.iter().any(|name| **name == *MESH) {
        return;
    }
    for (at, host) in entry.attachment.hosts.iter().enumerate() {
        if let Some(message) = unknown_host(reader, host, &id.namespace) {
            let path = entry.fields.host_at(at);
            out.push(Finding::new(id, path, FindingCode::UnknownHost, message));
        }
    }
}

/// Why a host is that of no service, if it looks like one's.
fn unknown_host(reader: &Reader<'_>, host: &str, namespace: &str) -> Option<String> {
    if host.starts_with('*') || reader.service_named(host, namespace).is_some() {
        return None;
    }
    let completed = candidates(host, namespace);
    let meant = completed.iter().find(|name| reader.service_named(name, namespace).is_some());
    match meant {
        Some(meant) => Some(format!("{host} is not completed; write {meant}")),
        None if host.ends_with(&format!(".svc.{CLUSTER_DOMAIN}")) => {
            Some(format!("no service is called {host}"))
        }
        None => None,
    }
}

/// Within the mesh one host has one route, or several that join; see
/// [`super::outbound::mesh_routes`].
fn taken_hosts(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    if !entry.attachment.gateways.iter().any(|name| **name == *MESH) {
        return;
    }
    for (at, host) in entry.attachment.hosts.iter().enumerate() {
        let sees_all_of = |other: &&RouteEntry| {
            let export_to = &other.attachment.export_to;
            export_to.is_empty() || *export_to == entry.attachment.export_to
        };
        let others = || {
            let routes = reader.of_pattern(Map::Mesh, host).iter();
            routes.filter_map(|other| reader.attachment(&other.id)).filter(sees_all_of)
        };
        let is_alone = |other: &&RouteEntry| other.attachment.precedence.is_none();
        let is_itself = |other: &&RouteEntry| other.route.id == entry.route.id;
        let joins = entry.attachment.precedence.is_some();
        let path = || entry.fields.host_at(at);
        let mut before = others().take_while(|other| joins || !is_itself(other)).filter(is_alone);
        if let Some(taker) = before.next() {
            let why = if joins { "takes it alone" } else { "is older" };
            let message = format!("{} has the host {host}, too, and {why}", taker.route.id);
            out.push(Finding::new(&entry.route.id, path(), FindingCode::HostTaken, message));
        } else if joins {
            let earlier = |other: &&RouteEntry| outbound::turn(other) < outbound::turn(entry);
            let mut earlier = others().filter(earlier).map(|other| reader.route(&other.route.id));
            if let Some(first) = earlier.find_map(|other| other.filter(|e| takes_all(e))) {
                let message = format!("{} comes first and takes every request", first.route.id);
                let path = entry.fields.rules;
                out.push(Finding::new(&entry.route.id, path, FindingCode::Unreachable, message));
            }
        }
    }
}

/// Whether a route has a rule that takes every request.
fn takes_all(entry: &RouteEntry) -> bool {
    let everywhere = |m: &Match| m.is_catch_all() && m.is_for_everyone();
    let takes_all = |rule: &Rule| rule.matches.is_empty() || rule.matches.iter().any(everywhere);
    entry.route.rules.iter().any(takes_all)
}

/// A route inside the mesh for a host that only a gateway serves: most likely `gateways` was
/// forgotten.
fn not_attached(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    if entry.attachment.gateways.iter().any(|name| **name != *MESH) {
        return;
    }
    for (at, host) in entry.attachment.hosts.iter().enumerate() {
        let namespace = &entry.route.id.namespace;
        let in_cluster = reader.service_meant(host, namespace).is_some()
            || unknown_host(reader, host, namespace).is_some();
        if in_cluster {
            continue;
        }
        let serving = reader.gateways().into_iter().find(|gateway| {
            gateway.servers.iter().flat_map(|server| &server.hosts).any(|(allowed, served)| {
                admits(allowed.as_ref(), entry) && intersection(served, host).is_some()
            })
        });
        let Some(gateway) = serving else { continue };
        let names_it = |gateway: &&GatewaySource| {
            let mut hosts = gateway.servers.iter().flat_map(|server| &server.hosts);
            let (name, namespace) = (name_of(&gateway.id), &gateway.id.namespace);
            hosts.any(|(allowed, own)| own == host && admits(allowed.as_ref(), entry))
                && is_meant_for(reader, (&name, namespace), entry, host)
        };
        if let Some(meant) = reader.gateways().iter().find(|gateway| names_it(gateway)) {
            let name = name_of(&meant.id);
            out.push(Finding::new(
                &entry.route.id,
                entry.fields.host_at(at),
                FindingCode::AttachedByHost,
                format!("only Gateway {name} serves {host}, so it is attached to that"),
            ));
        } else {
            let name = name_of(&gateway.id);
            out.push(Finding::new(
                &entry.route.id,
                entry.fields.host_at(at),
                FindingCode::NotAttached,
                format!("Gateway {name} serves {host}; requests through it get 404"),
            ));
        }
    }
}

/// Gateways that serve none of a route's hosts for its namespace, and hosts that none of its
/// gateways serves (Istio's analyzer, IST0132).
fn not_served(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    let (id, attachment) = (&entry.route.id, &entry.attachment);
    let mut served: BTreeSet<&Name> = BTreeSet::new();
    let mut all_known = true;
    for (at, name) in attachment.gateways.iter().enumerate().filter(|(_, name)| ***name != *MESH) {
        let gateways: Vec<&GatewaySource> = reader.gateways_named(name).collect();
        let servers = gateways.iter().flat_map(|gateway| &gateway.servers);
        let admitted: Vec<&Name> = servers
            .flat_map(|server| &server.hosts)
            .filter(|(allowed, _)| admits(allowed.as_ref(), entry))
            .map(|(_, host)| host)
            .collect();
        let serves = |host: &&Name| admitted.iter().any(|own| intersection(own, host).is_some());
        let here: Vec<&Name> = attachment.hosts.iter().filter(serves).collect();
        all_known &= !gateways.is_empty();
        if here.is_empty() && !gateways.is_empty() {
            let path = format!("{}[{at}]", entry.fields.gateways);
            let hosts: Vec<&str> = attachment.hosts.iter().map(|host| &**host).collect();
            let (hosts, namespace) = (hosts.join(", "), &id.namespace);
            let message = format!("{name} does not serve {hosts} for routes of {namespace}");
            out.push(Finding::new(id, path, FindingCode::HostNotServed, message));
        }
        served.extend(here);
    }
    // Inside the mesh, too, a host may have its effect.
    if served.is_empty() || !all_known || attachment.gateways.iter().any(|name| **name == *MESH) {
        return;
    }
    for (at, host) in attachment.hosts.iter().enumerate() {
        if !served.contains(host) {
            let path = entry.fields.host_at(at);
            let message =
                format!("no Gateway named here serves {host} for routes of {}", id.namespace);
            out.push(Finding::new(id, path, FindingCode::HostNotServed, message));
        }
    }
}

/// A destination policy for no service, subsets that no endpoint carries the labels of, and mutual
/// TLS with endpoints that take none.
fn destination_policy(reader: &Reader<'_>, entry: &DestinationPolicyEntry, out: &mut Vec<Finding>) {
    let Policy::Destination(policy) = &*entry.policy else { return };
    let (host, namespace) = (&entry.host, &policy.id.namespace);
    let unknown = || {
        // Of a wildcard it is not known what it was meant for.
        let is_nobodys = !host.starts_with('*') && reader.service_meant(host, namespace).is_none();
        is_nobodys.then(|| format!("no Service and no ServiceEntry is called {host}"))
    };
    if let Some(why) = unknown_host(reader, host, namespace).or_else(unknown) {
        out.push(Finding::new(&policy.id, "spec.host", FindingCode::UnknownHost, why));
    }
    upstream_tls::plaintext_endpoints(reader, entry, out);
    upstream_tls::secrets(reader, entry, out);
    let Some(service) = reader.service_named(&entry.host, &policy.id.namespace) else { return };
    for (at, subset) in policy.subsets.iter().enumerate() {
        let endpoints = reader.all_endpoints(service);
        if !endpoints.iter().any(|endpoint| endpoint.is_selected_by(&subset.labels)) {
            out.push(Finding::new(
                &policy.id,
                format!("spec.subsets[{at}]"),
                FindingCode::EmptySubset,
                format!("no endpoint of {} has {}", entry.host, subset.labels),
            ));
        }
    }
}

/// A selector that matches no workload, and what is wrong with servers.
fn gateway(reader: &Reader<'_>, gateway: &GatewaySource, out: &mut Vec<Finding>) {
    gateways::servers(reader, gateway, out);
    if reader.namespaces_selected(&gateway.selector).next().is_none() {
        out.push(Finding::new(
            &gateway.id,
            "spec.selector",
            FindingCode::NothingSelected,
            format!("no workload has {}{}", gateway.selector, made_by(&gateway.selector)),
        ));
    }
}

/// What makes the workload that a Gateway selects, where it is one of Istio's that not every mesh has.
fn made_by(selector: &Labels) -> &'static str {
    match selector.value("istio") {
        Some("egressgateway") => {
            "; `ironmesh install --set components.egressGateways[0].enabled=true` makes Istio's egress gateway"
        }
        _ => "",
    }
}
