//! Deciding a request as a proxy does that asks for what it lacks, with a snapshot for a control
//! plane.

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

/// Address that every request was going to: that of no service.
pub const DIALLED: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0));

/// Decides as the proxy of the request's workload does. What it asks for it keeps in its view.
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
    let (path, query) = split_target(&target);
    let connection = Connection {
        listener: listener(request),
        local: &local,
        destination: destination(request),
        peer: Seen::Absent,
        server_name: Seen::Absent,
    };
    let asked = ironmesh_model::Request {
        method: &request.method,
        scheme: &request.scheme,
        authority: &request.authority,
        path,
        query,
        headers: &request.headers,
    };
    let settings = |view: View| hold(snapshot, &view, &ResourceKey::Settings, &subscriber);
    let view = views.entry(subscriber.clone()).or_insert_with(|| settings(View::default()));
    for _ in 0..QUESTIONS_MAX {
        let decision = decide(view, &Traffic::Request(connection, asked), draw, &mut Silent);
        let Plan::Needs(key) = &decision.plan else { return decision };
        *view = hold(snapshot, view, key, &subscriber);
    }
    panic!("it asks without end: {request:?}");
}

/// As whom the proxy of a request's workload asks.
pub fn subscriber(request: &Request) -> Subscriber {
    Subscriber {
        namespace: request.namespace.as_str().into(),
        labels: request.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
    }
}

/// Where a request comes in.
pub fn listener(request: &Request) -> ListenerKind {
    if request.at_gateway { ListenerKind::Gateway } else { ListenerKind::Outbound }
}

/// Where a request was going.
///
/// # Panics
///
/// If its port is none.
pub fn destination(request: &Request) -> SocketAddr {
    SocketAddr::new(DIALLED, u16::try_from(request.port).unwrap())
}

/// The view with the resource under a key and all that it refers to.
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

/// Resources that one decision may need one after the other.
const QUESTIONS_MAX: usize = 8;
