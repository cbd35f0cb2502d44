//! Findings about ports that several services give different protocols.

use crate::finding::{Finding, FindingCode};
use crate::host::CLUSTER_DOMAIN;
use crate::name::{ObjectId, ServiceId};
use crate::service::{EndpointAddress, Service};
use crate::snapshot::index::{Index, ServiceEntry};
use crate::snapshot::reader::Reader;

/// The object that a service was made from.
pub(in crate::snapshot) fn object_of(service: &Service) -> ObjectId {
    ObjectId::new("Service", service.id.namespace.clone(), service.name.clone())
}

/// The service that was made from an object.
pub(super) fn find<'a>(index: &'a Index, id: &ObjectId) -> Option<&'a ServiceEntry> {
    let hostname = format!("{}.{}.svc.{CLUSTER_DOMAIN}", id.name, id.namespace).into();
    let service = ServiceId { namespace: id.namespace.clone(), hostname };
    index.services.get(&service).map(|entry| &**entry).filter(|_| &*id.kind == "Service")
}

/// Ports that another service declares so differently that a caller could be misread.
///
/// Only one of the service's endpoints is looked at: others have the same ports, as a rule, and so an
/// endpoint more does not mean that all are looked at again.
pub(super) fn service(reader: &Reader<'_>, entry: &ServiceEntry, out: &mut Vec<Finding>) {
    let own = &entry.service;
    let Some(endpoint) = reader.some_endpoint(&own.id) else { return };
    let EndpointAddress::Ip(ip) = endpoint.address else { return };
    let all: Vec<_> = reader.endpoints_at(ip).collect();
    for map in &endpoint.ports {
        let Some(declared) = own.port(map.service) else { continue };
        let other = all.iter().find_map(|(other, endpoint)| {
            let service = &other.service;
            let ports = endpoint.ports.iter().filter(|port| port.target == map.target);
            let mut ports = ports.filter_map(|port| service.port(port.service));
            let port = ports.find(|port| declared.protocol.conflicts_with(port.protocol))?;
            Some((service, port))
        });
        let Some((other, port)) = other else { continue };
        let message = format!(
            "port {} of {} is {} by port {} and {} by port {} of Service {}/{}",
            map.target,
            endpoint.workload.name,
            declared.protocol.word(),
            declared.number,
            port.protocol.word(),
            port.number,
            other.id.namespace,
            other.name
        );
        out.push(Finding::new(
            &object_of(own),
            "spec.ports",
            FindingCode::ProtocolConflict,
            message,
        ));
    }
}
