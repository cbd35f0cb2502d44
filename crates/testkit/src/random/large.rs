//! Meshes with thousands of rules, and requests that many of them are nearly for.

use serde_json::{Value, json};

use super::{Random, condition, object, request};
use crate::naive::Request;

/// A service `x` with one route of so many rules, and a host of a gateway with as many in up to 40
/// routes.
pub fn large_mesh(random: &mut Random, rules: usize) -> Vec<Value> {
    let mut service = object("v1", "Service", "a", "x", 0);
    service["spec"] =
        json!({ "clusterIP": "10.96.0.1", "ports": [{ "name": "http", "port": 80 }] });
    let mut gateway = object("networking.istio.io/v1", "Gateway", "istio-system", "gw0", 0);
    let server =
        json!({ "port": { "number": 80, "name": "http", "protocol": "HTTP" }, "hosts": ["*"] });
    gateway["spec"] = json!({ "selector": { "istio": "ingressgateway" }, "servers": [server] });
    let mut objects = vec![service, gateway];
    objects.push(route(random, "mesh", ("x", "mesh"), rules));
    let count = 1 + random.below(40);
    for at in 0..count {
        let host = ("shop.example.com", "istio-system/gw0");
        objects.push(route(random, &format!("g{at}"), host, rules.div_ceil(count)));
    }
    objects
}

fn route(random: &mut Random, name: &str, (host, gateway): (&str, &str), rules: usize) -> Value {
    let mut route = object("networking.istio.io/v1", "VirtualService", "a", name, random.below(3));
    let rules: Vec<Value> = (0..rules).map(|_| rule(random)).collect();
    route["spec"] = json!({ "hosts": [host], "gateways": [gateway], "http": rules });
    route
}

fn rule(random: &mut Random) -> Value {
    let alternatives: Vec<Value> = (0..1 + random.below(3)).map(|_| alternative(random)).collect();
    json!({ "match": alternatives, "route": [{ "destination": { "host": "x" } }] })
}

/// One that leaves something to those behind it.
fn alternative(random: &mut Random) -> Value {
    let mut alternative = condition(random);
    let is_narrow = alternative.get("uri").is_none() && alternative["headers"].is_object();
    if !is_narrow {
        let path = path(random);
        alternative["uri"] = match random.below(40) {
            0 => json!({ "regex": format!("{path}/?[a-c]*") }),
            1 => json!({ "regex": "(?=x)" }),
            2..20 => json!({ "prefix": format!("{path}/{}", segment(random)) }),
            _ => json!({ "exact": path }),
        };
    }
    alternative
}

fn path(random: &mut Random) -> String {
    (0..2 + random.below(3)).map(|_| format!("/{}", segment(random))).collect()
}

fn segment(random: &mut Random) -> &'static str {
    const SEGMENTS: &[&str] = &["a", "b", "c", "d", "e", "ab", "abc", "A", "B", "Ab", "a-b", "1"];
    SEGMENTS[random.below(SEGMENTS.len())]
}

/// A request to such a mesh, mostly for the path of a rule or one that differs a little.
pub fn near_request(random: &mut Random, mesh: &[Value]) -> Request {
    let at_gateway = random.one_in(2);
    let uris: Vec<&str> = mesh
        .iter()
        .filter(|object| object["kind"] == "VirtualService")
        .filter(|route| (route["spec"]["gateways"][0] == "mesh") != at_gateway)
        .flat_map(|route| route["spec"]["http"].as_array().into_iter().flatten())
        .flat_map(|rule| rule["match"].as_array().into_iter().flatten())
        .filter_map(|m| m["uri"]["exact"].as_str().or(m["uri"]["prefix"].as_str()))
        .collect();
    let uri = uris[random.below(uris.len())];
    let target = match random.below(8) {
        0..=2 => uri.to_owned(),
        3 => format!("{uri}/"),
        4 => format!("{uri}{}", path(random)),
        5 => uri.to_ascii_uppercase(),
        6 => uri[..uri.len() - 1].to_owned(),
        _ => path(random),
    };
    Request {
        at_gateway,
        namespace: if at_gateway { "istio-system" } else { "a" }.to_owned(),
        labels: match at_gateway {
            true => vec![("istio".to_owned(), "ingressgateway".to_owned())],
            false => vec![("version".to_owned(), random.of(&["v1", "v2", "v3"]).to_owned())],
        },
        port: 80,
        authority: if at_gateway { "shop.example.com" } else { "x" }.to_owned(),
        target,
        ..request(random)
    }
}
