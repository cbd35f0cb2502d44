//! Services and pods to services, endpoints and workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ironmesh_model::service::{Endpoint, EndpointAddress, PortMap, Service, UpstreamTls, Workload};
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::{Created, Reach};
use ironmesh_model::{Finding, FindingCode, Identity, Labels, Name, WorkloadId};

use crate::Object;

mod annotations;
pub mod base64;
pub mod capabilities;
mod credential;
mod endpoints;
mod fields;
pub mod image;
mod ingress;
mod members;
mod pod;
mod protocol;
mod service;
pub mod sysctls;
mod topology;

pub(crate) use annotations::annotations;
pub(crate) use credential::credential;
pub(crate) use endpoints::{EndpointsPart, endpoint_slice, endpoints};
pub use endpoints::{MIRRORING_CONTROLLER, SERVICE_NAME, SLICE_CONTROLLER, SLICE_MANAGED_BY};
pub use fields::node_labels;
pub(crate) use fields::{metadata, old_workload, read_workload};
pub use ingress::{IngressClasses, set_default_class};
pub(crate) use ingress::{IngressPart, as_old_ingress, ingress, ingress_class, old_ingress};
pub(crate) use members::Members;
pub(crate) use pod::pod;
pub(crate) use protocol::declared as declared_protocol;
pub(crate) use service::{distribution, service};
pub(crate) use topology::{NodePart, Topology, node};

/// The annotation of a namespace that the mesh has made for itself and that nobody has created since.
pub const MADE_BY_MESH: &str = "ironmesh.io/made-by-mesh";

/// The kinds: what their manifests say.
pub mod kinds {
    pub use super::endpoints::fields::*;
    pub use super::fields::kinds::*;
    pub use super::ingress::fields::*;
    pub use super::service::fields::*;
}

/// Labels as the model has them.
fn labels(given: &BTreeMap<String, String>) -> Labels {
    given.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// A Service, before it is known which pods it selects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServicePart {
    service: Service,
    /// `None`: it has no selector, so it selects nothing.
    selector: Option<Labels>,
    /// The name outside for which it stands.
    external: Option<Name>,
    targets: Vec<Target>,
    publish_not_ready: bool,
    reach: Reach,
}

/// Checks a Namespace, and whether its labels contradict each other about sidecars (Istio's analyzer,
/// IST0123).
pub(crate) fn namespace(object: &Object, findings: &mut Vec<Finding>) {
    read_workload::<kinds::Namespace>(object, findings);
    let labels = object.labels();
    if let (Some(word), Some(_)) = (labels.value("istio-injection"), labels.value("istio.io/rev")) {
        let path = r#"metadata.labels["istio.io/rev"]"#;
        let message = format!("istio-injection: {word} counts, and the revision does not");
        findings.push(Finding::new(object.id(), path, FindingCode::NoEffect, message));
    }
}

/// Whether this is the volume of a claim, which was made here.
pub(crate) fn is_own_volume(object: &Object) -> bool {
    object.annotation(PROVISIONED_BY).is_some_and(|provisioner| provisioner == PROVISIONER)
}

/// The annotation of a volume that says who made it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// What it says of those that are made here.
pub const PROVISIONER: &str = "ironmesh";

impl ServicePart {
    /// Namespace and name of the Service.
    pub(crate) fn place(&self) -> (Name, Name) {
        (self.service.id.namespace.clone(), self.service.name.clone())
    }

    /// Where a port of it is at a pod; `None`: the pod does not have it.
    fn port_at(&self, target: &Target, pod: &PodPart) -> Option<u16> {
        let name = self.service.port(target.service).map(|port| &port.name);
        name.and_then(|name| pod.service_port(name)).or_else(|| match &target.pod {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Name(name) => Some(pod.named_ports.iter().find(|(n, _)| n == name)?.1),
        })
    }
}

/// The pods that a Service selects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SelectedPods {
    /// Their labels.
    pub(crate) labels: Labels,
    /// Where they have the ports of the Service.
    pub(crate) ports: Vec<SelectedPort>,
}

/// A port of a Service, and where its pods have it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SelectedPort {
    /// Number that callers use.
    pub(crate) number: u16,
    /// Its name; empty if it has none.
    pub(crate) name: Name,
    /// Ports of the pods; several if they have one name for unlike ones.
    pub(crate) at: BTreeSet<u16>,
}

/// Where one port of a Service leads.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    service: u16,
    pod: TargetPort,
}

#[derive(Clone, Debug, PartialEq)]
enum TargetPort {
    Number(u16),
    Name(Name),
}

/// What the proxy of a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodProxy {
    /// The application beside it, for whose ports it takes mutual TLS.
    Sidecar,
    /// What Gateways say, which also say where it takes mutual TLS.
    Gateway,
}

/// A running pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PodPart {
    id: WorkloadId,
    ip: IpAddr,
    labels: Labels,
    pub(crate) owner: Name,
    pub(crate) service_account: Name,
    pub(crate) ready: bool,
    terminating: bool,
    pub(crate) created: Created,
    /// The proxy that it has, if any.
    proxy: Option<PodProxy>,
    named_ports: Vec<(Name, u16)>,
    /// Where ports of services are, by the names of these.
    pub(crate) service_ports: Vec<(Name, u16)>,
    /// Where it says that it is.
    pub(crate) topology: Topology,
    /// Where it is, all told.
    locality: Name,
    /// The network that it is on.
    pub(crate) network: Name,
    /// Name of its node; empty if it has none.
    node: Name,
    /// Its share of requests relative to others.
    pub(crate) weight: u32,
}

/// Which of two pods holds the address that both have had: one that is going has given it up.
fn holder<'a>(a: &'a PodPart, b: &'a PodPart) -> &'a PodPart {
    let rank = |pod: &'a PodPart| (!pod.terminating, pod.created, &pod.id);
    if rank(a) >= rank(b) { a } else { b }
}

fn endpoint(part: &ServicePart, pod: &PodPart, settings: &Settings) -> Endpoint {
    let map = |target: &Target| {
        Some(PortMap { service: target.service, target: part.port_at(target, pod)? })
    };
    let ports = part.targets.iter().filter_map(map).collect();
    let endpoint = pod.as_endpoint(ports, settings);
    Endpoint { ready: pod.ready || part.publish_not_ready, ..endpoint }
}

fn workload(pod: &PodPart, settings: &Settings) -> Workload {
    Workload {
        id: pod.id.clone(),
        owner: pod.owner.clone(),
        identity: identity(pod, settings),
        labels: pod.labels.clone(),
        meshed: pod.proxy.is_some(),
        tls: tls(pod, settings),
        tls_at: Vec::new(),
        locality: pod.locality.clone(),
        network: pod.network.clone(),
        node: pod.node.clone(),
    }
}

impl PodPart {
    /// Namespace of the workload.
    pub(crate) fn namespace(&self) -> &Name {
        &self.id.namespace
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its address.
    pub(crate) fn ip(&self) -> IpAddr {
        self.ip
    }

    /// A workload that is none of the platform's.
    pub(crate) fn of_entry(id: WorkloadId, ip: IpAddr, labels: Labels, has_proxy: bool) -> Self {
        Self {
            id,
            ip,
            labels,
            owner: Name::default(),
            service_account: Name::default(),
            ready: true,
            terminating: false,
            created: Created::default(),
            proxy: has_proxy.then_some(PodProxy::Sidecar),
            named_ports: Vec::new(),
            service_ports: Vec::new(),
            topology: Topology::default(),
            locality: Name::default(),
            network: Name::default(),
            node: Name::default(),
            weight: 1,
        }
    }

    /// Puts it where it is, if this is its node.
    fn settle(&mut self, node: Option<&NodePart>) {
        self.locality = self.topology.on(node);
    }

    /// Where it has the port of this name of a service, if it says so.
    pub(crate) fn service_port(&self, name: &str) -> Option<u16> {
        self.service_ports.iter().find(|(own, _)| **own == *name).map(|(_, port)| *port)
    }

    /// The endpoint that it is of a service with these ports.
    pub(crate) fn as_endpoint(&self, ports: Vec<PortMap>, settings: &Settings) -> Endpoint {
        Endpoint {
            id: self.id.uid.clone(),
            address: EndpointAddress::Ip(self.ip),
            ports,
            labels: self.labels.clone(),
            workload: self.id.clone(),
            owner: self.owner.clone(),
            tls: tls(self, settings),
            tls_at: Vec::new(),
            ready: self.ready,
            weight: self.weight,
            network: self.network.clone(),
            cluster: self.id.cluster.clone(),
            locality: self.locality.clone(),
            node: self.node.clone(),
        }
    }
}

/// How a pod's callers speak to it, unless policies turn mutual TLS off.
fn tls(pod: &PodPart, settings: &Settings) -> UpstreamTls {
    match pod.proxy {
        None => UpstreamTls::None,
        Some(PodProxy::Sidecar) => UpstreamTls::Mesh(identity(pod, settings)),
        Some(PodProxy::Gateway) => UpstreamTls::Asked(identity(pod, settings)),
    }
}

fn identity(pod: &PodPart, settings: &Settings) -> Identity {
    Identity {
        trust_domain: settings.trust_domain.clone(),
        namespace: pod.id.namespace.clone(),
        service_account: pod.service_account.clone(),
    }
}

/// The cluster that all workloads are in until there are several; Istio's default name.
pub(crate) const CLUSTER: &str = "Kubernetes";
