//! Tables as kubectl shows them, rendered here so that every client shows the same. Pure functions.

use ironmesh_dialects::columns::{Column, Columns, PLAIN};
use ironmesh_dialects::kinds::Kind;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::Object;

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
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    columns: Columns,
    include: Include,
    now: Timestamp,
}

impl Rows {
    /// Those of a collection, at a time.
    pub(crate) fn new(group: &str, plural: &str, include: Include, now: Timestamp) -> Self {
        let columns = Kind::of_path(group, plural).map_or(PLAIN, |kind| kind.columns);
        Self { columns, include, now }
    }

    /// The row of an object.
    pub(crate) fn row(&self, object: &Object) -> Value {
        let mut row = json!({"cells": (self.columns.cells)(object, self.now)});
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
        let columns: Vec<_> = self.columns.all.iter().map(definition).collect();
        json!({
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": {"resourceVersion": revision},
            "columnDefinitions": columns,
            "rows": rows,
        })
    }
}

fn definition(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": "string",
        "format": if column.name == "Name" { "name" } else { "" },
        "description": "",
        "priority": i32::from(column.wide),
    })
}

#[cfg(test)]
mod tests;
