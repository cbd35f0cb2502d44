//! Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and the part of Kubernetes'
//! strategic merge patch that clients use. Pure functions.

use std::collections::{HashMap, HashSet};

use json_patch::PatchOperation;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::lists::{merge_keys, set_order};
use crate::object;

/// A patch that does not fit the object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It is not of the form that its type needs.
    #[error("the patch is not valid: {0}")]
    Form(String),
    /// It names what is not there.
    #[error("the server rejected our request due to an error in our request: {0}")]
    Path(String),
    /// It would do more than a patch may.
    #[error("the patch is too large: {0}")]
    TooLarge(String),
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
            let there: HashSet<Value> = all.iter().cloned().collect();
            all.extend(items.iter().filter(|item| !there.contains(*item)).cloned());
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
    let mut items: Vec<Option<Value>> =
        target.as_array().into_iter().flatten().cloned().map(Some).collect();
    // The places of items by each of their keys: lists may be long.
    let mut places: HashMap<(&str, Value), Vec<usize>> = HashMap::new();
    let keys_of = |item: &Value| -> Vec<(&str, Value)> {
        keys.iter().filter_map(|key| Some((*key, item.get(*key)?.clone()))).collect()
    };
    for (at, item) in items.iter().flatten().enumerate() {
        for key in keys_of(item) {
            places.entry(key).or_default().push(at);
        }
    }
    for change in patch {
        let key = keys.iter().find_map(|key| Some((*key, change.get(*key)?.clone())));
        let same = key.and_then(|key| places.get_mut(&key));
        match (same, is_deletion(change)) {
            (Some(same), true) => {
                for at in std::mem::take(same) {
                    items[at] = None;
                }
            }
            (None, true) => {}
            (Some(same), false)
                if let Some(item) = same.iter().find_map(|at| items[*at].as_ref().map(|_| *at)) =>
            {
                if let Some(item) = &mut items[item] {
                    strategic_merge(item, change);
                }
            }
            (_, false) => {
                for key in keys_of(change) {
                    places.entry(key).or_default().push(items.len());
                }
                items.push(Some(change.clone()));
            }
        }
    }
    *target = items.into_iter().flatten().collect();
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
        let gone: HashSet<&Value> = gone.iter().collect();
        items.retain(|item| !gone.contains(item));
    }
}

/// Applies a JSON patch. What it may cost is bounded: the number of operations, the bytes that it
/// copies, the depth that it makes, and the items that it moves.
///
/// # Errors
///
/// If it is none, names a path that is not there, a `test` fails, or a bound is reached; then the
/// target may be half changed.
pub(crate) fn json_patch(target: &mut Value, patch: &Value, bytes_max: usize) -> Result<(), Error> {
    let operations =
        json_patch::Patch::deserialize(patch).map_err(|error| Error::Form(error.to_string()))?.0;
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        return Err(Error::TooLarge(format!(
            "it has {count} operations; at most {OPERATIONS_MAX} are allowed"
        )));
    }
    let mut budget = Budget { copied_bytes: bytes_max, items: ITEMS_MAX };
    for operation in &operations {
        budget.charge(target, operation)?;
        json_patch::patch_unsafe(target, std::slice::from_ref(operation))
            .map_err(|error| Error::Path(error.to_string()))?;
    }
    Ok(())
}

/// What a JSON patch may still do.
struct Budget {
    copied_bytes: usize,
    items: usize,
}

impl Budget {
    /// Charges for an operation before it is done.
    fn charge(&mut self, target: &Value, operation: &PatchOperation) -> Result<(), Error> {
        let (path, moved) = match operation {
            PatchOperation::Add(add) => (&add.path, Some(&add.value)),
            PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
            PatchOperation::Remove(remove) => (&remove.path, None),
            PatchOperation::Move(from) => {
                self.shift(target, from.from.as_str())?;
                (&from.path, target.pointer(from.from.as_str()))
            }
            PatchOperation::Copy(copy) => {
                let copied = target.pointer(copy.from.as_str());
                let bytes =
                    copied.map_or(0, |copied| object::bytes_up_to(copied, self.copied_bytes));
                self.copied_bytes = self.copied_bytes.checked_sub(bytes).ok_or_else(|| {
                    Error::TooLarge("it copies more than an object may hold".to_owned())
                })?;
                (&copy.path, copied)
            }
            PatchOperation::Test(_) => return Ok(()),
        };
        self.shift(target, path.as_str())?;
        let depth = match moved {
            Some(value) => {
                self.spend(object::items(value))?;
                path.tokens().count() + object::depth(value)
            }
            None => 0,
        };
        if depth > object::DEPTH_MAX {
            let most = object::DEPTH_MAX;
            return Err(Error::TooLarge(format!(
                "it nests values deeper than {most} levels at {:?}",
                path.as_str()
            )));
        }
        Ok(())
    }

    /// Charges for the items that may have to move when one comes or goes beside them.
    fn shift(&mut self, target: &Value, path: &str) -> Result<(), Error> {
        let parent = path.rsplit_once('/').and_then(|(parent, _)| target.pointer(parent));
        self.spend(match parent {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(fields)) => fields.len(),
            _ => 0,
        })
    }

    fn spend(&mut self, items: usize) -> Result<(), Error> {
        let left = self.items.checked_sub(items);
        self.items = left.ok_or_else(|| {
            Error::TooLarge(format!("it moves more than {ITEMS_MAX} items of lists and maps"))
        })?;
        Ok(())
    }
}

/// Operations of one JSON patch, as in Kubernetes (`MaxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;
/// Items of lists and maps that one JSON patch may move: a fraction of a second of work.
const ITEMS_MAX: usize = 10_000_000;
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
        json_patch(&mut target, &patch, 1_000).unwrap();
        assert_eq!(target, json!({"a": {"b": [0, 2, 3], "c": 1}}));
        let whole = json!([{"op": "replace", "path": "", "value": {"all": "new"}}]);
        json_patch(&mut target, &whole, 1_000).unwrap();
        assert_eq!(target, json!({"all": "new"}));
        let bad = json!([{"op": "remove", "path": "/nothing"}]);
        assert!(json_patch(&mut target, &bad, 1_000).is_err());
    }
    #[test]
    fn a_json_patch_that_doubles_an_object_again_and_again_is_refused() {
        let copy =
            |at: usize| json!({"op": "copy", "from": "/data", "path": format!("/data/x{at}")});
        let patch: Value = (0..60).map(copy).collect();
        let mut target = json!({"data": {"a": "x".repeat(100)}});
        let refused = json_patch(&mut target, &patch, 100_000).unwrap_err();
        assert!(matches!(refused, Error::TooLarge(_)), "{refused}");
        assert!(target.to_string().len() < 300_000);
        // Copies within the bound are taken.
        let mut target = json!({"data": {"a": "x".repeat(100)}});
        json_patch(&mut target, &(0..5).map(copy).collect(), 100_000).unwrap();
    }

    #[test]
    fn a_json_patch_makes_no_value_deeper_than_can_be_read_again() {
        // Each step puts the whole into a new map: three operations, one level.
        let mut steps = Vec::new();
        for _ in 0..200 {
            steps.push(json!({"op": "add", "path": "/next", "value": {}}));
            steps.push(json!({"op": "move", "from": "/data", "path": "/next/data"}));
            steps.push(json!({"op": "move", "from": "/next", "path": "/data"}));
        }
        let mut target = json!({"data": {}});
        let refused = json_patch(&mut target, &steps.into(), 100_000).unwrap_err();
        assert!(matches!(refused, Error::TooLarge(_)), "{refused}");
        // A copy into itself doubles the depth.
        let deep = (0..60).fold(json!(1), |inner, _| json!({"a": inner}));
        let mut target = json!({"data": deep});
        let into = format!("/data{}", "/a".repeat(59));
        let copy = json!([{"op": "copy", "from": "/data", "path": into}]);
        let refused = json_patch(&mut target, &copy, 100_000).unwrap_err();
        assert!(matches!(refused, Error::TooLarge(_)), "{refused}");
    }

    #[test]
    fn a_json_patch_that_moves_a_long_list_again_and_again_is_refused() {
        let mut target = json!({"list": vec![0; 100_000]});
        let front = json!({"op": "add", "path": "/list/0", "value": 1});
        let refused =
            json_patch(&mut target, &vec![front.clone(); 9_000].into(), 1_000).unwrap_err();
        assert!(matches!(refused, Error::TooLarge(_)), "{refused}");
        let refused = json_patch(&mut target, &vec![front; 10_001].into(), 1_000).unwrap_err();
        assert!(refused.to_string().contains("10001 operations"), "{refused}");
    }

    #[test]
    fn long_lists_are_merged_in_one_pass() {
        let list = |from: usize| -> Value {
            (from..from + 100_000).map(|n| json!({"name": n.to_string()})).collect()
        };
        let mut spec = json!({"env": list(0), "finalizers": list(0)});
        let patch = json!({
            "env": list(50_000), "finalizers": list(50_000),
            "$setElementOrder/env": list(0), "$deleteFromPrimitiveList/finalizers": list(0),
        });
        strategic_merge(&mut spec, &patch);
        assert_eq!(spec["env"].as_array().unwrap().len(), 150_000);
    }
}
