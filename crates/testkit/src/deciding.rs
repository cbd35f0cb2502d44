//! Decides requests like a proxy that subscribes to what it lacks, with a snapshot in place of the
//! control plane.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ironmesh_model::path::{normalize_target, split_target};
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Connection, Decision, Draw, ListenerKind, Local, Plan, ResourceKey, Seen, Silent, Snapshot,
    Traffic, Version, View, decide,
};

use crate::naive::Request;
use crate::naive::connections::{Connection as Connected, Met};

/// Original destination of every request; it belongs to no service.
pub const DIALLED: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// Decides like the proxy of the request's workload. What it asks for is kept in its view.
///
/// # Panics
///
/// If it asks without end, or if the target of the request is one that a proxy refuses.
pub fn decide_on(
    snapshot: &Snapshot,
    views: &mut HashMap<Subscriber, View>,
    request: &Request,
    draw: Draw,
) -> Decision {
    let subscriber = subscriber(request);
    let local = local(&subscriber);
    let target = normalize_target(&request.target).unwrap();
    let connection = Connection {
        listener: listener(request),
        local: &local,
        destination: destination(request),
        peer: Seen::Absent,
        server_name: Seen::Absent,
    };
    let traffic = Traffic::Request(connection, asked(request, &target));
    decided(snapshot, views, &subscriber, &traffic, draw)
}

/// Decides about a connection like the proxy that meets it, which reads what a decision depends on.
///
/// # Panics
///
/// If it asks without end.
pub fn connect_on(
    snapshot: &Snapshot,
    views: &mut HashMap<Subscriber, View>,
    met: &Connected,
    draw: Draw,
) -> Decision {
    let subscriber = subscriber_of(met);
    let local = local(&subscriber);
    let connection = |server_name| Connection {
        listener: listener_of(met),
        local: &local,
        destination: met.destination,
        peer: Seen::Absent,
        server_name,
    };
    let mut decided = |server_name| {
        let traffic = Traffic::Connection(connection(server_name));
        decided(snapshot, views, &subscriber, &traffic, draw)
    };
    let first = decided(Seen::NotRead);
    match first.plan {
        Plan::ReadHello => decided(met.server_name.as_deref().map_or(Seen::Absent, Seen::Is)),
        _ => first,
    }
}

/// Decides, and holds what that needs.
fn decided(
    snapshot: &Snapshot,
    views: &mut HashMap<Subscriber, View>,
    subscriber: &Subscriber,
    traffic: &Traffic<'_>,
    draw: Draw,
) -> Decision {
    let settings = |view: View| hold(snapshot, &view, &ResourceKey::Settings, subscriber);
    let view = views.entry(subscriber.clone()).or_insert_with(|| settings(View::default()));
    for _ in 0..QUESTIONS_MAX {
        let decision = decide(view, traffic, draw, &mut Silent);
        let Plan::Needs(key) = &decision.plan else { return decision };
        *view = hold(snapshot, view, key, subscriber);
    }
    panic!("it asks without end: {traffic:?}");
}

fn local(subscriber: &Subscriber) -> Local {
    Local { namespace: subscriber.namespace.clone(), labels: subscriber.labels.clone() }
}

/// Where a request is sent to instead, if that is what was decided.
///
/// # Panics
///
/// If the target of the request is one that a proxy refuses.
pub fn location(decision: &Decision, request: &Request) -> Option<String> {
    let target = normalize_target(&request.target).unwrap();
    decision.location(&asked(request, &target), destination(request).port())
}

/// A request with a normalised target, as decisions see it.
fn asked<'a>(request: &'a Request, target: &'a str) -> ironmesh_model::Request<'a> {
    let (path, query) = split_target(target);
    ironmesh_model::Request {
        method: &request.method,
        scheme: &request.scheme,
        authority: &request.authority,
        path,
        query,
        headers: &request.headers,
    }
}

/// The subscriber that the proxy of a request's workload is.
pub fn subscriber(request: &Request) -> Subscriber {
    Subscriber {
        namespace: request.namespace.as_str().into(),
        labels: request.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
        addresses: Vec::new(),
    }
}

/// The subscriber that the proxy is which meets a connection.
pub fn subscriber_of(met: &Connected) -> Subscriber {
    Subscriber {
        namespace: met.namespace.as_str().into(),
        labels: met.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
        addresses: match met.met {
            Met::Entering => vec![met.destination.ip()],
            Met::Leaving | Met::AtGateway => Vec::new(),
        },
    }
}

/// The listener at which a connection is met.
pub fn listener_of(met: &Connected) -> ListenerKind {
    match met.met {
        Met::Leaving => ListenerKind::Outbound,
        Met::Entering => ListenerKind::Inbound,
        Met::AtGateway => ListenerKind::Gateway,
    }
}

/// The listener at which a request enters.
pub fn listener(request: &Request) -> ListenerKind {
    if request.at_gateway { ListenerKind::Gateway } else { ListenerKind::Outbound }
}

/// The original destination of a request.
///
/// # Panics
///
/// If its port is not a port number.
pub fn destination(request: &Request) -> SocketAddr {
    SocketAddr::new(DIALLED, u16::try_from(request.port).unwrap())
}

/// The view after it received a resource and everything that the resource refers to.
fn hold(snapshot: &Snapshot, view: &View, key: &ResourceKey, subscriber: &Subscriber) -> View {
    let resource = snapshot.resource(key, subscriber);
    let mut keys: Vec<ResourceKey> =
        resource.iter().flat_map(|resource| snapshot.references(resource)).collect();
    keys.push(key.clone());
    let changes = keys.into_iter().map(|key| {
        let resource = snapshot.resource(&key, subscriber);
        let version = Version::of(format!("{resource:?}").as_bytes());
        Change { key, version, body: resource.map_or(Body::Nothing, Body::Is) }
    });
    view.apply(changes).0
}

/// How often one decision may ask for another resource.
const QUESTIONS_MAX: usize = 8;
