//! Discovery: which groups, versions and resources there are, as clients ask before they act.

use std::collections::BTreeSet;

use http::{Method, StatusCode};
use ironmesh_dialects::kinds::{KINDS, Kind};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::request::ApiRequest;
use super::resources::SCALED;
use crate::failure::Failure;

/// `/version`.
pub(super) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "30",
        "gitVersion": format!("v1.30.0+ironmesh.{}", env!("CARGO_PKG_VERSION")),
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

/// Whether the caller may do something (`kubectl auth can-i`): who may connect may do everything.
///
/// # Errors
///
/// If it is no question of that kind.
pub(super) fn access_review(request: &ApiRequest) -> Result<Answer, Failure> {
    if request.method != Method::POST {
        return Err(Failure::method_not_allowed());
    }
    let mut review = request.json()?;
    if !review.is_object() {
        return Err(Failure::bad_request("the body is no JSON object"));
    }
    review["status"] = json!({"allowed": true});
    Ok(answer::json(StatusCode::CREATED, &review))
}

/// `/api`.
pub(super) fn core_versions() -> Value {
    json!({"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

/// `/apis`.
pub(super) fn groups() -> Value {
    let mut seen = BTreeSet::new();
    let groups: Vec<_> = KINDS
        .iter()
        .filter(|kind| !kind.group.is_empty() && seen.insert(kind.group))
        .map(describe_group)
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`.
pub(super) fn group(name: &str) -> Option<Value> {
    let mut group = describe_group(KINDS.iter().find(|k| k.group == name && !name.is_empty())?);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(super) fn resources(group: &str, version: &str) -> Option<Value> {
    let in_version = |k: &&Kind| k.group == group && k.versions.contains(&version);
    let resources: Vec<_> = KINDS.iter().filter(in_version).flat_map(describe).collect();
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

fn describe_group(kind: &Kind) -> Value {
    let describe = |version: &&str| json!({"groupVersion": format!("{}/{version}", kind.group), "version": version});
    let versions: Vec<_> = kind.versions.iter().map(describe).collect();
    json!({"name": kind.group, "preferredVersion": versions[0], "versions": versions})
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
