//! A `Service` to the part of the model that it is alone.

use std::net::IpAddr;

use ironmesh_model::service::{Service, ServicePort};
use ironmesh_model::{Finding, FindingCode, Labels, Name, ServiceId};
use serde::Deserialize;
use serde_json::Value;

use super::fields::{not_here, unbounded};
use super::{ServicePart, Target, TargetPort, protocol};
use crate::Object;
use crate::object::labels;
use crate::path::{field, item};
use crate::schema::{
    API_VERSION, KIND, METADATA, Message, PORT, STATUS, TEXT_MAP, TEXTS, Type, check, honoured,
    required,
};
use crate::translate::Part;

/// Translates a Service. UDP and SCTP ports are left out: the mesh carries TCP.
pub(crate) fn service(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let spec: Spec = serde_json::from_value(check(object, &SERVICE, findings)?).ok()?;
    match spec.kind.as_deref() {
        Some("ExternalName") => return None,
        Some(kind @ ("NodePort" | "LoadBalancer")) if !is_published(object) => {
            let why = format!("{kind}: no port of the host leads to it; a Gateway's does");
            findings.push(Finding::new(object.id(), "spec.type", FindingCode::NotDoneHere, why));
        }
        _ => {}
    }
    let ports = spec.ports.iter().enumerate().filter(|(_, p)| p.protocol.as_deref() != Some("UDP"));
    let mut service_ports = Vec::new();
    let mut targets = Vec::new();
    for (at, port) in ports.filter(|(_, p)| p.protocol.as_deref() != Some("SCTP")) {
        let name: Name = port.name.as_deref().unwrap_or_default().into();
        let protocol = protocol::declared(port.port, port.app_protocol.as_deref(), &name);
        let path = field(&item("spec.ports", at), "targetPort");
        let pod = target_port(object, port, &path, findings)?;
        service_ports.push(ServicePort { number: port.port, name, protocol });
        targets.push(Target { service: port.port, pod });
    }
    let addresses = addresses(object, &spec, findings);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let hostname = format!("{}.{}.svc.cluster.local", object.name(), object.namespace());
    Some(Part::Service(Box::new(ServicePart {
        service: Service {
            id: ServiceId { namespace: object.namespace().clone(), hostname: hostname.into() },
            name: object.name().clone(),
            addresses,
            headless,
            ports: service_ports,
            endpoint_chunks: Vec::new(),
        },
        selector: spec.selector.as_ref().map(labels).filter(|s: &Labels| !s.is_empty()),
        targets,
        publish_not_ready: spec.publish_not_ready_addresses,
        created: object.created(),
    })))
}

/// Whether it is the built-in ingress gateway's, which the platform publishes on the host.
fn is_published(object: &Object) -> bool {
    &**object.namespace() == "istio-system" && &**object.name() == "istio-ingressgateway"
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    selector: Option<Value>,
    ports: Vec<Port>,
    publish_not_ready_addresses: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<String>,
    port: u16,
    protocol: Option<String>,
    app_protocol: Option<String>,
    target_port: Option<Value>,
}

fn target_port(
    object: &Object,
    port: &Port,
    path: &str,
    findings: &mut Vec<Finding>,
) -> Option<TargetPort> {
    let number = |number: u64| u16::try_from(number).ok().filter(|n| *n > 0);
    let target = match &port.target_port {
        None => Some(TargetPort::Number(port.port)),
        Some(Value::Number(n)) if n.as_u64() == Some(0) => Some(TargetPort::Number(port.port)),
        Some(Value::Number(n)) => n.as_u64().and_then(number).map(TargetPort::Number),
        // Kubernetes reads a text of digits as a name, which no container port can have.
        Some(Value::String(name)) => match name.parse() {
            Ok(n) => number(n).map(TargetPort::Number),
            Err(_) if name.is_empty() => Some(TargetPort::Number(port.port)),
            Err(_) => Some(TargetPort::Name(name.as_str().into())),
        },
        Some(_) => None,
    };
    if target.is_none() {
        let message = "this takes a port number from 1 to 65535, or the name of a container's port";
        findings.push(Finding::new(object.id(), path, FindingCode::Invalid, message));
    }
    target
}

fn addresses(object: &Object, spec: &Spec, findings: &mut Vec<Finding>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for text in spec.cluster_ip.iter().chain(&spec.cluster_ips) {
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

static SERVICE: Message = Message {
    name: "Service",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[API_VERSION, KIND, METADATA, required("spec", Type::Object(&SPEC)), STATUS],
};

static SPEC: Message = Message {
    name: "Service.spec",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured(
            "type",
            Type::Listed {
                all: &["ExternalName"],
                honoured: &["ClusterIP", "NodePort", "LoadBalancer"],
            },
        ),
        honoured("clusterIP", Type::Text),
        honoured("clusterIPs", TEXTS),
        honoured("selector", TEXT_MAP),
        honoured("ports", Type::List(&Type::Object(&SERVICE_PORT))),
        honoured("publishNotReadyAddresses", Type::Bool),
        honoured("externalName", Type::Text),
        honoured("sessionAffinity", Type::Listed { all: &["ClientIP"], honoured: &["None"] }),
        honoured("sessionAffinityConfig", Type::Any),
        not_here("externalIPs", TEXTS, "the addresses lead nowhere in the mesh"),
        not_here("loadBalancerIP", Type::Text, "there is no load balancer"),
        not_here("loadBalancerSourceRanges", TEXTS, "there is no load balancer"),
        unbounded("loadBalancerClass", Type::Text, "there is no load balancer"),
        unbounded("allocateLoadBalancerNodePorts", Type::Bool, "node ports are always given"),
        unbounded("healthCheckNodePort", Type::Number, "there is no load balancer"),
        // On one node both words mean the same.
        honoured("externalTrafficPolicy", TRAFFIC_POLICY),
        honoured("internalTrafficPolicy", TRAFFIC_POLICY),
        unbounded("trafficDistribution", Type::Text, "there is one node"),
        unbounded("topologyKeys", TEXTS, "there is one node"),
        honoured("ipFamilies", TEXTS),
        honoured("ipFamilyPolicy", Type::Text),
    ],
};

const TRAFFIC_POLICY: Type = Type::Listed { all: &[], honoured: &["Cluster", "Local"] };

static SERVICE_PORT: Message = Message {
    name: "a port of a Service",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        required("port", PORT),
        honoured("protocol", Type::Listed { all: &["SCTP"], honoured: &["TCP", "UDP"] }),
        honoured("appProtocol", Type::Text),
        honoured("targetPort", Type::Any),
        honoured("nodePort", Type::Integer(0, 65_535)),
    ],
};
