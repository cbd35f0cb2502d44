//! How the endpoints of a proxy stand, and that an ejected one is seen.

use std::time::Duration;

use serde_json::Value;

use crate::running::{Running, await_some, samples};

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: httpbin, namespace: shop}
spec:
  selector: {app: httpbin}
  ports: [{name: http, port: 8000, targetPort: 80}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: httpbin, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: httpbin}}
  template:
    metadata: {labels: {app: httpbin}}
    spec:
      containers: [{name: httpbin, image: ironmesh/httpbin, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop, labels: {app: caller}}
spec:
  containers: [{name: caller, image: ironmesh/sleep}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin, namespace: shop}
spec:
  host: httpbin
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 50}}
    outlierDetection: {consecutive5xxErrors: 2, baseEjectionTime: 10m, maxEjectionPercent: 50}
";

const CLUSTER: &str = "outbound|8000||httpbin.shop.svc.cluster.local";

#[test]
fn an_ejected_endpoint_is_shown_and_explained() {
    if !samples().exists() {
        println!("SKIPPED: ironmesh-samples is not built: cargo build -p ironmesh-samples");
        return;
    }
    let Some(mesh) = Running::start(MESH, &[]) else { return };
    await_some("an answer", || call(&mesh, "/status/200"));

    // Both are well, and one of them has a connection.
    let before = endpoints(&mesh, &["caller.shop"]);
    assert_eq!(before.len(), 2, "{before:?}");
    assert!(before.iter().all(|e| e["ready"] == true && e["ejected_for_ms"] == 0), "{before:?}");
    assert!(before.iter().any(|e| e["connections"].as_u64() >= Some(1)), "{before:?}");
    assert!(before.iter().all(|e| e["requests"] == 0), "nobody asks anything now: {before:?}");

    // Both fail. One is ejected; the other one may not be, as it would be more than half of them.
    for _ in 0..8 {
        call(&mesh, "/status/503");
    }
    let after = endpoints(&mesh, &["caller.shop"]);
    let is_ejected = |endpoint: &&Value| endpoint["ejected_for_ms"].as_u64() > Some(0);
    let (ejected, kept): (Vec<_>, Vec<_>) = after.iter().partition(is_ejected);
    let ([ejected], [kept]) = (&ejected[..], &kept[..]) else { panic!("{after:?}") };
    let ejected_for = Duration::from_millis(ejected["ejected_for_ms"].as_u64().unwrap());
    // It returns when the endpoints are next looked at, which is every 10 s.
    assert!(ejected_for <= Duration::from_secs(610), "{ejected_for:?}");
    assert!(ejected["failures"].as_u64() >= Some(2), "{ejected}");
    assert!(kept["failures"].as_u64() >= Some(2), "as many as it may not be ejected for: {kept}");

    // The same in a table, by Istio's names of the verb, and chosen by what is wanted.
    let table = mesh.ok(&["-n", "shop", "pc", "ep", "caller", "--status", "unhealthy"]);
    let line =
        table.lines().find(|line| line.contains(CLUSTER)).unwrap_or_else(|| panic!("{table}"));
    let address = ejected["address"].as_str().unwrap();
    assert!(line.starts_with(address) && line.contains("ejected for "), "{table}");
    let unhealthy = ["caller.shop", "--cluster", CLUSTER, "--status", "unhealthy"];
    assert_eq!(endpoints(&mesh, &unhealthy).len(), 1);
    assert_eq!(endpoints(&mesh, &["caller.shop", "--cluster", "outbound|1||nobody"]).len(), 0);
    assert_eq!(endpoints(&mesh, &["caller.shop", "--address", "203.0.113.1"]).len(), 0);

    explained(&mesh, address, kept["address"].as_str().unwrap());

    // What has no proxy has no endpoints.
    let said = mesh.run(&["proxy-config", "endpoints", "nobody.shop"]);
    assert!(said.code == 1 && said.err.contains("nobody"), "{said:?}");
}

/// The explanation follows the endpoint that is left, and says of the other one that it is ejected.
fn explained(mesh: &Running, ejected: &str, kept: &str) {
    let url = "http://httpbin:8000/get";
    let asked = ["-n", "shop", "explain", "--from", "caller", "GET", url];
    let text = mesh.ok(&asked);
    let line = |address: &str| {
        let line = text.lines().find(|line| line.contains(address) && line.contains("mutual as"));
        line.unwrap_or_else(|| panic!("{text}"))
    };
    assert!(line(ejected).contains("ejected for "), "{text}");
    assert!(line(kept).trim_start().starts_with("> ") && line(kept).contains("ready"), "{text}");
    let told: Value =
        serde_json::from_str(&mesh.ok(&[&asked[..], &["-o", "json"]].concat())).unwrap();
    let hop = &told["hops"][0];
    assert_eq!((&hop["endpoint"], &hop["endpoints_not_known"]), (&kept.into(), &Value::Null));
    for endpoint in hop["backends"][0]["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["may_be_picked"], endpoint["address"] == kept, "{endpoint}");
    }
}

/// The endpoints of `httpbin`, as the proxy tells.
fn endpoints(mesh: &Running, arguments: &[&str]) -> Vec<Value> {
    let command = [&["proxy-config", "endpoints"], arguments, &["-o", "json"]].concat();
    let told: Value = serde_json::from_str(&mesh.ok(&command)).unwrap();
    let is_httpbin = |group: &&Value| group["host"] == "httpbin.shop.svc.cluster.local";
    let groups: Vec<&Value> =
        told["groups"].as_array().unwrap().iter().filter(is_httpbin).collect();
    groups.iter().flat_map(|group| group["endpoints"].as_array().unwrap()).cloned().collect()
}

/// Has the caller ask; `None` if it got no answer.
fn call(mesh: &Running, path: &str) -> Option<()> {
    let url = format!("http://httpbin:8000{path}");
    let said = mesh.run(&["-n", "shop", "exec", "caller", "--", "curl", "-s", "-m", "5", &url]);
    (said.code == 0).then_some(())
}
