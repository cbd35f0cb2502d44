//! A `Pod` to a workload.

use std::net::IpAddr;

use ironmesh_model::{Finding, WorkloadId};
use serde_json::Value;

use super::kinds::{Pod, PodSpec};
use super::{CLUSTER, PodPart, fields, labels};
use crate::Object;
use crate::translate::Part;

/// Translates a pod; nothing if it has no address yet, or has ended. One that asks for the host's
/// network has an address of its own all the same.
pub(crate) fn pod(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Pod { metadata, spec, status, .. } = fields::read_workload(object, findings)?;
    if matches!(status.phase.as_str(), "Succeeded" | "Failed") {
        return None;
    }
    let ip: IpAddr = status.pod_ip.parse().ok()?;
    let ready = status.conditions.iter().any(|c| c.of == "Ready" && c.status == "True");
    let proxy = spec.containers.iter().chain(&spec.init_containers).find(|c| c.name == PROXY);
    let gateway = proxy.is_some_and(|proxy| proxy.args.iter().any(|arg| arg == "router"));
    let ports = spec.containers.iter().flat_map(|container| &container.ports);
    let named = ports.filter(|port| !port.name.is_empty() && port.container_port != 0);
    Some(Part::Pod(Box::new(PodPart {
        id: WorkloadId {
            cluster: CLUSTER.into(),
            namespace: object.namespace().clone(),
            name: object.name().clone(),
            uid: object.uid(),
        },
        ip,
        labels: labels(&metadata.labels),
        owner: pod_owner(object.value()).into(),
        service_account: service_account(&spec).into(),
        ready: ready && !object.is_terminating(),
        terminating: object.is_terminating(),
        created: object.created(),
        meshed: proxy.is_some(),
        sidecar: proxy.is_some() && !gateway,
        named_ports: named.map(|port| (port.name.as_str().into(), port.container_port)).collect(),
    })))
}

/// Whose identity a pod has.
fn service_account(spec: &PodSpec) -> &str {
    match spec.service_account_name.as_str() {
        "" => "default",
        name => name,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// Name of what owns a pod, for people and metrics: of the Deployment behind the ReplicaSet that
/// controls it, else of its controlling owner, else its own.
pub fn pod_owner(pod: &Value) -> &str {
    let mut references = items(&pod["metadata"]["ownerReferences"]);
    let Some(owner) = references.find(|owner| owner["controller"] == true) else {
        return pod["metadata"]["name"].as_str().unwrap_or_default();
    };
    let name = owner["name"].as_str().unwrap_or_default();
    let deployment = pod["metadata"]["labels"]["pod-template-hash"]
        .as_str()
        .filter(|_| owner["kind"] == "ReplicaSet")
        .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'));
    deployment.unwrap_or(name)
}

/// Name of the container that is the mesh's proxy.
const PROXY: &str = "istio-proxy";
