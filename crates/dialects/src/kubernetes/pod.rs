//! A `Pod` to a workload.

use std::net::IpAddr;

use ironmesh_model::place::{NETWORK, NODE};
use ironmesh_model::{Finding, Name, WorkloadId};

use super::kinds::{
    Container, ContainerRestartPolicy, ObjectMeta, OwnerReference, Pod, PodSpec, PodStatus,
};
use super::{CLUSTER, PodPart, PodProxy, Topology, fields, labels};
use crate::Object;
use crate::schema::{Fields, IntegerOrText};
use crate::translate::Part;

/// Translates a pod; nothing if it has no address yet, or has ended. One that asks for the host's
/// network has an address of its own all the same.
pub(crate) fn pod(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let pod: Pod = fields::read_workload(object, findings)?;
    if pod.is_finished() {
        return None;
    }
    let Pod { metadata, spec, status, .. } = &pod;
    let ip: IpAddr = status.pod_ip.parse().ok()?;
    let ready = status.conditions.iter().any(|c| c.of == READY && c.status == "True");
    let proxy = spec.containers.iter().chain(&spec.init_containers).find(|c| c.name == PROXY);
    let ports = spec.containers.iter().flat_map(|container| &container.ports);
    let named = ports.filter(|port| !port.name.is_empty() && port.container_port != 0);
    let labels = labels(&metadata.labels);
    let asked = spec.node_selector.get(NODE);
    Some(Part::Pod(Box::new(PodPart {
        id: WorkloadId {
            cluster: CLUSTER.into(),
            namespace: object.namespace().clone(),
            name: object.name().clone(),
            uid: object.uid(),
        },
        ip,
        topology: Topology::of_pod(&labels, &spec.node_selector),
        locality: Name::default(),
        network: labels.value(NETWORK).unwrap_or_default().into(),
        node: asked.unwrap_or(&spec.node_name).as_str().into(),
        weight: 1,
        labels,
        owner: metadata.pod_owner().into(),
        service_account: spec.service_account().into(),
        ready: ready && !object.is_terminating(),
        terminating: object.is_terminating(),
        created: object.created(),
        proxy: proxy.map(|proxy| match proxy.args.iter().any(|arg| arg == "router") {
            true => PodProxy::Gateway,
            false => PodProxy::Sidecar,
        }),
        named_ports: named.map(|port| (port.name.as_str().into(), port.container_port)).collect(),
        service_ports: Vec::new(),
    })))
}

/// Whether the phase of a pod is one in which all its containers have ended for good.
fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed")
}

impl Fields<'_, Pod> {
    /// Whether all its containers have ended for good.
    pub fn is_finished(self) -> bool {
        is_final(self.status().phase())
    }

    /// Whether it takes requests: ready, and not on its way out.
    pub fn is_ready(self) -> bool {
        self.metadata().deletion_timestamp().is_none() && self.status().is_ready()
    }
}

impl<'a> Fields<'a, PodSpec> {
    /// Whose identity it has.
    pub fn service_account(self) -> &'a str {
        account(self.service_account_name(), self.old_service_account())
    }
}

impl Fields<'_, PodStatus> {
    /// Whether it says that the pod is ready.
    pub fn is_ready(self) -> bool {
        self.conditions().any(|c| c.of() == READY && c.status() == "True")
    }
}

impl Pod {
    /// Whether all its containers have ended for good.
    pub fn is_finished(&self) -> bool {
        is_final(&self.status.phase)
    }

    /// Its host name: `spec.hostname`, or its name, of which a host name can have 63 characters, as
    /// Kubernetes shortens it.
    pub fn hostname(&self) -> &str {
        if !self.spec.hostname.is_empty() {
            return &self.spec.hostname;
        }
        let name = &self.metadata.name;
        name.get(..HOSTNAME_BYTES_MAX).map_or(name, |kept| kept.trim_end_matches(['-', '.']))
    }
}

impl PodSpec {
    /// Whose identity it has.
    pub fn service_account(&self) -> &str {
        account(&self.service_account_name, &self.old_service_account)
    }
}

/// The account of these names, of which the second is old.
fn account<'a>(name: &'a str, old: &'a str) -> &'a str {
    [name, old].into_iter().find(|name| !name.is_empty()).unwrap_or("default")
}

impl Container {
    /// Whether, as an init container, it stays beside the applications.
    pub fn stays(&self) -> bool {
        self.restart_policy == Some(ContainerRestartPolicy::Always)
    }

    /// The number of a port given by number or by the name of one of its ports.
    pub fn port(&self, port: &IntegerOrText) -> Option<u16> {
        match port {
            IntegerOrText::Integer(number) => u16::try_from(*number).ok(),
            IntegerOrText::Text(name) => self
                .ports
                .iter()
                .find(|port| port.name == *name)
                .map(|port| port.container_port)
                .or_else(|| name.parse().ok()),
        }
    }
}

impl ObjectMeta {
    /// Name of what owns this pod: of the Deployment behind its ReplicaSet, else of what controls it, else
    /// its own.
    pub fn pod_owner(&self) -> &str {
        let controller = self.owner_references.iter().find(|owner| owner.controller);
        let hash = self.labels.get(TEMPLATE_HASH).map(String::as_str);
        pod_owner(&self.name, controller.map(|owner| (&*owner.kind, &*owner.name)), hash)
    }
}

impl<'a> Fields<'a, ObjectMeta> {
    /// The owner that acts on the object.
    pub fn controller(self) -> Option<Fields<'a, OwnerReference>> {
        self.owner_references().find(|owner| owner.controller())
    }

    /// Name of what owns this pod: of the Deployment behind its ReplicaSet, else of what controls it, else
    /// its own.
    pub fn pod_owner(self) -> &'a str {
        let controller = self.controller().map(|owner| (owner.kind(), owner.name()));
        pod_owner(self.name(), controller, self.labels().get(TEMPLATE_HASH))
    }
}

/// Name of what owns a pod, for people and metrics: of the Deployment behind the ReplicaSet that
/// controls it (its kind and name), else of its controlling owner, else its own.
fn pod_owner<'a>(
    name: &'a str,
    controller: Option<(&str, &'a str)>,
    template_hash: Option<&str>,
) -> &'a str {
    let Some((kind, owner)) = controller else { return name };
    let hash = template_hash.filter(|_| kind == "ReplicaSet");
    hash.and_then(|hash| owner.strip_suffix(hash)?.strip_suffix('-')).unwrap_or(owner)
}

/// Label of the pods of a Deployment that tells its versions apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// The condition of a pod that takes requests.
const READY: &str = "Ready";
/// Name of the container that is the mesh's proxy.
const PROXY: &str = "istio-proxy";

/// Bytes of a host name that Linux and DNS take.
const HOSTNAME_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::parse;

    #[test]
    fn what_is_left_out_is_as_in_kubernetes() {
        let pod: Pod = parse(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": null},
            "spec": {"containers": [{
                "name": "c", "image": "i", "args": null,
                "ports": [{"name": "web", "containerPort": 8080}],
                "readinessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 3},
            }]},
        }))
        .unwrap();
        assert_eq!(pod.spec.restart_policy.word(), "Always");
        assert_eq!(pod.spec.termination_grace_period_seconds.get(), 30);
        assert!(pod.spec.enable_service_links);
        assert_eq!((pod.hostname(), pod.spec.service_account()), ("p", "default"));
        let container = &pod.spec.containers[0];
        let probe = container.readiness_probe.as_ref().unwrap();
        assert_eq!((probe.period_seconds.get(), probe.failure_threshold.get()), (3, 3));
        let get = probe.http_get.as_ref().unwrap();
        assert_eq!((get.path.as_str(), get.scheme.word()), ("/", "HTTP"));
        assert_eq!(container.port(&get.port), Some(8080));
        assert_eq!(container.port(&IntegerOrText::Integer(70_000)), None);
    }

    #[test]
    fn a_host_name_has_room_for_what_linux_takes() {
        let pod = |name: String, hostname: &str| -> Pod {
            let spec = json!({"hostname": hostname, "containers": []});
            let metadata = json!({"name": name});
            parse(&json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
                .unwrap()
        };
        assert_eq!(pod("a".repeat(62), "").hostname().len(), 62);
        assert_eq!(pod("a".repeat(80), "").hostname().len(), 63);
        assert_eq!(pod(format!("{}-b-c", "a".repeat(62)), "").hostname(), "a".repeat(62));
        assert_eq!(pod("a".repeat(80), "short").hostname(), "short");
    }
}
