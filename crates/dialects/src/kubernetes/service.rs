//! A `Service` to the part of the model that it is alone.

use std::net::IpAddr;

use ironmesh_model::policy::Distribution;
use ironmesh_model::service::{self, Discovery};
use ironmesh_model::snapshot::Reach;
use ironmesh_model::{Finding, FindingCode, Name, ServiceId};

use super::kinds::{AnyObject, ObjectMeta, Pod};
use super::{ServicePart, Target, TargetPort, labels, protocol};
use crate::Object;
use crate::path::{field, item};
use crate::schema::{Fields, IntegerOrText, read};
use crate::translate::Part;

pub(super) mod fields;

use fields::{
    PUBLISHED, Service, ServicePort, ServiceProtocol, ServiceSpec, ServiceType, SessionAffinity,
};

/// Translates a Service. UDP and SCTP ports are left out: the mesh carries TCP.
pub(crate) fn service(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Service { spec, status, .. } = read(object, findings)?;
    let external = match spec.of {
        ServiceType::ExternalName => Some(outside_name(&spec)?),
        _ => None,
    };
    if let Some(note) = status.conditions.iter().find(|condition| condition.of == PUBLISHED) {
        let note = note.message.as_str();
        findings.push(Finding::new(object.id(), "spec.ports", FindingCode::NotPublished, note));
    }
    let mut service_ports = Vec::new();
    let mut targets = Vec::new();
    for (at, port) in spec.ports.iter().enumerate() {
        if port.protocol != ServiceProtocol::Tcp {
            continue;
        }
        let name: Name = port.name.as_str().into();
        let protocol = protocol::declared(port.port, port.app_protocol.as_deref(), &name);
        let path = field(&item("spec.ports", at), "targetPort");
        let pod = target_port(object, port, &path, findings)?;
        service_ports.push(service::ServicePort { number: port.port, name, protocol });
        targets.push(Target { service: port.port, pod });
    }
    if spec.session_affinity == SessionAffinity::ClientIp {
        let path = "spec.sessionAffinity";
        findings.push(Finding::new(object.id(), path, FindingCode::NotDoneHere, AFFINITY));
    }
    let v6 = spec.ip_families.iter().position(|family| family == "IPv6");
    let v6 = v6.map(|at| item("spec.ipFamilies", at));
    let both = spec.ip_family_policy == "RequireDualStack";
    if let Some(path) = v6.or_else(|| both.then(|| "spec.ipFamilyPolicy".to_owned())) {
        findings.push(Finding::new(object.id(), path, FindingCode::NotDoneHere, NO_IPV6));
    }
    let addresses = addresses(object, &spec, findings);
    let distribution = match spec.traffic_distribution.as_str() {
        "" => distribution(object, findings),
        SAME_NODE => Distribution::SameNode,
        SAME_ZONE | CLOSE => Distribution::SameZone,
        other => {
            let message = format!("{other:?} is none of {CLOSE}, {SAME_ZONE} and {SAME_NODE}");
            let path = "spec.trafficDistribution";
            findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
            Distribution::Any
        }
    };
    let headless = spec.is_headless();
    let hostname = format!("{}.{}.svc.cluster.local", object.name(), object.namespace());
    Some(Part::Service(Box::new(ServicePart {
        service: service::Service {
            id: ServiceId { namespace: object.namespace().clone(), hostname: hostname.into() },
            name: object.name().clone(),
            addresses,
            headless,
            discovery: Discovery::Endpoints,
            distribution,
            certificate_names: Vec::new(),
            ports: service_ports,
            endpoint_chunks: Vec::new(),
        },
        selector: Some(labels(&spec.selector)).filter(|s| !s.is_empty() && external.is_none()),
        external,
        targets,
        publish_not_ready: spec.publish_not_ready_addresses,
        reach: Reach { export_to: exported(object), ..Reach::since(object.created()) },
    })))
}

/// Which endpoints are preferred, by an annotation of a Service or a ServiceEntry.
pub(crate) fn distribution(object: &Object, findings: &mut Vec<Finding>) -> Distribution {
    let Some(word) = object.annotation(DISTRIBUTION).filter(|word| !word.is_empty()) else {
        return Distribution::Any;
    };
    let is = |known: &str| word.eq_ignore_ascii_case(known);
    if is(CLOSE) || is(SAME_ZONE) {
        return Distribution::SameZone;
    }
    if is(SAME_NODE) {
        return Distribution::SameNode;
    }
    let message = format!("{DISTRIBUTION} is {CLOSE}, {SAME_ZONE} or {SAME_NODE}, not {word:?}");
    let path = "metadata.annotations";
    findings.push(Finding::new(object.id(), path, FindingCode::NoEffect, message));
    Distribution::Any
}

/// The annotation by which objects say what `spec.trafficDistribution` of a Service does.
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// Endpoints of the caller's zone are preferred; the older word for it.
const CLOSE: &str = "PreferClose";
/// Endpoints of the caller's zone are preferred.
const SAME_ZONE: &str = "PreferSameZone";
/// Endpoints of the caller's node are preferred.
const SAME_NODE: &str = "PreferSameNode";

/// The namespaces that see a Service, by an annotation; none for all.
fn exported(object: &Object) -> Vec<Name> {
    let annotations = AnyObject::of(object.value()).metadata().annotations();
    let given = annotations.iter().find(|(name, _)| *name == EXPORT_TO);
    let given = given.map_or("", |(_, value)| value).split(',').map(str::trim);
    let given: Vec<String> = given.filter(|text| !text.is_empty()).map(str::to_owned).collect();
    crate::istio::export_to(&given, object)
}

/// The annotation by which a Service says who sees it, as `exportTo` of Istio's kinds does.
pub(super) const EXPORT_TO: &str = "networking.istio.io/exportTo";
/// The name outside for which a Service stands; none if that is one of the mesh, which its callers find
/// by it, or if it has no ports, so that nothing is called by it.
fn outside_name(spec: &ServiceSpec) -> Option<Name> {
    let name = spec.external_name.trim_end_matches('.').to_ascii_lowercase();
    let is_own = name.ends_with(".cluster.local") || name.is_empty();
    (!is_own && !spec.ports.is_empty()).then(|| name.into())
}

/// What stands for the address of a Service that has none of its own.
const HEADLESS: &str = "None";

/// What of `sessionAffinity: ClientIP` is not done here.
const NO_IPV6: &str = "pods have no IPv6, so that the Service has an address of IPv4 alone";
const AFFINITY: &str = "callers without a sidecar meet the same pod again; for those with one, as in \
    Istio, a DestinationRule says so: trafficPolicy.loadBalancer.consistentHash.useSourceIp";

impl ServiceSpec {
    /// Whether it has no address of its own: its name stands for its pods.
    pub fn is_headless(&self) -> bool {
        self.cluster_ip == HEADLESS
    }
}

impl Fields<'_, ServiceSpec> {
    /// Whether it has no address of its own: its name stands for its pods.
    pub fn is_headless(self) -> bool {
        self.cluster_ip() == HEADLESS
    }
}

impl Service {
    /// Whether its selector picks a pod with this metadata.
    pub fn selects(&self, pod: &ObjectMeta) -> bool {
        !self.spec.selector.is_empty()
            && self.metadata.namespace == pod.namespace
            && self.spec.selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
    }
}

impl ServicePort {
    /// The port of a pod to which it leads; none if it names one that no container has.
    pub fn target(&self, pod: &Pod) -> Option<u16> {
        let named = |name: &str| {
            let mut ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
            ports.find(|port| port.name == name).map(|port| port.container_port)
        };
        target(self.port, self.target_port.as_ref(), named)
    }
}

impl Fields<'_, ServicePort> {
    /// The port of a pod to which it leads; none if it names one that no container has.
    pub fn target(self, pod: Fields<'_, Pod>) -> Option<u16> {
        let named = |name: &str| {
            let mut ports = pod.spec().containers().flat_map(|container| container.ports());
            ports.find(|port| port.name() == name).map(|port| port.container_port())
        };
        target(self.port(), self.target_port().as_ref(), named)
    }
}

fn target(
    own: u16,
    target: Option<&IntegerOrText>,
    named: impl FnOnce(&str) -> Option<u16>,
) -> Option<u16> {
    match target {
        None | Some(IntegerOrText::Integer(0)) => Some(own),
        Some(IntegerOrText::Integer(number)) => u16::try_from(*number).ok(),
        Some(IntegerOrText::Text(name)) if name.is_empty() => Some(own),
        Some(IntegerOrText::Text(name)) => name.parse().ok().or_else(|| named(name)),
    }
}

fn target_port(
    object: &Object,
    port: &ServicePort,
    path: &str,
    findings: &mut Vec<Finding>,
) -> Option<TargetPort> {
    let number = |number: i64| u16::try_from(number).ok().filter(|n| *n > 0);
    let target = match &port.target_port {
        None | Some(IntegerOrText::Integer(0)) => Some(TargetPort::Number(port.port)),
        Some(IntegerOrText::Integer(n)) => number(*n).map(TargetPort::Number),
        // Kubernetes reads a text of digits as a name, which no container port can have.
        Some(IntegerOrText::Text(name)) => match name.parse() {
            Ok(n) => number(n).map(TargetPort::Number),
            Err(_) if name.is_empty() => Some(TargetPort::Number(port.port)),
            Err(_) => Some(TargetPort::Name(name.as_str().into())),
        },
    };
    if target.is_none() {
        let message = "this takes a port number from 1 to 65535, or the name of a container's port";
        findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
    }
    target
}

fn addresses(object: &Object, spec: &ServiceSpec, findings: &mut Vec<Finding>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in std::iter::once(&spec.cluster_ip).chain(&spec.cluster_ips) {
        if matches!(text.as_str(), "" | "None") {
            continue;
        }
        match text.parse() {
            Ok(ip) if addresses.contains(&ip) => {}
            Ok(ip) => addresses.push(ip),
            Err(_) => findings.push(Finding::new(
                object.id(),
                "spec.clusterIP",
                FindingCode::Invalid,
                format!("{text:?} is no IP address"),
            )),
        }
    }
    addresses
}
