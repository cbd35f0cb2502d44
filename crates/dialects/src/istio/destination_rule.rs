//! `DestinationRule`.

use ironmesh_model::Finding;
use ironmesh_model::policy::{Balance, DestinationPolicy, Subset};
use ironmesh_model::snapshot::DestinationPolicySource;
use serde::Deserialize;
use serde_json::Value;

use super::{export_to, fully_qualified};
use crate::Object;
use crate::object::labels;
use crate::path::item;
use crate::schema::check;
use crate::translate::Part;

mod schema;

/// Translates a DestinationRule. Balancing other than round robin is a finding.
pub(crate) fn destination_rule(object: &Object, findings: &mut Vec<Finding>) -> Option<Part> {
    let spec = check(object, &schema::DESTINATION_RULE, findings)?;
    let spec: Spec = serde_json::from_value(spec).ok()?;
    let subsets = spec.subsets.iter().map(|subset| Subset {
        name: subset.name.as_str().into(),
        labels: labels(&subset.labels),
        balance: subset.traffic_policy.as_ref().and_then(balance),
    });
    let mutual_tls_at = mutual_tls_at(&spec);
    Some(Part::DestinationPolicy(Box::new(DestinationPolicySource {
        policy: DestinationPolicy {
            id: object.id().clone(),
            balance: spec.traffic_policy.as_ref().and_then(balance).unwrap_or_default(),
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
    let asks = |policy: &Option<Value>| {
        let mode = policy.as_ref().and_then(|policy| policy.pointer("/tls/mode"));
        mode.and_then(Value::as_str) == Some("ISTIO_MUTUAL")
    };
    let policies = std::iter::once(("spec".to_owned(), &spec.traffic_policy)).chain(
        spec.subsets
            .iter()
            .enumerate()
            .map(|(at, subset)| (item("spec.subsets", at), &subset.traffic_policy)),
    );
    policies
        .filter(|(_, policy)| asks(policy))
        .map(|(path, _)| format!("{path}.trafficPolicy.tls.mode"))
        .collect()
}

fn balance(policy: &Value) -> Option<Balance> {
    match policy.pointer("/loadBalancer/simple")?.as_str()? {
        "ROUND_ROBIN" => Some(Balance::RoundRobin),
        // Reported by the schema; round robin is what remains.
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    host: String,
    #[serde(default)]
    export_to: Vec<String>,
    #[serde(default)]
    subsets: Vec<GivenSubset>,
    traffic_policy: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GivenSubset {
    name: String,
    #[serde(default)]
    labels: Value,
    traffic_policy: Option<Value>,
}
