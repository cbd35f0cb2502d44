//! Labels, annotations and selectors: which keys and values they may have.

use ironmesh_dialects::kubernetes::kinds::{LabelSelector, ObjectMeta, Operator};
use ironmesh_dialects::schema::{Entries, Fields};

use super::is_subdomain;
use crate::failure::Cause;

/// Checks labels and annotations of a `metadata` at `path`.
pub(super) fn metadata(metadata: Fields<'_, ObjectMeta>, path: &str, causes: &mut Vec<Cause>) {
    pairs(metadata.labels(), &format!("{path}.labels"), causes);
    let mut bytes = 0;
    for (key, value) in metadata.annotations().iter() {
        bytes += key.len() + value.len();
        // Letter case does not matter here.
        if !is_qualified(&key.to_ascii_lowercase()) {
            causes.push(Cause::invalid(format!("{path}.annotations"), &key.into(), KEY_RULE));
        }
    }
    if bytes > ANNOTATION_BYTES_MAX {
        let message = format!("Too long: must have at most {ANNOTATION_BYTES_MAX} bytes");
        causes.push(Cause { field: format!("{path}.annotations"), message });
    }
}

/// Checks labels, or the labels that a selector asks for.
pub(super) fn pairs(labels: Entries<'_, String>, path: &str, causes: &mut Vec<Cause>) {
    for (key, value) in labels.iter() {
        if !is_qualified(key) {
            causes.push(Cause::invalid(path, &key.into(), KEY_RULE));
        } else if !is_value(value) {
            let field =
                if key.contains(['.', '/']) { path.to_owned() } else { format!("{path}.{key}") };
            causes.push(Cause::invalid(field, &value.into(), VALUE_RULE));
        }
    }
}

/// Checks a `metav1.LabelSelector` at `path`.
pub(super) fn selector(selector: Fields<'_, LabelSelector>, path: &str, causes: &mut Vec<Cause>) {
    pairs(selector.match_labels(), &format!("{path}.matchLabels"), causes);
    for (index, requirement) in selector.match_expressions().enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let key = requirement.key();
        if !is_qualified(key) {
            causes.push(Cause::invalid(format!("{path}.key"), &key.into(), KEY_RULE));
        }
        let values = requirement.values();
        let wants_values = matches!(requirement.operator(), Operator::In | Operator::NotIn);
        let operator = requirement.operator().word();
        if wants_values && values.len() == 0 {
            let message =
                format!("Required value: must be specified when `operator` is {operator:?}");
            causes.push(Cause { field: format!("{path}.values"), message });
        } else if !wants_values && values.len() > 0 {
            let message =
                format!("Forbidden: may not be specified when `operator` is {operator:?}");
            causes.push(Cause { field: format!("{path}.values"), message });
        }
        for value in values.filter(|value| !is_value(value)) {
            causes.push(Cause::invalid(format!("{path}.values"), &value.into(), VALUE_RULE));
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
            let object = json!({"labels": labels});
            metadata(ObjectMeta::of(&object), "metadata", &mut causes);
            assert_eq!(causes.len(), bad, "{labels}: {causes:?}");
        }
        let mut causes = Vec::new();
        let annotated = json!({"annotations": {"Example.com/A": "any text"}});
        metadata(ObjectMeta::of(&annotated), "metadata", &mut causes);
        assert!(causes.is_empty(), "{causes:?}");
        let expressions = json!([{"key": "a", "operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}]);
        let wrong = json!({"matchExpressions": expressions});
        selector(LabelSelector::of(&wrong), "spec.selector", &mut causes);
        assert_eq!(causes.len(), 2, "{causes:?}");
    }
}
