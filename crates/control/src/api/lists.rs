//! Lists whose items have a key, so that they are merged item by item.

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
