//! Ten thousand random pairs of a mesh and a request: what the naive matcher says of the users' objects is
//! what `decide` says of the view that a proxy would hold.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ironmesh_dialects::{Object, translate};
use ironmesh_model::request::normalize_path;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::view::{Body, Change};
use ironmesh_model::{
    Decision, Draw, ListenerKind, RequestMeta, ResourceKey, Silent, Snapshot, Source, Verdict,
    Version, View, decide,
};
use ironmesh_testkit::naive::{Answer, Mesh, Patterns, Request};
use ironmesh_testkit::random::{self, Random};
use serde_json::Value;

const MESHES: u64 = 500;
const REQUESTS: u64 = 20;

#[test]
fn decide_agrees_with_the_naive_matcher() {
    let mut seen = BTreeMap::new();
    let patterns = Patterns::default();
    for seed in 0..MESHES {
        let mut random = Random(seed);
        let mesh = random::mesh(&mut random);
        let objects: Vec<Object> = mesh.iter().map(|o| Object::new(o.clone()).unwrap()).collect();
        let (snapshot, _) = Snapshot::new(translate(&objects, &Settings::default()).objects);
        let mut views = HashMap::new();
        for number in 0..REQUESTS {
            let request = random::request(&mut random);
            let draw = Draw::of(&seed.to_be_bytes(), b"hop", number);
            let decision = decide_on(&snapshot, &mut views, &request, draw);
            let expected = Mesh { objects: &mesh, patterns: &patterns }.answer(&request);
            *seen.entry(decision.reason.code()).or_insert(0) += 1;
            if let Err(why) = agree(&decision, &expected) {
                let mesh = serde_json::to_string_pretty(&Value::Array(mesh)).unwrap();
                panic!(
                    "seed {seed}, request {number}: {why}\nnaive: {expected:?}\n{request:#?}\n{mesh}"
                );
            }
        }
    }
    // Every outcome must have come up often enough to mean something.
    for reason in [
        "route",
        "default_route",
        "passthrough",
        "no_route",
        "undefined_subset",
        "unknown_destination",
    ] {
        assert!(seen.get(reason).is_some_and(|count| *count > 100), "{reason}: {seen:?}");
    }
}

/// Decides as the proxy of that workload does, which asks for what it needs and keeps it.
pub(crate) fn decide_on(
    snapshot: &Snapshot,
    views: &mut HashMap<Subscriber, View>,
    request: &Request,
    draw: Draw,
) -> Decision {
    let subscriber = Subscriber {
        namespace: request.namespace.as_str().into(),
        labels: request.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect(),
    };
    let source =
        Source { namespace: subscriber.namespace.clone(), labels: subscriber.labels.clone() };
    let (path, query) = normalize_path(&request.target);
    let port = u16::try_from(request.port).unwrap();
    let meta = RequestMeta {
        listener: if request.at_gateway { ListenerKind::Gateway } else { ListenerKind::Outbound },
        destination: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), port),
        source: &source,
        method: &request.method,
        scheme: &request.scheme,
        authority: &request.authority,
        path: &path,
        query,
        headers: &request.headers,
    };
    let view = views.entry(subscriber.clone()).or_default();
    for _ in 0..5 {
        let decision = decide(view, &meta, draw, &mut Silent);
        let Verdict::Needs(key) = &decision.verdict else { return decision };
        *view = view.apply(changes(snapshot, key, &subscriber)).0;
    }
    panic!("it asks without end");
}

fn changes(snapshot: &Snapshot, key: &ResourceKey, subscriber: &Subscriber) -> Vec<Change> {
    let resource = snapshot.resource(key, subscriber);
    let mut keys = resource.iter().flat_map(|r| snapshot.references(r)).collect::<Vec<_>>();
    keys.push(key.clone());
    let change = |key: ResourceKey| {
        let resource = snapshot.resource(&key, subscriber);
        let version = Version::of(format!("{resource:?}").as_bytes());
        Change { key, version, body: resource.map_or(Body::Nothing, Body::Is) }
    };
    keys.into_iter().map(change).collect()
}

fn agree(decision: &Decision, expected: &Answer) -> Result<(), String> {
    let reason = decision.reason.code();
    let wrong =
        |what: &str| Err(format!("{what}: decide says {reason} {:?}", decision.route_name()));
    let Answer::Rule { route, rule, backends } = expected else {
        let expected = match expected {
            Answer::Default => "default_route",
            Answer::Passthrough => "passthrough",
            _ => "no_route",
        };
        return if reason == expected { Ok(()) } else { wrong("another outcome") };
    };
    if decision.route_name() != Some(format!("{route}#{rule}")) {
        return wrong("another rule");
    }
    let Some(chosen) = decision.backend_index() else {
        let all_zero = backends.len() > 1 && backends.iter().all(|b| b.weight == 0);
        return if all_zero && reason == "dead_rule" { Ok(()) } else { wrong("no backend") };
    };
    let backend = &backends[chosen as usize];
    let subset = decision.backend().and_then(|b| b.subset.as_deref());
    if backend.weight == 0 && backends.len() > 1 {
        wrong("a backend of weight 0")
    } else if backend.subset.as_deref() != subset {
        wrong("another subset")
    } else if backend.reason != reason {
        wrong("another reason")
    } else {
        Ok(())
    }
}
