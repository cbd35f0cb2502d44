//! Messages of when requests are tried again.

use std::time::Duration;

use ironmesh_model::retry::{Retry, RetryCondition, RetryOn};
use prost::{Message, Oneof};

use super::super::common::{choice, messages, nanoseconds, narrow, text, values};
use super::super::{Coded, DecodeError};

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct RetryMessage {
    #[prost(uint32, tag = "1")]
    attempts: u32,
    #[prost(uint64, optional, tag = "2")]
    per_try_timeout_nanoseconds: Option<u64>,
    #[prost(message, repeated, tag = "3")]
    on: Vec<RetryOnMessage>,
    #[prost(uint64, tag = "4")]
    backoff_nanoseconds: u64,
    #[prost(bool, tag = "5")]
    avoids_tried: bool,
    #[prost(bool, tag = "6")]
    leaves_localities: bool,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(in super::super) struct RetryOnMessage {
    #[prost(oneof = "RetryOnKind", tags = "1, 2, 3, 4")]
    kind: Option<RetryOnKind>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
pub(in super::super) enum RetryOnKind {
    #[prost(uint32, tag = "1")]
    Condition(u32),
    #[prost(uint32, tag = "2")]
    Status(u32),
    #[prost(uint32, tag = "3")]
    Grpc(u32),
    #[prost(string, tag = "4")]
    Header(String),
}

choice!(
    condition_number,
    condition,
    RetryCondition,
    "retry condition",
    [
        RetryCondition::ServerError,
        RetryCondition::GatewayError,
        RetryCondition::Reset,
        RetryCondition::ResetBeforeRequest,
        RetryCondition::ConnectFailure,
        RetryCondition::RefusedStream,
        RetryCondition::Retriable4xx,
        RetryCondition::ServerErrorOfIdempotent,
        RetryCondition::StatusCodes,
        RetryCondition::Headers,
        RetryCondition::RateLimited,
        RetryCondition::Http3,
    ]
);

impl Coded for RetryOn {
    type Message = RetryOnMessage;

    fn message(&self) -> RetryOnMessage {
        let kind = match self {
            Self::Status(status) => RetryOnKind::Status(u32::from(*status)),
            Self::Grpc(status) => RetryOnKind::Grpc(u32::from(*status)),
            Self::Condition(condition) => RetryOnKind::Condition(condition_number(*condition)),
            Self::Header(name) => RetryOnKind::Header(text(name)),
        };
        RetryOnMessage { kind: Some(kind) }
    }

    fn value(m: RetryOnMessage) -> Result<Self, DecodeError> {
        Ok(match m.kind.ok_or(DecodeError::Missing("the kind of a retry condition"))? {
            RetryOnKind::Condition(number) => Self::Condition(condition(number)?),
            RetryOnKind::Header(name) => Self::Header(name.into()),
            RetryOnKind::Status(status) => Self::Status(narrow(status, "a status to retry")?),
            RetryOnKind::Grpc(status) => {
                let out_of_range = |_| DecodeError::OutOfRange("a gRPC status to retry");
                Self::Grpc(u8::try_from(status).map_err(out_of_range)?)
            }
        })
    }
}

impl Coded for Retry {
    type Message = RetryMessage;

    fn message(&self) -> RetryMessage {
        RetryMessage {
            attempts: self.attempts,
            per_try_timeout_nanoseconds: self.per_try_timeout.map(nanoseconds),
            on: messages(&self.on),
            backoff_nanoseconds: nanoseconds(self.backoff),
            avoids_tried: self.avoids_tried,
            leaves_localities: self.leaves_localities,
        }
    }

    fn value(m: RetryMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            attempts: m.attempts,
            per_try_timeout: m.per_try_timeout_nanoseconds.map(Duration::from_nanos),
            on: values(m.on)?,
            backoff: Duration::from_nanos(m.backoff_nanoseconds),
            avoids_tried: m.avoids_tried,
            leaves_localities: m.leaves_localities,
        })
    }
}
