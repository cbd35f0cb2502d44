//! Fields of a container.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::schema::{Bounded, Count, IntegerOrText, Positive, Quantity, fields, words};

fields! {
    kubernetes;
    /// What runs in a pod.
    pub struct Container "a container" {
        /// Its name.
        honoured name: String,
        /// What it is made from.
        honoured image: String,
        /// The program and its first arguments; the image's if left out.
        honoured command: Vec<String>,
        /// Further arguments.
        honoured args: Vec<String>,
        /// Where it runs.
        honoured working_dir "workingDir": String,
        /// Ports that it listens on.
        honoured ports: Vec<ContainerPort>,
        /// Environment variables.
        honoured env: Vec<EnvVar>,
        /// Objects whose keys are environment variables.
        honoured env_from "envFrom": Vec<EnvFromSource>,
        /// What it takes.
        honoured resources: Resources,
        /// What happens when that changes.
        unbounded("resources are not bounded") resize_policy "resizePolicy": Value,
        /// Of init containers only, which then run beside the others; the admission check refuses it
        /// elsewhere.
        honoured restart_policy "restartPolicy": Option<ContainerRestartPolicy>,
        /// Volumes that it sees.
        honoured volume_mounts "volumeMounts": Vec<VolumeMount>,
        /// Block devices.
        not_here("there are no block devices") volume_devices "volumeDevices": Value,
        /// When it fails, the container is started again.
        honoured liveness_probe "livenessProbe": Option<Probe>,
        /// While it fails, the pod is not ready.
        honoured readiness_probe "readinessProbe": Option<Probe>,
        /// Until it succeeds, the others wait.
        honoured startup_probe "startupProbe": Option<Probe>,
        /// What happens after its start and before its end.
        honoured lifecycle: Lifecycle,
        /// File with what it says at its end.
        honoured termination_message_path "terminationMessagePath":
            String = "/dev/termination-log",
        /// Whether its log says it, too.
        honoured termination_message_policy "terminationMessagePolicy":
            MessagePolicy = MessagePolicy::File,
        /// When its image is fetched.
        honoured image_pull_policy "imagePullPolicy": Option<ImagePullPolicy>,
        /// Whose rights it has.
        honoured security_context "securityContext": SecurityContext,
        /// Whether it can be written to.
        honoured stdin: bool,
        /// Whether that ends with the first writer.
        honoured stdin_once "stdinOnce": bool,
        /// Whether it has a terminal.
        not_here("the standard output is a log, no terminal; `exec -it` has one") tty: bool,
    }

    /// A port that a container listens on.
    pub struct ContainerPort "a port of a container" {
        /// Its name, for Services and probes.
        honoured name: String,
        /// Its number.
        honoured container_port "containerPort": u16,
        /// What is under it.
        honoured protocol: PortProtocol = PortProtocol::Tcp,
        /// A port of the host that leads there.
        honoured host_port "hostPort": u16,
        /// The address of that port.
        not_here("the port is open at the node's address") host_ip "hostIP": String,
    }

    /// An environment variable.
    pub struct EnvVar "an environment variable" {
        /// Its name.
        required name: String,
        /// Its value, in which `$(NAME)` is one that came before.
        honoured value: String,
        /// Where its value comes from instead.
        honoured value_from "valueFrom": Option<EnvSource>,
    }

    /// Where the value of an environment variable comes from.
    pub struct EnvSource "valueFrom" {
        /// A field of the pod.
        honoured field_ref "fieldRef": Option<FieldRef>,
        /// What a container may take.
        honoured resource_field_ref "resourceFieldRef": Option<ResourceRef>,
        /// A key of a `ConfigMap`.
        honoured config_map_key_ref "configMapKeyRef": Option<KeyRef>,
        /// A key of a `Secret`.
        honoured secret_key_ref "secretKeyRef": Option<KeyRef>,
    }

    /// A field of the pod.
    pub struct FieldRef "fieldRef" {
        /// The version of pods that the path is of.
        honoured api_version "apiVersion": String = "v1",
        /// Its path.
        required field_path "fieldPath": String,
    }

    /// What a container may take.
    pub struct ResourceRef "resourceFieldRef" {
        /// Its name; the own if left out.
        honoured container_name "containerName": String,
        /// What is asked, such as `limits.cpu`.
        required resource: String,
        /// The unit.
        honoured divisor: Option<Quantity>,
    }

    /// A key of an object.
    pub struct KeyRef "the reference to a key" {
        /// Name of the object.
        honoured name: String,
        /// The key.
        required key: String,
        /// Whether it may be absent.
        honoured optional: bool,
    }

    /// An object whose keys are environment variables.
    pub struct EnvFromSource "a source of envFrom" {
        /// What stands before each name.
        honoured prefix: String,
        /// A `ConfigMap`.
        honoured config_map_ref "configMapRef": Option<ObjectRef>,
        /// A `Secret`.
        honoured secret_ref "secretRef": Option<ObjectRef>,
    }

    /// An object.
    pub struct ObjectRef "the reference to an object" {
        /// Its name.
        honoured name: String,
        /// Whether it may be absent.
        honoured optional: bool,
    }

    /// What a container takes.
    pub struct Resources "resources" {
        /// At most; the downward API shows it.
        unbounded("CPU is not bounded, and memory where the mesh may make cgroups; an event of the pod says where not") limits: BTreeMap<String, Quantity>,
        /// At least; the downward API shows it.
        honoured requests: BTreeMap<String, Quantity>,
        /// Devices.
        not_here("there are no devices to claim") claims: Vec<Value>,
    }

    /// A volume that a container sees.
    pub struct VolumeMount "a volume mount" {
        /// Name of the volume.
        honoured name: String,
        /// Where it is.
        honoured mount_path "mountPath": String,
        /// The part of the volume that is there.
        honoured sub_path "subPath": String,
        /// The same, in which `$(NAME)` is an environment variable.
        honoured sub_path_expr "subPathExpr": String,
        /// Whether it cannot be written.
        honoured read_only "readOnly": bool,
        /// Whether mounts below cannot be written either.
        unbounded("mounts below stay writable") recursive_read_only "recursiveReadOnly": String,
        /// Whether mounts below are passed on.
        unbounded("no mount is passed on") mount_propagation "mountPropagation": String,
    }

    /// A question to a container, again and again.
    pub struct Probe "a probe" {
        /// An HTTP request.
        honoured http_get "httpGet": Option<HttpGet>,
        /// A TCP connection.
        honoured tcp_socket "tcpSocket": Option<TcpSocket>,
        /// A program in the container.
        honoured exec: Option<Exec>,
        /// A gRPC health check.
        honoured grpc: Option<GrpcProbe>,
        /// How long it waits at first.
        honoured initial_delay_seconds "initialDelaySeconds": Count,
        /// How often it asks.
        honoured period_seconds "periodSeconds": Positive = Bounded(10),
        /// How long an answer may take.
        honoured timeout_seconds "timeoutSeconds": Positive = Bounded(1),
        /// How many good answers in a row count.
        honoured success_threshold "successThreshold": Positive = Bounded(1),
        /// How many bad answers in a row count.
        honoured failure_threshold "failureThreshold": Positive = Bounded(3),
        /// The grace period after it has failed.
        unbounded("the grace period of the pod holds after a failed probe, too")
            termination_grace_period_seconds "terminationGracePeriodSeconds": Option<Count>,
    }

    /// An HTTP request to a container.
    pub struct HttpGet "httpGet" {
        /// Its path.
        honoured path: String = "/",
        /// The port, by number or name.
        required port: IntegerOrText,
        /// The host; the pod's address if left out.
        honoured host: String,
        /// In plaintext or by TLS.
        honoured scheme: ProbeScheme = ProbeScheme::Http,
        /// Its headers.
        honoured http_headers "httpHeaders": Vec<HttpHeader>,
    }

    /// A header.
    pub struct HttpHeader "a header" {
        /// Its name.
        required name: String,
        /// Its value.
        honoured value: String,
    }

    /// A TCP connection to a container.
    pub struct TcpSocket "tcpSocket" {
        /// The port, by number or name.
        required port: IntegerOrText,
        /// The host; the pod's address if left out.
        honoured host: String,
    }

    /// A program in a container.
    pub struct Exec "exec" {
        /// The program and its arguments.
        honoured command: Vec<String>,
    }

    /// A gRPC health check.
    pub struct GrpcProbe "grpc" {
        /// The port.
        required port: u16,
        /// The service that is asked for.
        honoured service: String,
    }

    /// What happens after the start of a container and before its end.
    pub struct Lifecycle "lifecycle" {
        /// After its start.
        honoured post_start "postStart": Option<Hook>,
        /// Before its end.
        honoured pre_stop "preStop": Option<Hook>,
        /// The signal of its end.
        not_here("a container is ended by SIGTERM") stop_signal "stopSignal": String,
    }

    /// What happens then.
    pub struct Hook "a hook" {
        /// An HTTP request.
        honoured http_get "httpGet": Option<HttpGet>,
        /// A TCP connection.
        honoured tcp_socket "tcpSocket": Option<TcpSocket>,
        /// A program in the container.
        honoured exec: Option<Exec>,
        /// A pause.
        honoured sleep: Option<Sleep>,
    }

    /// A pause.
    pub struct Sleep "sleep" {
        /// How long.
        required seconds: Count,
    }

    /// Whose rights a container has.
    pub struct SecurityContext "securityContext" {
        /// The user that it runs as.
        honoured run_as_user "runAsUser": Option<Count>,
        /// The group that it runs as.
        honoured run_as_group "runAsGroup": Option<Count>,
        /// Whether the user must not be root. What stands in for an image is not asked.
        honoured run_as_non_root "runAsNonRoot": Option<bool>,
        /// Whether it has all rights.
        not_here("no container has more rights than others") privileged: bool,
        /// Whether it may get more rights than it begins with; never here.
        honoured allow_privilege_escalation "allowPrivilegeEscalation": Option<bool>,
        /// Whether its root cannot be written.
        unbounded("the root can be written, and is the pod's own")
            read_only_root_filesystem "readOnlyRootFilesystem": bool,
        /// Single rights.
        honoured capabilities: Capabilities,
        /// How `/proc` is mounted.
        unbounded("/proc is the default one") proc_mount "procMount": String,
        /// SELinux.
        unbounded("containers have no SELinux label") se_linux_options "seLinuxOptions": Value,
        /// System calls.
        unbounded("containers have no profile of their own") seccomp_profile "seccompProfile": Value,
        /// AppArmor.
        unbounded("containers have no profile of their own")
            app_armor_profile "appArmorProfile": Value,
        /// Windows.
        later windows_options "windowsOptions": Value,
    }

    /// Single rights of root.
    pub struct Capabilities "capabilities" {
        /// That it has beside those that container runtimes give. They count in the pod's own namespaces;
        /// those that reach further are not given.
        honoured add: Vec<String>,
        /// That it has not; `ALL` are all.
        honoured drop: Vec<String>,
    }
}

words! {
    /// Where a container says why it ended.
    pub enum MessagePolicy {
        /// In a file.
        honoured File = "File",
        /// In its log, if it failed and wrote no file.
        honoured FallbackToLogsOnError = "FallbackToLogsOnError",
    }

    /// When a container that has ended runs again.
    pub enum ContainerRestartPolicy {
        /// Always.
        honoured Always = "Always",
    }

    /// The protocol of a port.
    pub enum PortProtocol {
        /// TCP, which the mesh carries.
        honoured Tcp = "TCP",
        /// UDP.
        honoured Udp = "UDP",
        /// SCTP.
        honoured Sctp = "SCTP",
    }

    /// When an image is fetched; none is.
    pub enum ImagePullPolicy {
        /// Always.
        honoured Always = "Always",
        /// If it is not there.
        honoured IfNotPresent = "IfNotPresent",
        /// Never.
        honoured Never = "Never",
    }

    /// The scheme of a request.
    pub enum ProbeScheme {
        /// In plaintext.
        honoured Http = "HTTP",
        /// By TLS, whose certificate is not checked.
        honoured Https = "HTTPS",
    }
}
