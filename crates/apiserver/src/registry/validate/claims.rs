//! Claims of volumes, and what of them and of the sets that make them may change.

use std::collections::BTreeSet;

use ironmesh_dialects::kubernetes::kinds::{ClaimSpec, StatefulSetSpec};
use ironmesh_dialects::schema::Fields;
use serde_json::Value;

use super::{LABEL_RULE, is_label};
use crate::failure::Cause;
use crate::object::Object;

/// Checks what a claim at `path` says.
pub(super) fn claim(spec: Fields<'_, ClaimSpec>, path: &str, causes: &mut Vec<Cause>) {
    if spec.access_modes().len() == 0 {
        causes.push(Cause::required(format!("{path}.accessModes")));
    }
    let field = format!("{path}.resources[storage]");
    match spec.resources().requests().get("storage") {
        None => causes.push(Cause::required(field)),
        Some(size) if size.thousandths().is_none_or(|size| size == 0) => {
            let why = "must be greater than zero";
            causes.push(Cause::invalid(field, &size.to_string().into(), why));
        }
        Some(_) => {}
    }
}

/// Checks the claims that a StatefulSet makes, which are named as volumes are.
pub(super) fn of_set(spec: Fields<'_, StatefulSetSpec>, causes: &mut Vec<Cause>) {
    let mut names = BTreeSet::new();
    for (index, template) in spec.volume_claim_templates().enumerate() {
        let path = format!("spec.volumeClaimTemplates[{index}]");
        let name = template.metadata().name();
        if !is_label(name) {
            let field = format!("{path}.metadata.name");
            causes.push(Cause::invalid(field, &name.into(), LABEL_RULE));
        } else if !names.insert(name) {
            let message = format!("Duplicate value: {name:?}");
            causes.push(Cause { field: format!("{path}.metadata.name"), message });
        }
        claim(template.spec(), &format!("{path}.spec"), causes);
    }
    let service = spec.service_name();
    if !service.is_empty() && !is_label(service) {
        causes.push(Cause::invalid("spec.serviceName", &service.into(), LABEL_RULE));
    }
}

/// What of a StatefulSet may not change.
pub(super) fn changed_set(old: &Object, new: &Object) -> Option<Cause> {
    let message = "Forbidden: updates to statefulset spec for fields other than 'replicas', \
                   'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', \
                   'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    const FREE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    forbidden(old, new, FREE, message)
}

/// What of a claim may not change: it may grow, and is given its volume.
pub(super) fn changed(old: &Object, new: &Object) -> Option<Cause> {
    let message = "Forbidden: spec is immutable after creation except resources.requests and \
                   volumeAttributesClassName for bound claims";
    let mut free = vec!["resources", "volumeAttributesClassName"];
    if old["spec"]["volumeName"].as_str().unwrap_or_default().is_empty() {
        free.push("volumeName");
    }
    forbidden(old, new, &free, message)
}

/// A cause if anything of a spec changes but the fields that are free to.
fn forbidden(old: &Object, new: &Object, free: &[&str], message: &str) -> Option<Cause> {
    let fixed = |object: &Object| {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if let Value::Object(spec) = &mut spec {
            // What is not set may be left out or written as nothing.
            spec.retain(|field, value| !free.contains(&field.as_str()) && !value.is_null());
        }
        spec
    };
    (fixed(old) != fixed(new))
        .then(|| Cause { field: "spec".to_owned(), message: message.to_owned() })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_set_keeps_its_service_and_its_claims() {
        let set = |service: &str, replicas: u32, claims: Value| {
            json!({"spec": {
                "serviceName": service, "replicas": replicas, "volumeClaimTemplates": claims,
            }})
        };
        let old = set("vault", 1, json!([]));
        assert_eq!(changed_set(&old, &set("vault", 3, json!([]))), None);
        assert!(changed_set(&old, &set("other", 1, json!([]))).is_some());
        assert!(changed_set(&old, &set("vault", 1, json!([{}]))).is_some());
    }

    #[test]
    fn claims_are_checked_as_kubernetes_does() {
        for (spec, count) in [
            (
                json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}),
                0,
            ),
            (json!({"accessModes": [], "resources": {"requests": {"storage": 0}}}), 2),
            (json!({}), 2),
        ] {
            let mut causes = Vec::new();
            claim(ClaimSpec::of(&spec), "spec", &mut causes);
            assert_eq!(causes.len(), count, "{spec}: {causes:?}");
        }
        let claims = json!([{"metadata": {"name": "../x"}}, {"metadata": {"name": "a"}}, {"metadata": {"name": "a"}}]);
        let set = json!({"volumeClaimTemplates": claims, "serviceName": "A"});
        let mut causes = Vec::new();
        of_set(StatefulSetSpec::of(&set), &mut causes);
        let named: Vec<_> = causes.iter().filter(|c| c.field.ends_with("ame")).collect();
        assert_eq!(named.len(), 3, "{causes:?}");
    }
}
