//! The mesh that is measured, and the edits of it.

use std::time::Duration;

use anyhow::Context;
use ironmesh_model::ResourceKey;
use ironmesh_model::bootstrap::ProxyKind;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::Sizes;
use crate::api::Api;
use crate::control::Control;
use crate::objects::{
    NAMESPACES, POLICIES, ROUTED, ROUTES, SLICES, destination_rule, endpoint_slice, fill, weights,
};
use crate::proxies::{Proxies, Proxy, domain_key, service_key};
use crate::report::Report;

/// Fills a control plane, connects the proxies, and measures each kind of edit.
pub(crate) async fn run(sizes: Sizes) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let control = Control::start().await?;
    let begun = Instant::now();
    let pods = fill(&control.api(), &sizes).await?;
    report.fact("filling the control plane", seconds(begun.elapsed()));

    let begun = Instant::now();
    let mut mesh = Mesh::connect(control, sizes, &pods).await?;
    report.fact("connecting the proxies", seconds(begun.elapsed()));
    mesh.settle().await;
    report.memory("memory of the control plane", mesh.control.memory()?, 200_000_000);

    mesh.edit_each(&mut report).await?;
    mesh.crowd(&mut report).await?;
    mesh.restart(&mut report).await?;
    mesh.create_many(&mut report).await?;
    mesh.delete_namespace(&mut report).await?;
    mesh.delete_services(&mut report).await?;
    // Free memory is given back a second after the last change.
    sleep(Duration::from_secs(3)).await;
    report.memory("memory of the control plane after all", mesh.control.memory()?, 250_000_000);
    Ok(report)
}

/// Proxies that hold the large services.
pub(crate) const LISTENERS: usize = 10;

/// Longest wait for a change to arrive.
const DEADLINE: Duration = Duration::from_secs(60);

/// The control plane with its proxies.
pub(crate) struct Mesh {
    pub(crate) control: Control,
    pub(crate) api: Api,
    pub(crate) sizes: Sizes,
    pub(crate) proxies: Vec<Proxy>,
}

/// What edits of one kind cost, each on average.
pub(crate) struct Cost {
    cpu: Duration,
    /// Proxies that were told of one edit.
    told: f64,
    /// Keys that each of them was sent.
    keys: f64,
    /// From the answer of the API to the last proxy that has it, in order.
    latencies: Vec<Duration>,
    applying: Duration,
}

impl Cost {
    pub(crate) fn tell(&self, report: &mut Report, what: &str, cpu: Duration, told: usize) {
        // A chunk of endpoints that is split makes two, and a list of them.
        self.tell_of(report, what, cpu, told, 1.2);
    }

    /// As [`Cost::tell`], of edits that move so many keys.
    fn tell_of(&self, report: &mut Report, what: &str, cpu: Duration, told: usize, keys: f64) {
        report.time(&format!("{what}: CPU"), self.cpu, cpu);
        report.number("  proxies told", self.told, told as f64);
        report.number("  keys sent to each", self.keys, keys);
        if told == 0 {
            return;
        }
        let at = |share: f64| {
            let last = self.latencies.len().saturating_sub(1);
            self.latencies.get((last as f64 * share) as usize).copied().unwrap_or_default()
        };
        report.time("  after the API's answer, median", at(0.5), Duration::from_millis(20));
        report.time("  after the API's answer, p95", at(0.95), Duration::from_millis(20));
    }
}

impl Mesh {
    async fn connect(control: Control, sizes: Sizes, pods: &[String]) -> anyhow::Result<Self> {
        let mut makes = Proxies::of(&control)?;
        let mut proxies = Vec::new();
        for (n, uid) in pods.iter().enumerate().take(sizes.proxies) {
            let proxy = makes.start(&format!("p{n}"), uid, ProxyKind::Sidecar, false);
            let held = (0..sizes.keys).map(|k| (n * sizes.keys + k) % sizes.services);
            let keys = held.map(|service| service_key(&format!("s{service}")));
            proxy.client.subscribe(keys);
            if n < LISTENERS {
                proxy.client.subscribe([service_key("big"), service_key("crowd")]);
            }
            proxies.push(proxy);
            if n % 50 == 0 {
                // Else the handshakes of all wait for each other.
                let is_told = || proxies.iter().all(|proxy| proxy.told.updates.get() > 0);
                until(is_told).await?;
            }
        }
        let edge = pods.last().context("no pod of the gateway")?;
        let gateway = makes.start("edge", edge, ProxyKind::Gateway, true);
        gateway.client.subscribe([ResourceKey::Settings, ResourceKey::Listeners]);
        gateway
            .client
            .subscribe((0..sizes.hosts).map(|n| domain_key(&format!("h{n}.example.com"))));
        proxies.push(gateway);
        until(|| proxies.iter().all(|proxy| proxy.told.updates.get() > 0)).await?;
        let api = Api::connect(&control.api()).await?;
        Ok(Self { control, api, sizes, proxies })
    }

    /// Waits until nothing happens any more.
    pub(crate) async fn settle(&self) {
        let count = || self.proxies.iter().map(|proxy| proxy.told.updates.get()).sum::<usize>();
        let mut before = usize::MAX;
        while before != count() {
            before = count();
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Makes edits, one after the other; `wait_for` says how many proxies learn of each.
    pub(crate) async fn measure(
        &mut self,
        edits: Vec<(String, Option<Value>, Value)>,
        wait_for: usize,
    ) -> anyhow::Result<Cost> {
        self.settle().await;
        let idle = self.idle_share().await?;
        let count = edits.len() as u32;
        let keys_before = self.keys();
        let mut told = 0;
        let mut latencies = Vec::new();
        let mut applying = Duration::ZERO;
        let begun = Instant::now();
        let cpu_before = self.control.cpu_time()?;
        for (path, patch, object) in edits {
            let updates: Vec<usize> =
                self.proxies.iter().map(|proxy| proxy.told.updates.get()).collect();
            match patch {
                Some(patch) => self.api.merge(&path, &patch).await?,
                None => self.api.create(&path, &object).await?,
            };
            let answered = Instant::now();
            let changed = || {
                let pairs = self.proxies.iter().zip(&updates);
                pairs.filter(|(proxy, before)| proxy.told.updates.get() > **before)
            };
            until(|| changed().count() >= wait_for).await?;
            let last = changed().filter_map(|(proxy, _)| proxy.told.at.get()).max();
            latencies
                .push(last.map_or(Duration::ZERO, |last| last.saturating_duration_since(answered)));
            applying += changed().map(|(proxy, _)| proxy.told.applying.get()).sum::<Duration>();
            // What else is sent comes meanwhile, and the control plane hears of what arrived.
            sleep(Duration::from_millis(20)).await;
            told += changed().count();
        }
        let cpu = self.control.cpu_time()? - cpu_before;
        let cpu = cpu.saturating_sub(begun.elapsed().mul_f64(idle));
        latencies.sort_unstable();
        Ok(Cost {
            cpu: cpu / count,
            told: told as f64 / f64::from(count),
            keys: (self.keys() - keys_before) as f64 / told.max(1) as f64,
            latencies,
            applying: applying / count,
        })
    }

    pub(crate) fn keys(&self) -> usize {
        self.proxies.iter().map(|proxy| proxy.told.keys.get()).sum()
    }

    /// The share of a CPU that the control plane uses when nothing changes.
    async fn idle_share(&self) -> anyhow::Result<f64> {
        let (begun, before) = (Instant::now(), self.control.cpu_time()?);
        sleep(Duration::from_secs(2)).await;
        let used = self.control.cpu_time()? - before;
        Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
    }

    /// Edits of single objects.
    async fn edit_each(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let Sizes { proxies, keys, services, endpoints, hosts, edits } = self.sizes;
        let few = Duration::from_millis(5);
        let routed = ROUTED.min(services);
        let edit = |n: usize| {
            let patch = json!({"spec": {"http": weights(n % routed, 1 + n as u32 % 80)}});
            (format!("{ROUTES}/s{}", n % routed), Some(patch), Value::Null)
        };
        let concerned = proxies * keys / services;
        let cost = self.measure((0..edits).map(edit).collect(), concerned).await?;
        cost.tell(report, "edit of a route that ten hold", few, concerned);

        let edit = |n: usize| {
            (SLICES.to_owned(), None, endpoint_slice(&format!("more-{n}"), endpoints + n, 1))
        };
        let cost = self.measure((0..edits).map(edit).collect(), LISTENERS).await?;
        cost.tell(report, "new endpoint of a large service", few, LISTENERS);

        let slices = endpoints / 100;
        let edit = |n: usize| {
            let slice = n % slices;
            let mut changed = endpoint_slice(&format!("big-{slice}"), slice * 100, 100);
            changed["endpoints"][n / slices]["conditions"]["ready"] = (n % 2 == 1).into();
            let last = json!({"addresses": [format!("10.201.0.{}", n + 1)]});
            changed["endpoints"][99] = last;
            (format!("{SLICES}/big-{slice}"), Some(changed), Value::Null)
        };
        let cost = self.measure((0..edits).map(edit).collect(), LISTENERS).await?;
        cost.tell_of(report, "slice of a large service changes", few, LISTENERS, 3.2);

        self.api.create(POLICIES, &destination_rule(1)).await?;
        let edit = |n: usize| {
            let patch = json!({"spec": destination_rule(2 + n)["spec"]});
            (format!("{POLICIES}/big"), Some(patch), Value::Null)
        };
        let cost = self.measure((0..edits).map(edit).collect(), LISTENERS).await?;
        cost.tell(report, "policy of a large service", few, LISTENERS);

        let edit = |n: usize| {
            let patch = json!({"metadata": {"labels": {"round": n.to_string()}}});
            (format!("{NAMESPACES}/default"), Some(patch), Value::Null)
        };
        let cost = self.measure((0..edits).map(edit).collect(), 0).await?;
        cost.tell(report, "label of a namespace", few, 0);

        let targets = (services - 1).min(1_000);
        let edit = |n: usize| {
            let at = (n * 97) % hosts;
            let patch = json!({"spec": {"http": weights(at % targets, 1 + n as u32 % 80)}});
            (format!("{ROUTES}/web{at}"), Some(patch), Value::Null)
        };
        let cost = self.measure((0..10 * edits).map(edit).collect(), 1).await?;
        cost.tell(report, "edit of one route of a gateway", Duration::from_millis(2), 1);
        report.time("  applying it at the gateway", cost.applying, Duration::from_millis(1));
        Ok(())
    }
}

/// Waits until something holds.
pub(crate) async fn until(holds: impl Fn() -> bool) -> anyhow::Result<()> {
    let wait = async {
        while !holds() {
            sleep(Duration::from_micros(200)).await;
        }
    };
    timeout(DEADLINE, wait).await.context("a change did not arrive within a minute")
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}
