//! Specs of pods: their containers, their volumes, and how these refer to each other.

use std::collections::BTreeSet;

use ironmesh_dialects::kubernetes::kinds::{
    Container, KeyToPath, PodSpec, RestartPolicy, Volume, VolumeMount,
};
use ironmesh_dialects::schema::{Fields, Items};

use super::{LABEL_RULE, is_label, is_subdomain};
use crate::failure::Cause;

/// Checks the spec of a pod or of a template at `path`. `policies`: the restart policies that its
/// owner allows; `claims`: volumes that it adds.
pub(super) fn spec(
    spec: Fields<'_, PodSpec>,
    path: &str,
    policies: &[RestartPolicy],
    claims: &[&str],
    causes: &mut Vec<Cause>,
) {
    if spec.containers().len() == 0 {
        causes.push(Cause::required(format!("{path}.containers")));
    }
    let policy = spec.restart_policy();
    if !policies.contains(&policy) {
        let known: Vec<_> = policies.iter().map(|policy| format!("{:?}", policy.word())).collect();
        let (given, known) = (policy.word(), known.join(", "));
        let message = format!("Unsupported value: {given:?}: supported values: {known}");
        causes.push(Cause { field: format!("{path}.restartPolicy"), message });
    }
    for (field, given, is_name) in [
        ("serviceAccountName", spec.service_account_name(), is_subdomain as fn(&str) -> bool),
        ("hostname", spec.hostname(), is_label),
        ("subdomain", spec.subdomain(), is_label),
    ] {
        if !given.is_empty() && !is_name(given) {
            causes.push(Cause::invalid(format!("{path}.{field}"), &given.into(), LABEL_RULE));
        }
    }
    let mut volumes = volumes(spec.volumes(), path, causes);
    volumes.extend(claims);
    let mut names = BTreeSet::new();
    for (list, containers) in
        [("initContainers", spec.init_containers()), ("containers", spec.containers())]
    {
        for (index, container) in containers.enumerate() {
            let path = format!("{path}.{list}[{index}]");
            self::container(container, &path, &volumes, causes);
            if list == "containers" && container.restart_policy().is_some() {
                let message = "Forbidden: may not be set for non-init containers".to_owned();
                causes.push(Cause { field: format!("{path}.restartPolicy"), message });
            }
            if !names.insert(container.name()) {
                causes.push(duplicate(format!("{path}.name"), container.name()));
            }
        }
    }
}

/// Checks the volumes of a pod, and gives their names.
fn volumes<'a>(
    volumes: Items<'a, Volume>,
    path: &str,
    causes: &mut Vec<Cause>,
) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for (index, volume) in volumes.enumerate() {
        let path = format!("{path}.volumes[{index}]");
        name(volume.name(), &path, causes);
        if !names.insert(volume.name()) {
            causes.push(duplicate(format!("{path}.name"), volume.name()));
        }
        let files = |of: &str, items: Items<'_, KeyToPath>, causes: &mut Vec<Cause>| {
            paths(items.map(|item| item.path()), &format!("{path}.{of}"), causes);
        };
        if volume.persistent_volume_claim().is_some_and(|claim| claim.claim_name().is_empty()) {
            causes.push(Cause::required(format!("{path}.persistentVolumeClaim.claimName")));
        }
        if let Some(secret) = volume.secret() {
            files("secret", secret.items(), causes);
        }
        if let Some(map) = volume.config_map() {
            files("configMap", map.items(), causes);
        }
        if let Some(downward) = volume.downward_api() {
            let items = downward.items().map(|item| item.path());
            paths(items, &format!("{path}.downwardAPI"), causes);
        }
        let sources = volume.projected().map(|projected| projected.sources());
        for (index, source) in sources.into_iter().flatten().enumerate() {
            let of = |kind: &str| format!("projected.sources[{index}].{kind}");
            if let Some(secret) = source.secret() {
                files(&of("secret"), secret.items(), causes);
            }
            if let Some(map) = source.config_map() {
                files(&of("configMap"), map.items(), causes);
            }
            if let Some(downward) = source.downward_api() {
                let items = downward.items().map(|item| item.path());
                paths(items, &format!("{path}.{}", of("downwardAPI")), causes);
            }
        }
    }
    names
}

/// Checks a name that must be a label.
fn name(given: &str, path: &str, causes: &mut Vec<Cause>) {
    if given.is_empty() {
        causes.push(Cause::required(format!("{path}.name")));
    } else if !is_label(given) {
        causes.push(Cause::invalid(format!("{path}.name"), &given.into(), LABEL_RULE));
    }
}

/// Checks the paths of the files that a volume's source makes.
fn paths<'a>(given: impl Iterator<Item = &'a str>, path: &str, causes: &mut Vec<Cause>) {
    for (index, given) in given.enumerate() {
        let field = format!("{path}.items[{index}].path");
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

fn container(
    container: Fields<'_, Container>,
    path: &str,
    volumes: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    name(container.name(), path, causes);
    if container.image().is_empty() {
        causes.push(Cause::required(format!("{path}.image")));
    }
    mounts(container.volume_mounts(), path, volumes, causes);
    let mut ports = BTreeSet::new();
    for (index, port) in container.ports().enumerate() {
        let path = format!("{path}.ports[{index}]");
        if port.container_port() == 0 {
            causes.push(Cause::required(format!("{path}.containerPort")));
        }
        let name = port.name();
        if let Some(why) = wrong_in_port_name(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), why));
        } else if !name.is_empty() && !ports.insert(name) {
            causes.push(duplicate(format!("{path}.name"), name));
        }
    }
    for (index, variable) in container.env().enumerate() {
        let (name, field) = (variable.name(), format!("{path}.env[{index}].name"));
        if name.is_empty() {
            causes.push(Cause::required(field));
        } else if !name.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=') {
            causes.push(Cause::invalid(field, &name.into(), VARIABLE_RULE));
        }
    }
}

/// What is wrong with the name of a container's port (RFC 6335, section 5.1). None is well, too.
fn wrong_in_port_name(name: &str) -> Option<&'static str> {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if name.is_empty() {
        None
    } else if name.len() > 15 {
        Some("must be no more than 15 characters")
    } else if !name.bytes().all(known) {
        Some("must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)")
    } else if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        Some("must contain at least one letter (a-z)")
    } else if name.contains("--") {
        Some("must not contain consecutive hyphens")
    } else if name.starts_with('-') || name.ends_with('-') {
        Some("must not begin or end with a hyphen")
    } else {
        None
    }
}

fn mounts(
    mounts: Items<'_, VolumeMount>,
    path: &str,
    volumes: &BTreeSet<&str>,
    causes: &mut Vec<Cause>,
) {
    let mut targets = BTreeSet::new();
    for (index, mount) in mounts.enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        let volume = mount.name();
        if volume.is_empty() {
            causes.push(Cause::required(format!("{path}.name")));
        } else if !volumes.contains(volume) {
            let message = format!("Not found: {volume:?}");
            causes.push(Cause { field: format!("{path}.name"), message });
        }
        let target = mount.mount_path();
        if target.is_empty() {
            causes.push(Cause::required(format!("{path}.mountPath")));
        } else if target.contains(':') {
            let field = format!("{path}.mountPath");
            causes.push(Cause::invalid(field, &target.into(), "must not contain ':'"));
        } else if !targets.insert(target) {
            let field = format!("{path}.mountPath");
            causes.push(Cause::invalid(field, &target.into(), "must be unique"));
        }
        let (part, expression) = (mount.sub_path(), mount.sub_path_expr());
        descends(part, format!("{path}.subPath"), causes);
        descends(expression, format!("{path}.subPathExpr"), causes);
        if !part.is_empty() && !expression.is_empty() {
            let why = "subPathExpr and subPath are mutually exclusive";
            let field = format!("{path}.subPathExpr");
            causes.push(Cause::invalid(field, &expression.into(), why));
        }
    }
}

const VARIABLE_RULE: &str = "a valid environment variable name must consist only of printable ASCII characters other than '='";

fn duplicate(field: String, value: &str) -> Cause {
    Cause { field, message: format!("Duplicate value: {value:?}") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(spec: Value) -> Vec<String> {
        let mut causes = Vec::new();
        super::spec(PodSpec::of(&spec), "spec", &[RestartPolicy::Always], &[], &mut causes);
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
}
