//! Proxies hold only what they use, receive only what changed, and rotate certificates without loss.

use std::io::{Read, Write};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::http::page;
use super::mesh::{Mesh, Stage, wait_for};
use super::{Options, ensure, fact};

/// See the module documentation.
pub(super) fn on_demand(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&["--set", "certificateTtl=30s", "--image", "test/python=python3"])?;
    mesh.wait_ready("default", 6)?;
    holds_what_it_called(&mesh)?;
    rotation(&mesh, options)?;
    mesh.stop()
}

fn holds_what_it_called(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.stage.apply(super::routing::SUBSETS)?;
    page(mesh.gateway, "/productpage")?;
    mesh.stage.apply(&(0..500).map(|n| service(n, 80)).collect::<String>())?;
    let pod = mesh.pod("productpage")?["name"].as_str().unwrap_or_default().to_owned();
    let mut services = held(mesh, &pod, "service")?;
    services.sort();
    fact(format!("with 500 more services, the sidecar of productpage holds {services:?}"));
    // Its own service is there for its inbound listener.
    let expected = ["details", "productpage", "reviews"];
    let names = services.iter().map(|key| expected.iter().find(|name| key.contains(**name)));
    let only = names.collect::<Option<Vec<_>>>().is_some_and(|names| names == expected.each_ref());
    ensure(only, || "not those it called, or not only those".to_owned())?;

    let before = pushed(mesh, &pod)?;
    mesh.stage.apply(&service(7, 81))?;
    // The sentinel: a change to something that it does hold arrives, and nothing else does.
    mesh.stage.apply(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {name: reviews, namespace: default}\n\
         spec: {host: reviews, subsets: [{name: sentinel, labels: {version: v1}}]}\n",
    )?;
    wait_for("the change of the DestinationRule", Duration::from_secs(20), || {
        Ok(mesh
            .stage
            .run(&["proxy-config", &pod, "-o", "json"])?
            .contains("sentinel")
            .then_some(()))
    })?;
    let after = pushed(mesh, &pod)?;
    fact(format!("a service it does not use and a rule it does: {} resource sent", after - before));
    ensure(after - before == 1, || "not exactly one resource".to_owned())
}

fn service(n: u32, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: many-{n}, namespace: default}}\n\
         spec: {{selector: {{app: many-{n}}}, ports: [{{name: http, port: {port}}}]}}\n---\n"
    )
}

/// Keys of one kind that a proxy holds.
fn held(mesh: &Mesh, pod: &str, kind: &str) -> anyhow::Result<Vec<String>> {
    let dump: Value =
        serde_json::from_str(&mesh.stage.run(&["proxy-config", pod, "-o", "json"])?)?;
    let resources = dump["resources"].as_array().context("the dump has no resources")?;
    Ok(resources
        .iter()
        .filter(|resource| resource["kind"] == kind)
        .map(|resource| resource["key"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// How many resources the control plane has sent to a proxy.
fn pushed(mesh: &Mesh, pod: &str) -> anyhow::Result<u64> {
    Ok(proxy(mesh, pod)?["resources_pushed"].as_u64().unwrap_or_default())
}

/// A proxy's entry in `proxy-status`.
pub(super) fn proxy(mesh: &Mesh, pod: &str) -> anyhow::Result<Value> {
    let all: Value = serde_json::from_str(&mesh.stage.run(&["proxy-status", "-o", "json"])?)?;
    let proxies = all.as_array().or_else(|| all["proxies"].as_array()).context("no list")?;
    proxies.iter().find(|p| p["name"] == pod).cloned().with_context(|| format!("no proxy {pod}"))
}

/// With certificates of 30 s, minutes of load and one long connection lose nothing at all.
fn rotation(mesh: &Mesh, options: &Options) -> anyhow::Result<()> {
    let (load, connection) = if options.soak { (300, 600) } else { (60, 75) };
    mesh.stage.apply(ECHO)?;
    mesh.wait_ready("default", 8)?;
    let long = {
        let stage = mesh.stage.clone();
        thread::spawn(move || long_connection(&stage, Duration::from_secs(connection)))
    };
    let started = Instant::now();
    let mut loads = 0;
    while started.elapsed() < Duration::from_secs(load) {
        let page = page(mesh.gateway, "/productpage")?;
        let whole = page.status == 200 && !page.body.contains("Error fetching");
        ensure(whole, || format!("load {loads} failed: {}", page.status))?;
        loads += 1;
    }
    let lines = long.join().map_err(|_| anyhow::anyhow!("the long connection panicked"))??;
    fact(format!(
        "{loads} loads in {load} s and one connection of {connection} s ({lines} lines) over 30 s \
         certificates lost nothing"
    ));
    Ok(())
}

/// A connection from one pod to another's opaque port that sends a line each second and expects it
/// back.
fn long_connection(stage: &Stage, length: Duration) -> anyhow::Result<u64> {
    let client = "import socket,sys\n\
                  s=socket.create_connection(('echo',7000))\n\
                  f=s.makefile('rw')\n\
                  for line in sys.stdin:\n\
                  \x20 f.write(line); f.flush()\n\
                  \x20 sys.stdout.write(f.readline()); sys.stdout.flush()\n";
    let mut child = stage
        .ironmesh(&["exec", "-i", "caller", "-c", "caller", "--", "python3", "-c", client])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("no stdin")?;
    let mut output = child.stdout.take().context("no stdout")?;
    let started = Instant::now();
    let mut lines = 0;
    while started.elapsed() < length {
        let line = format!("line {lines}\n");
        input.write_all(line.as_bytes())?;
        let mut back = vec![0; line.len()];
        output.read_exact(&mut back).context("the connection broke")?;
        ensure(back == line.as_bytes(), || "a line came back changed".to_owned())?;
        lines += 1;
        thread::sleep(Duration::from_secs(1));
    }
    drop(input);
    child.wait()?;
    Ok(lines)
}

/// An echo server on an opaque port and a pod that calls it.
const ECHO: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: default}
spec: {selector: {app: echo}, ports: [{name: tcp, port: 7000}]}
---
apiVersion: v1
kind: Pod
metadata: {name: echo, namespace: default, labels: {app: echo}}
spec:
  containers:
  - name: echo
    image: test/python
    command: [python3, -u, -c]
    args:
    - |
      import socketserver
      class Echo(socketserver.StreamRequestHandler):
          def handle(self):
              for line in self.rfile:
                  self.wfile.write(line)
      socketserver.ThreadingTCPServer(('', 7000), Echo).serve_forever()
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: default}
spec:
  containers:
  - {name: caller, image: test/python, command: [python3, -c, "import time; time.sleep(10**6)"]}
"#;
