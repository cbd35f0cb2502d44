//! What applies to traffic that enters the mesh at a gateway.

use std::collections::{BTreeMap, BTreeSet};

use super::index::{Index, RouteEntry};
use super::{GatewayServer, GatewaySource, Subscriber, destination};
use crate::host::intersection;
use crate::listeners::{GatewayListener, Listeners};
use crate::name::Name;
use crate::resource::{Applies, Join};
use crate::service::Protocol;

/// The ports on which a gateway workload listens: those of every `Gateway` that selects it. Where
/// two servers claim one port, the older object's counts.
pub(super) fn listeners(index: &Index, subscriber: &Subscriber) -> Listeners {
    let mut by_port: BTreeMap<u16, (&GatewayServer, BTreeSet<Name>)> = BTreeMap::new();
    for (gateway, server) in servers(index, subscriber) {
        let (_, domains) = by_port.entry(server.port).or_insert_with(|| (server, BTreeSet::new()));
        for (_, route) in attached(index, &gateway_name(gateway), subscriber) {
            domains.extend(common_hosts(server, route).map(Name::from));
        }
    }
    let listener = |(port, (server, domains)): (u16, (&GatewayServer, BTreeSet<Name>))| {
        let domains = domains.into_iter().collect();
        GatewayListener { port, name: server.name.clone(), protocol: server.protocol, domains }
    };
    Listeners { listeners: by_port.into_iter().map(listener).collect() }
}

/// What applies to the requests on a port of a gateway that belong to one of its domains.
///
/// As in Istio, every pair of a server's host and an attached route's host that have names in
/// common makes a virtual host for these names; a request belongs to the most specific one that
/// covers its host ([`Listeners::domain`]), and all routes of that one join, oldest first, catch-all
/// rules last.
pub(super) fn domain(
    index: &Index,
    domain: &str,
    port: u16,
    subscriber: &Subscriber,
) -> Option<Applies> {
    // By position, which is their order of age.
    let mut routes: BTreeMap<usize, &RouteEntry> = BTreeMap::new();
    let mut gateways: BTreeSet<Name> = BTreeSet::new();
    for (gateway, server) in servers(index, subscriber).filter(|(_, s)| s.port == port) {
        let name = gateway_name(gateway);
        for (position, route) in attached(index, &name, subscriber) {
            if common_hosts(server, route).any(|common| common == domain) {
                routes.insert(position, route);
                gateways.insert(name.as_str().into());
            }
        }
    }
    if routes.is_empty() {
        return None;
    }
    let bodies = routes.values().map(|entry| &*entry.route);
    Some(Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        routes: routes.values().map(|entry| entry.route.id.clone()).collect(),
        join: Join::CatchAllLast,
        attached_to: gateways.into_iter().collect(),
        destinations: destination::of_routes(index, bodies, None, &subscriber.namespace),
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
    })
}

/// The name by which routes attach to a gateway.
pub(super) fn gateway_name(gateway: &GatewaySource) -> String {
    format!("{}/{}", gateway.id.namespace, gateway.id.name)
}

/// Whether the routes of a namespace may attach to a server under one of its hosts.
pub(super) fn admits(allowed: Option<&Name>, route: &RouteEntry) -> bool {
    allowed.is_none_or(|namespace| *namespace == route.route.id.namespace)
}

/// The patterns that a server and a route have in common.
fn common_hosts<'a>(
    server: &'a GatewayServer,
    route: &'a RouteEntry,
) -> impl Iterator<Item = &'a str> {
    let served = server.hosts.iter().filter(|(allowed, _)| admits(allowed.as_ref(), route));
    served.flat_map(|(_, served)| route.hosts.iter().filter_map(|h| intersection(served, h)))
}

/// Routes attached to a gateway that the subscriber sees, oldest first, each with its position.
fn attached<'a>(
    index: &'a Index,
    gateway: &str,
    subscriber: &Subscriber,
) -> impl Iterator<Item = (usize, &'a RouteEntry)> {
    index.routes_at(gateway).filter(|(_, route)| route.visible_from(&subscriber.namespace))
}

/// Servers of every gateway that selects the subscriber, those of the oldest gateway first.
fn servers<'a>(
    index: &'a Index,
    subscriber: &Subscriber,
) -> impl Iterator<Item = (&'a GatewaySource, &'a GatewayServer)> {
    index
        .gateways
        .iter()
        .filter(|gateway| gateway.selector.selects(&subscriber.labels))
        .flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)))
}
