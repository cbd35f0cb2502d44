//! Edits of every traffic kind break nothing.

use serde_json::{Value, json};

use super::mesh::Stage;
use super::routing::Load;
use super::{Options, ensure, fact};

const EDITS: u32 = 1_000;
/// Each has three more requests behind it.
const LOADS_PER_SECOND: u64 = 125;
const SERVICES: [&str; 4] = ["productpage", "reviews", "ratings", "details"];

/// 1 000 edits of whatever says where requests go, under 500 requests/s: none is lost.
pub(super) fn all_kinds(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&[])?;
    mesh.wait_ready("default", 6)?;
    let mut chance = Chance(7);
    for service in SERVICES {
        stage.apply(&destination_rule(&mut chance, service).to_string())?;
        stage.apply(&virtual_service(&mut chance, service).to_string())?;
    }
    let load = Load::start(mesh.gateway, LOADS_PER_SECOND);
    for _ in 0..EDITS {
        stage.apply(&any_object(&mut chance).to_string())?;
    }
    let (loads, broken, took) = load.stop()?;
    fact(format!("{loads} loads in {took:?} under {EDITS} edits, {broken} broken"));
    // Single attempts may fail; then another follows, and whoever asked sees nothing of it.
    ensure(broken == 0, || "a page was broken".to_owned())?;
    mesh.stop()
}

/// Numbers that are the same each time (a linear congruential generator, by Knuth's constants).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize].clone()
    }
}

fn any_object(chance: &mut Chance) -> Value {
    let service = chance.of(&SERVICES);
    match chance.below(8) {
        0 | 1 => virtual_service(chance, service),
        2 | 3 => destination_rule(chance, service),
        4 => gateway(chance),
        5 => service_entry(chance),
        6 => sidecar(chance),
        _ => own_service(chance, service),
    }
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

fn virtual_service(chance: &mut Chance, host: &str) -> Value {
    let versions: &[&str] = if host == "reviews" { &["v1", "v2", "v3"] } else { &["v1"] };
    let weighted = versions.iter().map(|version| {
        json!({"destination": {"host": host, "subset": version}, "weight": 1 + chance.below(50)})
    });
    let mut rule = json!({"route": weighted.collect::<Vec<_>>()});
    if chance.one_in(2) {
        rule["retries"] = json!({"attempts": 1 + chance.below(3), "retryOn": "5xx,reset"});
    }
    if chance.one_in(2) {
        rule["timeout"] = json!("20s");
    }
    if chance.one_in(3) {
        let set = json!({"x-number": chance.below(99).to_string()});
        rule["headers"] = json!({"request": {"set": set}, "response": {"remove": ["x-nothing"]}});
    }
    if chance.one_in(4) {
        rule["mirrors"] = json!([{"destination": {"host": host}, "percentage": {"value": 10}}]);
    }
    let mut rules = vec![rule];
    if chance.one_in(2) {
        let mut special = rules[0].clone();
        let user = format!("u{}", chance.below(9));
        special["match"] = json!([{"headers": {"end-user": {"exact": user}}}]);
        rules.insert(0, special);
    }
    object("VirtualService", host, json!({"hosts": [host], "http": rules}))
}

fn destination_rule(chance: &mut Chance, host: &str) -> Value {
    let mut policy = json!({"loadBalancer": chance.of(&[
        json!({"simple": "ROUND_ROBIN"}),
        json!({"simple": "RANDOM"}),
        json!({"simple": "LEAST_REQUEST", "warmup": {"duration": "5s"}}),
        json!({"consistentHash": {"httpHeaderName": "x-request-id"}}),
        json!({"consistentHash": {"httpCookie": {"name": "c", "ttl": "0s"}, "maglev": {"tableSize": 1009}}}),
    ])});
    if chance.one_in(2) {
        policy["connectionPool"] = json!({
            "tcp": {"maxConnections": 500, "connectTimeout": "5s"},
            "http": {
                "http2MaxRequests": 500,
                "maxRequestsPerConnection": chance.of(&[0, 1, 5]),
                "h2UpgradePolicy": chance.of(&["UPGRADE", "DO_NOT_UPGRADE"]),
            },
        });
    }
    if chance.one_in(2) {
        policy["outlierDetection"] = json!({"consecutive5xxErrors": 5, "interval": "1s"});
    }
    if chance.one_in(3) {
        policy["tls"] = json!({"mode": "ISTIO_MUTUAL"});
    }
    if chance.one_in(3) {
        policy["portLevelSettings"] =
            json!([{"port": {"number": 9080}, "loadBalancer": {"simple": "RANDOM"}}]);
    }
    let subset = |version: &&str| json!({"name": version, "labels": {"version": version}});
    let subsets: Vec<Value> = ["v1", "v2", "v3"].iter().map(subset).collect();
    object(
        "DestinationRule",
        host,
        json!({"host": host, "trafficPolicy": policy, "subsets": subsets}),
    )
}

fn gateway(chance: &mut Chance) -> Value {
    let http = |number: u64, host: &str| json!({"port": {"number": number, "name": format!("http-{number}"), "protocol": "HTTP"}, "hosts": [host]});
    let mut servers = vec![http(80, "*")];
    if chance.one_in(2) {
        servers.push(http(8_081 + chance.below(2), "a.test"));
    }
    let spec = json!({"selector": {"istio": "ingressgateway"}, "servers": servers});
    object("Gateway", "bookinfo-gateway", spec)
}

fn service_entry(chance: &mut Chance) -> Value {
    let address = format!("192.0.2.{}", 1 + chance.below(9));
    let spec = json!({
        "hosts": [format!("outside-{}.test", chance.below(9))],
        "resolution": "STATIC",
        "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
        "endpoints": [{"address": address}],
    });
    object("ServiceEntry", &format!("outside-{}", chance.below(5)), spec)
}

fn sidecar(chance: &mut Chance) -> Value {
    let hosts = chance.of(&[json!(["./*"]), json!(["*/*"]), json!(["./*", "istio-system/*"])]);
    let mode = chance.of(&["ALLOW_ANY", "REGISTRY_ONLY"]);
    let spec = json!({"egress": [{"hosts": hosts}], "outboundTrafficPolicy": {"mode": mode}});
    object("Sidecar", "default", spec)
}

fn own_service(chance: &mut Chance, name: &str) -> Value {
    let mut ports = vec![json!({"name": "http", "port": 9080})];
    if chance.one_in(2) {
        ports.push(json!({"name": "http-more", "port": 9081, "targetPort": 9080}));
    }
    let labels = json!({"app": name, "number": chance.below(99).to_string()});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"selector": {"app": name}, "ports": ports},
    })
}
