//! How an endpoint is chosen.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LocalityBalance;
use crate::draw::Share;
use crate::name::Name;

/// How an endpoint is chosen (`loadBalancer`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    /// By which rule.
    pub by: Balancer,
    /// How a new endpoint gets fewer requests at first; where they take turns, and where the fewest
    /// under way decide, as in Istio.
    pub warmup: Option<Warmup>,
    /// Which endpoints are preferred for being near; `None`: as the service or the mesh say.
    pub locality: Option<Arc<LocalityBalance>>,
}

impl Balance {
    /// The same rule, and nothing else.
    pub fn by(by: Balancer) -> Self {
        Self { by, warmup: None, locality: None }
    }

    /// The warm-up, where it has an effect.
    pub fn effective_warmup(&self) -> Option<&Warmup> {
        let warms = matches!(self.by, Balancer::LeastRequest | Balancer::RoundRobin);
        self.warmup.as_ref().filter(|warmup| warms && !warmup.duration.is_zero())
    }

    /// What is hashed, where a hash chooses.
    pub fn hash_key(&self) -> Option<&HashKey> {
        match &self.by {
            Balancer::Hash(hash) => Some(&hash.key),
            _ => None,
        }
    }
}

/// How a new endpoint gets fewer requests at first (`warmup`; Envoy's slow start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmup {
    /// For how long.
    pub duration: Duration,
    /// The share of its requests that it gets at least. Default 10 %.
    pub minimum: Share,
    /// How fast it gets more, in thousandths: 1000, the default, is linear, more is faster at first.
    pub aggression_thousandths: u32,
}

impl Warmup {
    /// The share of its requests that an endpoint gets which has been there for so long.
    pub fn share_after(&self, age: Duration) -> Share {
        let passed = age.as_secs_f64() / self.duration.as_secs_f64();
        if passed >= 1.0 {
            return Share::ALL;
        }
        let aggression = f64::from(self.aggression_thousandths.max(1)) / 1000.0;
        let grown = Share::of_percent(100.0 * passed.powf(1.0 / aggression));
        if grown.millionths() > self.minimum.millionths() { grown } else { self.minimum }
    }
}

/// The rule by which an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balancer {
    /// Of two that are drawn, the one with fewer requests under way. The default, as Istio's.
    #[default]
    LeastRequest,
    /// Strictly one after the other.
    RoundRobin,
    /// One that is drawn.
    Random,
    /// The endpoint that the caller dialled. If it dialled the service, one that is drawn, as the node
    /// would: by mutual TLS all the same.
    Passthrough,
    /// Of two that are drawn, the one whose answers come sooner, by an average that peaks raise at once
    /// (peak EWMA), times the requests under way.
    PeakEwma,
    /// By a hash of something that the request carries.
    Hash(Box<HashBalance>),
}

impl Balancer {
    /// As Envoy names it (`lbPolicy` of a cluster).
    pub fn envoy_name(&self) -> &'static str {
        match self {
            Self::LeastRequest => "LEAST_REQUEST",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::Random => "RANDOM",
            Self::PeakEwma => "LOAD_BALANCING_POLICY_CONFIG",
            Self::Passthrough => "CLUSTER_PROVIDED",
            Self::Hash(hash) => match hash.table {
                HashTable::Ring { .. } => "RING_HASH",
                HashTable::Maglev { .. } => "MAGLEV",
            },
        }
    }
}

impl fmt::Display for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash(hash) => write!(f, "{} of the {}", self.envoy_name(), hash.key),
            Self::Passthrough => f.write_str("PASSTHROUGH"),
            Self::PeakEwma => f.write_str("PEAK_EWMA"),
            Self::LeastRequest | Self::RoundRobin | Self::Random => f.write_str(self.envoy_name()),
        }
    }
}

/// Balancing by a hash, so that alike requests meet the same endpoint (`consistentHash`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashBalance {
    /// What is hashed.
    pub key: HashKey,
    /// How a hash leads to an endpoint.
    pub table: HashTable,
}

/// What is hashed. A request without it goes to an endpoint that is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKey {
    /// The value of this header.
    Header(Name),
    /// The value of a cookie.
    Cookie(HashCookie),
    /// The address of the client.
    SourceIp,
    /// The first value of this parameter of the query, as it was sent.
    Query(Name),
}

impl fmt::Display for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(cookie) => write!(f, "cookie {}", cookie.name),
            Self::SourceIp => f.write_str("address of the client"),
            Self::Query(name) => write!(f, "query parameter {name}"),
        }
    }
}

/// A cookie that is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashCookie {
    /// Its name.
    pub name: Name,
    /// The path that it is set for; empty: none is named.
    pub path: Name,
    /// How long a client that has none keeps the one that it is given; zero: until its session
    /// ends. `None`: it is given none.
    pub ttl: Option<Duration>,
    /// Further attributes with which it is set; an empty value stands for none.
    pub attributes: Vec<(Name, Name)>,
}

/// How a hash leads to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashTable {
    /// By a ring on which each endpoint has many points (Ketama).
    Ring {
        /// The least number of points on it. Istio's default is 1024.
        points_min: u32,
    },
    /// By the table of Maglev (Eisenbud et al., NSDI 2016, section 3.4).
    Maglev {
        /// Its size, a prime. Envoy's default is 65 537.
        size: u32,
    },
}

impl HashTable {
    /// Points of a ring, if no number is given.
    pub const RING_POINTS: u32 = 1024;
    /// The most points that a ring may be asked to have; it takes 12 bytes for each.
    pub const RING_POINTS_MAX: u32 = 1 << 20;
    /// Size of Maglev's table, if none is given.
    pub const MAGLEV_SIZE: u32 = 65_537;
    /// The largest table of Maglev, as Envoy's; it takes 4 bytes for each place.
    pub const MAGLEV_SIZE_MAX: u32 = 5_000_011;
}
