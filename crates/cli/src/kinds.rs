//! Kinds that users define: CustomResourceDefinitions of the mesh and of manifests; and what somebody
//! meant who names a kind that there is not.

use ironmesh_dialects::kinds::{KINDS, Kind, Resource, split_api_version};
use ironmesh_dialects::schema::nearest;
use serde_json::Value;

use crate::api::{Api, ApiError};
use crate::target;

/// A kind that a definition adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Defined {
    /// Its resource.
    pub(crate) resource: Resource,
    /// Other words for it: singular and short names.
    words: Vec<String>,
}

impl Defined {
    /// The kind of a CustomResourceDefinition, if it is one.
    pub(crate) fn by(definition: &Value) -> Option<Self> {
        if definition["kind"] != "CustomResourceDefinition" {
            return None;
        }
        let spec = &definition["spec"];
        let names = &spec["names"];
        let versions = spec["versions"].as_array().into_iter().flatten();
        let stored = versions.clone().find(|version| version["storage"] == true);
        let version = stored.or_else(|| versions.clone().next()).map(|version| &version["name"]);
        let (kind, plural) = (names["kind"].as_str()?, names["plural"].as_str()?);
        let singular = names["singular"].as_str().map(str::to_owned);
        let short = names["shortNames"].as_array().into_iter().flatten();
        let short = short.filter_map(|name| name.as_str().map(str::to_owned));
        Some(Self {
            resource: Resource {
                group: spec["group"].as_str()?.into(),
                version: version.unwrap_or(&spec["version"]).as_str()?.into(),
                kind: kind.into(),
                plural: plural.into(),
                namespaced: spec["scope"] != "Cluster",
            },
            words: singular.into_iter().chain(short).collect(),
        })
    }

    /// Whether a user's word means it.
    fn is_meant(&self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        let (name, group) = match word.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (&*word, None),
        };
        let Resource { plural, kind, group: own, .. } = &self.resource;
        let is_named = name == &**plural
            || kind.eq_ignore_ascii_case(name)
            || self.words.iter().any(|word| word == name);
        is_named && group.is_none_or(|group| group == &**own)
    }
}

/// The kinds that the mesh's definitions add.
pub(crate) async fn defined(api: &Api) -> Result<Vec<Defined>, ApiError> {
    let definitions = Kind::of("apiextensions.k8s.io", "CustomResourceDefinition");
    let Some(definitions) = definitions.map(Resource::from) else { return Ok(Vec::new()) };
    let mut list = api.get(&definitions.path(None, None)).await?;
    let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    Ok(items
        .into_iter()
        .filter_map(|mut item| {
            // Items of lists have no kind of their own.
            item["kind"] = "CustomResourceDefinition".into();
            Defined::by(&item)
        })
        .collect())
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
        let names = json!({"kind": "Widget", "plural": "widgets", "singular": "widget", "shortNames": ["wd"]});
        let definition = |versions: Value| {
            let mut spec = json!({"group": "example.com", "scope": "Cluster", "names": names});
            spec.as_object_mut().unwrap().extend(versions.as_object().unwrap().clone());
            json!({"kind": "CustomResourceDefinition", "spec": spec})
        };
        let new = json!({"versions": [{"name": "v2"}, {"name": "v1", "storage": true}]});
        let old = json!({"version": "v1"});
        for versions in [new, old] {
            let widget = Defined::by(&definition(versions)).unwrap();
            assert_eq!(
                widget.resource.path(Some("n"), Some("x")),
                "/apis/example.com/v1/widgets/x"
            );
            for word in ["widgets", "Widget", "wd", "widgets.example.com"] {
                assert!(widget.is_meant(word), "{word}");
            }
            assert!(!widget.is_meant("widgets.example.org") && !widget.is_meant("wide"));
        }
        assert_eq!(Defined::by(&json!({"kind": "Pod"})), None);
        assert_eq!(Defined::by(&definition(json!({}))), None);
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
