//! Lists whose items have a key, so that they are merged item by item. Pure functions.

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
    let place = |item: &Value| {
        order.iter().position(|named| {
            named == item
                || keys.iter().any(|key| named.get(*key).is_some_and(|v| item.get(*key) == Some(v)))
        })
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
