//! The mesh that is measured, and the edits of it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ironmesh_model::ResourceKey;
use ironmesh_model::bootstrap::ProxyKind;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::Sizes;
use crate::api::Api;
use crate::control::Control;
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

    let concerned = sizes.proxies * sizes.keys / sizes.services;
    let cost = mesh.weights_of_services().await?;
    cost.tell(&mut report, "edit of a route that ten hold", Duration::from_millis(5), concerned);
    let cost = mesh.endpoints().await?;
    cost.tell(&mut report, "endpoint of a large service", Duration::from_millis(50), LISTENERS);
    let cost = mesh.weights_at_gateway().await?;
    cost.tell(&mut report, "edit of one route of a gateway", Duration::from_millis(2), 1);
    report.time("  applying it at the gateway", cost.applying, Duration::from_millis(1));
    let (cpu, services) = mesh.delete_services().await?;
    report.time(&format!("deleting {services} services"), cpu, Duration::from_secs(1));
    Ok(report)
}

/// Proxies that hold the large service.
const LISTENERS: usize = 10;

/// Services that have a route.
const ROUTED: usize = 100;

/// Requests to the API at a time while it is filled.
const WRITERS: usize = 8;

/// Longest wait for a change to arrive.
const DEADLINE: Duration = Duration::from_secs(60);

/// Creates all objects. Returns the uids of the proxies' pods, that of the gateway last.
async fn fill(socket: &Path, sizes: &Sizes) -> anyhow::Result<Vec<String>> {
    let mut objects: Vec<(&'static str, Value)> = Vec::new();
    for n in 0..sizes.services {
        objects.push((SERVICES, service(&format!("s{n}"))));
    }
    objects.push((SERVICES, service("big")));
    for slice in 0..sizes.endpoints / 100 {
        objects.push((SLICES, endpoint_slice(&format!("big-{slice}"), slice * 100, 100)));
    }
    objects.push((
        GATEWAYS,
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Gateway",
            "metadata": {"name": "edge"},
            "spec": {"selector": {"edge": "bench"}, "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]},
        }),
    ));
    for n in 0..ROUTED.min(sizes.services) {
        objects.push((ROUTES, route(&format!("s{n}"), &format!("s{n}"), "mesh", n, 90)));
    }
    for n in 0..sizes.hosts {
        let (name, host) = (format!("web{n}"), format!("h{n}.example.com"));
        objects
            .push((ROUTES, route(&name, &host, "edge", n % (sizes.services - 1).min(1_000), 90)));
    }
    create_all(socket, objects).await?;
    let mut pods: Vec<(&'static str, Value)> = (0..sizes.proxies)
        .map(|n| (PODS, pod(&format!("p{n}"), "app", &format!("a{n}"))))
        .collect();
    pods.push((PODS, pod("edge", "edge", "bench")));
    let made = create_all(socket, pods).await?;
    let uid = |pod: &Value| pod["metadata"]["uid"].as_str().map(str::to_owned);
    made.iter().map(|pod| uid(pod).context("a pod without uid")).collect()
}

const SERVICES: &str = "/api/v1/namespaces/default/services";
const PODS: &str = "/api/v1/namespaces/default/pods";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const GATEWAYS: &str = "/apis/networking.istio.io/v1/namespaces/default/gateways";
const ROUTES: &str = "/apis/networking.istio.io/v1/namespaces/default/virtualservices";

/// Creates objects over several connections. Returns them in the same order.
async fn create_all(
    socket: &Path,
    mut objects: Vec<(&'static str, Value)>,
) -> anyhow::Result<Vec<Value>> {
    let chunk = objects.len().div_ceil(WRITERS).max(1);
    let mut writers = Vec::new();
    while !objects.is_empty() {
        let rest = objects.split_off(chunk.min(objects.len()));
        let (socket, part) = (socket.to_owned(), std::mem::replace(&mut objects, rest));
        writers.push(tokio::task::spawn_local(async move {
            let mut api = Api::connect(&socket).await?;
            let mut made = Vec::new();
            for (path, object) in part {
                made.push(api.create(path, &object).await?);
            }
            anyhow::Ok(made)
        }));
    }
    let mut all = Vec::new();
    for writer in writers {
        all.extend(writer.await??);
    }
    Ok(all)
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        // Without an address: giving one out looks at all that are taken.
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })
}

/// Addresses that no pod has.
fn endpoint_slice(name: &str, first: usize, addresses: usize) -> Value {
    let address = |n: usize| format!("10.200.{}.{}", n / 250, n % 250 + 1);
    let endpoints: Vec<Value> = (first..first + addresses)
        .map(|n| json!({"addresses": [address(n)], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "big"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": endpoints,
    })
}

fn route(name: &str, host: &str, gateway: &str, to: usize, weight: u32) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {"hosts": [host], "gateways": [gateway], "http": weights(to, weight)},
    })
}

fn weights(to: usize, weight: u32) -> Value {
    json!([{"route": [
        {"destination": {"host": format!("s{to}")}, "weight": weight},
        {"destination": {"host": format!("s{}", to + 1)}, "weight": 100 - weight},
    ]}])
}

fn pod(name: &str, label: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {label: value}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

/// The control plane with its proxies.
struct Mesh {
    control: Control,
    api: Api,
    sizes: Sizes,
    proxies: Vec<Proxy>,
}

/// What edits of one kind cost, each on average.
struct Cost {
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
    fn tell(&self, report: &mut Report, what: &str, cpu: Duration, told: usize) {
        report.time(&format!("{what}: CPU"), self.cpu, cpu);
        report.number("  proxies told", self.told, told as f64);
        // A chunk of endpoints that is split makes two, and a list of them.
        report.number("  keys sent to each", self.keys, 1.2);
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
                proxy.client.subscribe([service_key("big")]);
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
    async fn settle(&self) {
        let count = || self.proxies.iter().map(|proxy| proxy.told.updates.get()).sum::<usize>();
        let mut before = usize::MAX;
        while before != count() {
            before = count();
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Makes edits, one after the other; `wait_for` says how many proxies learn of each.
    async fn measure(
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

    fn keys(&self) -> usize {
        self.proxies.iter().map(|proxy| proxy.told.keys.get()).sum()
    }

    /// The share of a CPU that the control plane uses when nothing changes.
    async fn idle_share(&self) -> anyhow::Result<f64> {
        let (begun, before) = (Instant::now(), self.control.cpu_time()?);
        sleep(Duration::from_secs(2)).await;
        let used = self.control.cpu_time()? - before;
        Ok(used.as_secs_f64() / begun.elapsed().as_secs_f64())
    }

    async fn weights_of_services(&mut self) -> anyhow::Result<Cost> {
        let routed = ROUTED.min(self.sizes.services);
        let edit = |n: usize| {
            let patch = json!({"spec": {"http": weights(n % routed, 1 + n as u32 % 80)}});
            (format!("{ROUTES}/s{}", n % routed), Some(patch), Value::Null)
        };
        let concerned = self.sizes.proxies * self.sizes.keys / self.sizes.services;
        self.measure((0..self.sizes.edits).map(edit).collect(), concerned).await
    }

    async fn endpoints(&mut self) -> anyhow::Result<Cost> {
        let first = self.sizes.endpoints;
        let edit = |n: usize| {
            (SLICES.to_owned(), None, endpoint_slice(&format!("more-{n}"), first + n, 1))
        };
        self.measure((0..self.sizes.edits).map(edit).collect(), LISTENERS).await
    }

    async fn weights_at_gateway(&mut self) -> anyhow::Result<Cost> {
        let services = (self.sizes.services - 1).min(1_000);
        let edit = |n: usize| {
            let at = (n * 97) % self.sizes.hosts;
            let patch = json!({"spec": {"http": weights(at % services, 1 + n as u32 % 80)}});
            (format!("{ROUTES}/web{at}"), Some(patch), Value::Null)
        };
        let edits = (0..self.sizes.edits).map(edit).collect();
        self.measure(edits, 1).await
    }

    /// Deletes many services that nobody holds. Returns the CPU time and how many they were.
    async fn delete_services(&mut self) -> anyhow::Result<(Duration, usize)> {
        let count = self.sizes.services / 3;
        self.settle().await;
        let before = self.control.cpu_time()?;
        for n in 0..count {
            self.api.delete(&format!("{SERVICES}/s{}", self.sizes.services - 1 - n)).await?;
        }
        self.settle().await;
        Ok((self.control.cpu_time()? - before, count))
    }
}

/// Waits until something holds.
async fn until(holds: impl Fn() -> bool) -> anyhow::Result<()> {
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
