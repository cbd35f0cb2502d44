//! Messages of the keys under which resources are subscribed.

use ironmesh_model::chunk::Chunk;
use ironmesh_model::{ListenerKind, ObjectId, ResolutionKey, ResourceKey, ServiceId, Target};
use prost::bytes::Bytes;
use prost::{Message, Oneof};

use super::common::{
    ObjectIdMessage, ServiceIdMessage, choice, ip, ip_bytes, narrow, required, text,
};
use super::{Coded, DecodeError};

/// The message of a [`ResourceKey`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Key {
    #[prost(oneof = "KeyKind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9")]
    kind: Option<KeyKind>,
}

impl Key {
    fn of(key: &ResourceKey) -> Self {
        let kind = match key {
            ResourceKey::Settings => KeyKind::Settings(true),
            ResourceKey::Listeners => KeyKind::Listeners(true),
            ResourceKey::Resolution(key) => KeyKind::Resolution(key.message()),
            ResourceKey::Route(id) => KeyKind::Route(id.message()),
            ResourceKey::Service(id) => KeyKind::Service(id.message()),
            ResourceKey::Policy(id) => KeyKind::Policy(id.message()),
            ResourceKey::Workload(ip) => KeyKind::Workload(ip_bytes(*ip)),
            ResourceKey::Endpoints(id, chunk) => KeyKind::Endpoints(EndpointsKeyMessage {
                service: Some(id.message()),
                chunk: chunk.0,
            }),
            ResourceKey::Domains(port, chunk) => {
                KeyKind::Domains(DomainsKeyMessage { port: u32::from(*port), chunk: chunk.0 })
            }
        };
        Self { kind: Some(kind) }
    }

    fn into_key(self) -> Result<ResourceKey, DecodeError> {
        Ok(match self.kind.ok_or(DecodeError::NotKnown("kind of key"))? {
            KeyKind::Settings(_) => ResourceKey::Settings,
            KeyKind::Listeners(_) => ResourceKey::Listeners,
            KeyKind::Resolution(m) => ResourceKey::Resolution(ResolutionKey::value(m)?),
            KeyKind::Route(m) => ResourceKey::Route(ObjectId::value(m)?),
            KeyKind::Service(m) => ResourceKey::Service(ServiceId::value(m)?),
            KeyKind::Policy(m) => ResourceKey::Policy(ObjectId::value(m)?),
            KeyKind::Workload(bytes) => ResourceKey::Workload(ip(&bytes)?),
            KeyKind::Endpoints(m) => ResourceKey::Endpoints(
                required(m.service, "the service of endpoints")?,
                Chunk(m.chunk),
            ),
            KeyKind::Domains(m) => {
                ResourceKey::Domains(narrow(m.port, "the port of domains")?, Chunk(m.chunk))
            }
        })
    }
}

/// The bytes of a key.
pub fn key_bytes(key: &ResourceKey) -> Bytes {
    Bytes::from(Key::of(key).encode_to_vec())
}

/// The key that [`key_bytes`] wrote. Never panics, whatever the bytes are.
///
/// # Errors
///
/// If the bytes are no key, or say something that this build does not know: without that it would
/// be the key of something else.
pub fn read_key(bytes: &[u8]) -> Result<ResourceKey, DecodeError> {
    let message = Key::decode(bytes)?;
    let all_read = message.encoded_len() == bytes.len();
    let key = message.into_key()?;
    if all_read { Ok(key) } else { Err(DecodeError::NotKnown("part of a key")) }
}

#[derive(Clone, PartialEq, Oneof)]
enum KeyKind {
    #[prost(bool, tag = "1")]
    Settings(bool),
    #[prost(bool, tag = "2")]
    Listeners(bool),
    #[prost(message, tag = "3")]
    Resolution(ResolutionKeyMessage),
    #[prost(message, tag = "4")]
    Route(ObjectIdMessage),
    #[prost(message, tag = "5")]
    Service(ServiceIdMessage),
    #[prost(message, tag = "6")]
    Policy(ObjectIdMessage),
    #[prost(bytes = "vec", tag = "7")]
    Workload(Vec<u8>),
    #[prost(message, tag = "8")]
    Endpoints(EndpointsKeyMessage),
    #[prost(message, tag = "9")]
    Domains(DomainsKeyMessage),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct EndpointsKeyMessage {
    #[prost(message, optional, tag = "1")]
    service: Option<ServiceIdMessage>,
    #[prost(uint32, tag = "2")]
    chunk: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct DomainsKeyMessage {
    #[prost(uint32, tag = "1")]
    port: u32,
    #[prost(uint32, tag = "2")]
    chunk: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResolutionKeyMessage {
    #[prost(uint32, tag = "1")]
    listener: u32,
    #[prost(oneof = "TargetMessage", tags = "2, 3")]
    target: Option<TargetMessage>,
    #[prost(uint32, tag = "4")]
    port: u32,
    #[prost(string, tag = "5")]
    namespace: String,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum TargetMessage {
    #[prost(bytes = "vec", tag = "2")]
    Address(Vec<u8>),
    #[prost(string, tag = "3")]
    Host(String),
}

impl Coded for ResolutionKey {
    type Message = ResolutionKeyMessage;

    fn message(&self) -> ResolutionKeyMessage {
        let (target, port) = match &self.target {
            Target::Address(ip, port) => (TargetMessage::Address(ip_bytes(*ip)), *port),
            Target::Host(host, port) => (TargetMessage::Host(text(host)), *port),
        };
        ResolutionKeyMessage {
            listener: listener_number(self.listener),
            target: Some(target),
            port: u32::from(port),
            namespace: text(&self.namespace),
        }
    }

    fn value(m: ResolutionKeyMessage) -> Result<Self, DecodeError> {
        let port = narrow(m.port, "the port of a resolution")?;
        let target = match m.target.ok_or(DecodeError::Missing("the target of a resolution"))? {
            TargetMessage::Address(bytes) => Target::Address(ip(&bytes)?, port),
            TargetMessage::Host(host) => Target::Host(host.into(), port),
        };
        Ok(Self { listener: listener(m.listener)?, target, namespace: m.namespace.into() })
    }
}

choice!(
    listener_number,
    listener,
    ListenerKind,
    "listener",
    [ListenerKind::Outbound, ListenerKind::Inbound, ListenerKind::Gateway]
);
