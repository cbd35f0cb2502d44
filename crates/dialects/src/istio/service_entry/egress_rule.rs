//! `EgressRule` of Istio 0.2 to 0.7: a host outside, as the ServiceEntry that it became.

use std::net::IpAddr;

use ironmesh_model::network::Network;
use ironmesh_model::policy::Distribution;
use ironmesh_model::service::Discovery;
use ironmesh_model::{Finding, FindingCode};

use super::{Endpoints, EntryPart, fields, is_dns_name, port};
use crate::Object;
use crate::path::{field, item};
use crate::schema::{fields as table, kind, read};
use crate::translate::Part;

kind! {
    istio;
    /// A host outside of the mesh that its workloads may call, as Istio up to 0.7 had it; now a
    /// `ServiceEntry`.
    pub struct EgressRule "EgressRule" {
        /// Which host, and how it is spoken to.
        required spec: EgressSpec,
    }
}

table! {
    istio;
    /// What an `EgressRule` says.
    pub struct EgressSpec "EgressRule.spec" {
        /// The host.
        required destination: EgressDestination,
        /// Its ports.
        required ports: Vec<EgressPort>,
        /// Whether requests leave by a proxy for all.
        no_effect("Istio has never honoured it; what leaves, leaves from the sidecar")
            use_egress_proxy "useEgressProxy": bool,
    }

    /// A host outside.
    pub struct EgressDestination "the destination of an EgressRule" {
        /// A name, a wildcard (`*.example.com`), an address or a network.
        required service: String,
    }

    /// A port of a host outside.
    pub struct EgressPort "a port of an EgressRule" {
        /// Its number.
        required port: u16,
        /// What callers speak there.
        required protocol: String,
    }
}

/// Translates an EgressRule.
pub(crate) fn egress_rule(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let EgressRule { spec, .. } = read(object, findings)?;
    let mut find = |path: String, code, message: String| {
        findings.push(Finding::new(object.id(), path, code, message));
    };
    let host = spec.destination.service.to_ascii_lowercase();
    let (address, network) = (host.parse::<IpAddr>().ok(), host.parse::<Network>().ok());
    let is_at_address = address.is_some() || network.is_some();
    let rest = host.strip_prefix("*.").unwrap_or(&host);
    if !is_at_address && !is_dns_name(rest) {
        let message = format!("{host:?} is no name, no *. and one, no address and no network");
        find("spec.destination.service".to_owned(), FindingCode::Invalid, message);
        return None;
    }
    for (at, given) in spec.ports.iter().enumerate() {
        let path = field(&item("spec.ports", at), "protocol");
        let protocol = given.protocol.to_ascii_lowercase();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            find(path, FindingCode::Invalid, format!("it is one of {}", PROTOCOLS.join(", ")));
        } else if protocol == "https" {
            let message = "the sidecar begins no TLS by itself: callers that speak HTTP to this port \
                           need a DestinationRule for the host with tls.mode SIMPLE";
            find(path, FindingCode::NoEffect, message.to_owned());
        } else if is_at_address && protocol.starts_with("http") {
            let message = "requests are told apart by their host, which an address is not: the port \
                           is carried as it is";
            find(path, FindingCode::NoEffect, message.to_owned());
        }
    }
    let ports = spec.ports.iter().map(|given| {
        // Callers speak HTTP to an https port, and the sidecar TLS further on.
        let protocol = if is_at_address { "TCP" } else { given.protocol.as_str() };
        let protocol = if protocol.eq_ignore_ascii_case("https") { "HTTP" } else { protocol };
        let name = format!("{}-{}", protocol.to_ascii_lowercase(), given.port);
        port(&fields::Port {
            number: given.port,
            protocol: protocol.to_owned(),
            name,
            ..fields::Port::default()
        })
    });
    // An address is no name, but each service has one.
    let name = match is_at_address {
        true => format!("{}.{}.egressrule", object.name(), object.namespace()),
        false => host.clone(),
    };
    Some(Part::Entry(Box::new(EntryPart {
        id: object.id().clone(),
        created: object.created(),
        hosts: vec![name.into()],
        addresses: address.into_iter().collect(),
        networks: network.into_iter().filter(|_| address.is_none()).collect(),
        ports: ports.collect(),
        distribution: Distribution::Any,
        certificate_names: Vec::new(),
        // As then, callers resolve names themselves: the mesh has no address of its own for them.
        discovery: Discovery::Dialled,
        is_internal: false,
        export_to: Vec::new(),
        endpoints: Endpoints::Listed(Vec::new()),
    })))
}

/// What Istio 0.7 took.
const PROTOCOLS: [&str; 7] = ["http", "https", "http2", "grpc", "tcp", "mongo", "redis"];

#[cfg(test)]
mod tests {
    use ironmesh_model::service::Protocol;
    use ironmesh_model::settings::Settings;
    use serde_json::{Value, json};

    use super::*;
    use crate::translate;

    fn rule(spec: Value) -> Object {
        Object::new(json!({
            "apiVersion": "config.istio.io/v1alpha2", "kind": "EgressRule",
            "metadata": {"name": "outside", "namespace": "shop"}, "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn a_host_outside_is_a_service() {
        let http = json!([{"port": 80, "protocol": "http"}, {"port": 443, "protocol": "https"}]);
        for host in ["api.test", "*.wild.test"] {
            let spec = json!({"destination": {"service": host}, "ports": http});
            let made = translate(&[rule(spec)], &Settings::default());
            let codes: Vec<_> = made.findings.iter().map(|f| (f.code, f.path.as_str())).collect();
            assert_eq!(codes, [(FindingCode::NoEffect, "spec.ports[1].protocol")]);
            let service = &made.objects.services[0].service;
            assert_eq!((&*service.id.hostname, service.discovery), (host, Discovery::Dialled));
            let ports: Vec<_> = service.ports.iter().map(|p| (p.number, p.protocol)).collect();
            assert_eq!(ports, [(80, Protocol::Http), (443, Protocol::Http)]);
        }
    }

    #[test]
    fn networks_are_carried_and_nonsense_is_refused() {
        let tcp = json!([{"port": 3306, "protocol": "tcp"}]);
        let spec = json!({"destination": {"service": "10.1.0.0/16"}, "ports": tcp});
        let made = translate(&[rule(spec)], &Settings::default());
        assert_eq!(made.findings, []);
        assert_eq!(made.objects.services.len(), 1);
        for (host, protocol) in [("not a host!", "http"), ("a.test", "bogus")] {
            let ports = json!([{"port": 80, "protocol": protocol}]);
            let spec = json!({"destination": {"service": host}, "ports": ports});
            let made = translate(&[rule(spec)], &Settings::default());
            assert_eq!(made.findings[0].code, FindingCode::Invalid, "{host} {protocol}");
            assert!(made.objects.services.is_empty());
        }
    }
}
