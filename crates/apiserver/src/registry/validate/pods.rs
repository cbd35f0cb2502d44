//! Specs of pods: their containers, their volumes, and how these refer to each other.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{LABEL_RULE, is_label, is_subdomain, port_number, word};
use crate::failure::Cause;
use crate::object;

/// Checks the spec of a pod or of a template at `path`. `policies`: the restart policies that its
/// owner allows.
pub(super) fn spec(spec: Option<&Value>, path: &str, policies: &[&str], causes: &mut Vec<Cause>) {
    let empty = Value::Null;
    let spec = spec.unwrap_or(&empty);
    if object::list(spec, "/containers").is_empty() {
        causes.push(Cause::required(format!("{path}.containers")));
    }
    word(spec, "restartPolicy", path, policies, causes);
    for (field, is_name) in [
        ("serviceAccountName", is_subdomain as fn(&str) -> bool),
        ("hostname", is_label),
        ("subdomain", is_label),
    ] {
        let given = object::text(spec, &format!("/{field}"));
        if !given.is_empty() && !is_name(given) {
            causes.push(Cause::invalid(format!("{path}.{field}"), &given.into(), LABEL_RULE));
        }
    }
    user(spec, path, causes);
    let volumes = volumes(spec, path, causes);
    let mut names = BTreeSet::new();
    for list in ["initContainers", "containers"] {
        for (index, container) in object::list(spec, &format!("/{list}")).iter().enumerate() {
            let path = format!("{path}.{list}[{index}]");
            self::container(container, &path, &volumes, causes);
            if list == "initContainers" {
                word(container, "restartPolicy", &path, &["Always"], causes);
            } else if container.get("restartPolicy").is_some_and(|p| !p.is_null()) {
                let message = "Forbidden: may not be set for non-init containers".to_owned();
                causes.push(Cause { field: format!("{path}.restartPolicy"), message });
            }
            let name = object::text(container, "/name");
            if !names.insert(name) {
                causes.push(duplicate(format!("{path}.name"), name));
            }
        }
    }
}

/// Checks the volumes of a pod, and gives their names.
fn volumes<'a>(spec: &'a Value, path: &str, causes: &mut Vec<Cause>) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in object::list(spec, "/volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = object::text(volume, "/name");
        if name.is_empty() {
            causes.push(Cause::required(format!("{path}.name")));
        } else if !is_label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), LABEL_RULE));
        }
        if !names.insert(name) {
            causes.push(duplicate(format!("{path}.name"), name));
        }
        for source in ["secret", "configMap", "downwardAPI"] {
            items(volume, source, &path, causes);
        }
        for (index, projected) in object::list(volume, "/projected/sources").iter().enumerate() {
            let path = format!("{path}.projected.sources[{index}]");
            for source in ["secret", "configMap", "downwardAPI"] {
                items(projected, source, &path, causes);
            }
        }
    }
    names
}

/// Checks the paths of the files that a volume's source makes.
fn items(volume: &Value, source: &str, path: &str, causes: &mut Vec<Cause>) {
    for (index, item) in object::list(volume, &format!("/{source}/items")).iter().enumerate() {
        let field = format!("{path}.{source}.items[{index}].path");
        let given = object::text(item, "/path");
        if given.is_empty() {
            causes.push(Cause::required(field));
        } else if given.starts_with("..") {
            causes.push(Cause::invalid(field, &given.into(), "must not start with '..'"));
        } else {
            descends(given, field, causes);
        }
    }
}

/// Checks that a path is relative, and stays below where it begins.
fn descends(given: &str, field: String, causes: &mut Vec<Cause>) {
    if given.starts_with('/') {
        causes.push(Cause::invalid(field, &given.into(), "must be a relative path"));
    } else if given.split('/').any(|part| part == "..") {
        causes.push(Cause::invalid(field, &given.into(), "must not contain '..'"));
    }
}

fn container(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let name = object::text(container, "/name");
    if name.is_empty() {
        causes.push(Cause::required(format!("{path}.name")));
    } else if !is_label(name) {
        causes.push(Cause::invalid(format!("{path}.name"), &name.into(), LABEL_RULE));
    }
    if object::text(container, "/image").is_empty() {
        causes.push(Cause::required(format!("{path}.image")));
    }
    user(container, path, causes);
    mounts(container, path, volumes, causes);
    for (index, port) in object::list(container, "/ports").iter().enumerate() {
        port_number(
            port.get("containerPort"),
            &format!("{path}.ports[{index}].containerPort"),
            causes,
        );
    }
}

fn mounts(container: &Value, path: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let mut targets = BTreeSet::new();
    for (index, mount) in object::list(container, "/volumeMounts").iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let volume = object::text(mount, "/name");
        if volume.is_empty() {
            causes.push(Cause::required(format!("{path}.name")));
        } else if !volumes.contains(volume) {
            let message = format!("Not found: {volume:?}");
            causes.push(Cause { field: format!("{path}.name"), message });
        }
        let target = object::text(mount, "/mountPath");
        if target.is_empty() {
            causes.push(Cause::required(format!("{path}.mountPath")));
        } else if target.contains(':') {
            let field = format!("{path}.mountPath");
            causes.push(Cause::invalid(field, &target.into(), "must not contain ':'"));
        } else if !targets.insert(target) {
            let field = format!("{path}.mountPath");
            causes.push(Cause::invalid(field, &target.into(), "must be unique"));
        }
        let (part, expression) =
            (object::text(mount, "/subPath"), object::text(mount, "/subPathExpr"));
        descends(part, format!("{path}.subPath"), causes);
        descends(expression, format!("{path}.subPathExpr"), causes);
        if !part.is_empty() && !expression.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            let field = format!("{path}.subPathExpr");
            causes.push(Cause::invalid(field, &expression.into(), why));
        }
    }
}

/// Checks the users and groups of a `securityContext`.
fn user(parent: &Value, path: &str, causes: &mut Vec<Cause>) {
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        let Some(id) = parent.pointer(&format!("/securityContext/{field}")) else { continue };
        if id.as_i64().is_some_and(|id| !(0..=ID_MAX).contains(&id)) {
            let why = "must be between 0 and 2147483647, inclusive";
            causes.push(Cause::invalid(format!("{path}.securityContext.{field}"), id, why));
        }
    }
}

fn duplicate(field: String, value: &str) -> Cause {
    Cause { field, message: format!("Duplicate value: {value:?}") }
}

/// Highest user or group of Kubernetes.
const ID_MAX: i64 = 2_147_483_647;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        super::spec(Some(&spec), "spec", &["Always"], &mut causes);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    fn pod(volumes: Value, mounts: Value) -> Value {
        let container = json!({"name": "a", "image": "a:1", "volumeMounts": mounts});
        json!({"containers": [container], "volumes": volumes})
    }

    #[test]
    fn names_of_volumes_are_labels() {
        for bad in ["../../..", "..", "/etc", "a/b", "A", "a.b", "..shm", "a\0", &"x".repeat(64)] {
            let said = said(pod(json!([{"name": bad, "emptyDir": {}}]), json!([])));
            assert_eq!(said.len(), 1, "{bad}: {said:?}");
            assert!(said[0].starts_with("spec.volumes[0].name: Invalid value"), "{said:?}");
        }
        let two = json!([{"name": "a"}, {"name": "a"}, {}]);
        assert_eq!(
            said(pod(two, json!([]))),
            [
                r#"spec.volumes[1].name: Duplicate value: "a""#,
                "spec.volumes[2].name: Required value",
            ]
        );
    }

    #[test]
    fn paths_stay_in_their_volume() {
        let volume = |path: &str| json!([{"name": "v", "configMap": {"items": [{"path": path}]}}]);
        let projected = |path: &str| {
            let source = json!({"secret": {"items": [{"path": path}]}});
            json!([{"name": "v", "projected": {"sources": [source]}}])
        };
        for bad in ["", "/a", "..", "../a", "a/../../b", "..data"] {
            assert_eq!(said(pod(volume(bad), json!([]))).len(), 1, "{bad}");
            assert_eq!(said(pod(projected(bad), json!([]))).len(), 1, "{bad}");
        }
        assert!(said(pod(volume("a/b..c"), json!([]))).is_empty());
        for (mount, count) in [
            (json!({"mountPath": "/a", "subPath": "b/c"}), 0),
            (json!({"mountPath": "/a", "subPath": "/b"}), 1),
            (json!({"mountPath": "/a", "subPath": "b/../.."}), 1),
            (json!({"mountPath": "/a", "subPathExpr": "../$(X)"}), 1),
            (json!({"mountPath": "/a", "subPath": "b", "subPathExpr": "c"}), 1),
            (json!({"mountPath": "/a:b"}), 1),
            (json!({}), 1),
        ] {
            let mut mount = mount;
            mount["name"] = "v".into();
            let said = said(pod(json!([{"name": "v"}]), json!([mount])));
            assert_eq!(said.len(), count, "{mount}: {said:?}");
        }
        let twice = json!([{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]);
        assert_eq!(said(pod(json!([{"name": "v"}]), twice)).len(), 1);
        let nowhere = json!([{"name": "w", "mountPath": "/a"}]);
        assert_eq!(
            said(pod(json!([{"name": "v"}]), nowhere)),
            [r#"spec.containers[0].volumeMounts[0].name: Not found: "w""#]
        );
    }

    #[test]
    fn users_are_those_of_kubernetes() {
        for (id, count) in [(0, 0), (65_535, 0), (ID_MAX, 0), (-1, 1), (4_294_967_295, 1)] {
            let mut spec = pod(json!([]), json!([]));
            spec["securityContext"] = json!({"runAsUser": id});
            assert_eq!(said(spec).len(), count, "{id}");
        }
    }
}
