//! The table of pods. The STATUS column follows kubectl's rules, of which there are many.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age, column, name, or_none, since, wide};
use crate::object::{self, Object};

pub(super) const COLUMNS: &[Column] = &[
    column("Name"),
    column("Ready"),
    column("Status"),
    column("Restarts"),
    column("Age"),
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

pub(super) fn cells(pod: &Object, now: Timestamp) -> Vec<Value> {
    let init = object::list(pod, "/status/initContainerStatuses").iter();
    let staying = init.filter(|s| stays(pod, object::text(s, "/name")));
    let statuses = object::list(pod, "/status/containerStatuses").iter().chain(staying);
    let ready = statuses.filter(|s| s["ready"] == Value::Bool(true)).count();
    let init = object::list(pod, "/spec/initContainers").iter();
    let staying = init.filter(|container| is_staying(container)).count();
    let count = object::list(pod, "/spec/containers").len() + staying;
    vec![
        name(pod),
        format!("{ready}/{count}").into(),
        status(pod).into(),
        restarts(pod, now).into(),
        age(pod, now),
        or_none(object::text(pod, "/status/podIP")),
        or_none(object::text(pod, "/spec/nodeName")),
        or_none(object::text(pod, "/status/nominatedNodeName")),
        or_none(""),
    ]
}

/// The word in the STATUS column.
pub(crate) fn status(pod: &Object) -> String {
    let of_pod = [object::text(pod, "/status/reason"), object::text(pod, "/status/phase")];
    let of_pod = of_pod.into_iter().find(|word| !word.is_empty()).unwrap_or("Unknown");
    if object::is_terminating(pod) {
        let lost = object::text(pod, "/status/reason") == "NodeLost";
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    init_status(pod).unwrap_or_else(|| container_status(pod, of_pod))
}

/// What keeps the pod before its containers; none if its init containers are done.
fn init_status(pod: &Object) -> Option<String> {
    let statuses = object::list(pod, "/status/initContainerStatuses");
    let count = object::list(pod, "/spec/initContainers").len();
    for (index, container) in statuses.iter().enumerate() {
        let state = &container["state"];
        let has_started = container["started"] == Value::Bool(true);
        if has_started && stays(pod, object::text(container, "/name")) {
            continue;
        }
        if let Some(ended) = state.get("terminated") {
            if object::number(ended, "/exitCode") == Some(0) {
                continue;
            }
            return Some(format!("Init:{}", ended_word(ended)));
        }
        let waiting = object::text(state, "/waiting/reason");
        return Some(match waiting {
            "" | "PodInitializing" => format!("Init:{index}/{count}"),
            reason => format!("Init:{reason}"),
        });
    }
    None
}

/// Whether an init container of this name stays beside the containers.
fn stays(pod: &Object, name: &str) -> bool {
    let containers = object::list(pod, "/spec/initContainers");
    containers.iter().any(|c| object::text(c, "/name") == name && is_staying(c))
}

fn is_staying(container: &Value) -> bool {
    object::text(container, "/restartPolicy") == "Always"
}

fn container_status(pod: &Object, of_pod: &str) -> String {
    let statuses = object::list(pod, "/status/containerStatuses");
    let mut word = of_pod.to_owned();
    let mut any_runs = false;
    for container in statuses.iter().rev() {
        let state = &container["state"];
        let waiting = object::text(state, "/waiting/reason");
        if !waiting.is_empty() {
            word = waiting.to_owned();
        } else if let Some(ended) = state.get("terminated") {
            word = ended_word(ended);
        } else if container["ready"] == Value::Bool(true) && state.get("running").is_some() {
            any_runs = true;
        }
    }
    if word == "Completed" && any_runs {
        let ready = object::has_condition(pod, "Ready");
        word = if ready { "Running" } else { "NotReady" }.to_owned();
    }
    word
}

fn ended_word(ended: &Value) -> String {
    let reason = object::text(ended, "/reason");
    if !reason.is_empty() {
        return reason.to_owned();
    }
    match object::number(ended, "/signal").filter(|signal| *signal != 0) {
        Some(signal) => format!("Signal:{signal}"),
        None => format!("ExitCode:{}", object::number(ended, "/exitCode").unwrap_or_default()),
    }
}

/// `3`, or `3 (2m ago)` if the time of the last one is known.
fn restarts(pod: &Object, now: Timestamp) -> String {
    let statuses = object::list(pod, "/status/containerStatuses");
    let count: i64 = statuses.iter().filter_map(|s| object::number(s, "/restartCount")).sum();
    let ends = statuses.iter().filter(|s| !object::text(s, LAST_END).is_empty());
    let last = ends.max_by_key(|s| object::text(s, LAST_END).to_owned());
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", since(last, LAST_END, now)),
        _ => count.to_string(),
    }
}

const LAST_END: &str = "/lastState/terminated/finishedAt";
