//! `Endpoints` and `EndpointSlice`: addresses of a Service that selects no pods.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ironmesh_model::service::{Endpoint, EndpointAddress, PortMap, ServicePort, UpstreamTls};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Finding, Labels, Name, WorkloadId};

use super::kinds::{AnyObject, ServiceProtocol};
use super::{CLUSTER, PodPart, ServicePart, TargetPort};
use crate::Object;
use crate::schema::read;
use crate::translate::Part;

pub(super) mod fields;

use fields::{EndpointSlice, Endpoints};

/// Addresses that an object lists for a Service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EndpointsPart {
    namespace: Name,
    /// Name of the Service.
    service: Name,
    /// In order of their numbers; one may be listed several times, with different ports.
    addresses: Vec<Address>,
}

/// An address that is listed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    ip: IpAddr,
    ready: bool,
    /// The ports that it serves.
    ports: Arc<[ListedPort]>,
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
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label with which an EndpointSlice names what made it.
pub const SLICE_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// What makes the slices of Services with a selector. The mesh finds their pods itself.
pub const SLICE_CONTROLLER: &str = "endpointslice-controller.k8s.io";
/// What makes the slices that repeat Endpoints. The mesh reads the Endpoints.
pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";

/// Translates `Endpoints`, which belong to the Service of the same name.
pub(crate) fn endpoints(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let Endpoints { subsets, .. } = read(object, findings)?;
    if object.labels().value(MANAGED_BY).is_some() {
        return None;
    }
    let mut addresses = Vec::new();
    for subset in &subsets {
        let listed = subset.ports.iter().map(|p| (&p.name, Some(p.port), p.protocol));
        let ports = ports(listed);
        for (list, ready) in [(&subset.addresses, true), (&subset.not_ready_addresses, false)] {
            for ip in list.iter().filter_map(|address| address.ip.parse().ok()) {
                addresses.push(Address { ip, ready, ports: ports.clone() });
            }
        }
    }
    Some(part(object, object.name().clone(), addresses))
}

/// Translates an `EndpointSlice`, whose label names the Service. What a control plane made of a Service's
/// selector or Endpoints says nothing new.
pub(crate) fn endpoint_slice(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let labels = object.labels();
    let manager = labels.value(SLICE_MANAGED_BY);
    if manager.is_some_and(|manager| [SLICE_CONTROLLER, MIRRORING_CONTROLLER].contains(&manager))
        && has_controller(object)
    {
        return None;
    }
    let slice: EndpointSlice = read(object, findings)?;
    let service = labels.value(SERVICE_NAME)?;
    let ports = ports(slice.ports.iter().map(|p| (&p.name, p.port, p.protocol)));
    let mut addresses = Vec::new();
    for endpoint in &slice.endpoints {
        // What does not say so is ready.
        let ready = endpoint.conditions.ready != Some(false);
        // The addresses of one endpoint are interchangeable; clients use the first.
        let ip = endpoint.addresses.iter().find_map(|ip| ip.parse().ok());
        addresses.extend(ip.map(|ip| Address { ip, ready, ports: ports.clone() }));
    }
    Some(part(object, service.into(), addresses))
}

/// Whether an object belongs to the one of which a control plane made it: users' own do not.
fn has_controller(object: &Object) -> bool {
    AnyObject::of(object.value()).metadata().controller().is_some()
}

impl EndpointsPart {
    /// Namespace and name of the Service that it is for.
    pub(super) fn service(&self) -> (Name, Name) {
        (self.namespace.clone(), self.service.clone())
    }

    /// Whether it is for the Service of this namespace and name.
    pub(super) fn is_for(&self, (namespace, service): &(Name, Name)) -> bool {
        self.service == *service && self.namespace == *namespace
    }

    /// The addresses that it lists, in order, each once.
    pub(super) fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.chunk_by(|a, b| a.ip == b.ip).map(|same| same[0].ip)
    }

    /// What it says about an address.
    pub(super) fn at(&self, ip: IpAddr) -> &[Address] {
        let first = self.addresses.partition_point(|address| address.ip < ip);
        let rest = &self.addresses[first..];
        &rest[..rest.partition_point(|address| address.ip == ip)]
    }

    /// The addresses about which another one does not say the same.
    pub(super) fn differing(&self, other: &Self) -> BTreeSet<IpAddr> {
        let all = self.ips().chain(other.ips());
        all.filter(|ip| self.at(*ip) != other.at(*ip)).collect()
    }
}

fn part(object: &Object, service: Name, mut addresses: Vec<Address>) -> Part {
    addresses.sort_by_key(|address| address.ip);
    let namespace = object.namespace().clone();
    Part::Endpoints(Box::new(EndpointsPart { namespace, service, addresses }))
}

/// Of ports with name, number and protocol those that carry TCP.
fn ports<'a>(
    list: impl Iterator<Item = (&'a String, Option<u16>, ServiceProtocol)>,
) -> Arc<[ListedPort]> {
    list.filter(|(_, _, protocol)| *protocol == ServiceProtocol::Tcp)
        .map(|(name, number, _)| match number {
            Some(number) => ListedPort::Named(name.as_str().into(), number),
            None => ListedPort::All,
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

/// The endpoint of a Service without a selector at an address, from all that is listed about that; none
/// if nothing is. If a pod has the address it is that pod, with its identity; else it is outside of the
/// mesh.
pub(super) fn at_address<'a>(
    part: &ServicePart,
    ip: IpAddr,
    pod: Option<&PodPart>,
    mut listed: impl Iterator<Item = &'a Address>,
    settings: &Settings,
) -> Option<Endpoint> {
    let ports = |address: &'a Address| {
        part.service.ports.iter().filter_map(|port| {
            let target = target(part, port, address)?;
            Some(PortMap { service: port.number, target })
        })
    };
    let first = listed.next()?;
    let mut endpoint = match pod {
        Some(pod) => super::endpoint(part, pod, settings),
        None => outside(part, ip),
    };
    endpoint.ready = part.publish_not_ready || first.ready;
    endpoint.ports = ports(first).collect();
    // Subsets may list an address again with other ports.
    for address in listed {
        endpoint.ready |= address.ready;
        endpoint.ports.extend(ports(address));
        endpoint.ports.sort_by_key(|port| (port.service, port.target));
        endpoint.ports.dedup_by_key(|port| port.service);
    }
    Some(endpoint)
}

/// The id of what [`at_address`] makes.
pub(super) fn id_at(part: &ServicePart, ip: IpAddr, pod: Option<&PodPart>) -> Name {
    pod.map_or_else(|| outside_id(part, ip), |pod| pod.id.uid.clone())
}

/// The endpoint of a Service that stands for a name outside.
pub(super) fn named(part: &ServicePart, name: &Name) -> Endpoint {
    let ports = part.targets.iter().map(|target| PortMap {
        service: target.service,
        target: match &target.pod {
            TargetPort::Number(number) => *number,
            TargetPort::Name(_) => target.service,
        },
    });
    let id: Name = format!("{}/{name}", part.service.id.namespace).into();
    let unspecified = outside(part, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Endpoint {
        id: id.clone(),
        address: EndpointAddress::Dns(name.clone()),
        ports: ports.collect(),
        workload: WorkloadId { name: name.clone(), uid: id, ..unspecified.workload.clone() },
        ..unspecified
    }
}

fn outside_id(part: &ServicePart, ip: IpAddr) -> Name {
    format!("{}/{ip}", part.service.id.namespace).into()
}

fn outside(part: &ServicePart, ip: IpAddr) -> Endpoint {
    let name: Name = ip.to_string().into();
    let uid = outside_id(part, ip);
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
        tls_at: Vec::new(),
        ready: true,
        weight: 1,
        network: Name::default(),
        cluster: CLUSTER.into(),
        locality: Name::default(),
        node: Name::default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn slices_that_repeat_what_is_known_count_nothing_twice() {
        let part = |manager: &str, owners: serde_json::Value| {
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": "db-x", "namespace": "shop", "ownerReferences": owners,
                    "labels": {SERVICE_NAME: "db", SLICE_MANAGED_BY: manager},
                },
                "addressType": "IPv4", "endpoints": [{"addresses": ["192.0.2.1"]}],
            });
            endpoint_slice(&Object::new(slice).unwrap(), &mut Vec::new())
        };
        let owned = json!([{
            "apiVersion": "v1", "kind": "Service", "name": "db", "uid": "u", "controller": true,
        }]);
        assert_eq!(part(SLICE_CONTROLLER, owned.clone()), None);
        assert_eq!(part(MIRRORING_CONTROLLER, owned.clone()), None);
        // A user's own, whatever it calls itself.
        assert!(part(SLICE_CONTROLLER, json!([])).is_some());
        assert!(part("me", owned).is_some());
    }
}
