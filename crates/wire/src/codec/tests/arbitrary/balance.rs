//! Random ways to choose an endpoint.

use std::sync::Arc;

use ironmesh_model::draw::Share;
use ironmesh_model::policy::{
    Balance, Balancer, Distribute, Failover, HashBalance, HashCookie, HashKey, HashTable,
    LocalityBalance, Warmup, ZoneAware,
};
use proptest::collection::{btree_map, vec};
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
    (by, of(warmup), of(locality().prop_map(Arc::new))).prop_map(|(by, warmup, locality)| Balance {
        by,
        warmup,
        locality,
    })
}

pub(super) fn locality() -> impl Strategy<Value = LocalityBalance> {
    let distribute = (name(), btree_map(name(), any::<u32>(), 0..3))
        .prop_map(|(from, to)| Distribute { from, to });
    let failover = (name(), name()).prop_map(|(from, to)| Failover { from, to });
    let zones = any::<u64>().prop_map(|endpoints_min| ZoneAware { endpoints_min });
    let lists = (vec(distribute, 0..3), vec(failover, 0..3), vec(name(), 0..3));
    (any::<bool>(), lists, of(zones)).prop_map(|(enabled, lists, zone_aware)| {
        let (distribute, failover, failover_priority) = lists;
        LocalityBalance { enabled, distribute, failover, failover_priority, zone_aware }
    })
}
