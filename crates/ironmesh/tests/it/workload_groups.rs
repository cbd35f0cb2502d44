//! Workloads that are none of the platform's, and how it is known whether they are healthy.

use crate::running::{Running, await_some};

/// A caller with a sidecar, and a server that no Service knows: it is healthy unless it has a file `ill`.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: caller, labels: {sidecar.istio.io/inject: 'true'}}
spec: {containers: [{name: caller, image: ironmesh/sleep}]}
---
apiVersion: v1
kind: Pod
metadata: {name: machine}
spec:
  containers:
  - name: server
    image: ironmesh/sleep
    command: [python3, -uc]
    args:
    - |
      import http.server, os
      class Handler(http.server.BaseHTTPRequestHandler):
          def do_GET(self):
              ill = self.path == '/health' and os.path.exists('/tmp/ill')
              named = self.headers['host'] if self.path == '/health' else 'served'
              self.send_response(503 if ill else 200)
              self.end_headers()
              self.wfile.write(named.encode())
      http.server.ThreadingHTTPServer(('', 8080), Handler).serve_forever()
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: machines}
spec:
  hosts: [machines.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  location: MESH_EXTERNAL
  resolution: STATIC
  workloadSelector: {labels: {app: machine}}
"#;

/// A group with this probe, and an entry at this address.
fn group(probe: &str, ip: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {{name: machines}}
spec:
  metadata: {{labels: {{app: machine}}}}
  template: {{}}
  probe: {{periodSeconds: 1, failureThreshold: 1, {probe}}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: one}}
spec: {{address: {ip}, labels: {{app: machine}}}}
"
    )
}

fn becomes(mesh: &Running, wanted: &str) {
    await_some(&format!("a {wanted}"), || {
        let curl = "curl -s -m 10 -o /dev/null -w %{http_code} http://machines.test/";
        let got = mesh.run(&["exec", "caller", "--", "sh", "-c", curl]).out;
        (got == wanted).then_some(())
    });
}

fn condition(mesh: &Running, field: &str) -> String {
    let path = format!("jsonpath={{.status.conditions[?(@.type==\"Healthy\")].{field}}}");
    mesh.ok(&["get", "workloadentry", "one", "-o", &path])
}

#[test]
fn what_its_group_probes_takes_requests_while_it_is_healthy() {
    let Some(mesh) = Running::start(PODS, &[]) else { return };
    mesh.ok(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    let ip = mesh.ok(&["get", "pod", "machine", "-o", "jsonpath={.status.podIP}"]);
    let probe = "httpGet: {path: /health, port: 8080, httpHeaders: [{name: Host, value: me.test}]}";
    mesh.write("group.yaml", &group(probe, &ip));
    mesh.ok(&["apply", "-f", "group.yaml"]);
    becomes(&mesh, "200");
    assert_eq!(condition(&mesh, "status"), "True");

    mesh.ok(&["exec", "machine", "--", "touch", "/tmp/ill"]);
    becomes(&mesh, "503");
    assert_eq!(condition(&mesh, "status"), "False");
    assert!(condition(&mesh, "message").contains("503"), "{}", condition(&mesh, "message"));
    let endpoints = mesh.ok(&["proxy-config", "endpoints", "caller"]);
    let line = endpoints.lines().find(|line| line.contains(&ip)).unwrap_or_default();
    assert!(line.contains("machines.test") && line.contains("UNHEALTHY"), "{endpoints}");

    // A connection to where it listens is taken all the same.
    mesh.write("group.yaml", &group("tcpSocket: {port: 8080}", &ip));
    mesh.ok(&["apply", "-f", "group.yaml"]);
    becomes(&mesh, "200");
    mesh.write("group.yaml", &group("tcpSocket: {port: 8081}", &ip));
    mesh.ok(&["apply", "-f", "group.yaml"]);
    becomes(&mesh, "503");
    // Without a group nobody asks, and the entry takes what comes.
    mesh.ok(&["delete", "workloadgroup", "machines"]);
    becomes(&mesh, "200");
    assert_eq!(condition(&mesh, "status"), "");
}

/// What is the machine's own is not looked at on anybody's behalf, and a probe that cannot be made from
/// here is found.
#[test]
fn a_probe_reaches_nothing_that_a_pod_does_not_reach() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mesh) = Running::start(PODS, &[]) else { return };
    let probe = format!("tcpSocket: {{port: {port}}}");
    mesh.write("group.yaml", &group(&probe, "127.0.0.1"));
    mesh.ok(&["apply", "-f", "group.yaml"]);
    await_some("a verdict", || condition(&mesh, "message").contains("closed").then_some(()));
    assert_eq!(condition(&mesh, "status"), "False");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
    mesh.write("group.yaml", &group("exec: {command: ['true']}", "192.0.2.1"));
    let applied = mesh.run(&["apply", "-f", "group.yaml"]);
    assert!(applied.err.contains("spec.probe.exec"), "{applied:?}");
}
