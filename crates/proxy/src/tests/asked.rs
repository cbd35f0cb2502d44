//! What a proxy keeps of what its clients make it ask for.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ironmesh_model::chunk::Chunk;
use ironmesh_model::resource::Resolution;
use ironmesh_model::service::{Protocol, UpstreamTls, Workload};
use ironmesh_model::snapshot::{Objects, Subscriber};
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Connection, Draw, ListenerKind, Request, ResolutionKey, Resource, ResourceKey, Seen, Silent,
    Snapshot, Target, Tick, Traffic, Version, View, WorkloadId, decide,
};
use ironmesh_telemetry::{AccessLog, Registry};

use super::world::{identity, reviews, workload};
use crate::connect::Connector;
use crate::park;
use crate::process::Process;
use crate::subscriptions::Asked;
use crate::worker::Worker;

fn host(name: &str) -> ResourceKey {
    ResourceKey::Resolution(ResolutionKey {
        listener: ListenerKind::Outbound,
        target: Target::Host(name.into(), 9080),
        namespace: "default".into(),
    })
}

fn stranger(n: u8) -> ResourceKey {
    ResourceKey::Workload(IpAddr::V4(Ipv4Addr::new(203, 0, 113, n)))
}

/// A view that holds the answers to these keys.
fn view(keys: &[ResourceKey]) -> View {
    let services = vec![reviews(Protocol::Http, Vec::new())];
    let (snapshot, _) = Snapshot::new(Objects { services, ..Objects::default() });
    let subscriber = Subscriber {
        namespace: "default".into(),
        labels: [("a", "b")].into_iter().collect(),
        addresses: Vec::new(),
    };
    let change = |key: &ResourceKey| {
        let body = snapshot.resource(key, &subscriber).map_or(Body::Nothing, Body::Is);
        Change { key: key.clone(), version: Version::default(), body }
    };
    View::default().apply(keys.iter().map(change)).0
}

#[test]
fn what_is_there_is_given_up_too_once_nothing_else_is_left() {
    let present = [host("reviews"), host("reviews.default"), host("reviews.default.svc")];
    let absent = [host("nowhere"), stranger(1)];
    let own = stranger(7);
    let mut asked = Asked::but_for(own.clone());
    asked.note(&[own], Tick(1));
    let all: Vec<ResourceKey> = present.iter().chain(&absent).cloned().collect();
    for (at, key) in all.iter().enumerate() {
        asked.note(std::slice::from_ref(key), Tick(10 + at as u64));
    }
    let view = view(&all);
    let Some(Resource::Resolution(body)) = view.get(&present[0]).and_then(|h| h.resource.as_ref())
    else {
        panic!("it is held")
    };
    assert!(matches!(**body, Resolution::Present(_)));
    assert_eq!(asked.give_up(5, &view, &[]), [], "each is counted once");

    let waiting = host("unanswered");
    asked.note(std::slice::from_ref(&waiting), Tick(2));
    assert_eq!(asked.give_up(5, &view, &[]), [absent[0].clone()], "first what is not there");
    assert_eq!(asked.give_up(4, &view, &[]), [absent[1].clone()]);
    assert_eq!(asked.give_up(3, &view, &present[..1]), [present[1].clone()], "then the oldest");
    assert_eq!(
        asked.give_up(0, &view, &[]),
        [present[0].clone(), present[2].clone()],
        "what someone waits for stays"
    );
    asked.note(&present, Tick(20));
    assert_eq!(asked.give_up(4, &view, &[]), [], "what is asked for again is known again");
}

#[test]
fn what_was_used_last_stays_however_long_ago_it_was_asked_about() {
    let keys =
        ["reviews", "reviews.default", "reviews.default.svc", "reviews.default.svc.cluster.local"]
            .map(host);
    let caller = stranger(1);
    let all: Vec<ResourceKey> = keys.iter().chain([&caller]).cloned().collect();
    let service = reviews(Protocol::Http, Vec::new()).service.id;
    let referred =
        [ResourceKey::Service(service.clone()), ResourceKey::Endpoints(service, Chunk::WHOLE)];
    let view = view(&[&all[..], &referred].concat());
    let mut asked = Asked::but_for(stranger(7));
    for (at, key) in all.iter().enumerate() {
        asked.note(std::slice::from_ref(key), Tick(10 + at as u64));
    }
    let decided = |at: usize, now: u64| {
        let ResourceKey::Resolution(ResolutionKey { target: Target::Host(name, port), .. }) =
            &keys[at]
        else {
            panic!("{:?}", keys[at])
        };
        let local = workload("client").local.load_full();
        let connection = Connection {
            listener: ListenerKind::Outbound,
            local: &local,
            destination: "10.96.0.10:9080".parse().unwrap(),
            peer: Seen::Absent,
            server_name: Seen::Absent,
        };
        let headers: Vec<(String, String)> = Vec::new();
        let request = Request {
            method: "GET",
            scheme: "http",
            authority: &format!("{name}:{port}"),
            path: "/",
            query: None,
            headers: &headers,
        };
        let decision = decide(&view, &Traffic::Request(connection, request), Draw(0), &mut Silent);
        assert!(decision.applies().is_some(), "{decision:?}");
        decision.note_use(Tick(now));
    };
    // The one that was asked about first is used all the time, the next one once more.
    decided(1, 30);
    decided(0, 40);
    view.use_workload(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), Tick(50)).unwrap();
    let next = view.apply([Change {
        key: keys[0].clone(),
        version: Version(7),
        body: Body::Is(view.get(&keys[0]).unwrap().resource.clone().unwrap()),
    }]);
    assert_eq!(next.0.get(&keys[0]).unwrap().last_use.at(), Tick(40), "over changes of it");
    let mut left = all.len();
    let mut given_up = || {
        left -= 1;
        asked.give_up(left, &next.0, &[])
    };
    assert_eq!(given_up(), [caller], "of an absent one it does not matter");
    assert_eq!(given_up(), [keys[2].clone()]);
    assert_eq!(given_up(), [keys[3].clone()]);
    assert_eq!(given_up(), [keys[1].clone()]);
    assert_eq!(given_up(), [keys[0].clone()]);
}

#[test]
fn what_could_not_be_asked_about_takes_no_room() {
    let mut asked = Asked::but_for(stranger(7));
    let (present, refused) = (host("reviews"), [host("a"), host("b")]);
    asked.note(std::slice::from_ref(&present), Tick(1));
    asked.note(&refused, Tick(2));
    asked.forget(&refused);
    assert_eq!(asked.give_up(1, &view(&[present]), &[]), []);
}

#[test]
fn what_is_waited_for_is_asked_for_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let process = Arc::new(Process::new(Default::default(), Connector::of_loopback(), 1));
        let own = workload("w");
        let mut wanted = own.views.take_wanted().unwrap();
        let log = AccessLog::start(std::io::sink(), 1).unwrap();
        let worker = Worker::alone(process, &Registry::new(10), &log);
        let key = host("reviews");
        let waiting = park::until_found(&worker, &own, |_| Err::<(), _>(Some(key.clone())));
        tokio::select! {
            found = waiting => panic!("nothing was answered: {found:?}"),
            () = async {
                for _ in 0..2 {
                    assert_eq!(wanted.recv().await, Some(key.clone()));
                }
            } => {}
        }
    });
}

#[test]
fn a_workload_learns_that_it_was_relabelled() {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 9));
    let own = workload("client");
    let held = |uid: &str, version: &str| {
        let workload = Workload {
            id: WorkloadId { uid: uid.into(), ..own.id.clone() },
            owner: own.owner.clone(),
            identity: identity("client"),
            labels: [("version", version)].into_iter().collect(),
            meshed: true,
            tls: UpstreamTls::None,
            tls_at: Vec::new(),
            locality: "".into(),
            network: "".into(),
            node: "".into(),
        };
        let body = Body::Is(Resource::Workload(Some(workload.into())));
        let key = ResourceKey::Workload(ip);
        View::default().apply([Change { key, version: Version::default(), body }]).0
    };
    let _ = own.hold(held("uid-client", "v2"), ip);
    assert_eq!(own.local.load().labels.value("version"), Some("v2"));
    let _ = own.hold(held("uid-of-who-had-the-address-before", "v3"), ip);
    assert_eq!(own.local.load().labels.value("version"), Some("v2"));
}
