//! The message of outlier detection.

use std::time::Duration;

use ironmesh_model::policy::OutlierDetection;
use prost::Message;

use super::super::common::nanoseconds;
use super::super::{Coded, DecodeError};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in super::super) struct OutlierMessage {
    #[prost(uint32, tag = "1")]
    consecutive_5xx: u32,
    #[prost(uint64, tag = "2")]
    base_ejection_nanoseconds: u64,
    #[prost(uint32, tag = "3")]
    max_ejection_percent: u32,
    #[prost(uint32, tag = "4")]
    consecutive_gateway: u32,
    #[prost(uint32, optional, tag = "5")]
    consecutive_local: Option<u32>,
    #[prost(uint64, tag = "6")]
    interval_nanoseconds: u64,
    #[prost(uint32, tag = "7")]
    min_health_percent: u32,
}

impl Coded for OutlierDetection {
    type Message = OutlierMessage;

    fn message(&self) -> OutlierMessage {
        OutlierMessage {
            consecutive_5xx: self.consecutive_5xx,
            base_ejection_nanoseconds: nanoseconds(self.base_ejection),
            max_ejection_percent: u32::from(self.max_ejection_percent),
            consecutive_gateway: self.consecutive_gateway,
            consecutive_local: self.consecutive_local,
            interval_nanoseconds: nanoseconds(self.interval),
            min_health_percent: u32::from(self.min_health_percent),
        }
    }

    fn value(m: OutlierMessage) -> Result<Self, DecodeError> {
        let percent = |given| {
            u8::try_from(given).map_err(|_| DecodeError::OutOfRange("a share of endpoints"))
        };
        Ok(Self {
            consecutive_5xx: m.consecutive_5xx,
            consecutive_gateway: m.consecutive_gateway,
            consecutive_local: m.consecutive_local,
            interval: Duration::from_nanos(m.interval_nanoseconds),
            base_ejection: Duration::from_nanos(m.base_ejection_nanoseconds),
            max_ejection_percent: percent(m.max_ejection_percent)?,
            min_health_percent: percent(m.min_health_percent)?,
        })
    }
}
