//! What applies to traffic that enters the mesh at a gateway.

use std::collections::BTreeMap;

use super::host::{covers, intersection, specificity};
use super::index::{Index, RouteEntry};
use super::{GatewayServer, GatewaySource, Subscriber, destination};
use crate::listeners::{GatewayListener, Listeners};
use crate::name::Name;
use crate::resource::{Applies, Join};
use crate::service::Protocol;

/// The ports on which a gateway workload listens: those of every `Gateway` that selects it. Where
/// two servers claim one port, the older object's counts.
pub(super) fn listeners(index: &Index, subscriber: &Subscriber) -> Listeners {
    let mut by_port: BTreeMap<u16, GatewayListener> = BTreeMap::new();
    for server in serving(index, subscriber).flat_map(|gateway| &gateway.servers) {
        by_port.entry(server.port).or_insert_with(|| GatewayListener {
            port: server.port,
            name: server.name.clone(),
            protocol: server.protocol,
        });
    }
    Listeners { listeners: by_port.into_values().collect() }
}

/// What applies to requests for a host on a port of a gateway.
///
/// As in Istio, every pair of a server's host and an attached route's host that have names in
/// common makes a virtual host for these names; a request belongs to the most specific one that
/// covers its host, and all routes of that one join, oldest first, catch-all rules last.
pub(super) fn host(
    index: &Index,
    host: &str,
    port: u16,
    subscriber: &Subscriber,
) -> Option<Applies> {
    let mut best: Option<VirtualHost<'_>> = None;
    for (gateway, server) in servers_on(index, port, subscriber) {
        let name: Name = gateway_name(gateway).into();
        for (position, route) in index.routes_at(&name) {
            if !route.visible_from(&subscriber.namespace) {
                continue;
            }
            for domain in common_hosts(server, route, host) {
                let better =
                    best.as_ref().is_none_or(|b| specificity(domain) > specificity(b.domain));
                if better {
                    best = Some(VirtualHost { domain, ..VirtualHost::default() });
                }
                if let Some(best) = best.as_mut().filter(|b| b.domain == domain) {
                    best.routes.insert(position, route);
                    if !best.gateways.contains(&name) {
                        best.gateways.push(name.clone());
                    }
                }
            }
        }
    }
    let VirtualHost { routes, mut gateways, .. } = best?;
    gateways.sort();
    let bodies = routes.values().map(|entry| &*entry.route);
    Some(Applies {
        protocol: Protocol::Http,
        service: None,
        default_backend: None,
        routes: routes.values().map(|entry| entry.route.id.clone()).collect(),
        join: Join::CatchAllLast,
        attached_to: gateways,
        destinations: destination::of_routes(index, bodies, None, &subscriber.namespace),
        inbound_policies: Vec::new(),
    })
}

/// Routes for the same names at one port.
#[derive(Default)]
struct VirtualHost<'a> {
    domain: &'a str,
    /// By position, which is their order of age.
    routes: BTreeMap<usize, &'a RouteEntry>,
    gateways: Vec<Name>,
}

/// The name by which routes attach to a gateway.
pub(super) fn gateway_name(gateway: &GatewaySource) -> String {
    format!("{}/{}", gateway.id.namespace, gateway.id.name)
}

/// Whether the routes of a namespace may attach to a server under one of its hosts.
pub(super) fn admits(allowed: Option<&Name>, route: &RouteEntry) -> bool {
    allowed.is_none_or(|namespace| *namespace == route.route.id.namespace)
}

/// The patterns that a server and a route have in common and that cover `host`.
fn common_hosts<'a>(
    server: &'a GatewayServer,
    route: &'a RouteEntry,
    host: &str,
) -> impl Iterator<Item = &'a str> {
    let served = server.hosts.iter().filter(|(allowed, _)| admits(allowed.as_ref(), route));
    served
        .flat_map(|(_, served)| route.hosts.iter().filter_map(|h| intersection(served, h)))
        .filter(move |domain| covers(domain, host))
}

fn serving<'a>(
    index: &'a Index,
    subscriber: &Subscriber,
) -> impl Iterator<Item = &'a GatewaySource> {
    index.gateways.iter().filter(|gateway| gateway.selector.selects(&subscriber.labels))
}

fn servers_on<'a>(
    index: &'a Index,
    port: u16,
    subscriber: &Subscriber,
) -> impl Iterator<Item = (&'a GatewaySource, &'a GatewayServer)> {
    serving(index, subscriber)
        .flat_map(|gateway| gateway.servers.iter().map(move |server| (gateway, server)))
        .filter(move |(_, server)| server.port == port)
}
