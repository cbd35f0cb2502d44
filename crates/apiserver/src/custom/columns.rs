//! `additionalPrinterColumns`: columns that a definition gives the tables of its kind.

use ironmesh_dialects::columns::human_duration;
use jiff::Timestamp;
use serde_json::Value;

use crate::object::Object;

/// A column, and where in an object its cells are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Printed {
    /// What stands above it.
    pub(crate) name: String,
    /// Whether it is shown only with `-o wide`.
    pub(crate) wide: bool,
    /// Whether it tells how long ago a time was.
    is_date: bool,
    path: Vec<Step>,
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    /// The first item whose field is this text: `[?(@.type=="Ready")]`.
    Where(String, String),
}

impl Printed {
    /// Reads a column; none if it has no name, or a path of another form than `.a.b[0]` and
    /// `.a[?(@.b=="c")]`.
    pub(crate) fn of(column: &Value) -> Option<Self> {
        // v1beta1 writes it in capitals.
        let path = column["jsonPath"].as_str().or_else(|| column["JSONPath"].as_str())?;
        Some(Self {
            name: column["name"].as_str()?.to_owned(),
            wide: column["priority"].as_i64().unwrap_or_default() > 0,
            is_date: column["type"] == "date",
            path: steps(path)?,
        })
    }

    /// The cell of an object, at a time.
    pub(crate) fn cell(&self, object: &Object, now: Timestamp) -> Value {
        let found = self.path.iter().try_fold(object, |value, step| match step {
            Step::Field(name) => value.get(name),
            Step::Index(at) => value.get(at),
            Step::Where(field, text) => {
                value.as_array()?.iter().find(|item| item[field] == text.as_str())
            }
        });
        match found {
            None | Some(Value::Null) => "".into(),
            Some(Value::String(time)) if self.is_date => {
                let then = time.parse::<Timestamp>().ok();
                let ago = then.map(|then| human_duration(now.as_second() - then.as_second()));
                ago.unwrap_or_else(|| "<invalid>".to_owned()).into()
            }
            Some(Value::String(text)) => text.as_str().into(),
            Some(other) => other.to_string().into(),
        }
    }
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix("[?(@.") {
            let (condition, after) = inside.split_once(")]")?;
            let (field, text) = condition.split_once("==")?;
            let text = text.trim().trim_matches(['"', '\'']);
            steps.push(Step::Where(field.trim().to_owned(), text.to_owned()));
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']')?;
            steps.push(match index.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
                Some(name) => Step::Field(name.to_owned()),
                None => Step::Index(index.parse().ok()?),
            });
            rest = after;
        } else {
            let (name, after) = field(rest.strip_prefix('.')?);
            if name.is_empty() {
                return None;
            }
            steps.push(Step::Field(name));
            rest = after;
        }
    }
    (!steps.is_empty()).then_some(steps)
}

/// Splits a path behind its first field. A dot that belongs to the name is written `\.`.
fn field(path: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = path.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => return (name, &path[at..]),
            other => name.push(other),
        }
    }
    (name, "")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_found_by_their_path() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let object = json!({
            "metadata": {"labels": {"a.b/c": "dotted"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"hosts": ["a", "b"], "count": 3, "none": null},
            "status": {"conditions": [
                {"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"},
            ]},
        });
        let cell = |kind: &str, path: &str| {
            let column = json!({"name": "X", "type": kind, "jsonPath": path});
            Printed::of(&column).map(|column| column.cell(&object, now))
        };
        for (kind, path, expected) in [
            ("string", ".spec.hosts[1]", json!("b")),
            ("string", ".spec.hosts", json!(r#"["a","b"]"#)),
            ("integer", ".spec.count", json!("3")),
            ("string", ".spec.none", json!("")),
            ("string", ".nowhere.at.all", json!("")),
            ("string", r".metadata.labels.a\.b/c", json!("dotted")),
            ("string", ".metadata.labels['a.b/c']", json!("dotted")),
            ("string", r#".status.conditions[?(@.type=="Ready")].status"#, json!("True")),
            ("date", ".metadata.creationTimestamp", json!("10m")),
            ("date", ".spec.count", json!("3")),
        ] {
            assert_eq!(cell(kind, path), Some(expected), "{path}");
        }
        for path in ["", ".", "spec", ".a[", ".a[x]", ".a[?(@.b", "..a", ".a..b"] {
            assert_eq!(cell("string", path), None, "{path}");
        }
    }
}
