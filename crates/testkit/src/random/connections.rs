//! Meshes whose rules are about connections, and connections to them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::{NAMESPACES, Random, SERVICES, destination_rule, object, pod};
use crate::naive::connections::{Connection, Met};

/// The address of a pod of [`connected_mesh`], by the numbers of its namespace, service and version.
fn pod_address((namespace, service, version): (usize, usize, usize)) -> IpAddr {
    let octet = u8::try_from(namespace * 8 + service * 4).unwrap();
    Ipv4Addr::new(10, 77, octet, u8::try_from(version + 1).unwrap()).into()
}

/// The objects of a mesh that passes bytes on: services, entries, gateways, rules, Sidecars.
pub fn connected_mesh(random: &mut Random) -> Vec<Value> {
    let mut objects = Vec::new();
    for (n, namespace) in NAMESPACES.iter().enumerate() {
        for (s, name) in SERVICES.iter().enumerate() {
            let mut ports = vec![json!({ "name": "tcp", "port": 9000, "targetPort": 9001 })];
            if !random.one_in(8) {
                let word = random.of(&["tls", "https-web"]);
                ports.push(json!({ "name": word, "port": 443, "targetPort": 9443 }));
            }
            if random.one_in(3) {
                ports.push(json!({ "name": "tcp-b", "port": 9100 }));
            }
            let mut service = object("v1", "Service", namespace, name, 0);
            service["spec"] = json!({
                "clusterIP": format!("10.96.{n}.{s}"), "selector": { "app": name }, "ports": ports,
            });
            objects.push(service);
            for version in ["v1", "v2"] {
                objects.push(pod(namespace, name, version, (n * 8 + s * 4, version)));
            }
        }
    }
    for at in 0..1 + random.below(5) {
        objects.push(destination_rule(random, at));
    }
    for at in 0..random.below(4) {
        objects.push(entry(random, at));
    }
    for at in 0..1 + random.below(2) {
        objects.push(gateway(random, at));
    }
    for at in 0..2 + random.below(5) {
        objects.push(virtual_service(random, at));
    }
    for at in 0..random.below(3) {
        objects.push(sidecar(random, at));
    }
    for at in 1..objects.len() {
        objects.swap(at, random.below(at + 1));
    }
    objects
}

const ISTIO: &str = "networking.istio.io/v1";

/// One that is reached at addresses, or at any address by the name that TLS asks for.
fn entry(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(NAMESPACES);
    let mut entry = object(ISTIO, "ServiceEntry", namespace, &format!("e{at}"), random.below(3));
    let tls = json!({ "number": 443, "name": "tls", "protocol": "TLS" });
    let tcp = json!({ "number": 9000, "name": "tcp", "protocol": "TCP" });
    entry["spec"] = if random.one_in(2) {
        let host = ["*.ext.example", "*.a.ext.example", "*.example"][at];
        json!({ "hosts": [host], "ports": [tls], "resolution": "NONE" })
    } else {
        let addresses =
            random.some_of(&["10.1.0.0/16", "10.1.2.0/24", "10.1.2.3", "10.1.2.3/32"], 3);
        json!({
            "hosts": [format!("net{at}.example")],
            "addresses": addresses,
            "ports": if random.one_in(3) { vec![tls] } else { vec![tcp, tls] },
            "resolution": "STATIC",
            "endpoints": [{ "address": "10.77.200.1" }],
        })
    };
    if random.one_in(3) {
        entry["spec"]["exportTo"] = json!(["."]);
    }
    entry
}

fn gateway(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(NAMESPACES);
    let mut gateway = object(ISTIO, "Gateway", namespace, &format!("gw{at}"), random.below(3));
    let servers: Vec<Value> = (0..1 + random.below(3))
        .map(|n| {
            let number = [9000, 443, 443, 9100][random.below(4)];
            // Now and then another Gateway has the port for something else.
            let by_name = (number == 443) != random.one_in(12);
            let hosts = random.some_of(
                &["*", "*.example.com", "shop.example.com", "a/shop.example.com", "b/*", "./*"],
                2,
            );
            let protocol = if by_name { "TLS" } else { "TCP" };
            let port = json!({ "number": number, "name": format!("p{n}"), "protocol": protocol });
            match by_name {
                true => json!({ "port": port, "hosts": hosts, "tls": { "mode": "PASSTHROUGH" } }),
                false => json!({ "port": port, "hosts": hosts }),
            }
        })
        .collect();
    gateway["spec"] = json!({ "selector": { "istio": "ingressgateway" }, "servers": servers });
    gateway
}

fn virtual_service(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(NAMESPACES);
    let mut route = object(ISTIO, "VirtualService", namespace, &format!("r{at}"), random.below(3));
    let hosts = random.hosts_of(
        &[
            "x",
            "x",
            "x",
            "y",
            "y",
            "x.a.svc.cluster.local",
            "x.a.svc.cluster.local",
            "*.svc.cluster.local",
            "net0.example",
            "*.ext.example",
            "*.a.ext.example",
            "shop.example.com",
            "shop.example.com",
            "*.example.com",
        ],
        3,
    );
    // A name that a rule asks for is one of the route's own (Istio, `validateSniHost`).
    let names: Vec<String> = hosts
        .iter()
        .flat_map(|host| match host.strip_prefix('*') {
            Some(suffix) => vec![format!("*{suffix}"), format!("a{suffix}")],
            None if host.contains('.') => vec![host.to_uppercase(), host.clone()],
            None => vec![format!("{host}.{namespace}.svc.cluster.local")],
        })
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut spec = json!({ "hosts": hosts });
    let (tls, tcp) = match random.below(4) {
        0 => (1 + random.below(3), 0),
        1 => (0, 1 + random.below(3)),
        _ => (1 + random.below(4), 1 + random.below(3)),
    };
    spec["tls"] = (0..tls)
        .map(|_| {
            let condition = |random: &mut Random| {
                let mut condition = condition(random);
                condition["sniHosts"] = json!(random.some_of(&names, 2));
                condition
            };
            let alternatives = (0..1 + random.below(2)).map(|_| condition(random));
            let alternatives: Vec<Value> = alternatives.collect();
            json!({ "match": alternatives, "route": backends(random) })
        })
        .collect();
    spec["tcp"] = (0..tcp)
        .map(|_| {
            let alternatives: Vec<Value> =
                (0..random.below(3)).map(|_| condition(random)).collect();
            match alternatives.is_empty() {
                true => json!({ "route": backends(random) }),
                false => json!({ "match": alternatives, "route": backends(random) }),
            }
        })
        .collect();
    if !random.one_in(3) {
        spec["gateways"] =
            json!(random.some_of(&["mesh", "gw0", "gw1", "a/gw0", "b/gw0", "b/gw1"], 4));
    }
    if random.one_in(4) {
        spec["exportTo"] = json!([random.of(&[".", "*", "a", "istio-system"])]);
    }
    route["spec"] = spec;
    route
}

/// What is asked of connections of both kinds: mostly one thing, so that each decides something.
fn condition(random: &mut Random) -> Value {
    let mut out = json!({});
    for _ in 0..1 + usize::from(random.one_in(4)) {
        match random.below(8) {
            0 => out["port"] = json!(number(random)),
            1 | 2 => out["sourceLabels"] = json!({ "version": random.of(&["v1", "v2"]) }),
            3 => out["sourceNamespace"] = json!(random.of(&["a", "b", "istio-system"])),
            4 => {
                let of = ["mesh", "mesh", "gw0", "a/gw0", "b/gw1"];
                out["gateways"] = json!(random.some_of(&of, 2));
            }
            5 | 6 => {
                let of = ["10.96.0.0/24", "10.96.1.1", "10.96.0.1/32", "10.1.2.0/25"];
                out["destinationSubnets"] = json!(random.some_of(&of, 2));
            }
            _ => {}
        }
    }
    out
}

fn number(random: &mut Random) -> u16 {
    [9000, 443, 9100][random.below(3)]
}

fn backends(random: &mut Random) -> Value {
    let weighted = !random.one_in(4);
    let backends = (0..1 + random.below(3)).map(|_| {
        let host = random.of(&["x", "y", "x.a.svc.cluster.local", "y.b.svc.cluster.local"]);
        let mut destination = json!({ "host": host });
        if random.one_in(3) {
            destination["subset"] = json!(random.of(&["v1", "v2"]));
        }
        if random.one_in(3) {
            destination["port"] = json!({ "number": number(random) });
        }
        match weighted {
            true => json!({ "destination": destination, "weight": random.below(4) * 25 }),
            false => json!({ "destination": destination }),
        }
    });
    backends.collect()
}

fn sidecar(random: &mut Random, at: usize) -> Value {
    let namespace = random.of(&["a", "b", "istio-system"]);
    let mut sidecar = object(ISTIO, "Sidecar", namespace, &format!("s{at}"), random.below(3));
    let mut spec = json!({});
    // In the root namespace there is none for some workloads.
    if namespace != "istio-system" && random.one_in(2) {
        let (name, value) = [("app", "x"), ("version", "v1")][random.below(2)];
        spec["workloadSelector"] = json!({ "labels": { name: value } });
    }
    if random.one_in(2) {
        let hosts: &[&str] =
            &["./*", "b/*", "*/x.a.svc.cluster.local", "~/*", "*/*", "a/*.ext.example"];
        let mut egress = Vec::new();
        if random.one_in(2) {
            let port = [9000, 443][random.below(2)];
            let port = json!({ "number": port, "name": "p", "protocol": "TCP" });
            egress.push(json!({ "port": port, "hosts": random.some_of(hosts, 2) }));
        }
        egress.push(json!({ "hosts": random.some_of(hosts, 3) }));
        spec["egress"] = json!(egress);
    }
    if random.one_in(2) {
        let ports = random.some_of(&["9001", "9443", "9100", "8000"], 3);
        let ingress = ports.iter().map(|port| {
            let number: u16 = port.parse().unwrap();
            let protocol = random.of(&["TCP", "TLS", "HTTP"]);
            let port = json!({ "number": number, "name": "p", "protocol": protocol });
            match random.below(4) {
                0 => json!({ "port": port }),
                _ => {
                    let to = random.of(&["127.0.0.1:7001", "0.0.0.0:7002", ":7003"]);
                    json!({ "port": port, "defaultEndpoint": to })
                }
            }
        });
        spec["ingress"] = ingress.collect();
    }
    if random.one_in(2) {
        let mode = random.of(&["ALLOW_ANY", "REGISTRY_ONLY"]);
        spec["outboundTrafficPolicy"] = json!({ "mode": mode });
    }
    sidecar["spec"] = spec;
    sidecar
}

/// A connection to such a mesh.
pub fn connection(random: &mut Random) -> Connection {
    let at_gateway = random.one_in(3);
    let name = random.of(match at_gateway {
        true => &[
            "",
            "shop.example.com",
            "shop.example.com",
            "SHOP.example.com",
            "a.example.com",
            "x.a.svc.cluster.local",
            "other.com",
        ],
        false => &[
            "",
            "x.a.svc.cluster.local",
            "x.a.svc.cluster.local",
            "x.b.svc.cluster.local",
            "y.b.svc.cluster.local",
            "Y.A.svc.cluster.local",
            "a.svc.cluster.local",
            "a.ext.example",
            "a.a.ext.example",
            "net0.example",
        ],
    });
    let server_name = (!name.is_empty()).then(|| name.to_owned());
    let ports = [9000, 9000, 443, 443, 443, 9100];
    let port = ports[random.below(ports.len())];
    if at_gateway {
        return Connection {
            met: Met::AtGateway,
            namespace: "istio-system".to_owned(),
            labels: vec![("istio".to_owned(), "ingressgateway".to_owned())],
            destination: SocketAddr::from(([203, 0, 113, 1], port)),
            server_name,
        };
    }
    let (n, s, v) = (random.below(2), random.below(2), random.below(2));
    let caller = |met, destination| Connection {
        met,
        namespace: NAMESPACES[n].to_owned(),
        labels: vec![
            ("app".to_owned(), SERVICES[s].to_owned()),
            ("version".to_owned(), ["v1", "v2"][v].to_owned()),
        ],
        destination,
        server_name: server_name.clone(),
    };
    if random.one_in(4) {
        let port = [9001, 9443, 9100, 8000][random.below(4)];
        return caller(Met::Entering, SocketAddr::new(pod_address((n, s, v)), port));
    }
    let ip = random.of(&[
        "10.96.0.0",
        "10.96.0.0",
        "10.96.0.1",
        "10.96.1.0",
        "10.96.1.1",
        "10.1.2.3",
        "10.1.2.200",
        "10.1.9.9",
        "203.0.113.1",
        "203.0.113.1",
    ]);
    caller(Met::Leaving, SocketAddr::new(ip.parse().unwrap(), port))
}
