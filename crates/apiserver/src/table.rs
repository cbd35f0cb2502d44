//! Tables as kubectl shows them, rendered here so that every client shows the same. Pure functions.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::object::{self, Object};

mod core;
mod mesh;
mod pod;
mod workload;

/// One column.
#[derive(Clone, Copy, Debug)]
struct Column {
    name: &'static str,
    /// Whether it is shown only with `-o wide`.
    wide: bool,
}

/// A column that is always shown.
const fn column(name: &'static str) -> Column {
    Column { name, wide: false }
}

/// A column of `-o wide`.
const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}

/// The cells of one object's row, at a time.
type Cells = fn(&Object, Timestamp) -> Vec<Value>;

/// How the objects of a kind are shown.
#[derive(Clone, Copy)]
struct Layout {
    columns: &'static [Column],
    cells: Cells,
}

fn layout(group: &str, plural: &str) -> Layout {
    let (columns, cells): (&'static [Column], Cells) = match (group, plural) {
        ("", "pods") => (pod::COLUMNS, pod::cells),
        ("", "services") => (core::SERVICE, core::service),
        ("", "namespaces") => (core::NAMESPACE, core::namespace),
        ("", "nodes") => (core::NODE, core::node),
        ("", "serviceaccounts") => (core::SERVICE_ACCOUNT, core::service_account),
        ("", "secrets") => (core::SECRET, core::secret),
        ("", "configmaps") => (core::CONFIG_MAP, core::config_map),
        ("", "events") => (core::EVENT, core::event),
        ("", "endpoints") => (core::ENDPOINTS, core::endpoints),
        ("apps", "deployments") => (workload::DEPLOYMENT, workload::deployment),
        ("apps", "replicasets") => (workload::REPLICA_SET, workload::replica_set),
        ("networking.istio.io", "virtualservices") => {
            (mesh::VIRTUAL_SERVICE, mesh::virtual_service)
        }
        ("networking.istio.io", "destinationrules") => {
            (mesh::DESTINATION_RULE, mesh::destination_rule)
        }
        ("networking.istio.io", "serviceentries") => (mesh::SERVICE_ENTRY, mesh::service_entry),
        ("security.istio.io", "peerauthentications") => {
            (mesh::PEER_AUTHENTICATION, mesh::peer_authentication)
        }
        ("security.istio.io", "authorizationpolicies") => {
            (mesh::AUTHORIZATION_POLICY, mesh::authorization_policy)
        }
        _ => (PLAIN, plain),
    };
    Layout { columns, cells }
}

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
    layout: Layout,
    include: Include,
    now: Timestamp,
}

impl Rows {
    /// Those of a collection, at a time.
    pub(crate) fn new(group: &str, plural: &str, include: Include, now: Timestamp) -> Self {
        Self { layout: layout(group, plural), include, now }
    }

    /// The row of an object.
    pub(crate) fn row(&self, object: &Object) -> Value {
        let mut row = json!({"cells": (self.layout.cells)(object, self.now)});
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
        let columns: Vec<_> = self.layout.columns.iter().map(definition).collect();
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

/// A span of time as kubectl shows ages: two units at most, the smaller only while it matters.
pub(crate) fn human_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: char, small: i64, small_unit: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..0 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, 'm', seconds % 60, 's'),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, 'h', minutes % 60, 'm'),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, 'd', hours % 24, 'h'),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

/// How long ago the time at a pointer was.
fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    match object::text(object, pointer).parse::<Timestamp>() {
        Ok(then) => human_duration(now.as_second() - then.as_second()),
        Err(_) => "<unknown>".to_owned(),
    }
}

fn age(object: &Object, now: Timestamp) -> Value {
    since(object, "/metadata/creationTimestamp", now).into()
}

fn name(object: &Object) -> Value {
    object::name(object).into()
}

/// The text, or what stands for none.
fn or_none(text: &str) -> Value {
    if text.is_empty() { NONE.into() } else { text.into() }
}

/// A list as kubectl prints that of a custom column: JSON.
fn as_json(value: Option<&Value>) -> Value {
    value.filter(|v| !v.is_null()).map_or(Value::from(""), |v| v.to_string().into())
}

/// A plain selector: `app=reviews,version=v1`.
fn pairs(value: Option<&Value>) -> Value {
    let pairs: Vec<_> = value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    or_none(&pairs.join(","))
}

fn plain(object: &Object, now: Timestamp) -> Vec<Value> {
    vec![name(object), age(object, now)]
}

const PLAIN: &[Column] = &[column("Name"), column("Age")];
const NONE: &str = "<none>";

#[cfg(test)]
mod tests;
