//! Policies: what holds for traffic to a destination, and for traffic into a workload.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::name::{Labels, Name, ObjectId};

/// One policy object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// How callers reach a destination.
    Destination(DestinationPolicy),
    /// What a workload takes.
    Inbound(InboundPolicy),
}

impl Policy {
    /// The object it was made from.
    pub fn id(&self) -> &ObjectId {
        match self {
            Self::Destination(policy) => &policy.id,
            Self::Inbound(policy) => &policy.id,
        }
    }
}

/// How callers reach a destination (a `DestinationRule`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationPolicy {
    /// The object it was made from.
    pub id: ObjectId,
    /// What holds for traffic to it.
    pub traffic: TrafficPolicy,
    /// Named subsets.
    pub subsets: Vec<Subset>,
}

/// Endpoints of a destination that carry certain labels. No labels: all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subset {
    /// Its name.
    pub name: Name,
    /// Labels that select.
    pub labels: Labels,
    /// What holds for traffic to it; what it leaves open the destination says.
    pub traffic: TrafficPolicy,
}

/// What holds for traffic to a destination (`trafficPolicy`), by section; `None`: nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub balance: Option<Balance>,
    /// When an endpoint gets no requests for a while.
    pub outlier: Option<OutlierDetection>,
    /// Limits of connections.
    pub limits: Option<ConnectionLimits>,
}

impl TrafficPolicy {
    /// The sections of this, and those of `wider` that this does not have, as a subset inherits
    /// from its destination.
    pub fn over(self, wider: Self) -> Self {
        Self {
            balance: self.balance.or(wider.balance),
            outlier: self.outlier.or(wider.outlier),
            limits: self.limits.or(wider.limits),
        }
    }
}

/// When an endpoint gets no requests for a while (`outlierDetection`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierDetection {
    /// Answers of 5xx, or attempts without an answer, one after the other; 0: never. Istio's
    /// default is 5.
    pub consecutive_5xx: u32,
    /// How long the first ejection lasts; the next is longer by as much. Default 30 s.
    pub base_ejection: Duration,
    /// Largest share of the endpoints that may be ejected, in percent. Default 10.
    pub max_ejection_percent: u8,
}

/// Limits of the connections of a proxy to a destination (`connectionPool`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLimits {
    /// `tcp.maxConnections`; `None`: no limit.
    pub connections_max: Option<u32>,
    /// `http.http1MaxPendingRequests`: requests that may wait for a connection; `None`: no limit.
    pub pending_max: Option<u32>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    /// Strictly one after the other.
    #[default]
    RoundRobin,
}

/// What a workload takes (a `PeerAuthentication`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboundPolicy {
    /// The object it was made from.
    pub id: ObjectId,
    /// Mutual TLS; `None` leaves it to the next wider policy.
    pub mtls: Option<MtlsMode>,
}

/// Which connections a workload takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MtlsMode {
    /// Mutual TLS and plaintext.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
    /// Plaintext, and TLS is the application's own affair. Callers of the mesh send plaintext, too;
    /// of one that has not learned of it yet the mesh's own TLS is still taken.
    Disable,
}
