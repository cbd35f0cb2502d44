//! Pods that cannot be read: they fail, with the place and the reason, and are deleted when they
//! are to be.

use std::rc::Rc;
use std::time::Duration;

use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_dialects::schema::Unreadable;
use serde_json::{Value, json};

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

/// Pause before the API is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
