//! What applies to traffic that enters the mesh at a gateway.

use std::collections::{BTreeMap, BTreeSet};

use super::cell::Map;
use super::index::{Aged, RouteEntry};
use super::reader::Reader;
use super::scope::Scope;
use super::{GatewayServer, GatewaySource, GatewayTls, GatewayTlsMode, destination};
use crate::chunk::{CHUNK_MAX, Chunk};
use crate::credential::{Certificate, CredentialSource};
use crate::host::{MeshName, covers_any_case, intersection};
use crate::listeners::{
    ClientCertificate, Domains, GatewayListener, GatewayProtocol, ListenerServer, Listeners,
    ServerTls, Termination,
};
use crate::name::{Name, ObjectId};
use crate::resource::{Applies, DefaultBackend, Join};
use crate::service::Protocol;

/// The ports on which a gateway workload listens: those of every `Gateway` that selects it. Where
/// two servers claim one port and speak unlike things there, the older object's counts.
pub(super) fn listeners(reader: &Reader<'_>, scope: &Scope) -> Listeners {
    let mut by_port: BTreeMap<u16, (&GatewayServer, Vec<ListenerServer>)> = BTreeMap::new();
    let https = servers(reader, scope).find(|(_, server)| server.protocol == GatewayProtocol::Tls);
    let https = https.map_or(HTTPS_PORT, |(_, server)| server.port);
    for (gateway, server) in servers(reader, scope) {
        let (first, others) = by_port.entry(server.port).or_insert((server, Vec::new()));
        let is_told = server.protocol != GatewayProtocol::Http || server.redirects;
        let is_second = first.protocol == GatewayProtocol::Tcp && !others.is_empty();
        if first.protocol == server.protocol && is_told && !is_second {
            others.push(listener_server(reader, scope, gateway, server, https));
        }
    }
    let listener = |(port, (first, servers)): (u16, (&GatewayServer, _))| GatewayListener {
        port,
        name: first.name.clone(),
        protocol: first.protocol,
        domain_chunks: chunks(reader, scope, port),
        servers,
    };
    Listeners { listeners: by_port.into_iter().map(listener).collect() }
}

fn listener_server(
    reader: &Reader<'_>,
    scope: &Scope,
    gateway: &GatewaySource,
    server: &GatewayServer,
    https: u16,
) -> ListenerServer {
    let tls = server.tls.as_deref().map(|tls| match tls.mode {
        GatewayTlsMode::Terminate(client) => {
            ServerTls::Terminate(Box::new(termination(reader, &scope.namespace, tls, client)))
        }
        GatewayTlsMode::Mesh => ServerTls::Mesh,
        GatewayTlsMode::Passthrough => ServerTls::Passthrough,
        GatewayTlsMode::AutoPassthrough => ServerTls::AutoPassthrough,
    });
    ListenerServer {
        gateway: name_of(&gateway.id).into(),
        hosts: server.hosts.iter().map(|(_, host)| host.clone()).collect(),
        http: match (server.protocol, &server.tls) {
            (GatewayProtocol::Http, _) => true,
            (GatewayProtocol::Tls, Some(tls)) => tls.http,
            (GatewayProtocol::Tls | GatewayProtocol::Tcp, _) => false,
        },
        tls,
        redirect_to: server.redirects.then_some(https),
    }
}

/// What ends TLS with the certificates of the Secrets that a server names, which are looked for in the
/// namespace of the gateway's workload.
fn termination(
    reader: &Reader<'_>,
    namespace: &Name,
    tls: &GatewayTls,
    client: ClientCertificate,
) -> Termination {
    let GatewayTls { names, key_hashes, certificate_hashes, .. } = tls;
    let secrets: Vec<&Name> = tls.certificates.iter().map(|(_, secret)| secret).collect();
    let certificates = secrets.iter().filter_map(|secret| {
        let source = certificate_of(reader, namespace, tls, secret)?;
        let (chain, key) = (source.certificate.clone()?, source.key.clone()?);
        Some(Certificate { chain, key })
    });
    let (trusted, revoked) = match client {
        ClientCertificate::None => (None, None),
        _ => authorities(reader, namespace, tls)
            .map_or((None, None), |source| (source.trusted.clone(), source.revoked.clone())),
    };
    let from = secrets.iter().map(|secret| format!("Secret {namespace}/{secret}"));
    Termination {
        from: from.collect::<Vec<_>>().join(", ").into(),
        certificates: certificates.collect(),
        client,
        trusted,
        revoked,
        names: names.clone(),
        key_hashes: key_hashes.clone(),
        certificate_hashes: certificate_hashes.clone(),
        lowest: tls.versions.0,
        highest: tls.versions.1,
    }
}

/// A Secret that a server names.
pub(super) fn certificate_of<'a>(
    reader: &Reader<'a>,
    namespace: &Name,
    tls: &GatewayTls,
    secret: &Name,
) -> Option<&'a CredentialSource> {
    let first = reader.credential(namespace, secret);
    first.or_else(|| reader.credential(tls.also_in.as_ref()?, secret))
}

/// The Secret with the authorities that a server trusts: the one that it names, else that of its
/// certificate's name with `-cacert`, else the certificate's own, as in Istio.
pub(super) fn authorities<'a>(
    reader: &Reader<'a>,
    namespace: &Name,
    tls: &GatewayTls,
) -> Option<&'a CredentialSource> {
    if let Some((_, named)) = &tls.trusted {
        return reader.credential(namespace, named);
    }
    let (_, own) = tls.certificates.first()?;
    let beside = reader.credential(namespace, &format!("{own}-cacert").into());
    let has = |source: &&CredentialSource| source.trusted.is_some();
    beside.filter(has).or_else(|| reader.credential(namespace, own).filter(has))
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
                    || !by_host(reader, scope, port, &gateway, server, pattern).is_empty()
            };
            if !domains.contains(pattern) && servers.iter().any(makes) {
                domains.insert(pattern.clone());
            }
        }
    }
    Domains { port, chunk, domains: domains.into_iter().collect() }
}

/// What applies to a connection whose TLS names a service as meshes do among themselves: it is passed
/// on to that service, of which a server that does so names the host.
fn passed_on(
    reader: &Reader<'_>,
    name: &str,
    to: &MeshName<'_>,
    port: u16,
    scope: &Scope,
) -> Option<Applies> {
    let by = |(_, server): &(&GatewaySource, &GatewayServer)| {
        let mode = server.tls.as_deref().map(|tls| tls.mode);
        let passes = mode == Some(GatewayTlsMode::AutoPassthrough);
        let covers = |(_, host): &(Option<Name>, Name)| covers_any_case(host, name);
        passes && server.port == port && server.hosts.iter().any(covers)
    };
    let (gateway, _) = servers(reader, scope).find(by)?;
    let host = Name::from(to.host);
    let destination = destination::destination(reader, &host, &scope.namespace);
    let service = destination.service.clone()?;
    let subset = (!to.subset.is_empty()).then(|| to.subset.into());
    Some(Applies {
        // Marks TLS that is not to be wrapped in the mesh's own: it is that already.
        protocol: Protocol::Tls,
        service: Some(service),
        default_backend: Some(DefaultBackend { host, port: to.port, subset }),
        destinations: vec![destination],
        routes: Vec::new(),
        join: Join::CatchAllLast,
        attached_to: vec![name_of(&gateway.id).into()],
        inbound_policies: Vec::new(),
        inbound_ports: Vec::new(),
        by_server_name: Vec::new(),
        member: None,
    })
}

/// What applies to the requests on a port of a gateway that belong to one of its domains.
pub(super) fn domain(
    reader: &Reader<'_>,
    domain: &Name,
    port: u16,
    scope: &Scope,
) -> Option<Applies> {
    if let Some(to) = MeshName::parse(domain) {
        return passed_on(reader, domain, &to, port, scope);
    }
    let mut routes: BTreeSet<&Aged<ObjectId>> = BTreeSet::new();
    let mut gateways: BTreeSet<Name> = BTreeSet::new();
    let mut opaque = false;
    for (gateway, servers) in gateways_on(reader, scope, port) {
        for server in servers {
            let passes_on = server.passes_bytes_on();
            let attached = match passes_on {
                // All that is attached, whatever name: there is none to go by.
                true if server.hosts.first().is_some_and(|(_, first)| first == domain) => {
                    attached_to_any(reader, scope, &gateway, server)
                }
                true => Vec::new(),
                false => attached(reader, scope, &gateway, server, domain),
            };
            opaque |= passes_on && !attached.is_empty();
            if !attached.is_empty() {
                gateways.insert(gateway.clone());
            }
            routes.extend(attached);
        }
    }
    if routes.is_empty() {
        for (gateway, servers) in gateways_on(reader, scope, port) {
            for server in servers {
                let hosts: Vec<&Name> = match server.passes_bytes_on() {
                    true => server.hosts.iter().map(|(_, host)| host).collect(),
                    false => vec![domain],
                };
                for host in hosts {
                    let found = by_host(reader, scope, port, &gateway, server, host);
                    opaque |= server.passes_bytes_on() && !found.is_empty();
                    if !found.is_empty() {
                        gateways.insert(gateway.clone());
                    }
                    routes.extend(found);
                }
            }
        }
    }
    if routes.is_empty() {
        return None;
    }
    let protocol = if opaque { Protocol::Tcp } else { Protocol::Http };
    let routes: Vec<ObjectId> = routes.into_iter().map(|route| route.id.clone()).collect();
    Some(Applies {
        protocol,
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

/// The routes that say nothing of gateways, but are for a host that a server names exactly and that is
/// neither a service nor, at any gateway of the port, another route's: they cannot be meant for
/// anything else. (In Istio they have no effect there.)
fn by_host<'a>(
    reader: &Reader<'a>,
    scope: &Scope,
    port: u16,
    gateway: &str,
    server: &GatewayServer,
    domain: &str,
) -> Vec<&'a Aged<ObjectId>> {
    let served = || server.hosts.iter().filter(|(_, host)| **host == *domain);
    if domain.starts_with('*') || served().next().is_none() {
        return Vec::new();
    }
    let is_covered =
        |gateway: &Name| reader.covering(Map::Gateway(gateway), domain).flatten().next().is_some();
    let namespace = gateway.split_once('/').map_or("", |(namespace, _)| namespace);
    let is_bound = |route: &&Aged<ObjectId>| {
        reader.attachment(&route.id).is_some_and(|entry| {
            entry.visible_from(&scope.namespace)
                && served().any(|(allowed, _)| admits(allowed.as_ref(), entry))
                && is_meant_for(reader, (gateway, namespace), entry, domain)
                && !gateways_on(reader, scope, port).keys().any(is_covered)
        })
    };
    reader.of_pattern(Map::Mesh, domain).iter().filter(is_bound).collect()
}

/// Whether a route that says nothing of gateways can only be meant for this one (its name and its
/// namespace), which names a host of it exactly.
pub(super) fn is_meant_for(
    reader: &Reader<'_>,
    (gateway, namespace): (&str, &str),
    entry: &RouteEntry,
    host: &str,
) -> bool {
    entry.fields.gateways.is_empty()
        && *entry.route.id.namespace == *namespace
        && reader.service_named(host, namespace).is_none()
        && reader.covering(Map::Gateway(gateway), host).flatten().next().is_none()
}

/// The routes that the scope sees and that have any name in common with a server of a gateway.
fn attached_to_any<'a>(
    reader: &Reader<'a>,
    scope: &Scope,
    gateway: &str,
    server: &GatewayServer,
) -> Vec<&'a Aged<ObjectId>> {
    let Some(all) = reader.gateway_patterns(gateway, Chunk::WHOLE) else { return Vec::new() };
    let mut routes = Vec::new();
    for pattern in all.patterns.in_chunk(Chunk::WHOLE) {
        for (allowed, served) in &server.hosts {
            if intersection(served, pattern).is_none() {
                continue;
            }
            let of_pattern = reader.of_pattern(Map::Gateway(gateway), pattern).iter();
            routes.extend(of_pattern.filter(|route| {
                reader.attachment(&route.id).is_some_and(|entry| {
                    entry.visible_from(&scope.namespace) && admits(allowed.as_ref(), entry)
                })
            }));
        }
    }
    routes
}

impl GatewayServer {
    /// Whether what comes in is passed on without a look at it, or at whom its TLS names.
    pub(super) fn passes_bytes_on(&self) -> bool {
        match (self.protocol, self.tls.as_deref()) {
            (GatewayProtocol::Tcp, _) => true,
            (GatewayProtocol::Tls, Some(tls)) => {
                let ends = matches!(tls.mode, GatewayTlsMode::Terminate(_) | GatewayTlsMode::Mesh);
                ends && !tls.http
            }
            (GatewayProtocol::Http | GatewayProtocol::Tls, _) => false,
        }
    }
}

/// The gateways with servers on a port that are served there, by name, each with these servers. Of TCP it
/// is the first alone, since there is nothing by which connections could be told apart.
fn gateways_on<'a>(
    reader: &Reader<'a>,
    scope: &Scope,
    port: u16,
) -> BTreeMap<Name, Vec<&'a GatewayServer>> {
    let mut gateways: BTreeMap<Name, Vec<&GatewayServer>> = BTreeMap::new();
    let mut spoken = None;
    for (gateway, server) in servers(reader, scope).filter(|(_, server)| server.port == port) {
        if *spoken.get_or_insert(server.protocol) != server.protocol {
            continue;
        }
        if server.protocol == GatewayProtocol::Tcp && !gateways.is_empty() {
            continue;
        }
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
    match &*id.kind {
        "Ingress" => ingress_gateway_name(id),
        _ => format!("{}/{}", id.namespace, id.name),
    }
}

/// The name of the gateway that is made of an Ingress: Istio's, which no user gives a Gateway.
pub fn ingress_gateway_name(id: &ObjectId) -> String {
    format!("{}/{}-istio-autogenerated-k8s-ingress", id.namespace, id.name)
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

/// The port of HTTPS where no server says another one (RFC 9110, section 4.2.2).
const HTTPS_PORT: u16 = 443;
