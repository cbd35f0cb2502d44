//! API server and control plane as one process: what each adds to the other.

use std::time::Duration;

use serde_json::Value;

use crate::mesh::Mesh;

#[test]
fn a_new_mesh_has_its_gateway_and_keeps_it() {
    let mesh = Mesh::start();
    let kind = "get -n istio-system svc istio-ingressgateway -o jsonpath={.spec.type}";
    assert_eq!(mesh.run(kind).ok(), "LoadBalancer");
    for line in [
        "delete -n istio-system deploy istio-ingressgateway",
        "delete -n istio-system svc istio-ingressgateway",
        "delete namespace istio-system",
        "-n istio-system delete deploy --all",
    ] {
        let said = mesh.run(line);
        assert_eq!(said.code, 1, "{line}");
        assert!(
            said.err.contains("is forbidden: ") && said.err.contains("`ironmesh down`"),
            "{said:?}"
        );
    }
    let theirs = "apiVersion: apps/v1\nkind: Deployment\n\
                  metadata: {name: istio-ingressgateway, namespace: istio-system}\n\
                  spec:\n  selector: {matchLabels: {app: istio-ingressgateway, istio: ingressgateway}}\n\
                  \x20 template:\n    metadata: {labels: {app: istio-ingressgateway, istio: ingressgateway}}\n\
                  \x20   spec: {containers: [{name: istio-proxy, image: istio/proxyv2:1.3.2}]}\n";
    let said = mesh.run_with("apply -f -", theirs);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("would run istio/proxyv2:1.3.2 instead"), "{said:?}");
    let image = "get -n istio-system deploy istio-ingressgateway -o jsonpath={.spec.template.spec.containers[0].image}";
    assert!(mesh.run(image).ok().starts_with("ironmesh/proxy:"));
    // What else is in its namespace is its user's.
    mesh.run("-n istio-system create serviceaccount kiali").ok();
    mesh.run("-n istio-system delete serviceaccount kiali").ok();
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
