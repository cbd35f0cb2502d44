//! `/openapi/v3`: what `kubectl` asks for before it sends an object (which kinds can be patched, and
//! with which parameters), and the fields of the kinds that have a table, for `kubectl explain`.

use serde_json::{Map, Value, json};

use ironmesh_dialects::kinds::{KINDS, Kind, Resource};

pub(super) mod v2;

/// `/openapi/v3`: where the description of each group and version is.
pub(super) fn index() -> Value {
    let mut paths = Map::new();
    for (group, version) in KINDS.iter().flat_map(Kind::group_versions) {
        let name = path_of(group, version);
        let place = format!("/openapi/v3/{name}");
        paths.insert(name, json!({"serverRelativeURL": place}));
    }
    json!({"paths": paths})
}

/// The description of a group (empty for the core group) and version.
pub(super) fn document(group: &str, version: &str) -> Option<Value> {
    let taken = || KINDS.iter().filter(|kind| kind.has_version(group, version));
    let paths: Map<String, Value> = taken().map(|kind| operation(kind, group, version)).collect();
    let schemas: Map<String, Value> =
        taken().filter_map(|kind| schema(kind, group, version)).collect();
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0",
            "info": {"title": "ironmesh", "version": env!("CARGO_PKG_VERSION")},
            "paths": paths,
            "components": {"schemas": schemas},
        })
    })
}

/// The schema of a kind under its name; `None` if its fields are not known here.
fn schema(kind: &Kind, group: &str, version: &str) -> Option<(String, Value)> {
    let mut schema = kind.fields?.openapi();
    schema["x-kubernetes-group-version-kind"] = json!([names(kind, group, version)]);
    Some((schema_name(kind, group, version), schema))
}

fn schema_name(kind: &Kind, group: &str, version: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    format!("{group}.{version}.{}", kind.kind)
}

fn names(kind: &Kind, group: &str, version: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind.kind})
}

/// `api/v1` or `apis/GROUP/VERSION`.
fn path_of(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The path of an object, with its names left open.
fn path(kind: &Kind, group: &str, version: &str) -> String {
    let resource =
        Resource { group: group.into(), version: version.into(), ..Resource::from(kind) };
    let path = resource.path(Some("NAMESPACE"), Some("NAME"));
    path.replace("NAMESPACE", "{namespace}").replace("NAME", "{name}")
}

fn operation(kind: &Kind, group: &str, version: &str) -> (String, Value) {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let patch = json!({
        "operationId": format!("patch{}{}{}", group.replace('.', ""), version, kind.kind),
        "parameters": [parameter("dryRun"), parameter("fieldValidation")],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-group-version-kind": names(kind, group, version),
    });
    (path(kind, group, version), json!({"patch": patch}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_of_the_index_has_its_document() {
        let index = index();
        for name in index["paths"].as_object().unwrap().keys() {
            let words: Vec<_> = name.split('/').collect();
            let document = match words[..] {
                ["api", version] => document("", version),
                ["apis", group, version] => document(group, version),
                _ => None,
            };
            assert!(document.is_some(), "{name}");
        }
        let core = document("", "v1").unwrap();
        let pods = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(pods["x-kubernetes-group-version-kind"]["kind"], "Pod");
        assert_eq!(document("apps", "v7"), None);
        assert_eq!(document("extensions", "v1"), None);
        let old = document("extensions", "v1beta1").unwrap();
        let path = "/apis/extensions/v1beta1/namespaces/{namespace}/deployments/{name}";
        let group = &old["paths"][path]["patch"]["x-kubernetes-group-version-kind"]["group"];
        assert_eq!(group, "extensions");
        assert!(old["components"]["schemas"]["extensions.v1beta1.Deployment"].is_object());
        assert!(index["paths"].get("apis/extensions/v1beta1").is_some());
    }

    #[test]
    fn fields_are_described_as_their_tables_have_them() {
        let document = document("networking.istio.io", "v1beta1").unwrap();
        let kind = &document["components"]["schemas"]["networking.istio.io.v1beta1.VirtualService"];
        assert_eq!(kind["x-kubernetes-group-version-kind"][0]["version"], "v1beta1");
        let route = &kind["properties"]["spec"]["properties"]["http"]["items"]["properties"];
        let destination = &route["route"]["items"]["properties"]["destination"];
        assert_eq!(destination["required"], json!(["host"]));
        assert_eq!(route["delegate"]["type"], "object");
        // A kind without a table is there all the same, without fields.
        let sidecar = "/apis/networking.istio.io/v1beta1/namespaces/{namespace}/sidecars/{name}";
        assert!(document["paths"].get(sidecar).is_some());
    }
}
