//! Weights split traffic as they say, and edits break nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::http::page;
use super::mesh::{Mesh, Stage};
use super::{Options, ensure, fact};

/// 1 000 loads split 50/50 between reviews v1 (no stars) and v3 (stars), within 4 sigma; then an edit
/// each second under 200 loads/s for 60 s.
pub(super) fn weights(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&[])?;
    mesh.wait_ready("default", 6)?;
    stage.apply(SUBSETS)?;
    stage.apply(&split(50))?;
    let starred = (0..1_000)
        .map(|_| page(mesh.gateway, "/productpage"))
        .collect::<Result<Vec<_>, _>>()?
        .iter()
        .filter(|page| page.body.contains("full stars"))
        .count();
    // Binomial(1 000, 1/2): sigma is 15.8.
    fact(format!("{starred} of 1000 pages have stars"));
    ensure(starred.abs_diff(500) <= 63, || "that is more than 4 sigma from 500".to_owned())?;
    edits_under_load(&mesh)?;
    mesh.stop()
}

fn edits_under_load(mesh: &Mesh) -> anyhow::Result<()> {
    let load = Load::start(mesh.gateway, 200);
    for second in 0..60u32 {
        mesh.stage.apply(&split(10 + second % 9 * 10))?;
        let next = load.started + Duration::from_secs(u64::from(second) + 1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    let (loads, broken, took) = load.stop()?;
    fact(format!("{loads} loads in {took:?} under 60 edits, {broken} broken"));
    ensure(broken == 0, || "a page was broken".to_owned())?;
    ensure(loads > 11_400, || "the load did not reach 200/s".to_owned())?;
    no_errors_counted(mesh)
}

/// Clients that load the page of a gateway.
pub(super) struct Load {
    pub(super) started: Instant,
    clients: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    loads: Arc<AtomicUsize>,
    broken: Arc<AtomicUsize>,
}

impl Load {
    /// Eight clients, which load it so often together.
    pub(super) fn start(gateway: SocketAddr, per_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let loads = Arc::new(AtomicUsize::new(0));
        let broken = Arc::new(AtomicUsize::new(0));
        let started = Instant::now();
        let pause = Duration::from_millis(CLIENTS * 1_000 / per_second);
        let client = |client: u64| {
            let (stop, loads, broken) = (stop.clone(), loads.clone(), broken.clone());
            thread::spawn(move || {
                let mut next = started + pause / CLIENTS as u32 * client as u32;
                while !stop.load(Ordering::Relaxed) {
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                    next += pause;
                    let whole = page(gateway, "/productpage")
                        .is_ok_and(|p| p.status == 200 && !p.body.contains("Error fetching"));
                    loads.fetch_add(1, Ordering::Relaxed);
                    broken.fetch_add(usize::from(!whole), Ordering::Relaxed);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { started, clients, stop, loads, broken }
    }

    /// Ends them. How often the page was loaded, how often it was not whole, and for how long.
    pub(super) fn stop(self) -> anyhow::Result<(usize, usize, Duration)> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?;
        }
        let took = self.started.elapsed();
        Ok((self.loads.load(Ordering::Relaxed), self.broken.load(Ordering::Relaxed), took))
    }
}

const CLIENTS: u64 = 8;

/// No proxy, including the gateway, counted a 5xx or a response flag other than `-`.
fn no_errors_counted(mesh: &Mesh) -> anyhow::Result<()> {
    let proxies: Value = serde_json::from_str(&mesh.stage.run(&["proxy-status", "-o", "json"])?)?;
    let proxies = proxies.as_array().context("proxy-status gives no list")?;
    for proxy in proxies {
        let name = format!("{}.{}", text(&proxy["name"]), text(&proxy["namespace"]));
        let metrics = mesh.stage.run(&["proxy-config", &name, "--metrics"])?;
        let counted: Vec<&str> =
            metrics.lines().filter(|line| line.starts_with("istio_requests_total{")).collect();
        // The weights leave out v2 of reviews.
        let served = !counted.is_empty() || name.starts_with("reviews-v2");
        ensure(served, || format!("{name} counted no request"))?;
        for line in counted {
            let clean =
                line.contains("response_flags=\"-\"") && !line.contains("response_code=\"5");
            ensure(clean, || format!("{name} counted {line}"))?;
        }
    }
    fact(format!("{} proxies counted no 5xx and no response flag", proxies.len()));
    ensure(proxies.len() == 7, || "there should be six sidecars and a gateway".to_owned())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Subsets of reviews by version.
pub(super) const SUBSETS: &str = "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: default}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
";

/// A VirtualService that sends this share to v1 and the rest to v3.
fn split(v1: u32) -> String {
    format!(
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: reviews, namespace: default}}
spec:
  hosts: [reviews]
  http:
  - route:
    - {{destination: {{host: reviews, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: reviews, subset: v3}}, weight: {}}}
",
        100 - v1
    )
}
