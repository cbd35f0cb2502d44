//! Messages of policies.

use ironmesh_model::draw::Share;
use ironmesh_model::policy::{
    DestinationPolicy, InboundPart, InboundPolicy, MtlsMode, Policy, PortPolicy, RetryBudget,
    Subset, TrafficPolicy,
};
use prost::{Message, Oneof};

use super::common::{
    LabelsMessage, ObjectIdMessage, choice, labels, labels_message, messages, narrow, required,
    text, values,
};
use super::{Coded, DecodeError};

mod balance;
pub(super) mod locality;
mod outlier;
pub(super) mod pool;
pub(super) mod tls;

use balance::BalanceMessage;
use outlier::OutlierMessage;
use pool::PoolMessage;
use tls::{ClientTlsMessage, TunnelMessage, proxy_protocol, proxy_protocol_number};

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
#[expect(clippy::large_enum_variant, reason = "it lives while a policy is encoded or decoded")]
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
    #[prost(bool, tag = "4")]
    fills: bool,
}

impl Coded for DestinationPolicy {
    type Message = DestinationPolicyMessage;

    fn message(&self) -> DestinationPolicyMessage {
        DestinationPolicyMessage {
            id: Some(self.id.message()),
            traffic: self.traffic.as_ref().map(Coded::message),
            subsets: messages(&self.subsets),
            fills: self.fills,
        }
    }

    fn value(m: DestinationPolicyMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a policy")?,
            traffic: m.traffic.map(Coded::value).transpose()?,
            subsets: values(m.subsets)?,
            fills: m.fills,
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

#[derive(Clone, PartialEq, Message)]
pub(super) struct TrafficMessage {
    #[prost(message, optional, tag = "1")]
    sections: Option<SectionsMessage>,
    #[prost(message, repeated, tag = "2")]
    ports: Vec<PortMessage>,
}

impl Coded for TrafficPolicy {
    type Message = TrafficMessage;

    fn message(&self) -> TrafficMessage {
        TrafficMessage { sections: Some(SectionsMessage::of(self)), ports: messages(&self.ports) }
    }

    fn value(m: TrafficMessage) -> Result<Self, DecodeError> {
        Ok(Self { ports: values(m.ports)?, ..m.sections.unwrap_or_default().value()? })
    }
}

/// What a policy says for a port, or for those of which it says nothing else. (Not a policy within a
/// policy: decoding those would take as much of the stack as the sender likes.)
#[derive(Clone, PartialEq, Message)]
pub(super) struct SectionsMessage {
    #[prost(message, optional, tag = "1")]
    balance: Option<BalanceMessage>,
    #[prost(message, optional, tag = "2")]
    outlier: Option<OutlierMessage>,
    #[prost(message, optional, tag = "3")]
    pool: Option<PoolMessage>,
    #[prost(message, optional, boxed, tag = "4")]
    tls: Option<Box<ClientTlsMessage>>,
    #[prost(message, optional, tag = "6")]
    retry_budget: Option<RetryBudgetMessage>,
    #[prost(uint32, optional, tag = "7")]
    proxy_protocol: Option<u32>,
    #[prost(message, optional, tag = "8")]
    tunnel: Option<TunnelMessage>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct RetryBudgetMessage {
    #[prost(uint32, tag = "1")]
    millionths: u32,
    #[prost(uint32, tag = "2")]
    retries_min: u32,
}

impl Coded for RetryBudget {
    type Message = RetryBudgetMessage;

    fn message(&self) -> RetryBudgetMessage {
        let Self { share, retries_min } = *self;
        RetryBudgetMessage { millionths: share.millionths(), retries_min }
    }

    fn value(m: RetryBudgetMessage) -> Result<Self, DecodeError> {
        let share = Share::of_millionths(m.millionths);
        Ok(Self { share, retries_min: m.retries_min })
    }
}

impl SectionsMessage {
    fn of(policy: &TrafficPolicy) -> Self {
        Self {
            balance: policy.balance.as_ref().map(Coded::message),
            outlier: policy.outlier.as_ref().map(Coded::message),
            pool: policy.pool.as_ref().map(Coded::message),
            retry_budget: policy.retry_budget.as_ref().map(Coded::message),
            tls: policy.tls.as_ref().map(|tls| Box::new(tls.message())),
            proxy_protocol: policy.proxy_protocol.map(proxy_protocol_number),
            tunnel: policy.tunnel.as_ref().map(Coded::message),
        }
    }

    fn value(self) -> Result<TrafficPolicy, DecodeError> {
        Ok(TrafficPolicy {
            balance: self.balance.map(Coded::value).transpose()?,
            outlier: self.outlier.map(Coded::value).transpose()?,
            pool: self.pool.map(Coded::value).transpose()?,
            retry_budget: self.retry_budget.map(Coded::value).transpose()?,
            tls: self.tls.map(|tls| Coded::value(*tls)).transpose()?,
            proxy_protocol: self.proxy_protocol.map(proxy_protocol).transpose()?,
            tunnel: self.tunnel.map(Coded::value).transpose()?,
            ports: Vec::new(),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PortMessage {
    #[prost(uint32, tag = "1")]
    port: u32,
    #[prost(message, optional, tag = "2")]
    sections: Option<SectionsMessage>,
}

impl Coded for PortPolicy {
    type Message = PortMessage;

    fn message(&self) -> PortMessage {
        let sections = Some(SectionsMessage::of(&self.traffic));
        PortMessage { port: u32::from(self.port), sections }
    }

    fn value(m: PortMessage) -> Result<Self, DecodeError> {
        let traffic = m.sections.unwrap_or_default().value()?;
        Ok(Self { port: narrow(m.port, "the port of a policy")?, traffic })
    }
}

fn traffic(message: Option<TrafficMessage>) -> Result<TrafficPolicy, DecodeError> {
    Coded::value(message.unwrap_or_default())
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
    #[prost(message, repeated, tag = "3")]
    parts: Vec<InboundPartMessage>,
}

impl Coded for InboundPolicy {
    type Message = InboundPolicyMessage;

    fn message(&self) -> InboundPolicyMessage {
        InboundPolicyMessage {
            id: Some(self.id.message()),
            mtls: self.mtls.map(mtls_number),
            parts: messages(&self.parts),
        }
    }

    fn value(m: InboundPolicyMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            id: required(m.id, "the id of a policy")?,
            mtls: m.mtls.map(mtls).transpose()?,
            parts: values(m.parts)?,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InboundPartMessage {
    #[prost(message, optional, tag = "1")]
    workloads: Option<LabelsMessage>,
    #[prost(uint32, optional, tag = "2")]
    port: Option<u32>,
    #[prost(uint32, tag = "3")]
    mtls: u32,
}

impl Coded for InboundPart {
    type Message = InboundPartMessage;

    fn message(&self) -> InboundPartMessage {
        InboundPartMessage {
            workloads: labels_message(&self.workloads),
            port: self.port.map(u32::from),
            mtls: mtls_number(self.mtls),
        }
    }

    fn value(m: InboundPartMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            workloads: labels(m.workloads),
            port: m.port.map(|port| narrow(port, "the port of a workload")).transpose()?,
            mtls: mtls(m.mtls)?,
        })
    }
}
