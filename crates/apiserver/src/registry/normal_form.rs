//! One form for what Kubernetes takes in several: old API versions, and the ways to write that a
//! field is not set (`null`, the empty text, 0), which Go decodes as one. Pure functions; fields of
//! wrong types stay as they are, to be refused.

use ironmesh_dialects::kinds::Resource;
use serde_json::Value;

use crate::object::{self, Object};

/// Writes an object in the form of today.
pub(crate) fn normalize(resource: &Resource, object: &mut Object) {
    empty_texts(object, &["/metadata/labels", "/metadata/annotations"]);
    if matches!((&*resource.group, &*resource.plural), ("", "configmaps" | "secrets")) {
        empty_texts(object, &["/data", "/binaryData", "/stringData"]);
    }
    // That the form is old, whoever sent it says: the store has the new form alone.
    drop(ironmesh_dialects::object::normalize(object));
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => {
            if let Some(spec) = object.get_mut("spec") {
                pod_spec(spec);
            }
        }
        ("", "services") => service(object),
        ("apps" | "batch", _) => workload(object),
        _ => {}
    }
}

fn workload(object: &mut Object) {
    empty_texts(
        object,
        &[
            "/spec/selector/matchLabels",
            "/spec/template/metadata/labels",
            "/spec/template/metadata/annotations",
        ],
    );
    if let Some(strategy) = object.pointer_mut("/spec/strategy") {
        unset(strategy, &["type"]);
    }
    if let Some(spec) = object.pointer_mut("/spec/template/spec") {
        pod_spec(spec);
    }
}

fn service(object: &mut Object) {
    empty_texts(object, &["/spec/selector"]);
    let Some(spec) = object.get_mut("spec") else { return };
    unset(spec, &["type", "sessionAffinity"]);
    for port in items(spec, "ports") {
        unset(port, &["protocol"]);
    }
}

fn pod_spec(spec: &mut Value) {
    unset(spec, &["restartPolicy", "dnsPolicy", "schedulerName"]);
    empty_texts(spec, &["/nodeSelector"]);
    if object::number(spec, "/terminationGracePeriodSeconds").is_some_and(|n| n < 0) {
        spec["terminationGracePeriodSeconds"] = 1.into();
    }
    for list in ["initContainers", "containers"] {
        items(spec, list).for_each(container);
    }
}

fn container(container: &mut Value) {
    unset(container, &["imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy"]);
    for port in items(container, "ports") {
        unset(port, &["protocol"]);
    }
    for amounts in ["/resources/limits", "/resources/requests"] {
        if let Some(amounts) = container.pointer_mut(amounts).and_then(Value::as_object_mut) {
            amounts.retain(|_, amount| !amount.is_null());
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe) {
            let counts =
                ["timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
            unset(probe, &counts);
            http_get(probe);
        }
    }
    for hook in ["/lifecycle/postStart", "/lifecycle/preStop"] {
        container.pointer_mut(hook).into_iter().for_each(http_get);
    }
}

fn http_get(handler: &mut Value) {
    if let Some(http) = handler.get_mut("httpGet") {
        unset(http, &["path", "scheme"]);
    }
}

/// Removes those of the fields that hold the empty text or 0.
fn unset(parent: &mut Value, names: &[&str]) {
    let Some(fields) = parent.as_object_mut() else { return };
    fields.retain(|name, value| {
        let is_unset = *value == "" || value.as_i64() == Some(0);
        !(is_unset && names.contains(&name.as_str()))
    });
}

/// In maps of texts, `null` is the empty text.
fn empty_texts(parent: &mut Value, maps: &[&str]) {
    for map in maps {
        let map = parent.pointer_mut(map).and_then(Value::as_object_mut);
        for (_, value) in map.into_iter().flatten() {
            if value.is_null() {
                *value = "".into();
            }
        }
    }
}

fn items<'a>(parent: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> + use<'a> {
    parent.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}
