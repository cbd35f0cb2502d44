//! What the platform does not do for pods as their manifests say.

use ironmesh_dialects::Object;
use ironmesh_model::{Finding, FindingCode};
use serde_json::Value;

/// Findings about the pod of an object, or about those that are made from it. `user_ids`: whether
/// the platform can give a container another user than its own.
pub(super) fn findings(object: &Object, user_ids: bool) -> Vec<Finding> {
    let path = match object.kind() {
        // What owns a pod has the finding, once for all of its pods.
        "Pod" if object.value().pointer("/metadata/ownerReferences/0").is_none() => "spec",
        "Deployment" => "spec.template.spec",
        _ => return Vec::new(),
    };
    let pointer = format!("/{}", path.replace('.', "/"));
    let Some(spec) = object.value().pointer(&pointer) else { return Vec::new() };
    let mut findings = volumes(object, path, spec);
    if !user_ids {
        findings.extend(users(object, path, spec));
    }
    findings
}

fn volumes(object: &Object, path: &str, spec: &Value) -> Vec<Finding> {
    let volumes = spec["volumes"].as_array().into_iter().flatten().enumerate();
    volumes
        .filter_map(|(index, volume)| {
            let kind = volume.as_object()?.keys().find(|key| *key != "name")?;
            let served = SERVED_VOLUMES.contains(&kind.as_str());
            (!served).then(|| {
                let path = format!("{path}.volumes[{index}].{kind}");
                let message = format!("an empty directory stands in for the {kind}");
                Finding::new(object.id(), path, FindingCode::VolumeNotHonoured, message)
            })
        })
        .collect()
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

/// Volumes that the platform serves.
const SERVED_VOLUMES: [&str; 5] = ["emptyDir", "configMap", "secret", "downwardAPI", "projected"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_and_volumes_that_cannot_be_had_are_found() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"template": {"spec": {
                "securityContext": {"runAsUser": 0},
                "containers": [{"name": "c", "securityContext": {"runAsUser": 1000}}],
                "volumes": [{"name": "t", "emptyDir": {}}, {"name": "h", "hostPath": {}}],
            }}},
        });
        let object = Object::new(deployment).unwrap();
        let found = |user_ids| -> Vec<(FindingCode, String)> {
            findings(&object, user_ids).into_iter().map(|f| (f.code, f.path)).collect()
        };
        let volume =
            (FindingCode::VolumeNotHonoured, "spec.template.spec.volumes[1].hostPath".to_owned());
        let user = (
            FindingCode::UserNotHonoured,
            "spec.template.spec.containers[0].securityContext.runAsUser".to_owned(),
        );
        assert_eq!(found(true), std::slice::from_ref(&volume));
        assert_eq!(found(false), [volume, user]);
    }
}
