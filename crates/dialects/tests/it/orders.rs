//! In which order objects arrive says nothing: those of one second are put in order by their names.

use std::collections::{BTreeMap, HashMap};

use ironmesh_dialects::{Join, Object, translate, translate_one};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Subscriber;
use ironmesh_model::{Draw, Resource, ResourceKey, Snapshot};
use ironmesh_testkit::deciding::decide_on;
use ironmesh_testkit::random::{self, Random};
use serde_json::{Value, json};

const ORDERS: u64 = 100;
const REQUESTS: u64 = 60;

/// All that the proxies of some requests hold, and what becomes of these.
type Seen = (BTreeMap<(String, ResourceKey), Resource>, Vec<String>);

#[test]
fn objects_of_one_second_mean_the_same_in_every_order() {
    for seed in 0..2 {
        let mut objects = world(&mut Random(seed));
        assert!(objects.len() >= 40, "{}", objects.len());
        let first = at_once(&objects, seed);
        assert!(first.0.len() >= 20, "{:?}", first.0.keys());
        for order in 0..ORDERS {
            let mut random = Random(1_000 + order);
            for at in 1..objects.len() {
                objects.swap(at, random.below(at + 1));
            }
            let again = match order % 2 {
                0 => at_once(&objects, seed),
                _ => one_by_one(&objects, seed),
            };
            assert!(again.0 == first.0, "seed {seed}, order {order}");
            assert_eq!(again.1, first.1, "seed {seed}, order {order}");
        }
    }
}

fn at_once(objects: &[Value], seed: u64) -> Seen {
    let objects: Vec<Object> = objects.iter().map(|o| Object::new(o.clone()).unwrap()).collect();
    seen(&Snapshot::new(translate(&objects, &Settings::default()).objects).0, seed)
}

fn one_by_one(objects: &[Value], seed: u64) -> Seen {
    let (mut join, edits) = Join::new(Settings::default());
    let mut snapshot = Snapshot::default().edited(edits).0;
    for (key, object) in objects.iter().enumerate() {
        let edits = join.put(key, translate_one(&Object::new(object.clone()).unwrap()));
        snapshot = snapshot.edited(edits).0;
    }
    seen(&snapshot, seed)
}

fn seen(snapshot: &Snapshot, seed: u64) -> Seen {
    let mut views = HashMap::new();
    let mut random = Random(77 + seed);
    let decided = (0..REQUESTS).map(|number| {
        let request = random::request(&mut random);
        let draw = Draw::of(&seed.to_be_bytes(), b"hop", number);
        let decision = decide_on(snapshot, &mut views, &request, draw);
        format!("{:?} {:?}", decision.reason, decision.route_name())
    });
    let decided = decided.collect();
    let held = views.iter().flat_map(|(subscriber, view)| {
        let of = |subscriber: &Subscriber| format!("{subscriber:?}");
        let held = view.held().filter_map(move |(key, held)| {
            Some(((of(subscriber), key.clone()), held.resource.clone()?))
        });
        held.collect::<Vec<_>>()
    });
    (held.collect(), decided)
}

/// Objects of every kind of which several may claim one thing, all of one second.
fn world(random: &mut Random) -> Vec<Value> {
    let mut objects = random::mesh(random);
    let networking = |kind: &str, name: String, spec: Value| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": kind,
            "metadata": {"name": name, "namespace": "a"}, "spec": spec,
        })
    };
    for n in 0..6 {
        let version = format!("v{n}");
        objects.push(networking(
            "DestinationRule",
            format!("rule-{n}"),
            json!({
                "host": "x",
                "trafficPolicy": {"connectionPool": {"http": {"http1MaxPendingRequests": n + 1}}},
                "subsets": [{"name": version, "labels": {"version": version}}, {"name": "v1"}],
            }),
        ));
        objects.push(networking("VirtualService", format!("route-{n}"), json!({
            "hosts": ["x"], "http": [{"name": version, "route": [{"destination": {"host": "y"}}]}],
        })));
        objects.push(networking(
            "ServiceEntry",
            format!("entry-{n}"),
            json!({
                "hosts": ["outside.test"], "resolution": "STATIC",
                "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
                "endpoints": [{"address": format!("192.0.2.{}", n + 1)}],
            }),
        ));
        objects.push(networking("Gateway", format!("gate-{n}"), json!({
            "selector": {"istio": "ingressgateway"},
            "servers": [{
                "port": {"number": 80, "name": "http", "protocol": if n % 2 == 0 { "HTTP" } else { "TCP" }},
                "hosts": ["*"],
            }],
        })));
        objects.push(networking(
            "Sidecar",
            format!("sidecar-{n}"),
            json!({
                "egress": [{"hosts": [if n % 2 == 0 { "./*" } else { "*/*" }]}],
            }),
        ));
        objects.push(json!({
            "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": format!("peers-{n}"), "namespace": "a"},
            "spec": {"mtls": {"mode": if n % 2 == 0 { "STRICT" } else { "PERMISSIVE" }}},
        }));
    }
    for object in &mut objects {
        object["metadata"]["creationTimestamp"] = json!("2024-01-01T00:00:00Z");
    }
    objects
}
