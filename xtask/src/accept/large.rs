//! A large mesh: an edit costs what the edited object costs, whatever else there is.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::http::{Answer, request};
use super::mesh::{Mesh, Stage, wait_for};
use super::{Options, ensure, fact};

/// Hosts of the gateway, each in a VirtualService of its own and called once.
const HOSTS: usize = 5_000;
/// Services that the VirtualServices route to.
const SERVICES: usize = 1_000;
/// Edits that are measured.
const EDITS: usize = 500;

/// Each of many hosts answers; an edit of one is in effect within 20 ms of the end of `apply` (p95),
/// and costs the control plane at most 2 ms of CPU and the gateway 1 ms; deleting 2 000 Services
/// costs at most 1 s.
pub(super) fn edits(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&["--empty"])?;
    stage.apply(GATEWAY)?;
    let mut text = String::new();
    (0..SERVICES).for_each(|n| text += &service(n));
    (0..HOSTS).for_each(|n| text += &host(n, 0));
    let began = Instant::now();
    stage.apply(&text)?;
    fact(format!(
        "{SERVICES} Services and {HOSTS} VirtualServices applied in {:?}",
        began.elapsed()
    ));
    let began = Instant::now();
    for n in 0..HOSTS {
        wait_for("an answer of a new host", Duration::from_secs(30), || answer(&mesh, n, 0))?;
    }
    fact(format!("one request to each host took {:?}", began.elapsed()));

    let gateway = mesh.pod("istio-ingressgateway")?["pid"].as_i64().context("no pid")?;
    let control = mesh.status()?["control_pid"].as_i64().context("no pid")?;
    let before = (cpu_time(control)?, cpu_time(gateway)?);
    let mut times = Vec::new();
    for edit in 1..=EDITS {
        let n = edit * 7_919 % HOSTS;
        stage.apply(&host(n, edit))?;
        let applied = Instant::now();
        wait_for("the edit", Duration::from_secs(30), || answer(&mesh, n, edit))?;
        times.push(applied.elapsed());
    }
    times.sort();
    let p95 = times[times.len() * 95 / 100];
    let edits = u32::try_from(EDITS)?;
    let control_each = (cpu_time(control)? - before.0) / edits;
    let gateway_each = (cpu_time(gateway)? - before.1) / edits;
    fact(format!("in effect after apply: p95 {p95:?}, longest {:?}", times[times.len() - 1]));
    fact(format!(
        "CPU of an edit and the request that sees it: control {control_each:?}, gateway {gateway_each:?}"
    ));
    ensure(p95 <= Duration::from_millis(20), || "that is more than 20 ms".to_owned())?;
    let cheap =
        control_each <= Duration::from_millis(2) && gateway_each <= Duration::from_millis(1);
    ensure(cheap, || "control may take 2 ms, the gateway 1 ms".to_owned())?;
    deletion(&mesh, control)?;
    mesh.stop()
}

fn deletion(mesh: &Mesh, control: i64) -> anyhow::Result<()> {
    let text: String = (SERVICES..SERVICES + 2_000).map(service).collect();
    mesh.stage.apply(&text)?;
    let last = format!("s{}", SERVICES + 2_000 - 1);
    wait_for("the endpoints of the last", Duration::from_secs(30), || {
        Ok(mesh.stage.output(&["get", "endpoints", &last])?.status.success().then_some(()))
    })?;
    let before = cpu_time(control)?;
    let file = mesh.stage.home.join("apply.yaml").display().to_string();
    mesh.stage.run(&["delete", "-f", &file])?;
    let spent = cpu_time(control)? - before;
    fact(format!("2000 Services deleted for {spent:?} of CPU"));
    ensure(spent <= Duration::from_secs(1), || "that is more than 1 s".to_owned())
}

/// Whether a host answers with a text of its VirtualService.
fn answer(mesh: &Mesh, n: usize, text: usize) -> anyhow::Result<Option<()>> {
    let host = [("host".to_owned(), format!("h{n}.example.com"))];
    let Answer { status, body, .. } = request(mesh.gateway, "GET", "/text", &host)?;
    Ok((status == 200 && body == format!("text {text}")).then_some(()))
}

/// What the threads of a process have run for.
fn cpu_time(pid: i64) -> anyhow::Result<Duration> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn service(n: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s{n}, namespace: default}}\n\
         spec: {{selector: {{app: s{n}}}, ports: [{{name: http, port: 80}}]}}\n---\n"
    )
}

fn host(n: usize, text: usize) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: h{n}, namespace: default}}\n\
         spec:\n  hosts: [h{n}.example.com]\n  gateways: [all]\n  http:\n\
         \x20 - match: [{{uri: {{exact: /text}}}}]\n\
         \x20   directResponse: {{status: 200, body: {{string: text {text}}}}}\n\
         \x20 - route: [{{destination: {{host: s{}}}}}]\n---\n",
        n % SERVICES
    )
}

const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: all, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 80, name: http, protocol: HTTP}
    hosts: ['*']
";
