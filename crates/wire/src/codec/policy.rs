//! Messages of policies.

use std::time::Duration;

use ironmesh_model::policy::{
    Balance, ConnectionLimits, DestinationPolicy, InboundPolicy, MtlsMode, OutlierDetection,
    Policy, Subset, TrafficPolicy,
};
use prost::{Message, Oneof};

use super::common::{
    LabelsMessage, ObjectIdMessage, choice, labels, labels_message, messages, nanoseconds,
    required, text, values,
};
use super::{Coded, DecodeError};

choice!(balance_number, balance, Balance, "balancing", [Balance::RoundRobin]);

choice!(
    mtls_number,
    mtls,
    MtlsMode,
    "mutual TLS mode",
    [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable]
);

#[derive(Clone, PartialEq, Message)]
pub(super) struct PolicyMessage {
    #[prost(oneof = "PolicyKind", tags = "1, 2")]
    kind: Option<PolicyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
enum PolicyKind {
    #[prost(message, tag = "1")]
    Destination(DestinationPolicyMessage),
    #[prost(message, tag = "2")]
    Inbound(InboundPolicyMessage),
}

impl Coded for Policy {
    type Message = PolicyMessage;

    fn message(&self) -> PolicyMessage {
        let kind = match self {
            Self::Destination(policy) => PolicyKind::Destination(policy.message()),
            Self::Inbound(policy) => PolicyKind::Inbound(policy.message()),
        };
        PolicyMessage { kind: Some(kind) }
    }

    fn value(m: PolicyMessage) -> Result<Self, DecodeError> {
        Ok(match m.kind.ok_or(DecodeError::Missing("the kind of a policy"))? {
            PolicyKind::Destination(m) => Self::Destination(DestinationPolicy::value(m)?),
            PolicyKind::Inbound(m) => Self::Inbound(InboundPolicy::value(m)?),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DestinationPolicyMessage {
    #[prost(message, optional, tag = "1")]
    id: Option<ObjectIdMessage>,
    #[prost(message, optional, tag = "2")]
    traffic: Option<TrafficMessage>,
    #[prost(message, repeated, tag = "3")]
    subsets: Vec<SubsetMessage>,
}

impl Coded for DestinationPolicy {
    type Message = DestinationPolicyMessage;

    fn message(&self) -> DestinationPolicyMessage {
        DestinationPolicyMessage {
            id: Some(self.id.message()),
            traffic: Some(self.traffic.message()),
            subsets: messages(&self.subsets),
        }
    }

    fn value(m: DestinationPolicyMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a policy")?,
            traffic: traffic(m.traffic)?,
            subsets: values(m.subsets)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SubsetMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    labels: Option<LabelsMessage>,
    #[prost(message, optional, tag = "3")]
    traffic: Option<TrafficMessage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TrafficMessage {
    #[prost(uint32, optional, tag = "1")]
    balance: Option<u32>,
    #[prost(message, optional, tag = "2")]
    outlier: Option<OutlierMessage>,
    #[prost(message, optional, tag = "3")]
    limits: Option<LimitsMessage>,
}

impl Coded for TrafficPolicy {
    type Message = TrafficMessage;

    fn message(&self) -> TrafficMessage {
        TrafficMessage {
            balance: self.balance.map(balance_number),
            outlier: self.outlier.as_ref().map(Coded::message),
            limits: self.limits.as_ref().map(Coded::message),
        }
    }

    fn value(m: TrafficMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            balance: m.balance.map(balance).transpose()?,
            outlier: m.outlier.map(Coded::value).transpose()?,
            limits: m.limits.map(Coded::value).transpose()?,
        })
    }
}

fn traffic(message: Option<TrafficMessage>) -> Result<TrafficPolicy, DecodeError> {
    Coded::value(message.unwrap_or_default())
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct OutlierMessage {
    #[prost(uint32, tag = "1")]
    consecutive_5xx: u32,
    #[prost(uint64, tag = "2")]
    base_ejection_nanoseconds: u64,
    #[prost(uint32, tag = "3")]
    max_ejection_percent: u32,
}

impl Coded for OutlierDetection {
    type Message = OutlierMessage;

    fn message(&self) -> OutlierMessage {
        OutlierMessage {
            consecutive_5xx: self.consecutive_5xx,
            base_ejection_nanoseconds: nanoseconds(self.base_ejection),
            max_ejection_percent: u32::from(self.max_ejection_percent),
        }
    }

    fn value(m: OutlierMessage) -> Result<Self, DecodeError> {
        let out_of_range = |_| DecodeError::OutOfRange("a share of ejected endpoints");
        Ok(Self {
            consecutive_5xx: m.consecutive_5xx,
            base_ejection: Duration::from_nanos(m.base_ejection_nanoseconds),
            max_ejection_percent: u8::try_from(m.max_ejection_percent).map_err(out_of_range)?,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LimitsMessage {
    #[prost(uint32, optional, tag = "1")]
    connections_max: Option<u32>,
    #[prost(uint32, optional, tag = "2")]
    pending_max: Option<u32>,
}

impl Coded for ConnectionLimits {
    type Message = LimitsMessage;

    fn message(&self) -> LimitsMessage {
        LimitsMessage { connections_max: self.connections_max, pending_max: self.pending_max }
    }

    fn value(m: LimitsMessage) -> Result<Self, DecodeError> {
        Ok(Self { connections_max: m.connections_max, pending_max: m.pending_max })
    }
}

impl Coded for Subset {
    type Message = SubsetMessage;

    fn message(&self) -> SubsetMessage {
        SubsetMessage {
            name: text(&self.name),
            labels: labels_message(&self.labels),
            traffic: Some(self.traffic.message()),
        }
    }

    fn value(m: SubsetMessage) -> Result<Self, DecodeError> {
        Ok(Self { name: m.name.into(), labels: labels(m.labels), traffic: traffic(m.traffic)? })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InboundPolicyMessage {
    #[prost(message, optional, tag = "1")]
    id: Option<ObjectIdMessage>,
    #[prost(uint32, optional, tag = "2")]
    mtls: Option<u32>,
}

impl Coded for InboundPolicy {
    type Message = InboundPolicyMessage;

    fn message(&self) -> InboundPolicyMessage {
        InboundPolicyMessage { id: Some(self.id.message()), mtls: self.mtls.map(mtls_number) }
    }

    fn value(m: InboundPolicyMessage) -> Result<Self, DecodeError> {
        Ok(Self { id: required(m.id, "the id of a policy")?, mtls: m.mtls.map(mtls).transpose()? })
    }
}
