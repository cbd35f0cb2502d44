//! Sidecars are real, their traffic is encrypted, and STRICT refuses callers without one.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::http::page;
use super::mesh::{Mesh, Stage, wait_for};
use super::{Options, ensure, fact};

/// See the module documentation.
pub(super) fn encrypted(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&[])?;
    mesh.wait_ready("default", 6)?;
    let table = stage.run(&["get", "pods", "--no-headers"])?;
    let injected = table.lines().filter(|row| row.contains(" 2/2 ") && row.contains(" Running "));
    ensure(injected.count() == 6, || format!("not six pods 2/2 Running:\n{table}"))?;
    sidecars_are_processes(&mesh)?;
    packets(&mesh)?;
    certificate(&mesh)?;
    self_call(&mesh, 1)?;
    stage.run(&["scale", "deployment/productpage-v1", "--replicas=2"])?;
    mesh.wait_ready("default", 8)?;
    self_call(&mesh, 2)?;
    strict(&mesh)?;
    mesh.stop()
}

/// Each sidecar is a separate process in the network namespace of its pod.
fn sidecars_are_processes(mesh: &Mesh) -> anyhow::Result<()> {
    let status = mesh.status()?;
    let network = |pid: &Value| fs::read_link(format!("/proc/{pid}/ns/net"));
    let own = fs::read_link("/proc/self/ns/net")?;
    let mut seen = 0;
    for pod in status["pods"].as_array().context("status has no pods")? {
        if pod["namespace"] != "default" {
            continue;
        }
        let (app, sidecar) = (&pod["pid"], &pod["sidecar_pid"]);
        ensure(app != sidecar && sidecar.is_number(), || format!("no sidecar process: {pod}"))?;
        let theirs = network(sidecar)?;
        ensure(theirs == network(app)? && theirs != own, || format!("not the pod's: {pod}"))?;
        seen += 1;
    }
    fact(format!("{seen} sidecars are processes in their pods' network namespaces"));
    ensure(seen == 6, || "there should be six".to_owned())
}

/// What crosses a pod's eth0 on the application's port over 50 page loads is TLS.
fn packets(mesh: &Mesh) -> anyhow::Result<()> {
    let pod = mesh.pod("reviews-v1")?;
    let file = mesh.stage.home.join("packets.pcap");
    let mut capture = Capture::start(&pod["pid"], &file)?;
    for _ in 0..50 {
        page(mesh.gateway, "/productpage")?;
    }
    // Loads are spread over three versions, so this pod has seen about 16.
    let bytes = wait_for("packets of page loads", Duration::from_secs(20), || {
        let bytes = fs::read(&file).unwrap_or_default();
        Ok((count(&bytes, TLS_RECORD) > 10).then_some(bytes))
    })?;
    capture.stop()?;
    let plain = count(&bytes, b"HTTP/1.1") + count(&bytes, b"GET /");
    fact(format!("{} TLS records and {plain} plaintext heads on eth0", count(&bytes, TLS_RECORD)));
    ensure(plain == 0, || "plaintext HTTP crossed eth0".to_owned())
}

/// Type and version of a TLS record with application data.
const TLS_RECORD: &[u8] = &[0x17, 0x03, 0x03];

fn count(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).filter(|window| *window == pattern).count()
}

/// `tcpdump` in the network namespace of a process.
struct Capture(Child);

impl Capture {
    fn start(pid: &Value, file: &std::path::Path) -> anyhow::Result<Self> {
        drop(fs::remove_file(file));
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["tcpdump", "-U", "-n", "-Z", "root", "-i", "eth0", "-w"]);
        let child = command
            .arg(file)
            .arg("tcp port 9080")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("nsenter and tcpdump are needed")?;
        let capture = Self(child);
        wait_for("tcpdump", Duration::from_secs(20), || {
            Ok(fs::metadata(file).is_ok_and(|f| f.len() >= 24).then_some(()))
        })?;
        Ok(capture)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        drop(self.stop());
    }
}

/// A pod without a sidecar sees a certificate with the SPIFFE id of what it dials.
fn certificate(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.stage.apply(BARE)?;
    mesh.wait_ready("default", 7)?;
    let script = "openssl s_client -alpn istio -connect details:9080 </dev/null 2>/dev/null \
                  | openssl x509 -noout -ext subjectAltName";
    let shown = mesh.stage.run(&["exec", "bare", "--", "sh", "-c", script])?;
    fact(format!("openssl was shown {}", shown.trim().replace('\n', " ")));
    ensure(shown.contains("URI:spiffe://cluster.local/ns/default/sa/bookinfo-details"), || {
        "that is not the identity of details".to_owned()
    })
}

/// The label of calls by productpage.
const CALLER: &str = "source_workload=\"productpage-v1\"";

/// A pod that calls its own Service goes through its own inbound proxy.
fn self_call(mesh: &Mesh, replicas: usize) -> anyhow::Result<()> {
    let pods = mesh.stage.run(&["get", "pods", "-l", "app=productpage", "-o", "name"])?;
    let pods: Vec<&str> = pods.lines().filter_map(|line| line.strip_prefix("pod/")).collect();
    ensure(pods.len() == replicas, || format!("{replicas} replicas wanted: {pods:?}"))?;
    let mut counted = String::new();
    let mut seen = |mesh: &Mesh| -> anyhow::Result<u64> {
        counted.clear();
        for pod in &pods {
            let metrics = mesh.stage.run(&["proxy-config", pod, "--metrics"])?;
            let inbound = metrics.lines().filter(|line| {
                line.starts_with("istio_requests_total{")
                    && line.contains("reporter=\"destination\"")
            });
            inbound.for_each(|line| counted += &format!("{pod} {line}\n"));
        }
        let own = counted.lines().filter(|line| line.contains(CALLER));
        Ok(own.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    };
    let before = seen(mesh)?;
    for _ in 0..4 {
        let call = ["curl", "-sf", "http://productpage:9080/health"];
        let said =
            mesh.stage.run(&[&["exec", pods[0], "-c", "productpage", "--"], &call[..]].concat())?;
        ensure(said.contains("healthy"), || format!("a self-call was answered {said:?}"))?;
    }
    let after = wait_for("the self-calls in the metrics", Duration::from_secs(10), || {
        let now = seen(mesh)?;
        Ok((now >= before + 4).then_some(now))
    })
    .with_context(|| format!("counted before: {before}; then:\n{counted}"))?;
    fact(format!(
        "{replicas} replicas: inbound proxies counted {} self-calls of 4",
        after - before
    ));
    ensure(after == before + 4, || "a call was counted twice".to_owned())
}

/// Under STRICT a caller without a sidecar is refused; members and the gateway are served.
fn strict(mesh: &Mesh) -> anyhow::Result<()> {
    let call = |pod: &str, container: &str| {
        let script = "curl -s -o /dev/null -w '%{http_code}' -m 5 http://details:9080/details/0";
        mesh.stage.output(&["exec", pod, "-c", container, "--", "sh", "-c", script])
    };
    let before = call("bare", "bare")?;
    ensure(before.status.success(), || "PERMISSIVE refused plaintext".to_owned())?;
    mesh.stage.apply(STRICT)?;
    wait_for("the refusal of plaintext", Duration::from_secs(20), || {
        Ok((!call("bare", "bare")?.status.success()).then_some(()))
    })?;
    let product = mesh.pod("productpage")?;
    let member = call(product["name"].as_str().unwrap_or_default(), "productpage")?;
    ensure(member.stdout == b"200", || "a member was refused".to_owned())?;
    let status = page(mesh.gateway, "/productpage")?.status;
    fact("STRICT refused the caller without a sidecar; members and the gateway were served");
    ensure(status == 200, || format!("the gateway answered {status}"))
}

const STRICT: &str = "\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: default}
spec: {mtls: {mode: STRICT}}
";

/// A pod outside the mesh.
const BARE: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: bare
  namespace: default
  annotations: {sidecar.istio.io/inject: \"false\"}
spec:
  containers:
  - {name: bare, image: curlimages/curl, command: [sleep, infinity]}
";
