//! Discovery: which groups, versions and resources there are, as clients ask before they act.

use std::collections::BTreeSet;

use ironmesh_dialects::kinds::{Defined, KINDS, Kind};
use serde_json::{Value, json};

use super::resources::SCALED;
use super::reviews::REVIEWS;
use super::usage;

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
pub(super) fn groups(defined: &[Defined]) -> Value {
    let mut seen = BTreeSet::new();
    let known = KINDS.iter().map(|kind| kind.group);
    let reviews = REVIEWS.iter().map(|(group, ..)| *group);
    let known = known.chain(reviews).chain([usage::GROUP]);
    let known = known.chain(defined.iter().map(|definition| &*definition.resource.group));
    // Last, since kubectl takes the first group that has what a plural names.
    let all = known.chain(KINDS.iter().flat_map(predecessors).map(|(group, _)| group));
    let new = all.filter(|group| !group.is_empty() && seen.insert(*group));
    let groups: Vec<_> = new.map(|group| describe_group(group, defined)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(super) fn group(name: &str, defined: &[Defined]) -> Option<Value> {
    let is_predecessor = |kind: &Kind| predecessors(kind).any(|(group, _)| group == name);
    let is_known = KINDS.iter().any(|kind| kind.group == name || is_predecessor(kind))
        || REVIEWS.iter().any(|(group, ..)| *group == name)
        || name == usage::GROUP
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
pub(super) fn resources(group: &str, version: &str, defined: &[Defined]) -> Option<Value> {
    let in_version = |k: &&Kind| k.group == group && k.versions.contains(&version);
    let mut resources: Vec<_> = KINDS.iter().filter(in_version).flat_map(describe).collect();
    let in_predecessor = |k: &&Kind| predecessors(k).any(|taken| taken == (group, version));
    resources.extend(KINDS.iter().filter(in_predecessor).flat_map(|kind| {
        let mut all = describe(kind);
        // They are those of its own group: `kubectl get all` would show everything twice.
        for word in ["shortNames", "categories"] {
            all[0].as_object_mut().map(|main| main.remove(word));
        }
        all
    }));
    let in_version = |definition: &&Defined| {
        &*definition.resource.group == group && definition.versions.iter().any(|v| v == version)
    };
    resources.extend(defined.iter().filter(in_version).flat_map(describe_defined));
    let asked = REVIEWS.iter().filter(|(of, ..)| *of == group && version == "v1");
    resources.extend(asked.map(|(_, plural, kind, _)| {
        json!({
            "name": plural, "singularName": kind.to_ascii_lowercase(), "namespaced": false,
            "kind": kind, "verbs": ["create"],
        })
    }));
    if (group, version) == (usage::GROUP, usage::VERSION) {
        resources.extend(usage::RESOURCES.map(|(plural, kind, namespaced)| {
            json!({
                "name": plural, "singularName": "", "namespaced": namespaced, "kind": kind,
                "verbs": ["get", "list"],
            })
        }));
    }
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
fn describe_group(group: &str, defined: &[Defined]) -> Value {
    let known = KINDS.iter().flat_map(|kind| {
        let own = kind.versions.iter().filter(|_| kind.group == group).copied();
        own.chain(predecessors(kind).filter(|(of, _)| *of == group).map(|(_, version)| version))
    });
    let defined = defined.iter().filter(|definition| &*definition.resource.group == group);
    let defined = defined.flat_map(|definition| definition.versions.iter().map(String::as_str));
    let mut versions: Vec<&str> = Vec::new();
    let reviews = REVIEWS.iter().filter(|(of, ..)| *of == group).map(|_| "v1");
    let usage = (group == usage::GROUP).then_some(usage::VERSION);
    for version in known.chain(defined).chain(reviews).chain(usage) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let describe =
        |version: &&str| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let versions: Vec<_> = versions.iter().map(describe).collect();
    json!({"name": group, "preferredVersion": versions.first(), "versions": versions})
}

/// Groups and versions that had a kind before its own has it, which clients ask for by old manifests. Events
/// are not named by another group, where they look otherwise.
fn predecessors(kind: &Kind) -> impl Iterator<Item = (&'static str, &'static str)> {
    kind.aliases.iter().copied().filter(|(group, _)| *group != "events.k8s.io")
}

/// The resource of a definition, and its status.
fn describe_defined(definition: &Defined) -> [Value; 2] {
    let Defined { resource, singular, short, categories, .. } = definition;
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
        "pods" if kind.group.is_empty() => all.extend(of_pods()),
        "services" => all.push(proxied("services", "ServiceProxyOptions")),
        "serviceaccounts" => all.push(token_request()),
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

/// What can be done with a pod beside changing it.
fn of_pods() -> Vec<Value> {
    let part = |name: &str, kind: &str, verbs: &[&str]| {
        json!({
            "name": format!("pods/{name}"), "singularName": "", "namespaced": true, "kind": kind,
            "verbs": verbs,
        })
    };
    let mut eviction = part("eviction", "Eviction", &["create"]);
    eviction["group"] = "policy".into();
    eviction["version"] = "v1".into();
    vec![
        part("attach", "PodAttachOptions", &["create", "get"]),
        eviction,
        part("exec", "PodExecOptions", &["create", "get"]),
        part("log", "Pod", &["get"]),
        part("portforward", "PodPortForwardOptions", &["create", "get"]),
        proxied("pods", "PodProxyOptions"),
    ]
}

/// Requests that go on to an application.
fn proxied(plural: &str, kind: &str) -> Value {
    json!({
        "name": format!("{plural}/proxy"), "singularName": "", "namespaced": true, "kind": kind,
        "verbs": ["create", "delete", "get", "patch", "update"],
    })
}

/// How tokens are asked for.
fn token_request() -> Value {
    json!({
        "name": "serviceaccounts/token", "singularName": "", "namespaced": true,
        "kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1", "verbs": ["create"],
    })
}

/// `/api` or `/apis` with all their resources in one answer (aggregated discovery), for who asks for
/// that: its media type, and the list.
pub(super) fn aggregated(
    accept: &str,
    core: bool,
    defined: &[Defined],
) -> Option<(&'static str, Value)> {
    let (media_type, version) =
        AGGREGATED.iter().find(|(media_type, _)| accept.contains(media_type))?;
    let groups = match core {
        true => vec![json!({"name": "", "versions": [{"version": "v1"}]})],
        false => groups(defined)["groups"].as_array().cloned().unwrap_or_default(),
    };
    let item = |group: &Value| {
        let name = group["name"].as_str().unwrap_or_default();
        let versions = group["versions"].as_array().into_iter().flatten();
        let version = |version: &Value| {
            let version = version["version"].as_str().unwrap_or_default();
            let all = resources(name, version, defined).unwrap_or_default();
            json!({
                "version": version,
                "freshness": "Current",
                "resources": with_parts(name, version, all["resources"].as_array()),
            })
        };
        json!({
            "metadata": {"name": name, "creationTimestamp": null},
            "versions": versions.map(version).collect::<Vec<_>>(),
        })
    };
    let items: Vec<Value> = groups.iter().map(item).collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    });
    Some((media_type, list))
}

/// The resources of a version, each with its subresources.
fn with_parts(group: &str, version: &str, all: Option<&Vec<Value>>) -> Vec<Value> {
    let of = |entry: &Value| {
        let given = |field: &str| entry[field].as_str().map(str::to_owned);
        json!({
            "group": given("group").unwrap_or_else(|| group.to_owned()),
            "version": given("version").unwrap_or_else(|| version.to_owned()),
            "kind": entry["kind"],
        })
    };
    let all = || all.into_iter().flatten();
    let is_part = |entry: &&Value| entry["name"].as_str().is_some_and(|name| name.contains('/'));
    let main = all().filter(|entry| !is_part(entry));
    main.map(|entry| {
        let name = entry["name"].as_str().unwrap_or_default();
        let parts = all().filter_map(|part| {
            let (of_which, word) = part["name"].as_str()?.split_once('/')?;
            (of_which == name).then(
                || json!({"subresource": word, "responseKind": of(part), "verbs": part["verbs"]}),
            )
        });
        let parts: Vec<Value> = parts.collect();
        let mut resource = json!({
            "resource": name,
            "responseKind": of(entry),
            "scope": if entry["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": entry["singularName"],
            "verbs": entry["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if let Some(words) = entry.get(field) {
                resource[field] = words.clone();
            }
        }
        if !parts.is_empty() {
            resource["subresources"] = parts.into();
        }
        resource
    })
    .collect()
}

/// Media types of aggregated discovery, and its versions.
const AGGREGATED: [(&str, &str); 2] = [
    ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList", "v2"),
    ("application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList", "v2beta1"),
];
const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
