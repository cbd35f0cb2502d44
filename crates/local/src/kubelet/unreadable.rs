//! Pods that cannot be read: they fail, with the place and the reason, and are deleted when they
//! are to be.

use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::publish::delete_object;
use crate::events::EventKind;
use crate::node::Node;
use crate::object::{Container, Metadata, Pod, PodSpec, Volume, read};
use crate::reflector::key_of;

/// Says of a pod why it does not run, once; deletes its object if it is to be deleted.
pub(super) async fn refuse(node: Rc<Node>, mut object: Value, error: serde_json::Error) {
    let (namespace, name) = key_of(&object);
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return delete_object(&node, &path, &uid).await;
    }
    if object["status"]["phase"] == "Failed" {
        return;
    }
    let message = match place(&object) {
        Some((place, error)) => format!("the pod cannot be read: {place}: {error}"),
        None => format!("the pod cannot be read: {error}"),
    };
    let metadata = Metadata { name, namespace, uid, ..Metadata::default() };
    node.events.record(&metadata, None, EventKind::Warning, "Failed", message.clone());
    object["status"] = json!({"phase": "Failed", "reason": "InvalidPod", "message": message});
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    while let Err(error) = node.api.put(&format!("{path}/status"), &object).await {
        if error.is_refused() {
            tracing::warn!(%error, pod = metadata.name, "the status of a pod was not written");
            return;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// The path of the first field that cannot be read, and why.
fn place(object: &Value) -> Option<(String, serde_json::Error)> {
    let spec = &object["spec"];
    let lists = [("initContainers", false), ("containers", false), ("volumes", true)];
    for (list, are_volumes) in lists {
        for (index, item) in spec[list].as_array().into_iter().flatten().enumerate() {
            let bad =
                if are_volumes { bad_field::<Volume>(item) } else { bad_field::<Container>(item) };
            if let Some((field, error)) = bad {
                return Some((format!("spec.{list}[{index}]{field}"), error));
            }
        }
    }
    if let Some((field, error)) = bad_field::<PodSpec>(spec) {
        return Some((format!("spec{field}"), error));
    }
    if let Some((field, error)) = bad_field::<Metadata>(&object["metadata"]) {
        return Some((format!("metadata{field}"), error));
    }
    bad_field::<Pod>(object).map(|(field, error)| (field.trim_start_matches('.').to_owned(), error))
}

/// The first field of an object that cannot be read as one of a `T`, with a point before it.
fn bad_field<T: DeserializeOwned>(object: &Value) -> Option<(String, serde_json::Error)> {
    if object.is_null() {
        return None;
    }
    let Some(fields) = object.as_object() else {
        return read::<T>(object.clone()).err().map(|error| (String::new(), error));
    };
    fields.iter().find_map(|(field, value)| {
        let alone = json!({ field.as_str(): value });
        read::<T>(alone).err().map(|error| (format!(".{field}"), error))
    })
}

/// Pause before the API is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_field_that_cannot_be_read_is_named() {
        for (pod, expected) in [
            (
                json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "command": "sleep"}]}}),
                Some("spec.containers[1].command"),
            ),
            (json!({"spec": {"volumes": [{"configMap": 1}]}}), Some("spec.volumes[0].configMap")),
            (json!({"spec": {"restartPolicy": "Sometimes"}}), Some("spec.restartPolicy")),
            (json!({"metadata": {"labels": {"a": 1}}}), Some("metadata.labels")),
            (json!({"spec": {"volumes": [{"name": "../../.."}]}}), Some("spec.volumes[0].name")),
            (json!({"spec": {"containers": [{"name": "a/b"}]}}), Some("spec.containers[0].name")),
            (json!({"spec": {"containers": ["x"]}}), Some("spec.containers[0]")),
            (json!({"spec": {"containers": [{"resources": {"limits": {"cpu": 0.5}}}]}}), None),
        ] {
            let place = place(&pod).map(|(place, _)| place);
            assert_eq!(place.as_deref(), expected, "{pod}");
        }
    }
}
