//! What the platform does not do for pods as their manifests say, where that depends on how the mesh
//! was started.

use ironmesh_dialects::Object;
use ironmesh_dialects::kubernetes::kinds::{AnyObject, Pod, PodSpec, ReplicaSet};
use ironmesh_dialects::schema::{Bounded, Fields};
use ironmesh_model::{Finding, FindingCode};

/// Findings about the pod of an object, or about those that are made from it. `user_ids`: whether
/// the platform can give a container another user than its own.
pub(super) fn findings(object: &Object, user_ids: bool) -> Vec<Finding> {
    let value = object.value();
    let (path, spec) = match object.kind() {
        "Pod" => ("spec", Pod::of(value).spec()),
        "Deployment" | "ReplicaSet" => {
            ("spec.template.spec", ReplicaSet::of(value).spec().template().spec())
        }
        _ => return Vec::new(),
    };
    // What owns an object has the finding, once for all that is made from it.
    if user_ids || AnyObject::of(value).metadata().owner_references().len() > 0 {
        return Vec::new();
    }
    users(object, path, spec)
}

fn users(object: &Object, path: &str, spec: Fields<'_, PodSpec>) -> Vec<Finding> {
    let own = spec.security_context();
    let mut asked = vec![(path.to_owned(), own.run_as_user(), own.run_as_group())];
    for (list, containers) in
        [("initContainers", spec.init_containers()), ("containers", spec.containers())]
    {
        for (index, container) in containers.enumerate() {
            let own = container.security_context();
            let path = format!("{path}.{list}[{index}]");
            asked.push((path, own.run_as_user(), own.run_as_group()));
        }
    }
    let mut findings = Vec::new();
    for (path, user, group) in asked {
        for (field, id) in [("runAsUser", user), ("runAsGroup", group)] {
            let Some(id) = id.map(Bounded::get).filter(|id| *id != 0) else { continue };
            let path = format!("{path}.securityContext.{field}");
            let message = format!("{field} {id}: the mesh was not started by root");
            findings.push(Finding::new(object.id(), path, FindingCode::UserNotHonoured, message));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
