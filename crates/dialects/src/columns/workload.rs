//! Columns of what makes pods.

use jiff::Timestamp;
use serde_json::Value;

use super::{Columns, NONE, age, column, holds, human_duration, pairs, wide};
use crate::kinds::split_api_version;
use crate::kubernetes::kinds::{
    ControllerRevision, DaemonSet, Deployment, Job, PodTemplate, ReplicaSet, ReplicationController,
    StatefulSet,
};
use crate::schema::{Entries, Fields};

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
        cells.extend(template(spec.template(), spec.selector().match_labels()));
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
        cells.extend(template(spec.template(), spec.selector().match_labels()));
        cells
    },
};

/// As those of a ReplicaSet, whose fields it has but for the form of its selector.
pub(crate) const REPLICATION_CONTROLLER: Columns = Columns {
    all: REPLICA_SET.all,
    cells: |object, now| {
        let mut cells = (REPLICA_SET.cells)(object, now);
        let spec = ReplicationController::of(object).spec();
        cells.truncate(cells.len() - 3);
        cells.extend(template(spec.template(), spec.selector()));
        cells
    },
};

pub(crate) const DAEMON_SET: Columns = Columns {
    all: &[
        column("Name"),
        column("Desired"),
        column("Current"),
        column("Ready"),
        column("Up-to-date"),
        column("Available"),
        column("Node Selector"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |object, now| {
        let set = DaemonSet::of(object);
        let (spec, status) = (set.spec(), set.status());
        let mut cells = vec![
            set.metadata().name().into(),
            status.desired_number_scheduled().get().into(),
            status.current_number_scheduled().get().into(),
            status.number_ready().get().into(),
            status.updated_number_scheduled().get().into(),
            status.number_available().get().into(),
            pairs(spec.template().spec().node_selector()),
            age(set.metadata(), now),
        ];
        cells.extend(template(spec.template(), spec.selector().match_labels()));
        cells
    },
};

pub(crate) const STATEFUL_SET: Columns = Columns {
    all: &[column("Name"), column("Ready"), column("Age"), wide("Containers"), wide("Images")],
    cells: |object, now| {
        let set = StatefulSet::of(object);
        let (spec, status) = (set.spec(), set.status());
        let mut cells = vec![
            set.metadata().name().into(),
            format!("{}/{}", status.ready_replicas().get(), spec.replicas().get()).into(),
            age(set.metadata(), now),
        ];
        let [containers, images, _] = template(spec.template(), spec.selector().match_labels());
        cells.extend([containers, images]);
        cells
    },
};

pub(crate) const CONTROLLER_REVISION: Columns = Columns {
    all: &[column("Name"), column("Controller"), column("Revision"), column("Age")],
    cells: |object, now| {
        let revision = ControllerRevision::of(object);
        let owner = revision.metadata().controller();
        let owner = owner.map_or_else(
            || NONE.to_owned(),
            |owner| {
                let (group, _) = split_api_version(owner.api_version());
                format!("{}.{group}/{}", owner.kind().to_ascii_lowercase(), owner.name())
            },
        );
        vec![
            revision.metadata().name().into(),
            owner.into(),
            revision.revision().into(),
            age(revision.metadata(), now),
        ]
    },
};

pub(crate) const JOB: Columns = Columns {
    all: &[
        column("Name"),
        column("Status"),
        column("Completions"),
        column("Duration"),
        column("Age"),
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ],
    cells: |object, now| {
        let job = Job::of(object);
        let spec = job.spec();
        let mut cells = vec![
            job.metadata().name().into(),
            job_status(job).into(),
            completions(job).into(),
            duration(job, now).into(),
            age(job.metadata(), now),
        ];
        cells.extend(template(spec.template(), spec.selector().match_labels()));
        cells
    },
};

fn job_status(job: Fields<'_, Job>) -> &'static str {
    let is = |condition| holds(job.status().conditions(), condition);
    let ended = ["Complete", "Failed"].into_iter().find(|condition| is(condition));
    let going = || job.metadata().deletion_timestamp().map(|_| "Terminating");
    let ends = || ["Suspended", "FailureTarget", "SuccessCriteriaMet"].into_iter().find(|c| is(c));
    ended.or_else(going).or_else(ends).unwrap_or("Running")
}

fn completions(job: Fields<'_, Job>) -> String {
    let succeeded = job.status().succeeded().get();
    match (job.spec().completions(), job.spec().parallelism()) {
        (Some(completions), _) => format!("{succeeded}/{}", completions.get()),
        (None, Some(at_once)) if at_once.get() > 1 => {
            format!("{succeeded}/1 of {}", at_once.get())
        }
        (None, _) => format!("{succeeded}/1"),
    }
}

/// How long a Job took, or takes.
fn duration(job: Fields<'_, Job>, now: Timestamp) -> String {
    let time = |text: Option<&str>| text?.parse::<Timestamp>().ok();
    let Some(start) = time(job.status().start_time()) else { return String::new() };
    let end = time(job.status().completion_time()).unwrap_or(now);
    human_duration(end.as_second() - start.as_second())
}

/// Containers, images and selector.
fn template(template: Fields<'_, PodTemplate>, selector: Entries<'_, String>) -> [Value; 3] {
    let containers = template.spec().containers();
    let names: Vec<&str> = containers.clone().map(|container| container.name()).collect();
    let images: Vec<&str> = containers.map(|container| container.image()).collect();
    [names.join(",").into(), images.join(",").into(), pairs(selector)]
}
