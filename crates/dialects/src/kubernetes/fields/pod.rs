//! Fields of a pod's spec.

use super::{COUNT, ID, not_here, unbounded};
use crate::schema::{Message, TEXT_MAP, TEXTS, Type, honoured, later, required};

use super::container::CONTAINER;
use super::volume::VOLUME;

pub(super) static POD_SPEC: Message = Message {
    name: "the spec of a pod",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("containers", Type::List(&Type::Object(&CONTAINER))),
        honoured("initContainers", Type::List(&Type::Object(&CONTAINER))),
        not_here("ephemeralContainers", Type::Any, "no container joins a running pod"),
        honoured("volumes", Type::List(&Type::Object(&VOLUME))),
        honoured("restartPolicy", Type::Text),
        honoured("terminationGracePeriodSeconds", COUNT),
        honoured("serviceAccountName", Type::Text),
        honoured("serviceAccount", Type::Text),
        honoured("hostname", Type::Text),
        honoured("subdomain", Type::Text),
        honoured("hostAliases", Type::List(&Type::Object(&HOST_ALIAS))),
        honoured("enableServiceLinks", Type::Bool),
        honoured("securityContext", Type::Object(&SECURITY)),
        honoured("nodeName", Type::Text),
        honoured("schedulerName", Type::Text),
        honoured("tolerations", Type::List(&Type::Any)),
        // The host.
        not_here("hostNetwork", Type::Bool, "the pod has a network and an address of its own"),
        not_here("hostPID", Type::Bool, "the pod has processes of its own"),
        not_here("hostIPC", Type::Bool, "the pod has an IPC namespace of its own"),
        honoured("hostUsers", Type::Bool),
        // What changes how the containers run.
        not_here("shareProcessNamespace", Type::Bool, "each container sees its own processes"),
        not_here("activeDeadlineSeconds", COUNT, "the pod runs until it ends or is deleted"),
        not_here("dnsConfig", Type::Any, "names are resolved by the mesh alone"),
        honoured(
            "dnsPolicy",
            Type::Listed {
                all: &["Default", "None"],
                honoured: &["ClusterFirst", "ClusterFirstWithHostNet"],
            },
        ),
        not_here("setHostnameAsFQDN", Type::Bool, "the host name is the short one"),
        not_here("readinessGates", Type::List(&Type::Any), "readiness is that of the containers"),
        not_here("resourceClaims", Type::List(&Type::Any), "there are no devices to claim"),
        unbounded("automountServiceAccountToken", Type::Bool, "no token is mounted"),
        // There is one node, and no image is fetched.
        unbounded("nodeSelector", TEXT_MAP, "there is one node"),
        unbounded("affinity", Type::Any, "there is one node"),
        unbounded("topologySpreadConstraints", Type::List(&Type::Any), "there is one node"),
        unbounded("priorityClassName", Type::Text, "no pod is preempted"),
        unbounded("priority", Type::Number, "no pod is preempted"),
        unbounded("preemptionPolicy", Type::Text, "no pod is preempted"),
        unbounded("schedulingGates", Type::List(&Type::Any), "there is one node"),
        unbounded("runtimeClassName", Type::Text, "there is one way to run containers"),
        unbounded("overhead", Type::Any, "resources are not bounded"),
        unbounded("resources", Type::Any, "resources are not bounded"),
        unbounded("imagePullSecrets", Type::List(&Type::Any), "no image is fetched"),
        unbounded("os", Type::Any, "there is one node"),
    ],
};

static HOST_ALIAS: Message = Message {
    name: "a host alias",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[required("ip", Type::Text), honoured("hostnames", TEXTS)],
};

static SECURITY: Message = Message {
    name: "securityContext",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("runAsUser", ID),
        honoured("runAsGroup", ID),
        unbounded("runAsNonRoot", Type::Bool, "which user an image asks for is not known"),
        unbounded("fsGroup", ID, "volumes belong to the user of the containers"),
        unbounded(
            "fsGroupChangePolicy",
            Type::Text,
            "volumes belong to the user of the containers",
        ),
        unbounded("supplementalGroups", Type::List(&ID), "containers have no further groups"),
        unbounded("supplementalGroupsPolicy", Type::Text, "containers have no further groups"),
        unbounded("seLinuxOptions", Type::Any, "containers have no SELinux label"),
        unbounded("seLinuxChangePolicy", Type::Text, "containers have no SELinux label"),
        unbounded("seccompProfile", Type::Any, "containers have no profile of their own"),
        unbounded("appArmorProfile", Type::Any, "containers have no profile of their own"),
        not_here("sysctls", Type::List(&Type::Any), "the kernel's settings stay as they are"),
        later("windowsOptions", Type::Any),
    ],
};
