//! Pods that cannot be read: they fail, with the place and the reason, unless they run already, and are
//! deleted when they are to be.

use std::rc::Rc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_dialects::schema::Unreadable;
use serde_json::{Value, json};

use super::pod::PodState;
use super::publish::delete_object;
use crate::events::EventKind;
use crate::node::Node;
use crate::reflector::key_of;

/// Says of a pod why it does not run, once; deletes its object if it is to be deleted.
pub(super) async fn refuse(node: Rc<Node>, mut object: Value, error: Unreadable) {
    let (namespace, name) = key_of(&object);
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return delete_object(&node, &path, &uid).await;
    }
    if object["status"]["phase"] == "Failed" {
        return;
    }
    let message = format!("the pod cannot be read: {error}");
    let metadata = ObjectMeta { name, namespace, uid, ..ObjectMeta::default() };
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

/// Goes on with a pod as it runs, whose object has come to be one that cannot be read; it ends when it
/// is to be deleted.
pub(super) fn keep(state: &PodState, object: &Value, error: &Unreadable) {
    if let Some(grace) = grace_of_deletion(object) {
        return state.stop(grace);
    }
    let message = format!("the pod runs as before: its new version cannot be read: {error}");
    state.event(None, EventKind::Warning, "FailedUpdate", message);
}

/// Seconds that a pod has to end if it is to be deleted. A negative grace is none.
fn grace_of_deletion(object: &Value) -> Option<u64> {
    let metadata = &object["metadata"];
    let seconds = || metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    (!metadata["deletionTimestamp"].is_null()).then(|| u64::try_from(seconds()).unwrap_or(0))
}

/// Pause before the API is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_cannot_be_read_ends_only_if_it_is_to_be_deleted() {
        for (metadata, grace) in [
            (json!({"deletionGracePeriodSeconds": 5}), None),
            (json!({"deletionTimestamp": null}), None),
            (json!({"deletionTimestamp": "now", "deletionGracePeriodSeconds": 5}), Some(5)),
            (json!({"deletionTimestamp": "now", "deletionGracePeriodSeconds": -5}), Some(0)),
            (json!({"deletionTimestamp": "now", "deletionGracePeriodSeconds": "long"}), Some(0)),
        ] {
            let object = json!({"metadata": metadata, "spec": {"containers": "none"}});
            assert_eq!(grace_of_deletion(&object), grace, "{object}");
        }
    }
}
