//! The three-way merge of `apply`: what the user wrote last time, what is there, what the user
//! writes now.

use ironmesh_apiserver::lists::{merge_keys, set_order};
use ironmesh_dialects::kinds::Resource;
use serde_json::{Map, Value};

/// What the object should become: `live`, with every field that `new` has, and without those that
/// `last` had and `new` has not. What others added stays.
///
/// Lists whose items have a key (containers, ports, environment) are merged item by item; which
/// these are is known for Kubernetes' own kinds. Other lists are taken from `new` as a whole, unless
/// what is there differs from it only in fields that neither `last` nor `new` names (defaults that
/// the server filled in).
pub(crate) fn three_way(
    resource: &Resource,
    last: Option<&Value>,
    live: &Value,
    new: &Value,
) -> Value {
    let is_kubernetes = !resource.group.contains('.') || resource.group.ends_with(".k8s.io");
    Merge { by_keys: is_kubernetes }.values("", last, live, new)
}

struct Merge {
    /// Whether lists are merged by the keys of their items.
    by_keys: bool,
}

impl Merge {
    fn values(&self, name: &str, last: Option<&Value>, live: &Value, new: &Value) -> Value {
        match (live, new) {
            (Value::Object(live), Value::Object(new)) => {
                Value::Object(self.maps(last.and_then(Value::as_object), live, new))
            }
            (Value::Array(there), Value::Array(wanted)) => match self.keys(name, there, wanted) {
                Some(keys) => {
                    let last = last.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                    self.lists(keys, last, there, wanted)
                }
                None => {
                    let removes_nothing = last.is_none_or(|last| names_all(new, last));
                    if removes_nothing && covers(live, new) { live.clone() } else { new.clone() }
                }
            },
            // `80` and `"80"` differ.
            (_, new) => new.clone(),
        }
    }

    fn maps(
        &self,
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
            let mut value = self.values(name, last.get(name), before, value);
            // A union (`patchStrategy: retainKeys`): once the manifest names another member, what the
            // server filled in for the last one goes.
            let other_member = name == "strategy"
                && new[name].get("type").is_some_and(|member| before.get("type") != Some(member));
            if let (true, true, Some(fields)) = (other_member, self.by_keys, value.as_object_mut())
            {
                fields.retain(|field, _| new[name].get(field).is_some());
            }
            // `null` takes a field away; what has a default gets it anew.
            if value.is_null() {
                merged.shift_remove(name);
            } else {
                merged.insert(name.clone(), value);
            }
        }
        merged
    }

    /// The keys by which the items of a list of this name are merged, if all have one.
    fn keys(&self, name: &str, live: &[Value], new: &[Value]) -> Option<&'static [&'static str]> {
        let keys = merge_keys(name).filter(|_| self.by_keys)?;
        let has_key = |item: &Value| keys.iter().any(|key| item.get(*key).is_some());
        live.iter().chain(new).all(has_key).then_some(keys)
    }

    /// The items of `new`, each merged with that of its key, and the live ones that `last` does not
    /// name; in the order of `new`, others behind the item that is before them.
    fn lists(&self, keys: &[&str], last: &[Value], live: &[Value], new: &[Value]) -> Value {
        let find = |items: &'_ [Value], item: &Value| {
            items.iter().find(|other| is_same(other, item, keys)).cloned()
        };
        let stays = |item: &&Value| find(new, item).is_some() || find(last, item).is_none();
        let mut merged: Vec<Value> = live.iter().filter(stays).cloned().collect();
        for item in new {
            let before = find(last, item);
            match merged.iter_mut().find(|other| is_same(other, item, keys)) {
                Some(there) => *there = self.values("", before.as_ref(), there, item),
                None => merged.push(item.clone()),
            }
        }
        set_order(&mut merged, new, keys);
        Value::Array(merged)
    }
}

/// Whether two items of a list have the same key; ports of two protocols are two.
fn is_same(a: &Value, b: &Value, keys: &[&str]) -> bool {
    let protocol = |item: &Value| item["protocol"].as_str().unwrap_or("TCP").to_owned();
    keys.iter()
        .find(|key| b.get(**key).is_some())
        .is_some_and(|key| a.get(*key) == b.get(*key) && protocol(a) == protocol(b))
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

    fn three_way(last: Option<&Value>, live: &Value, new: &Value) -> Value {
        super::three_way(&Resource::of("v1", "Pod"), last, live, new)
    }

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
        assert_eq!(
            three_way(Some(&new), &live, &longer)["ports"],
            json!([{ "port": 80, "protocol": "TCP" }, { "port": 81 }])
        );
        // Lists without a key are taken as a whole.
        let routes = |count: usize| json!({ "http": vec![json!({ "name": "r" }); count] });
        assert_eq!(three_way(Some(&routes(1)), &routes(1), &routes(2)), routes(2));
    }

    #[test]
    fn a_field_removed_inside_a_list_is_removed() {
        let last = json!({ "http": [{ "match": 1, "route": 2 }] });
        let new = json!({ "http": [{ "route": 2 }] });
        assert_eq!(three_way(Some(&last), &last, &new), new);
    }

    #[test]
    fn null_takes_a_field_away() {
        let new = json!({ "protocol": null, "a": 1 });
        assert_eq!(three_way(None, &json!({ "a": 1 }), &new), json!({ "a": 1 }));
        let live = json!({ "protocol": "TCP", "theirs": 2, "a": 1 });
        assert_eq!(three_way(None, &live, &new), json!({ "theirs": 2, "a": 1 }));
    }

    #[test]
    fn what_others_added_to_a_list_stays() {
        let new =
            json!({ "containers": [{ "name": "app", "env": [{ "name": "A", "value": "2" }] }] });
        let last = json!({ "containers": [{ "name": "app", "env": [
            { "name": "A", "value": "1" }, { "name": "GONE", "value": "1" },
        ] }, { "name": "helper" }] });
        let live = json!({ "containers": [{ "name": "app", "image": "x", "env": [
            { "name": "A", "value": "1" }, { "name": "GONE", "value": "1" },
            { "name": "OTHERS", "value": "1" },
        ] }, { "name": "helper" }, { "name": "istio-proxy" }] });
        assert_eq!(
            three_way(Some(&last), &live, &new),
            json!({ "containers": [{ "name": "app", "image": "x", "env": [
                { "name": "A", "value": "2" }, { "name": "OTHERS", "value": "1" },
            ] }, { "name": "istio-proxy" }] })
        );
        let first = json!({ "initContainers": [{ "name": "istio-init" }, { "name": "mine" }] });
        let mine = json!({ "initContainers": [{ "name": "mine" }] });
        assert_eq!(three_way(Some(&mine), &first, &mine), first);
    }

    #[test]
    fn another_strategy_does_not_keep_the_bounds_of_the_last() {
        let of = |strategy: Value| json!({ "strategy": strategy });
        let rolling = json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%" } });
        let recreate = of(json!({ "type": "Recreate" }));
        assert_eq!(three_way(None, &of(rolling.clone()), &recreate), recreate);
        // With the same strategy what the server filled in is no change.
        let same = of(json!({ "type": "RollingUpdate" }));
        assert_eq!(three_way(Some(&same), &of(rolling.clone()), &same), of(rolling));
    }

    #[test]
    fn items_follow_the_order_of_the_manifest_and_protocols_differ() {
        let live = json!({ "ports": [{ "port": 53, "protocol": "TCP", "nodePort": 1 }, { "port": 53, "protocol": "UDP", "nodePort": 2 }] });
        let new = json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53 }] });
        let merged = three_way(Some(&new), &live, &new);
        assert_eq!(merged["ports"].as_array().unwrap().len(), 2, "{merged}");
        // Of other kinds no keys are known.
        let route = Resource::of("networking.istio.io/v1", "Gateway");
        let new = json!({ "ports": [{ "port": 1 }] });
        assert_eq!(super::three_way(&route, Some(&new), &live, &new), new);
    }
}
