//! Kinds that users define: what a CustomResourceDefinition (apiextensions.k8s.io) says of them.

use std::sync::Arc;

use ironmesh_dialects::kinds::{Defined, Kind, Resource};
use serde_json::json;

use crate::clock;
use crate::object::Object;
use crate::registry::hold;
use crate::store::{Collection, Store};

mod columns;

pub(crate) use columns::Printed;

/// A kind that a definition adds.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    /// Its names and versions.
    pub(crate) kind: Defined,
    /// Columns of its tables behind the name; empty if it says none.
    pub(crate) columns: Arc<[Printed]>,
}

impl Definition {
    /// What a definition says, if it is whole.
    pub(crate) fn of(definition: &Object) -> Option<Self> {
        let kind = Defined::of(definition)?;
        let spec = &definition["spec"];
        let all = spec["versions"].as_array().into_iter().flatten();
        let stored = all.into_iter().find(|version| version["name"] == *kind.resource.version);
        // v1beta1 has them once, for all versions.
        let columns = stored.map(|version| &version["additionalPrinterColumns"]);
        let columns = columns.filter(|columns| !columns.is_null());
        let columns = columns.unwrap_or(&spec["additionalPrinterColumns"]);
        let columns = columns.as_array().into_iter().flatten().filter_map(Printed::of).collect();
        Some(Self { kind, columns })
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

    /// All kinds that definitions add and the table does not have.
    pub(crate) fn all(store: &Store) -> Vec<Defined> {
        let (definitions, _) = store.list(&collection(), None);
        let is_new = |defined: &Defined| {
            Kind::of_path(&defined.resource.group, &defined.resource.plural).is_none()
        };
        definitions.iter().filter_map(|one| Defined::of(one)).filter(is_new).collect()
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
    let stored = Defined::of(definition).map(|defined| defined.resource.version);
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
