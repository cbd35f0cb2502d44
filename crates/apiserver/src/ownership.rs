//! Who owns which fields of an object: server-side apply. Pure functions.
//!
//! A set of fields is written as Kubernetes writes it in `managedFields` (`FieldsV1`): an object in which
//! `f:NAME` is a field and `k:{...}` the item of a list with that key; what has nothing below it is owned as
//! a whole. Fields have owners from the first server-side apply of an object on; before that nobody asked.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::lists::{self, Parts, default_of_key};
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
    /// Whether the kind is none of Kubernetes' own, so that its lists are owned as a whole.
    pub(crate) custom: bool,
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
    let wanted = fields_of(config, by.custom);
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
    merge(&mut new, config, "", "", by.custom);
    let others: Vec<Fields> =
        entries.iter().filter(|entry| !own(entry)).map(fields).chain([wanted.clone()]).collect();
    prune(&mut new, &before, &others.iter().collect::<Vec<_>>());
    entries.retain(|entry| !own(entry));
    entries.push(entry(by, APPLY, wanted));
    keep(&mut new, entries);
    if by.manager == KUBECTL && object::annotation(&new, LAST_APPLIED).is_some() {
        // So that `kubectl apply` of either side goes on from here.
        object::metadata_mut(&mut new)["annotations"][LAST_APPLIED] = config.to_string().into();
    }
    Ok(new)
}

/// Notes in a new version of an object who owns its fields now, after a change that was no apply. Of an
/// object that was never applied nothing is noted.
pub(crate) fn note_update(old: &Object, new: &mut Object, by: &Author<'_>) {
    let known = old.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut entries = known.cloned().unwrap_or_default();
    if !entries.is_empty() {
        let changed = differing(&fields_of(new, by.custom), new, old);
        let removed = missing(&fields_of(old, by.custom), new);
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

/// The entries of an object. Of one that was never applied here one owns what `kubectl apply` has noted
/// in its annotation, if that is so, and another one the rest. What `kubectl` applied at the client's side
/// it takes over when it applies at the server's.
fn entries_of(old: &Object, by: &Author<'_>) -> Vec<Value> {
    let known = old.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut entries = known.cloned().unwrap_or_default();
    if entries.is_empty() {
        let mut rest = fields_of(old, by.custom);
        let noted = object::annotation(old, LAST_APPLIED);
        if let Some(noted) = noted.and_then(|noted| serde_json::from_str::<Value>(noted).ok()) {
            let all = fields_of(&noted, by.custom);
            let mut same = all.clone();
            subtract(&mut same, &differing(&all, &noted, old));
            subtract(&mut rest, &same);
            entries.push(entry(&Author { manager: CLIENT_SIDE, ..*by }, UPDATE, same));
        }
        entries.push(entry(&Author { manager: BEFORE, ..*by }, UPDATE, rest));
    }
    let own = |entry: &Value| entry["manager"] == by.manager && entry["operation"] == APPLY;
    if by.manager == KUBECTL && !entries.iter().any(own) {
        let noted = entries.iter_mut().find(|entry| entry["manager"] == CLIENT_SIDE);
        if let Some(noted) = noted {
            noted["manager"] = KUBECTL.into();
            noted["operation"] = APPLY.into();
        }
    }
    entries
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
fn fields_of(object: &Object, custom: bool) -> Fields {
    let mut all = below("", "", object, custom);
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
fn below(parent: &str, name: &str, value: &Value, custom: bool) -> Fields {
    let parts = lists::parts(parent, name, value, custom);
    match (parts, value) {
        (Parts::Fields, Value::Object(object)) => fields_in(name, object, custom),
        (Parts::Items(_) | Parts::Values, Value::Array(items)) => {
            let mut all = Fields::new();
            for item in items {
                let Some(segment) = segment_of(parts, item) else { return Fields::new() };
                let mut fields = Fields::new();
                if let Value::Object(item) = item {
                    fields = fields_in(name, item, custom);
                    fields.insert(".".to_owned(), json!({}));
                }
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

/// The fields of an object under this name, or of an item of a list of it.
fn fields_in(name: &str, object: &Map<String, Value>, custom: bool) -> Fields {
    let field = |(field, value): (&String, &Value)| {
        (format!("f:{field}"), Value::Object(below(name, field, value, custom)))
    };
    object.iter().filter(|(_, value)| !value.is_null()).map(field).collect()
}

/// How an item of a list is told from the others.
fn segment_of(parts: Parts, item: &Value) -> Option<String> {
    match parts {
        Parts::Items(keys) => {
            let key = |key: &&str| {
                let value = item.get(*key).filter(|value| !value.is_null()).cloned();
                Some(((*key).to_owned(), value.or_else(|| default_of_key(key).map(Value::from))?))
            };
            let key: Map<String, Value> = keys.iter().filter_map(key).collect();
            (!key.is_empty()).then(|| format!("k:{}", Value::Object(key)))
        }
        Parts::Values => Some(format!("v:{item}")),
        Parts::Whole | Parts::Fields => None,
    }
}

/// What a segment of a path leads to.
fn child<'a>(value: &'a Value, segment: &str) -> Option<&'a Value> {
    match segment.split_once(':')? {
        ("f", name) => value.get(name),
        (_, item) => value.as_array()?.iter().find(|there| is_item(there, segment, item)),
    }
}

fn child_mut<'a>(value: &'a mut Value, segment: &str) -> Option<&'a mut Value> {
    match segment.split_once(':')? {
        ("f", name) => value.get_mut(name),
        (_, item) => value.as_array_mut()?.iter_mut().find(|there| is_item(there, segment, item)),
    }
}

/// Whether an item of a list is the one that a segment names, by its key or by itself.
fn is_item(item: &Value, segment: &str, named: &str) -> bool {
    match serde_json::from_str(named) {
        Ok(Value::Object(key)) if segment.starts_with("k:") => key.iter().all(|(name, value)| {
            let there = item.get(name).filter(|there| !there.is_null());
            there.map_or(default_of_key(name) == value.as_str() && value.is_string(), |there| {
                there == value
            })
        }),
        Ok(value) => segment.starts_with("v:") && *item == value,
        Err(_) => false,
    }
}

fn remove(value: &mut Value, segment: &str) {
    match segment.split_once(':') {
        Some(("f", name)) => {
            if let Some(fields) = value.as_object_mut() {
                fields.shift_remove(name);
            }
        }
        Some((_, named)) => {
            if let Some(items) = value.as_array_mut() {
                items.retain(|item| !is_item(item, segment, named));
            }
        }
        None => {}
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
        // Who has an empty object in it, there or in the configuration, has nothing of what is in it.
        let is_nothing = match (below.is_empty(), theirs.is_empty()) {
            (true, _) => config.as_object().is_some_and(Map::is_empty),
            (false, true) => there.is_object(),
            (false, false) => false,
        };
        if there == config || is_nothing {
            continue;
        }
        let path = path.clone() + &step(segment);
        if below.is_empty() || theirs.is_empty() {
            found.push(path);
        } else {
            contest(below, theirs, there, config, path, found);
        }
    }
}

/// A segment as Kubernetes writes it in a path: `.ports`, `[name="c"]`, `[="value"]`.
fn step(segment: &str) -> String {
    match (segment.split_once(':'), segment.split_once(':').map(|(_, of)| serde_json::from_str(of)))
    {
        (Some(("k", _)), Some(Ok(Value::Object(key)))) => {
            let pairs: Vec<String> =
                key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("[{}]", pairs.join(","))
        }
        (Some(("v", value)), _) => format!("[={value}]"),
        (Some((_, name)), _) => format!(".{name}"),
        (None, _) => String::new(),
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

/// Sets the fields of a configuration; lists whose items have keys are merged by them, in the order of the
/// configuration.
fn merge(target: &mut Value, config: &Value, parent: &str, name: &str, custom: bool) {
    let parts = lists::parts(parent, name, config, custom);
    match (parts, config) {
        (Parts::Fields, Value::Object(fields)) => merge_fields(target, fields, name, custom),
        (Parts::Items(_) | Parts::Values, Value::Array(items))
            if target.is_array()
                && !items.is_empty()
                && !below(parent, name, config, custom).is_empty() =>
        {
            let Some(all) = target.as_array_mut() else { return };
            let mut places: HashMap<String, usize> = HashMap::new();
            let mut there: HashMap<String, usize> = HashMap::new();
            for (at, item) in all.iter().enumerate() {
                there.extend(segment_of(parts, item).map(|segment| (segment, at)));
            }
            for (place, item) in items.iter().enumerate() {
                let Some(segment) = segment_of(parts, item) else { continue };
                match (there.get(&segment).and_then(|at| all.get_mut(*at)), item) {
                    (Some(there), Value::Object(fields)) => {
                        merge_fields(there, fields, name, custom);
                    }
                    (Some(_), _) => {}
                    (None, item) => all.push(item.clone()),
                }
                places.insert(segment, place);
            }
            lists::order_by(all, |item| places.get(&segment_of(parts, item)?).copied());
        }
        (_, other) => *target = other.clone(),
    }
}

fn merge_fields(target: &mut Value, fields: &Map<String, Value>, name: &str, custom: bool) {
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        merge(&mut target[field.as_str()], value, name, field, custom);
    }
}

/// Removes the fields of a set that nobody of `kept` owns.
fn prune(target: &mut Value, owned: &Fields, kept: &[&Fields]) {
    for (segment, below) in owned.iter().filter(|(segment, _)| *segment != ".") {
        let kept: Vec<&Fields> =
            kept.iter().filter_map(|set| set.get(segment)?.as_object()).collect();
        let below = below.as_object().filter(|below| !below.is_empty());
        let is_item = !segment.starts_with("f:");
        let Some(below) = below.filter(|_| !(is_item && kept.is_empty())) else {
            if kept.is_empty() {
                remove(target, segment);
            }
            continue;
        };
        let Some(there) = child_mut(target, segment) else { continue };
        // Who owns a list as a whole owns all of it.
        if there.is_array() && kept.iter().any(|set| set.is_empty()) {
            continue;
        }
        prune(there, below, &kept);
        let is_empty = there.as_object().is_some_and(Map::is_empty)
            || there.as_array().is_some_and(Vec::is_empty);
        if is_empty && kept.is_empty() {
            remove(target, segment);
        }
    }
}

/// `kubectl apply --server-side`, and the same without it.
const KUBECTL: &str = "kubectl";
const CLIENT_SIDE: &str = "kubectl-client-side-apply";
/// Where `kubectl apply` without it notes what it applied.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const APPLY: &str = "Apply";
const UPDATE: &str = "Update";
/// Who owns what was there before the first server-side apply, as in Kubernetes.
const BEFORE: &str = "before-first-apply";

#[cfg(test)]
mod tests;
