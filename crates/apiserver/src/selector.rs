//! Label and field selectors of LIST and WATCH. Pure.

use std::cmp::Ordering;

use ironmesh_dialects::kubernetes::kinds::{LabelSelector, Operator};
use ironmesh_dialects::schema::{Entries, Fields};
use serde_json::Value;

use crate::object::{self, Object};
use crate::registry::labels;

/// Which objects a request means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    requirements: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

/// One requirement on the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    NotExists(String),
    /// The label is a number, and this much greater or less.
    Number(String, Ordering, i64),
}

/// A selector that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A label selector.
    #[error("unable to parse requirement: {text:?}: {why}")]
    Labels {
        /// As it was sent.
        text: String,
        /// What is wrong.
        why: String,
    },
    /// A field selector.
    #[error("invalid field selector: {0:?}; it has the form FIELD=VALUE or FIELD!=VALUE")]
    Fields(String),
    /// A field that objects of this kind cannot be selected by.
    #[error("field label not supported: {0}")]
    NoSuchField(String),
}

impl Selector {
    /// Reads the two query parameters for a collection.
    ///
    /// # Errors
    ///
    /// If one is not of the form that Kubernetes has, a label could not exist, or objects of this
    /// collection cannot be selected by a field.
    pub(crate) fn parse(
        labels: &str,
        fields: &str,
        group: &str,
        plural: &str,
    ) -> Result<Self, Error> {
        let invalid = |why| Error::Labels { text: labels.to_owned(), why };
        let requirements = requirements(labels).map_err(invalid)?;
        let fields = split_fields(fields).into_iter().map(|text| {
            let (field, equal, value) =
                split_equation(&text).ok_or_else(|| Error::Fields(text.clone()))?;
            if !can_select(group, plural, field) {
                return Err(Error::NoSuchField(field.to_owned()));
            }
            Ok((format!("/{}", field.replace('.', "/")), equal, unescaped(value)))
        });
        Ok(Self { requirements, fields: fields.collect::<Result<_, _>>()? })
    }

    /// Whether it means every object.
    pub(crate) fn is_everything(&self) -> bool {
        self.requirements.is_empty() && self.fields.is_empty()
    }

    /// Whether it means this object.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        let label = |key: &str| object::label(object, key);
        let labels = self.requirements.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|v| v == value))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|value| values.iter().all(|v| v != value))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::NotExists(key) => label(key).is_none(),
            Requirement::Number(key, ordering, number) => label(key)
                .and_then(|value| value.parse::<i64>().ok())
                .is_some_and(|value| value.cmp(number) == *ordering),
        });
        labels
            && self.fields.iter().all(|(pointer, equal, value)| {
                let found = match object.pointer(pointer) {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => String::new(),
                    Some(other) => other.to_string(),
                };
                (found == *value) == *equal
            })
    }
}

/// Whether an object has the labels that a label selector asks for, in the form that a query has it:
/// `app=web,tier!=db`.
///
/// # Errors
///
/// If the selector cannot be read.
pub fn has_labels(object: &Value, selector: &str) -> Result<bool, String> {
    let selector = Selector::parse(selector, "", "", "pods").map_err(|error| error.to_string())?;
    Ok(selector.matches(object))
}

/// Whether a `metav1.LabelSelector` means these labels; one without requirements means everything, none
/// at all nothing.
pub(crate) fn selects(selector: Fields<'_, LabelSelector>, labels: Entries<'_, String>) -> bool {
    selector.json().is_object()
        && selector.match_labels().iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions().all(|requirement| {
            let found = labels.get(requirement.key());
            let listed = || found.is_some_and(|found| requirement.values().any(|v| v == found));
            match requirement.operator() {
                Operator::In => listed(),
                Operator::NotIn => !listed(),
                Operator::Exists => found.is_some(),
                Operator::DoesNotExist => found.is_none(),
            }
        })
}

/// Reads requirements as Kubernetes' parser does: `KEY`, `!KEY`, `KEY=VALUE` (`==`, `!=`, `<`, `>`),
/// `KEY in (VALUE, ...)`, `KEY notin (...)`, with commas between them.
fn requirements(text: &str) -> Result<Vec<Requirement>, String> {
    let mut found = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Ok(found);
    }
    loop {
        let requirement;
        (requirement, rest) = requirement_of(rest)?;
        found.push(requirement);
        rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => rest = more,
            Some(_) => return Err("a requirement is missing behind the last comma".to_owned()),
            None if rest.is_empty() => return Ok(found),
            None => return Err(format!("found {rest:?}, expected a comma or the end")),
        }
    }
}

/// The first requirement of a text, and what follows it.
fn requirement_of(text: &str) -> Result<(Requirement, &str), String> {
    let text = text.trim_start();
    let (negated, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (key, rest) = word(text);
    if !labels::is_qualified(key) {
        return Err(format!("key {key:?}: {}", labels::KEY_RULE));
    }
    let key = key.to_owned();
    let rest = rest.trim_start();
    if negated {
        return Ok((Requirement::NotExists(key), rest));
    }
    for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some(rest) = rest.strip_prefix(operator) {
            let (value, rest) = value(rest)?;
            let values = vec![value];
            let requirement =
                if equal { Requirement::In(key, values) } else { Requirement::NotIn(key, values) };
            return Ok((requirement, rest));
        }
    }
    for (operator, ordering) in [('<', Ordering::Less), ('>', Ordering::Greater)] {
        if let Some(rest) = rest.strip_prefix(operator) {
            let (text, rest) = word(rest);
            let number = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
            return Ok((Requirement::Number(key, ordering, number), rest));
        }
    }
    match word(rest) {
        ("in", rest) => values(rest).map(|(values, rest)| (Requirement::In(key, values), rest)),
        ("notin", rest) => {
            values(rest).map(|(values, rest)| (Requirement::NotIn(key, values), rest))
        }
        ("", rest) => Ok((Requirement::Exists(key), rest)),
        (other, _) => Err(format!(
            "found {other:?}, expected one of: !=, =, ==, in, notin, <, >, a comma or the end"
        )),
    }
}

/// `(VALUE, ...)`, and what follows it.
fn values(text: &str) -> Result<(Vec<String>, &str), String> {
    let missing = "the values of `in` and `notin` stand in parentheses".to_owned();
    let mut rest = text.trim_start().strip_prefix('(').ok_or(missing)?;
    let mut found = Vec::new();
    loop {
        let value_found;
        (value_found, rest) = value(rest)?;
        found.push(value_found);
        rest = rest.trim_start();
        if let Some(more) = rest.strip_prefix(',') {
            rest = more;
        } else if let Some(behind) = rest.strip_prefix(')') {
            return Ok((found, behind));
        } else {
            return Err(format!("found {rest:?}, expected a comma or ')'"));
        }
    }
}

/// A value, which may be empty, and what follows it.
fn value(text: &str) -> Result<(String, &str), String> {
    let (value, rest) = word(text);
    if labels::is_value(value) {
        Ok((value.to_owned(), rest))
    } else {
        Err(format!("value {value:?}: {}", labels::VALUE_RULE))
    }
}

/// What comes before the next blank or special character, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let ends = |c: char| c.is_whitespace() || "!=(),<>".contains(c);
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// The terms of a field selector; commas may be escaped.
fn split_fields(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ',' => terms.push(String::new()),
            _ => {
                let Some(term) = terms.last_mut() else { continue };
                term.push(character);
                if character == '\\' {
                    term.extend(characters.next());
                }
            }
        }
    }
    terms.retain(|term| !term.is_empty());
    terms
}

fn unescaped(value: &str) -> String {
    let mut characters = value.chars();
    let mut out = String::with_capacity(value.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => out.extend(characters.next()),
            _ => out.push(character),
        }
    }
    out
}

fn split_equation(text: &str) -> Option<(&str, bool, &str)> {
    let (left, right) = text.split_once('=')?;
    Some(match left.strip_suffix('!') {
        Some(key) => (key.trim(), false, right.trim()),
        None => (left.trim(), true, right.strip_prefix('=').unwrap_or(right).trim()),
    })
}

/// Whether objects of a collection can be selected by a field, as in Kubernetes.
fn can_select(group: &str, plural: &str, field: &str) -> bool {
    let own: &[&str] = match (group, plural) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "services") => &["spec.clusterIP", "spec.type"],
        ("", "secrets") => &["type"],
        ("", "namespaces") => &["status.phase"],
        ("", "nodes") => &["spec.unschedulable"],
        ("apps", "replicasets") | ("", "replicationcontrollers") => &["status.replicas"],
        _ => &[],
    };
    matches!(field, "metadata.name" | "metadata.namespace") || own.contains(&field)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use ironmesh_dialects::kubernetes::kinds::ObjectMeta;

    use super::*;

    #[test]
    fn selectors_as_kubectl_writes_them() {
        let pod = json!({
            "metadata": {"name": "a", "labels": {"app": "reviews", "version": "v1", "weight": "2"}},
            "status": {"phase": "Running"},
        });
        for (labels, fields, expected) in [
            ("", "", true),
            ("app=reviews", "", true),
            ("app==reviews,version!=v2", "", true),
            ("app=reviews,version=v2", "", false),
            ("version in (v1, v2),app", "", true),
            ("version notin (v1,v2)", "", false),
            ("!missing", "", true),
            ("missing", "", false),
            ("", "metadata.name=a", true),
            ("", "metadata.name!=a", false),
            ("", "status.phase=Running,spec.nodeName=", true),
            ("", "spec.nodeName!=ironmesh", true),
            ("version in (), app", "", false),
            ("weight>1,weight<3", "", true),
            ("weight > 2", "", false),
            ("!weight", "", false),
            ("app!=", "", true),
            ("", r"metadata.name=a\,b", false),
        ] {
            let selector = Selector::parse(labels, fields, "", "pods").unwrap();
            assert_eq!(selector.matches(&pod), expected, "{labels:?} {fields:?}");
        }
        let chosen = |selector: Value, labels: Value| {
            let pod = json!({"labels": labels});
            selects(LabelSelector::of(&selector), ObjectMeta::of(&pod).labels())
        };
        let by = |value: Value| json!({"matchLabels": {"version": value}});
        assert!(chosen(by(json!("1")), json!({"version": "1"})));
        // A number is no label, so it selects nothing, least of all what has no such label.
        assert!(!chosen(by(json!(1)), json!({"version": "1"})));
        assert!(!chosen(by(json!(1)), json!(null)));
        assert!(chosen(json!({}), json!(null)), "all");
        assert!(!chosen(json!(null), json!({"version": "1"})), "none");
    }
    #[test]
    fn what_kubernetes_would_not_read_is_refused() {
        for labels in [
            "a b",
            "=",
            "a=b=c",
            "a in b",
            "a in (b",
            "a in (b))",
            "a in (b c)",
            "a,",
            ",a",
            "a,,b",
            "!",
            "!a=b",
            "a==",
            "a!b",
            "a=-",
            "a/b/c",
            "-a",
            "a>x",
            "a=b c",
            "in (a)",
            "a=(b)",
            "a=\u{fc}",
            "a = b, c in",
            "a notin",
        ] {
            let parsed = Selector::parse(labels, "", "", "pods");
            assert!(parsed.is_err() || labels == "a==", "{labels:?} was read: {parsed:?}");
        }
        for fields in ["nonsense", "metadata.name", "spec.color=red", "=a", "metadata.labels.app=x"]
        {
            assert!(Selector::parse("", fields, "", "pods").is_err(), "{fields:?} was read");
        }
        assert!(Selector::parse("", "status.phase=x", "", "configmaps").is_err());
    }
}
