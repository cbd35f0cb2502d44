//! Columns of pods. The STATUS column follows kubectl's rules, of which there are many.

use jiff::Timestamp;

use super::{Columns, age, column, or_none, since, wide};
use crate::kubernetes::kinds::{Container, ContainerRestartPolicy, Pod, Terminated};
use crate::schema::Fields;

pub(crate) const POD: Columns = Columns {
    all: &[
        column("Name"),
        column("Ready"),
        column("Status"),
        column("Restarts"),
        column("Age"),
        wide("IP"),
        wide("Node"),
        wide("Nominated Node"),
        wide("Readiness Gates"),
    ],
    cells: |object, now| {
        let pod = Pod::of(object);
        let (metadata, spec) = (pod.metadata(), pod.spec());
        let init = pod.status().init_container_statuses();
        let staying = init.filter(|status| stays(pod, status.name()));
        let statuses = pod.status().container_statuses().chain(staying);
        let ready = statuses.filter(|status| status.ready()).count();
        let count =
            spec.containers().len() + spec.init_containers().filter(|c| is_staying(*c)).count();
        vec![
            metadata.name().into(),
            format!("{ready}/{count}").into(),
            status(pod).into(),
            restarts(pod, now).into(),
            age(metadata, now),
            or_none(pod.status().pod_ip()),
            or_none(spec.node_name()),
            or_none(pod.status().nominated_node_name()),
            or_none(""),
        ]
    },
};

/// The word in the STATUS column.
fn status(pod: Fields<'_, Pod>) -> String {
    let status = pod.status();
    if pod.metadata().deletion_timestamp().is_some() {
        let lost = status.reason() == "NodeLost";
        return if lost { "Unknown" } else { "Terminating" }.to_owned();
    }
    let of_pod = [status.reason(), status.phase()].into_iter().find(|word| !word.is_empty());
    init_status(pod).unwrap_or_else(|| container_status(pod, of_pod.unwrap_or("Unknown")))
}

/// What keeps the pod before its containers; none if its init containers are done.
fn init_status(pod: Fields<'_, Pod>) -> Option<String> {
    let count = pod.spec().init_containers().len();
    for (index, container) in pod.status().init_container_statuses().enumerate() {
        if container.started() && stays(pod, container.name()) {
            continue;
        }
        if let Some(ended) = container.state().terminated() {
            if ended.exit_code() == 0 {
                continue;
            }
            return Some(format!("Init:{}", ended_word(ended)));
        }
        let waiting = container.state().waiting().map_or("", |waiting| waiting.reason());
        return Some(match waiting {
            "" | "PodInitializing" => format!("Init:{index}/{count}"),
            reason => format!("Init:{reason}"),
        });
    }
    None
}

/// Whether an init container of this name stays beside the containers.
fn stays(pod: Fields<'_, Pod>, name: &str) -> bool {
    pod.spec().init_containers().any(|container| container.name() == name && is_staying(container))
}

fn is_staying(container: Fields<'_, Container>) -> bool {
    container.restart_policy() == Some(ContainerRestartPolicy::Always)
}

fn container_status(pod: Fields<'_, Pod>, of_pod: &str) -> String {
    let mut word = of_pod.to_owned();
    let mut any_runs = false;
    for container in pod.status().container_statuses().rev() {
        let state = container.state();
        let waiting = state.waiting().map_or("", |waiting| waiting.reason());
        if !waiting.is_empty() {
            word = waiting.to_owned();
        } else if let Some(ended) = state.terminated() {
            word = ended_word(ended);
        } else if container.ready() && state.running().is_some() {
            any_runs = true;
        }
    }
    if word == "Completed" && any_runs {
        word = if pod.status().is_ready() { "Running" } else { "NotReady" }.to_owned();
    }
    word
}

fn ended_word(ended: Fields<'_, Terminated>) -> String {
    match (ended.reason(), ended.signal()) {
        ("", 0) => format!("ExitCode:{}", ended.exit_code()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// `3`, or `3 (2m ago)` if the time of the last one is known.
fn restarts(pod: Fields<'_, Pod>, now: Timestamp) -> String {
    let statuses = pod.status().container_statuses();
    let count: i64 = statuses.clone().map(|status| status.restart_count()).sum();
    let ends = statuses.filter_map(|status| status.last_state().terminated());
    let last = ends.map(|ended| ended.finished_at()).filter(|time| !time.is_empty()).max();
    match last {
        Some(last) if count > 0 => format!("{count} ({} ago)", since(last, now)),
        _ => count.to_string(),
    }
}
