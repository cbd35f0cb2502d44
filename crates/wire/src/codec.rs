//! Resources and keys to bytes and back.
//!
//! Encoding is deterministic: equal values give equal bytes, in every build that knows the same
//! fields, so that a hash of them is a version. The messages are written by hand beside the values
//! that they carry, have no maps, and number their fields for evolution. All of a key or resource
//! must be understood: a reader refuses one with a field that it does not know. What a later build
//! says beside a resource, as another field of its [`Body`], older ones skip.

use std::sync::Arc;

use ironmesh_model::log_format::BadFormat;
use ironmesh_model::{Resource, Version};
use prost::Message;
use prost::bytes::Bytes;
use prost::encoding::DecodeContext;

mod common;
mod key;
mod policy;
mod report;
mod resolution;
mod route;
mod server;
mod service;
mod settings;

pub use key::{key_bytes, read_key};
pub(crate) use report::{PIECE_BYTES_MAX, answer_bytes};
pub use report::{read_report, report_bytes};

/// Bytes that are no resource or key that this build can use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// They are not in the encoding at all.
    #[error("the bytes are malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// They say something that must not be ignored and that this build does not know.
    #[error(
        "it needs a newer proxy: it must understand {0:#x}, which this one does not; restart the workload to update its proxy"
    )]
    MustUnderstand(u32),
    /// A part is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// It says something that this build does not know.
    #[error("this build does not know a {0} in it: the other side is newer")]
    NotKnown(&'static str),
    /// A choice is not known.
    #[error("{what} {value} is not known")]
    Unknown {
        /// What is chosen.
        what: &'static str,
        /// The number that stands for the choice.
        value: u32,
    },
    /// A number or address is out of its range.
    #[error("{0} is out of range")]
    OutOfRange(&'static str),
    /// The format of the access log is none that this build knows.
    #[error("accessLogFormat: {0}")]
    LogFormat(#[from] BadFormat),
}

/// The bytes of a resource.
pub fn encode(resource: &Resource) -> Bytes {
    Bytes::from(Body::of(resource).encode_to_vec())
}

/// The resource that [`encode`] wrote. Never panics, whatever the bytes are.
///
/// # Errors
///
/// If the bytes are no resource that this build understands.
pub fn decode(bytes: &[u8]) -> Result<Resource, DecodeError> {
    let body = Body::decode(bytes)?;
    let all_read = body.kind.is_none() || kind_bytes(&body)? == kind_bytes_in(bytes)?;
    let resource = body.into_resource()?;
    if all_read { Ok(resource) } else { Err(DecodeError::NotKnown("field")) }
}

/// How many bytes the kind of a body takes, as this build writes it.
fn kind_bytes(body: &Body) -> Result<usize, DecodeError> {
    let kind = body.kind.as_ref().ok_or(DecodeError::NotKnown("kind of resource"))?;
    Ok(kind.encoded_len())
}

/// How many bytes the kinds of a body take as they were sent.
fn kind_bytes_in(bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut rest = bytes;
    let mut taken = 0;
    while !rest.is_empty() {
        let before = rest.len();
        let (tag, wire_type) = prost::encoding::decode_key(&mut rest)?;
        prost::encoding::skip_field(wire_type, tag, &mut rest, DecodeContext::default())?;
        if KIND_TAGS.contains(&tag) {
            taken += before - rest.len();
        }
    }
    Ok(taken)
}

/// The version under which it is said that there is nothing.
pub fn nothing() -> Version {
    Version::of(&[])
}

/// A value of the model that has a message.
trait Coded: Sized {
    /// Its message.
    type Message: Message + Default;

    /// To the message.
    fn message(&self) -> Self::Message;

    /// From the message.
    fn value(message: Self::Message) -> Result<Self, DecodeError>;
}

/// The body of any resource.
#[derive(Clone, PartialEq, Message)]
pub struct Body {
    /// Bits for additions that a reader must not ignore. A reader refuses a body with a bit that it
    /// does not know; none is given out yet.
    #[prost(uint32, tag = "1")]
    must_understand: u32,
    #[prost(oneof = "BodyKind", tags = "2, 3, 4, 5, 6, 7, 8, 9, 10")]
    kind: Option<BodyKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum BodyKind {
    #[prost(message, tag = "2")]
    Settings(settings::SettingsMessage),
    #[prost(message, tag = "3")]
    Listeners(settings::ListenersMessage),
    #[prost(message, tag = "4")]
    Resolution(resolution::ResolutionMessage),
    #[prost(message, tag = "5")]
    Route(route::RouteMessage),
    #[prost(message, tag = "6")]
    Service(service::ServiceMessage),
    #[prost(message, tag = "7")]
    Policy(policy::PolicyMessage),
    #[prost(message, tag = "8")]
    Workload(service::MaybeWorkloadMessage),
    #[prost(message, tag = "9")]
    Endpoints(service::EndpointsMessage),
    #[prost(message, tag = "10")]
    Domains(settings::DomainsMessage),
}

impl Body {
    fn of(resource: &Resource) -> Self {
        let kind = match resource {
            Resource::Settings(body) => BodyKind::Settings(body.message()),
            Resource::Listeners(body) => BodyKind::Listeners(body.message()),
            Resource::Resolution(body) => BodyKind::Resolution(body.message()),
            Resource::Route(body) => BodyKind::Route(body.message()),
            Resource::Service(body) => BodyKind::Service(body.message()),
            Resource::Policy(body) => BodyKind::Policy(body.message()),
            Resource::Workload(body) => BodyKind::Workload(service::MaybeWorkloadMessage {
                workload: body.as_ref().map(|workload| workload.message()),
            }),
            Resource::Endpoints(body) => BodyKind::Endpoints(body.message()),
            Resource::Domains(body) => BodyKind::Domains(body.message()),
        };
        Self { must_understand: 0, kind: Some(kind) }
    }

    fn into_resource(self) -> Result<Resource, DecodeError> {
        let unknown = self.must_understand & !UNDERSTOOD;
        if unknown != 0 {
            return Err(DecodeError::MustUnderstand(unknown));
        }
        Ok(match self.kind.ok_or(DecodeError::NotKnown("kind of resource"))? {
            BodyKind::Settings(m) => Resource::Settings(shared(m)?),
            BodyKind::Listeners(m) => Resource::Listeners(shared(m)?),
            BodyKind::Resolution(m) => Resource::Resolution(shared(m)?),
            BodyKind::Route(m) => Resource::Route(shared(m)?),
            BodyKind::Service(m) => Resource::Service(shared(m)?),
            BodyKind::Policy(m) => Resource::Policy(shared(m)?),
            BodyKind::Workload(m) => Resource::Workload(m.workload.map(shared).transpose()?),
            BodyKind::Endpoints(m) => Resource::Endpoints(shared(m)?),
            BodyKind::Domains(m) => Resource::Domains(shared(m)?),
        })
    }
}

fn shared<T: Coded>(message: T::Message) -> Result<Arc<T>, DecodeError> {
    T::value(message).map(Arc::new)
}

/// Fields of a [`Body`] that are kinds of resources.
const KIND_TAGS: std::ops::RangeInclusive<u32> = 2..=10;

/// Bits of `must_understand` that this build knows.
const UNDERSTOOD: u32 = 0;

#[cfg(test)]
mod tests;
