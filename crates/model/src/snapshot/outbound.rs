//! What applies to traffic that leaves a workload.

use std::net::IpAddr;

use super::destination;
use super::index::{Index, MESH, RouteEntry, ServiceEntry};
use crate::host::candidates;
use crate::name::Name;
use crate::resource::{Applies, DefaultBackend, Join};
use crate::service::Protocol;

/// What applies to requests for a host on a port, from a namespace.
pub(super) fn host(index: &Index, host: &str, port: u16, namespace: &str) -> Option<Applies> {
    if host.is_empty() {
        return None;
    }
    for name in candidates(host, namespace) {
        let service = match name.parse::<IpAddr>() {
            Ok(ip) => index.service_at(ip),
            Err(_) => index.service_named(&name, namespace),
        };
        if let Some(entry) = service {
            // A service that does not have the port is not what the caller dialled.
            entry.service.port(port)?;
            let route = mesh_route(index, &entry.service.id.hostname, namespace);
            return Some(to_service(index, entry, port, route, namespace));
        }
        // Of a name that the search list made and that is no service, wildcards know nothing: else
        // `*.svc.cluster.local` would take `example.com`.
        let route = if *name == *host {
            mesh_route(index, &name, namespace)
        } else {
            oldest_visible(index, index.mesh_routes().of_pattern(&name), namespace)
        };
        if let Some(route) = route {
            return Some(without_service(index, route, namespace));
        }
    }
    None
}

/// What applies to connections to an address, from a namespace.
pub(super) fn address(index: &Index, ip: IpAddr, port: u16, namespace: &str) -> Option<Applies> {
    let at_virtual_address = index.service_at(ip);
    let headless = || {
        index
            .endpoints_at(ip)
            .map(|(entry, _)| entry)
            .find(|entry| entry.service.headless && entry.service.port(port).is_some())
    };
    let entry = at_virtual_address.or_else(headless)?;
    entry.service.port(port)?;
    Some(to_service(index, entry, port, None, namespace))
}

/// The route that holds for a host inside the mesh: that of the most specific host pattern, and
/// among those the oldest that the namespace sees.
pub(super) fn mesh_route<'a>(
    index: &'a Index,
    host: &str,
    namespace: &str,
) -> Option<&'a RouteEntry> {
    let mut covering = index.mesh_routes().covering(host);
    covering.find_map(|positions| oldest_visible(index, positions, namespace))
}

fn oldest_visible<'a>(
    index: &'a Index,
    positions: &[usize],
    namespace: &str,
) -> Option<&'a RouteEntry> {
    positions.iter().map(|&at| &index.routes[at]).find(|route| route.visible_from(namespace))
}

fn to_service(
    index: &Index,
    entry: &ServiceEntry,
    port: u16,
    route: Option<&RouteEntry>,
    namespace: &str,
) -> Applies {
    let id = &entry.service.id;
    let routes = route.map(|entry| &*entry.route);
    Applies {
        protocol: entry.service.port(port).map_or(Protocol::Undeclared, |p| p.protocol),
        service: Some(id.clone()),
        default_backend: Some(DefaultBackend { host: id.hostname.clone(), port }),
        routes: routes.iter().map(|route| route.id.clone()).collect(),
        join: Join::InOrder,
        attached_to: vec![Name::from(MESH)],
        destinations: destination::of_routes(
            index,
            routes.into_iter(),
            Some(&id.hostname),
            namespace,
        ),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
    }
}

/// A host that is no service, but for which the mesh has a route.
fn without_service(index: &Index, route: &RouteEntry, namespace: &str) -> Applies {
    Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        routes: vec![route.route.id.clone()],
        join: Join::InOrder,
        attached_to: vec![Name::from(MESH)],
        destinations: destination::of_routes(index, [&*route.route].into_iter(), None, namespace),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
    }
}
