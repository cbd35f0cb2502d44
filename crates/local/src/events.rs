//! Events: what happens to pods, told through the API.

use std::collections::HashMap;

use ironmesh_client::Client;
use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_model::limits::PlatformLimits;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::clock;

/// Whether an event is as hoped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum EventKind {
    Normal,
    Warning,
}

/// Records events; they are posted in the background, and dropped when too many wait.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::Sender<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    namespace: String,
    pod: String,
    uid: String,
    container: Option<String>,
    kind: EventKind,
    reason: &'static str,
    message: String,
    time: String,
}

impl Events {
    /// A recorder, and the task that posts, which runs for ever.
    pub(crate) fn new(
        api: Client,
        limits: &PlatformLimits,
    ) -> (Self, impl Future<Output = ()> + use<>) {
        let (queue, recorded) = mpsc::channel(limits.events_waiting_max);
        (Self { queue }, post_all(api, recorded, limits.events_remembered_max))
    }

    /// Records an event of a pod, or of one of its containers.
    pub(crate) fn record(
        &self,
        pod: &ObjectMeta,
        container: Option<&str>,
        kind: EventKind,
        reason: &'static str,
        message: String,
    ) {
        // A full queue loses events, never time.
        let _ = self.queue.try_send(Recorded {
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            uid: pod.uid.clone(),
            container: container.map(str::to_owned),
            kind,
            reason,
            message,
            time: clock::now(),
        });
    }
}

/// An event that may happen again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Same {
    uid: String,
    container: Option<String>,
    reason: &'static str,
    message: String,
}

async fn post_all(api: Client, mut recorded: mpsc::Receiver<Recorded>, remembered_max: usize) {
    let mut posted: HashMap<Same, Value> = HashMap::new();
    // With `--state` the events of an earlier mesh are still there: begin above their numbers.
    let mut number = clock::micros();
    while let Some(event) = recorded.recv().await {
        let path = format!("/api/v1/namespaces/{}/events", event.namespace);
        let same = Same {
            uid: event.uid.clone(),
            container: event.container.clone(),
            reason: event.reason,
            message: event.message.clone(),
        };
        if posted.len() > remembered_max {
            posted.clear();
        }
        if let Some(before) = posted.get_mut(&same) {
            let count = before["count"].as_u64().unwrap_or(1) + 1;
            before["count"] = count.into();
            before["lastTimestamp"] = event.time.clone().into();
            let name = before["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match api.put(&format!("{path}/{name}"), before).await {
                Ok(_) => continue,
                // Old ones are removed, and users remove them: it is a new one then.
                Err(error) if error.is_refused() => {}
                Err(error) => {
                    tracing::debug!(%error, "an event was not counted");
                    continue;
                }
            }
        }
        number += 1;
        let object = object(&event, number);
        let result = api.post(&path, &object).await;
        posted.insert(same, object);
        if let Err(error) = result {
            tracing::debug!(%error, "an event was not posted");
        }
    }
}

fn object(event: &Recorded, number: u64) -> Value {
    let kind = match event.kind {
        EventKind::Normal => "Normal",
        EventKind::Warning => "Warning",
    };
    let mut involved = json!({
        "apiVersion": "v1", "kind": "Pod",
        "namespace": event.namespace, "name": event.pod, "uid": event.uid,
    });
    if let Some(container) = &event.container {
        involved["fieldPath"] = format!("spec.containers{{{container}}}").into();
    }
    let suffix = event.uid.get(..8).unwrap_or(&event.uid);
    // There is room for the rest of a name.
    let pod = event.pod.get(..POD_NAME_BYTES_MAX).unwrap_or(&event.pod);
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{pod}.{suffix}{number:x}"),
            "namespace": event.namespace,
        },
        "involvedObject": involved,
        "type": kind,
        "reason": event.reason,
        "message": event.message,
        "source": {"component": "kubelet", "host": "ironmesh"},
        "reportingComponent": "kubelet",
        "firstTimestamp": event.time,
        "lastTimestamp": event.time,
        "count": 1,
    })
}

/// Bytes of a pod's name in the names of its events; a name has at most 253.
const POD_NAME_BYTES_MAX: usize = 200;
