//! Tables as `kubectl` lays them out: columns three blanks apart, as wide as their widest cell.

use ironmesh_dialects::kinds::Resource;
use serde_json::Value;

/// Text in columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    rows: Vec<Vec<String>>,
    /// Least width of each column, blanks after it included.
    widths: Vec<usize>,
}

impl Columns {
    /// Adds a row.
    pub(crate) fn push(&mut self, row: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    /// The rows as text; rows that are added later keep the widths.
    pub(crate) fn take_text(&mut self) -> String {
        for row in &self.rows {
            for (at, cell) in row.iter().enumerate() {
                let width = cell.chars().count() + GAP;
                match self.widths.get_mut(at) {
                    Some(known) => *known = (*known).max(width),
                    None => self.widths.push(width.max(WIDTH_MIN)),
                }
            }
        }
        let mut text = String::new();
        for row in self.rows.drain(..) {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&self.widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// What of the server's tables is shown.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shown<'a> {
    /// Columns that are usually left out, too.
    pub(crate) wide: bool,
    /// The namespace as a first column.
    pub(crate) namespace: bool,
    /// Labels that have columns of their own.
    pub(crate) label_columns: &'a [String],
    /// The labels as a last column.
    pub(crate) labels: bool,
    /// Whether names have their kind before them.
    pub(crate) kind: bool,
}

impl Shown<'_> {
    /// The same for the objects of a resource, which may be in no namespace.
    pub(crate) fn of(self, resource: &Resource) -> Self {
        Self { namespace: self.namespace && resource.namespaced, ..self }
    }

    /// The head of a table.
    pub(crate) fn head(self, table: &Value) -> Vec<String> {
        let mut head: Vec<String> = self
            .columns(table)
            .filter_map(|(_, column)| Some(column["name"].as_str()?.to_uppercase()))
            .collect();
        if self.namespace {
            head.insert(0, "NAMESPACE".to_owned());
        }
        // As kubectl: of a key with a domain only the name.
        let name = |key: &String| key.rsplit('/').next().unwrap_or_default().to_uppercase();
        head.extend(self.label_columns.iter().map(name));
        if self.labels {
            head.push("LABELS".to_owned());
        }
        head
    }

    /// One row of a table; `kind` is its kind with group (`deployment.apps`).
    pub(crate) fn row(self, table: &Value, row: &Value, kind: &str) -> Vec<String> {
        let mut cells: Vec<String> =
            self.columns(table).map(|(at, _)| cell(&row["cells"][at])).collect();
        if self.kind
            && let Some(name) = cells.first_mut()
        {
            *name = format!("{kind}/{name}");
        }
        let metadata = &row["object"]["metadata"];
        if self.namespace {
            cells.insert(0, metadata["namespace"].as_str().unwrap_or_default().to_owned());
        }
        let label = |key: &String| metadata["labels"][key].as_str().unwrap_or_default().to_owned();
        cells.extend(self.label_columns.iter().map(label));
        if self.labels {
            cells.push(labels(&metadata["labels"]));
        }
        cells
    }

    fn columns(self, table: &Value) -> impl Iterator<Item = (usize, &Value)> {
        let columns = table["columnDefinitions"].as_array().into_iter().flatten();
        columns.enumerate().filter(move |(_, column)| {
            self.wide || column["priority"].as_i64().unwrap_or_default() == 0
        })
    }
}

/// Labels as one cell, in the order of their keys: `a=b,c=d`.
pub(crate) fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let mut text: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    text.sort();
    if text.is_empty() { NONE.to_owned() } else { text.join(",") }
}

/// A value as a cell.
pub(crate) fn cell(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What stands for nothing.
pub(crate) const NONE: &str = "<none>";
/// Blanks between columns.
const GAP: usize = 3;
/// Least width of a column.
const WIDTH_MIN: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Value {
        json!({
            "kind": "Table",
            "columnDefinitions": [
                { "name": "Name" }, { "name": "Ready" }, { "name": "IP", "priority": 1 },
            ],
            "rows": [
                { "cells": ["details-v1-x", "2/2", "10.77.0.2"],
                  "object": { "metadata": { "namespace": "default", "labels": { "v": "1", "example.com/app": "details" } } } },
                { "cells": ["r", "1/2", null], "object": { "metadata": { "namespace": "n" } } },
            ],
        })
    }

    fn show(shown: Shown) -> String {
        let table = table();
        let mut columns = Columns::default();
        columns.push(shown.head(&table));
        for row in table["rows"].as_array().unwrap() {
            columns.push(shown.row(&table, row, "pod"));
        }
        columns.take_text()
    }

    #[test]
    fn narrow_and_wide() {
        assert_eq!(
            show(Shown::default()),
            "NAME           READY\ndetails-v1-x   2/2\nr              1/2\n"
        );
        let label_columns = &["example.com/app".to_owned(), "none".to_owned()];
        let all = Shown { wide: true, namespace: true, labels: true, kind: true, label_columns };
        assert_eq!(
            show(all),
            "NAMESPACE   NAME               READY   IP          APP       NONE   LABELS\n\
             default     pod/details-v1-x   2/2     10.77.0.2   details          example.com/app=details,v=1\n\
             n           pod/r              1/2     <none>                       <none>\n"
        );
    }

    #[test]
    fn later_rows_keep_the_widths() {
        let mut columns = Columns::default();
        columns.push(["NAME", "READY"]);
        columns.push(["details-v1-x", "2/2"]);
        columns.take_text();
        columns.push(["r", "1/2"]);
        assert_eq!(columns.take_text(), "r              1/2\n");
    }
}
