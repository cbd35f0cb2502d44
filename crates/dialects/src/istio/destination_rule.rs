//! `DestinationRule`.

use ironmesh_model::Finding;
use ironmesh_model::policy::{self, Balance, DestinationPolicy};
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
    policy::TrafficPolicy { balance: balance(policy), outlier: None, limits: None }
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
