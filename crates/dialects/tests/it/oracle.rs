//! Ten thousand random pairs of a mesh and a request: what the naive matcher says of the users' objects is
//! what `decide` says of the view that a proxy would hold.

use std::collections::{BTreeMap, HashMap};

use ironmesh_dialects::{Object, translate};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Decision, Draw, Plan, Snapshot};
use ironmesh_testkit::deciding::{decide_on, location};
use ironmesh_testkit::naive::{Answer, Mesh, Patterns, Request};
use ironmesh_testkit::random::{self, Random};
use serde_json::Value;

const MESHES: u64 = 500;
const REQUESTS: u64 = 20;
const LARGE_MESHES: u64 = 6;
const RULES: usize = 2_000;

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
            if let Err(why) = agree(&decision, &request, &expected) {
                let mesh = serde_json::to_string_pretty(&Value::Array(mesh)).unwrap();
                panic!(
                    "seed {seed}, request {number}: {why}\nnaive: {expected:?}\n{request:#?}\n{mesh}"
                );
            }
        }
    }
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

/// The same with thousands of rules for a host, so that they are looked up by index.
#[test]
fn decide_agrees_with_the_naive_matcher_on_thousands_of_rules() {
    let (mut by_rule, mut by_none) = (0, 0);
    let patterns = Patterns::default();
    for seed in 0..LARGE_MESHES {
        let mut random = Random(seed);
        let mesh = random::large_mesh(&mut random, RULES);
        let objects: Vec<Object> = mesh.iter().map(|o| Object::new(o.clone()).unwrap()).collect();
        let (snapshot, _) = Snapshot::new(translate(&objects, &Settings::default()).objects);
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
