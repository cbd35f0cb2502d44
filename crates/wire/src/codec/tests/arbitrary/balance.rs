//! Random ways to choose an endpoint.

use ironmesh_model::draw::Share;
use ironmesh_model::policy::{
    Balance, Balancer, HashBalance, HashCookie, HashKey, HashTable, Warmup,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::{duration, name};

pub(super) fn balance() -> impl Strategy<Value = Balance> {
    let cookie = (name(), name(), of(duration()), vec((name(), name()), 0..3))
        .prop_map(|(name, path, ttl, attributes)| HashCookie { name, path, ttl, attributes });
    let key = prop_oneof![
        name().prop_map(HashKey::Header),
        cookie.prop_map(HashKey::Cookie),
        Just(HashKey::SourceIp),
        name().prop_map(HashKey::Query),
    ];
    let table = prop_oneof![
        (0..=HashTable::RING_POINTS_MAX).prop_map(|points_min| HashTable::Ring { points_min }),
        (0..=HashTable::MAGLEV_SIZE_MAX).prop_map(|size| HashTable::Maglev { size }),
    ];
    let hash = (key, table).prop_map(|(key, table)| HashBalance { key, table });
    let by = prop_oneof![
        Just(Balancer::LeastRequest),
        Just(Balancer::RoundRobin),
        Just(Balancer::Random),
        Just(Balancer::Passthrough),
        Just(Balancer::PeakEwma),
        hash.prop_map(|hash| Balancer::Hash(Box::new(hash))),
    ];
    let warmup = (duration(), 0u32..=1_000_000, any::<u32>()).prop_map(
        |(duration, millionths, aggression_thousandths)| {
            let minimum = Share::of_millionths(millionths);
            Warmup { duration, minimum, aggression_thousandths }
        },
    );
    (by, of(warmup)).prop_map(|(by, warmup)| Balance { by, warmup })
}
