//! Reading and writing the parts that all Kubernetes objects share. Objects stay JSON values, so
//! that nothing that was sent is lost.

use serde_json::{Map, Value, json};

/// An object as it was sent, with the fields that the server sets.
pub(crate) type Object = Value;

/// The text at a JSON pointer; empty if there is none.
pub(crate) fn text<'a>(object: &'a Object, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The whole number at a JSON pointer.
pub(crate) fn number(object: &Object, pointer: &str) -> Option<i64> {
    object.pointer(pointer).and_then(Value::as_i64)
}

/// The list at a JSON pointer; empty if there is none.
pub(crate) fn list<'a>(object: &'a Object, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The map at a JSON pointer.
pub(crate) fn map<'a>(object: &'a Object, pointer: &str) -> Option<&'a Map<String, Value>> {
    object.pointer(pointer).and_then(Value::as_object)
}

/// Levels of nesting: 0 for what is no list or map.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Values in a value, itself included.
pub(crate) fn items(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(items).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(items).sum::<usize>(),
        _ => 1,
    }
}

/// Bytes of a value as JSON; where they are more than `most`, some number above it.
pub(crate) fn bytes_up_to(value: &Value, most: usize) -> usize {
    struct Counter {
        bytes: usize,
        most: usize,
    }
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.bytes += bytes.len();
            if self.bytes > self.most {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter { bytes: 0, most };
    // It fails only where counting is to stop.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.bytes
}

/// `metadata.name`.
pub(crate) fn name(object: &Object) -> &str {
    text(object, "/metadata/name")
}

/// `metadata.namespace`; empty for objects of the cluster.
pub(crate) fn namespace(object: &Object) -> &str {
    text(object, "/metadata/namespace")
}

/// `metadata.uid`.
pub(crate) fn uid(object: &Object) -> &str {
    text(object, "/metadata/uid")
}

/// One label.
pub(crate) fn label<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    map(object, "/metadata/labels")?.get(key)?.as_str()
}

/// One annotation.
pub(crate) fn annotation<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    map(object, "/metadata/annotations")?.get(key)?.as_str()
}

/// Whether the object is on its way out.
pub(crate) fn is_terminating(object: &Object) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The owner that acts on the object (`controller: true`).
pub(crate) fn controller(object: &Object) -> Option<&Value> {
    list(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Whether the owner with this uid acts on the object.
pub(crate) fn is_controlled_by(object: &Object, owner_uid: &str) -> bool {
    controller(object).is_some_and(|owner| text(owner, "/uid") == owner_uid)
}

/// The reference with which dependents name their controlling owner.
pub(crate) fn owner_reference(owner: &Object) -> Value {
    json!({
        "apiVersion": text(owner, "/apiVersion"),
        "kind": text(owner, "/kind"),
        "name": name(owner),
        "uid": uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The map under a key of `parent`, made if it is not there or is no map.
pub(crate) fn entry<'a>(parent: &'a mut Value, key: &str) -> &'a mut Value {
    if !parent.is_object() {
        *parent = json!({});
    }
    let child = &mut parent[key];
    if !child.is_object() {
        *child = json!({});
    }
    child
}

/// `metadata`, made if it is not there.
pub(crate) fn metadata_mut(object: &mut Object) -> &mut Value {
    entry(object, "metadata")
}

/// Sets `key` of `parent` unless it is there already.
pub(crate) fn set_default(parent: &mut Value, key: &str, value: impl Into<Value>) {
    if parent.get(key).is_none_or(Value::is_null) {
        parent[key] = value.into();
    }
}

/// Whether a condition of the status is `True`.
pub(crate) fn has_condition(object: &Object, condition: &str) -> bool {
    list(object, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == condition && text(c, "/status") == "True")
}

/// The port of a pod to which a port of a Service leads; none if it names one that no container has.
pub(crate) fn target_port(service_port: &Value, pod: &Object) -> Option<i64> {
    let own = number(service_port, "/port");
    match service_port.get("targetPort") {
        None | Some(Value::Null) => own,
        Some(Value::String(name)) if name.is_empty() => own,
        Some(Value::String(name)) => name.parse().ok().or_else(|| {
            list(pod, "/spec/containers")
                .iter()
                .flat_map(|container| list(container, "/ports"))
                .find(|port| text(port, "/name") == name)
                .and_then(|port| number(port, "/containerPort"))
        }),
        Some(target) => target.as_i64().filter(|n| *n != 0).or(own),
    }
}

/// Whether a pod takes requests: ready, and not on its way out.
pub(crate) fn is_ready_pod(pod: &Object) -> bool {
    !is_terminating(pod) && has_condition(pod, "Ready")
}

/// Whether a pod has ended for good.
pub(crate) fn is_finished_pod(pod: &Object) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

/// Levels of nesting that an object may have: with what stands around it in a journal or a list, all
/// readers of JSON still take it (theirs end at 128).
pub(crate) const DEPTH_MAX: usize = 100;
