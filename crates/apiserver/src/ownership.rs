//! Who owns which fields of an object: server-side apply. Pure functions.
//!
//! A set of fields is written as Kubernetes writes it in `managedFields` (`FieldsV1`): an object in which
//! `f:NAME` is a field and `k:{...}` the item of a list with that key; what has nothing below it is owned as
//! a whole. Fields have owners from the first server-side apply of an object on; before that nobody asked.

use serde_json::{Map, Value, json};

use crate::lists::merge_keys;
use crate::object::{self, Object};

/// Who changes an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    /// The name of the manager.
    pub(crate) manager: &'a str,
    /// The version of the object that it speaks.
    pub(crate) api_version: &'a str,
    /// Now.
    pub(crate) time: &'a str,
    /// Whether lists of the kind are owned as a whole, as those of custom resources are.
    pub(crate) whole_lists: bool,
}

/// A field that somebody else owns and has another value in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Who owns it.
    pub(crate) manager: String,
    /// In which version.
    pub(crate) api_version: String,
    /// Its path, as `.spec.replicas`.
    pub(crate) field: String,
}

type Fields = Map<String, Value>;

/// What becomes of an object when `config` is applied to it: its fields are set, those that were applied
/// before and are in it no more are removed, unless others own them.
///
/// # Errors
///
/// If others own fields of it with other values; with `force` they lose them.
pub(crate) fn apply(
    old: Option<&Object>,
    config: &Object,
    by: &Author<'_>,
    force: bool,
) -> Result<Object, Vec<Conflict>> {
    let wanted = fields_of(config, by.whole_lists);
    let mut entries = old.map(|old| entries_of(old, by)).unwrap_or_default();
    let own = |entry: &Value| entry["manager"] == by.manager && entry["operation"] == APPLY;
    let before = entries.iter().find(|entry| own(entry)).map(fields).unwrap_or_default();
    let nothing = Value::Null;
    let there = old.unwrap_or(&nothing);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !own(entry)) {
        let theirs = fields(entry);
        let mut contested = Vec::new();
        contest(&wanted, &theirs, there, config, String::new(), &mut contested);
        if contested.is_empty() {
            continue;
        }
        if force {
            let mut left = theirs;
            subtract(&mut left, &differing(&wanted, config, there));
            entry["fieldsV1"] = Value::Object(left);
        }
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let (manager, api_version) = (text("manager"), text("apiVersion"));
        let conflict = |field| {
            let (manager, api_version) = (manager.clone(), api_version.clone());
            Conflict { manager, api_version, field }
        };
        conflicts.extend(contested.into_iter().map(conflict));
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut new = old.cloned().unwrap_or_else(|| json!({}));
    merge(&mut new, config, "", by.whole_lists);
    let others: Vec<Fields> =
        entries.iter().filter(|entry| !own(entry)).map(fields).chain([wanted.clone()]).collect();
    prune(&mut new, &before, &others.iter().collect::<Vec<_>>());
    entries.retain(|entry| !own(entry));
    entries.push(entry(by, APPLY, wanted));
    keep(&mut new, entries);
    Ok(new)
}

/// Notes in a new version of an object who owns its fields now, after a change that was no apply. Of an
/// object that was never applied nothing is noted.
pub(crate) fn note_update(old: &Object, new: &mut Object, by: &Author<'_>) {
    let known = old.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut entries = known.cloned().unwrap_or_default();
    if !entries.is_empty() {
        let changed = differing(&fields_of(new, by.whole_lists), new, old);
        let removed = missing(&fields_of(old, by.whole_lists), new);
        let own = |entry: &Value| entry["manager"] == by.manager && entry["operation"] == UPDATE;
        let mut mine = entries.iter().find(|entry| own(entry)).map(fields).unwrap_or_default();
        for entry in &mut entries {
            let mut left = fields(entry);
            subtract(&mut left, &removed);
            subtract(&mut left, &changed);
            entry["fieldsV1"] = Value::Object(left);
        }
        subtract(&mut mine, &removed);
        if !changed.is_empty() {
            add(&mut mine, &changed);
            entries.retain(|entry| !own(entry));
            entries.push(entry(by, UPDATE, mine));
        }
    }
    keep(new, entries);
}

/// The entries of an object; of one that was never applied one that owns all that is there.
fn entries_of(old: &Object, by: &Author<'_>) -> Vec<Value> {
    let known = old.pointer("/metadata/managedFields").and_then(Value::as_array);
    match known.filter(|entries| !entries.is_empty()) {
        Some(entries) => entries.clone(),
        None => {
            let first = Author { manager: BEFORE, ..*by };
            vec![entry(&first, UPDATE, fields_of(old, by.whole_lists))]
        }
    }
}

fn entry(by: &Author<'_>, operation: &str, fields: Fields) -> Value {
    json!({
        "manager": by.manager, "operation": operation, "apiVersion": by.api_version,
        "time": by.time, "fieldsType": "FieldsV1", "fieldsV1": fields,
    })
}

fn fields(entry: &Value) -> Fields {
    entry["fieldsV1"].as_object().cloned().unwrap_or_default()
}

/// Writes the entries that own anything into an object.
fn keep(object: &mut Object, mut entries: Vec<Value>) {
    entries.retain(|entry| entry["fieldsV1"].as_object().is_some_and(|fields| !fields.is_empty()));
    let metadata = object::metadata_mut(object);
    if !entries.is_empty() {
        metadata["managedFields"] = entries.into();
    } else if let Some(fields) = metadata.as_object_mut() {
        fields.shift_remove("managedFields");
    }
}

/// The fields that an object has, but for what makes it that object, and its status.
fn fields_of(object: &Object, whole_lists: bool) -> Fields {
    let mut all = below("", object, whole_lists);
    for unowned in ["f:apiVersion", "f:kind", "f:status"] {
        all.shift_remove(unowned);
    }
    if let Some(Value::Object(metadata)) = all.get_mut("f:metadata") {
        metadata.retain(|field, _| {
            ["f:labels", "f:annotations", "f:finalizers", "f:ownerReferences"].contains(&&**field)
        });
        if metadata.is_empty() {
            all.shift_remove("f:metadata");
        }
    }
    all
}

/// The fields below one of this name.
fn below(name: &str, value: &Value, whole_lists: bool) -> Fields {
    match value {
        Value::Object(object) => {
            let field = |(name, value): (&String, &Value)| {
                (format!("f:{name}"), Value::Object(below(name, value, whole_lists)))
            };
            object.iter().filter(|(_, value)| !value.is_null()).map(field).collect()
        }
        Value::Array(items) if !whole_lists => {
            let mut all = Fields::new();
            for item in items {
                let Some(segment) = segment_of(name, item) else { return Fields::new() };
                let mut fields = below("", item, whole_lists);
                fields.insert(".".to_owned(), json!({}));
                // Two items of one key: the list is owned as a whole.
                if all.insert(segment, Value::Object(fields)).is_some() {
                    return Fields::new();
                }
            }
            all
        }
        _ => Fields::new(),
    }
}

/// How an item of a list of this name is told from the others.
fn segment_of(list: &str, item: &Value) -> Option<String> {
    let (key, value) = key_of(list, item)?;
    Some(format!("k:{}", json!({key: value})))
}

fn key_of<'a>(list: &str, item: &'a Value) -> Option<(&'static str, &'a Value)> {
    merge_keys(list)?.iter().find_map(|key| Some((*key, item.get(*key)?)))
}

/// What a segment of a path leads to.
fn child<'a>(value: &'a Value, segment: &str) -> Option<&'a Value> {
    match segment.split_at_checked(2)? {
        ("f:", name) => value.get(name),
        ("k:", key) => value.as_array()?.iter().find(|item| has_key(item, key)),
        _ => None,
    }
}

fn child_mut<'a>(value: &'a mut Value, segment: &str) -> Option<&'a mut Value> {
    match segment.split_at_checked(2)? {
        ("f:", name) => value.get_mut(name),
        ("k:", key) => value.as_array_mut()?.iter_mut().find(|item| has_key(item, key)),
        _ => None,
    }
}

fn has_key(item: &Value, key: &str) -> bool {
    let Ok(Value::Object(key)) = serde_json::from_str(key) else { return false };
    key.iter().all(|(name, value)| item.get(name) == Some(value))
}

fn remove(value: &mut Value, segment: &str) {
    match segment.split_at_checked(2) {
        Some(("f:", name)) => {
            if let Some(fields) = value.as_object_mut() {
                fields.shift_remove(name);
            }
        }
        Some(("k:", key)) => {
            if let Some(items) = value.as_array_mut() {
                items.retain(|item| !has_key(item, key));
            }
        }
        _ => {}
    }
}

/// The paths that both sets have and in which the values differ.
fn contest(
    wanted: &Fields,
    theirs: &Fields,
    there: &Value,
    config: &Value,
    path: String,
    found: &mut Vec<String>,
) {
    for (segment, below) in wanted {
        let (Some(Value::Object(theirs)), Value::Object(below)) = (theirs.get(segment), below)
        else {
            continue;
        };
        let (Some(there), Some(config)) = (child(there, segment), child(config, segment)) else {
            continue;
        };
        if there == config {
            continue;
        }
        let path = match segment.split_at_checked(2) {
            // As Kubernetes writes the path of an item: `[name="c"]`.
            Some(("k:", key)) => {
                let key = key.trim_matches(['{', '}']).replacen('"', "", 1).replacen("\":", "=", 1);
                format!("{path}[{key}]")
            }
            Some((_, name)) => format!("{path}.{name}"),
            None => continue,
        };
        if below.is_empty() || theirs.is_empty() {
            found.push(path);
        } else {
            contest(below, theirs, there, config, path, found);
        }
    }
}

/// Those of a set of fields of `new` that `old` has not, or with another value.
fn differing(set: &Fields, new: &Value, old: &Value) -> Fields {
    let mut found = Fields::new();
    for (segment, below) in set {
        let (is, was) = (child(new, segment), child(old, segment));
        if segment == "." || is == was {
            continue;
        }
        let below = below.as_object().filter(|below| !below.is_empty());
        let (Some(is), Some(below)) = (is, below) else {
            found.insert(segment.clone(), json!({}));
            continue;
        };
        let mut changed = differing(below, is, was.unwrap_or(&Value::Null));
        if was.is_none() && below.contains_key(".") {
            changed.insert(".".to_owned(), json!({}));
        }
        if !changed.is_empty() {
            found.insert(segment.clone(), Value::Object(changed));
        }
    }
    found
}

/// Those of a set of fields that an object has no more.
fn missing(set: &Fields, new: &Value) -> Fields {
    let mut found = Fields::new();
    for (segment, below) in set.iter().filter(|(segment, _)| *segment != ".") {
        let Some(is) = child(new, segment) else {
            found.insert(segment.clone(), json!({}));
            continue;
        };
        let below = below.as_object().map(|below| missing(below, is)).unwrap_or_default();
        if !below.is_empty() {
            found.insert(segment.clone(), Value::Object(below));
        }
    }
    found
}

/// Takes a set of fields away from another one.
fn subtract(from: &mut Fields, taken: &Fields) {
    for (segment, below) in taken {
        let Some(Value::Object(left)) = from.get_mut(segment) else { continue };
        match below.as_object().filter(|below| !below.is_empty()) {
            Some(below) if !left.is_empty() => {
                subtract(left, below);
                if left.is_empty() {
                    from.shift_remove(segment);
                }
            }
            _ => drop(from.shift_remove(segment)),
        }
    }
}

/// Adds a set of fields to another one.
fn add(to: &mut Fields, added: &Fields) {
    for (segment, below) in added {
        match (to.get_mut(segment), below) {
            (Some(Value::Object(there)), Value::Object(below)) => add(there, below),
            _ => drop(to.insert(segment.clone(), below.clone())),
        }
    }
}

/// Sets the fields of a configuration; lists whose items have keys are merged by them.
fn merge(target: &mut Value, config: &Value, name: &str, whole_lists: bool) {
    match config {
        Value::Object(fields) => {
            if !target.is_object() {
                *target = json!({});
            }
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                merge(&mut target[name.as_str()], value, name, whole_lists);
            }
        }
        Value::Array(items)
            if target.is_array()
                && !whole_lists
                && !items.is_empty()
                && !below(name, config, whole_lists).is_empty() =>
        {
            for item in items {
                let segment = segment_of(name, item).unwrap_or_default();
                match child_mut(target, &segment) {
                    Some(there) => merge(there, item, "", whole_lists),
                    None => {
                        if let Some(all) = target.as_array_mut() {
                            all.push(item.clone());
                        }
                    }
                }
            }
        }
        other => *target = other.clone(),
    }
}

/// Removes the fields of a set that nobody of `kept` owns.
fn prune(target: &mut Value, owned: &Fields, kept: &[&Fields]) {
    for (segment, below) in owned.iter().filter(|(segment, _)| *segment != ".") {
        let kept: Vec<&Fields> =
            kept.iter().filter_map(|set| set.get(segment)?.as_object()).collect();
        let below = below.as_object().filter(|below| !below.is_empty());
        let is_item = segment.starts_with("k:");
        let Some(below) = below.filter(|_| !(is_item && kept.is_empty())) else {
            if kept.is_empty() {
                remove(target, segment);
            }
            continue;
        };
        // Who owns it as a whole owns all of it.
        if kept.iter().any(|set| set.is_empty()) {
            continue;
        }
        let Some(there) = child_mut(target, segment) else { continue };
        prune(there, below, &kept);
        let is_empty = there.as_object().is_some_and(Map::is_empty)
            || there.as_array().is_some_and(Vec::is_empty);
        if is_empty && kept.is_empty() {
            remove(target, segment);
        }
    }
}

const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
/// Who owns what was there before the first server-side apply, as in Kubernetes.
const BEFORE: &str = "before-first-apply";

#[cfg(test)]
mod tests;
