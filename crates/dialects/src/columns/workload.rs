//! Columns of Deployments and ReplicaSets.

use serde_json::Value;

use super::{Columns, age, column, pairs, wide};
use crate::kubernetes::kinds::{Deployment, LabelSelector, PodTemplate, ReplicaSet};
use crate::schema::Fields;

pub(crate) const DEPLOYMENT: Columns = Columns {
    all: &[
        column("Name"),
        column("Ready"),
        column("Up-to-date"),
        column("Available"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |object, now| {
        let deployment = Deployment::of(object);
        let (spec, status) = (deployment.spec(), deployment.status());
        let mut cells = vec![
            deployment.metadata().name().into(),
            format!("{}/{}", status.ready_replicas().get(), spec.replicas().get()).into(),
            status.updated_replicas().get().into(),
            status.available_replicas().get().into(),
            age(deployment.metadata(), now),
        ];
        cells.extend(template(spec.template(), spec.selector()));
        cells
    },
};

pub(crate) const REPLICA_SET: Columns = Columns {
    all: &[
        column("Name"),
        column("Desired"),
        column("Current"),
        column("Ready"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |object, now| {
        let set = ReplicaSet::of(object);
        let (spec, status) = (set.spec(), set.status());
        let mut cells = vec![
            set.metadata().name().into(),
            spec.replicas().get().into(),
            status.replicas().get().into(),
            status.ready_replicas().get().into(),
            age(set.metadata(), now),
        ];
        cells.extend(template(spec.template(), spec.selector()));
        cells
    },
};

/// Containers, images and selector.
fn template(template: Fields<'_, PodTemplate>, selector: Fields<'_, LabelSelector>) -> [Value; 3] {
    let containers = template.spec().containers();
    let names: Vec<&str> = containers.clone().map(|container| container.name()).collect();
    let images: Vec<&str> = containers.map(|container| container.image()).collect();
    [names.join(",").into(), images.join(",").into(), pairs(selector.match_labels())]
}
