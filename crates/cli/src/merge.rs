//! The three-way merge of `apply`: what the user wrote last time, what is there, what the user
//! writes now.

use serde_json::{Map, Value};

/// What the object should become: `live`, with every field that `new` has, and without those that
/// `last` had and `new` has not. What others added stays.
///
/// Lists are taken from `new` as a whole, unless what is there differs from it only in fields that
/// neither `last` nor `new` names (defaults that the server filled in).
pub(crate) fn three_way(last: Option<&Value>, live: &Value, new: &Value) -> Value {
    match (live, new) {
        (Value::Object(live), Value::Object(new)) => {
            Value::Object(merge_maps(last.and_then(Value::as_object), live, new))
        }
        (Value::Array(_), Value::Array(_)) => {
            let removes_nothing = last.is_none_or(|last| names_all(new, last));
            if removes_nothing && covers(live, new) { live.clone() } else { new.clone() }
        }
        // `80` and `"80"` differ, `null` means "as the server likes".
        (live, Value::Null) => live.clone(),
        (_, new) => new.clone(),
    }
}

fn merge_maps(
    last: Option<&Map<String, Value>>,
    live: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Map<String, Value> {
    let mut merged = live.clone();
    let nothing = Map::new();
    let last = last.unwrap_or(&nothing);
    merged.retain(|name, _| new.contains_key(name) || !last.contains_key(name));
    for (name, value) in new {
        let absent = match value {
            Value::Object(_) => Value::Object(Map::new()),
            _ => Value::Null,
        };
        let before = live.get(name).unwrap_or(&absent);
        let value = three_way(last.get(name), before, value);
        if !value.is_null() {
            merged.insert(name.clone(), value);
        }
    }
    merged
}

/// Whether everything in `part` is in `whole`; lists have the same length.
fn covers(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(name, value)| {
            value.is_null() || whole.get(name).is_some_and(|there| covers(there, value))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole.iter().zip(part).all(|(whole, part)| covers(whole, part))
        }
        _ => whole == part,
    }
}

/// Whether `new` names every field that `last` names.
fn names_all(new: &Value, last: &Value) -> bool {
    match (new, last) {
        (Value::Object(new), Value::Object(last)) => {
            last.iter().all(|(name, last)| new.get(name).is_some_and(|new| names_all(new, last)))
        }
        (Value::Array(new), Value::Array(last)) => {
            new.len() == last.len() && new.iter().zip(last).all(|(new, last)| names_all(new, last))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_come_stay_and_go() {
        let last = json!({ "a": 1, "gone": 1, "m": { "x": 1, "y": 1 } });
        let live = json!({ "a": 1, "gone": 1, "m": { "x": 1, "y": 1, "z": 1 }, "others": 1 });
        let new = json!({ "a": 2, "m": { "x": 1 }, "added": { "q": 1 } });
        assert_eq!(
            three_way(Some(&last), &live, &new),
            json!({ "a": 2, "m": { "x": 1, "z": 1 }, "others": 1, "added": { "q": 1 } })
        );
    }

    #[test]
    fn defaults_in_lists_are_no_difference() {
        let new = json!({ "ports": [{ "port": 80 }] });
        let live =
            json!({ "ports": [{ "port": 80, "protocol": "TCP" }], "clusterIP": "10.96.0.1" });
        assert_eq!(three_way(Some(&new), &live, &new), live);
        let changed = json!({ "ports": [{ "port": 81 }] });
        assert_eq!(three_way(Some(&new), &live, &changed)["ports"], changed["ports"]);
        let longer = json!({ "ports": [{ "port": 80 }, { "port": 81 }] });
        assert_eq!(three_way(Some(&new), &live, &longer)["ports"], longer["ports"]);
    }

    #[test]
    fn a_field_removed_inside_a_list_is_removed() {
        let last = json!({ "http": [{ "match": 1, "route": 2 }] });
        let new = json!({ "http": [{ "route": 2 }] });
        assert_eq!(three_way(Some(&last), &last, &new), new);
    }

    #[test]
    fn null_is_no_wish() {
        let new = json!({ "protocol": null, "a": 1 });
        assert_eq!(three_way(None, &json!({ "a": 1 }), &new), json!({ "a": 1 }));
    }
}
