//! Fields of what makes pods beside Deployments, ReplicaSets and Jobs.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::{LabelSelector, PodTemplate};
use crate::schema::{Bounded, Count, IntegerOrText, fields, kind, words};

kind! {
    kubernetes;
    /// A number of like pods, as they were before there were ReplicaSets.
    pub struct ReplicationController "ReplicationController" {
        /// Which pods.
        required spec: ReplicationControllerSpec,
        /// How it is.
        honoured status: Value,
    }

    /// A pod on each node; there is one.
    pub struct DaemonSet "DaemonSet" {
        /// Which pods, and how they change.
        required spec: DaemonSetSpec,
        /// How it is.
        honoured status: DaemonSetStatus,
    }

    /// An earlier template of a workload, to which it can go back.
    pub struct ControllerRevision "ControllerRevision" {
        /// What of the workload's spec it has.
        honoured data: Value,
        /// Its place in the order of its workload's.
        honoured revision: i64,
    }
}

fields! {
    kubernetes;
    /// What a `ReplicationController` says.
    pub struct ReplicationControllerSpec "ReplicationController.spec" {
        /// How many pods.
        honoured replicas: Count = Bounded(1),
        /// Which pods are its own, by their labels.
        honoured selector: BTreeMap<String, String>,
        /// What its pods are made from.
        required template: PodTemplate,
        /// How long a pod must be ready.
        not_here("a pod counts as available as soon as it is ready")
            min_ready_seconds "minReadySeconds": Count,
    }

    /// What a `DaemonSet` says.
    pub struct DaemonSetSpec "DaemonSet.spec" {
        /// Which pods are its own.
        honoured selector: LabelSelector,
        /// What its pods are made from.
        required template: PodTemplate,
        /// How pods are replaced.
        honoured update_strategy "updateStrategy": DaemonUpdate,
        /// How long a pod must be ready.
        not_here("a pod counts as available as soon as it is ready")
            min_ready_seconds "minReadySeconds": Count,
        /// How many old templates are kept.
        honoured revision_history_limit "revisionHistoryLimit": Count = Bounded(10),
        /// The generation of the template, once.
        honoured template_generation "templateGeneration": i64,
    }

    /// How the pods of a `DaemonSet` are replaced.
    pub struct DaemonUpdate "updateStrategy" {
        /// By themselves, or when they are deleted.
        honoured of "type": UpdateType = UpdateType::RollingUpdate,
        /// The new one after the old, or before.
        honoured rolling_update "rollingUpdate": DaemonRollingUpdate,
    }

    /// Whether the new pod comes after the old one or before.
    pub struct DaemonRollingUpdate "rollingUpdate" {
        /// How many nodes may be without a pod.
        honoured max_unavailable "maxUnavailable": IntegerOrText = 1,
        /// How many nodes may have two.
        honoured max_surge "maxSurge": IntegerOrText = 0,
    }
}

fields! {
    open;
    /// How a `DaemonSet` is.
    pub struct DaemonSetStatus "DaemonSet.status" {
        /// The generation of what was asked for.
        honoured observed_generation "observedGeneration": i64,
        /// Nodes that are to have a pod.
        honoured desired_number_scheduled "desiredNumberScheduled": Count,
        /// Those that have one.
        honoured current_number_scheduled "currentNumberScheduled": Count,
        /// Those whose pod is ready.
        honoured number_ready "numberReady": Count,
        /// Those whose pod is of the present template.
        honoured updated_number_scheduled "updatedNumberScheduled": Count,
        /// Those whose pod takes calls.
        honoured number_available "numberAvailable": Count,
    }
}

words! {
    /// When pods of an older template are replaced.
    pub enum UpdateType {
        /// One after the other.
        honoured RollingUpdate = "RollingUpdate",
        /// When they are deleted.
        honoured OnDelete = "OnDelete",
    }
}
