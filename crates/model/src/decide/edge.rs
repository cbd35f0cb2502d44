//! What is decided at a gateway before rules are asked, and of connections that are passed on there.

use super::{
    Decision, Found, HOST_BYTES_MAX, ListenerKind, Plan, Wanted, by_default, by_rule,
    first_connection_match, not_held, resolved, usable,
};
use crate::draw::Draw;
use crate::entry::came_by_https;
use crate::host::MeshName;
use crate::listeners::{GatewayListener, GatewayProtocol, ListenerServer, ServerTls, server_for};
use crate::reason::Reason;
use crate::recorder::{Event, Recorder};
use crate::request::split_authority;
use crate::resource::{ResolutionKey, ResourceKey, Target};
use crate::traffic::{Connection, Request, Seen};
use crate::view::View;

/// What a gateway says of a request whatever its rules are: that it belongs to HTTPS, or to another
/// server than its connection. `None`: nothing.
///
/// A client may reuse an HTTP/2 connection for every host that its certificate covers (RFC 9113,
/// section 9.1.1), but the other server may ask for more: a certificate of the client, say.
pub(super) fn before_rules<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    request: &Request<'_>,
    host: &str,
    recorder: &mut R,
) -> Option<Decision> {
    let listener = view.listeners().at(connection.destination.port())?;
    let server = server_for(&listener.servers, Some(host))?;
    if server.redirect_to.is_some() && server.tls.is_none() && !came_by_https(request.headers) {
        recorder.record(|| note(connection, host, server, "sends all requests to HTTPS"));
        let plan = Plan::Answer(MOVED);
        return Some(Decision { plan, ..Decision::without_lookup(Reason::HttpsRedirect) });
    }
    if listener.protocol != GatewayProtocol::Tls {
        return None;
    }
    let of_connection = server_of(listener, connection);
    if of_connection.is_some_and(|own| std::ptr::eq(own, server)) {
        return None;
    }
    recorder.record(|| note(connection, host, server, "has its own connections"));
    Some(Decision::without_lookup(Reason::Misdirected))
}

/// Where a request is sent that belongs to HTTPS. `published`: the number at which clients reach a
/// port of the gateway. It counts for those who name another port than the gateway's: for them its
/// ports are at other numbers.
pub fn https_location(
    view: &View,
    request: &Request<'_>,
    port: u16,
    published: impl Fn(u16) -> Option<u16>,
) -> String {
    let (host, named) = split_authority(request.authority);
    let server = view.listeners().at(port).and_then(|l| server_for(&l.servers, Some(&host)));
    let host = if host.contains(':') { format!("[{host}]") } else { host.into_owned() };
    let to = server.and_then(|server| server.redirect_to).unwrap_or(HTTPS_PORT);
    let is_elsewhere = named.is_some_and(|named| named != port);
    let to = published(to).filter(|_| is_elsewhere).unwrap_or(to);
    let port = if to == HTTPS_PORT { String::new() } else { format!(":{to}") };
    let query = request.query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("https://{host}{port}{}{query}", request.path)
}

/// A connection at a gateway whose bytes are passed on.
pub(super) fn connected<R: Recorder>(
    view: &View,
    connection: &Connection<'_>,
    draw: Draw,
    recorder: &mut R,
) -> Decision {
    if view.get(&ResourceKey::Listeners).is_none() {
        return Decision::needs(ResourceKey::Listeners);
    }
    let port = connection.destination.port();
    let listener = view.listeners().at(port);
    // Of HTTP in plaintext the requests are asked about.
    let Some(listener) = listener.filter(|own| own.protocol != GatewayProtocol::Http) else {
        return Decision::without_lookup(Reason::NoRoute);
    };
    if listener.protocol == GatewayProtocol::Tls && connection.server_name == Seen::NotRead {
        return Decision {
            plan: Plan::ReadHello,
            ..Decision::without_lookup(Reason::NotConfigured)
        };
    }
    let Some(server) = server_of(listener, connection) else {
        recorder.record(|| note_none(connection));
        return Decision::without_lookup(Reason::NoServer);
    };
    let (domain, wanted) = match &server.tls {
        Some(ServerTls::Passthrough) => {
            let name = connection.server_name.is().unwrap_or_default().to_ascii_lowercase();
            (view.domain(&name, port).cloned(), Wanted::Tls)
        }
        Some(ServerTls::AutoPassthrough) => {
            let name = connection.server_name.is().unwrap_or_default().to_ascii_lowercase();
            let is_short = name.len() <= HOST_BYTES_MAX && MeshName::parse(&name).is_some();
            (is_short.then(|| name.into()), Wanted::Tls)
        }
        _ if server.http => (None, Wanted::All),
        _ => (server.hosts.first().cloned(), Wanted::Tcp),
    };
    let Some(domain) = domain else {
        recorder.record(|| note(connection, "it", server, "has no rule for it"));
        return Decision::without_lookup(Reason::NoRoute);
    };
    let namespace = &connection.local.namespace;
    let linked = match view.at_host(ListenerKind::Gateway, &domain, port, namespace) {
        Some(linked) => usable(linked, recorder),
        None => Err(not_held(
            ResolutionKey {
                listener: ListenerKind::Gateway,
                target: Target::Host(domain, port),
                namespace: namespace.clone(),
            },
            recorder,
        )),
    };
    let linked = match linked {
        Ok(linked) => linked,
        Err(undecided) => return undecided,
    };
    let Some(applies) = &linked.applies else { return Decision::answer(Reason::NoRoute, linked) };
    if server.tls == Some(ServerTls::AutoPassthrough) {
        return by_default(linked, applies);
    }
    match first_connection_match(applies, connection, wanted, recorder) {
        Found::Matched(at) => by_rule(linked, applies, at, None, draw, recorder),
        _ => Decision::answer(Reason::NoRoute, linked),
    }
}

/// Whether a gateway passes the bytes of a connection on, and looks at no requests.
pub fn passes_bytes_on(view: &View, connection: &Connection<'_>) -> bool {
    let listener = view.listeners().at(connection.destination.port());
    listener.is_some_and(|listener| match server_of(listener, connection) {
        Some(server) => !server.http,
        // There are no requests on a connection that is refused.
        None => listener.protocol != GatewayProtocol::Http,
    })
}

/// The server that a connection belongs to.
fn server_of<'a>(
    listener: &'a GatewayListener,
    connection: &Connection<'_>,
) -> Option<&'a ListenerServer> {
    match listener.protocol {
        GatewayProtocol::Tls => server_for(&listener.servers, connection.server_name.is()),
        GatewayProtocol::Tcp => listener.servers.first(),
        GatewayProtocol::Http => None,
    }
}

fn note(connection: &Connection<'_>, host: &str, server: &ListenerServer, does: &str) -> Event {
    let outcome = format!("Gateway {}, which {does}", server.gateway);
    resolved(&key_of(connection, host), &outcome)
}

fn note_none(connection: &Connection<'_>) -> Event {
    let name = connection.server_name.is().unwrap_or_default();
    resolved(&key_of(connection, name), "no server of the gateway is for this name")
}

fn key_of(connection: &Connection<'_>, host: &str) -> ResolutionKey {
    ResolutionKey {
        listener: ListenerKind::Gateway,
        target: Target::Host(host.into(), connection.destination.port()),
        namespace: connection.local.namespace.clone(),
    }
}

/// As Istio has it for `httpsRedirect` (RFC 9110, section 15.4.2).
const MOVED: u16 = 301;

/// The port of HTTPS (RFC 9110, section 4.2.2).
const HTTPS_PORT: u16 = 443;
