//! What the platform does not do for pods as their manifests say, where that depends on how the mesh
//! was started.

use ironmesh_dialects::Object;
use ironmesh_dialects::kubernetes::image::{Role, stand_in};
use ironmesh_dialects::kubernetes::kinds::{AnyObject, Pod, PodSpec, ReplicaSet, StatefulSet};
use ironmesh_dialects::schema::{Bounded, Fields};
use ironmesh_model::{Finding, FindingCode};

/// What the platform can do, as the mesh was started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Platform {
    /// Whether it can give a container another user than its own.
    pub(super) user_ids: bool,
    /// Whether the files of claims outlive the mesh.
    pub(super) keeps_claims: bool,
}

/// Findings about the pod of an object, or about those that are made from it.
pub(super) fn findings(object: &Object, platform: Platform) -> Vec<Finding> {
    let value = object.value();
    // What owns an object has the finding, once for all that is made from it.
    if AnyObject::of(value).metadata().owner_references().len() > 0 {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let claims = match object.kind() {
        "PersistentVolumeClaim" => Some("spec"),
        "StatefulSet" if StatefulSet::of(value).spec().volume_claim_templates().len() > 0 => {
            Some("spec.volumeClaimTemplates")
        }
        _ => None,
    };
    if let Some(path) = claims.filter(|_| !platform.keeps_claims) {
        let message = "the files of claims are in memory, and go with the mesh: it was started \
                       without --state";
        findings.push(Finding::new(object.id(), path, FindingCode::ClaimsInMemory, message));
    }
    let (path, spec) = match object.kind() {
        "Pod" => ("spec", Pod::of(value).spec()),
        "Deployment"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet"
        | "DaemonSet"
        | "Job" => ("spec.template.spec", ReplicaSet::of(value).spec().template().spec()),
        _ => return findings,
    };
    findings.extend(stand_ins(object, path, &spec));
    if !platform.user_ids {
        findings.extend(users(object, path, spec));
    }
    findings
}

/// The images that ironmesh itself answers for.
fn stand_ins(object: &Object, path: &str, spec: &Fields<'_, PodSpec>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (list, containers) in
        [("initContainers", spec.init_containers()), ("containers", spec.containers())]
    {
        for (index, container) in containers.enumerate() {
            let Some(known) = stand_in(container.image()) else { continue };
            let path = format!("{path}.{list}[{index}].image");
            let message = match known.role {
                Role::ControlPlane => {
                    format!("ironmesh answers for {}, as it has its own control plane", known.name)
                }
                Role::Setup => format!("ironmesh has nothing for {} to set up", known.name),
                Role::Addon => format!(
                    "ironmesh answers for {}, with a page only, unless its image is mapped",
                    known.name
                ),
            };
            findings.push(Finding::new(object.id(), path, FindingCode::AnsweredHere, message));
        }
    }
    findings
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
            findings(&object, Platform { user_ids, keeps_claims: true })
                .into_iter()
                .map(|f| f.path)
                .collect()
        };
        let user = "spec.template.spec.containers[0].securityContext.runAsUser";
        assert_eq!(found(json!([]), false), [user]);
        assert!(found(json!([]), true).is_empty());
        assert!(found(json!([{"kind": "Deployment"}]), false).is_empty());
    }

    const PLATFORM: Platform = Platform { user_ids: true, keeps_claims: true };

    #[test]
    fn images_that_ironmesh_answers_for_are_found_in_every_kind_of_workload() {
        for kind in ["Deployment", "DaemonSet", "StatefulSet", "Job", "ReplicationController"] {
            let object = json!({
                "apiVersion": "apps/v1", "kind": kind,
                "metadata": {"name": "a", "namespace": "default"},
                "spec": {"template": {"spec": {"containers": [
                    {"name": "own", "image": "acme/pilot:1"},
                    {"name": "kiali", "image": "quay.io/kiali/kiali:v1.50"},
                ]}}},
            });
            let found = findings(&Object::new(object).unwrap(), PLATFORM);
            let paths: Vec<_> = found.iter().map(|f| (f.code.code(), &*f.path)).collect();
            assert_eq!(paths, [("IM0209", "spec.template.spec.containers[1].image")], "{kind}");
        }
    }
}
