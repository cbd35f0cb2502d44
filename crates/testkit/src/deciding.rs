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
    let local =
        Local { namespace: subscriber.namespace.clone(), labels: subscriber.labels.clone() };
    let target = normalize_target(&request.target).unwrap();
    let connection = Connection {
        listener: listener(request),
        local: &local,
        destination: destination(request),
        peer: Seen::Absent,
        server_name: Seen::Absent,
    };
    let asked = asked(request, &target);
    let settings = |view: View| hold(snapshot, &view, &ResourceKey::Settings, &subscriber);
    let view = views.entry(subscriber.clone()).or_insert_with(|| settings(View::default()));
    for _ in 0..QUESTIONS_MAX {
        let decision = decide(view, &Traffic::Request(connection, asked), draw, &mut Silent);
        let Plan::Needs(key) = &decision.plan else { return decision };
        *view = hold(snapshot, view, key, &subscriber);
    }
    panic!("it asks without end: {request:?}");
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
