//! What admission refuses, compared with what Istio's validation of today says of the same objects
//! (`admission.json`, made with Istio's own code, and `mutated.json`: small changes of whole objects, of
//! `oracle/findings`, one for each thing that Istio says).

use std::collections::BTreeMap;

use ironmesh_dialects::{Object, manifest, translate, validate};
use ironmesh_model::finding::joined;
use ironmesh_model::settings::Settings;
use ironmesh_model::{Severity, Snapshot};
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

/// What is refused is said once: that it leads nowhere, or does nothing, follows from it.
#[test]
fn a_field_that_is_refused_has_no_second_finding() {
    let said = |kind: &str, spec: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: x, namespace: shop}}\nspec: {spec}\n"
        );
        let parsed = manifest::parse(&text);
        let objects: Vec<Object> =
            parsed.documents.into_iter().map(|d| Object::new(d.value).unwrap()).collect();
        let translation = translate(&objects, &Settings::default());
        let (_, together) = Snapshot::new(translation.objects);
        let all = joined(translation.findings.iter(), together.iter());
        all.iter().map(|f| format!("{} {}", f.code, f.path)).collect::<Vec<_>>()
    };
    let to = "http: [{directResponse: {status: 200}}]";
    let of = |more: &str| said("VirtualService", &format!("{{{more}, {to}}}"));
    assert_eq!(of("hosts: [not a host!]"), ["IM0001 spec.hosts[0]"]);
    assert_eq!(of("hosts: [a.test], gateways: [a/b/c]"), ["IM0001 spec.gateways[0]"]);
    let server = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [not a host!]}";
    let gateway = said("Gateway", &format!("{{selector: {{a: b}}, servers: [{server}]}}"));
    assert_eq!(gateway, ["IM0001 spec.servers[0].hosts[0]", "IM0111 spec.selector"]);
    let claims = "{match: [{headers: {'@request.auth.claims.sub': {exact: a}}}], directResponse: {status: 200}}";
    let claims = said("VirtualService", &format!("{{hosts: [a.test], http: [{claims}]}}"));
    assert_eq!(claims, [r#"IM0001 spec.http[0].match[0].headers["@request.auth.claims.sub"]"#]);
}
