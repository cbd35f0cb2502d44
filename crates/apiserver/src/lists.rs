//! Lists whose items have a key, so that they are merged item by item. Pure functions.

use std::collections::HashMap;

use serde_json::Value;

/// By which keys Kubernetes merges the items of a list of this name (`patchMergeKey`).
pub fn merge_keys(list: &str) -> Option<&'static [&'static str]> {
    Some(match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "secrets"
        | "imagePullSecrets" => &["name"],
        "ports" => &["containerPort", "port"],
        "volumeMounts" => &["mountPath"],
        "volumeDevices" => &["devicePath"],
        "hostAliases" => &["ip"],
        "topologySpreadConstraints" => &["topologyKey"],
        "conditions" | "addresses" => &["type"],
        "ownerReferences" => &["uid"],
        _ => return None,
    })
}

/// Puts the items that `order` names into its order; others stay behind the item that was before
/// them.
pub fn set_order(items: &mut Vec<Value>, order: &[Value], keys: &[&str]) {
    // By the whole item, or by any of its keys; lists may be long.
    let mut places: HashMap<(&str, &Value), usize> = HashMap::new();
    for (at, named) in order.iter().enumerate() {
        places.entry(("", named)).or_insert(at);
        for key in keys {
            if let Some(value) = named.get(*key) {
                places.entry((key, value)).or_insert(at);
            }
        }
    }
    let place = |item: &Value| {
        let by_key = keys.iter().filter_map(|key| places.get(&(*key, item.get(*key)?)));
        places.get(&("", item)).into_iter().chain(by_key).min().copied()
    };
    let mut before = (0, 0);
    let mut placed: Vec<((usize, usize), Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        before = place(&item).map_or((before.0, before.1 + 1), |place| (place + 1, 0));
        placed.push((before, item));
    }
    placed.sort_by_key(|(place, _)| *place);
    items.extend(placed.into_iter().map(|(_, item)| item));
}
