//! `DestinationRule`.

use ironmesh_model::Finding;
use std::time::Duration;

use ironmesh_model::policy::{self, Balance, ConnectionLimits, DestinationPolicy};
use ironmesh_model::snapshot::DestinationPolicySource;

use super::{export_to, fully_qualified, labels};
use crate::Object;
use crate::path::item;
use crate::schema::read;
use crate::translate::Part;

mod fields;

pub use fields::*;

/// Translates a DestinationRule. Balancing other than round robin is a finding.
pub(crate) fn destination_rule(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let DestinationRule { spec, .. } = read(object, findings)?;
    let subsets = spec.subsets.iter().map(|subset| policy::Subset {
        name: subset.name.as_str().into(),
        labels: labels(&subset.labels),
        traffic: traffic(&subset.traffic_policy),
    });
    let mutual_tls_at = mutual_tls_at(&spec);
    Some(Part::DestinationPolicy(Box::new(DestinationPolicySource {
        policy: DestinationPolicy {
            id: object.id().clone(),
            traffic: traffic(&spec.traffic_policy),
            subsets: subsets.collect(),
        },
        host: fully_qualified(&spec.host, object),
        export_to: export_to(&spec.export_to, object),
        created: object.created(),
        mutual_tls_at,
    })))
}

/// Where it asks for `ISTIO_MUTUAL`.
fn mutual_tls_at(spec: &Spec) -> Vec<String> {
    let policies = std::iter::once(("spec".to_owned(), &spec.traffic_policy)).chain(
        spec.subsets
            .iter()
            .enumerate()
            .map(|(at, subset)| (item("spec.subsets", at), &subset.traffic_policy)),
    );
    policies
        .filter(|(_, policy)| policy.tls.mode == Some(TlsMode::IstioMutual))
        .map(|(path, _)| format!("{path}.trafficPolicy.tls.mode"))
        .collect()
}

/// What a policy says, by section.
fn traffic(policy: &TrafficPolicy) -> policy::TrafficPolicy {
    policy::TrafficPolicy {
        balance: balance(policy),
        outlier: policy.outlier_detection.as_ref().map(outlier),
        limits: limits(&policy.connection_pool),
    }
}

/// Istio's defaults stand in for what is left out.
fn outlier(given: &OutlierDetection) -> policy::OutlierDetection {
    let percent = given.max_ejection_percent.and_then(|percent| u8::try_from(percent).ok());
    policy::OutlierDetection {
        consecutive_5xx: given.consecutive_5xx_errors.unwrap_or(5),
        base_ejection: given.base_ejection_time.unwrap_or(Duration::from_secs(30)),
        max_ejection_percent: percent.unwrap_or(10).min(100),
    }
}

/// Limits that are left out or zero are none, as in Istio.
fn limits(given: &ConnectionPool) -> Option<ConnectionLimits> {
    let limit = |given: Option<i32>| given.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
    let limits = ConnectionLimits {
        connections_max: limit(given.tcp.max_connections),
        pending_max: limit(given.http.http1_max_pending_requests),
    };
    (limits != ConnectionLimits::default()).then_some(limits)
}

/// The balancing that is asked for, if it is one that is done; the table reports the others, for
/// which round robin stands in.
fn balance(policy: &TrafficPolicy) -> Option<Balance> {
    match policy.load_balancer.simple? {
        SimpleBalance::RoundRobin => Some(Balance::RoundRobin),
        SimpleBalance::Unspecified
        | SimpleBalance::LeastConn
        | SimpleBalance::LeastRequest
        | SimpleBalance::Random
        | SimpleBalance::Passthrough => None,
    }
}
