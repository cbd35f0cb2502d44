//! What the platform does not do for pods as their manifests say, where that depends on how the mesh
//! was started.

use ironmesh_dialects::Object;
use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

/// Findings about the pod of an object, or about those that are made from it. `user_ids`: whether
/// the platform can give a container another user than its own.
pub(super) fn findings(object: &Object, user_ids: bool) -> Vec<Finding> {
    let path = match object.kind() {
        "Pod" => "spec",
        "Deployment" | "ReplicaSet" => "spec.template.spec",
        _ => return Vec::new(),
    };
    // What owns an object has the finding, once for all that is made from it.
    if user_ids || object.value().pointer("/metadata/ownerReferences/0").is_some() {
        return Vec::new();
    }
    let pointer = format!("/{}", path.replace('.', "/"));
    object.value().pointer(&pointer).map_or_else(Vec::new, |spec| users(object, path, spec))
}

fn users(object: &Object, path: &str, spec: &Value) -> Vec<Finding> {
    let mut places = vec![(path.to_owned(), spec)];
    for list in ["initContainers", "containers"] {
        let containers = spec[list].as_array().into_iter().flatten().enumerate();
        places.extend(containers.map(|(i, container)| (format!("{path}.{list}[{i}]"), container)));
    }
    let mut findings = Vec::new();
    for (place, holder) in places {
        for field in ["runAsUser", "runAsGroup"] {
            let Some(id) = holder["securityContext"][field].as_u64().filter(|id| *id != 0) else {
                continue;
            };
            let path = format!("{place}.securityContext.{field}");
            let message = format!("{field} {id}: the mesh was not started by root");
            findings.push(Finding::new(object.id(), path, FindingCode::UserNotHonoured, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_that_cannot_be_had_are_found() {
        let replica_set = |owners: Value| {
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": "a", "namespace": "default", "ownerReferences": owners},
                "spec": {"template": {"spec": {
                    "securityContext": {"runAsUser": 0},
                    "containers": [{"name": "c", "securityContext": {"runAsUser": 1000}}],
                }}},
            })
        };
        let found = |owners: Value, user_ids| -> Vec<String> {
            let object = Object::new(replica_set(owners)).unwrap();
            findings(&object, user_ids).into_iter().map(|f| f.path).collect()
        };
        let user = "spec.template.spec.containers[0].securityContext.runAsUser";
        assert_eq!(found(json!([]), false), [user]);
        assert!(found(json!([]), true).is_empty());
        assert!(found(json!([{"kind": "Deployment"}]), false).is_empty());
    }
}
