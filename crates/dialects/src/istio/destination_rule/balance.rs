//! `loadBalancer`: how an endpoint is chosen.

use std::sync::Arc;

use ironmesh_model::draw::Share;
use ironmesh_model::policy::{
    Balance, Balancer, Distribute, Failover, HashBalance, HashCookie, HashKey, HashTable,
    LocalityBalance, TrafficPolicy, Warmup, ZoneAware,
};
use ironmesh_model::{FindingCode, Name};

use super::fields::{self, ConsistentHash, HttpCookie, LoadBalancer, SimpleBalance};
use crate::Object;
use crate::path::field;

/// Takes a finding: the path of a field, the code, and what is wrong.
pub(super) type Report<'a> = &'a mut dyn FnMut(String, FindingCode, String);

/// What is said of balancing. What is left out is as Istio's default: the fewest requests under way.
pub(super) fn balance(given: &LoadBalancer, path: &str, report: Report<'_>) -> Balance {
    let by = match (&given.consistent_hash, given.simple) {
        (Some(hash), _) => by_hash(hash, &field(path, "consistentHash"), report),
        (None, Some(SimpleBalance::RoundRobin)) => Balancer::RoundRobin,
        (None, Some(SimpleBalance::Random)) => Balancer::Random,
        (None, Some(SimpleBalance::Passthrough)) => Balancer::Passthrough,
        (
            None,
            None
            | Some(
                SimpleBalance::Unspecified | SimpleBalance::LeastConn | SimpleBalance::LeastRequest,
            ),
        ) => Balancer::LeastRequest,
    };
    let warmup = warmup(given);
    let balance = Balance { by, warmup, locality: locality(given).map(Arc::new) };
    if warmup.is_some() && balance.effective_warmup().is_none() {
        let message = "new endpoints get fewer requests where LEAST_REQUEST or ROUND_ROBIN chooses";
        let name = if given.warmup.is_some() { "warmup" } else { "warmupDurationSecs" };
        report(field(path, name), FindingCode::NoEffect, message.to_owned());
    }
    balance
}

/// Which endpoints are preferred for being near. Of the two ways to say it the one by zones counts, as
/// in Istio.
fn locality(given: &LoadBalancer) -> Option<LocalityBalance> {
    match (&given.zone_aware_lb_setting, &given.locality_lb_setting) {
        (Some(zones), _) => Some(zones.meaning()),
        (None, own) => own.as_ref().map(fields::LocalityBalance::meaning),
    }
}

impl fields::LocalityBalance {
    /// What it says.
    pub(crate) fn meaning(&self) -> LocalityBalance {
        let distribute = self.distribute.iter().map(|given| Distribute {
            from: given.from.as_str().into(),
            to: given.to.iter().map(|(to, weight)| (to.as_str().into(), *weight)).collect(),
        });
        LocalityBalance {
            enabled: self.enabled != Some(false),
            distribute: distribute.collect(),
            failover: self.failover.iter().map(failover).collect(),
            failover_priority: names(&self.failover_priority),
            zone_aware: None,
        }
    }
}

impl fields::ZoneBalance {
    /// What it says.
    pub(crate) fn meaning(&self) -> LocalityBalance {
        let endpoints_min = self.min_cluster_size.filter(|size| *size > 0);
        let endpoints_min = endpoints_min.unwrap_or(ZoneAware::default().endpoints_min);
        LocalityBalance {
            enabled: self.enabled != Some(false),
            distribute: Vec::new(),
            failover: self.failover.iter().map(failover).collect(),
            failover_priority: names(&self.failover_priority),
            zone_aware: Some(ZoneAware { endpoints_min }),
        }
    }
}

fn failover(given: &fields::Failover) -> Failover {
    Failover { from: given.from.as_str().into(), to: given.to.as_str().into() }
}

fn names(given: &[String]) -> Vec<Name> {
    given.iter().map(|name| name.as_str().into()).collect()
}

/// Finds what has no effect since nobody tells which endpoints do badly.
pub(super) fn failover_without_detection(
    given: &TrafficPolicyFields<'_>,
    path: &str,
    report: Report<'_>,
) {
    let (Some(balancer), None) = (given.load_balancer, given.outlier_detection) else { return };
    let Some(setting) = &balancer.locality_lb_setting else { return };
    let is_on = setting.enabled != Some(false) && balancer.zone_aware_lb_setting.is_none();
    if is_on && setting.distribute.is_empty() {
        let path = field(&field(path, "loadBalancer"), "localityLbSetting");
        let message = "requests go to another locality only beside outlierDetection, which tells \
                       which endpoints do badly";
        report(path, FindingCode::NoEffect, message.to_owned());
    }
}

/// The two sections that belong together.
pub(super) struct TrafficPolicyFields<'a> {
    pub(super) load_balancer: Option<&'a LoadBalancer>,
    /// Its own, or what it inherits.
    pub(super) outlier_detection: Option<&'a fields::OutlierDetection>,
}

/// The warm-up; what is left out is as Istio's.
fn warmup(given: &LoadBalancer) -> Option<Warmup> {
    let aggression = |given: f64| (given * 1000.0).round() as u32;
    match (&given.warmup, given.warmup_duration_secs) {
        (Some(own), _) => Some(Warmup {
            duration: own.duration,
            minimum: Share::of_percent(own.minimum_percent.unwrap_or(MINIMUM_PERCENT)),
            aggression_thousandths: aggression(own.aggression.unwrap_or(1.0)),
        }),
        (None, Some(duration)) => Some(Warmup {
            duration,
            minimum: Share::of_percent(MINIMUM_PERCENT),
            aggression_thousandths: aggression(1.0),
        }),
        (None, None) => None,
    }
}

/// Istio's default of `minimumPercent`.
const MINIMUM_PERCENT: f64 = 10.0;

/// The policy of a rule whose annotation names a balancer that Istio does not have. It stands in for
/// LEAST_REQUEST, asked for or not.
pub(super) fn by_annotation(
    object: &Object,
    traffic: Option<TrafficPolicy>,
    report: Report<'_>,
) -> Option<TrafficPolicy> {
    let Some(name) = object.annotation(BALANCER) else { return traffic };
    if name != PEAK_EWMA {
        let message = format!("{BALANCER} is {PEAK_EWMA:?} or left out");
        report("metadata.annotations".to_owned(), FindingCode::Invalid, message);
        return traffic;
    }
    let mut traffic = traffic.unwrap_or_default();
    let balance = traffic.balance.get_or_insert_default();
    if balance.by == Balancer::LeastRequest {
        balance.by = Balancer::PeakEwma;
    } else {
        let message = format!("{BALANCER} has no effect beside loadBalancer");
        report("metadata.annotations".to_owned(), FindingCode::NoEffect, message);
    }
    Some(traffic)
}

/// Annotation of a DestinationRule that names a balancer which Istio does not have.
const BALANCER: &str = "ironmesh.io/balancer";
const PEAK_EWMA: &str = "peak-ewma";

fn by_hash(given: &ConsistentHash, path: &str, report: Report<'_>) -> Balancer {
    let table = table(given, path, report);
    match key(given) {
        Some(key) => Balancer::Hash(Box::new(HashBalance { key, table })),
        None => {
            let message = "nothing is named whose hash could choose an endpoint, so it is drawn";
            report(path.to_owned(), FindingCode::NoEffect, message.to_owned());
            Balancer::Random
        }
    }
}

fn key(given: &ConsistentHash) -> Option<HashKey> {
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    if let Some(name) = named(&given.http_header_name) {
        return Some(HashKey::Header(name.to_ascii_lowercase().into()));
    }
    if let Some(cookie) = &given.http_cookie {
        return Some(HashKey::Cookie(cookie_of(cookie)));
    }
    if given.use_source_ip == Some(true) {
        return Some(HashKey::SourceIp);
    }
    named(&given.http_query_parameter_name).map(|name| HashKey::Query(name.into()))
}

fn cookie_of(given: &HttpCookie) -> HashCookie {
    let attributes = given.attributes.iter();
    HashCookie {
        name: given.name.as_str().into(),
        path: given.path.as_str().into(),
        ttl: given.ttl,
        attributes: attributes.map(|a| (a.name.as_str().into(), a.value.as_str().into())).collect(),
    }
}

/// The table, of a size that Envoy would take. Zero stands for the default.
fn table(given: &ConsistentHash, path: &str, report: Report<'_>) -> HashTable {
    if let Some(maglev) = &given.maglev {
        let size = maglev.table_size.filter(|size| *size != 0);
        let size = size.unwrap_or(u64::from(HashTable::MAGLEV_SIZE));
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        if size <= HashTable::MAGLEV_SIZE_MAX && is_prime(size) {
            return HashTable::Maglev { size };
        }
        let (most, used) = (HashTable::MAGLEV_SIZE_MAX, HashTable::MAGLEV_SIZE);
        let message = format!("the size is a prime of {most} at most; {used} is used");
        report(field(&field(path, "maglev"), "tableSize"), FindingCode::Invalid, message);
        return HashTable::Maglev { size: used };
    }
    let (points, path) = match &given.ring_hash {
        Some(ring) => (ring.minimum_ring_size, field(path, "ringHash")),
        None => (given.minimum_ring_size, path.to_owned()),
    };
    let points = points.filter(|points| *points != 0);
    let points = points.unwrap_or(u64::from(HashTable::RING_POINTS));
    let most = HashTable::RING_POINTS_MAX;
    let points_min = u32::try_from(points).unwrap_or(u32::MAX).min(most);
    if points > u64::from(most) {
        let message = format!("a ring has {most} points at most, and so many are used");
        report(field(&path, "minimumRingSize"), FindingCode::Invalid, message);
    }
    HashTable::Ring { points_min }
}

fn is_prime(number: u32) -> bool {
    let is_divisor = |by: &u32| number.is_multiple_of(*by);
    let up_to_root = (2..).take_while(|by| u64::from(*by) * u64::from(*by) <= u64::from(number));
    number > 1 && up_to_root.into_iter().all(|by| !is_divisor(&by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_known() {
        for (number, prime) in [
            (0, false),
            (1, false),
            (2, true),
            (251, true),
            (65_537, true),
            (65_535, false),
            (5_000_011, true),
        ] {
            assert_eq!(is_prime(number), prime, "{number}");
        }
    }
}
