//! What admission refuses, compared with what Istio's validation of today says of the same objects
//! (`admission.json`, made with Istio's own code, and `mutated.json`: small changes of whole objects, of
//! `oracle/findings`, one for each thing that Istio says).

use std::collections::BTreeMap;

use ironmesh_dialects::{Object, validate};
use ironmesh_model::Severity;
use serde_json::{Value, json};

/// Where the two differ on purpose, and why.
const DIFFERENT: &[(&str, &str)] = &[
    ("VirtualService unknown-field", "a misspelt field is refused, with what was meant"),
    ("VirtualService two-kinds", "Istio's schema refuses it, which its code does not see"),
    ("VirtualService match-port-zero", "0 is no port; Istio takes it for none"),
    ("VirtualService fault-oldpercent", "Istio ignores percent, which counts here"),
    ("VirtualService fault-abort-600", "no status is 600"),
    ("VirtualService direct-status-600", "no status is 600"),
    ("VirtualService redirect-code-399", "of these Envoy sends 301 instead"),
    ("VirtualService headers-bad-name", "Envoy refuses all that Istio makes with it"),
    ("VirtualService headers-remove-bad", "Envoy refuses all that Istio makes with it"),
];

#[test]
fn what_istios_validation_refuses_is_refused_and_nothing_else() {
    let mut cases: Vec<Value> = serde_json::from_str(include_str!("admission.json")).unwrap();
    let mutated: Vec<Value> = serde_json::from_str(include_str!("mutated.json")).unwrap();
    cases.extend(mutated);
    let different: BTreeMap<&str, &str> = DIFFERENT.iter().copied().collect();
    let mut wrong = Vec::new();
    for case in &cases {
        let object = Object::new(json!({
            "apiVersion": case["apiVersion"], "kind": case["kind"], "spec": case["spec"],
            "metadata": {"name": "x", "namespace": "shop"},
        }));
        let findings = validate(&object.unwrap());
        let refused = findings.iter().any(|f| f.code.severity() == Severity::Error);
        let name = format!("{} {}", case["kind"].as_str().unwrap(), case["name"].as_str().unwrap());
        let agrees = refused == (case["istio"] == "refused");
        if agrees == different.contains_key(name.as_str()) {
            let why = if agrees { "no difference any more" } else { "" };
            wrong.push(format!("{name}: Istio {} {why}{findings:?}", case["istio"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
