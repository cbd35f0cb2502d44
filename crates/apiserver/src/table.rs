//! Tables as kubectl shows them, rendered here so that every client shows the same. Pure functions.

use std::sync::Arc;

use ironmesh_dialects::columns::{Column, Columns, PLAIN};
use ironmesh_dialects::kinds::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::custom::Printed;
use crate::object::{self, Object};

/// How much of an object goes with its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Include {
    /// Nothing.
    Nothing,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

/// The rows of a collection's tables.
#[derive(Clone)]
pub(crate) struct Rows {
    columns: Columns,
    /// Those behind the name that a definition says, which replace all others.
    printed: Arc<[Printed]>,
    include: Include,
    now: Timestamp,
}

impl Rows {
    /// Those of a collection, at a time; `printed`: those that a definition gives it.
    pub(crate) fn new(
        group: &str,
        plural: &str,
        printed: Arc<[Printed]>,
        include: Include,
        now: Timestamp,
    ) -> Self {
        let columns = Kind::of_path(group, plural).map_or(PLAIN, |kind| kind.columns);
        Self { columns, printed, include, now }
    }

    fn cells(&self, object: &Object) -> Vec<Value> {
        if self.printed.is_empty() {
            return (self.columns.cells)(object, self.now);
        }
        let printed = self.printed.iter().map(|column| column.cell(object, self.now));
        std::iter::once(object::name(object).into()).chain(printed).collect()
    }

    /// The row of an object.
    pub(crate) fn row(&self, object: &Object) -> Value {
        let mut row = json!({"cells": self.cells(object)});
        match self.include {
            Include::Nothing => {}
            Include::Metadata => {
                row["object"] = json!({
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": object["metadata"],
                });
            }
            Include::Object => row["object"] = object.clone(),
        }
        row
    }

    /// A `Table` of some rows.
    pub(crate) fn table(&self, rows: Vec<Value>, revision: &str) -> Value {
        let columns: Vec<_> = if self.printed.is_empty() {
            let all = self.columns.all.iter();
            all.map(|Column { name, wide }| definition(name, *wide)).collect()
        } else {
            let printed = self.printed.iter().map(|column| definition(&column.name, column.wide));
            std::iter::once(definition("Name", false)).chain(printed).collect()
        };
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": revision},
            "columnDefinitions": columns,
            "rows": rows,
        })
    }
}

fn definition(name: &str, wide: bool) -> Value {
    json!({
        "name": name,
        "type": "string",
        "format": if name == "Name" { "name" } else { "" },
        "description": "",
        "priority": i32::from(wide),
    })
}

#[cfg(test)]
mod tests;
