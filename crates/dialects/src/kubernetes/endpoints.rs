//! `Endpoints` and `EndpointSlice`: addresses of a Service that selects no pods.

use std::collections::HashMap;
use std::net::IpAddr;

use ironmesh_model::service::{Endpoint, EndpointAddress, PortMap, ServicePort, UpstreamTls};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Finding, Labels, Name, WorkloadId};
use serde_json::Value;

use super::{CLUSTER, PodPart, ServicePart, TargetPort};
use crate::Object;
use crate::schema::{API_VERSION, KIND, METADATA, Message, Type, check, honoured, required};
use crate::translate::Part;

/// Addresses that an object lists for a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndpointsPart {
    namespace: Name,
    /// Name of the Service.
    service: Name,
    addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq)]
struct Address {
    ip: IpAddr,
    ready: bool,
    /// The ports that it serves.
    ports: Vec<ListedPort>,
}

#[derive(Clone, Debug, PartialEq)]
enum ListedPort {
    /// The one of this name, at this number.
    Named(Name, u16),
    /// All that the Service has, where that leads them: the port of an EndpointSlice that states no
    /// number.
    All,
}

/// Label of the Endpoints that a control plane makes from a Service's selector; the mesh finds the
/// pods itself. Kubernetes 1.33 and later has the same.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Label with which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Translates `Endpoints`, which belong to the Service of the same name.
pub(crate) fn endpoints(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    check(object, &ENDPOINTS, findings)?;
    if object.labels().value(MANAGED_BY).is_some() {
        return None;
    }
    let mut addresses = Vec::new();
    for subset in items(&object.value()["subsets"]) {
        let ports = ports(&subset["ports"]);
        for (list, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for ip in items(&subset[list]).filter_map(|a| a["ip"].as_str()?.parse().ok()) {
                addresses.push(Address { ip, ready, ports: ports.clone() });
            }
        }
    }
    Some(part(object, object.name().clone(), addresses))
}

/// Translates an `EndpointSlice`, whose label names the Service.
pub(crate) fn endpoint_slice(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    check(object, &ENDPOINT_SLICE, findings)?;
    let labels = object.labels();
    let service = labels.value(SERVICE_NAME)?;
    let ports = ports(&object.value()["ports"]);
    let mut addresses = Vec::new();
    for endpoint in items(&object.value()["endpoints"]) {
        // What does not say so is ready.
        let ready = endpoint["conditions"]["ready"] != Value::Bool(false);
        // The addresses of one endpoint are interchangeable; clients use the first.
        let ip = items(&endpoint["addresses"]).find_map(|ip| ip.as_str()?.parse().ok());
        addresses.extend(ip.map(|ip| Address { ip, ready, ports: ports.clone() }));
    }
    Some(part(object, service.into(), addresses))
}

impl EndpointsPart {
    /// Namespace and name of the Service that it is for.
    pub(super) fn service(&self) -> (Name, Name) {
        (self.namespace.clone(), self.service.clone())
    }

    /// The addresses that it lists.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|address| address.ip)
    }
}

fn part(object: &Object, service: Name, addresses: Vec<Address>) -> Part {
    let namespace = object.namespace().clone();
    Part::Endpoints(Box::new(EndpointsPart { namespace, service, addresses }))
}

/// Ports that carry TCP.
fn ports(list: &Value) -> Vec<ListedPort> {
    items(list)
        .filter(|port| matches!(port["protocol"].as_str(), None | Some("" | "TCP")))
        .filter_map(|port| {
            let Some(number) = port["port"].as_u64() else { return Some(ListedPort::All) };
            let name = port["name"].as_str().unwrap_or_default().into();
            Some(ListedPort::Named(name, u16::try_from(number).ok()?))
        })
        .collect()
}

/// Where a port of a Service leads at an address; none if that does not serve it.
fn target(part: &ServicePart, port: &ServicePort, address: &Address) -> Option<u16> {
    let named = address.ports.iter().find_map(|listed| match listed {
        ListedPort::Named(name, number) => (*name == port.name).then_some(*number),
        ListedPort::All => None,
    });
    let own = || {
        let target = part.targets.iter().find(|target| target.service == port.number);
        match target.map(|target| &target.pod) {
            Some(TargetPort::Number(number)) => *number,
            Some(TargetPort::Name(_)) | None => port.number,
        }
    };
    named.or_else(|| address.ports.contains(&ListedPort::All).then(own))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The endpoints of a Service without a selector. An address that a pod has is that pod, with its
/// identity; any other is outside of the mesh.
pub(super) fn of_service<'a>(
    part: &ServicePart,
    listed: impl Iterator<Item = &'a EndpointsPart>,
    pod_at: impl Fn(IpAddr) -> Option<&'a PodPart>,
    settings: &Settings,
) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut places: HashMap<Name, usize> = HashMap::new();
    for address in listed.flat_map(|list| &list.addresses) {
        let mut endpoint = match pod_at(address.ip) {
            Some(pod) => super::endpoint(part, pod, settings),
            None => outside(part, address.ip),
        };
        endpoint.ready = address.ready || part.publish_not_ready;
        endpoint.ports = part
            .service
            .ports
            .iter()
            .filter_map(|port| {
                let target = target(part, port, address)?;
                Some(PortMap { service: port.number, target })
            })
            .collect();
        // Subsets may list an address again with other ports.
        match places.get(&endpoint.id) {
            Some(at) => {
                let other = &mut endpoints[*at];
                other.ready |= endpoint.ready;
                other.ports.append(&mut endpoint.ports);
                other.ports.sort_by_key(|port| (port.service, port.target));
                other.ports.dedup_by_key(|port| port.service);
            }
            None => {
                places.insert(endpoint.id.clone(), endpoints.len());
                endpoints.push(endpoint);
            }
        }
    }
    endpoints
}

fn outside(part: &ServicePart, ip: IpAddr) -> Endpoint {
    let name: Name = ip.to_string().into();
    let uid: Name = format!("{}/{name}", part.service.id.namespace).into();
    Endpoint {
        id: uid.clone(),
        address: EndpointAddress::Ip(ip),
        ports: Vec::new(),
        labels: Labels::default(),
        workload: WorkloadId {
            cluster: CLUSTER.into(),
            namespace: part.service.id.namespace.clone(),
            name,
            uid,
        },
        owner: part.service.name.clone(),
        tls: UpstreamTls::None,
        ready: true,
        weight: 1,
        network: Name::default(),
        cluster: CLUSTER.into(),
        locality: Name::default(),
    }
}

static ENDPOINTS: Message = Message {
    name: "Endpoints",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[API_VERSION, KIND, METADATA, honoured("subsets", Type::List(&Type::Object(&SUBSET)))],
};

static SUBSET: Message = Message {
    name: "a subset of Endpoints",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("addresses", Type::List(&Type::Object(&ADDRESS))),
        honoured("notReadyAddresses", Type::List(&Type::Object(&ADDRESS))),
        honoured("ports", Type::List(&Type::Object(&PORT))),
    ],
};

static ADDRESS: Message = Message {
    name: "an address",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        required("ip", Type::Text),
        honoured("hostname", Type::Text),
        honoured("nodeName", Type::Text),
        honoured("targetRef", Type::Any),
    ],
};

static PORT: Message = Message {
    name: "a port",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        required("port", crate::schema::PORT),
        honoured("protocol", Type::Text),
        honoured("appProtocol", Type::Text),
    ],
};

static ENDPOINT_SLICE: Message = Message {
    name: "EndpointSlice",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        honoured("addressType", Type::Text),
        honoured("endpoints", Type::List(&Type::Object(&SLICE_ENDPOINT))),
        honoured("ports", Type::List(&Type::Object(&SLICE_PORT))),
    ],
};

static SLICE_PORT: Message = Message {
    name: "a port",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("port", crate::schema::PORT),
        honoured("protocol", Type::Text),
        honoured("appProtocol", Type::Text),
    ],
};

static SLICE_ENDPOINT: Message = Message {
    name: "an endpoint",
    // Topology and hints of many generations: there is one node.
    open: true,
    doc: "",
    protobuf: false,
    fields: &[
        required("addresses", Type::List(&Type::Text)),
        honoured("conditions", Type::Any),
        honoured("hostname", Type::Text),
        honoured("targetRef", Type::Any),
    ],
};
