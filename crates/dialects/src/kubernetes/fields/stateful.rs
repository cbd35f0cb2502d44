//! Fields of what keeps files: StatefulSets, and claims of volumes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::{Condition, LabelSelector, PodTemplate, UpdateType};
use crate::schema::{Bounded, Count, Quantity, fields, kind, words};

kind! {
    kubernetes;
    /// Pods with names and files of their own.
    pub struct StatefulSet "StatefulSet" {
        /// Which pods, and how they change.
        required spec: StatefulSetSpec,
        /// How it is.
        honoured status: StatefulSetStatus,
    }
}

kind! {
    kubernetes;
    /// Files that outlive pods.
    pub struct PersistentVolumeClaim "PersistentVolumeClaim" {
        /// Which.
        required spec: ClaimSpec,
        /// How it is.
        honoured status: ClaimStatus,
    }
}

fields! {
    kubernetes;
    /// What a `StatefulSet` says.
    pub struct StatefulSetSpec "StatefulSet.spec" {
        /// How many pods.
        honoured replicas: Count = Bounded(1),
        /// Which pods are its own.
        honoured selector: LabelSelector,
        /// What its pods are made from.
        required template: PodTemplate,
        /// The headless Service under which its pods are found by name.
        honoured service_name "serviceName": String,
        /// Claims that each of its pods has for itself.
        honoured volume_claim_templates "volumeClaimTemplates": Vec<ClaimTemplate>,
        /// Whether its pods come and go one after the other.
        honoured pod_management_policy "podManagementPolicy":
            PodManagement = PodManagement::OrderedReady,
        /// How pods are replaced.
        honoured update_strategy "updateStrategy": StatefulUpdate,
        /// How many old templates are kept.
        honoured revision_history_limit "revisionHistoryLimit": Count = Bounded(10),
        /// How long a pod must be ready.
        not_here("a pod counts as available as soon as it is ready")
            min_ready_seconds "minReadySeconds": Count,
        /// The number of the first pod.
        honoured ordinals: Ordinals,
        /// What becomes of claims.
        not_here("claims stay until they are deleted")
            claim_retention "persistentVolumeClaimRetentionPolicy": Value,
    }

    /// How the pods of a `StatefulSet` are replaced.
    pub struct StatefulUpdate "updateStrategy" {
        /// By themselves, or when they are deleted.
        honoured of "type": UpdateType = UpdateType::RollingUpdate,
        /// Which of them.
        honoured rolling_update "rollingUpdate": StatefulRollingUpdate,
    }

    /// Which pods are replaced.
    pub struct StatefulRollingUpdate "rollingUpdate" {
        /// All but the first so many.
        honoured partition: Count = Bounded(0),
        /// How many at once.
        not_here("pods are replaced one after the other") max_unavailable "maxUnavailable": Value,
    }

    /// How the pods of a `StatefulSet` are numbered.
    pub struct Ordinals "ordinals" {
        /// The first number.
        honoured start: Count,
    }

    /// What a claim is made from.
    pub struct ClaimTemplate "a claim template" {
        /// Group and version of the kind.
        honoured api_version "apiVersion": String,
        /// Its kind.
        honoured kind: String,
        /// Its name, labels and annotations.
        honoured metadata: super::kinds::ObjectMeta,
        /// Which files.
        honoured spec: ClaimSpec,
        /// Written by tools that print what they read.
        honoured status: Value,
    }

    /// What a claim says.
    pub struct ClaimSpec "PersistentVolumeClaim.spec" {
        /// By how many pods it is used.
        honoured access_modes "accessModes": Vec<AccessMode>,
        /// How much it holds.
        honoured resources: ClaimResources,
        /// Of which class; all are folders here.
        honoured storage_class_name "storageClassName": Option<String>,
        /// Files, or a block device.
        honoured volume_mode "volumeMode": VolumeMode = VolumeMode::Filesystem,
        /// The volume, once there is one.
        honoured volume_name "volumeName": String,
        /// Which volumes may serve it.
        not_here("a folder is made for each claim") selector: Value,
        /// What is in it from the start.
        not_here("it is empty from its start") data_source "dataSource": Value,
        /// The same, of any kind.
        not_here("it is empty from its start") data_source_ref "dataSourceRef": Value,
        /// What its volume is like.
        not_here("all claims are folders") attributes_class "volumeAttributesClassName": String,
    }

    /// How much a claim holds.
    pub struct ClaimResources "resources" {
        /// At most.
        unbounded("the size of a folder is not bounded") limits: BTreeMap<String, Quantity>,
        /// At least.
        honoured requests: BTreeMap<String, Quantity>,
    }
}

fields! {
    open;
    /// How a `StatefulSet` is.
    pub struct StatefulSetStatus "StatefulSet.status" {
        /// The generation of what was asked for.
        honoured observed_generation "observedGeneration": i64,
        /// Pods that there are.
        honoured replicas: Count,
        /// Those that are ready.
        honoured ready_replicas "readyReplicas": Count,
        /// Those of the template before.
        honoured current_replicas "currentReplicas": Count,
        /// Those of the present template.
        honoured updated_replicas "updatedReplicas": Count,
        /// The template before.
        honoured current_revision "currentRevision": String,
        /// The present template.
        honoured update_revision "updateRevision": String,
    }

    /// How a claim is.
    pub struct ClaimStatus "PersistentVolumeClaim.status" {
        /// `Pending` or `Bound`.
        honoured phase: String,
        /// How much it holds.
        honoured capacity: BTreeMap<String, Quantity>,
        /// By how many pods it may be used.
        honoured access_modes "accessModes": Vec<AccessMode>,
        /// What holds of it.
        honoured conditions: Vec<Condition>,
    }
}

words! {
    /// Whether the pods of a StatefulSet come and go one after the other.
    pub enum PodManagement {
        /// They do.
        honoured OrderedReady = "OrderedReady",
        /// All at once.
        honoured Parallel = "Parallel",
    }

    /// By how many pods a claim is used; on one machine all of them are alike.
    pub enum AccessMode {
        /// Those of one node.
        honoured ReadWriteOnce = "ReadWriteOnce",
        /// Many, to read.
        honoured ReadOnlyMany = "ReadOnlyMany",
        /// Many.
        honoured ReadWriteMany = "ReadWriteMany",
        /// One.
        honoured ReadWriteOncePod = "ReadWriteOncePod",
    }

    /// What a claim is.
    pub enum VolumeMode {
        /// Files.
        honoured Filesystem = "Filesystem",
        /// A block device.
        later Block = "Block",
    }
}
