use std::net::IpAddr;

use ironmesh_model::FindingCode::{self, Invalid, Missing, NoEffect};
use ironmesh_model::service::{Discovery, EndpointAddress, Protocol, UpstreamTls};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::ServiceSource;
use serde_json::{Value, json};

use super::*;
use crate::{translate, translate_one};

fn entry(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    })
}

fn http(number: u16) -> Value {
    json!({"number": number, "name": format!("http-{number}"), "protocol": "HTTP"})
}

fn pod(name: &str, ip: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "labels": labels},
        "spec": {"containers": [{"name": "app"}, {"name": "istio-proxy"}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    })
}

/// The services that come of these objects, by their hosts.
fn services(objects: &[Value]) -> Vec<ServiceSource> {
    let objects: Vec<Object> = objects.iter().map(|v| Object::new(v.clone()).unwrap()).collect();
    let translation = translate(&objects, &Settings::default());
    assert_eq!(translation.findings, []);
    translation.objects.services
}

fn one(objects: &[Value]) -> ServiceSource {
    let mut all = services(objects);
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

fn findings(spec: Value) -> Vec<(FindingCode, String)> {
    let object = Object::new(entry("e", spec)).unwrap();
    let found = translate_one(&object).findings;
    found.into_iter().map(|finding| (finding.code, finding.path)).collect()
}

#[test]
fn each_resolution_says_where_connections_go() {
    let of = |resolution: Option<&str>, endpoints: Value| {
        let mut spec = json!({"hosts": ["API.test"], "ports": [http(80)], "endpoints": endpoints});
        if let Some(resolution) = resolution {
            spec["resolution"] = json!(resolution);
        }
        one(&[entry("e", spec)])
    };
    let none = of(None, json!([]));
    assert_eq!(none.service.discovery, Discovery::Dialled);
    assert!(none.endpoints.is_empty() && none.service.addresses.is_empty());
    let fixed = of(Some("STATIC"), json!([{"address": "192.0.2.1", "ports": {"http-80": 81}}]));
    assert_eq!(fixed.service.discovery, Discovery::Endpoints);
    assert_eq!(fixed.endpoints[0].address, EndpointAddress::Ip([192, 0, 2, 1].into()));
    assert_eq!((fixed.endpoints[0].ports[0].service, fixed.endpoints[0].ports[0].target), (80, 81));
    for (resolution, discovery) in
        [("DNS", Discovery::Endpoints), ("DNS_ROUND_ROBIN", Discovery::FirstAddress)]
    {
        let own = of(Some(resolution), json!([]));
        assert_eq!(own.service.discovery, discovery);
        assert_eq!(own.endpoints[0].address, EndpointAddress::Dns("api.test".into()));
        let other = of(Some(resolution), json!([{"address": "Other.test."}]));
        assert_eq!(other.endpoints[0].address, EndpointAddress::Dns("other.test".into()));
    }
    assert_eq!(&*none.service.id.hostname, "api.test");
    assert_eq!(none.service.ports[0].protocol, Protocol::Http);
}

#[test]
fn ports_lead_to_their_target_ports_and_say_their_protocol() {
    let port = |number: u16, protocol: &str| json!({"number": number, "name": format!("p{number}"), "protocol": protocol, "targetPort": number + 1});
    let words = ["HTTP", "HTTPS", "tls", "TCP", "GRPC", "HTTP2", "Mongo", "UDP"];
    let ports: Vec<Value> = (1..).zip(words).map(|(n, word)| port(n, word)).collect();
    let spec = json!({
        "hosts": ["a.test"], "ports": ports, "resolution": "STATIC",
        "endpoints": [{"address": "192.0.2.1"}],
    });
    let object = Object::new(entry("e", spec)).unwrap();
    let made = translate(&[object], &Settings::default()).objects.services.remove(0);
    let protocols: Vec<_> = made.service.ports.iter().map(|port| port.protocol).collect();
    use Protocol::{Grpc, Http, Http2, Tcp, Tls};
    assert_eq!(protocols, [Http, Tls, Tls, Tcp, Grpc, Http2, Tcp]);
    assert!(made.endpoints[0].ports.iter().all(|port| port.target == port.service + 1));
}

#[test]
fn entries_of_one_host_are_one_service_the_oldest_first() {
    let of = |name: &str, port: u16, ip: &str, created: &str| {
        let mut entry = entry(
            name,
            json!({"hosts": ["a.test"], "ports": [http(port)], "resolution": "STATIC", "endpoints": [{"address": ip}]}),
        );
        entry["metadata"]["creationTimestamp"] = json!(created);
        entry
    };
    let (young, old) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
    let both = one(&[of("a", 8080, "192.0.2.2", young), of("b", 80, "192.0.2.1", old)]);
    let numbers: Vec<u16> = both.service.ports.iter().map(|port| port.number).collect();
    assert_eq!(numbers, [80, 8080]);
    let served: Vec<_> =
        both.endpoints.iter().map(|e| (e.address.clone(), e.ports.len())).collect();
    let ip = |last: u8| EndpointAddress::Ip(IpAddr::from([192, 0, 2, last]));
    assert_eq!(served, [(ip(2), 1), (ip(1), 1)]);
    assert_eq!(both.service.addresses.len(), 1);
}

#[test]
fn workloads_of_the_namespace_can_be_the_endpoints_and_pods_are_known_by_their_address() {
    let selecting = entry(
        "e",
        json!({
            "hosts": ["a.test"], "ports": [http(80)], "resolution": "STATIC", "location": "MESH_INTERNAL",
            "workloadSelector": {"labels": {"app": "a"}},
        }),
    );
    let pods =
        [pod("a", "10.77.0.1", json!({"app": "a"})), pod("b", "10.77.0.2", json!({"app": "b"}))];
    let selected = one(&[&[selecting][..], &pods].concat());
    let names: Vec<&str> = selected.endpoints.iter().map(|e| &*e.workload.name).collect();
    assert_eq!(names, ["a"]);
    assert!(matches!(selected.endpoints[0].tls, UpstreamTls::Mesh(_)));
    let listing = entry(
        "e",
        json!({
            "hosts": ["a.test"], "ports": [http(80)], "resolution": "STATIC",
            "endpoints": [{"address": "10.77.0.2", "labels": {"v": "two"}}, {"address": "192.0.2.1"}],
        }),
    );
    let listed = one(&[&[listing][..], &pods].concat());
    // What is a member of the mesh is spoken to as that, what is not in plaintext.
    assert!(matches!(listed.endpoints[0].tls, UpstreamTls::Mesh(_)));
    assert_eq!(listed.endpoints[0].labels.value("v"), Some("two"));
    assert_eq!(listed.endpoints[1].tls, UpstreamTls::None);
}

#[test]
fn a_service_of_kubernetes_goes_before_an_entry_of_its_name() {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "tcp", "port": 7000}]},
    });
    let host = "s.default.svc.cluster.local";
    let entry = entry("e", json!({"hosts": [host], "ports": [http(80)], "resolution": "STATIC"}));
    for objects in [[service.clone(), entry.clone()], [entry.clone(), service]] {
        assert_eq!(one(&objects).service.ports[0].number, 7000);
    }
    assert_eq!(one(&[entry]).service.ports[0].number, 80);
}

#[test]
fn a_service_that_stands_for_a_name_outside_leads_there() {
    let service = |name: &str, ports: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "out", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": name, "ports": ports},
        })
    };
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let outside = one(&[service("API.test.", ports.clone())]);
    assert_eq!(outside.endpoints.len(), 1);
    assert_eq!(outside.endpoints[0].address, EndpointAddress::Dns("api.test".into()));
    assert_eq!(outside.endpoints[0].ports[0].target, 8080);
    // What is in the mesh is found by its own name, and nothing is called without a port.
    assert_eq!(services(&[service("s.shop.svc.cluster.local", ports)]), []);
    assert_eq!(services(&[service("api.test", json!([]))]), []);
}

#[test]
fn names_have_the_addresses_that_the_proxies_know() {
    let all = [
        entry(
            "a",
            json!({"hosts": ["a.test", "b.test"], "ports": [http(80)], "resolution": "DNS"}),
        ),
        entry("n", json!({"hosts": ["none.test", "*.wild.test"], "ports": [http(80)]})),
        entry(
            "g",
            json!({"hosts": ["*.given.test"], "ports": [http(80)], "addresses": ["198.18.0.7"]}),
        ),
        entry(
            "s",
            json!({"hosts": ["shop.test"], "ports": [http(80)], "resolution": "DNS", "exportTo": ["shop"]}),
        ),
    ];
    let known = services(&all);
    let of = |host: &str| {
        let found = known.iter().find(|source| *source.service.id.hostname == *host);
        found.unwrap().service.addresses.clone()
    };
    let mut names = EntryNames::default();
    // Whatever the order in which they come.
    all.iter().rev().for_each(|object| names.put(object.clone()));
    for host in ["a.test", "b.test"] {
        assert_eq!(names.addresses(host, "default"), Some(of(host)));
    }
    assert_ne!(of("a.test"), of("b.test"));
    assert_eq!(names.addresses("x.given.test", "default"), Some(vec![[198, 18, 0, 7].into()]));
    for (host, namespace) in [
        ("none.test", "default"),
        ("x.wild.test", "default"),
        ("shop.test", "default"),
        ("c.test", "default"),
    ] {
        assert_eq!(names.addresses(host, namespace), None, "{host}");
    }
    assert!(names.addresses("shop.test", "shop").is_some());
    names.take("default", "a");
    assert_eq!(names.addresses("a.test", "default"), None);
}

fn base() -> Value {
    json!({"hosts": ["a.test"], "ports": [http(80)], "resolution": "STATIC"})
}

/// An entry with these fields in place of what it has.
fn both(pairs: &[(&str, Value)]) -> Value {
    let mut spec = base();
    pairs.iter().for_each(|(field, value)| spec[*field] = value.clone());
    spec
}

fn with(field: &str, value: Value) -> Value {
    both(&[(field, value)])
}

fn endpoint(address: &str) -> Value {
    json!([{"address": address}])
}

fn all_found(cases: Vec<(Value, FindingCode, &str)>) {
    for (spec, code, path) in cases {
        let found = findings(spec);
        assert!(found.contains(&(code, path.to_owned())), "{path}: {found:?}");
    }
}

#[test]
fn hosts_addresses_and_ports_that_istio_refuses_are_refused() {
    assert_eq!(findings(base()), []);
    all_found(vec![
        (with("hosts", json!([])), Missing, "spec.hosts"),
        (with("hosts", json!(["*"])), Invalid, "spec.hosts[0]"),
        (with("hosts", json!(["a..b"])), Invalid, "spec.hosts[0]"),
        (with("hosts", json!(["http://a"])), Invalid, "spec.hosts[0]"),
        (with("addresses", json!(["x"])), Invalid, "spec.addresses[0]"),
        (with("addresses", json!(["10.0.0.0/33"])), Invalid, "spec.addresses[0]"),
        (with("ports", json!([http(80), http(80)])), Invalid, "spec.ports[1].name"),
        (with("ports", json!([{"number": 0, "name": "a"}])), Invalid, "spec.ports[0].number"),
        (
            with("ports", json!([{"number": 80, "name": "a", "protocol": "QUIC"}])),
            Invalid,
            "spec.ports[0].protocol",
        ),
        (
            with("ports", json!([{"number": 53, "name": "a", "protocol": "UDP"}])),
            NoEffect,
            "spec.ports[0].protocol",
        ),
    ]);
}

#[test]
fn endpoints_that_istio_refuses_are_refused() {
    all_found(vec![
        (
            both(&[("resolution", json!("NONE")), ("endpoints", endpoint("192.0.2.1"))]),
            Invalid,
            "spec.endpoints",
        ),
        (with("endpoints", endpoint("a.test")), Invalid, "spec.endpoints[0].address"),
        (with("endpoints", endpoint("")), Invalid, "spec.endpoints[0].address"),
        (with("endpoints", endpoint("unix:///x")), NoEffect, "spec.endpoints[0].address"),
        (
            with("endpoints", json!([{"address": "192.0.2.1", "ports": {"other": 1}}])),
            Invalid,
            "spec.endpoints[0].ports",
        ),
        (
            both(&[("resolution", json!("DNS")), ("hosts", json!(["*.a.test"]))]),
            Invalid,
            "spec.hosts[0]",
        ),
        (
            both(&[("resolution", json!("DNS")), ("addresses", json!(["10.0.0.0/8"]))]),
            Invalid,
            "spec.addresses[0]",
        ),
        (
            both(&[
                ("resolution", json!("DNS_ROUND_ROBIN")),
                ("endpoints", json!([{"address": "a.test"}, {"address": "b.test"}])),
            ]),
            Invalid,
            "spec.endpoints",
        ),
        (
            both(&[
                ("workloadSelector", json!({"labels": {"a": "b"}})),
                ("endpoints", endpoint("192.0.2.1")),
            ]),
            Invalid,
            "spec.endpoints",
        ),
    ]);
}

#[test]
fn the_names_of_certificates_are_those_of_all_entries_and_stand_for_an_account_that_is_not_given() {
    let own = "spiffe://cluster.local/ns/default/sa/own";
    let entry_of = |name: &str, names: Value, endpoint: Value| {
        entry(
            name,
            json!({
                "hosts": ["a.test"], "ports": [http(80)], "resolution": "STATIC",
                "location": "MESH_INTERNAL", "subjectAltNames": names, "endpoints": [endpoint],
            }),
        )
    };
    let plain = json!({"address": "192.0.2.1"});
    let both = one(&[
        entry_of("a", json!([own, "a.test"]), plain.clone()),
        entry_of("b", json!(["b.test", own]), plain.clone()),
    ]);
    assert_eq!(both.service.certificate_names, ["a.test".into(), "b.test".into(), Name::from(own)]);
    let meshed = json!({"address": "192.0.2.1", "labels": {TLS_MODE: "istio"}});
    let tls = |names: Value, endpoint: Value| {
        one(&[entry_of("a", names, endpoint)]).endpoints[0].tls.clone()
    };
    assert_eq!(tls(json!([own]), meshed.clone()), UpstreamTls::Mesh(own.parse().unwrap()));
    for (names, endpoint) in
        [(json!([own]), plain), (json!(["a.test"]), meshed.clone()), (json!([]), meshed.clone())]
    {
        assert_eq!(tls(names, endpoint), UpstreamTls::None);
    }
    let of = |names: Value| entry_of("a", names, meshed.clone())["spec"].clone();
    let at = "spec.endpoints[0].serviceAccount".to_owned();
    assert_eq!(findings(of(json!([own, "a.test"]))), [(NoEffect, at)]);
    assert_eq!(findings(of(json!([own]))), []);
}
