//! Discovery: which groups, versions and resources there are, as clients ask before they act.

use std::collections::BTreeSet;

use ironmesh_dialects::kinds::{KINDS, Kind};
use serde_json::{Value, json};

use super::resources::SCALED;
use crate::custom::Definition;

/// `/version`.
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "35",
        "gitVersion": format!("v1.35.0+ironmesh.{}", env!("CARGO_PKG_VERSION")),
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// `/api`.
pub(super) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(super) fn groups(defined: &[Definition]) -> Value {
    let mut seen = BTreeSet::new();
    let known = KINDS.iter().map(|kind| kind.group);
    let all = known.chain(defined.iter().map(|definition| &*definition.resource.group));
    let new = all.filter(|group| !group.is_empty() && seen.insert(*group));
    let groups: Vec<_> = new.map(|group| describe_group(group, defined)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(super) fn group(name: &str, defined: &[Definition]) -> Option<Value> {
    let is_known = KINDS.iter().any(|kind| kind.group == name)
        || defined.iter().any(|definition| &*definition.resource.group == name);
    if !is_known || name.is_empty() {
        return None;
    }
    let mut group = describe_group(name, defined);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(super) fn resources(group: &str, version: &str, defined: &[Definition]) -> Option<Value> {
    let in_version = |k: &&Kind| k.group == group && k.versions.contains(&version);
    let mut resources: Vec<_> = KINDS.iter().filter(in_version).flat_map(describe).collect();
    let in_version = |definition: &&Definition| {
        &*definition.resource.group == group && definition.versions.iter().any(|v| v == version)
    };
    resources.extend(defined.iter().filter(in_version).flat_map(describe_defined));
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": group_version,
            "resources": resources,
        })
    })
}

/// A group with the versions of all its kinds, the preferred one first.
fn describe_group(group: &str, defined: &[Definition]) -> Value {
    let known = KINDS.iter().filter(|kind| kind.group == group);
    let known = known.flat_map(|kind| kind.versions.iter().copied());
    let defined = defined.iter().filter(|definition| &*definition.resource.group == group);
    let defined = defined.flat_map(|definition| definition.versions.iter().map(String::as_str));
    let mut versions: Vec<&str> = Vec::new();
    for version in known.chain(defined) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let describe =
        |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<_> = versions.iter().map(describe).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// The resource of a definition, and its status.
fn describe_defined(definition: &Definition) -> [Value; 2] {
    let Definition { resource, singular, short, categories, .. } = definition;
    let entry = |name: String, singular: &str, verbs: &[&str]| {
        json!({
            "name": name,
            "singularName": singular,
            "namespaced": resource.namespaced,
            "kind": &*resource.kind,
            "verbs": verbs,
        })
    };
    let mut main = entry(resource.plural.to_string(), singular, VERBS);
    main["shortNames"] = json!(short);
    main["categories"] = json!(categories);
    [main, entry(format!("{}/status", resource.plural), "", &["get", "patch", "update"])]
}

/// The resource and its subresources.
fn describe(kind: &Kind) -> Vec<Value> {
    let entry = |name: String, kind_name: &str, verbs: &[&str]| {
        json!({
            "name": name,
            "singularName": if name.contains('/') { String::new() } else { kind.singular() },
            "namespaced": kind.namespaced,
            "kind": kind_name,
            "verbs": verbs,
        })
    };
    let mut main = entry(kind.plural.to_owned(), kind.kind, VERBS);
    main["shortNames"] = json!(kind.short);
    if ironmesh_dialects::kinds::ALL.contains(&kind.plural) {
        main["categories"] = json!(["all"]);
    }
    let mut all = vec![main];
    all.push(entry(format!("{}/status", kind.plural), kind.kind, &["get", "patch", "update"]));
    match kind.plural {
        "pods" => all.push(entry("pods/log".to_owned(), "Pod", &["get"])),
        plural if SCALED.contains(&plural) => {
            let mut scale =
                entry(format!("{}/scale", kind.plural), "Scale", &["get", "patch", "update"]);
            scale["group"] = "autoscaling".into();
            scale["version"] = "v1".into();
            all.push(scale);
        }
        _ => {}
    }
    all
}

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
