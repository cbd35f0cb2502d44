//! Lists and objects that are merged: item by item where items have keys, or as a whole. Pure functions.

use std::collections::HashMap;

use serde_json::Value;

/// Of what the value of a field consists, for who may own parts of it (`x-kubernetes-list-type`,
/// `x-kubernetes-list-map-keys` and `x-kubernetes-map-type` of Kubernetes' schema).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// It is owned as a whole (`atomic`).
    Whole,
    /// Fields, each with owners of its own (`granular`).
    Fields,
    /// Items of a list, told apart by these fields (`map`).
    Items(&'static [&'static str]),
    /// Plain values of a list, each there once (`set`).
    Values,
}

/// Of what the value of a field consists. `parent` is the field around it; the items of a list are as if
/// they stood in place of the list. Lists of a `custom` kind are owned as a whole, but for those that all
/// objects have.
pub(crate) fn parts(parent: &str, field: &str, value: &Value, custom: bool) -> Parts {
    match value {
        Value::Object(_) if !custom && WHOLE_OBJECTS.contains(&field) => Parts::Whole,
        Value::Object(_) => Parts::Fields,
        Value::Array(_) => match (parent, field) {
            ("metadata", "finalizers") => Parts::Values,
            ("metadata", "ownerReferences") => Parts::Items(&["uid"]),
            _ if custom => Parts::Whole,
            ("containers" | "initContainers" | "ephemeralContainers", "ports") => {
                Parts::Items(&["containerPort", "protocol"])
            }
            ("spec", "ports") => Parts::Items(&["port", "protocol"]),
            ("spec", "podCIDRs") => Parts::Values,
            ("spec", "topologySpreadConstraints") => {
                Parts::Items(&["topologyKey", "whenUnsatisfiable"])
            }
            ("spec", "hostAliases") => Parts::Items(&["ip"]),
            (_, "volumeMounts") => Parts::Items(&["mountPath"]),
            (_, "volumeDevices") => Parts::Items(&["devicePath"]),
            ("", "secrets" | "webhooks")
            | (
                "spec",
                "containers"
                | "initContainers"
                | "ephemeralContainers"
                | "volumes"
                | "imagePullSecrets"
                | "schedulingGates"
                | "resourceClaims"
                | "variables",
            )
            | ("resources", "claims")
            | (_, "env" | "matchConditions") => Parts::Items(&["name"]),
            _ => Parts::Whole,
        },
        _ => Parts::Whole,
    }
}

/// What a field by which items are told apart is where it is left out.
pub(crate) fn default_of_key(key: &str) -> Option<&'static str> {
    (key == "protocol").then_some("TCP")
}

/// Fields of Kubernetes' own kinds whose objects are owned as a whole: selectors and references.
const WHOLE_OBJECTS: &[&str] = &[
    "configMapKeyRef",
    "controllerExpandSecretRef",
    "controllerPublishSecretRef",
    "dataSource",
    "fieldRef",
    "fileKeyRef",
    "involvedObject",
    "labelSelector",
    "matchConstraints",
    "matchResources",
    "namespaceSelector",
    "nodeExpandSecretRef",
    "nodePublishSecretRef",
    "nodeSelector",
    "nodeStageSecretRef",
    "objectSelector",
    "paramKind",
    "paramRef",
    "podSelector",
    "port",
    "preference",
    "regarding",
    "related",
    "required",
    "requiredDuringSchedulingIgnoredDuringExecution",
    "resourceFieldRef",
    "roleRef",
    "scopeSelector",
    "secretKeyRef",
    "secretRef",
    "selector",
    "targetRef",
];

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
    order_by(items, place);
}

/// Puts the items that have a place into the order of their places; others stay behind the item that was
/// before them.
pub(crate) fn order_by(items: &mut Vec<Value>, place: impl Fn(&Value) -> Option<usize>) {
    let mut before = (0, 0);
    let mut placed: Vec<((usize, usize), Value)> = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        before = place(&item).map_or((before.0, before.1 + 1), |place| (place + 1, 0));
        placed.push((before, item));
    }
    placed.sort_by_key(|(place, _)| *place);
    items.extend(placed.into_iter().map(|(_, item)| item));
}
