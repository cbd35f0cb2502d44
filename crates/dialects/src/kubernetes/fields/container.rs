//! Fields of a container.

use super::{COUNT, ID, POSITIVE, not_here, unbounded};
use crate::schema::{Message, PORT, TEXTS, Type, honoured, later, required};

pub(super) static CONTAINER: Message = Message {
    name: "a container",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("image", Type::Text),
        honoured("command", TEXTS),
        honoured("args", TEXTS),
        honoured("workingDir", Type::Text),
        honoured("ports", Type::List(&Type::Object(&CONTAINER_PORT))),
        honoured("env", Type::List(&Type::Object(&ENV_VAR))),
        honoured("envFrom", Type::List(&Type::Object(&ENV_FROM_SOURCE))),
        honoured("resources", Type::Object(&RESOURCES)),
        unbounded("resizePolicy", Type::Any, "resources are not bounded"),
        // Of init containers only; the admission check refuses it elsewhere.
        honoured("restartPolicy", Type::Listed { all: &[], honoured: &["Always"] }),
        honoured("volumeMounts", Type::List(&Type::Object(&VOLUME_MOUNT))),
        not_here("volumeDevices", Type::Any, "there are no block devices"),
        honoured("livenessProbe", Type::Object(&PROBE)),
        honoured("readinessProbe", Type::Object(&PROBE)),
        honoured("startupProbe", Type::Object(&PROBE)),
        honoured("lifecycle", Type::Object(&HOOKS)),
        honoured("terminationMessagePath", Type::Text),
        honoured("terminationMessagePolicy", Type::Text),
        honoured(
            "imagePullPolicy",
            Type::Listed { all: &[], honoured: &["Always", "IfNotPresent", "Never"] },
        ),
        honoured("securityContext", Type::Object(&SECURITY_CONTEXT)),
        not_here("stdin", Type::Bool, "the standard input is empty"),
        not_here("stdinOnce", Type::Bool, "the standard input is empty"),
        not_here("tty", Type::Bool, "the standard output is a log, no terminal"),
    ],
};

static CONTAINER_PORT: Message = Message {
    name: "a port of a container",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("containerPort", PORT),
        honoured("protocol", Type::Listed { all: &[], honoured: &["TCP", "UDP", "SCTP"] }),
        not_here("hostPort", COUNT, "no port of the host is opened"),
        not_here("hostIP", Type::Text, "no port of the host is opened"),
    ],
};

static ENV_VAR: Message = Message {
    name: "an environment variable",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        required("name", Type::Text),
        honoured("value", Type::Text),
        honoured("valueFrom", Type::Object(&ENV_SOURCE)),
    ],
};

static ENV_SOURCE: Message = Message {
    name: "valueFrom",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("fieldRef", Type::Object(&FIELD_REF)),
        honoured("resourceFieldRef", Type::Object(&RESOURCE_REF)),
        honoured("configMapKeyRef", Type::Object(&KEY_REF)),
        honoured("secretKeyRef", Type::Object(&KEY_REF)),
    ],
};

pub(super) static FIELD_REF: Message = Message {
    name: "fieldRef",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("apiVersion", Type::Text), required("fieldPath", Type::Text)],
};

pub(super) static RESOURCE_REF: Message = Message {
    name: "resourceFieldRef",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("containerName", Type::Text),
        required("resource", Type::Text),
        honoured("divisor", Type::Quantity),
    ],
};

static KEY_REF: Message = Message {
    name: "the reference to a key",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        required("key", Type::Text),
        honoured("optional", Type::Bool),
    ],
};

static ENV_FROM_SOURCE: Message = Message {
    name: "a source of envFrom",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("prefix", Type::Text),
        honoured("configMapRef", Type::Object(&OBJECT_REF)),
        honoured("secretRef", Type::Object(&OBJECT_REF)),
    ],
};

static OBJECT_REF: Message = Message {
    name: "the reference to an object",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("name", Type::Text), honoured("optional", Type::Bool)],
};

static RESOURCES: Message = Message {
    name: "resources",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        // The downward API shows them.
        unbounded("limits", Type::Map(&Type::Quantity), "memory and CPU are not bounded"),
        honoured("requests", Type::Map(&Type::Quantity)),
        not_here("claims", Type::List(&Type::Any), "there are no devices to claim"),
    ],
};

static VOLUME_MOUNT: Message = Message {
    name: "a volume mount",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("mountPath", Type::Text),
        honoured("subPath", Type::Text),
        honoured("subPathExpr", Type::Text),
        honoured("readOnly", Type::Bool),
        unbounded("recursiveReadOnly", Type::Text, "mounts below stay writable"),
        unbounded("mountPropagation", Type::Text, "no mount is passed on"),
    ],
};

static PROBE: Message = Message {
    name: "a probe",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("httpGet", Type::Object(&HTTP_GET)),
        honoured("tcpSocket", Type::Object(&TCP_SOCKET)),
        honoured("exec", Type::Object(&EXEC)),
        honoured("grpc", Type::Object(&GRPC)),
        honoured("initialDelaySeconds", COUNT),
        honoured("periodSeconds", POSITIVE),
        honoured("timeoutSeconds", POSITIVE),
        honoured("successThreshold", POSITIVE),
        honoured("failureThreshold", POSITIVE),
        unbounded(
            "terminationGracePeriodSeconds",
            COUNT,
            "the grace period of the pod holds after a failed probe, too",
        ),
    ],
};

static HTTP_GET: Message = Message {
    name: "httpGet",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("path", Type::Text),
        required("port", Type::IntegerOrText),
        honoured("host", Type::Text),
        honoured("scheme", Type::Listed { all: &[], honoured: &["HTTP", "HTTPS"] }),
        honoured("httpHeaders", Type::List(&Type::Object(&HTTP_HEADER))),
    ],
};

static HTTP_HEADER: Message = Message {
    name: "a header",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[required("name", Type::Text), honoured("value", Type::Text)],
};

static TCP_SOCKET: Message = Message {
    name: "tcpSocket",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[required("port", Type::IntegerOrText), honoured("host", Type::Text)],
};

static EXEC: Message = Message {
    name: "exec",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("command", TEXTS)],
};

static GRPC: Message = Message {
    name: "grpc",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[required("port", PORT), honoured("service", Type::Text)],
};

static HOOKS: Message = Message {
    name: "lifecycle",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("postStart", Type::Object(&HOOK)),
        honoured("preStop", Type::Object(&HOOK)),
        not_here("stopSignal", Type::Text, "a container is ended by SIGTERM"),
    ],
};

static HOOK: Message = Message {
    name: "a hook",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("httpGet", Type::Object(&HTTP_GET)),
        honoured("tcpSocket", Type::Object(&TCP_SOCKET)),
        honoured("exec", Type::Object(&EXEC)),
        honoured("sleep", Type::Object(&SLEEP)),
    ],
};

static SLEEP: Message = Message {
    name: "sleep",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[required("seconds", COUNT)],
};

static SECURITY_CONTEXT: Message = Message {
    name: "securityContext",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("runAsUser", ID),
        honoured("runAsGroup", ID),
        unbounded("runAsNonRoot", Type::Bool, "which user an image asks for is not known"),
        not_here("privileged", Type::Bool, "no container has more rights than others"),
        honoured("allowPrivilegeEscalation", Type::Bool),
        unbounded(
            "readOnlyRootFilesystem",
            Type::Bool,
            "the root can be written, and is the pod's own",
        ),
        honoured("capabilities", Type::Object(&CAPABILITIES)),
        unbounded("procMount", Type::Text, "/proc is the default one"),
        unbounded("seLinuxOptions", Type::Any, "containers have no SELinux label"),
        unbounded("seccompProfile", Type::Any, "containers have no profile of their own"),
        unbounded("appArmorProfile", Type::Any, "containers have no profile of their own"),
        later("windowsOptions", Type::Any),
    ],
};

static CAPABILITIES: Message = Message {
    name: "capabilities",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        not_here("add", TEXTS, "all containers have the same capabilities"),
        unbounded("drop", TEXTS, "all containers have the same capabilities"),
    ],
};
