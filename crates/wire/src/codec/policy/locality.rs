//! Messages of which endpoints are preferred for being near.

use ironmesh_model::policy::{Distribute, Failover, LocalityBalance, ZoneAware};
use prost::Message;

use super::super::common::{messages, names, text, values};
use super::super::{Coded, DecodeError};

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct LocalityMessage {
    #[prost(bool, tag = "1")]
    disabled: bool,
    #[prost(message, repeated, tag = "2")]
    distribute: Vec<DistributeMessage>,
    #[prost(message, repeated, tag = "3")]
    failover: Vec<FailoverMessage>,
    #[prost(string, repeated, tag = "4")]
    failover_priority: Vec<String>,
    #[prost(uint64, optional, tag = "5")]
    zone_endpoints_min: Option<u64>,
}

impl Coded for LocalityBalance {
    type Message = LocalityMessage;

    fn message(&self) -> LocalityMessage {
        LocalityMessage {
            disabled: !self.enabled,
            distribute: messages(&self.distribute),
            failover: messages(&self.failover),
            failover_priority: self.failover_priority.iter().map(text).collect(),
            zone_endpoints_min: self.zone_aware.map(|zones| zones.endpoints_min),
        }
    }

    fn value(m: LocalityMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            enabled: !m.disabled,
            distribute: values(m.distribute)?,
            failover: values(m.failover)?,
            failover_priority: names(m.failover_priority),
            zone_aware: m.zone_endpoints_min.map(|endpoints_min| ZoneAware { endpoints_min }),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct DistributeMessage {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(message, repeated, tag = "2")]
    to: Vec<ShareMessage>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ShareMessage {
    #[prost(string, tag = "1")]
    locality: String,
    #[prost(uint32, tag = "2")]
    weight: u32,
}

impl Coded for Distribute {
    type Message = DistributeMessage;

    fn message(&self) -> DistributeMessage {
        let share = |(locality, weight): (_, &u32)| ShareMessage {
            locality: text(locality),
            weight: *weight,
        };
        DistributeMessage { from: text(&self.from), to: self.to.iter().map(share).collect() }
    }

    fn value(m: DistributeMessage) -> Result<Self, DecodeError> {
        let to = m.to.into_iter().map(|share| (share.locality.into(), share.weight)).collect();
        Ok(Self { from: m.from.into(), to })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct FailoverMessage {
    #[prost(string, tag = "1")]
    from: String,
    #[prost(string, tag = "2")]
    to: String,
}

impl Coded for Failover {
    type Message = FailoverMessage;

    fn message(&self) -> FailoverMessage {
        FailoverMessage { from: text(&self.from), to: text(&self.to) }
    }

    fn value(m: FailoverMessage) -> Result<Self, DecodeError> {
        Ok(Self { from: m.from.into(), to: m.to.into() })
    }
}
