//! Manifest files: YAML or JSON text, of any number of documents, to JSON values with line numbers.
//!
//! Scalars are read as `kubectl` reads them (YAML 1.1 words and octals, of which `on` and `0644` are
//! seen in the wild); quoted ones stay strings. A document that is no YAML is an error with its place
//! and does not hide the others.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::path;

mod build;
mod scalar;

/// One object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The object, with key order kept.
    pub value: Value,
    /// Line on which it begins, from 1.
    pub line: usize,
    /// Lines of its fields.
    pub lines: Lines,
}

/// Lines of the fields of a document, by field path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines(BTreeMap<String, usize>);

impl Lines {
    /// The line, from 1, of the field at `path`, or of the nearest field around it that is there.
    pub fn of(&self, path: &str) -> Option<usize> {
        let mut at = Some(path);
        while let Some(path) = at {
            if let Some(line) = self.0.get(path) {
                return Some(*line);
            }
            at = path::parent(path);
        }
        None
    }

    /// The lines below `prefix`, by paths from there.
    fn below(&self, prefix: &str) -> Self {
        let own =
            self.0.range(prefix.to_owned()..).take_while(|(path, _)| path.starts_with(prefix));
        let rest = own.filter_map(|(path, line)| {
            let rest = &path[prefix.len()..];
            match rest.as_bytes().first() {
                None => Some((String::new(), *line)),
                Some(b'.') => Some((rest[1..].to_owned(), *line)),
                Some(b'[') => Some((rest.to_owned(), *line)),
                Some(_) => None,
            }
        });
        Self(rest.collect())
    }
}

/// What a manifest holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Its objects in order; lists (`kind: List`) are taken apart, empty documents left out.
    pub documents: Vec<Document>,
    /// What could not be read.
    pub errors: Vec<ManifestError>,
    /// What was read, but hardly as it was meant: a key that stands twice.
    pub warnings: Vec<ManifestError>,
}

/// A place in a manifest, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The text of the line.
    pub text: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, column, message, text } = self;
        writeln!(f, "line {line}, column {column}: {message}")?;
        writeln!(f, "{line:>5} | {text}")?;
        // Tabs are kept, so that the mark stands below its character.
        let indent: String =
            text.chars().take(column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        write!(f, "      | {indent}^")
    }
}

impl std::error::Error for ManifestError {}

/// Reads a manifest.
///
/// # Limits
///
/// At most 2 million values in one file, those that aliases repeat counted each time; at most 255
/// levels of nesting.
pub fn parse(text: &str) -> Parsed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parsed = build::documents(text);
    // JSON allows escapes (surrogate pairs) that YAML does not.
    if !parsed.errors.is_empty()
        && text.trim_start().starts_with(['{', '['])
        && let Ok(values) = serde_json::Deserializer::from_str(text).into_iter().collect()
    {
        let values: Vec<Value> = values;
        let document = |value| Document { value, line: 1, lines: Lines::default() };
        let documents = values.into_iter().map(document).collect();
        parsed = Parsed { documents, ..Parsed::default() };
    }
    parsed.documents = parsed.documents.into_iter().flat_map(expand).collect();
    parsed
}

/// Takes a `List` apart.
fn expand(document: Document) -> Vec<Document> {
    let is_list = document.value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    let Document { mut value, line, lines } = document;
    let items = match value.get_mut("items") {
        Some(Value::Array(items)) if is_list => std::mem::take(items),
        _ => return vec![Document { value, line, lines }],
    };
    let item = |(at, value): (usize, Value)| {
        let prefix = path::item("items", at);
        let own = lines.below(&prefix);
        Document { value, line: lines.of(&prefix).unwrap_or(line), lines: own }
    };
    items.into_iter().enumerate().filter(|(_, value)| !value.is_null()).map(item).collect()
}

#[cfg(test)]
mod tests;
