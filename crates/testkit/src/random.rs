//! Seeded random meshes and requests, from a vocabulary small enough that they often collide.

use serde_json::{Map, Value, json};

use crate::naive::Request;

mod connections;
mod large;

pub use connections::{connected_mesh, connection};
pub use large::{large_mesh, near_request};

/// A sequence of numbers that depends on its seed alone (SplitMix64).
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    /// True in one of `n` cases.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn some_of(&mut self, choices: &[&str], most: usize) -> Vec<String> {
        let mut out = Vec::new();
        for _ in 0..1 + self.below(most) {
            let choice = self.of(choices).to_owned();
            if !out.contains(&choice) {
                out.push(choice);
            }
        }
        out
    }

    /// Hosts of one route, of which no two have a host in common, as Istio demands.
    fn hosts_of(&mut self, choices: &[&str], most: usize) -> Vec<String> {
        let mut hosts: Vec<String> = Vec::new();
        for host in self.some_of(choices, most) {
            if !hosts.iter().any(|other| is_within(other, &host) || is_within(&host, other)) {
                hosts.push(host);
            }
        }
        hosts
    }
}

/// Whether a domain has a host, or another domain.
fn is_within(domain: &str, host: &str) -> bool {
    domain.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix))
}

/// How many meshes a run makes: what `IRONMESH_ORACLE_MESHES` says, or else this.
///
/// # Panics
///
/// If it says no number.
pub fn meshes(unless_said: u64) -> u64 {
    let said = std::env::var("IRONMESH_ORACLE_MESHES").ok();
    said.map_or(unless_said, |number| number.parse().expect("IRONMESH_ORACLE_MESHES is a number"))
}

const NAMESPACES: &[&str] = &["a", "b"];
const SERVICES: &[&str] = &["x", "y"];

/// The objects of a mesh: services, pods, gateways, routes and subsets.
pub fn mesh(random: &mut Random) -> Vec<Value> {
    let mut objects = Vec::new();
    for (n, namespace) in NAMESPACES.iter().enumerate() {
        for (s, name) in SERVICES.iter().enumerate() {
            if random.one_in(8) {
                continue;
            }
            let mut ports = vec![json!({ "name": "http", "port": 80, "targetPort": 8000 })];
            if random.one_in(3) {
                ports.push(json!({ "name": "http-b", "port": 8080 }));
            }
            let mut service = object("v1", "Service", namespace, name, 0);
            service["spec"] = json!({
                "clusterIP": format!("10.96.{n}.{s}"),
                "selector": { "app": name },
                "ports": ports,
            });
            objects.push(service);
            for version in ["v1", "v2"] {
                objects.push(pod(namespace, name, version, (n * 8 + s * 4, version)));
            }
        }
    }
    for at in 0..1 + random.below(4) {
        objects.push(destination_rule(random, at));
    }
    for at in 0..1 + random.below(2) {
        objects.push(gateway(random, at));
    }
    for at in 0..1 + random.below(5) {
        objects.push(virtual_service(random, at));
    }
    // The order of the objects must make no difference.
    for at in 1..objects.len() {
        objects.swap(at, random.below(at + 1));
    }
    objects
}

fn object(api: &str, kind: &str, namespace: &str, name: &str, age: usize) -> Value {
    json!({
        "apiVersion": api,
        "kind": kind,
        "metadata": {
            "namespace": namespace,
            "name": name,
            "creationTimestamp": format!("2024-01-01T00:00:0{age}Z"),
        },
    })
}

fn pod(namespace: &str, app: &str, version: &str, (octet, _): (usize, &str)) -> Value {
    let mut pod = object("v1", "Pod", namespace, &format!("{app}-{version}"), 0);
    pod["metadata"]["labels"] = json!({ "app": app, "version": version });
    pod["spec"] = json!({ "containers": [{ "name": "c" }] });
    pod["status"] = json!({
        "phase": "Running",
        "podIP": format!("10.77.{octet}.{}", if version == "v1" { 1 } else { 2 }),
        "conditions": [{ "type": "Ready", "status": "True" }],
    });
    pod
}

fn destination_rule(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(&["a", "b", "istio-system"]);
    let mut rule = object(
        "networking.istio.io/v1",
        "DestinationRule",
        namespace,
        &format!("d{at}"),
        random.below(3),
    );
    let host = random.of(&["x", "y", "x.a.svc.cluster.local", "*.a.svc.cluster.local"]);
    let subsets: Vec<Value> = random
        .some_of(&["v1", "v2"], 2)
        .into_iter()
        .map(|version| json!({ "name": version.as_str(), "labels": { "version": version.as_str() } }))
        .collect();
    rule["spec"] = json!({ "host": host, "subsets": subsets });
    if random.one_in(2) {
        rule["spec"]["exportTo"] = json!(["."]);
    }
    rule
}

fn gateway(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(NAMESPACES);
    let mut gateway =
        object("networking.istio.io/v1", "Gateway", namespace, &format!("gw{at}"), random.below(3));
    let servers: Vec<Value> = (0..1 + random.below(2))
        .map(|_| {
            let number = [80, 80, 8080, 9080][random.below(4)];
            let hosts = random.some_of(
                &["*", "*.example.com", "shop.example.com", "a/shop.example.com", "b/*", "other.com"],
                2,
            );
            json!({ "port": { "number": number, "name": "http", "protocol": "HTTP" }, "hosts": hosts })
        })
        .collect();
    gateway["spec"] = json!({ "selector": { "istio": "ingressgateway" }, "servers": servers });
    gateway
}

fn virtual_service(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(NAMESPACES);
    let name = format!("r{at}");
    let mut route =
        object("networking.istio.io/v1", "VirtualService", namespace, &name, random.below(3));
    let hosts = random.hosts_of(
        &[
            "x",
            "y",
            "x.a.svc.cluster.local",
            "*",
            "*.example.com",
            "shop.example.com",
            "*.shop.example.com",
            "*.svc.cluster.local",
            "*-b.example.com",
        ],
        2,
    );
    let rules: Vec<Value> = (0..1 + random.below(4)).map(|_| rule(random)).collect();
    // Istio takes no route for every host inside the mesh.
    let for_all = hosts.iter().any(|host| host == "*");
    route["spec"] = json!({ "hosts": hosts, "http": rules });
    if for_all {
        route["spec"]["gateways"] =
            json!(random.some_of(&["gw0", "gw1", "a/gw0", "b/gw0", "b/gw1"], 3));
    } else if !random.one_in(3) {
        route["spec"]["gateways"] =
            json!(random.some_of(&["mesh", "gw0", "gw1", "a/gw0", "b/gw0", "b/gw1"], 3));
    }
    if random.one_in(6) {
        route["spec"]["exportTo"] = json!([random.of(&[".", "*", "a", "istio-system"])]);
    }
    route
}

fn rule(random: &mut Random) -> Value {
    let mut rule = json!({});
    let alternatives: Vec<Value> = (0..random.below(4)).map(|_| condition(random)).collect();
    if !alternatives.is_empty() {
        rule["match"] = json!(alternatives);
    }
    let weighted = !random.one_in(6);
    let backends: Vec<Value> = (0..1 + random.below(3))
        .map(|_| {
            let host = random.of(&["x", "y", "x.a.svc.cluster.local", "y.b.svc.cluster.local"]);
            let mut destination = json!({ "host": host });
            if random.one_in(2) {
                destination["subset"] = json!(random.of(&["v1", "v2"]));
            }
            if random.one_in(4) {
                destination["port"] = json!({ "number": if random.one_in(2) { 80 } else { 8080 } });
            }
            match weighted {
                true => json!({ "destination": destination, "weight": random.below(4) * 25 }),
                false => json!({ "destination": destination }),
            }
        })
        .collect();
    match random.below(7) {
        0 => rule["redirect"] = redirect(random),
        1 => rule["directResponse"] = json!({ "status": 200 + random.below(400) }),
        _ => {
            rule["route"] = json!(backends);
            if random.one_in(6) {
                let percentage = json!({ "value": if random.one_in(2) { 100 } else { 0 } });
                let status = 400 + random.below(200);
                rule["fault"] =
                    json!({ "abort": { "httpStatus": status, "percentage": percentage } });
            }
        }
    }
    if random.one_in(2) {
        rule["corsPolicy"] = json!({ "allowOrigins": [match random.below(3) {
            0 => json!({ "exact": "*" }),
            1 => json!({ "exact": "https://a.example" }),
            _ => json!({ "prefix": "https://" }),
        }] });
        if random.one_in(2) {
            rule["corsPolicy"]["unmatchedPreflights"] = json!("IGNORE");
        }
    }
    rule
}

fn redirect(random: &mut Random) -> Value {
    let mut redirect = json!({ "redirectCode": 301 + random.below(3) });
    // At least one of them, each as often as not.
    let first = random.below(4);
    for (at, (name, value)) in [
        ("uri", json!(random.of(&["/new", "/new?own=1", "/"]))),
        ("authority", json!(random.of(&["new.example", "new.example:8443"]))),
        ("scheme", json!(random.of(&["http", "https"]))),
        ("port", json!([80, 443, 8443][random.below(3)])),
    ]
    .into_iter()
    .enumerate()
    {
        if at == first || (name != "port" && random.one_in(2)) {
            redirect[name] = value;
        }
    }
    if redirect.get("port").is_none() && !random.one_in(3) {
        redirect["derivePort"] = json!("FROM_REQUEST_PORT");
    }
    redirect
}

fn condition(random: &mut Random) -> Value {
    let mut out = Map::new();
    let mut add = |name: &str, value: Value| out.insert(name.to_owned(), value);
    if !random.one_in(4) {
        add("uri", text(random, &["/", "/a", "/a/b", "/A", "/static", "/hello"], "/a/?.*|/b"));
    }
    if random.one_in(4) {
        add("uri", text(random, &["/A", "/STATIC", "/Hello"], "/a/?.*|/b"));
        add("ignoreUriCase", json!(true));
    }
    if random.one_in(6) {
        add("method", text(random, &["GET", "POST"], "GET|HEAD"));
    }
    if random.one_in(6) {
        add("scheme", text(random, &["http", "https"], "https?"));
    }
    if random.one_in(5) {
        add("authority", text(random, &["x", "x:80", "shop.example.com"], ".*\\.com(:\\d+)?"));
    }
    if random.one_in(4) {
        let of = random.of(&["cookie", "X-User"]);
        add("headers", json!({ of: header(random) }));
    }
    if random.one_in(5) {
        add("withoutHeaders", json!({ "x-user": header(random) }));
    }
    if random.one_in(6) {
        add("queryParams", json!({ random.of(&["q", "r"]): header(random) }));
    }
    if random.one_in(5) {
        add("sourceLabels", json!({ "version": random.of(&["v1", "v2"]) }));
    }
    if random.one_in(8) {
        add("sourceNamespace", json!(random.of(&["a", "b", "istio-system"])));
    }
    if random.one_in(6) {
        add("gateways", json!(random.some_of(&["mesh", "gw0", "a/gw0", "b/gw1"], 2)));
    }
    if random.one_in(4) {
        add("port", json!([80, 8080, 9080][random.below(3)]));
    }
    Value::Object(out)
}

fn text(random: &mut Random, words: &[&str], regex: &str) -> Value {
    match random.below(16) {
        0..=6 => json!({ "exact": random.of(words) }),
        7..=13 => json!({ "prefix": random.of(words) }),
        14 => json!({ "regex": regex }),
        _ => json!({ "regex": random.of(&["*", "(?=x)", ".*", "[a", "^(.*?;)?(u=t)(;.*)?$"]) }),
    }
}

fn header(random: &mut Random) -> Value {
    if random.one_in(4) { json!({}) } else { text(random, &["t", "u=t", "tom"], "t.*|u=t") }
}

/// A request to such a mesh.
pub fn request(random: &mut Random) -> Request {
    let at_gateway = random.one_in(2);
    let hosts: &[&str] = &[
        "x",
        "y",
        "X:80",
        "x.a",
        "y.b.svc",
        "x.a.svc.cluster.local",
        "x.b.svc.cluster.local.",
        "shop.example.com",
        "Shop.Example.com:8080",
        "www.shop.example.com",
        "x-b.example.com",
        "example.com",
        "other.com",
        "nowhere",
    ];
    let mut headers = Vec::new();
    for _ in 0..random.below(4) {
        let name = random.of(&["cookie", "x-user", "Cookie", "X-USER", "accept"]).to_owned();
        headers.push((name, random.of(&["t", "u=t", "tom", "a=b;u=t", ""]).to_owned()));
    }
    let method = random.of(&["GET", "POST", "HEAD", "OPTIONS", "OPTIONS"]);
    if method == "OPTIONS" || random.one_in(2) {
        let origin = random.of(&["https://a.example", "https://b.example", "http://a.example"]);
        headers.push(("Origin".to_owned(), origin.to_owned()));
    }
    if method == "OPTIONS" && !random.one_in(4) {
        headers.push(("access-control-request-method".to_owned(), "PUT".to_owned()));
    }
    let path = random.of(&[
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/A/B",
        "/ab",
        "/static/x",
        "/hello",
        "/a/../hello",
        "/./a",
        "/%61",
        "/a%2fb",
        "/a/%2e%2e/b",
        "/b",
        "/a//b",
        "/a/.",
    ]);
    let query =
        random.of(&["", "", "?q=t", "?r=u=t&q=tom", "?q", "?x=/hello", "?q=%74", "?%71=t&r=t+m"]);
    Request {
        at_gateway,
        namespace: if at_gateway { "istio-system" } else { random.of(NAMESPACES) }.to_owned(),
        labels: match at_gateway {
            true => vec![("istio".to_owned(), "ingressgateway".to_owned())],
            false => vec![("version".to_owned(), random.of(&["v1", "v2", "v3"]).to_owned())],
        },
        port: match random.one_in(3) {
            true if at_gateway => 9080,
            true => 8080,
            false => 80,
        },
        method: method.to_owned(),
        scheme: random.of(&["http", "https"]).to_owned(),
        authority: random.of(hosts).to_owned(),
        target: format!("{path}{query}"),
        headers,
    }
}
