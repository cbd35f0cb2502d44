//! Random meshes, and requests and connections in them: what the naive matcher says of the users' objects
//! is what `decide` says of the view that a proxy would hold. `IRONMESH_ORACLE_MESHES` says how many
//! meshes, 500 if it is not set.

use std::collections::{BTreeMap, HashMap};

use ironmesh_dialects::{Object, translate};
use ironmesh_model::service::Protocol;
use ironmesh_model::settings::Settings;
use ironmesh_model::{Decision, Draw, Plan, Snapshot};
use ironmesh_testkit::deciding::{connect_on, decide_on, location};
use ironmesh_testkit::fields::Decisive;
use ironmesh_testkit::naive::connections::{Connection, Met, Outcome};
use ironmesh_testkit::naive::{Answer, Backend, Mesh, Patterns, Request};
use ironmesh_testkit::random::{self, Random};
use serde_json::Value;

/// Meshes of each run, unless it is said otherwise.
const MESHES: u64 = 500;
const REQUESTS: u64 = 20;
const LARGE_MESHES: u64 = 6;
const RULES: usize = 2_000;

/// In how many meshes each field has to decide something: 100 of 5 000, and a few may have less luck
/// than many.
fn decisive() -> usize {
    let meshes = usize::try_from(random::meshes(MESHES)).unwrap();
    if meshes < 5_000 { meshes / 100 } else { meshes / 50 }
}

/// What of the objects decides about requests.
const OF_REQUESTS: &[&str] = &[
    "VirtualService spec.exportTo",
    "VirtualService spec.gateways",
    "VirtualService spec.http[].match",
    "VirtualService spec.http[].match[].uri",
    "VirtualService spec.http[].match[].ignoreUriCase",
    "VirtualService spec.http[].match[].method",
    "VirtualService spec.http[].match[].scheme",
    "VirtualService spec.http[].match[].authority",
    "VirtualService spec.http[].match[].headers",
    "VirtualService spec.http[].match[].withoutHeaders",
    "VirtualService spec.http[].match[].queryParams",
    "VirtualService spec.http[].match[].sourceLabels",
    "VirtualService spec.http[].match[].sourceNamespace",
    "VirtualService spec.http[].match[].gateways",
    "VirtualService spec.http[].match[].port",
    "VirtualService spec.http[].route[].weight",
    "VirtualService spec.http[].route[].destination.subset",
    "VirtualService spec.http[].route[].destination.port",
    "VirtualService spec.http[].redirect.uri",
    "VirtualService spec.http[].redirect.authority",
    "VirtualService spec.http[].redirect.scheme",
    "VirtualService spec.http[].redirect.port",
    "VirtualService spec.http[].redirect.derivePort",
    "VirtualService spec.http[].fault",
    "VirtualService spec.http[].fault.abort.percentage",
    "VirtualService spec.http[].corsPolicy",
    "VirtualService spec.http[].corsPolicy.unmatchedPreflights",
    "DestinationRule spec.exportTo",
    "DestinationRule spec.subsets",
];

/// What of the objects decides about connections.
const OF_CONNECTIONS: &[&str] = &[
    "VirtualService spec.exportTo",
    "VirtualService spec.gateways",
    "VirtualService spec.tls",
    "VirtualService spec.tls[].match[].sniHosts",
    "VirtualService spec.tls[].match[].port",
    "VirtualService spec.tls[].match[].sourceLabels",
    "VirtualService spec.tls[].match[].sourceNamespace",
    "VirtualService spec.tls[].match[].gateways",
    "VirtualService spec.tls[].match[].destinationSubnets",
    "VirtualService spec.tls[].route[].weight",
    "VirtualService spec.tls[].route[].destination.subset",
    "VirtualService spec.tls[].route[].destination.port",
    "VirtualService spec.tcp",
    "VirtualService spec.tcp[].match",
    "VirtualService spec.tcp[].match[].port",
    "VirtualService spec.tcp[].match[].sourceLabels",
    "VirtualService spec.tcp[].match[].sourceNamespace",
    "VirtualService spec.tcp[].match[].gateways",
    "VirtualService spec.tcp[].match[].destinationSubnets",
    "VirtualService spec.tcp[].route[].weight",
    "VirtualService spec.tcp[].route[].destination.subset",
    "VirtualService spec.tcp[].route[].destination.port",
    "DestinationRule spec.exportTo",
    "DestinationRule spec.subsets",
    "ServiceEntry spec.addresses",
    "ServiceEntry spec.exportTo",
    "Sidecar spec.workloadSelector",
    "Sidecar spec.egress",
    "Sidecar spec.egress[].port",
    "Sidecar spec.ingress",
    "Sidecar spec.ingress[].defaultEndpoint",
    "Sidecar spec.outboundTrafficPolicy",
];

#[test]
fn decide_agrees_with_the_naive_matcher() {
    let mut seen = BTreeMap::new();
    let mut fields = Decisive::of(OF_REQUESTS, decisive());
    let patterns = Patterns::default();
    for seed in 0..random::meshes(MESHES) {
        let mut random = Random(seed);
        let mesh = random::mesh(&mut random);
        let snapshot = snapshot_of(&mesh);
        let mut views = HashMap::new();
        let requests: Vec<Request> = (0..REQUESTS).map(|_| random::request(&mut random)).collect();
        fields.count(&mesh, &requests, |objects, request| {
            Mesh { objects, patterns: &patterns }.answer(request)
        });
        for (number, request) in (0..).zip(&requests) {
            let draw = Draw::of(&seed.to_be_bytes(), b"hop", number);
            let decision = decide_on(&snapshot, &mut views, request, draw);
            let expected = Mesh { objects: &mesh, patterns: &patterns }.answer(request);
            *seen.entry(decision.reason.code()).or_insert(0) += 1;
            if let Err(why) = agree(&decision, request, &expected) {
                let mesh = serde_json::to_string_pretty(&Value::Array(mesh)).unwrap();
                panic!(
                    "seed {seed}, request {number}: {why}\nnaive: {expected:?}\n{request:#?}\n{mesh}"
                );
            }
        }
    }
    fields.check();
    // Every outcome must have come up often enough to mean something.
    for (reason, least) in [
        ("route", 100),
        ("default_route", 100),
        ("passthrough", 100),
        ("no_route", 100),
        ("undefined_subset", 100),
        ("unknown_destination", 100),
        ("redirect", 40),
        ("direct_response", 40),
        ("fault_abort", 40),
        ("preflight", 15),
    ] {
        assert!(seen.get(reason).is_some_and(|count| *count >= least), "{reason}: {seen:?}");
    }
}

#[test]
fn decide_agrees_with_the_naive_matcher_on_connections() {
    let mut seen = BTreeMap::new();
    let mut fields = Decisive::of(OF_CONNECTIONS, decisive());
    let patterns = Patterns::default();
    for seed in 0..random::meshes(MESHES) {
        let mut random = Random(seed);
        let mesh = random::connected_mesh(&mut random);
        let snapshot = snapshot_of(&mesh);
        let mut views = HashMap::new();
        let connections: Vec<Connection> =
            (0..REQUESTS).map(|_| random::connection(&mut random)).collect();
        fields.count(&mesh, &connections, |objects, connection| {
            Mesh { objects, patterns: &patterns }.connected(connection, false)
        });
        for (number, connection) in (0..).zip(&connections) {
            let draw = Draw::of(&seed.to_be_bytes(), b"hop", number);
            let decision = connect_on(&snapshot, &mut views, connection, draw);
            let mesh_of = Mesh { objects: &mesh, patterns: &patterns };
            let expected = mesh_of.connected(connection, false);
            *seen.entry((connection.met, decision.reason.code())).or_insert(0) += 1;
            if let Err(why) = agree_on_connection(&decision, connection, &expected) {
                let mesh = serde_json::to_string_pretty(&Value::Array(mesh)).unwrap();
                panic!(
                    "seed {seed}, connection {number}: {why}\nnaive: {expected:?}\n{connection:#?}\n{mesh}"
                );
            }
        }
    }
    fields.check();
    for (met, reason) in [
        (Met::Leaving, "route"),
        (Met::Leaving, "default_route"),
        (Met::Leaving, "passthrough"),
        (Met::Leaving, "blocked"),
        (Met::Leaving, "undefined_subset"),
        (Met::Leaving, "unknown_destination"),
        (Met::Entering, "inbound"),
        (Met::AtGateway, "route"),
        (Met::AtGateway, "no_route"),
        (Met::AtGateway, "no_server"),
        (Met::AtGateway, "unknown_destination"),
    ] {
        let count = seen.get(&(met, reason));
        assert!(count.is_some_and(|count| *count >= 30), "{met:?} {reason}: {seen:?}");
    }
}

/// The same with thousands of rules for a host, so that they are looked up by index.
#[test]
fn decide_agrees_with_the_naive_matcher_on_thousands_of_rules() {
    let (mut by_rule, mut by_none) = (0, 0);
    let patterns = Patterns::default();
    for seed in 0..LARGE_MESHES {
        let mut random = Random(seed);
        let mesh = random::large_mesh(&mut random, RULES);
        let snapshot = snapshot_of(&mesh);
        let mut views = HashMap::new();
        for number in 0..2 * REQUESTS {
            let request = random::near_request(&mut random, &mesh);
            let decision = decide_on(&snapshot, &mut views, &request, Draw(number));
            let expected = Mesh { objects: &mesh, patterns: &patterns }.answer(&request);
            agree(&decision, &request, &expected).unwrap_or_else(|why| {
                panic!("seed {seed}, request {number}: {why}\nnaive: {expected:?}\n{request:#?}")
            });
            *if decision.rule.is_some() { &mut by_rule } else { &mut by_none } += 1;
        }
    }
    assert!(by_rule > 50 && by_none > 20, "{by_rule} by a rule, {by_none} by none");
}

fn snapshot_of(mesh: &[Value]) -> Snapshot {
    let objects: Vec<Object> = mesh.iter().map(|o| Object::new(o.clone()).unwrap()).collect();
    Snapshot::new(translate(&objects, &Settings::default()).objects).0
}

fn agree(decision: &Decision, request: &Request, expected: &Answer) -> Result<(), String> {
    let reason = decision.reason.code();
    let wrong =
        |what: &str| Err(format!("{what}: decide says {reason} {:?}", decision.route_name()));
    if let Answer::Own { route, rule, status, reason: expected, location: place } = expected {
        let given = match decision.plan {
            Plan::Answer(given) => u64::from(given),
            _ => 0,
        };
        return if (reason, given) != (*expected, *status) {
            wrong("another answer")
        } else if decision.route_name() != Some(format!("{route}#{rule}")) {
            wrong("another rule")
        } else if location(decision, request) != *place {
            Err(format!("another place: decide says {:?}", location(decision, request)))
        } else {
            Ok(())
        };
    }
    let Answer::Rule { route, rule, backends } = expected else {
        let expected = match expected {
            Answer::Default => "default_route",
            Answer::Passthrough => "passthrough",
            _ => "no_route",
        };
        return if reason == expected { Ok(()) } else { wrong("another outcome") };
    };
    agree_on_backend(decision, &format!("{route}#{rule}"), backends)
}

fn agree_on_connection(
    decision: &Decision,
    connection: &Connection,
    expected: &Outcome,
) -> Result<(), String> {
    let reason = decision.reason.code();
    let wrong = || {
        let to = decision.backend().map(|backend| &*backend.host);
        Err(format!("decide says {reason} {:?} {to:?}", decision.route_name()))
    };
    let is_right = match expected {
        Outcome::Rule { rule, backends } => return agree_on_backend(decision, rule, backends),
        Outcome::Service(host) => {
            reason == "default_route" && decision.backend().is_some_and(|to| *to.host == **host)
        }
        Outcome::Passthrough => reason == "passthrough",
        Outcome::Refused(expected) => reason == *expected,
        Outcome::Workload { to, protocol } => {
            let spoken = decision.protocol();
            let spoken = if spoken == Protocol::Undeclared { "" } else { spoken.word() };
            let protocol = protocol.replace("https", "tls");
            decision.at_workload(connection.destination) == *to && spoken == protocol
        }
    };
    if is_right { Ok(()) } else { wrong() }
}

fn agree_on_backend(decision: &Decision, rule: &str, backends: &[Backend]) -> Result<(), String> {
    let reason = decision.reason.code();
    let wrong =
        |what: &str| Err(format!("{what}: decide says {reason} {:?}", decision.route_name()));
    if decision.route_name().as_deref() != Some(rule) {
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
