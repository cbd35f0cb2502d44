//! Messages of how an endpoint is chosen.

use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::draw::Share;
use ironmesh_model::policy::{
    Balance, Balancer, HashBalance, HashCookie, HashKey, HashTable, LocalityBalance, Warmup,
};
use prost::{Message, Oneof};

use super::super::common::{PairMessage, messages, nanoseconds, text, values};
use super::super::{Coded, DecodeError};
use super::locality::LocalityMessage;

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct BalanceMessage {
    #[prost(oneof = "BalancerMessage", tags = "1, 2, 3, 4, 5, 6")]
    by: Option<BalancerMessage>,
    #[prost(message, optional, tag = "7")]
    warmup: Option<WarmupMessage>,
    #[prost(message, optional, tag = "8")]
    locality: Option<LocalityMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
enum BalancerMessage {
    #[prost(message, tag = "1")]
    LeastRequest(()),
    #[prost(message, tag = "2")]
    RoundRobin(()),
    #[prost(message, tag = "3")]
    Random(()),
    #[prost(message, tag = "4")]
    Hash(HashBalanceMessage),
    #[prost(message, tag = "5")]
    Passthrough(()),
    #[prost(message, tag = "6")]
    PeakEwma(()),
}

impl Coded for Balance {
    type Message = BalanceMessage;

    fn message(&self) -> BalanceMessage {
        let by = match &self.by {
            Balancer::LeastRequest => BalancerMessage::LeastRequest(()),
            Balancer::RoundRobin => BalancerMessage::RoundRobin(()),
            Balancer::Random => BalancerMessage::Random(()),
            Balancer::Passthrough => BalancerMessage::Passthrough(()),
            Balancer::PeakEwma => BalancerMessage::PeakEwma(()),
            Balancer::Hash(hash) => BalancerMessage::Hash(hash.message()),
        };
        BalanceMessage {
            by: Some(by),
            warmup: self.warmup.as_ref().map(Coded::message),
            locality: self.locality.as_deref().map(Coded::message),
        }
    }

    fn value(m: BalanceMessage) -> Result<Self, DecodeError> {
        let by = match m.by.ok_or(DecodeError::Missing("how an endpoint is chosen"))? {
            BalancerMessage::LeastRequest(()) => Balancer::LeastRequest,
            BalancerMessage::RoundRobin(()) => Balancer::RoundRobin,
            BalancerMessage::Random(()) => Balancer::Random,
            BalancerMessage::Passthrough(()) => Balancer::Passthrough,
            BalancerMessage::PeakEwma(()) => Balancer::PeakEwma,
            BalancerMessage::Hash(hash) => Balancer::Hash(Box::new(HashBalance::value(hash)?)),
        };
        let warmup = m.warmup.map(Coded::value).transpose()?;
        let locality = m.locality.map(LocalityBalance::value).transpose()?.map(Arc::new);
        Ok(Self { by, warmup, locality })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(in super::super) struct WarmupMessage {
    #[prost(uint64, tag = "1")]
    duration_nanoseconds: u64,
    #[prost(uint32, tag = "2")]
    minimum_millionths: u32,
    #[prost(uint32, tag = "3")]
    aggression_thousandths: u32,
}

impl Coded for Warmup {
    type Message = WarmupMessage;

    fn message(&self) -> WarmupMessage {
        WarmupMessage {
            duration_nanoseconds: nanoseconds(self.duration),
            minimum_millionths: self.minimum.millionths(),
            aggression_thousandths: self.aggression_thousandths,
        }
    }

    fn value(m: WarmupMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            duration: Duration::from_nanos(m.duration_nanoseconds),
            minimum: Share::of_millionths(m.minimum_millionths),
            aggression_thousandths: m.aggression_thousandths,
        })
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct HashBalanceMessage {
    #[prost(oneof = "HashKeyMessage", tags = "1, 2, 3, 4")]
    key: Option<HashKeyMessage>,
    #[prost(oneof = "HashTableMessage", tags = "5, 6")]
    table: Option<HashTableMessage>,
}

#[derive(Clone, PartialEq, Oneof)]
enum HashKeyMessage {
    #[prost(string, tag = "1")]
    Header(String),
    #[prost(message, tag = "2")]
    Cookie(HashCookieMessage),
    #[prost(message, tag = "3")]
    SourceIp(()),
    #[prost(string, tag = "4")]
    Query(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
enum HashTableMessage {
    #[prost(uint32, tag = "5")]
    RingPointsMin(u32),
    #[prost(uint32, tag = "6")]
    MaglevSize(u32),
}

impl Coded for HashBalance {
    type Message = HashBalanceMessage;

    fn message(&self) -> HashBalanceMessage {
        let key = match &self.key {
            HashKey::Header(name) => HashKeyMessage::Header(text(name)),
            HashKey::Cookie(cookie) => HashKeyMessage::Cookie(cookie.message()),
            HashKey::SourceIp => HashKeyMessage::SourceIp(()),
            HashKey::Query(name) => HashKeyMessage::Query(text(name)),
        };
        let table = match self.table {
            HashTable::Ring { points_min } => HashTableMessage::RingPointsMin(points_min),
            HashTable::Maglev { size } => HashTableMessage::MaglevSize(size),
        };
        HashBalanceMessage { key: Some(key), table: Some(table) }
    }

    fn value(m: HashBalanceMessage) -> Result<Self, DecodeError> {
        let key = match m.key.ok_or(DecodeError::Missing("what is hashed"))? {
            HashKeyMessage::Header(name) => HashKey::Header(name.into()),
            HashKeyMessage::Cookie(cookie) => HashKey::Cookie(HashCookie::value(cookie)?),
            HashKeyMessage::SourceIp(()) => HashKey::SourceIp,
            HashKeyMessage::Query(name) => HashKey::Query(name.into()),
        };
        let table = match m.table.ok_or(DecodeError::Missing("the table of hashes"))? {
            HashTableMessage::RingPointsMin(points_min) => HashTable::Ring { points_min },
            HashTableMessage::MaglevSize(size) => HashTable::Maglev { size },
        };
        let fits = match table {
            HashTable::Ring { points_min } => points_min <= HashTable::RING_POINTS_MAX,
            HashTable::Maglev { size } => size <= HashTable::MAGLEV_SIZE_MAX,
        };
        fits.then_some(Self { key, table }).ok_or(DecodeError::OutOfRange("a table of hashes"))
    }
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct HashCookieMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    path: String,
    #[prost(uint64, optional, tag = "3")]
    ttl_nanoseconds: Option<u64>,
    #[prost(message, repeated, tag = "4")]
    attributes: Vec<PairMessage>,
}

impl Coded for HashCookie {
    type Message = HashCookieMessage;

    fn message(&self) -> HashCookieMessage {
        HashCookieMessage {
            name: text(&self.name),
            path: text(&self.path),
            ttl_nanoseconds: self.ttl.map(nanoseconds),
            attributes: messages(&self.attributes),
        }
    }

    fn value(m: HashCookieMessage) -> Result<Self, DecodeError> {
        Ok(Self {
            name: m.name.into(),
            path: m.path.into(),
            ttl: m.ttl_nanoseconds.map(Duration::from_nanos),
            attributes: values(m.attributes)?,
        })
    }
}
