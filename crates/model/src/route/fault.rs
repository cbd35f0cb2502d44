//! Failures on purpose: delays and aborts (`fault` of a `VirtualService`).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::draw::Share;

/// What happens to a share of the requests before anything else does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Holds requests back.
    pub delay: Option<Delay>,
    /// Answers requests with an error. Drawn by itself: a request may be delayed and aborted.
    pub abort: Option<Abort>,
}

/// A delay. It is no part of the request's timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delay {
    /// How long.
    pub by: Duration,
    /// Of how many requests.
    pub share: Share,
}

/// An error that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// What is answered.
    pub with: AbortStatus,
    /// To how many requests.
    pub share: Share,
}

/// The status of an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AbortStatus {
    /// This one: 200 to 599. gRPC gets the status that stands for it.
    Http(u16),
    /// 200 and this status of gRPC, 0 to 16. Who does not speak gRPC gets 200 alone, as from Envoy.
    Grpc(u8),
}

impl AbortStatus {
    /// The status of HTTP.
    pub fn http(self) -> u16 {
        match self {
            Self::Http(status) => status,
            Self::Grpc(_) => 200,
        }
    }
}
