//! Kinds that users define: CustomResourceDefinitions of the mesh and of manifests; and what somebody
//! meant who names a kind that there is not.

use ironmesh_dialects::kinds::{Defined, KINDS, Kind, Resource, split_api_version};
use ironmesh_dialects::schema::nearest;
use serde_json::Value;

use crate::api::{Api, ApiError};
use crate::target;

/// The kind of a CustomResourceDefinition, if an object is one.
pub(crate) fn defined_by(object: &Value) -> Option<Defined> {
    (object["kind"] == "CustomResourceDefinition").then(|| Defined::of(object)).flatten()
}

/// The kinds that the mesh's definitions add.
pub(crate) async fn defined(api: &Api) -> Result<Vec<Defined>, ApiError> {
    let definitions = Kind::of("apiextensions.k8s.io", "CustomResourceDefinition");
    let Some(definitions) = definitions.map(Resource::from) else { return Ok(Vec::new()) };
    let mut list = api.get(&definitions.path(None, None)).await?;
    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(items.iter().filter_map(Defined::of).collect())
}

/// The resource that a word means: one that the table knows, or one that the mesh's definitions add.
///
/// # Errors
///
/// If there is none, with what may have been meant.
pub(crate) async fn resource(api: &Api, word: &str) -> anyhow::Result<Resource> {
    if let Some(known) = Resource::by_word(word) {
        return Ok(known);
    }
    let defined = defined(api).await?;
    match defined.iter().find(|defined| defined.is_meant(word)) {
        Some(defined) => Ok(defined.resource.clone()),
        None => Err(target::unknown(word)),
    }
}

/// The resource of an object by its version and kind, among those that are defined.
pub(crate) fn find(defined: &[Defined], api_version: &str, kind: &str) -> Option<Resource> {
    let (group, _) = split_api_version(api_version);
    let is_it = |d: &&Defined| &*d.resource.kind == kind && &*d.resource.group == group;
    defined.iter().find(is_it).map(|defined| defined.resource.clone())
}

/// What is said of an object of a kind that there is not.
pub(crate) fn no_match(api_version: &str, kind: &str) -> String {
    let (group, _) = split_api_version(api_version);
    let of_group = KINDS.iter().filter(|k| k.group == group).map(|k| k.kind);
    let any = KINDS.iter().map(|k| k.kind);
    let near = nearest(kind, of_group).or_else(|| nearest(kind, any));
    let hint = match near.and_then(|near| KINDS.iter().find(|k| k.kind == near)) {
        Some(near) => {
            let version = Resource::from(near).api_version();
            format!("; did you mean {:?} in version {version:?}?", near.kind)
        }
        None => "; if it is a custom resource, apply its CustomResourceDefinition first".to_owned(),
    };
    format!("no matches for kind {kind:?} in version {api_version:?}{hint}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn definitions_add_kinds() {
        let names = json!({"kind": "Widget", "plural": "widgets"});
        let spec = json!({"group": "example.com", "version": "v1", "names": names});
        let defined = defined_by(&json!({"kind": "CustomResourceDefinition", "spec": spec}));
        let found = find(&[defined.unwrap()], "example.com/v1", "Widget");
        assert_eq!(
            found.unwrap().path(Some("n"), Some("x")),
            "/apis/example.com/v1/namespaces/n/widgets/x"
        );
        assert_eq!(defined_by(&json!({"kind": "Pod", "spec": spec})), None);
    }

    #[test]
    fn a_misspelt_kind_is_guessed() {
        assert_eq!(
            no_match("apps/v1", "Deploymnt"),
            "no matches for kind \"Deploymnt\" in version \"apps/v1\"; did you mean \"Deployment\" in version \"apps/v1\"?"
        );
        assert!(no_match("v1", "VirtualServce").contains("\"networking.istio.io/v1\""));
        assert!(
            no_match("example.com/v1", "Frobnicator").ends_with("CustomResourceDefinition first")
        );
    }
}
