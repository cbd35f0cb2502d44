//! Fields of the kinds that pods are made from, as data: the admission check and the findings about
//! what the local platform does not do. What fields there are, and of which types, is Kubernetes'
//! (API reference, v1.30).

use ironmesh_model::{Finding, FindingCode, Severity};

use crate::schema::{
    API_VERSION, Field, KIND, METADATA, Message, STATUS, TEXT_MAP, TEXTS, Type, check, found,
    honoured, required,
};
use crate::{Object, path};

mod container;
mod pod;
mod volume;

/// Checks the metadata of an object of any kind.
pub(crate) fn metadata(object: &Object, findings: &mut Vec<Finding>) {
    check(object, &ANY, findings);
    annotations(object, "metadata", findings);
}

/// Checks an object of a kind whose fields are known here. Returns whether it is one.
pub(crate) fn check_fields(
    object: &Object,
    group: &str,
    kind: &str,
    findings: &mut Vec<Finding>,
) -> bool {
    let message = match (group, kind) {
        ("", "Pod") => &POD,
        ("", "ConfigMap") => &CONFIG_MAP,
        ("", "Secret") => &SECRET,
        ("apps" | "extensions", "Deployment") => &DEPLOYMENT,
        ("apps" | "extensions", "ReplicaSet") => &REPLICA_SET,
        _ => return false,
    };
    check(object, message, findings);
    annotations(object, "spec.template.metadata", findings);
    if is_owned(object) {
        // Its owner has the same fields, and the findings.
        findings.retain(|finding| finding.code.severity() == Severity::Error);
    }
    true
}

fn is_owned(object: &Object) -> bool {
    object.value().pointer("/metadata/ownerReferences/0").is_some()
}

/// Annotations with which Istio's injection is told what ours does not do.
fn annotations(object: &Object, metadata: &str, findings: &mut Vec<Finding>) {
    let pointer = format!("/{}/annotations", metadata.replace('.', "/"));
    let annotations = object.value().pointer(&pointer).and_then(|a| a.as_object());
    for name in annotations.into_iter().flatten().map(|(name, _)| name) {
        let prefix = name.split_once('/').map_or("", |(prefix, _)| prefix);
        let (code, why) = match (prefix, name.as_str()) {
            (_, "sidecar.istio.io/inject" | "sidecar.istio.io/status") => continue,
            ("traffic.sidecar.istio.io", _) => {
                (FindingCode::NotDoneHere, "all traffic of a pod with a sidecar is captured")
            }
            ("proxy.istio.io" | "sidecar.istio.io", _) => {
                (FindingCode::NotDoneHere, "the proxy takes its settings from the mesh alone")
            }
            _ => continue,
        };
        let at = path::field(&format!("{metadata}.annotations"), name);
        findings.push(Finding::new(object.id(), at, code, format!("{name}: {why}")));
    }
}

/// A field that asks for what the local platform does not do.
pub(super) const fn not_here(name: &'static str, of: Type, why: &'static str) -> Field {
    found(name, of, FindingCode::NotDoneHere, why)
}

/// A field that bounds, protects or places containers, which changes nothing for a small mesh on one
/// machine.
pub(super) const fn unbounded(name: &'static str, of: Type, why: &'static str) -> Field {
    found(name, of, FindingCode::NotBoundedHere, why)
}

/// A count that is not negative.
const COUNT: Type = Type::Integer(0, i32::MAX as i64);
/// A count of 1 or more.
const POSITIVE: Type = Type::Integer(1, i32::MAX as i64);
/// A user or group id.
const ID: Type = Type::Integer(0, i32::MAX as i64);
/// A mode of a file, as a decimal number.
const MODE: Type = Type::Integer(0, 0o777);

static ANY: Message = Message {
    name: "the object",
    open: true,
    doc: "",
    protobuf: false,
    fields: &[honoured("metadata", META)],
};

const META: Type = Type::Object(&OBJECT_META);

static OBJECT_META: Message = Message {
    name: "metadata",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("name", Type::Text),
        honoured("generateName", Type::Text),
        honoured("namespace", Type::Text),
        honoured("labels", TEXT_MAP),
        honoured("annotations", TEXT_MAP),
        honoured("finalizers", TEXTS),
        honoured("ownerReferences", Type::List(&Type::Object(&OWNER_REFERENCE))),
        honoured("uid", Type::Text),
        honoured("resourceVersion", Type::Text),
        honoured("generation", Type::Number),
        honoured("creationTimestamp", Type::Text),
        honoured("deletionTimestamp", Type::Text),
        honoured("deletionGracePeriodSeconds", Type::Number),
        honoured("managedFields", Type::Any),
        honoured("selfLink", Type::Text),
        honoured("clusterName", Type::Text),
    ],
};

static OWNER_REFERENCE: Message = Message {
    name: "an owner reference",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        API_VERSION,
        KIND,
        required("name", Type::Text),
        required("uid", Type::Text),
        honoured("controller", Type::Bool),
        honoured("blockOwnerDeletion", Type::Bool),
    ],
};

static POD: Message = Message {
    name: "Pod",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[API_VERSION, KIND, METADATA, required("spec", Type::Object(&pod::POD_SPEC)), STATUS],
};

static DEPLOYMENT: Message = Message {
    name: "Deployment",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        required("spec", Type::Object(&DEPLOYMENT_SPEC)),
        STATUS,
    ],
};

const REPLICAS: Field = honoured("replicas", COUNT);
const SELECTOR: Field = honoured("selector", Type::Object(&LABEL_SELECTOR));
const TEMPLATE: Field = required("template", Type::Object(&POD_TEMPLATE));
const MIN_READY: Field =
    not_here("minReadySeconds", COUNT, "a pod counts as available as soon as it is ready");

static DEPLOYMENT_SPEC: Message = Message {
    name: "Deployment.spec",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        REPLICAS,
        SELECTOR,
        TEMPLATE,
        MIN_READY,
        honoured("strategy", Type::Object(&STRATEGY)),
        honoured("revisionHistoryLimit", COUNT),
        honoured("progressDeadlineSeconds", COUNT),
        honoured("paused", Type::Bool),
        not_here("rollbackTo", Type::Any, "use an older template instead"),
    ],
};

static STRATEGY: Message = Message {
    name: "strategy",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("type", Type::Listed { all: &[], honoured: &["RollingUpdate", "Recreate"] }),
        honoured("rollingUpdate", Type::Object(&ROLLING_UPDATE)),
    ],
};

static ROLLING_UPDATE: Message = Message {
    name: "rollingUpdate",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("maxSurge", Type::IntegerOrText),
        honoured("maxUnavailable", Type::IntegerOrText),
    ],
};

static REPLICA_SET: Message = Message {
    name: "ReplicaSet",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        required("spec", Type::Object(&REPLICA_SET_SPEC)),
        STATUS,
    ],
};

static REPLICA_SET_SPEC: Message = Message {
    name: "ReplicaSet.spec",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[REPLICAS, SELECTOR, TEMPLATE, MIN_READY],
};

static POD_TEMPLATE: Message = Message {
    name: "template",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[honoured("metadata", META), required("spec", Type::Object(&pod::POD_SPEC))],
};

static LABEL_SELECTOR: Message = Message {
    name: "selector",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        honoured("matchLabels", TEXT_MAP),
        honoured("matchExpressions", Type::List(&Type::Object(&REQUIREMENT))),
    ],
};

static REQUIREMENT: Message = Message {
    name: "a requirement of matchExpressions",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        required("key", Type::Text),
        required(
            "operator",
            Type::Listed { all: &[], honoured: &["In", "NotIn", "Exists", "DoesNotExist"] },
        ),
        honoured("values", TEXTS),
    ],
};

static CONFIG_MAP: Message = Message {
    name: "ConfigMap",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        honoured("data", TEXT_MAP),
        honoured("binaryData", TEXT_MAP),
        honoured("immutable", Type::Bool),
    ],
};

static SECRET: Message = Message {
    name: "Secret",
    open: false,
    doc: "",
    protobuf: false,
    fields: &[
        API_VERSION,
        KIND,
        METADATA,
        honoured("data", TEXT_MAP),
        honoured("stringData", TEXT_MAP),
        honoured("type", Type::Text),
        honoured("immutable", Type::Bool),
    ],
};
