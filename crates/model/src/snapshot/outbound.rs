//! What applies to traffic that leaves a workload.

use std::net::IpAddr;

use super::cell::Map;
use super::destination;
use super::index::{Aged, MESH, RouteEntry, ServiceEntry};
use super::reader::Reader;
use crate::host::candidates;
use crate::name::{Name, ObjectId};
use crate::resource::{Applies, DefaultBackend, Join};
use crate::service::Protocol;

/// What applies to requests for a host on a port, from a namespace.
pub(super) fn host(reader: &Reader<'_>, host: &str, port: u16, namespace: &str) -> Option<Applies> {
    if host.is_empty() {
        return None;
    }
    for name in candidates(host, namespace) {
        let service = match name.parse::<IpAddr>() {
            Ok(ip) => reader.service_at(ip),
            Err(_) => reader.service_named(&name, namespace),
        };
        if let Some(entry) = service {
            // A service that does not have the port is not what the caller dialled.
            entry.service.port(port)?;
            let route = mesh_route(reader, &entry.service.id.hostname, namespace);
            return Some(to_service(reader, entry, port, route, namespace));
        }
        // Of a name that the search list made and that is no service, wildcards know nothing: else
        // `*.svc.cluster.local` would take `example.com`.
        let route = if *name == *host {
            mesh_route(reader, &name, namespace)
        } else {
            oldest_visible(reader, reader.of_pattern(Map::Mesh, &name), namespace)
        };
        if let Some(route) = route {
            return Some(without_service(reader, route, namespace));
        }
    }
    None
}

/// What applies to connections to an address, from a namespace.
pub(super) fn address(
    reader: &Reader<'_>,
    ip: IpAddr,
    port: u16,
    namespace: &str,
) -> Option<Applies> {
    let at_virtual_address = reader.service_at(ip);
    let headless = || {
        reader
            .endpoints_at(ip)
            .map(|(entry, _)| entry)
            .find(|entry| entry.service.headless && entry.service.port(port).is_some())
    };
    let entry = at_virtual_address.or_else(headless);
    let served = entry.filter(|entry| entry.service.port(port).is_some());
    match served {
        Some(entry) => {
            // Rules for requests go by the host that a request names, not by the address.
            let route = mesh_route(reader, &entry.service.id.hostname, namespace)
                .filter(|entry| entry.attachment.has_connection_rules);
            Some(to_service(reader, entry, port, route, namespace))
        }
        None => reader.workload(ip).map(|_| to_member(ip)),
    }
}

/// An address at which no service is served, but a workload of the mesh lives.
fn to_member(ip: IpAddr) -> Applies {
    Applies {
        protocol: Protocol::Undeclared,
        service: None,
        default_backend: None,
        routes: Vec::new(),
        join: Join::InOrder,
        attached_to: Vec::new(),
        destinations: Vec::new(),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        member: Some(ip),
    }
}

/// The route that holds for a host inside the mesh: that of the most specific host pattern, and
/// among those the oldest that the namespace sees.
pub(super) fn mesh_route<'a>(
    reader: &Reader<'a>,
    host: &str,
    namespace: &str,
) -> Option<&'a RouteEntry> {
    let mut covering = reader.covering(Map::Mesh, host);
    covering.find_map(|routes| oldest_visible(reader, routes, namespace))
}

fn oldest_visible<'a>(
    reader: &Reader<'a>,
    routes: &[Aged<ObjectId>],
    namespace: &str,
) -> Option<&'a RouteEntry> {
    let mut routes = routes.iter().filter_map(|route| reader.attachment(&route.id));
    routes.find(|route| route.visible_from(namespace))
}

fn to_service(
    reader: &Reader<'_>,
    entry: &ServiceEntry,
    port: u16,
    route: Option<&RouteEntry>,
    namespace: &str,
) -> Applies {
    let id = &entry.service.id;
    let routes: Vec<ObjectId> = route.iter().map(|entry| entry.route.id.clone()).collect();
    Applies {
        protocol: entry.service.port(port).map_or(Protocol::Undeclared, |p| p.protocol),
        service: Some(id.clone()),
        default_backend: Some(DefaultBackend { host: id.hostname.clone(), port }),
        destinations: destination::of_routes(reader, &routes, Some(&id.hostname), namespace),
        routes,
        join: Join::InOrder,
        attached_to: vec![Name::from(MESH)],
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        member: None,
    }
}

/// A host that is no service, but for which the mesh has a route.
fn without_service(reader: &Reader<'_>, route: &RouteEntry, namespace: &str) -> Applies {
    let routes = vec![route.route.id.clone()];
    Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        destinations: destination::of_routes(reader, &routes, None, namespace),
        routes,
        join: Join::InOrder,
        attached_to: vec![Name::from(MESH)],
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        member: None,
    }
}
