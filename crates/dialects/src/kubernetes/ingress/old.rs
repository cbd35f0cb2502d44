//! The form of `Ingress` before v1 (`extensions/v1beta1`, `networking.k8s.io/v1beta1`).

use serde_json::{Map, Value, json};

/// Makes an Ingress of an older version one of v1.
pub(crate) fn old_ingress(object: &mut Value) {
    let Some(Value::Object(spec)) = object.get_mut("spec") else { return };
    if let Some(backend) = spec.remove("backend") {
        spec.entry("defaultBackend").or_insert(backend);
    }
    let default = spec.get_mut("defaultBackend").into_iter();
    default.for_each(backend);
    let rules = spec.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten();
    let paths = rules.filter_map(|rule| rule.pointer_mut("/http/paths")?.as_array_mut()).flatten();
    for path in paths.filter_map(Value::as_object_mut) {
        path.get_mut("backend").into_iter().for_each(backend);
        path.entry("pathType").or_insert_with(|| "ImplementationSpecific".into());
    }
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
