//! Messages of what applies at an address or host.

use std::net::SocketAddr;

use ironmesh_model::resource::{
    Applies, DefaultBackend, Destination, InboundPort, Join, Resolution,
};
use prost::Message;

use super::common::{
    ObjectIdMessage, ServiceIdMessage, choice, ip, ip_bytes, messages, names, narrow,
    optional_text, text, values,
};
use super::policy::pool::PoolMessage;
use super::policy::tls::ClientCredentialMessage;
use super::service::{protocol, protocol_number};
use super::{Coded, DecodeError};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResolutionMessage {
    #[prost(message, optional, tag = "1")]
    present: Option<AppliesMessage>,
}

impl Coded for Resolution {
    type Message = ResolutionMessage;

    fn message(&self) -> ResolutionMessage {
        let present = match self {
            Self::Absent => None,
            Self::Present(applies) => Some(applies.message()),
        };
        ResolutionMessage { present }
    }

    fn value(m: ResolutionMessage) -> Result<Self, DecodeError> {
        Ok(match m.present {
            None => Self::Absent,
            Some(applies) => Self::Present(Box::new(Applies::value(applies)?)),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AppliesMessage {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(message, optional, tag = "2")]
    service: Option<ServiceIdMessage>,
    #[prost(message, optional, tag = "3")]
    default_backend: Option<DefaultBackendMessage>,
    #[prost(message, repeated, tag = "4")]
    routes: Vec<ObjectIdMessage>,
    #[prost(uint32, tag = "5")]
    join: u32,
    #[prost(string, repeated, tag = "6")]
    attached_to: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    destinations: Vec<DestinationMessage>,
    #[prost(message, repeated, tag = "8")]
    inbound_policies: Vec<ObjectIdMessage>,
    #[prost(message, repeated, tag = "9")]
    inbound_ports: Vec<InboundPortMessage>,
    #[prost(bytes = "vec", optional, tag = "10")]
    member: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "11")]
    by_server_name: Vec<DefaultBackendMessage>,
}

impl Coded for Applies {
    type Message = AppliesMessage;

    fn message(&self) -> AppliesMessage {
        AppliesMessage {
            protocol: protocol_number(self.protocol),
            service: self.service.as_ref().map(Coded::message),
            default_backend: self.default_backend.as_ref().map(Coded::message),
            routes: messages(&self.routes),
            join: join_number(self.join),
            attached_to: self.attached_to.iter().map(text).collect(),
            destinations: messages(&self.destinations),
            inbound_policies: messages(&self.inbound_policies),
            inbound_ports: messages(&self.inbound_ports),
            member: self.member.map(ip_bytes),
            by_server_name: messages(&self.by_server_name),
        }
    }

    fn value(m: AppliesMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            protocol: protocol(m.protocol)?,
            service: m.service.map(Coded::value).transpose()?,
            default_backend: m.default_backend.map(Coded::value).transpose()?,
            routes: values(m.routes)?,
            join: join(m.join)?,
            attached_to: names(m.attached_to),
            destinations: values(m.destinations)?,
            inbound_policies: values(m.inbound_policies)?,
            inbound_ports: values(m.inbound_ports)?,
            member: m.member.as_deref().map(ip).transpose()?,
            by_server_name: values(m.by_server_name)?,
        })
    }
}

choice!(join_number, join, Join, "join", [Join::InOrder, Join::CatchAllLast, Join::OrDefault]);

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DefaultBackendMessage {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(uint32, tag = "2")]
    port: u32,
    #[prost(string, optional, tag = "3")]
    subset: Option<String>,
}

impl Coded for DefaultBackend {
    type Message = DefaultBackendMessage;

    fn message(&self) -> DefaultBackendMessage {
        let Self { host, port, subset } = self;
        let subset = optional_text(subset.as_ref());
        DefaultBackendMessage { host: text(host), port: u32::from(*port), subset }
    }

    fn value(m: DefaultBackendMessage) -> Result<Self, DecodeError> {
        let port = narrow(m.port, "the port of a backend")?;
        Ok(Self { host: m.host.into(), port, subset: m.subset.map(Into::into) })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct InboundPortMessage {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(uint32, tag = "2")]
    protocol: u32,
    #[prost(message, optional, tag = "3")]
    service: Option<ServiceIdMessage>,
    #[prost(bytes = "vec", optional, tag = "4")]
    to_ip: Option<Vec<u8>>,
    #[prost(uint32, tag = "5")]
    to_port: u32,
    #[prost(message, optional, tag = "6")]
    pool: Option<PoolMessage>,
}

impl Coded for InboundPort {
    type Message = InboundPortMessage;

    fn message(&self) -> InboundPortMessage {
        InboundPortMessage {
            number: u32::from(self.number),
            protocol: protocol_number(self.protocol),
            service: self.service.as_ref().map(Coded::message),
            to_ip: self.to.map(|to| ip_bytes(to.ip())),
            to_port: self.to.map_or(0, |to| u32::from(to.port())),
            pool: self.pool.as_ref().map(Coded::message),
        }
    }

    fn value(m: InboundPortMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            number: narrow(m.number, "a port of a workload")?,
            protocol: protocol(m.protocol)?,
            service: m.service.map(Coded::value).transpose()?,
            to: match m.to_ip.as_deref() {
                Some(to) => Some(SocketAddr::new(
                    ip(to)?,
                    narrow(m.to_port, "the port to which connections go")?,
                )),
                None => None,
            },
            pool: m.pool.map(Coded::value).transpose()?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DestinationMessage {
    #[prost(string, tag = "1")]
    host: String,
    #[prost(message, optional, tag = "2")]
    service: Option<ServiceIdMessage>,
    #[prost(message, repeated, tag = "3")]
    policies: Vec<ObjectIdMessage>,
    #[prost(message, repeated, tag = "4")]
    credentials: Vec<ClientCredentialMessage>,
}

impl Coded for Destination {
    type Message = DestinationMessage;

    fn message(&self) -> DestinationMessage {
        DestinationMessage {
            host: text(&self.host),
            service: self.service.as_ref().map(Coded::message),
            policies: messages(&self.policies),
            credentials: messages(&self.credentials),
        }
    }

    fn value(m: DestinationMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            host: m.host.into(),
            service: m.service.map(Coded::value).transpose()?,
            policies: values(m.policies)?,
            credentials: values(m.credentials)?,
        })
    }
}
