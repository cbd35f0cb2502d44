//! What a `kill -9` of one process does to the others.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::config::proxy;
use super::http::page;
use super::mesh::{Mesh, Stage, descendants, wait_for};
use super::{Options, ensure, fact};

/// See the module documentation.
pub(super) fn deaths(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&[])?;
    mesh.wait_ready("default", 6)?;
    for _ in 0..10 {
        page(mesh.gateway, "/productpage")?;
    }
    control(&mesh)?;
    one_proxy(&mesh)?;
    one_app(&mesh)?;
    stopped_sidecar(&mesh)?;
    mesh.stop()?;
    nothing_left(stage, "up")?;
    nothing_left(stage, "agent")
}

/// Control is killed: it is restarted, traffic goes on, and next to nothing is sent to an unchanged
/// proxy.
fn control(mesh: &Mesh) -> anyhow::Result<()> {
    let pod = mesh.pod("productpage")?["name"].as_str().unwrap_or_default().to_owned();
    let old = mesh.status()?["control_pid"].clone();
    let load = Load::start(mesh.gateway);
    kill_nine(&old)?;
    wait_for("a new control process", Duration::from_secs(20), || {
        let new = mesh.status()?["control_pid"].clone();
        Ok((new.is_number() && new != old).then_some(()))
    })?;
    let entry = wait_for("the proxy's new connection", Duration::from_secs(30), || {
        Ok(proxy(mesh, &pod).ok().filter(|p| p["synced"] == true))
    })?;
    let bytes = entry["bytes_pushed"].as_u64().context("no bytes_pushed")?;
    let (loads, lost) = load.stop();
    fact(format!("control killed: {lost} of {loads} loads lost, {bytes} bytes pushed to a proxy"));
    ensure(lost == 0, || "traffic was lost".to_owned())?;
    ensure(bytes < 1024, || "that is 1 KiB or more".to_owned())
}

/// One proxy is killed: others are not affected, and new connections to its pod succeed within 2 s.
fn one_proxy(mesh: &Mesh) -> anyhow::Result<()> {
    let details = mesh.pod("details")?;
    let killed = &details["sidecar_pid"];
    kill_nine(killed)?;
    let mut slowest = Duration::ZERO;
    let until = Instant::now() + Duration::from_secs(4);
    let mut loads = 0;
    while Instant::now() < until {
        let started = Instant::now();
        let page = page(mesh.gateway, "/productpage")?;
        slowest = slowest.max(started.elapsed());
        let whole = page.status == 200 && page.body.contains("Publisher");
        ensure(whole, || "a page without details".to_owned())?;
        loads += 1;
    }
    let again = wait_for("a new sidecar", Duration::from_secs(20), || {
        let now = mesh.pod("details")?;
        Ok((now["sidecar_pid"].is_number() && now["sidecar_pid"] != *killed).then_some(now))
    })?;
    fact(format!("sidecar of details killed: {loads} loads whole, slowest {slowest:?}"));
    ensure(again["pid"] == details["pid"], || "the application was restarted".to_owned())?;
    ensure(slowest < Duration::from_secs(2), || "that is more than 2 s".to_owned())
}

/// One of two applications is killed: callers lose at most what was in flight there.
fn one_app(mesh: &Mesh) -> anyhow::Result<()> {
    mesh.stage.run(&["scale", "deployment/details-v1", "--replicas=2"])?;
    mesh.wait_ready("default", 7)?;
    let killed = mesh.pod("details")?;
    let stage = i32::try_from(killed["pid"].as_i64().context("details has no pid")?)?;
    let app = *descendants(stage).last().context("details has no process")?;
    let load = Load::start(mesh.gateway);
    kill(Pid::from_raw(app), Signal::SIGKILL)?;
    wait_for("the restart", Duration::from_secs(30), || {
        let now = mesh.pod(killed["name"].as_str().unwrap_or_default())?;
        Ok((now["restarts"].as_u64() > killed["restarts"].as_u64()).then_some(()))
    })?;
    mesh.wait_ready("default", 7)?;
    let (loads, lost) = load.stop();
    fact(format!("one of two details killed: {lost} of {loads} loads lost"));
    ensure(lost <= CLIENTS, || "more than was in flight".to_owned())
}

/// A sidecar that is stopped is not ready.
fn stopped_sidecar(mesh: &Mesh) -> anyhow::Result<()> {
    let ratings = mesh.pod("ratings")?;
    signal(&ratings["sidecar_pid"], Signal::SIGSTOP)?;
    let row = |wanted: &'static str| {
        move || {
            let table = mesh.stage.run(&["get", "pods", "-l", "app=ratings", "--no-headers"])?;
            Ok(table.contains(wanted).then_some(()))
        }
    };
    wait_for("1/2", Duration::from_secs(30), row(" 1/2 "))?;
    signal(&ratings["sidecar_pid"], Signal::SIGCONT)?;
    wait_for("2/2", Duration::from_secs(30), row(" 2/2 "))?;
    fact("a sidecar stopped by SIGSTOP showed 1/2, and 2/2 after SIGCONT");
    Ok(())
}

/// `up` or the agent is killed: within 5 s nothing is left.
fn nothing_left(stage: &Stage, whom: &str) -> anyhow::Result<()> {
    let before = Host::look(stage)?;
    let mut mesh = stage.up(&[])?;
    mesh.wait_ready("default", 6)?;
    let all = descendants(i32::try_from(mesh.child.id())?);
    let namespaces: BTreeSet<String> = all.iter().filter_map(|pid| network(*pid)).collect();
    let bystanders = names("/proc");
    let victim = match whom {
        "up" => all[0],
        _ => *all.get(1).context("up has no child")?,
    };
    kill(Pid::from_raw(victim), Signal::SIGKILL)?;
    let started = Instant::now();
    let mut left = String::new();
    wait_for("the end of every process and trace", Duration::from_secs(5), || {
        // `up` must end by itself. Waiting for it also leaves no zombie.
        mesh.child.try_wait()?;
        left = Host::look(stage)?.beyond(&before);
        let processes = all.iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists());
        processes.for_each(|pid| left += &format!("process {pid}\n"));
        // A mesh that starts meanwhile may be given the number of a namespace that has gone.
        let held = namespaces_of(&bystanders).into_iter().filter(|name| namespaces.contains(name));
        held.filter(|name| Some(name) != network_of_self().as_ref())
            .for_each(|name| left += &format!("namespace {name}\n"));
        Ok(left.is_empty().then_some(()))
    })
    .with_context(|| format!("left by the mesh:\n{left}"))?;
    fact(format!(
        "{whom} killed: {} processes, {} network namespaces and every trace gone in {:?}",
        all.len(),
        namespaces.len() - 1,
        started.elapsed()
    ));
    Ok(())
}

/// The network namespace of a process.
fn network(pid: i32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/ns/net")).ok()?.display().to_string())
}

fn network_of_self() -> Option<String> {
    Some(fs::read_link("/proc/self/ns/net").ok()?.display().to_string())
}

fn namespaces_of(processes: &BTreeSet<String>) -> BTreeSet<String> {
    processes.iter().filter_map(|name| network(name.parse().ok()?)).collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What a mesh could leave on the host, one line each.
pub(super) struct Host(BTreeSet<String>);

impl Host {
    pub(super) fn look(stage: &Stage) -> anyhow::Result<Self> {
        let mut lines = BTreeSet::new();
        let mut add = |what: &str, text: &str| {
            lines.extend(text.lines().map(|line| format!("{what} {}", line.trim())));
        };
        add("mount", &fs::read_to_string("/proc/self/mountinfo")?);
        add("route", &fs::read_to_string("/proc/net/route")?);
        if nix::unistd::geteuid().is_root() {
            let rules = Command::new("nft").args(["list", "ruleset"]).output();
            let rules = rules.context("nft is needed, to see that no rules are left")?;
            add("rule", &String::from_utf8_lossy(&rules.stdout));
        }
        add("link", &Vec::from_iter(names("/sys/class/net")).join("\n"));
        for folder in ["/tmp", "/run"] {
            // Others may use these folders at the same time.
            let ours = names(folder).into_iter().filter(|name| name.contains("ironmesh"));
            add(folder, &ours.collect::<Vec<_>>().join("\n"));
        }
        // Others may have meshes meanwhile, but none of this name and user.
        let uid = stage.user.as_ref().map_or_else(|| nix::unistd::geteuid().as_raw(), |u| u.uid);
        let socket = format!("@ironmesh/{uid}/default/");
        let sockets = fs::read_to_string("/proc/net/unix")?;
        let ours = sockets.lines().filter_map(|line| Some(&line[line.find(&socket)?..]));
        add("socket", &ours.collect::<Vec<_>>().join("\n"));
        let home = stage.home.display().to_string();
        add(&home, &Vec::from_iter(names(&home)).join("\n"));
        Ok(Self(lines))
    }

    /// What is here now and was not before.
    pub(super) fn beyond(&self, before: &Self) -> String {
        self.0.difference(&before.0).map(|line| format!("{line}\n")).collect()
    }
}

/// Clients of a [`Load`].
const CLIENTS: usize = 4;

/// Page loads by a few clients, each of which makes one at a time.
struct Load {
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
    loads: Arc<AtomicUsize>,
    clients: Vec<thread::JoinHandle<()>>,
}

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (lost, loads) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..CLIENTS)
            .map(|_| {
                let (stop, lost, loads) = (stop.clone(), lost.clone(), loads.clone());
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let whole = page(gateway, "/productpage")
                            .is_ok_and(|p| p.status == 200 && !p.body.contains("Error fetching"));
                        loads.fetch_add(1, Ordering::Relaxed);
                        lost.fetch_add(usize::from(!whole), Ordering::Relaxed);
                    }
                })
            })
            .collect();
        Self { stop, lost, loads, clients }
    }

    /// All loads, and lost ones.
    fn stop(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            drop(client.join());
        }
        (self.loads.load(Ordering::Relaxed), self.lost.load(Ordering::Relaxed))
    }
}

fn kill_nine(pid: &Value) -> anyhow::Result<()> {
    signal(pid, Signal::SIGKILL)
}

fn signal(pid: &Value, signal: Signal) -> anyhow::Result<()> {
    let pid = pid.as_i64().with_context(|| format!("{pid} is no pid"))?;
    Ok(kill(Pid::from_raw(i32::try_from(pid)?), signal)?)
}
