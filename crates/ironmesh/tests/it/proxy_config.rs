//! What a proxy holds, asked of the proxy itself, as users of istioctl ask.

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
apiVersion: v1
kind: Service
metadata: {name: never-called, namespace: shop}
spec:
  selector: {app: httpbin}
  ports: [{name: http, port: 8001, targetPort: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: httpbin, namespace: shop, labels: {app: httpbin, version: v1}}
spec:
  containers: [{name: httpbin, image: ironmesh/httpbin, ports: [{containerPort: 80}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: shop, labels: {app: caller}}
spec:
  containers: [{name: caller, image: ironmesh/sleep}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: default}
spec:
  containers: [{name: plain, image: ironmesh/sleep}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: httpbin, namespace: shop}
spec:
  host: httpbin
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: httpbin, namespace: shop}
spec:
  hosts: [httpbin]
  http:
  - match: [{uri: {prefix: /status}, headers: {end-user: {exact: jason}}}, {uri: {exact: /get}}]
    route: [{destination: {host: httpbin, subset: v1}}]
  - route: [{destination: {host: httpbin}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['shop.example.com']}]
";

const HOST: &str = "httpbin.shop.svc.cluster.local";

#[test]
fn a_proxy_tells_what_it_holds_and_what_it_logs() {
    if !samples().exists() {
        println!("SKIPPED: ironmesh-samples is not built: cargo build -p ironmesh-samples");
        return;
    }
    let Some(mesh) = Running::start(MESH, &[]) else { return };
    assert!(!shown(&mesh, "clusters", &[]).contains(HOST), "nobody has called it yet");
    await_some("an answer", || {
        let url = "http://httpbin:8000/get";
        let call = ["-n", "shop", "exec", "caller", "--", "curl", "-s", "-m", "5", url];
        (mesh.run(&call).code == 0).then_some(())
    });
    clusters(&mesh);
    routes(&mesh);
    listeners(&mesh);
    secret(&mesh);
    log(&mesh);
    strangers(&mesh);
    parts(&mesh);
    statistics(&mesh);
    status(&mesh);
}

/// The state of one proxy, or of those of a workload, by the words that name it.
fn status(mesh: &Running) {
    // Names that a workload makes end with what is random.
    let names = |words: &[&str]| {
        let table = mesh.ok(&[&["proxy-status"][..], words].concat());
        let names = table.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        names
            .map(|name| name.rsplit_once('-').map_or(name, |_| "gateway").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&["caller.shop"]), ["caller"]);
    assert_eq!(names(&["pod/caller.shop"]), ["caller"]);
    assert_eq!(names(&["svc/httpbin", "-n", "shop"]), ["httpbin"]);
    assert_eq!(names(&["deploy/istio-ingressgateway.istio-system"]), ["gateway"]);
    let plain = mesh.run(&["proxy-status", "pod/plain"]);
    assert!(plain.err.contains("no pod \"pod/plain\" has a proxy"), "{plain:?}");
}

/// Envoy's names, as people look for them in the container of the sidecar. The caller asks for the
/// retries itself, and the application does not learn of it.
fn statistics(mesh: &Running) {
    let asked = |url: &str| {
        let headers = ["-H", "x-envoy-retry-on: 5xx", "-H", "x-envoy-max-retries: 3"];
        let call = ["-n", "shop", "exec", "caller", "--", "curl", "-s", "-m", "20", url];
        mesh.ok(&[&call[..], &headers].concat())
    };
    asked("http://httpbin:8000/status/503");
    let proxy = ["-n", "shop", "exec", "caller", "-c", "istio-proxy", "--"];
    let stats = mesh.ok(&[&proxy[..], &["pilot-agent", "request", "GET", "stats"]].concat());
    let of = |name: &str| {
        let line = format!("cluster.outbound|8000||{HOST}.{name}: ");
        let value = stats.lines().find_map(|other| other.strip_prefix(&line));
        value.unwrap_or_else(|| panic!("no {line} in {stats}")).parse::<u64>().unwrap()
    };
    assert_eq!((of("upstream_rq_retry"), of("upstream_rq_retry_limit_exceeded")), (3, 1));
    assert_eq!((of("upstream_rq_retry_success"), of("upstream_rq_pending_overflow")), (0, 0));
    assert_eq!((of("membership_healthy"), of("outlier_detection.ejections_active")), (1, 0));
    // Groups without limits share their connections, so either may have made the one that was used.
    let made = stats.lines().filter_map(|line| line.split_once(".upstream_cx_total: "));
    assert!(made.map(|(_, count)| count.parse::<u64>().unwrap()).sum::<u64>() > 0, "{stats}");
    let some = ["curl", "-s", "localhost:15000/stats?filter=rq_retry$"];
    let some = mesh.ok(&[&proxy[..], &some].concat());
    assert!(some.lines().all(|line| line.contains("upstream_rq_retry: ")), "{some}");
    let metrics = mesh.ok(&["proxy-config", "caller.shop", "--metrics"]);
    let line =
        format!("envoy_cluster_upstream_rq_retry{{cluster_name=\"outbound|8000||{HOST}\"}} 3");
    assert!(metrics.lines().any(|other| other == line), "{metrics}");
    let seen = asked("http://httpbin:8000/headers").to_ascii_lowercase();
    assert!(seen.contains("x-envoy-attempt-count") && !seen.contains("x-envoy-retry-on"), "{seen}");
}

/// What a part of `proxy-config` shows of the caller.
fn shown(mesh: &Running, part: &str, options: &[&str]) -> String {
    mesh.ok(&[&["proxy-config", part, "caller.shop"], options].concat())
}

/// A line as its words.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

fn clusters(mesh: &Running) {
    let table = shown(mesh, "cluster", &[]);
    let head = "SERVICE FQDN PORT SUBSET DIRECTION TYPE DESTINATION RULE";
    assert_eq!(words(table.lines().next().unwrap()).join(" "), head);
    let has = |line: &str| table.lines().any(|other| words(other).join(" ") == line);
    assert!(has(&format!("{HOST} 8000 v1 outbound EDS httpbin.shop")), "{table}");
    assert!(has(&format!("{HOST} 8000 - outbound EDS httpbin.shop")), "{table}");
    assert!(has("PassthroughCluster - - - ORIGINAL_DST"), "{table}");
    assert!(!table.contains("never-called"), "{table}");
    let of = |options: &[&str]| shown(mesh, "clusters", options).lines().count() - 1;
    assert_eq!(of(&["--fqdn", "httpbin", "--subset", "v1", "--port", "8000"]), 1);
    assert_eq!(of(&["--fqdn", "httpbin", "--direction", "outbound"]), 2);
    assert_eq!(of(&["--fqdn", "httpbin", "--direction", "inbound"]), 0);
    assert_eq!(of(&["--port", "1"]), 0);
    let told: Value =
        serde_json::from_str(&shown(mesh, "clusters", &["--subset", "v1", "-o", "json"])).unwrap();
    assert_eq!(told[0]["name"], format!("outbound|8000|v1|{HOST}"));
    assert_eq!((&told[0]["endpoints"], &told[0]["ready"]), (&1.into(), &1.into()));
    let yaml = shown(mesh, "clusters", &["--subset", "v1", "-o", "yaml"]);
    assert!(yaml.contains("- name: outbound|8000|v1|"), "{yaml}");
    let inbound = mesh.ok(&["pc", "c", "httpbin", "-n", "shop", "--direction", "inbound"]);
    assert!(inbound.lines().any(|line| words(line)[1..4] == ["80", "-", "inbound"]), "{inbound}");
}

fn routes(mesh: &Running) {
    let table = shown(mesh, "route", &["--name", "8000"]);
    let lines: Vec<String> = table.lines().map(|line| words(line).join(" ")).collect();
    assert_eq!(lines[0], "NAME VHOST NAME DOMAINS MATCH VIRTUAL SERVICE");
    assert_eq!(
        lines[1..],
        [
            "8000 httpbin:8000 httpbin /status* end-user=jason httpbin.shop",
            "8000 httpbin:8000 httpbin /get httpbin.shop",
            "8000 httpbin:8000 httpbin /* httpbin.shop",
        ]
    );
    assert_eq!(shown(mesh, "routes", &["--name", "9999"]).lines().count(), 1);
    let told: Value = serde_json::from_str(&shown(mesh, "r", &["-o", "json"])).unwrap();
    let entry = told.as_array().unwrap().iter().find(|entry| entry["match"] == "/get").unwrap();
    assert_eq!(entry["rule"]["action"]["Forward"][0]["subset"], "v1");
}

fn listeners(mesh: &Running) {
    let table = shown(mesh, "listener", &["--port", "8000"]);
    let line = words(table.lines().nth(1).unwrap())[1..].join(" ");
    assert_eq!(line, "8000 App: HTTP Route: 8000", "{table}");
    let all = shown(mesh, "listeners", &[]);
    for port in ["15001", "15006", "15021"] {
        assert!(all.lines().any(|line| words(line)[1] == port), "{port}: {all}");
    }
    assert_eq!(
        shown(mesh, "listeners", &["--type", "HTTP", "--address", "192.0.2.1"]).lines().count(),
        1
    );
    let inbound = mesh.ok(&["pc", "l", "httpbin.shop", "--port", "15006"]);
    assert!(inbound.contains("Addr: *:80; mTLS: PERMISSIVE"), "{inbound}");
    await_some("the port of the gateway", || {
        let edge = ["pc", "listeners", "deploy/istio-ingressgateway.istio-system", "--port", "80"];
        mesh.ok(&edge).contains("Route: http.80").then_some(())
    });
}

fn secret(mesh: &Running) {
    let table = shown(mesh, "secret", &[]);
    let line = |kind: &str| table.lines().find(|line| line.starts_with(kind)).unwrap();
    let own = words(line("default"));
    assert_eq!(own[1..5], ["Cert", "Chain", "ACTIVE", "true"], "{table}");
    assert!(line("default").ends_with("spiffe://cluster.local/ns/shop/sa/default"), "{table}");
    assert!(line("ROOTCA").contains("ironmesh root"), "{table}");
    let told = shown(mesh, "secrets", &["-o", "json"]);
    let pem = &serde_json::from_str::<Value>(&told).unwrap()["certificates"][0]["chain"][0]["pem"];
    assert!(pem.as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"), "{told}");
    assert!(!told.contains("PRIVATE") && !told.to_lowercase().contains("\"key"), "{told}");
}

fn log(mesh: &Running) {
    assert!(shown(mesh, "log", &[]).starts_with("caller.shop:\nactive loggers:\n  admin: info\n"));
    let set = shown(mesh, "log", &["--level", "subscriptions:debug,wire:warning"]);
    assert!(set.contains("  subscriptions: debug\n") && set.contains("  wire: warn\n"), "{set}");
    assert!(set.contains("  http: info\n"), "{set}");
    for wrong in ["loud", "htp:debug", "http:debug&reset", "a b", ""] {
        let said = mesh.run(&["pc", "log", "caller.shop", "--level", wrong]);
        assert_eq!(said.code, 1, "{wrong}: {said:?}");
    }
    let kept: Value = serde_json::from_str(&shown(mesh, "log", &["-o", "json"])).unwrap();
    assert_eq!((&kept["wire"], &kept["http"]), (&"warn".into(), &"info".into()), "nothing of it");
    let reset = shown(mesh, "log", &["--reset"]);
    assert!(reset.contains("  wire: info\n") && !reset.contains("debug"), "{reset}");
    let changed = mesh.ok(&["logs", "caller", "-n", "shop", "-c", "istio-proxy"]);
    assert!(changed.contains("log level changed"), "{changed}");
}

/// What has no proxy, or is not there, is said so.
fn strangers(mesh: &Running) {
    for part in ["clusters", "listeners", "routes", "secret", "log", "endpoints", "all"] {
        let nobody = mesh.run(&["proxy-config", part, "nobody.shop"]);
        assert!(nobody.code == 1 && nobody.err.contains("nobody"), "{part}: {nobody:?}");
        let plain = mesh.run(&["proxy-config", part, "plain"]);
        assert!(plain.code == 1 && plain.err.contains("plain"), "{part}: {plain:?}");
    }
    let unknown = mesh.run(&["proxy-config", "clusters", "caller.shop", "-o", "xml"]);
    assert!(unknown.code == 2 && unknown.err.contains("short, json, yaml"), "{unknown:?}");
}

/// Parts of what it holds, and all of it.
fn parts(mesh: &Running) {
    let proxy = mesh.ok(&["proxy-config", "caller.shop", "--path", "/config_dump?only=groups"]);
    let told: Value = serde_json::from_str(&proxy).unwrap();
    assert_eq!(told["resources"], Value::Array(Vec::new()));
    assert!(told["groups"].as_array().unwrap().len() >= 2, "{told}");
    let whole: Value = serde_json::from_str(&shown(mesh, "all", &["-o", "json"])).unwrap();
    assert!(whole["resources"].as_array().unwrap().iter().any(|it| it["kind"] == "route"));
}
