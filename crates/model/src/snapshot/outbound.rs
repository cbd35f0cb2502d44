//! What applies to traffic that leaves a workload.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::cell::Map;
use super::index::{Aged, MESH, RouteEntry, ServiceEntry};
use super::reader::Reader;
use super::{SidecarSource, destination};
use crate::host::candidates;
use crate::name::{Name, ObjectId, ServiceId};
use crate::resource::{Applies, DefaultBackend, Join};
use crate::service::Protocol;

/// Who looks: a proxy of a namespace, to which a Sidecar may show a part only.
pub(super) struct Caller<'a> {
    pub(super) namespace: &'a str,
    pub(super) sidecar: Option<&'a SidecarSource>,
}

impl Caller<'_> {
    /// Whether it is shown a service on a port.
    fn sees(&self, entry: &ServiceEntry, port: u16) -> bool {
        let ServiceId { namespace, hostname } = &entry.service.id;
        self.sidecar.is_none_or(|sidecar| sidecar.shows(namespace, hostname, port))
    }

    /// Whether it is shown a route for a host on a port.
    fn follows(&self, route: &RouteEntry, host: &str, port: u16) -> bool {
        let namespace = &route.route.id.namespace;
        self.sidecar.is_none_or(|sidecar| sidecar.shows(namespace, host, port))
    }
}

/// What applies to requests for a host on a port.
pub(super) fn host(
    reader: &Reader<'_>,
    host: &str,
    port: u16,
    from: &Caller<'_>,
) -> Option<Applies> {
    let namespace = from.namespace;
    if host.is_empty() {
        return None;
    }
    for name in candidates(host, namespace) {
        let service = match name.parse::<IpAddr>() {
            Ok(ip) => reader.service_at(ip, port, namespace),
            Err(_) if *name == *host => reader.service_meant(&name, namespace),
            // As below: of what the search list made wildcards know nothing.
            Err(_) => reader.service_named(&name, namespace),
        };
        if let Some(entry) = service.filter(|entry| from.sees(entry, port)) {
            // A service that does not have the port is not what the caller dialled.
            entry.service.port(port)?;
            // A route for the name itself goes before one for the wildcard that it belongs to.
            let hostname = &entry.service.id.hostname;
            let asked = if hostname.starts_with('*') { &name } else { hostname };
            let routes = mesh_routes(reader, asked, port, from);
            return Some(to_service(reader, entry, port, &routes, namespace));
        }
        // Of a name that the search list made and that is no service, wildcards know nothing: else
        // `*.svc.cluster.local` would take `example.com`.
        let routes = if *name == *host {
            mesh_routes(reader, &name, port, from)
        } else {
            shown(reader, reader.of_pattern(Map::Mesh, &name), &name, port, from)
        };
        if !routes.is_empty() {
            return Some(without_service(reader, &routes, namespace));
        }
    }
    None
}

/// What applies to connections to an address.
pub(super) fn address(
    reader: &Reader<'_>,
    ip: IpAddr,
    port: u16,
    from: &Caller<'_>,
) -> Option<Applies> {
    let namespace = from.namespace;
    let at_virtual_address = reader.service_at(ip, port, namespace);
    let headless = || {
        reader
            .endpoints_at(ip)
            .map(|(entry, _)| entry)
            .filter(|entry| entry.visible_from(namespace))
            .find(|entry| entry.service.headless && entry.service.port(port).is_some())
    };
    let around = || reader.service_around(ip, port, namespace);
    let entry = at_virtual_address.or_else(headless).or_else(around);
    let served = entry.filter(|entry| entry.service.port(port).is_some() && from.sees(entry, port));
    match served {
        Some(entry) => {
            // Rules for requests go by the host that a request names, not by the address.
            let mut routes = mesh_routes(reader, &entry.service.id.hostname, port, from);
            routes.retain(|route| route.attachment.has_connection_rules);
            Some(to_service(reader, entry, port, &routes, namespace))
        }
        None => match reader.workload(ip) {
            Some(_) => Some(to_member(ip)),
            None => anywhere(reader, port, from).or_else(|| by_proxy(reader, from)),
        },
    }
}

/// An address of nobody, on a port of services that are reached at whatever address: TLS by the name that
/// it names, all else by the oldest that is not TLS.
fn anywhere(reader: &Reader<'_>, port: u16, from: &Caller<'_>) -> Option<Applies> {
    let namespace = from.namespace;
    let is_tls = |entry: &&ServiceEntry| {
        entry.service.port(port).is_some_and(|port| port.protocol == Protocol::Tls)
    };
    let services = reader.services_anywhere(port, namespace).into_iter();
    let (mut named, others): (Vec<_>, Vec<_>) =
        services.filter(|entry| from.sees(entry, port)).partition(is_tls);
    // Stable, so that age decides among equals: there is one of a name in most cases.
    named.sort_by_key(|entry| specificity(&entry.service.id.hostname));
    let hosts = named.iter().chain(others.first()).map(|entry| &entry.service.id.hostname);
    let mut routes: Vec<ObjectId> = Vec::new();
    let mut destinations = Vec::new();
    for host in hosts {
        let of_host = mesh_routes(reader, host, port, from).into_iter();
        let of_host = of_host.filter(|route| route.attachment.has_connection_rules);
        routes.extend(of_host.map(|route| route.route.id.clone()));
        destinations.push(destination::destination(reader, host, namespace));
    }
    routes.dedup();
    for of_route in destination::of_routes(reader, &routes, None, namespace) {
        if destinations.iter().all(|own| own.host != of_route.host) {
            destinations.push(of_route);
        }
    }
    let backend = |entry: &&ServiceEntry| {
        let host = entry.service.id.hostname.clone();
        DefaultBackend { host, port, subset: None }
    };
    let of_other = |entry: &&ServiceEntry| entry.service.port(port).map(|port| port.protocol);
    (!destinations.is_empty()).then(|| Applies {
        // What is no TLS may be anything, unless a service says what it is.
        protocol: others.first().and_then(of_other).unwrap_or_default(),
        service: None,
        default_backend: others.first().map(backend),
        routes,
        join: Join::InOrder,
        attached_to: vec![Name::from(MESH)],
        destinations,
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: named.iter().map(backend).collect(),
        member: None,
    })
}

/// What goes to an address of nobody goes by a proxy for all, if the Sidecar names one.
fn by_proxy(reader: &Reader<'_>, from: &Caller<'_>) -> Option<Applies> {
    let proxy = from.sidecar?.egress_proxy.clone()?;
    Some(Applies {
        protocol: Protocol::Undeclared,
        service: None,
        destinations: vec![destination::destination(reader, &proxy.host, from.namespace)],
        default_backend: Some(proxy),
        routes: Vec::new(),
        join: Join::InOrder,
        attached_to: Vec::new(),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
    })
}

/// A key by which the more specific of two patterns comes first.
fn specificity(pattern: &str) -> (bool, Reverse<usize>) {
    (pattern.starts_with('*'), Reverse(pattern.len()))
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
        by_server_name: Vec::new(),
        member: Some(ip),
    }
}

/// The routes that hold for a host inside the mesh: those of the most specific host pattern, and
/// among those that the caller is shown the oldest that takes its hosts alone, else all that join.
pub(super) fn mesh_routes<'a>(
    reader: &Reader<'a>,
    host: &str,
    port: u16,
    from: &Caller<'_>,
) -> Vec<&'a RouteEntry> {
    let covering = reader.covering(Map::Mesh, host);
    let mut routes = covering.map(|routes| shown(reader, routes, host, port, from));
    routes.find(|routes| !routes.is_empty()).unwrap_or_default()
}

/// Of these routes those that hold for a caller: one that it is not shown stands in nobody's way.
fn shown<'a>(
    reader: &Reader<'a>,
    routes: &[Aged<ObjectId>],
    host: &str,
    port: u16,
    from: &Caller<'_>,
) -> Vec<&'a RouteEntry> {
    let routes = routes.iter().filter_map(|route| reader.attachment(&route.id));
    let is_shown =
        |route: &&RouteEntry| route.visible_from(from.namespace) && from.follows(route, host, port);
    let mut routes: Vec<&RouteEntry> = routes.filter(is_shown).collect();
    match routes.iter().find(|route| route.attachment.precedence.is_none()) {
        Some(alone) => vec![alone],
        None => {
            routes.sort_by_key(|route| turn(route));
            routes
        }
    }
}

/// When a route has its turn among those that join: the highest precedence first, ties by namespace
/// and name, as Istio up to 0.8 had it.
pub(super) fn turn(entry: &RouteEntry) -> (Reverse<Option<i32>>, &Name, &Name) {
    let ObjectId { namespace, name, .. } = &entry.route.id;
    (Reverse(entry.attachment.precedence), namespace, name)
}

fn how(routes: &[&RouteEntry]) -> Join {
    match routes.first() {
        Some(first) if first.attachment.precedence.is_some() => Join::OrDefault,
        _ => Join::InOrder,
    }
}

fn to_service(
    reader: &Reader<'_>,
    entry: &ServiceEntry,
    port: u16,
    routes: &[&RouteEntry],
    namespace: &str,
) -> Applies {
    let id = &entry.service.id;
    let join = how(routes);
    let routes: Vec<ObjectId> = routes.iter().map(|entry| entry.route.id.clone()).collect();
    Applies {
        protocol: entry.service.port(port).map_or(Protocol::Undeclared, |p| p.protocol),
        service: Some(id.clone()),
        default_backend: Some(DefaultBackend { host: id.hostname.clone(), port, subset: None }),
        destinations: destination::of_routes(reader, &routes, Some(&id.hostname), namespace),
        routes,
        join,
        attached_to: vec![Name::from(MESH)],
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
    }
}

/// A host that is no service, but for which the mesh has a route.
fn without_service(reader: &Reader<'_>, routes: &[&RouteEntry], namespace: &str) -> Applies {
    let join = how(routes);
    let routes: Vec<ObjectId> = routes.iter().map(|entry| entry.route.id.clone()).collect();
    Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        destinations: destination::of_routes(reader, &routes, None, namespace),
        routes,
        join,
        attached_to: vec![Name::from(MESH)],
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
    }
}
