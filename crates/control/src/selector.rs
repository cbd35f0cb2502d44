//! Label and field selectors of LIST and WATCH. Pure.

use serde_json::Value;

use crate::object::{self, Object};

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
}

/// A selector that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A label selector.
    #[error("unable to parse requirement: {0:?}")]
    Labels(String),
    /// A field selector.
    #[error("invalid field selector: {0:?}; it has the form FIELD=VALUE or FIELD!=VALUE")]
    Fields(String),
}

impl Selector {
    /// Reads the two query parameters.
    ///
    /// # Errors
    ///
    /// If one is not of the form that Kubernetes has.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, Error> {
        let requirements = split_outside_parentheses(labels)
            .into_iter()
            .map(|text| requirement(text).ok_or_else(|| Error::Labels(text.to_owned())));
        let fields = fields.split(',').filter(|text| !text.trim().is_empty()).map(|text| {
            let (field, equal, value) =
                split_equation(text).ok_or_else(|| Error::Fields(text.to_owned()))?;
            Ok((format!("/{}", field.replace('.', "/")), equal, value.to_owned()))
        });
        Ok(Self {
            requirements: requirements.collect::<Result<_, _>>()?,
            fields: fields.collect::<Result<_, _>>()?,
        })
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

/// Whether a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`) means these labels; one
/// without requirements means everything, none at all nothing.
pub(crate) fn selects(selector: Option<&Value>, labels: Option<&Value>) -> bool {
    let Some(selector) = selector else { return false };
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let equal = object::map(selector, "/matchLabels")
        .into_iter()
        .flatten()
        .all(|(key, value)| value.as_str().is_some_and(|value| label(key) == Some(value)));
    equal
        && object::list(selector, "/matchExpressions").iter().all(|expression| {
            let found = label(object::text(expression, "/key"));
            let listed = || {
                let values = object::list(expression, "/values");
                found.is_some_and(|found| values.iter().any(|v| v == found))
            };
            match object::text(expression, "/operator") {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn requirement(text: &str) -> Option<Requirement> {
    if let Some(list) = text.strip_suffix(')') {
        let (head, values) = list.split_once('(')?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (key, operator) = head.trim().split_once(char::is_whitespace)?;
        return match operator.trim() {
            "in" => Some(Requirement::In(key.to_owned(), values)),
            "notin" => Some(Requirement::NotIn(key.to_owned(), values)),
            _ => None,
        };
    }
    if let Some((key, equal, value)) = split_equation(text) {
        let values = vec![value.to_owned()];
        return Some(if equal {
            Requirement::In(key.to_owned(), values)
        } else {
            Requirement::NotIn(key.to_owned(), values)
        });
    }
    if text.contains(char::is_whitespace) {
        return None;
    }
    Some(match text.strip_prefix('!') {
        Some(key) => Requirement::NotExists(key.to_owned()),
        None => Requirement::Exists(text.to_owned()),
    })
}

fn split_equation(text: &str) -> Option<(&str, bool, &str)> {
    let (left, right) = text.split_once('=')?;
    Some(match left.strip_suffix('!') {
        Some(key) => (key.trim(), false, right.trim()),
        None => (left.trim(), true, right.strip_prefix('=').unwrap_or(right).trim()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_as_kubectl_writes_them() {
        let pod = json!({
            "metadata": {"name": "a", "labels": {"app": "reviews", "version": "v1"}},
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
        ] {
            let selector = Selector::parse(labels, fields).unwrap();
            assert_eq!(selector.matches(&pod), expected, "{labels:?} {fields:?}");
        }
        assert!(Selector::parse("a b", "").is_err());
        let labels = |value: Value| json!({"version": value});
        let chosen = |value: Value| {
            selects(Some(&json!({"matchLabels": labels(value)})), Some(&labels(json!("1"))))
        };
        assert!(chosen(json!("1")));
        // A number is no label, so it selects nothing, least of all what has no such label.
        assert!(!chosen(json!(1)));
        assert!(!selects(Some(&json!({"matchLabels": labels(json!(1))})), None));
        assert!(Selector::parse("", "nonsense").is_err());
    }
}
