//! API server and control plane as one process: what each adds to the other.

use std::time::Duration;

use serde_json::Value;

use crate::mesh::Mesh;

#[test]
fn a_new_mesh_has_its_gateway_and_what_was_deleted_stays_so() {
    let mut mesh = Mesh::start();
    let kind = "get -n istio-system svc istio-ingressgateway -o jsonpath={.spec.type}";
    assert_eq!(mesh.run(kind).ok(), "LoadBalancer");
    mesh.run("delete -n istio-system deploy istio-ingressgateway").ok();
    mesh.restart();
    mesh.run("get namespace istio-system").ok();
    assert_eq!(mesh.run("get -n istio-system deploy istio-ingressgateway").code, 1);
}

#[test]
fn pods_of_labelled_namespaces_are_injected_and_listed_with_their_proxies() {
    let mesh = Mesh::start();
    mesh.run("label namespace default istio-injection=enabled").ok();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n\
               spec: {containers: [{name: web, image: web}]}\n";
    mesh.run_with("apply -f -", pod).ok();
    let containers = "{.spec.initContainers[0].name} {.spec.containers[*].name}";
    let words = mesh.shell(&format!("$0 --mesh $1 get pod web -o jsonpath='{containers}'")).ok();
    assert_eq!(words, "istio-init web istio-proxy");
    let kinds = eventually(|| {
        let proxies: Value = serde_json::from_str(&mesh.run("proxy-status -o json").ok()).unwrap();
        let kinds = proxies.as_array()?.iter().map(|proxy| proxy["kind"].clone());
        Some(kinds.collect::<Vec<_>>()).filter(|kinds| kinds.len() == 2)
    });
    assert_eq!(kinds, ["sidecar", "gateway"]);
}

#[test]
fn the_control_plane_follows_what_is_stored() {
    let mut mesh = Mesh::start();
    let filter =
        "apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: f}\n";
    assert!(mesh.run_with("create -f -", filter).ok().contains("created"));
    let findings = |mesh: &Mesh| -> usize {
        let found = mesh.run("findings -o json").ok();
        let found: Value = serde_json::from_str(&found).unwrap();
        found.as_array().unwrap().iter().filter(|f| f["object"]["kind"] == "EnvoyFilter").count()
    };
    assert_eq!(findings(&mesh), 1);
    mesh.restart();
    assert_eq!(findings(&mesh), 1);
    mesh.run_with("delete -f -", filter).ok();
    assert_eq!(findings(&mesh), 0);
}

/// Waits until `check` gives something.
fn eventually<T>(check: impl Fn() -> Option<T>) -> T {
    let attempts = std::iter::repeat_with(|| {
        std::thread::sleep(Duration::from_millis(10));
        check()
    });
    attempts.take(2_000).flatten().next().expect("a condition that comes true")
}
