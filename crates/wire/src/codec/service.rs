//! Messages of services, endpoints and workloads.

use std::sync::Arc;

use ironmesh_model::chunk::Chunk;
use ironmesh_model::policy::Distribution;
use ironmesh_model::service::{
    Discovery, Endpoint, EndpointAddress, Endpoints, NamedMember, PortMap, PortTls, Protocol,
    Service, ServicePort, UpstreamTls, Workload,
};
use prost::{Message, Oneof};

use super::common::{
    IdentityMessage, LabelsMessage, ServiceIdMessage, WorkloadIdMessage, choice, ip, ip_bytes,
    labels, labels_message, messages, names, narrow, required, shared_messages, shared_values,
    text, values,
};
use super::policy::tls::ClientTlsMessage;
use super::{Coded, DecodeError};

choice!(
    protocol_number,
    protocol,
    Protocol,
    "protocol",
    [
        Protocol::Undeclared,
        Protocol::Http,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Tcp,
        Protocol::Tls,
    ]
);

choice!(
    discovery_number,
    discovery,
    Discovery,
    "where connections of a service go",
    [Discovery::Endpoints, Discovery::FirstAddress, Discovery::Dialled, Discovery::Named]
);

choice!(
    distribution_number,
    distribution,
    Distribution,
    "preference of a service",
    [Distribution::Any, Distribution::SameZone, Distribution::SameNode]
);

#[derive(Clone, PartialEq, Message)]
pub(super) struct ServiceMessage {
    #[prost(message, optional, tag = "1")]
    id: Option<ServiceIdMessage>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    addresses: Vec<Vec<u8>>,
    #[prost(bool, tag = "4")]
    headless: bool,
    #[prost(message, repeated, tag = "5")]
    ports: Vec<ServicePortMessage>,
    #[prost(uint32, repeated, tag = "6")]
    endpoint_chunks: Vec<u32>,
    #[prost(uint32, tag = "7")]
    discovery: u32,
    #[prost(uint32, tag = "8")]
    distribution: u32,
    #[prost(string, repeated, tag = "9")]
    certificate_names: Vec<String>,
}

impl Coded for Service {
    type Message = ServiceMessage;

    fn message(&self) -> ServiceMessage {
        ServiceMessage {
            id: Some(self.id.message()),
            name: text(&self.name),
            addresses: self.addresses.iter().copied().map(ip_bytes).collect(),
            headless: self.headless,
            discovery: discovery_number(self.discovery),
            distribution: distribution_number(self.distribution),
            certificate_names: self.certificate_names.iter().map(text).collect(),
            ports: messages(&self.ports),
            endpoint_chunks: self.endpoint_chunks.iter().map(|chunk| chunk.0).collect(),
        }
    }

    fn value(m: ServiceMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a service")?,
            name: m.name.into(),
            addresses: m.addresses.iter().map(|bytes| ip(bytes)).collect::<Result<_, _>>()?,
            headless: m.headless,
            discovery: discovery(m.discovery)?,
            distribution: distribution(m.distribution)?,
            certificate_names: names(m.certificate_names),
            ports: values(m.ports)?,
            endpoint_chunks: m.endpoint_chunks.into_iter().map(Chunk).collect(),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ServicePortMessage {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(uint32, tag = "3")]
    protocol: u32,
}

impl Coded for ServicePort {
    type Message = ServicePortMessage;

    fn message(&self) -> ServicePortMessage {
        ServicePortMessage {
            number: u32::from(self.number),
            name: text(&self.name),
            protocol: protocol_number(self.protocol),
        }
    }

    fn value(m: ServicePortMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            number: narrow(m.number, "the port of a service")?,
            name: m.name.into(),
            protocol: protocol(m.protocol)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointsMessage {
    #[prost(message, optional, tag = "1")]
    service: Option<ServiceIdMessage>,
    #[prost(uint32, tag = "2")]
    chunk: u32,
    #[prost(message, repeated, tag = "3")]
    endpoints: Vec<EndpointMessage>,
}

impl Coded for Endpoints {
    type Message = EndpointsMessage;

    fn message(&self) -> EndpointsMessage {
        EndpointsMessage {
            service: Some(self.service.message()),
            chunk: self.chunk.0,
            endpoints: shared_messages(&self.endpoints),
        }
    }

    fn value(m: EndpointsMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            service: required(m.service, "the service of endpoints")?,
            chunk: Chunk(m.chunk),
            endpoints: shared_values(m.endpoints)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EndpointMessage {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(oneof = "AddressMessage", tags = "2, 3, 4")]
    address: Option<AddressMessage>,
    #[prost(message, repeated, tag = "5")]
    ports: Vec<PortMapMessage>,
    #[prost(message, optional, tag = "6")]
    labels: Option<LabelsMessage>,
    #[prost(message, optional, tag = "7")]
    workload: Option<WorkloadIdMessage>,
    #[prost(string, tag = "8")]
    owner: String,
    #[prost(oneof = "TlsMessage", tags = "9, 10, 16, 21, 22")]
    tls: Option<TlsMessage>,
    #[prost(bool, tag = "11")]
    ready: bool,
    #[prost(uint32, tag = "12")]
    weight: u32,
    #[prost(string, tag = "13")]
    network: String,
    #[prost(string, tag = "14")]
    cluster: String,
    #[prost(string, tag = "15")]
    locality: String,
    #[prost(string, tag = "17")]
    node: String,
    #[prost(message, repeated, tag = "23")]
    tls_at: Vec<PortTlsMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PortTlsMessage {
    #[prost(uint32, tag = "1")]
    port: u32,
    #[prost(oneof = "TlsMessage", tags = "9, 10, 16, 21, 22")]
    tls: Option<TlsMessage>,
}

impl Coded for PortTls {
    type Message = PortTlsMessage;

    fn message(&self) -> PortTlsMessage {
        PortTlsMessage { port: u32::from(self.port), tls: tls_message(&self.tls) }
    }

    fn value(m: PortTlsMessage) -> Result<Self, DecodeError> {
        Ok(Self { port: narrow(m.port, "the port of an endpoint")?, tls: tls(m.tls)? })
    }
}

/// How to speak to an endpoint. Always there: what a build does not know is an error, not plaintext.
#[derive(Clone, PartialEq, Oneof)]
enum TlsMessage {
    #[prost(message, tag = "9")]
    None(()),
    #[prost(message, tag = "10")]
    Mesh(IdentityMessage),
    #[prost(message, tag = "16")]
    Given(ClientTlsMessage),
    #[prost(message, tag = "21")]
    Asked(IdentityMessage),
    #[prost(message, tag = "22")]
    Named(NamedMemberMessage),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct NamedMemberMessage {
    #[prost(message, optional, tag = "1")]
    identity: Option<IdentityMessage>,
    #[prost(string, tag = "2")]
    name: String,
}

fn tls_message(tls: &UpstreamTls) -> Option<TlsMessage> {
    Some(match tls {
        UpstreamTls::None => TlsMessage::None(()),
        UpstreamTls::Mesh(identity) => TlsMessage::Mesh(identity.message()),
        UpstreamTls::Given(tls) => TlsMessage::Given(tls.message()),
        UpstreamTls::Asked(identity) => TlsMessage::Asked(identity.message()),
        UpstreamTls::Named(member) => TlsMessage::Named(NamedMemberMessage {
            identity: Some(member.identity.message()),
            name: text(&member.name),
        }),
    })
}

fn tls(message: Option<TlsMessage>) -> Result<UpstreamTls, DecodeError> {
    Ok(match message.ok_or(DecodeError::Missing("how to speak to an endpoint"))? {
        TlsMessage::None(()) => UpstreamTls::None,
        TlsMessage::Mesh(identity) => UpstreamTls::Mesh(Coded::value(identity)?),
        TlsMessage::Given(tls) => UpstreamTls::Given(Arc::new(Coded::value(tls)?)),
        TlsMessage::Asked(identity) => UpstreamTls::Asked(Coded::value(identity)?),
        TlsMessage::Named(NamedMemberMessage { identity, name }) => {
            let identity = identity.ok_or(DecodeError::Missing("whom to expect"))?;
            UpstreamTls::Named(Arc::new(NamedMember {
                identity: Coded::value(identity)?,
                name: name.into(),
            }))
        }
    })
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum AddressMessage {
    #[prost(bytes = "vec", tag = "2")]
    Ip(Vec<u8>),
    #[prost(string, tag = "3")]
    Dns(String),
    #[prost(message, tag = "4")]
    Gateway(GatewayAddressMessage),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct GatewayAddressMessage {
    #[prost(bytes = "vec", tag = "1")]
    ip: Vec<u8>,
    #[prost(string, tag = "2")]
    name: String,
}

impl Coded for Endpoint {
    type Message = EndpointMessage;

    fn message(&self) -> EndpointMessage {
        let address = match &self.address {
            EndpointAddress::Ip(ip) => AddressMessage::Ip(ip_bytes(*ip)),
            EndpointAddress::Dns(name) => AddressMessage::Dns(text(name)),
            EndpointAddress::Gateway(ip, name) => AddressMessage::Gateway(GatewayAddressMessage {
                ip: ip_bytes(*ip),
                name: text(name),
            }),
        };
        EndpointMessage {
            id: text(&self.id),
            address: Some(address),
            ports: messages(&self.ports),
            labels: labels_message(&self.labels),
            workload: Some(self.workload.message()),
            owner: text(&self.owner),
            tls: tls_message(&self.tls),
            ready: self.ready,
            weight: self.weight,
            network: text(&self.network),
            cluster: text(&self.cluster),
            locality: text(&self.locality),
            node: text(&self.node),
            tls_at: messages(&self.tls_at),
        }
    }

    fn value(m: EndpointMessage) -> Result<Self, DecodeError> {
        let address = match m.address.ok_or(DecodeError::Missing("the address of an endpoint"))? {
            AddressMessage::Ip(bytes) => EndpointAddress::Ip(ip(&bytes)?),
            AddressMessage::Dns(name) => EndpointAddress::Dns(name.into()),
            AddressMessage::Gateway(gateway) => {
                EndpointAddress::Gateway(ip(&gateway.ip)?, gateway.name.into())
            }
        };
        Ok(Self {
            id: m.id.into(),
            address,
            ports: values(m.ports)?,
            labels: labels(m.labels),
            workload: required(m.workload, "the workload of an endpoint")?,
            owner: m.owner.into(),
            tls: tls(m.tls)?,
            tls_at: values(m.tls_at)?,
            ready: m.ready,
            weight: m.weight,
            network: m.network.into(),
            cluster: m.cluster.into(),
            locality: m.locality.into(),
            node: m.node.into(),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct PortMapMessage {
    #[prost(uint32, tag = "1")]
    service: u32,
    #[prost(uint32, tag = "2")]
    target: u32,
}

impl Coded for PortMap {
    type Message = PortMapMessage;

    fn message(&self) -> PortMapMessage {
        PortMapMessage { service: u32::from(self.service), target: u32::from(self.target) }
    }

    fn value(m: PortMapMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            service: narrow(m.service, "the port of a service")?,
            target: narrow(m.target, "the port of an endpoint")?,
        })
    }
}

/// A workload, or the answer that nobody lives there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MaybeWorkloadMessage {
    #[prost(message, optional, tag = "1")]
    pub(super) workload: Option<WorkloadMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WorkloadMessage {
    #[prost(message, optional, tag = "1")]
    id: Option<WorkloadIdMessage>,
    #[prost(string, tag = "2")]
    owner: String,
    #[prost(message, optional, tag = "3")]
    identity: Option<IdentityMessage>,
    #[prost(message, optional, tag = "4")]
    labels: Option<LabelsMessage>,
    #[prost(bool, tag = "5")]
    meshed: bool,
    #[prost(oneof = "TlsMessage", tags = "9, 10, 16, 21, 22")]
    tls: Option<TlsMessage>,
    #[prost(string, tag = "17")]
    locality: String,
    #[prost(string, tag = "18")]
    network: String,
    #[prost(string, tag = "19")]
    node: String,
    #[prost(message, repeated, tag = "23")]
    tls_at: Vec<PortTlsMessage>,
}

impl Coded for Workload {
    type Message = WorkloadMessage;

    fn message(&self) -> WorkloadMessage {
        WorkloadMessage {
            id: Some(self.id.message()),
            owner: text(&self.owner),
            identity: Some(self.identity.message()),
            labels: labels_message(&self.labels),
            meshed: self.meshed,
            locality: text(&self.locality),
            network: text(&self.network),
            node: text(&self.node),
            tls: tls_message(&self.tls),
            tls_at: messages(&self.tls_at),
        }
    }

    fn value(m: WorkloadMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a workload")?,
            owner: m.owner.into(),
            identity: required(m.identity, "the identity of a workload")?,
            labels: labels(m.labels),
            meshed: m.meshed,
            locality: m.locality.into(),
            network: m.network.into(),
            node: m.node.into(),
            tls: tls(m.tls)?,
            tls_at: values(m.tls_at)?,
        })
    }
}
