//! Labels, annotations and selectors: which keys and values they may have.

use serde_json::Value;

use super::is_subdomain;
use crate::failure::Cause;
use crate::object;

/// Checks labels and annotations of a `metadata` at `path`.
pub(super) fn metadata(metadata: &Value, path: &str, causes: &mut Vec<Cause>) {
    pairs(metadata.get("labels"), &format!("{path}.labels"), causes);
    let annotations = object::map(metadata, "/annotations");
    let mut bytes = 0;
    for (key, value) in annotations.into_iter().flatten() {
        bytes += key.len() + value.as_str().map_or(0, str::len);
        // Letter case does not matter here.
        if !is_qualified(&key.to_ascii_lowercase()) {
            causes.push(Cause::invalid(
                format!("{path}.annotations"),
                &Value::from(&**key),
                KEY_RULE,
            ));
        }
    }
    if bytes > ANNOTATION_BYTES_MAX {
        let message = format!("Too long: must have at most {ANNOTATION_BYTES_MAX} bytes");
        causes.push(Cause { field: format!("{path}.annotations"), message });
    }
}

/// Checks labels, or the labels that a selector asks for. Values that are no texts are refused
/// elsewhere.
pub(super) fn pairs(labels: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.and_then(Value::as_object).into_iter().flatten() {
        if !is_qualified(key) {
            causes.push(Cause::invalid(path, &Value::from(&**key), KEY_RULE));
        } else if value.as_str().is_some_and(|text| !is_value(text)) {
            let field =
                if key.contains(['.', '/']) { path.to_owned() } else { format!("{path}.{key}") };
            causes.push(Cause::invalid(field, value, VALUE_RULE));
        }
    }
}

/// Checks a `metav1.LabelSelector` at `path`.
pub(super) fn selector(selector: &Value, path: &str, causes: &mut Vec<Cause>) {
    pairs(selector.get("matchLabels"), &format!("{path}.matchLabels"), causes);
    for (index, requirement) in object::list(selector, "/matchExpressions").iter().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let key = object::text(requirement, "/key");
        if !is_qualified(key) {
            causes.push(Cause::invalid(format!("{path}.key"), &key.into(), KEY_RULE));
        }
        let values = object::list(requirement, "/values");
        let operator = object::text(requirement, "/operator");
        let wants_values = matches!(operator, "In" | "NotIn");
        if wants_values && values.is_empty() {
            let message =
                format!("Required value: must be specified when `operator` is {operator:?}");
            causes.push(Cause { field: format!("{path}.values"), message });
        } else if !wants_values && !values.is_empty() {
            let message =
                format!("Forbidden: may not be specified when `operator` is {operator:?}");
            causes.push(Cause { field: format!("{path}.values"), message });
        }
        for value in values.iter().filter(|value| value.as_str().is_some_and(|v| !is_value(v))) {
            causes.push(Cause::invalid(format!("{path}.values"), value, VALUE_RULE));
        }
    }
}

/// Whether a key is a qualified name: an optional DNS subdomain and `/`, then a name.
pub(crate) fn is_qualified(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(p, name)| (Some(p), name));
    prefix.is_none_or(is_subdomain) && !name.is_empty() && is_value(name)
}

/// Whether a text is empty, or a name of at most 63 characters.
pub(crate) fn is_value(text: &str) -> bool {
    let alphanumeric = |b: Option<u8>| b.is_none_or(|b| b.is_ascii_alphanumeric());
    text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && alphanumeric(text.bytes().next())
        && alphanumeric(text.bytes().last())
}

/// Bytes of all annotations of an object, as in Kubernetes.
const ANNOTATION_BYTES_MAX: usize = 256 << 10;
pub(crate) const KEY_RULE: &str = "name part must consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName', or 'my.name', or '123-abc'), with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
pub(crate) const VALUE_RULE: &str = "a valid label must be an empty string or consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue', or 'my_value', or '12345')";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_and_values_as_kubernetes_takes_them() {
        for (labels, bad) in [
            (json!({"app": "web", "example.com/tier": "", "a_b": "1.0"}), 0),
            (json!({"app": "a b"}), 1),
            (json!({"app": "-a"}), 1),
            (json!({"app": "x".repeat(64)}), 1),
            (json!({"a b": "x"}), 1),
            (json!({"/app": "x"}), 1),
            (json!({"example.com/": "x"}), 1),
            (json!({"Example.com/a": "x"}), 1),
        ] {
            let mut causes = Vec::new();
            metadata(&json!({"labels": labels}), "metadata", &mut causes);
            assert_eq!(causes.len(), bad, "{labels}: {causes:?}");
        }
        let mut causes = Vec::new();
        metadata(&json!({"annotations": {"Example.com/A": "any text"}}), "metadata", &mut causes);
        assert!(causes.is_empty(), "{causes:?}");
        let expressions = json!([{"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}]);
        selector(&json!({"matchExpressions": expressions}), "spec.selector", &mut causes);
        assert_eq!(causes.len(), 2, "{causes:?}");
    }
}
