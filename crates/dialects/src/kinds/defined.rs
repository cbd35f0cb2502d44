//! Kinds that users define: what a CustomResourceDefinition (apiextensions.k8s.io) calls them.

use serde_json::Value;

use super::Resource;

/// A kind that a definition adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defined {
    /// Its resource, in the version in which it is stored.
    pub resource: Resource,
    /// Versions that are served, as they are written.
    pub versions: Vec<String>,
    /// Singular name.
    pub singular: String,
    /// Short names.
    pub short: Vec<String>,
    /// Groups of resources that it belongs to, such as `all`.
    pub categories: Vec<String>,
}

impl Defined {
    /// What a definition says, v1 or v1beta1, if it is whole. Its own kind is not looked at: items of lists
    /// have none.
    pub fn of(definition: &Value) -> Option<Self> {
        let spec = &definition["spec"];
        let names = &spec["names"];
        let all = || spec["versions"].as_array().into_iter().flatten();
        let name = |version: &Value| version["name"].as_str().map(str::to_owned);
        let stored = all().find(|version| version["storage"] == true);
        // v1beta1 knows one version by itself.
        let own = spec["version"].as_str().map(str::to_owned);
        let mut versions: Vec<String> =
            all().filter(|version| version["served"] == true).filter_map(name).collect();
        if versions.is_empty() && stored.is_none() {
            versions.extend(own.clone());
        }
        let kind = names["kind"].as_str()?;
        let texts = |list: &Value| -> Vec<String> {
            let list = list.as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let singular = names["singular"].as_str().filter(|name| !name.is_empty());
        Some(Self {
            resource: Resource {
                group: spec["group"].as_str()?.into(),
                version: stored.and_then(name).or(own)?.into(),
                kind: kind.into(),
                plural: names["plural"].as_str()?.into(),
                namespaced: spec["scope"] != "Cluster",
            },
            versions,
            singular: singular.map_or_else(|| kind.to_ascii_lowercase(), str::to_owned),
            short: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
        })
    }

    /// Whether a user's word means it: plural, singular, kind or a short name, perhaps with the group.
    pub fn is_meant(&self, word: &str) -> bool {
        let word = word.to_ascii_lowercase();
        let (name, group) = match word.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (&*word, None),
        };
        let Resource { plural, kind, group: own, .. } = &self.resource;
        let is_named = name == &**plural
            || name == self.singular
            || kind.eq_ignore_ascii_case(name)
            || self.short.iter().any(|short| short == name);
        is_named && group.is_none_or(|group| group == &**own)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_says_what_its_kind_is_called() {
        let names = json!({"kind": "Widget", "plural": "widgets", "shortNames": ["wd"], "categories": ["all"]});
        let definition = Defined::of(&json!({"spec": {
            "group": "example.com", "scope": "Cluster", "names": names,
            "versions": [
                {"name": "v1", "served": true, "storage": true},
                {"name": "v1alpha1", "served": false, "storage": false},
                {"name": "v1beta1", "served": true, "storage": false},
            ],
        }}));
        let definition = definition.unwrap();
        assert_eq!(definition.resource.path(None, Some("a")), "/apis/example.com/v1/widgets/a");
        assert_eq!(definition.versions, ["v1", "v1beta1"]);
        assert_eq!(
            (&*definition.singular, &definition.short[..]),
            ("widget", &["wd".to_owned()][..])
        );
        for word in ["widgets", "widget", "Widget", "wd", "wd.example.com"] {
            assert!(definition.is_meant(word), "{word}");
        }
        for word in ["widgetss", "w", "widgets.example.org", ""] {
            assert!(!definition.is_meant(word), "{word}");
        }
        let old = json!({"spec": {"group": "example.com", "version": "v1", "names": names}});
        let old = Defined::of(&old).unwrap();
        assert_eq!((&old.versions[..], old.resource.namespaced), (&["v1".to_owned()][..], true));
        for spec in [json!(null), json!({"group": 7}), json!({"names": names}), json!([])] {
            assert!(Defined::of(&json!({"spec": spec})).is_none());
        }
    }
}
