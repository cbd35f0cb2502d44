//! Tables of Deployments and ReplicaSets.

use jiff::Timestamp;
use serde_json::Value;

use super::{Column, age, column, name, pairs, wide};
use crate::object::{self, Object};

pub(super) const DEPLOYMENT: &[Column] = &[
    column("Name"),
    column("Ready"),
    column("Up-to-date"),
    column("Available"),
    column("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn deployment(deployment: &Object, now: Timestamp) -> Vec<Value> {
    let count = |pointer| object::number(deployment, pointer).unwrap_or(0);
    let ready = format!("{}/{}", count("/status/readyReplicas"), count("/spec/replicas"));
    let mut cells = vec![
        name(deployment),
        ready.into(),
        count("/status/updatedReplicas").into(),
        count("/status/availableReplicas").into(),
        age(deployment, now),
    ];
    cells.extend(template(deployment));
    cells
}

pub(super) const REPLICA_SET: &[Column] = &[
    column("Name"),
    column("Desired"),
    column("Current"),
    column("Ready"),
    column("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn replica_set(set: &Object, now: Timestamp) -> Vec<Value> {
    let count = |pointer| Value::from(object::number(set, pointer).unwrap_or(0));
    let mut cells = vec![
        name(set),
        count("/spec/replicas"),
        count("/status/replicas"),
        count("/status/readyReplicas"),
        age(set, now),
    ];
    cells.extend(template(set));
    cells
}

/// Containers, images and selector.
fn template(workload: &Object) -> [Value; 3] {
    let containers = object::list(workload, "/spec/template/spec/containers");
    let joined = |pointer| {
        let texts: Vec<_> = containers.iter().map(|c| object::text(c, pointer)).collect();
        Value::from(texts.join(","))
    };
    [joined("/name"), joined("/image"), pairs(workload.pointer("/spec/selector/matchLabels"))]
}
