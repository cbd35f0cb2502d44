//! Findings about the protocols of ports: such as several services declare differently, and such as rules
//! for connections do not hold for.

use std::collections::BTreeSet;

use crate::finding::{Finding, FindingCode};
use crate::host::CLUSTER_DOMAIN;
use crate::name::{Name, ObjectId, ServiceId};
use crate::service::{EndpointAddress, Protocol, Service};
use crate::snapshot::index::{Index, MESH, RouteEntry, ServiceEntry};
use crate::snapshot::reader::Reader;

/// The object that a service was made from.
pub(in crate::snapshot) fn object_of(service: &Service) -> ObjectId {
    ObjectId::new("Service", service.id.namespace.clone(), service.name.clone())
}

/// The service that was made from an object.
pub(super) fn find<'a>(index: &'a Index, id: &ObjectId) -> Option<&'a ServiceEntry> {
    let hostname = format!("{}.{}.svc.{CLUSTER_DOMAIN}", id.name, id.namespace).into();
    let service = ServiceId { namespace: id.namespace.clone(), hostname };
    index.services.get(&service).map(|entry| &**entry).filter(|_| &*id.kind == "Service")
}

/// Ports that another service declares so differently that a caller could be misread.
///
/// Only one of the service's endpoints is looked at: others have the same ports, as a rule, and so an
/// endpoint more does not mean that all are looked at again.
pub(super) fn service(reader: &Reader<'_>, entry: &ServiceEntry, out: &mut Vec<Finding>) {
    let own = &entry.service;
    let Some(endpoint) = reader.some_endpoint(&own.id) else { return };
    let EndpointAddress::Ip(ip) = endpoint.address else { return };
    let all: Vec<_> = reader.endpoints_at(ip).collect();
    for map in &endpoint.ports {
        let Some(declared) = own.port(map.service) else { continue };
        let other = all.iter().find_map(|(other, endpoint)| {
            let service = &other.service;
            let ports = endpoint.ports.iter().filter(|port| port.target == map.target);
            let mut ports = ports.filter_map(|port| service.port(port.service));
            let port = ports.find(|port| declared.protocol.conflicts_with(port.protocol))?;
            Some((service, port))
        });
        let Some((other, port)) = other else { continue };
        let message = format!(
            "port {} of {} is {} by port {} and {} by port {} of Service {}/{}",
            map.target,
            endpoint.workload.name,
            declared.protocol.word(),
            declared.number,
            port.protocol.word(),
            port.number,
            other.id.namespace,
            other.name
        );
        out.push(Finding::new(
            &object_of(own),
            "spec.ports",
            FindingCode::ProtocolConflict,
            message,
        ));
    }
}

/// Rules for connections none of whose ports can hold for: those of `tls` hold for TLS, those of `tcp`
/// for what is not.
pub(super) fn connection_rules(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    let RouteEntry { route, attachment, .. } = entry;
    // Dialects that know one kind of rules mean it for both, and at gateways other ports count.
    if attachment.precedence.is_some() || attachment.gateways.iter().any(|name| **name != *MESH) {
        return;
    }
    let services = attachment.hosts.iter();
    let services: Option<Vec<_>> =
        services.map(|host| reader.service_named(host, &route.id.namespace)).collect();
    let Some(services) = services.filter(|services| !services.is_empty()) else { return };
    let ports = || services.iter().flat_map(|entry| &entry.service.ports);
    let (of_tls, of_bytes) = (
        |protocol: Protocol| matches!(protocol, Protocol::Tls | Protocol::Undeclared),
        |protocol: Protocol| matches!(protocol, Protocol::Tcp | Protocol::Undeclared),
    );
    for rule in &route.connection_rules {
        let (holds, meant): (fn(Protocol) -> bool, _) = match rule.place.split('[').next() {
            Some("tls") => (of_tls, "tls holds for ports that declare TLS (`tls`, `https`)"),
            Some("tcp") => (of_bytes, "tcp holds for ports that declare TCP, or nothing"),
            _ => continue,
        };
        let of_rule = |number: u16| {
            let mut matches = rule.matches.iter();
            rule.matches.is_empty() || matches.any(|m| m.port.is_none_or(|port| port == number))
        };
        if !ports().any(|port| holds(port.protocol) && of_rule(port.number)) {
            let hosts: Vec<&str> = attachment.hosts.iter().map(|host| &**host).collect();
            let message = format!("{meant}, and {} has none that it is for", hosts.join(", "));
            let path = entry.fields.connection_rule(&rule.place);
            out.push(Finding::new(&route.id, path, FindingCode::NoEffect, message));
        }
    }
}

/// Conditions on a port that none of their gateways has.
pub(super) fn at_gateways(reader: &Reader<'_>, entry: &RouteEntry, out: &mut Vec<Finding>) {
    // Where a delegate is attached others say.
    if entry.attachment.hosts.is_empty() {
        return;
    }
    let mut check = |port: Option<u16>, gateways: &[Name], path: &dyn Fn() -> String| {
        let Some(port) = port else { return };
        let names = if gateways.is_empty() { &*entry.attachment.gateways } else { gateways };
        let mut open = BTreeSet::new();
        for name in names {
            // One that is not there has a finding of its own.
            if **name == *MESH || reader.gateways_named(name).next().is_none() {
                return;
            }
            let servers = reader.gateways_named(name).flat_map(|gateway| &gateway.servers);
            open.extend(servers.map(|server| server.port));
        }
        if !open.is_empty() && !open.contains(&port) {
            let open: Vec<String> = open.iter().map(u16::to_string).collect();
            let message = format!(
                "{} has {} and not {port}, so nothing matches{}",
                names.join(", "),
                open.join(", "),
                if matches!(port, 8080 | 8443) { OF_PODS } else { "" }
            );
            out.push(Finding::new(&entry.route.id, path(), FindingCode::NoEffect, message));
        }
    };
    let matches = entry.fields.matches;
    for (r, rule) in entry.route.rules.iter().enumerate() {
        for (m, of) in rule.matches.iter().enumerate() {
            let path = || format!("{}.{matches}[{m}].port", entry.fields.rule(r));
            check(of.port, &of.gateways, &path);
        }
    }
    for rule in &entry.route.connection_rules {
        for (m, of) in rule.matches.iter().enumerate() {
            let rule = || entry.fields.connection_rule(&rule.place);
            check(of.port, &of.gateways, &|| format!("{}.{matches}[{m}].port", rule()));
        }
    }
}

/// What is said of the ports that pods of Istio's gateways have.
const OF_PODS: &str = "; what Istio's own gateways have at 8080 and 8443 is 80 and 443 here";
