//! Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and the part of Kubernetes'
//! strategic merge patch that clients use. Pure functions.

use serde_json::{Map, Value};

use crate::api::lists::{merge_keys, set_order};

/// A patch that does not fit the object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It is not of the form that its type needs.
    #[error("the patch is not valid: {0}")]
    Form(String),
    /// It names what is not there.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Path(String),
}

/// Applies a JSON merge patch.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Some(target) = target.as_object_mut() {
                target.shift_remove(key);
            }
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// Applies a strategic merge patch: as a merge patch, but lists of named things are merged by
/// their key, `$patch: delete` and `$patch: replace` act on what holds them, and
/// `$deleteFromPrimitiveList`, `$retainKeys` and `$setElementOrder` are understood.
pub(crate) fn strategic_merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if fields.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(without_directives(fields));
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    if let Some(Value::Array(kept)) = fields.get("$retainKeys") {
        object.retain(|key, _| kept.iter().any(|k| k == key.as_str()));
    }
    for (key, value) in fields {
        if let Some(list) = key.strip_prefix("$deleteFromPrimitiveList/") {
            delete_from_primitives(object, list, value);
        } else if key.starts_with('$') {
            // Other directives order things or were handled above.
        } else if value.is_null() || is_deletion(value) {
            object.shift_remove(key);
        } else {
            merge_field(object.entry(key.clone()).or_insert(Value::Null), key, value);
        }
    }
    for (key, order) in fields {
        if let (Some(list), Value::Array(order)) = (key.strip_prefix("$setElementOrder/"), order)
            && let Some(items) = object.get_mut(list).and_then(Value::as_array_mut)
        {
            set_order(items, order, merge_keys(list).unwrap_or_default());
        }
    }
}

fn merge_field(target: &mut Value, key: &str, patch: &Value) {
    match (patch, merge_keys(key)) {
        (Value::Array(items), Some(keys)) => merge_list(target, items, keys),
        (Value::Array(items), None) if PRIMITIVE_SETS.contains(&key) => {
            let mut all = target.as_array().cloned().unwrap_or_default();
            all.extend(
                items.iter().filter(|item| !all.contains(item)).cloned().collect::<Vec<_>>(),
            );
            *target = Value::Array(all);
        }
        (Value::Object(_), _) => strategic_merge(target, patch),
        _ => *target = patch.clone(),
    }
}

/// Merges the items of a list by the first of `keys` that an item has.
fn merge_list(target: &mut Value, patch: &[Value], keys: &[&str]) {
    if patch.iter().any(|item| item.get("$patch").and_then(Value::as_str) == Some("replace")) {
        let kept = patch.iter().filter(|item| item.get("$patch").is_none());
        *target = kept.cloned().collect();
        return;
    }
    let mut items = target.as_array().cloned().unwrap_or_default();
    for change in patch {
        let key = keys.iter().find(|key| change.get(**key).is_some());
        let same = |item: &&mut Value| key.is_some_and(|key| item.get(*key) == change.get(*key));
        if is_deletion(change) {
            items.retain(|item| key.is_none_or(|key| item.get(*key) != change.get(*key)));
        } else if let Some(item) = items.iter_mut().find(same) {
            strategic_merge(item, change);
        } else {
            items.push(change.clone());
        }
    }
    *target = Value::Array(items);
}

fn is_deletion(value: &Value) -> bool {
    value.get("$patch").and_then(Value::as_str) == Some("delete")
}

fn without_directives(fields: &Map<String, Value>) -> Map<String, Value> {
    fields
        .iter()
        .filter(|(key, _)| !key.starts_with('$'))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn delete_from_primitives(object: &mut Map<String, Value>, list: &str, gone: &Value) {
    let Some(gone) = gone.as_array() else { return };
    if let Some(Value::Array(items)) = object.get_mut(list) {
        items.retain(|item| !gone.contains(item));
    }
}

/// Applies a JSON patch.
///
/// # Errors
///
/// If it is none, names a path that is not there, or a `test` fails.
pub(crate) fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Error> {
    let operations = patch.as_array().ok_or_else(|| Error::Form("it is no list".to_owned()))?;
    for operation in operations {
        let field = |name: &str| {
            let text = operation.get(name).and_then(Value::as_str);
            text.ok_or_else(|| Error::Form(format!("an operation has no {name:?}")))
        };
        let path = field("path")?;
        let value = || {
            let value = operation.get("value").cloned();
            value.ok_or_else(|| Error::Form(format!("the operation at {path:?} has no value")))
        };
        match field("op")? {
            "add" => add(target, path, value()?)?,
            "remove" => drop(remove(target, path)?),
            "replace" => {
                let there = target.pointer_mut(path).ok_or_else(|| missing(path))?;
                *there = value()?;
            }
            "move" => {
                let moved = remove(target, field("from")?)?;
                add(target, path, moved)?;
            }
            "copy" => {
                let from = field("from")?;
                let copied = target.pointer(from).cloned().ok_or_else(|| missing(from))?;
                add(target, path, copied)?;
            }
            "test" if target.pointer(path) == Some(&value()?) => {}
            "test" => return Err(Error::Path(format!("testing value {path} failed"))),
            other => return Err(Error::Form(format!("there is no operation {other:?}"))),
        }
    }
    Ok(())
}

fn add(target: &mut Value, path: &str, value: Value) -> Result<(), Error> {
    let Some((parent, last)) = path.rsplit_once('/') else {
        *target = value;
        return Ok(());
    };
    let last = last.replace("~1", "/").replace("~0", "~");
    match target.pointer_mut(parent).ok_or_else(|| missing(path))? {
        Value::Object(fields) => {
            fields.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = last.parse().ok().filter(|at| *at <= items.len());
            items.insert(at.ok_or_else(|| missing(path))?, value);
        }
        _ => return Err(missing(path)),
    }
    Ok(())
}

fn remove(target: &mut Value, path: &str) -> Result<Value, Error> {
    let (parent, last) = path.rsplit_once('/').ok_or_else(|| missing(path))?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let removed = match target.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.shift_remove(&last),
        Some(Value::Array(items)) => {
            last.parse().ok().filter(|at| *at < items.len()).map(|at: usize| items.remove(at))
        }
        _ => None,
    };
    removed.ok_or_else(|| missing(path))
}

fn missing(path: &str) -> Error {
    Error::Path(format!("path {path:?} is not there"))
}

/// Lists of plain values that Kubernetes merges (`patchStrategy: merge` without a key).
const PRIMITIVE_SETS: &[&str] = &["finalizers"];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_of_the_rfc() {
        for (target, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut result = target;
            merge(&mut result, &patch);
            assert_eq!(result, expected, "{patch}");
        }
    }

    #[test]
    fn strategic_merge_knows_containers_ports_and_env() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "a", "image": "old", "env": [{"name": "X", "value": "1"}]},
            {"name": "b", "image": "keep"},
        ], "tolerations": [1]}});
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [
                {"name": "a", "image": "new", "env": [{"name": "Y", "value": "2"}]},
                {"name": "c", "image": "added"},
                {"name": "b", "$patch": "delete"},
            ],
            "tolerations": [2],
        }});
        strategic_merge(&mut pod, &patch);
        let expected = json!({"spec": {"containers": [
            {"name": "a", "image": "new", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]},
            {"name": "c", "image": "added"},
        ], "tolerations": [2]}});
        assert_eq!(pod, expected);
    }

    #[test]
    fn strategic_merge_keeps_the_order_asked_for() {
        let list = |names: &str| -> Value {
            names.chars().map(|name| json!({"name": name.to_string()})).collect()
        };
        for (there, added, order, expected) in
            [("ab", "c", "cab", "cab"), ("abx", "c", "cba", "cbxa"), ("xab", "", "ba", "xba")]
        {
            let mut spec = json!({"env": list(there)});
            strategic_merge(
                &mut spec,
                &json!({"$setElementOrder/env": list(order), "env": list(added)}),
            );
            assert_eq!(spec["env"], list(expected), "{there} {added} {order}");
        }
    }

    #[test]
    fn json_patch_adds_moves_and_tests() {
        let mut target = json!({"a": {"b": [1, 2]}, "x/y": 1});
        let patch = json!([
            {"op": "test", "path": "/a/b/0", "value": 1},
            {"op": "add", "path": "/a/b/-", "value": 3},
            {"op": "replace", "path": "/a/b/0", "value": 0},
            {"op": "move", "from": "/x~1y", "path": "/a/c"},
        ]);
        json_patch(&mut target, &patch).unwrap();
        assert_eq!(target, json!({"a": {"b": [0, 2, 3], "c": 1}}));
        let whole = json!([{"op": "replace", "path": "", "value": {"all": "new"}}]);
        json_patch(&mut target, &whole).unwrap();
        assert_eq!(target, json!({"all": "new"}));
        let bad = json!([{"op": "remove", "path": "/nothing"}]);
        assert!(json_patch(&mut target, &bad).is_err());
    }
}
