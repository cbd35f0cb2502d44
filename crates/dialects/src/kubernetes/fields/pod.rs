//! Fields of a pod.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kinds::{Container, Volume};
use crate::schema::{Bounded, Count, Quantity, fields, words};

fields! {
    kubernetes;
    /// What runs in a pod.
    pub struct PodSpec "the spec of a pod" {
        /// What runs.
        honoured containers: Vec<Container>,
        /// What runs before, one after the other; those that always restart go on beside.
        honoured init_containers "initContainers": Vec<Container>,
        /// Containers that joined it later.
        not_here("no container joins a running pod") ephemeral_containers "ephemeralContainers": Value,
        /// Files that containers share.
        honoured volumes: Vec<Volume>,
        /// When a container that has ended runs again.
        honoured restart_policy "restartPolicy": RestartPolicy = RestartPolicy::Always,
        /// How long its end may take.
        honoured termination_grace_period_seconds "terminationGracePeriodSeconds":
            Count = Bounded(30),
        /// Whose identity it has; `default` if left out.
        honoured service_account_name "serviceAccountName": String,
        /// The old name of `serviceAccountName`.
        honoured old_service_account "serviceAccount": String,
        /// Its host name; its own name if left out.
        honoured hostname: String,
        /// The headless Service under which its host name is found.
        honoured subdomain: String,
        /// Lines of `/etc/hosts`.
        honoured host_aliases "hostAliases": Vec<HostAlias>,
        /// Whether Services are environment variables.
        honoured enable_service_links "enableServiceLinks": bool = true,
        /// Whose rights its containers have.
        honoured security_context "securityContext": PodSecurityContext,
        /// Where it runs.
        honoured node_name "nodeName": String,
        /// Who says where it runs.
        honoured scheduler_name "schedulerName": String = "default-scheduler",
        /// Taints of nodes that it bears.
        honoured tolerations: Vec<Toleration>,
        /// Whether it has the host's network.
        not_here("the pod has a network and an address of its own") host_network "hostNetwork": bool,
        /// Whether it sees the host's processes.
        not_here("the pod has processes of its own") host_pid "hostPID": bool,
        /// Whether it has the host's IPC.
        not_here("the pod has an IPC namespace of its own") host_ipc "hostIPC": bool,
        /// Whether its users are the host's.
        honoured host_users "hostUsers": Option<bool>,
        /// Whether its containers see each other's processes.
        not_here("each container sees its own processes")
            share_process_namespace "shareProcessNamespace": bool,
        /// How long it may run.
        not_here("the pod runs until it ends or is deleted")
            active_deadline_seconds "activeDeadlineSeconds": Option<Count>,
        /// How names are resolved.
        not_here("names are resolved by the mesh alone") dns_config "dnsConfig": Value,
        /// Who resolves names.
        honoured dns_policy "dnsPolicy": DnsPolicy = DnsPolicy::ClusterFirst,
        /// Whether the host name is the long one.
        not_here("the host name is the short one") set_hostname_as_fqdn "setHostnameAsFQDN": bool,
        /// Further conditions of readiness.
        not_here("readiness is that of the containers") readiness_gates "readinessGates": Vec<Value>,
        /// Devices.
        not_here("there are no devices to claim") resource_claims "resourceClaims": Vec<Value>,
        /// Whether containers find a token of their service account; as that says if it is left out.
        honoured automount_service_account_token "automountServiceAccountToken": Option<bool>,
        /// Labels of the node.
        honoured node_selector "nodeSelector": BTreeMap<String, String>,
        /// Which nodes are preferred.
        unbounded("there is one node") affinity: Value,
        /// How pods spread over nodes.
        unbounded("there is one node")
            topology_spread_constraints "topologySpreadConstraints": Vec<Value>,
        /// Who goes first when room is short.
        unbounded("no pod is preempted") priority_class_name "priorityClassName": String,
        /// The same as a number.
        unbounded("no pod is preempted") priority: Option<f64>,
        /// Whether others go for it.
        unbounded("no pod is preempted") preemption_policy "preemptionPolicy": String,
        /// What it waits for before it is given a node.
        unbounded("there is one node") scheduling_gates "schedulingGates": Vec<Value>,
        /// How containers are run.
        unbounded("there is one way to run containers") runtime_class_name "runtimeClassName": String,
        /// What running it takes beside its containers.
        unbounded("resources are not bounded") overhead: BTreeMap<String, Quantity>,
        /// What all its containers may take.
        unbounded("resources are not bounded") resources: Value,
        /// Secrets with which images are fetched.
        honoured image_pull_secrets "imagePullSecrets": Vec<Value>,
        /// The operating system.
        unbounded("there is one node") os: Value,
    }

    /// Names of an address.
    pub struct HostAlias "a host alias" {
        /// The address.
        required ip: String,
        /// Its names.
        honoured hostnames: Vec<String>,
    }

    /// A taint that a pod bears; there is one node, without taints.
    pub struct Toleration "a toleration" {
        /// Name of the taint.
        honoured key: String,
        /// How its value is compared.
        honoured operator: String,
        /// Its value.
        honoured value: String,
        /// What it does.
        honoured effect: String,
        /// For how long it is borne.
        honoured toleration_seconds "tolerationSeconds": Option<i64>,
    }

    /// Whose rights the containers of a pod have.
    pub struct PodSecurityContext "securityContext" {
        /// The user that they run as.
        honoured run_as_user "runAsUser": Option<Count>,
        /// The group that they run as.
        honoured run_as_group "runAsGroup": Option<Count>,
        /// Whether the user must not be root. What stands in for an image is not asked.
        honoured run_as_non_root "runAsNonRoot": Option<bool>,
        /// The group of volumes.
        unbounded("volumes belong to the user of the containers") fs_group "fsGroup": Option<Count>,
        /// When the group of volumes is set.
        unbounded("volumes belong to the user of the containers")
            fs_group_change_policy "fsGroupChangePolicy": String,
        /// Further groups.
        unbounded("containers have no further groups")
            supplemental_groups "supplementalGroups": Vec<Count>,
        /// Whether the image's groups count.
        unbounded("containers have no further groups")
            supplemental_groups_policy "supplementalGroupsPolicy": String,
        /// SELinux.
        unbounded("containers have no SELinux label") se_linux_options "seLinuxOptions": Value,
        /// How volumes are labelled.
        unbounded("containers have no SELinux label")
            se_linux_change_policy "seLinuxChangePolicy": String,
        /// System calls.
        unbounded("containers have no profile of their own") seccomp_profile "seccompProfile": Value,
        /// AppArmor.
        unbounded("containers have no profile of their own")
            app_armor_profile "appArmorProfile": Value,
        /// Settings of the kernel; those of the network that Kubernetes calls safe.
        honoured sysctls: Vec<Sysctl>,
        /// Windows.
        later windows_options "windowsOptions": Value,
    }

    /// A setting of the kernel.
    pub struct Sysctl "a sysctl" {
        /// Its name.
        required name: String,
        /// What it is set to.
        required value: String,
    }
}

fields! {
    open;
    /// How a pod is. Kubernetes adds fields with every version, of which the mesh reads these.
    pub struct PodStatus "the status of a pod" {
        /// Where it is in its life: `Pending`, `Running`, `Succeeded`, `Failed`.
        honoured phase: String,
        /// Its address.
        honoured pod_ip "podIP": String,
        /// What holds of it.
        honoured conditions: Vec<Condition>,
        /// Why it is so, in a word.
        honoured reason: String,
        /// Why it is so, for people.
        honoured message: String,
        /// The node for which room is made.
        honoured nominated_node_name "nominatedNodeName": String,
        /// How its containers are.
        honoured container_statuses "containerStatuses": Vec<ContainerStatus>,
        /// How its init containers are.
        honoured init_container_statuses "initContainerStatuses": Vec<ContainerStatus>,
    }

    /// How a container is.
    pub struct ContainerStatus "the status of a container" {
        /// Its name.
        honoured name: String,
        /// Whether it is ready.
        honoured ready: bool,
        /// Whether it has started, and its startup probe has succeeded.
        honoured started: bool,
        /// How often it was started again.
        honoured restart_count "restartCount": i64,
        /// How it is now.
        honoured state: ContainerState,
        /// How it ended the last time.
        honoured last_state "lastState": ContainerState,
    }

    /// One of the states of a container.
    pub struct ContainerState "the state of a container" {
        /// It is not there yet, or not any more.
        honoured waiting: Option<Waiting>,
        /// It runs.
        honoured running: Option<Value>,
        /// It has ended.
        honoured terminated: Option<Terminated>,
    }

    /// A container that waits.
    pub struct Waiting "waiting" {
        /// For what, in a word.
        honoured reason: String,
        /// For what, for people.
        honoured message: String,
    }

    /// A container that has ended.
    pub struct Terminated "terminated" {
        /// What its program ended with.
        honoured exit_code "exitCode": i64,
        /// The signal that ended it.
        honoured signal: i64,
        /// Why, in a word.
        honoured reason: String,
        /// When.
        honoured finished_at "finishedAt": String,
    }

    /// Whether something holds of an object.
    pub struct Condition "a condition" {
        /// What.
        honoured of "type": String,
        /// `True`, `False` or `Unknown`.
        honoured status: String,
        /// Why, in a word.
        honoured reason: String,
        /// Why, for people.
        honoured message: String,
        /// When anything of it changed.
        honoured last_update_time "lastUpdateTime": String,
        /// When its status changed.
        honoured last_transition_time "lastTransitionTime": String,
    }
}

words! {
    /// When a container that has ended runs again.
    pub enum RestartPolicy {
        /// Always.
        honoured Always = "Always",
        /// If it failed.
        honoured OnFailure = "OnFailure",
        /// Never.
        honoured Never = "Never",
    }

    /// Who resolves names.
    pub enum DnsPolicy {
        /// The mesh.
        honoured ClusterFirst = "ClusterFirst",
        /// The mesh, for pods with the host's network, too.
        honoured ClusterFirstWithHostNet = "ClusterFirstWithHostNet",
        /// The host.
        later Default = "Default",
        /// What `dnsConfig` says.
        later None = "None",
    }
}
