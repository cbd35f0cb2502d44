//! Messages of names, labels, addresses and the like, which several bodies share.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::{Identity, Labels, Name, ObjectId, ServiceId, WorkloadId};
use prost::Message;

use super::{Coded, DecodeError};

/// A name as text.
pub(super) fn text(name: &Name) -> String {
    name.to_string()
}

/// A part that may be missing, as text.
pub(super) fn optional_text(name: Option<&Name>) -> Option<String> {
    name.map(text)
}

/// A list of messages.
pub(super) fn messages<T: Coded>(values: &[T]) -> Vec<T::Message> {
    values.iter().map(T::message).collect()
}

/// A list of values.
pub(super) fn values<T: Coded>(messages: Vec<T::Message>) -> Result<Vec<T>, DecodeError> {
    messages.into_iter().map(T::value).collect()
}

/// A list of shared values.
pub(super) fn shared_messages<T: Coded>(values: &[Arc<T>]) -> Vec<T::Message> {
    values.iter().map(|value| value.message()).collect()
}

/// A list of shared values.
pub(super) fn shared_values<T: Coded>(
    messages: Vec<T::Message>,
) -> Result<Vec<Arc<T>>, DecodeError> {
    messages.into_iter().map(|message| T::value(message).map(Arc::new)).collect()
}

/// A value that must be there.
pub(super) fn required<T: Coded>(
    message: Option<T::Message>,
    what: &'static str,
) -> Result<T, DecodeError> {
    T::value(message.ok_or(DecodeError::Missing(what))?)
}

/// A list of names.
pub(super) fn names(texts: Vec<String>) -> Vec<Name> {
    texts.into_iter().map(Name::from).collect()
}

/// A number of 16 bits.
pub(super) fn narrow(number: u32, what: &'static str) -> Result<u16, DecodeError> {
    u16::try_from(number).map_err(|_| DecodeError::OutOfRange(what))
}

/// A duration in nanoseconds; one of more than 584 years becomes that.
pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An address as 4 or 16 bytes.
pub(super) fn ip_bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address of 4 or 16 bytes.
pub(super) fn ip(bytes: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(octets.into());
    }
    let octets =
        <[u8; 16]>::try_from(bytes).map_err(|_| DecodeError::OutOfRange("an IP address"))?;
    Ok(octets.into())
}

/// One choice of a closed set as a number, by the position in `$all`; the first is the default.
macro_rules! choice {
    ($to:ident, $from:ident, $type:ty, $what:literal, [$($variant:path),+ $(,)?]) => {
        pub(super) fn $to(value: $type) -> u32 {
            const ALL: &[$type] = &[$($variant),+];
            // Every variant stands in the list: the match fails to compile if one does not.
            match value { $($variant => {})+ }
            (0u32..).zip(ALL).find(|(_, v)| **v == value).map_or(0, |(number, _)| number)
        }

        pub(super) fn $from(number: u32) -> Result<$type, DecodeError> {
            const ALL: &[$type] = &[$($variant),+];
            usize::try_from(number)
                .ok()
                .and_then(|index| ALL.get(index).copied())
                .ok_or(DecodeError::Unknown { what: $what, value: number })
        }
    };
}
pub(super) use choice;

/// A pair of names.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PairMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

impl Coded for (Name, Name) {
    type Message = PairMessage;

    fn message(&self) -> PairMessage {
        PairMessage { name: text(&self.0), value: text(&self.1) }
    }

    fn value(m: PairMessage) -> Result<Self, DecodeError> {
        Ok((m.name.into(), m.value.into()))
    }
}

/// Labels, in order of their names.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct LabelsMessage {
    #[prost(message, repeated, tag = "1")]
    pairs: Vec<PairMessage>,
}

impl Coded for Labels {
    type Message = LabelsMessage;

    fn message(&self) -> LabelsMessage {
        let pair = |(name, value)| PairMessage { name: text(name), value: text(value) };
        LabelsMessage { pairs: self.0.iter().map(pair).collect() }
    }

    fn value(m: LabelsMessage) -> Result<Self, DecodeError> {
        Ok(m.pairs.into_iter().map(|pair| (pair.name, pair.value)).collect())
    }
}

/// Labels, of which none is the same as an empty message.
pub(super) fn labels(message: Option<LabelsMessage>) -> Labels {
    message
        .map(|m| m.pairs.into_iter().map(|pair| (pair.name, pair.value)).collect())
        .unwrap_or_default()
}

/// See [`labels`].
pub(super) fn labels_message(labels: &Labels) -> Option<LabelsMessage> {
    (!labels.is_empty()).then(|| labels.message())
}

/// A [`ServiceId`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ServiceIdMessage {
    #[prost(string, tag = "1")]
    namespace: String,
    #[prost(string, tag = "2")]
    hostname: String,
}

impl Coded for ServiceId {
    type Message = ServiceIdMessage;

    fn message(&self) -> ServiceIdMessage {
        ServiceIdMessage { namespace: text(&self.namespace), hostname: text(&self.hostname) }
    }

    fn value(m: ServiceIdMessage) -> Result<Self, DecodeError> {
        Ok(Self { namespace: m.namespace.into(), hostname: m.hostname.into() })
    }
}

/// An [`ObjectId`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct ObjectIdMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
}

impl Coded for ObjectId {
    type Message = ObjectIdMessage;

    fn message(&self) -> ObjectIdMessage {
        ObjectIdMessage {
            kind: text(&self.kind),
            namespace: text(&self.namespace),
            name: text(&self.name),
        }
    }

    fn value(m: ObjectIdMessage) -> Result<Self, DecodeError> {
        Ok(Self::new(m.kind, m.namespace, m.name))
    }
}

/// A [`WorkloadId`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WorkloadIdMessage {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    uid: String,
}

impl Coded for WorkloadId {
    type Message = WorkloadIdMessage;

    fn message(&self) -> WorkloadIdMessage {
        WorkloadIdMessage {
            cluster: text(&self.cluster),
            namespace: text(&self.namespace),
            name: text(&self.name),
            uid: text(&self.uid),
        }
    }

    fn value(m: WorkloadIdMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            cluster: m.cluster.into(),
            namespace: m.namespace.into(),
            name: m.name.into(),
            uid: m.uid.into(),
        })
    }
}

/// An [`Identity`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct IdentityMessage {
    #[prost(string, tag = "1")]
    trust_domain: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    service_account: String,
}

impl Coded for Identity {
    type Message = IdentityMessage;

    fn message(&self) -> IdentityMessage {
        IdentityMessage {
            trust_domain: text(&self.trust_domain),
            namespace: text(&self.namespace),
            service_account: text(&self.service_account),
        }
    }

    fn value(m: IdentityMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            trust_domain: m.trust_domain.into(),
            namespace: m.namespace.into(),
            service_account: m.service_account.into(),
        })
    }
}
