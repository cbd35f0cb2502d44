//! The status of a pod, written to the API whenever it changed.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::pod::PodState;
use crate::clock;
use crate::node::Node;

/// Writes the status of a pod whenever it changed, for ever; while the API is away it waits.
pub(super) async fn publish(state: Rc<PodState>) {
    let mut published = Value::Null;
    loop {
        state.changed.notified().await;
        if state.node.is_ending.get() {
            return;
        }
        loop {
            let status = {
                let (pod, record) = (state.pod.borrow(), state.record.borrow());
                record.status(&pod, &published, &clock::now())
            };
            if status == published {
                break;
            }
            match put(&state, &status).await {
                Ok(()) => published = status,
                Err(Refused::Gone) => break,
                Err(Refused::Later) => tokio::time::sleep(RETRY_PAUSE).await,
            }
        }
    }
}

/// Deletes the object of a pod that has ended; tries until it is gone.
pub(super) async fn delete(state: &PodState) {
    delete_object(&state.node, &path(state), &state.uid).await;
}

/// Deletes the object of this uid; tries until it is gone. Another that was made under the same
/// name stays.
pub(super) async fn delete_object(node: &Node, path: &str, uid: &str) {
    let options = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
    while !node.is_ending.get() {
        match node.api.delete(path, Some(&options)).await {
            Ok(_) => return,
            Err(error) if error.is_refused() => return,
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

enum Refused {
    /// The object is gone, or another pod has its name.
    Gone,
    /// The API is away.
    Later,
}

async fn put(state: &PodState, status: &Value) -> Result<(), Refused> {
    let mut object = state.object.borrow().clone();
    object["status"] = status.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    match state.node.api.put(&format!("{}/status", path(state)), &object).await {
        Ok(_) => Ok(()),
        // Not found, or of another uid: the object is not this pod's any more.
        Err(error) if error.is_gone() => Err(Refused::Gone),
        Err(error) => {
            tracing::debug!(%error, "the status of a pod was not written");
            Err(Refused::Later)
        }
    }
}

fn path(state: &PodState) -> String {
    let pod = state.pod.borrow();
    format!("/api/v1/namespaces/{}/pods/{}", pod.metadata.namespace, pod.metadata.name)
}

/// Pause before the API is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
