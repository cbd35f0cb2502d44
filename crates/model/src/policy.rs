//! Policies: what holds for traffic to a destination, and for traffic into a workload.

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
    /// Balancing among the endpoints.
    pub balance: Balance,
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
    /// Balancing, if it differs from the destination's.
    pub balance: Option<Balance>,
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
