//! The form of `Ingress` before v1 (`extensions/v1beta1`, `networking.k8s.io/v1beta1`).

use serde_json::{Map, Value, json};

/// Makes an Ingress of an older version one of v1.
pub(crate) fn old_ingress(object: &mut Value) {
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return };
    if let Some(default) = spec.remove("backend") {
        spec.entry("defaultBackend").or_insert(default);
    }
    backends(spec, "defaultBackend", backend);
    for path in paths(spec) {
        path.entry("pathType").or_insert_with(|| "ImplementationSpecific".into());
    }
}

/// Makes an Ingress of v1 one of the versions before.
pub(crate) fn as_old_ingress(object: &mut Value) {
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return };
    if let Some(default) = spec.remove("defaultBackend") {
        spec.insert("backend".to_owned(), default);
    }
    backends(spec, "backend", old_backend);
}

/// Changes all backends; `default` is the field of the one for what no rule matches.
fn backends(spec: &mut Map<String, Value>, default: &str, change: fn(&mut Value)) {
    spec.get_mut(default).into_iter().for_each(change);
    paths(spec).filter_map(|path| path.get_mut("backend")).for_each(change);
}

fn paths(spec: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
    let paths = rules.filter_map(|rule| rule.pointer_mut("/http/paths")?.as_array_mut()).flatten();
    paths.filter_map(Value::as_object_mut)
}

/// `{serviceName, servicePort}` to `{service: {name, port: {number} or {name}}}`.
fn backend(given: &mut Value) {
    let Some(given) = given.as_object_mut() else { return };
    let (name, port) = (given.remove("serviceName"), given.remove("servicePort"));
    if name.is_none() && port.is_none() {
        return;
    }
    let port = match port {
        Some(Value::String(text)) => match text.parse::<u16>() {
            Ok(number) => json!({"number": number}),
            Err(_) => json!({"name": text}),
        },
        Some(number) => json!({"number": number}),
        None => Value::Object(Map::new()),
    };
    let mut service = Map::new();
    service.extend(name.map(|name| ("name".to_owned(), name)));
    service.insert("port".to_owned(), port);
    given.insert("service".to_owned(), service.into());
}

/// `{service: {name, port}}` to `{serviceName, servicePort}`.
fn old_backend(given: &mut Value) {
    let Some(given) = given.as_object_mut() else { return };
    let Some(Value::Object(mut service)) = given.remove("service") else { return };
    if let Some(name) = service.remove("name") {
        given.insert("serviceName".to_owned(), name);
    }
    let port = service.get_mut("port").and_then(Value::as_object_mut);
    if let Some(port) = port.and_then(|port| port.remove("number").or_else(|| port.remove("name")))
    {
        given.insert("servicePort".to_owned(), port);
    }
}
