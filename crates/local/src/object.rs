//! What the agent asks of Kubernetes' objects beyond their types: that the names of a pod may be parts
//! of paths.

use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::schema::{Unreadable, parse};
use serde_json::Value;

use super::path_name::{BadPath, PathName};

/// Reads a pod whose fields are of their types, and whose name, namespace and uid, like the names of its
/// containers and volumes, may be parts of paths; and its uid.
///
/// # Errors
///
/// The first field that is wrong.
pub(crate) fn read_pod(object: &Value) -> Result<(Pod, PathName), Unreadable> {
    let pod: Pod = parse(object)?;
    let meta = &pod.metadata;
    checked(|| "metadata.namespace".to_owned(), PathName::label(&meta.namespace))?;
    checked(|| "metadata.name".to_owned(), PathName::subdomain(&meta.name))?;
    let uid = checked(|| "metadata.uid".to_owned(), PathName::label(&meta.uid))?;
    let spec = &pod.spec;
    labels("initContainers", spec.init_containers.iter().map(|container| &container.name))?;
    labels("containers", spec.containers.iter().map(|container| &container.name))?;
    labels("volumes", spec.volumes.iter().map(|volume| &volume.name))?;
    Ok((pod, uid))
}

/// Checks the names of what a list of the spec has.
fn labels<'a>(list: &str, names: impl Iterator<Item = &'a String>) -> Result<(), Unreadable> {
    for (index, name) in names.enumerate() {
        checked(|| format!("spec.{list}[{index}].name"), PathName::label(name))?;
    }
    Ok(())
}

fn checked(
    path: impl FnOnce() -> String,
    name: Result<PathName, BadPath>,
) -> Result<PathName, Unreadable> {
    name.map_err(|error| Unreadable { path: path(), message: error.to_string() })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A pod with this spec.
    pub(crate) fn pod(spec: Value) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec,
        })
    }

    #[test]
    fn the_first_field_that_is_wrong_is_named() {
        for (spec, expected) in [
            (
                json!({"containers": [{"name": "a"}, {"name": "b", "command": "sleep"}]}),
                "spec.containers[1].command",
            ),
            (json!({"volumes": [{"name": "a", "configMap": 1}]}), "spec.volumes[0].configMap"),
            (json!({"restartPolicy": "Sometimes"}), "spec.restartPolicy"),
            (json!({"volumes": [{"name": "../../.."}]}), "spec.volumes[0].name"),
            (json!({"volumes": [{}]}), "spec.volumes[0].name"),
            (json!({"containers": [{"name": "a/b"}]}), "spec.containers[0].name"),
            (json!({"initContainers": [{"image": "a"}]}), "spec.initContainers[0].name"),
            (json!({"containers": ["x"]}), "spec.containers[0]"),
            (json!("x"), "spec"),
        ] {
            let error = read_pod(&pod(spec.clone())).unwrap_err();
            assert_eq!(error.path, expected, "{spec}");
        }
        for (field, value) in
            [("name", json!("a/b")), ("uid", json!("..")), ("namespace", json!(""))]
        {
            let mut pod = pod(json!({}));
            pod["metadata"][field] = value;
            assert_eq!(read_pod(&pod).unwrap_err().path, format!("metadata.{field}"));
        }
        let mut labelled = pod(json!({}));
        labelled["metadata"]["labels"] = json!({"a": 1});
        assert_eq!(read_pod(&labelled).unwrap_err().path, "metadata.labels.a");
        let fine = json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": 0.5}}}]});
        assert!(read_pod(&pod(fine)).is_ok());
    }
}
