//! `kubectl`'s JSONPath templates, the part of them that people use: text with `{...}` in which
//! stand paths (`.a.b`, `['a']`, `[0]`, `[-1]`, `[0:2]`, `[*]`, `.*`, `..a`, `[?(@.a=="b")]`),
//! quoted text, and `{range PATH}...{end}`.
//!
//! What is not there prints as nothing, an index beyond the end too.

mod eval;
mod parse;

use std::str::FromStr;

use serde_json::Value;

/// A template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath {
    parts: Vec<Part>,
}

/// A template that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("JSONPath template {template:?}: {what} at character {at}")]
pub(crate) struct BadTemplate {
    template: String,
    what: &'static str,
    at: usize,
}

impl JsonPath {
    /// What the template makes of a value.
    pub(crate) fn render(&self, root: &Value) -> String {
        let mut text = String::new();
        eval::parts(&self.parts, root, root, &mut text);
        text
    }

    /// The values that its paths lead to.
    pub(crate) fn values<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let paths = self.parts.iter().filter_map(|part| match part {
            Part::Path(path) => Some(eval::walk(path, root, root)),
            Part::Text(_) | Part::Range(..) => None,
        });
        paths.flatten().collect()
    }
}

impl FromStr for JsonPath {
    type Err = BadTemplate;

    fn from_str(template: &str) -> Result<Self, BadTemplate> {
        parse::template(template).map(|parts| Self { parts })
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Path(Path),
    Range(Path, Vec<Self>),
}

/// Steps from the root (`$`) or from the current value (`@`, or nothing).
#[derive(Clone, Debug, Default, PartialEq)]
struct Path {
    from_root: bool,
    steps: Vec<Selector>,
}

#[derive(Clone, Debug, PartialEq)]
enum Selector {
    Field(String),
    All,
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    /// `..`: the value itself and everything in it.
    Descend,
    /// `[a,b]`.
    Union(Vec<Self>),
    Filter(Operand, Option<(Comparison, Operand)>),
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(Path),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[cfg(test)]
mod tests;
