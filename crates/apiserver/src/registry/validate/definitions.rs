//! CustomResourceDefinitions: what they call their kind becomes paths and words of clients.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{LABEL_RULE, SUBDOMAIN_RULE, is_label, is_subdomain};
use crate::failure::Cause;
use crate::object::{self, Object};

/// Checks a definition.
pub(super) fn definition(definition: &Object, causes: &mut Vec<Cause>) {
    let text = |pointer: &str| object::text(definition, pointer);
    let group = text("/spec/group");
    if !is_subdomain(group) || !group.contains('.') {
        let why = "should be a domain with at least one dot";
        let why = if is_subdomain(group) { why } else { SUBDOMAIN_RULE };
        causes.push(Cause::invalid("spec.group", &group.into(), why));
    }
    let (kind, plural) = (text("/spec/names/kind"), text("/spec/names/plural"));
    if !is_label(&kind.to_ascii_lowercase()) {
        let why = "may have mixed case, but should otherwise match a DNS label";
        causes.push(Cause::invalid("spec.names.kind", &kind.into(), why));
    }
    let spec = &definition["spec"];
    let list = |of: &Value| of.as_array().into_iter().flatten().cloned().collect::<Vec<_>>();
    let mut labels = vec![("spec.names.plural".to_owned(), plural.into())];
    let singular = &spec["names"]["singular"];
    if !singular.is_null() && singular != "" {
        labels.push(("spec.names.singular".to_owned(), singular.clone()));
    }
    for (index, short) in list(&spec["names"]["shortNames"]).into_iter().enumerate() {
        labels.push((format!("spec.names.shortNames[{index}]"), short));
    }
    versions(definition, &mut labels, causes);
    for (field, value) in labels {
        if !value.as_str().is_some_and(is_label) {
            causes.push(Cause::invalid(field, &value, LABEL_RULE));
        }
    }
    if !matches!(text("/spec/scope"), "" | "Namespaced" | "Cluster") {
        let why = "must be Namespaced or Cluster";
        causes.push(Cause::invalid("spec.scope", &spec["scope"], why));
    }
    let (name, expected) = (object::name(definition), format!("{plural}.{group}"));
    if name != expected {
        let why = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &name.into(), why));
    }
}

/// Checks the versions of a definition: each has a name, one is stored.
fn versions(definition: &Object, labels: &mut Vec<(String, Value)>, causes: &mut Vec<Cause>) {
    let versions = object::list(definition, "/spec/versions");
    if versions.is_empty() {
        // As v1beta1 had it.
        labels.push(("spec.version".to_owned(), definition["spec"]["version"].clone()));
        return;
    }
    let mut names = BTreeSet::new();
    for (index, version) in versions.iter().enumerate() {
        let field = format!("spec.versions[{index}].name");
        if !names.insert(version["name"].as_str()) {
            let message = format!("Duplicate value: {}", version["name"]);
            causes.push(Cause { field: field.clone(), message });
        }
        labels.push((field, version["name"].clone()));
    }
    if versions.iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        let names = names.into_iter().flatten().collect::<Vec<_>>().join(", ");
        causes.push(Cause::invalid("spec.versions", &names.into(), why));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(change: impl Fn(&mut Value)) -> Vec<String> {
        let mut widget = json!({
            "metadata": {"name": "widgets.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"kind": "Widget", "plural": "widgets", "shortNames": ["wd"]},
                "versions": [{"name": "v1", "served": true, "storage": true}],
            },
        });
        change(&mut widget);
        let mut causes = Vec::new();
        definition(&widget, &mut causes);
        causes.into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn what_becomes_a_path_is_a_name() {
        assert_eq!(refused(|_| {}), [""; 0]);
        let old = |widget: &mut Value| {
            widget["spec"]["versions"] = Value::Null;
            widget["spec"]["version"] = "v1".into();
        };
        assert_eq!(refused(old), [""; 0]);
        for (pointer, value, expected) in [
            ("/spec/names/plural", json!("../pods"), vec!["spec.names.plural", "metadata.name"]),
            ("/spec/names/shortNames/0", json!("a b"), vec!["spec.names.shortNames[0]"]),
            ("/spec/names/kind", json!("A/B"), vec!["spec.names.kind"]),
            ("/spec/group", json!("example"), vec!["spec.group", "metadata.name"]),
            ("/spec/group", json!(7), vec!["spec.group", "metadata.name"]),
            ("/spec/scope", json!("World"), vec!["spec.scope"]),
            ("/spec/versions/0/name", json!("v/1"), vec!["spec.versions[0].name"]),
            ("/spec/versions/0/storage", json!(false), vec!["spec.versions"]),
            ("/spec/versions", json!([]), vec!["spec.version"]),
            ("/metadata/name", json!("other"), vec!["metadata.name"]),
        ] {
            let change = |widget: &mut Value| *widget.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(refused(change), expected, "{pointer}");
        }
    }
}
