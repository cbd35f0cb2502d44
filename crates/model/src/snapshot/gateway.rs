//! What applies to traffic that enters the mesh at a gateway.

use std::collections::{BTreeMap, BTreeSet};

use super::cell::Map;
use super::index::{Aged, RouteEntry};
use super::reader::Reader;
use super::scope::Scope;
use super::{GatewayServer, GatewaySource, destination};
use crate::chunk::{CHUNK_MAX, Chunk};
use crate::host::intersection;
use crate::listeners::{Domains, GatewayListener, Listeners};
use crate::name::{Name, ObjectId};
use crate::resource::{Applies, Join};
use crate::service::Protocol;

/// The ports on which a gateway workload listens: those of every `Gateway` that selects it. Where
/// two servers claim one port, the older object's counts.
pub(super) fn listeners(reader: &Reader<'_>, scope: &Scope) -> Listeners {
    let mut by_port: BTreeMap<u16, &GatewayServer> = BTreeMap::new();
    for (_, server) in servers(reader, scope) {
        by_port.entry(server.port).or_insert(server);
    }
    let listener = |(port, server): (u16, &GatewayServer)| GatewayListener {
        port,
        name: server.name.clone(),
        protocol: server.protocol,
        domain_chunks: chunks(reader, scope, port),
    };
    Listeners { listeners: by_port.into_iter().map(listener).collect() }
}

/// The chunks of the domains on a port. A chunk is divided if its gateways have more patterns in it
/// than may be in one.
fn chunks(reader: &Reader<'_>, scope: &Scope, port: u16) -> Vec<Chunk> {
    let on_port = gateways_on(reader, scope, port);
    let mut chunks = Vec::new();
    let mut to_visit = vec![Chunk::WHOLE];
    while let Some(chunk) = to_visit.pop() {
        let size = on_port.iter().map(|(name, servers)| {
            let routes = reader.gateway_patterns(name, chunk);
            let of_routes = routes.map_or(0, |routes| routes.patterns.count_in(chunk));
            of_routes + servers.iter().map(|s| own_patterns(s, chunk).count()).sum::<usize>()
        });
        match chunk.halves() {
            Some([zero, one]) if size.sum::<usize>() > CHUNK_MAX => to_visit.extend([one, zero]),
            _ => chunks.push(chunk),
        }
    }
    chunks
}

/// The domains of a chunk on a port.
///
/// As in Istio, every pair of a server's host and an attached route's host that have names in
/// common makes a virtual host for these names; a request belongs to the most specific one that
/// covers its host ([`crate::View::domain`]), and all routes of that one join, oldest first, catch-all
/// rules last.
pub(super) fn domains(reader: &Reader<'_>, scope: &Scope, port: u16, chunk: Chunk) -> Domains {
    let mut domains: BTreeSet<Name> = BTreeSet::new();
    for (gateway, servers) in gateways_on(reader, scope, port) {
        let routes = reader.gateway_patterns(&gateway, chunk).into_iter();
        let of_routes = routes.flat_map(|routes| routes.patterns.in_chunk(chunk));
        let of_servers = servers.iter().flat_map(|server| own_patterns(server, chunk));
        for pattern in of_routes.chain(of_servers) {
            let makes = |server: &&GatewayServer| {
                !attached(reader, scope, &gateway, server, pattern).is_empty()
            };
            if !domains.contains(pattern) && servers.iter().any(makes) {
                domains.insert(pattern.clone());
            }
        }
    }
    Domains { port, chunk, domains: domains.into_iter().collect() }
}

/// What applies to the requests on a port of a gateway that belong to one of its domains.
pub(super) fn domain(
    reader: &Reader<'_>,
    domain: &Name,
    port: u16,
    scope: &Scope,
) -> Option<Applies> {
    let mut routes: BTreeSet<&Aged<ObjectId>> = BTreeSet::new();
    let mut gateways: BTreeSet<Name> = BTreeSet::new();
    for (gateway, servers) in gateways_on(reader, scope, port) {
        for server in servers {
            let attached = attached(reader, scope, &gateway, server, domain);
            if !attached.is_empty() {
                gateways.insert(gateway.clone());
            }
            routes.extend(attached);
        }
    }
    if routes.is_empty() {
        return None;
    }
    let routes: Vec<ObjectId> = routes.into_iter().map(|route| route.id.clone()).collect();
    Some(Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        destinations: destination::of_routes(reader, &routes, None, &scope.namespace),
        routes,
        join: Join::CatchAllLast,
        attached_to: gateways.into_iter().collect(),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
    })
}

/// The routes that the scope sees and that have exactly the names of `domain` in common with a
/// server of a gateway.
fn attached<'a>(
    reader: &Reader<'a>,
    scope: &Scope,
    gateway: &str,
    server: &GatewayServer,
    domain: &str,
) -> Vec<&'a Aged<ObjectId>> {
    let map = Map::Gateway(gateway);
    let mut routes = Vec::new();
    for (allowed, served) in &server.hosts {
        let lists: Vec<&[Aged<ObjectId>]> = if **served == *domain {
            reader.covering(map, domain).collect()
        } else if intersection(served, domain) == Some(domain) {
            vec![reader.of_pattern(map, domain)]
        } else {
            continue;
        };
        routes.extend(lists.into_iter().flatten().filter(|route| {
            reader.attachment(&route.id).is_some_and(|entry| {
                entry.visible_from(&scope.namespace) && admits(allowed.as_ref(), entry)
            })
        }));
    }
    routes
}

/// The gateways with servers on a port, by name, each with these servers.
fn gateways_on<'a>(
    reader: &Reader<'a>,
    scope: &Scope,
    port: u16,
) -> BTreeMap<Name, Vec<&'a GatewayServer>> {
    let mut gateways: BTreeMap<Name, Vec<&GatewayServer>> = BTreeMap::new();
    for (gateway, server) in servers(reader, scope).filter(|(_, server)| server.port == port) {
        gateways.entry(name_of(&gateway.id).into()).or_default().push(server);
    }
    gateways
}

/// The hosts of a server that are in a chunk.
fn own_patterns(server: &GatewayServer, chunk: Chunk) -> impl Iterator<Item = &Name> {
    server.hosts.iter().map(|(_, host)| host).filter(move |host| chunk.contains(host))
}

/// The name by which routes attach to a gateway.
pub(super) fn name_of(id: &ObjectId) -> String {
    format!("{}/{}", id.namespace, id.name)
}

/// Whether the routes of a namespace may attach to a server under one of its hosts.
pub(super) fn admits(allowed: Option<&Name>, route: &RouteEntry) -> bool {
    allowed.is_none_or(|namespace| *namespace == route.route.id.namespace)
}

/// Servers of the gateways of a scope, those of the oldest gateway first.
fn servers<'a>(
    reader: &Reader<'a>,
    scope: &Scope,
) -> impl Iterator<Item = (&'a GatewaySource, &'a GatewayServer)> {
    let gateways = scope.gateways.iter().filter_map(|id| reader.gateway(id));
    gateways.flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)))
}
