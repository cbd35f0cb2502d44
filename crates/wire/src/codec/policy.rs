//! Messages of policies.

use ironmesh_model::policy::{Balance, DestinationPolicy, InboundPolicy, MtlsMode, Policy, Subset};
use prost::{Message, Oneof};

use super::common::{
    LabelsMessage, ObjectIdMessage, choice, labels, labels_message, messages, required, text,
    values,
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
    #[prost(uint32, tag = "2")]
    balance: u32,
    #[prost(message, repeated, tag = "3")]
    subsets: Vec<SubsetMessage>,
}

impl Coded for DestinationPolicy {
    type Message = DestinationPolicyMessage;

    fn message(&self) -> DestinationPolicyMessage {
        DestinationPolicyMessage {
            id: Some(self.id.message()),
            balance: balance_number(self.balance),
            subsets: messages(&self.subsets),
        }
    }

    fn value(m: DestinationPolicyMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a policy")?,
            balance: balance(m.balance)?,
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
    #[prost(uint32, optional, tag = "3")]
    balance: Option<u32>,
}

impl Coded for Subset {
    type Message = SubsetMessage;

    fn message(&self) -> SubsetMessage {
        SubsetMessage {
            name: text(&self.name),
            labels: labels_message(&self.labels),
            balance: self.balance.map(balance_number),
        }
    }

    fn value(m: SubsetMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            name: m.name.into(),
            labels: labels(m.labels),
            balance: m.balance.map(balance).transpose()?,
        })
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
