//! A `Pod` to a workload.

use std::net::IpAddr;

use ironmesh_model::{Finding, Name, WorkloadId};
use serde::Deserialize;
use serde_json::Value;

use super::{CLUSTER, PodPart};
use crate::Object;
use crate::translate::Part;

/// Translates a pod; nothing if it has no address of its own yet, or has ended.
pub(crate) fn pod(object: &Object, _: &mut [Finding]) -> Option<Part> {
    let value = object.value();
    let read = |part: &str| value.get(part).cloned().unwrap_or_default();
    let spec: Spec = serde_json::from_value(read("spec")).unwrap_or_default();
    let status: Status = serde_json::from_value(read("status")).unwrap_or_default();
    if spec.host_network || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ip: IpAddr = status.pod_ip?.parse().ok()?;
    let ready = status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True");
    let proxy = spec.containers.iter().chain(&spec.init_containers).find(|c| c.name == PROXY);
    let gateway = proxy.is_some_and(|proxy| proxy.args.iter().any(|arg| arg == "router"));
    let ports = spec.containers.iter().flat_map(|container| &container.ports);
    Some(Part::Pod(Box::new(PodPart {
        id: WorkloadId {
            cluster: CLUSTER.into(),
            namespace: object.namespace().clone(),
            name: object.name().clone(),
            uid: object.uid(),
        },
        ip,
        labels: object.labels(),
        owner: owner(object),
        service_account: spec.service_account_name.as_deref().unwrap_or("default").into(),
        ready: ready && !object.is_terminating(),
        meshed: proxy.is_some(),
        sidecar: proxy.is_some() && !gateway,
        named_ports: ports
            .filter_map(|port| Some((port.name.as_deref()?.into(), port.container_port)))
            .collect(),
    })))
}

/// Name of the Deployment behind the ReplicaSet that owns the pod, else of its owner, else its own.
fn owner(object: &Object) -> Name {
    let references = object.value().pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let mut references = references.into_iter().flatten();
    let is_controller = |reference: &&Value| reference["controller"] == Value::Bool(true);
    let Some(owner) = references.clone().find(is_controller).or_else(|| references.next()) else {
        return object.name().clone();
    };
    let name = owner["name"].as_str().unwrap_or_default();
    let labels = object.labels();
    let deployment = labels
        .value("pod-template-hash")
        .filter(|_| owner["kind"] == "ReplicaSet")
        .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    deployment.unwrap_or(name).into()
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    service_account_name: Option<String>,
    host_network: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
    args: Vec<String>,
    ports: Vec<ContainerPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerPort {
    name: Option<String>,
    container_port: u16,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// Name of the container that is the mesh's proxy.
const PROXY: &str = "istio-proxy";
