//! A `Pod` to a workload.

use std::net::IpAddr;

use ironmesh_model::{Finding, Name, WorkloadId};
use serde_json::Value;

use super::{CLUSTER, PodPart, fields};
use crate::Object;
use crate::translate::Part;

/// Translates a pod; nothing if it has no address yet, or has ended. One that asks for the host's
/// network has an address of its own all the same.
pub(crate) fn pod(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    fields::check_fields(object, "", "Pod", findings);
    let (spec, status) = (&object.value()["spec"], &object.value()["status"]);
    if matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let ip: IpAddr = status["podIP"].as_str()?.parse().ok()?;
    let ready = items(&status["conditions"]).any(|c| c["type"] == "Ready" && c["status"] == "True");
    let containers = || items(&spec["containers"]);
    let proxy = containers().chain(items(&spec["initContainers"])).find(|c| c["name"] == PROXY);
    let gateway = proxy.is_some_and(|proxy| items(&proxy["args"]).any(|arg| arg == "router"));
    let named_port = |port: &Value| {
        let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
        Some((Name::from(port["name"].as_str()?), number))
    };
    Some(Part::Pod(Box::new(PodPart {
        id: WorkloadId {
            cluster: CLUSTER.into(),
            namespace: object.namespace().clone(),
            name: object.name().clone(),
            uid: object.uid(),
        },
        ip,
        labels: object.labels(),
        owner: pod_owner(object.value()).into(),
        service_account: spec["serviceAccountName"].as_str().unwrap_or("default").into(),
        ready: ready && !object.is_terminating(),
        terminating: object.is_terminating(),
        created: object.created(),
        meshed: proxy.is_some(),
        sidecar: proxy.is_some() && !gateway,
        named_ports: containers().flat_map(|c| items(&c["ports"])).filter_map(named_port).collect(),
    })))
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
