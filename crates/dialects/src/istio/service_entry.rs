//! `ServiceEntry`: services that are not of this mesh, or not of its platform.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ironmesh_model::network::Network;
use ironmesh_model::policy::Distribution;
use ironmesh_model::service::{Discovery, EndpointAddress, Protocol, ServicePort};
use ironmesh_model::snapshot::Created;
use ironmesh_model::{Finding, FindingCode, Labels, Name, ObjectId};

use super::{export_to, labels};
use crate::Object;
use crate::kubernetes::{Topology, declared_protocol, distribution};
use crate::path::{field, item};
use crate::schema::{Bounded, read};
use crate::translate::Part;

mod conflicts;
pub mod egress_rule;
mod fields;
mod join;
mod names;
mod synthetic;
#[cfg(test)]
mod tests;

pub(crate) use egress_rule::egress_rule;
pub use fields::*;
pub(crate) use join::{Entries, TLS_MODE};
pub use names::EntryNames;

/// A ServiceEntry, before it is known what others say of its hosts and who its endpoints are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EntryPart {
    id: ObjectId,
    created: Created,
    hosts: Vec<Name>,
    addresses: Vec<IpAddr>,
    networks: Vec<Network>,
    ports: Vec<EntryPort>,
    discovery: Discovery,
    distribution: Distribution,
    certificate_names: Vec<Name>,
    is_internal: bool,
    export_to: Vec<Name>,
    endpoints: Endpoints,
}

/// A port of it.
#[derive(Clone, Debug, PartialEq)]
struct EntryPort {
    service: ServicePort,
    target: u16,
}

/// Where its connections go.
#[derive(Clone, Debug, PartialEq)]
enum Endpoints {
    /// To these.
    Listed(Vec<EntryEndpoint>),
    /// To the host.
    Host,
    /// To the workloads of its namespace with these labels.
    Selected(Labels),
}

/// An endpoint of it.
#[derive(Clone, Debug, PartialEq)]
struct EntryEndpoint {
    address: EndpointAddress,
    /// Ports that are others than the entry says, by name.
    ports: Vec<(Name, u16)>,
    labels: Labels,
    service_account: Name,
    weight: u32,
    network: Name,
    locality: Name,
}

/// Translates a ServiceEntry.
pub(crate) fn service_entry(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let ServiceEntry { spec, .. } = read(object, findings)?;
    let mut checks = Checks { object, findings };
    checks.hosts(&spec);
    checks.ports(&spec);
    checks.endpoints(&spec);
    let (addresses, networks) = checks.addresses(&spec);
    let endpoints = match (&spec.workload_selector, spec.resolution) {
        (Some(selector), _) => Endpoints::Selected(labels(&selector.labels)),
        (None, Resolution::Dns | Resolution::DnsRoundRobin) if spec.endpoints.is_empty() => {
            Endpoints::Host
        }
        (None, _) => Endpoints::Listed(spec.endpoints.iter().filter_map(endpoint).collect()),
    };
    let hosts: BTreeSet<Name> = spec
        .hosts
        .iter()
        .map(|host| host.trim_end_matches('.').to_ascii_lowercase().into())
        .collect();
    Some(Part::Entry(Box::new(EntryPart {
        id: object.id().clone(),
        created: object.created(),
        hosts: hosts.into_iter().collect(),
        addresses,
        networks,
        ports: spec.ports.iter().filter(|port| !port.is_datagrams()).map(port).collect(),
        discovery: match spec.resolution {
            Resolution::None => Discovery::Dialled,
            Resolution::Static | Resolution::Dns => Discovery::Endpoints,
            Resolution::DnsRoundRobin => Discovery::FirstAddress,
            Resolution::DynamicDns => Discovery::Named,
        },
        distribution: distribution(object, findings),
        certificate_names: spec.subject_alt_names.iter().map(|name| name.as_str().into()).collect(),
        is_internal: spec.location == Location::Internal,
        export_to: export_to(&spec.export_to, object),
        endpoints,
    })))
}

fn port(given: &Port) -> EntryPort {
    let declared = declared_protocol(given.number, Some(&given.protocol), &given.name);
    let protocol = match given.protocol.as_str() {
        "" => declared_protocol(given.number, None, &given.name),
        _ => declared,
    };
    let target = given.target_port.map(|Bounded(port)| port).filter(|port| *port > 0);
    EntryPort {
        service: ServicePort { number: given.number, name: given.name.as_str().into(), protocol },
        target: target.and_then(|port| u16::try_from(port).ok()).unwrap_or(given.number),
    }
}

/// An endpoint; none if it has no address that can be dialled.
fn endpoint(given: &WorkloadEntry) -> Option<EntryEndpoint> {
    let text = given.address.as_str();
    if text.is_empty() || text.starts_with(UNIX) {
        return None;
    }
    let port = |(name, Bounded(port)): (&String, &Bounded<1, 65_535>)| {
        Some((name.as_str().into(), u16::try_from(*port).ok()?))
    };
    let as_name = || EndpointAddress::Dns(text.trim_end_matches('.').to_ascii_lowercase().into());
    let own_labels = labels(&given.labels);
    Some(EntryEndpoint {
        address: text.parse().map_or_else(|_| as_name(), EndpointAddress::Ip),
        ports: given.ports.iter().filter_map(port).collect(),
        service_account: given.service_account.as_str().into(),
        weight: given.weight.filter(|weight| *weight > 0).unwrap_or(1),
        network: given.network.as_str().into(),
        locality: Topology::or(&given.locality, &own_labels).alone(),
        labels: own_labels,
    })
}

/// What Istio's validation says of a ServiceEntry (`ValidateServiceEntry`).
struct Checks<'a> {
    object: &'a Object,
    findings: &'a mut Vec<Finding>,
}

impl Checks<'_> {
    fn find(&mut self, path: impl Into<String>, code: FindingCode, message: impl Into<String>) {
        self.findings.push(Finding::new(self.object.id(), path, code, message));
    }

    fn invalid(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.find(path, FindingCode::Invalid, message);
    }

    fn hosts(&mut self, spec: &Spec) {
        for (at, host) in spec.hosts.iter().enumerate() {
            let path = item("spec.hosts", at);
            let rest = host.strip_prefix("*.").unwrap_or(host);
            if host == "*" {
                self.invalid(
                    path,
                    "\"*\" is every host; name them, or a domain as in *.example.com",
                );
            } else if rest.contains('*') {
                let message = format!("{host:?} is no name and no domain, so it is nobody's");
                self.find(path, FindingCode::NoEffect, message);
            } else if !is_dns_name(rest.trim_end_matches('.')) {
                self.invalid(path, format!("{host:?} is no name of DNS, nor *. and one"));
            } else if rest.len() < host.len() && spec.is_by_name() && spec.endpoints.is_empty() {
                self.invalid(
                    path,
                    "a wildcard cannot be resolved; give endpoints, or another resolution",
                );
            }
        }
        let is_plain = |port: &Port| {
            let port = self::port(port).service.protocol;
            !port.is_http() && port != Protocol::Tls
        };
        let told_apart = spec.resolution == Resolution::None || !spec.ports.iter().any(is_plain);
        if spec.hosts.len() > 1 && !told_apart && !spec.addresses.is_empty() {
            let message = "at one address these hosts cannot be told apart on a port that is \
                           neither HTTP nor TLS; the first is meant";
            self.find("spec.hosts", FindingCode::NoEffect, message);
        }
    }

    fn addresses(&mut self, spec: &Spec) -> (Vec<IpAddr>, Vec<Network>) {
        let (mut addresses, mut networks) = (Vec::new(), Vec::new());
        for (at, text) in spec.addresses.iter().enumerate() {
            let path = item("spec.addresses", at);
            match (text.parse::<IpAddr>(), text.parse::<Network>()) {
                (Ok(ip), _) => addresses.push(ip),
                (Err(_), Ok(network)) => {
                    if spec.is_by_name() {
                        let message = "a network leads to no name; it goes with resolution NONE \
                                       or STATIC";
                        self.invalid(path, message);
                    }
                    networks.push(network);
                }
                (Err(_), Err(_)) => {
                    self.invalid(path, format!("{text:?} is no IP address, and no network"));
                }
            }
        }
        (addresses, networks)
    }

    fn ports(&mut self, spec: &Spec) {
        let (mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new());
        for (at, port) in spec.ports.iter().enumerate() {
            let path = item("spec.ports", at);
            if port.number == 0 {
                self.invalid(field(&path, "number"), "a port is 1 to 65535");
            }
            if !numbers.insert(port.number) {
                self.invalid(field(&path, "number"), format!("{} is there twice", port.number));
            }
            if !names.insert(&port.name) {
                self.invalid(field(&path, "name"), format!("{:?} is there twice", port.name));
            }
            if !port.protocol.is_empty()
                && !PROTOCOLS.iter().any(|known| known.eq_ignore_ascii_case(&port.protocol))
            {
                let known = PROTOCOLS.join(", ");
                self.invalid(field(&path, "protocol"), format!("it is one of {known}"));
            }
            if port.is_datagrams() {
                let message = "the mesh carries TCP; what goes by UDP passes it by";
                self.find(field(&path, "protocol"), FindingCode::NoEffect, message);
            }
        }
    }

    fn endpoints(&mut self, spec: &Spec) {
        let list = "spec.endpoints";
        if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
            self.invalid(list, "there are endpoints or a workloadSelector, not both");
        }
        if spec.workload_selector.is_some()
            && matches!(spec.resolution, Resolution::None | Resolution::DynamicDns)
        {
            let word = spec.resolution.word();
            let message = format!(
                "with resolution {word} callers go where they dial, whatever workloads are selected; \
                 write STATIC"
            );
            self.find("spec.workloadSelector", FindingCode::NoEffect, message);
        }
        match spec.resolution {
            Resolution::None | Resolution::DynamicDns if !spec.endpoints.is_empty() => {
                let word = spec.resolution.word();
                self.invalid(list, format!("with resolution {word} there are no endpoints"));
            }
            Resolution::DnsRoundRobin if spec.endpoints.len() > 1 => {
                self.invalid(list, "with resolution DNS_ROUND_ROBIN there is one endpoint at most");
            }
            _ => {}
        }
        for (at, endpoint) in spec.endpoints.iter().enumerate() {
            let path = item(list, at);
            let address = endpoint.address.as_str();
            let at_address = field(&path, "address");
            if address.starts_with(UNIX) {
                let message = "the proxy does not see the files of its workload, so the endpoint is \
                               left out; give the address and the port of a listener";
                self.find(at_address, FindingCode::NoEffect, message);
            } else if address.is_empty() && !spec.is_by_name() && !endpoint.network.is_empty() {
                let message = "it has no address but that of its network's gateway, and there is \
                               one network here, so the endpoint is left out";
                self.find(at_address, FindingCode::NoEffect, message);
            } else if address.is_empty() {
                self.invalid(at_address, "an endpoint has an address");
            } else if address.parse::<IpAddr>().is_err() {
                if !spec.is_by_name() {
                    let message = format!("{address:?} is no IP address; names go with DNS");
                    self.invalid(at_address, message);
                } else if !is_dns_name(address.trim_end_matches('.')) {
                    self.invalid(at_address, format!("{address:?} is no IP address and no name"));
                }
            }
            let has_proxy = endpoint.labels.get(TLS_MODE).is_some_and(|mode| mode == "istio");
            let is_named = matches!(&spec.subject_alt_names[..], [] | [_]);
            let is_member = has_proxy && spec.location == Location::Internal;
            if is_member && endpoint.service_account.is_empty() && !is_named {
                let message = "which of subjectAltNames it has is not said, so it is sent plaintext; \
                               give its serviceAccount";
                self.find(field(&path, "serviceAccount"), FindingCode::NoEffect, message);
            }
            for name in endpoint.ports.keys() {
                if !spec.ports.iter().any(|port| port.name == *name) {
                    let message = format!("the entry has no port {name:?}");
                    self.invalid(field(&path, "ports"), message);
                }
            }
        }
    }
}

impl Port {
    /// Whether it is none of the mesh's, which carries TCP.
    fn is_datagrams(&self) -> bool {
        self.protocol.eq_ignore_ascii_case("UDP")
    }
}

impl Spec {
    /// Whether names are resolved.
    fn is_by_name(&self) -> bool {
        matches!(self.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
    }
}

/// Whether a text is a name of DNS (RFC 1123), or an address written as one.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(inside)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// How the address of a unix socket begins.
const UNIX: &str = "unix:";
/// What Istio takes for a protocol (`protocol.Parse`).
const PROTOCOLS: [&str; 14] = [
    "HTTP",
    "HTTP2",
    "HTTPS",
    "GRPC",
    "GRPC-Web",
    "GRPC-Web-Native",
    "TCP",
    "TLS",
    "MONGO",
    "REDIS",
    "MYSQL",
    "UDP",
    "HTTP_PROXY",
    "HBONE",
];
