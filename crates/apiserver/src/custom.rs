//! Kinds that users define: what a CustomResourceDefinition (apiextensions.k8s.io) says of them.

use std::sync::Arc;

use ironmesh_dialects::kinds::{Kind, Resource};
use serde_json::{Value, json};

use crate::clock;
use crate::object::Object;
use crate::registry::hold;
use crate::store::{Collection, Store};

mod columns;

pub(crate) use columns::Printed;

/// A kind that a definition adds.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// Its resource, in the version in which it is stored.
    pub(crate) resource: Resource,
    /// Versions that are served, as they are written.
    pub(crate) versions: Vec<String>,
    /// Singular name.
    pub(crate) singular: String,
    /// Short names.
    pub(crate) short: Vec<String>,
    /// Groups of resources that it belongs to, such as `all`.
    pub(crate) categories: Vec<String>,
    /// Columns of its tables behind the name; empty if it says none.
    pub(crate) columns: Arc<[Printed]>,
}

impl Definition {
    /// What a definition says, if it is whole.
    pub(crate) fn of(definition: &Object) -> Option<Self> {
        let spec = &definition["spec"];
        let names = &spec["names"];
        let all = spec["versions"].as_array().into_iter().flatten();
        let name = |version: &Value| version["name"].as_str().map(str::to_owned);
        let is = |version: &Value, what: &str| version[what].as_bool().unwrap_or_default();
        let stored = all.clone().find(|version| is(version, "storage"));
        // v1beta1 knows one version by itself.
        let stored_name =
            stored.and_then(name).or_else(|| spec["version"].as_str().map(Into::into));
        let served = all.filter(|version| is(version, "served")).filter_map(name);
        let mut versions: Vec<String> = served.collect();
        if versions.is_empty() && stored.is_none() {
            versions.extend(stored_name.clone());
        }
        let kind = names["kind"].as_str()?;
        let texts = |list: &Value| {
            let list = list.as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let singular = names["singular"].as_str().filter(|name| !name.is_empty());
        let columns =
            stored.map_or(Value::Null, |version| version["additionalPrinterColumns"].clone());
        let columns = if columns.is_null() { &spec["additionalPrinterColumns"] } else { &columns };
        Some(Self {
            resource: Resource {
                group: spec["group"].as_str()?.into(),
                version: stored_name?.into(),
                kind: kind.into(),
                plural: names["plural"].as_str()?.into(),
                namespaced: spec["scope"] != "Cluster",
            },
            versions,
            singular: singular.map_or_else(|| kind.to_ascii_lowercase(), str::to_owned),
            short: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            columns: columns.as_array().into_iter().flatten().filter_map(Printed::of).collect(),
        })
    }

    /// The definition of the resources under a path, if there is one. What the table of kinds has is
    /// not looked up here.
    pub(crate) fn find(store: &Store, group: &str, plural: &str) -> Option<Self> {
        let definition = store.object(&collection().key("", &format!("{plural}.{group}")))?;
        Self::of(&definition)
    }

    /// The columns that a definition gives a collection which the table of kinds does not have.
    pub(crate) fn columns_of(store: &Store, resource: &Resource) -> Arc<[Printed]> {
        if Kind::of_path(&resource.group, &resource.plural).is_some() {
            return Arc::new([]);
        }
        let definition = Self::find(store, &resource.group, &resource.plural);
        definition.map_or_else(|| Arc::from([]), |definition| definition.columns)
    }

    /// All that add kinds which the table does not have.
    pub(crate) fn all(store: &Store) -> Vec<Self> {
        let (definitions, _) = store.list(&collection(), None);
        let is_new = |definition: &Self| {
            Kind::of_path(&definition.resource.group, &definition.resource.plural).is_none()
        };
        definitions.iter().filter_map(|one| Self::of(one)).filter(is_new).collect()
    }
}

/// Where definitions are.
pub(crate) fn collection() -> Collection {
    Collection::new("apiextensions.k8s.io", "customresourcedefinitions")
}

/// What a new definition has at once: its names are accepted, and it is served; its objects go with it.
pub(crate) fn establish(definition: &mut Object) {
    let now = clock::rfc3339(clock::now());
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": now,
        })
    };
    let spec = &definition["spec"];
    let stored = Definition::of(definition).map(|definition| definition.resource.version);
    let status = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        "acceptedNames": spec["names"],
        "storedVersions": stored.as_deref().into_iter().collect::<Vec<_>>(),
    });
    definition["status"] = status;
    hold(definition, FINALIZER);
}

/// What holds a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_says_what_its_kind_is_called() {
        let names = json!({"kind": "Widget", "plural": "widgets", "shortNames": ["wd"], "categories": ["all"]});
        let definition = Definition::of(&json!({"spec": {
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
        let old = json!({"spec": {"group": "example.com", "version": "v1", "names": names}});
        let old = Definition::of(&old).unwrap();
        assert_eq!((&old.versions[..], old.resource.namespaced), (&["v1".to_owned()][..], true));
        for spec in [json!(null), json!({"group": 7}), json!({"names": names}), json!([])] {
            assert!(Definition::of(&json!({"spec": spec})).is_none());
        }
    }
}
