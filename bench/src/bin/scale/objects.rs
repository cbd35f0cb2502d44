//! The objects of the mesh that is measured.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use crate::Sizes;
use crate::api::Api;

/// Creates all objects. Returns the uids of the proxies' pods, that of the gateway last.
pub(crate) async fn fill(socket: &Path, sizes: &Sizes) -> anyhow::Result<Vec<String>> {
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

/// Creates objects over several connections. Returns them in the same order.
pub(crate) async fn create_all(
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

pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        // Without an address: giving one out looks at all that are taken.
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })
}

/// Addresses that no pod has.
pub(crate) fn endpoint_slice(name: &str, first: usize, addresses: usize) -> Value {
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

pub(crate) fn route(name: &str, host: &str, gateway: &str, to: usize, weight: u32) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {"hosts": [host], "gateways": [gateway], "http": weights(to, weight)},
    })
}

pub(crate) fn weights(to: usize, weight: u32) -> Value {
    json!([{"route": [
        {"destination": {"host": format!("s{to}")}, "weight": weight},
        {"destination": {"host": format!("s{}", to + 1)}, "weight": 100 - weight},
    ]}])
}

pub(crate) fn pod(name: &str, label: &str, value: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {label: value}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

/// A slice of one endpoint for a service of that name, and with its name.
pub(crate) fn slice_of(service: &str, n: usize) -> Value {
    let mut slice = endpoint_slice(service, 10_000 + n, 1);
    slice["metadata"]["labels"]["kubernetes.io/service-name"] = service.into();
    slice
}

/// The service of the pods `app: crowd`.
pub(crate) fn crowd() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "crowd"},
        "spec": {"clusterIP": "None", "selector": {"app": "crowd"},
            "ports": [{"name": "http", "port": 80}]},
    })
}

/// The status of a running pod; `round` changes what matters to nobody.
pub(crate) fn running(n: usize, ready: bool, round: usize) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({"status": {
        "phase": "Running", "podIP": format!("10.210.{}.{}", n / 250, n % 250 + 1),
        "conditions": [
            {"type": "Ready", "status": ready},
            {"type": "Round", "status": "True", "message": round.to_string()},
        ],
    }})
}

/// A policy of the large service.
pub(crate) fn destination_rule(connections: usize) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "big"},
        "spec": {"host": "big", "trafficPolicy": {"connectionPool": {
            "tcp": {"maxConnections": connections}}}},
    })
}

/// Services that have a route.
pub(crate) const ROUTED: usize = 100;

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
pub(crate) const GATEWAYS: &str = "/apis/networking.istio.io/v1/namespaces/default/gateways";
pub(crate) const NAMESPACES: &str = "/api/v1/namespaces";
pub(crate) const POLICIES: &str =
    "/apis/networking.istio.io/v1/namespaces/default/destinationrules";
pub(crate) const ROUTES: &str = "/apis/networking.istio.io/v1/namespaces/default/virtualservices";

/// Requests to the API at a time while it is filled.
const WRITERS: usize = 8;
