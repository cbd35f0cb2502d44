//! Tables of the kinds that pods are made from: the admission check, the types, and the findings
//! about what the local platform does not do. What fields there are, and of which types, is
//! Kubernetes' (API reference, v1.30).

use std::collections::BTreeMap;

use ironmesh_model::{Finding, FindingCode, Severity};
use serde_json::{Value, json};

use super::topology;
use crate::schema::{Bounded, Count, IntegerOrText, Status, Typed, fields, kind, read, words};
use crate::{Object, path};

mod cluster;
mod container;
mod job;
mod pod;
mod stateful;
mod volume;
mod workload;

/// The kinds and their parts.
pub(super) mod kinds {
    pub use super::cluster::*;
    pub use super::container::*;
    pub use super::job::*;
    pub use super::pod::*;
    pub use super::stateful::*;
    pub use super::volume::*;
    pub use super::workload::*;
    pub use super::{
        AnyObject, ConfigMap, Deployment, DeploymentSpec, DeploymentStatus, LabelSelector, Mode,
        ObjectMeta, Operator, OwnerReference, Pod, PodTemplate, ReplicaSet, ReplicaSetSpec,
        ReplicaSetStatus, Requirement, RollingUpdate, Secret, Strategy, StrategyType,
    };
}

use kinds::{Condition, PodSpec, PodStatus};

/// Checks the metadata of an object of a kind that has no table.
pub(crate) fn metadata(object: &Object, findings: &mut Vec<Finding>) {
    read::<AnyObject>(object, findings);
}

/// Reads an object of a kind from which pods are made, or which they use. What its owner has, with
/// the same fields, is not found again.
pub(crate) fn read_workload<T: Typed>(object: &Object, findings: &mut Vec<Finding>) -> Option<T> {
    let read = read::<T>(object, findings);
    super::annotations(object, "spec.template.metadata", findings);
    node_selector(object, findings);
    super::capabilities::findings(object, findings);
    super::sysctls::findings(object, findings);
    if object.value().pointer("/metadata/ownerReferences/0").is_some() {
        findings.retain(|finding| finding.code.severity() == Severity::Error);
    }
    read
}

/// The labels that the one node has from its start.
pub fn node_labels() -> [(&'static str, &'static str); 6] {
    // As Go calls it.
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    [
        ("beta.kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("kubernetes.io/hostname", "ironmesh"),
        ("kubernetes.io/os", "linux"),
        ("node-role.kubernetes.io/control-plane", ""),
    ]
}

/// A selector that the node does not meet: its pods run there all the same. What says where the node
/// is says where the pod is.
fn node_selector(object: &Object, findings: &mut Vec<Finding>) {
    for spec in ["spec", "spec.template.spec"] {
        let pointer = format!("/{}/nodeSelector", spec.replace('.', "/"));
        let selector = object.value().pointer(&pointer).and_then(Value::as_object);
        for (label, value) in selector.into_iter().flatten() {
            let Some(value) = value.as_str() else { continue };
            if node_labels().contains(&(label, value)) || topology::is_place(label) {
                continue;
            }
            let at = path::field(&format!("{spec}.nodeSelector"), label);
            let message = format!(
                "nodeSelector: there is one node, which has no label {label}={value} from its \
                 start; pods run there all the same"
            );
            findings.push(Finding::new(object.id(), at, FindingCode::NotBoundedHere, message));
        }
    }
}

/// A workload of an old version: its selector was once taken from the labels of its template.
pub(crate) fn old_workload(object: &mut Value) {
    let labels = object.pointer("/spec/template/metadata/labels").cloned();
    let needs_selector = object.pointer("/spec/selector").is_none_or(Value::is_null);
    if let (true, Some(labels), Some(Value::Object(spec))) =
        (needs_selector, labels, object.get_mut("spec"))
    {
        spec.insert("selector".to_owned(), json!({ "matchLabels": labels }));
    }
}

/// What the local platform makes of a field.
impl Status {
    /// It asks for what the platform does not do.
    pub(crate) const fn not_here(why: &'static str) -> Self {
        Self::Found(FindingCode::NotDoneHere, why)
    }

    /// It bounds, protects or places containers, which changes nothing for a small mesh on one
    /// machine.
    pub(crate) const fn unbounded(why: &'static str) -> Self {
        Self::Found(FindingCode::NotBoundedHere, why)
    }

    /// A kind of volume that is not served.
    pub(crate) const fn stand_in() -> Self {
        Self::Found(FindingCode::VolumeNotHonoured, "an empty directory stands in for it")
    }
}

/// A mode of a file, as a decimal number.
pub type Mode = Bounded<0, 0o777>;

fields! {
    open;
    /// An object of any kind.
    pub struct AnyObject "the object" {
        /// What all objects have.
        honoured metadata: ObjectMeta,
    }
}

fields! {
    kubernetes;
    /// What all objects have.
    pub struct ObjectMeta "metadata" {
        /// Its name.
        honoured name: String,
        /// The start of a name that the server completes.
        honoured generate_name "generateName": String,
        /// Its namespace.
        honoured namespace: String,
        /// Labels, which selectors find.
        honoured labels: BTreeMap<String, String>,
        /// Notes for tools.
        honoured annotations: BTreeMap<String, String>,
        /// Who must agree before it goes.
        honoured finalizers: Vec<String>,
        /// The objects that it goes with.
        honoured owner_references "ownerReferences": Vec<OwnerReference>,
        /// Its identity, given by the server.
        honoured uid: String,
        /// Its version, given by the server.
        honoured resource_version "resourceVersion": String,
        /// How often its spec has changed.
        honoured generation: i64,
        /// When it was made.
        honoured creation_timestamp "creationTimestamp": String,
        /// When it was deleted; it goes once nothing holds it.
        honoured deletion_timestamp "deletionTimestamp": Option<String>,
        /// How long its deletion may take.
        honoured deletion_grace_period_seconds "deletionGracePeriodSeconds": Option<i64>,
        /// Who has set which fields.
        honoured managed_fields "managedFields": Value,
        /// Its path, once.
        honoured self_link "selfLink": String,
        /// Its cluster, once.
        honoured cluster_name "clusterName": String,
    }

    /// An object that another goes with.
    pub struct OwnerReference "an owner reference" {
        /// Group and version of the owner's kind.
        required api_version "apiVersion": String,
        /// Kind of the owner.
        required kind: String,
        /// Name of the owner.
        required name: String,
        /// Identity of the owner.
        required uid: String,
        /// Whether the owner is what controls the object.
        honoured controller: bool,
        /// Whether the owner waits for the object to go.
        honoured block_owner_deletion "blockOwnerDeletion": bool,
    }
}

kind! {
    kubernetes;
    /// A group of containers that share a network.
    pub struct Pod "Pod" {
        /// What runs.
        required spec: PodSpec,
        /// How it is.
        honoured status: PodStatus,
    }

    /// A number of like pods that change by degrees.
    pub struct Deployment "Deployment" {
        /// Which pods, and how they change.
        required spec: DeploymentSpec,
        /// How it is.
        honoured status: DeploymentStatus,
    }

    /// A number of like pods.
    pub struct ReplicaSet "ReplicaSet" {
        /// Which pods.
        required spec: ReplicaSetSpec,
        /// How it is.
        honoured status: ReplicaSetStatus,
    }

    /// Settings by name.
    pub struct ConfigMap "ConfigMap" {
        /// Texts.
        honoured data: BTreeMap<String, String>,
        /// Bytes, in base64.
        honoured binary_data "binaryData": BTreeMap<String, String>,
        /// Whether it may not change.
        honoured immutable: bool,
    }

    /// Secrets by name.
    pub struct Secret "Secret" {
        /// Bytes, in base64.
        honoured data: BTreeMap<String, String>,
        /// Texts, which the server takes into `data`.
        honoured string_data "stringData": BTreeMap<String, String>,
        /// What is in it.
        honoured of "type": String = "Opaque",
        /// Whether it may not change.
        honoured immutable: bool,
    }
}

fields! {
    kubernetes;
    /// What a `Deployment` says.
    pub struct DeploymentSpec "Deployment.spec" {
        /// How many pods.
        honoured replicas: Count = Bounded(1),
        /// Which pods are its own.
        honoured selector: LabelSelector,
        /// What its pods are made from.
        required template: PodTemplate,
        /// How long a pod must be ready.
        not_here("a pod counts as available as soon as it is ready")
            min_ready_seconds "minReadySeconds": Count,
        /// How pods are replaced.
        honoured strategy: Strategy,
        /// How many old ReplicaSets are kept.
        honoured revision_history_limit "revisionHistoryLimit": Count = Bounded(10),
        /// How long progress may take.
        honoured progress_deadline_seconds "progressDeadlineSeconds": Count = Bounded(600),
        /// Whether changes of the template wait.
        honoured paused: bool,
        /// The revision to go back to.
        not_here("use an older template instead") rollback_to "rollbackTo": Value,
    }

    /// How pods are replaced.
    pub struct Strategy "strategy" {
        /// By degrees, or all at once.
        honoured of "type": StrategyType = StrategyType::RollingUpdate,
        /// By which degrees.
        honoured rolling_update "rollingUpdate": RollingUpdate,
    }

    /// By which degrees pods are replaced.
    pub struct RollingUpdate "rollingUpdate" {
        /// How many more pods there may be.
        honoured max_surge "maxSurge": IntegerOrText = "25%",
        /// How many fewer pods there may be.
        honoured max_unavailable "maxUnavailable": IntegerOrText = "25%",
    }

    /// What a `ReplicaSet` says.
    pub struct ReplicaSetSpec "ReplicaSet.spec" {
        /// How many pods.
        honoured replicas: Count = Bounded(1),
        /// Which pods are its own.
        honoured selector: LabelSelector,
        /// What its pods are made from.
        required template: PodTemplate,
        /// How long a pod must be ready.
        not_here("a pod counts as available as soon as it is ready")
            min_ready_seconds "minReadySeconds": Count,
    }

    /// What pods are made from.
    pub struct PodTemplate "template" {
        /// Their labels and annotations.
        honoured metadata: ObjectMeta,
        /// What runs.
        required spec: PodSpec,
    }

    /// Which objects are meant; all conditions must hold.
    pub struct LabelSelector "selector" {
        /// Labels that they have.
        honoured match_labels "matchLabels": BTreeMap<String, String>,
        /// Further conditions.
        honoured match_expressions "matchExpressions": Vec<Requirement>,
    }

    /// A condition on a label.
    pub struct Requirement "a requirement of matchExpressions" {
        /// Name of the label.
        required key: String,
        /// How its value is compared.
        required operator: Operator,
        /// Values to compare with.
        honoured values: Vec<String>,
    }
}

fields! {
    open;
    /// How a `Deployment` is.
    pub struct DeploymentStatus "Deployment.status" {
        /// The generation of what was asked for.
        honoured observed_generation "observedGeneration": i64,
        /// Pods that there are.
        honoured replicas: Count,
        /// Those of the present template.
        honoured updated_replicas "updatedReplicas": Count,
        /// Those that are ready.
        honoured ready_replicas "readyReplicas": Count,
        /// Those that take calls.
        honoured available_replicas "availableReplicas": Count,
        /// What holds of it.
        honoured conditions: Vec<Condition>,
    }

    /// How a `ReplicaSet` is.
    pub struct ReplicaSetStatus "ReplicaSet.status" {
        /// Pods that there are.
        honoured replicas: Count,
        /// Those that are ready.
        honoured ready_replicas "readyReplicas": Count,
        /// Those that take calls.
        honoured available_replicas "availableReplicas": Count,
        /// What holds of it.
        honoured conditions: Vec<Condition>,
    }
}

words! {
    /// How pods are replaced.
    pub enum StrategyType {
        /// By degrees.
        honoured RollingUpdate = "RollingUpdate",
        /// All at once.
        honoured Recreate = "Recreate",
    }

    /// How the value of a label is compared.
    pub enum Operator {
        /// It is one of the values.
        honoured In = "In",
        /// It is none of the values, or absent.
        honoured NotIn = "NotIn",
        /// It is there.
        honoured Exists = "Exists",
        /// It is absent.
        honoured DoesNotExist = "DoesNotExist",
    }
}
