//! Fields of what objects of a cluster live in and on, and of what happens to them.

use serde_json::Value;

use super::kinds::Condition;
use crate::schema::{Count, Positive, fields, kind};

kind! {
    kubernetes;
    /// A part of the cluster with names of its own.
    pub struct Namespace "Namespace" {
        /// Who must agree before it goes.
        honoured spec: NamespaceSpec,
        /// How it is.
        honoured status: NamespaceStatus,
    }

    /// A machine that pods run on; there is one, which is this.
    pub struct Node "Node" {
        /// What is given to it.
        honoured spec: NodeSpec,
        /// How it is.
        honoured status: NodeStatus,
    }

    /// Whom a pod acts as.
    pub struct ServiceAccount "ServiceAccount" {
        /// Secrets that its pods may use.
        honoured secrets: Vec<Value>,
        /// Secrets with which images of its pods are fetched that name none themselves.
        honoured image_pull_secrets "imagePullSecrets": Vec<Value>,
        /// Whether its pods find a token; so it is if it is left out.
        honoured automount_service_account_token "automountServiceAccountToken": Option<bool>,
    }

    /// Who does, for a while, what only one may do.
    pub struct Lease "Lease" {
        /// Who, and for how long.
        honoured spec: LeaseSpec,
    }

    /// What happened to an object.
    pub struct Event "Event" {
        /// The object.
        honoured involved_object "involvedObject": ObjectReference,
        /// The object, in `events.k8s.io`.
        honoured regarding: ObjectReference,
        /// What happened, in a word.
        honoured reason: String,
        /// What happened, for people.
        honoured message: String,
        /// What happened, in `events.k8s.io`.
        honoured note: String,
        /// Who has seen it.
        honoured source: EventSource,
        /// When it was first seen.
        honoured first_timestamp "firstTimestamp": String,
        /// When it was last seen.
        honoured last_timestamp "lastTimestamp": String,
        /// How often it was seen.
        honoured count: i64,
        /// `Normal` or `Warning`.
        honoured of "type": String,
        /// When it was seen, to the microsecond.
        honoured event_time "eventTime": String,
        /// How often it goes on.
        honoured series: Value,
        /// What was done or failed.
        honoured action: String,
        /// Another object that it is about.
        honoured related: Value,
        /// Who has seen it, by newer clients.
        honoured reporting_component "reportingComponent": String,
        /// Which of them.
        honoured reporting_instance "reportingInstance": String,
        /// The same, in `events.k8s.io`.
        honoured reporting_controller "reportingController": String,
        /// `source`, in `events.k8s.io`.
        honoured deprecated_source "deprecatedSource": Value,
        /// `firstTimestamp`, in `events.k8s.io`.
        honoured deprecated_first_timestamp "deprecatedFirstTimestamp": String,
        /// `lastTimestamp`, in `events.k8s.io`.
        honoured deprecated_last_timestamp "deprecatedLastTimestamp": String,
        /// `count`, in `events.k8s.io`.
        honoured deprecated_count "deprecatedCount": i64,
    }
}

fields! {
    kubernetes;
    /// What a `Namespace` says.
    pub struct NamespaceSpec "Namespace.spec" {
        /// Who must agree before it goes.
        honoured finalizers: Vec<String>,
    }

    /// What a `Node` says.
    pub struct NodeSpec "Node.spec" {
        /// Whether no further pods are to run on it.
        honoured unschedulable: bool,
        /// Which pods are not to run on it.
        not_here("pods run on this one node all the same; `kubectl cordon` holds new ones back")
            taints: Vec<Value>,
        /// Networks of its pods.
        not_here("the mesh has one network for pods") pod_cidr "podCIDR": String,
        /// The same, by version of IP.
        not_here("the mesh has one network for pods") pod_cidrs "podCIDRs": Vec<String>,
        /// How its cloud calls it.
        not_here("no cloud is here") provider_id "providerID": String,
    }

    /// What a `Lease` says. The programs that share it act on it; it is kept for them.
    pub struct LeaseSpec "Lease.spec" {
        /// Who has it.
        honoured holder_identity "holderIdentity": String,
        /// How many seconds after `renewTime` others may take it.
        honoured lease_duration_seconds "leaseDurationSeconds": Option<Positive>,
        /// When it was taken, to the microsecond.
        honoured acquire_time "acquireTime": String,
        /// When its holder last said that it goes on, to the microsecond.
        honoured renew_time "renewTime": String,
        /// How often it went from one holder to another.
        honoured lease_transitions "leaseTransitions": Option<Count>,
        /// How the next holder is chosen.
        honoured strategy: String,
        /// Who is to have it next.
        honoured preferred_holder "preferredHolder": String,
    }

    /// An object that another is about.
    pub struct ObjectReference "the reference to an object" {
        /// Group and version of its kind.
        honoured api_version "apiVersion": String,
        /// Its kind.
        honoured kind: String,
        /// Its namespace.
        honoured namespace: String,
        /// Its name.
        honoured name: String,
        /// Its identity.
        honoured uid: String,
        /// Its version.
        honoured resource_version "resourceVersion": String,
        /// The part of it.
        honoured field_path "fieldPath": String,
    }

    /// Who has seen an event.
    pub struct EventSource "source" {
        /// The program.
        honoured component: String,
        /// Its node.
        honoured host: String,
    }
}

fields! {
    open;
    /// How a `Namespace` is.
    pub struct NamespaceStatus "Namespace.status" {
        /// `Active` or `Terminating`.
        honoured phase: String,
        /// What holds of it.
        honoured conditions: Vec<Condition>,
    }

    /// How a `Node` is.
    pub struct NodeStatus "Node.status" {
        /// What holds of it.
        honoured conditions: Vec<Condition>,
        /// Where it can be reached.
        honoured addresses: Vec<NodeAddress>,
        /// What runs on it.
        honoured node_info "nodeInfo": NodeInfo,
    }

    /// Where a node can be reached.
    pub struct NodeAddress "an address of a node" {
        /// What kind of address it is.
        honoured of "type": String,
        /// The address.
        honoured address: String,
    }

    /// What runs on a node.
    pub struct NodeInfo "nodeInfo" {
        /// Version of what runs pods.
        honoured kubelet_version "kubeletVersion": String,
        /// Version of the kernel.
        honoured kernel_version "kernelVersion": String,
        /// The operating system, with its version.
        honoured os_image "osImage": String,
        /// What runs containers, with its version.
        honoured container_runtime_version "containerRuntimeVersion": String,
    }
}
