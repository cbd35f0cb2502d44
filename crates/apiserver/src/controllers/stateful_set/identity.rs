//! What makes a pod of a StatefulSet the one that it is: its number, name and claims.

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{ClaimTemplate, StatefulSetSpec};
use ironmesh_dialects::schema::Fields;
use serde_json::{Value, json};

use crate::controllers::events;
use crate::failure::Failure;
use crate::object::{self, Object, entry};
use crate::registry::Registry;
use crate::store::Collection;

/// The number of a pod of a set, by its name.
pub(super) fn number(set: &str, pod: &str) -> Option<u32> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let number: u32 = digits.parse().ok()?;
    // Neither `+1` nor `01` are names that a set gives.
    (number.to_string() == digits).then_some(number)
}

/// Makes a pod the one of this number.
pub(super) fn give(set: &Object, spec: Fields<'_, StatefulSetSpec>, number: u32, pod: &mut Object) {
    let name = format!("{}-{number}", object::name(set));
    let metadata = object::metadata_mut(pod);
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.shift_remove("generateName");
    }
    metadata["name"] = name.clone().into();
    let labels = entry(metadata, "labels");
    labels["statefulset.kubernetes.io/pod-name"] = name.clone().into();
    labels["apps.kubernetes.io/pod-index"] = number.to_string().into();
    let of_pod = entry(pod, "spec");
    of_pod["hostname"] = name.clone().into();
    of_pod["subdomain"] = spec.service_name().into();
    // A claim takes the place of a volume of the template that has its name.
    let claims: Vec<Value> =
        spec.volume_claim_templates().map(|template| volume(template, &name)).collect();
    let is_claimed = |volume: &Value| claims.iter().any(|claim| claim["name"] == volume["name"]);
    let mut volumes = match of_pod["volumes"].take() {
        Value::Array(volumes) => volumes,
        _ => Vec::new(),
    };
    volumes.retain(|volume| !is_claimed(volume));
    volumes.extend(claims);
    of_pod["volumes"] = volumes.into();
}

fn volume(template: Fields<'_, ClaimTemplate>, pod: &str) -> Value {
    let name = template.metadata().name();
    json!({"name": name, "persistentVolumeClaim": {"claimName": claim_name(name, pod)}})
}

fn claim_name(template: &str, pod: &str) -> String {
    format!("{template}-{pod}")
}

/// Makes the claims of a pod that are not there. They belong to nobody, and so outlive pod and set.
/// Returns whether all are there: one that is to go is to be gone first.
pub(super) fn make_claims(
    registry: &Registry,
    set: &Object,
    spec: Fields<'_, StatefulSetSpec>,
    pod: &Object,
) -> Result<bool, Failure> {
    let resource = Resource::of("v1", "PersistentVolumeClaim");
    let namespace = object::namespace(set);
    for template in spec.volume_claim_templates() {
        let name = claim_name(template.metadata().name(), object::name(pod));
        let key = Collection::core("persistentvolumeclaims").key(namespace, &name);
        match registry.store().object(&key) {
            Some(claim) if object::is_terminating(&claim) => return Ok(false),
            Some(_) => continue,
            None => {}
        }
        let given = template.metadata().json();
        let mut metadata = json!({"name": name});
        for field in ["annotations", "labels"] {
            if given[field].is_object() {
                metadata[field] = given[field].clone();
            }
        }
        for (label, value) in spec.selector().match_labels().iter() {
            entry(&mut metadata, "labels")[label] = value.into();
        }
        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": metadata,
            "spec": template.spec().json(),
        });
        let pod = object::name(pod);
        let said = format!("Claim {name} Pod {pod} in StatefulSet {}", object::name(set));
        match registry.create(&resource, namespace, claim) {
            Ok(_) => {
                let message = format!("create {said} success");
                events::record(registry, set, "Normal", "SuccessfulCreate", &message);
            }
            Err(failure) => {
                let message = format!("create {said} failed error: {failure}");
                events::record(registry, set, "Warning", "FailedCreate", &message);
                return Err(failure);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_known_by_their_names() {
        for (pod, expected) in [
            ("web-0", Some(0)),
            ("web-17", Some(17)),
            ("web-017", None),
            ("web-+1", None),
            ("web-", None),
            ("web", None),
            ("web-a", None),
            ("webs-1", None),
            ("web-99999999999", None),
        ] {
            assert_eq!(number("web", pod), expected, "{pod}");
        }
    }
}
