//! From the events of the YAML parser to values with lines.

use std::collections::{BTreeMap, HashMap};

use ironmesh_model::limits::MANIFEST_VALUES_MAX;
use serde_json::{Map, Value};
use serde_saphyr::granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag, options};

use super::{Document, Lines, ManifestError, Parsed, scalar};
use crate::path;

/// Every document of the text that is not empty.
pub(super) fn documents(text: &str) -> Parsed {
    let mut parser = Parser::new_from_str_with_options(text, options! { emit_comments: false });
    let mut parsed = Parsed::default();
    let mut builder = Builder::default();
    loop {
        let fault = match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => break,
            Some(Ok((event, span))) => match builder.take(event, &span) {
                Ok(None) => None,
                Ok(Some(document)) => {
                    parsed.documents.push(document);
                    None
                }
                Err(message) => Some(at(text, &span.start, message)),
            },
            Some(Err(error)) => Some(at(text, error.marker(), error.info())),
        };
        let warnings = builder.warnings.drain(..);
        parsed.warnings.extend(warnings.map(|(marker, message)| at(text, &marker, message)));
        let Some(error) = fault else { continue };
        parsed.errors.push(error);
        builder = Builder { values: builder.values, ..Builder::default() };
        if builder.values > MANIFEST_VALUES_MAX
            || !matches!(parser.proceed_next_document(), Ok(true))
        {
            break;
        }
    }
    parsed
}

fn at(text: &str, marker: &Marker, message: impl Into<String>) -> ManifestError {
    let line = marker.line().max(1);
    ManifestError {
        line,
        column: marker.col() + 1,
        message: message.into(),
        text: text.lines().nth(line - 1).unwrap_or_default().to_owned(),
    }
}

/// A document in the making.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Value>,
    line: Option<usize>,
    lines: BTreeMap<String, usize>,
    anchors: HashMap<usize, Value>,
    warnings: Vec<(Marker, String)>,
    /// Values made so far in the whole file.
    values: usize,
}

/// A collection that has begun and not ended.
struct Open {
    path: String,
    anchor: usize,
    of: Collection,
}

enum Collection {
    List(Vec<Value>),
    Map { entries: Map<String, Value>, key: Option<String>, merge: Vec<Value> },
}

impl Builder {
    /// Takes one event; the document, once it is whole and not empty.
    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<Option<Document>, String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    self.key(&text, style, span)?;
                } else {
                    let value = scalar_value(&text, style, tag.as_deref());
                    self.place(value, anchor, span)?;
                }
            }
            Event::SequenceStart(_, anchor, _) => {
                self.begin(Collection::List(Vec::new()), anchor, span)?;
            }
            Event::MappingStart(_, anchor, _) => {
                let of = Collection::Map { entries: Map::new(), key: None, merge: Vec::new() };
                self.begin(of, anchor, span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            Event::Alias(id) => {
                let value = self.anchors.get(&id).cloned().ok_or("the anchor contains itself")?;
                self.values += count(&value);
                self.place(value, 0, span)?;
            }
            Event::DocumentEnd => return self.document(),
            _ => {}
        }
        Ok(None)
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { of: Collection::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, span: &Span) -> Result<(), String> {
        let Some(Open { path, of: Collection::Map { entries, key, .. }, .. }) =
            self.open.last_mut()
        else {
            return Ok(());
        };
        let is_merge = text == "<<" && style == ScalarStyle::Plain;
        if !is_merge && entries.contains_key(text) {
            let message = format!("the key {text:?} appears twice; the last one counts");
            self.warnings.push((span.start, message));
        }
        self.lines.insert(path::field(path, text), span.start.line());
        self.line.get_or_insert(span.start.line());
        *key = Some(text.to_owned());
        Ok(())
    }

    fn begin(&mut self, of: Collection, anchor: usize, span: &Span) -> Result<(), String> {
        if self.wants_key() {
            return Err("a key must be a text".to_owned());
        }
        let path = self.next_path(span);
        self.open.push(Open { path, anchor, of });
        Ok(())
    }

    /// Path of the value that comes next.
    fn next_path(&mut self, span: &Span) -> String {
        self.line.get_or_insert(span.start.line());
        match self.open.last() {
            None => String::new(),
            Some(Open { path, of: Collection::Map { key, .. }, .. }) => {
                path::field(path, key.as_deref().unwrap_or_default())
            }
            Some(Open { path, of: Collection::List(items), .. }) => {
                let path = path::item(path, items.len());
                self.lines.insert(path.clone(), span.start.line());
                path
            }
        }
    }

    fn end(&mut self, span: &Span) -> Result<(), String> {
        let Some(Open { anchor, of, .. }) = self.open.pop() else { return Ok(()) };
        let value = match of {
            Collection::List(items) => Value::Array(items),
            Collection::Map { mut entries, merge, .. } => {
                for base in merge {
                    merge_into(&mut entries, base)?;
                }
                Value::Object(entries)
            }
        };
        self.put(value, anchor, span)
    }

    /// A scalar or an alias.
    fn place(&mut self, value: Value, anchor: usize, span: &Span) -> Result<(), String> {
        if self.wants_key() {
            return match value {
                Value::String(text) => self.key(&text, ScalarStyle::DoubleQuoted, span),
                _ => Err("a key must be a text".to_owned()),
            };
        }
        self.next_path(span);
        self.put(value, anchor, span)
    }

    fn put(&mut self, value: Value, anchor: usize, span: &Span) -> Result<(), String> {
        self.values += 1;
        if self.values > MANIFEST_VALUES_MAX {
            return Err(format!(
                "the file has more than {MANIFEST_VALUES_MAX} values, aliases repeated"
            ));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        match self.open.last_mut().map(|open| &mut open.of) {
            None => {
                self.line.get_or_insert(span.start.line());
                self.root = Some(value);
            }
            Some(Collection::List(items)) => items.push(value),
            Some(Collection::Map { entries, key, merge }) => match key.take() {
                Some(key) if key == "<<" => merge.push(value),
                Some(key) => {
                    entries.insert(key, value);
                }
                None => {}
            },
        }
        Ok(())
    }

    fn document(&mut self) -> Result<Option<Document>, String> {
        let whole = Self { values: self.values, ..Self::default() };
        let Self { root, line, lines, .. } = std::mem::replace(self, whole);
        match root {
            None | Some(Value::Null) => Ok(None),
            Some(value @ Value::Object(_)) => {
                Ok(Some(Document { value, line: line.unwrap_or(1), lines: Lines(lines) }))
            }
            Some(_) => Err("a document must be an object with apiVersion and kind".to_owned()),
        }
    }
}

fn scalar_value(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Value {
    let resolved = match tag.and_then(Tag::core_suffix) {
        Some("str" | "binary") => false,
        Some(_) => true,
        None => style == ScalarStyle::Plain,
    };
    if resolved { scalar::plain(text) } else { Value::String(text.to_owned()) }
}

/// What `<<` brings in: keys that are not there yet.
fn merge_into(entries: &mut Map<String, Value>, base: Value) -> Result<(), String> {
    match base {
        Value::Object(base) => {
            for (key, value) in base {
                entries.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(bases) => bases.into_iter().try_for_each(|base| merge_into(entries, base)),
        _ => Err("`<<` takes an object or a list of objects".to_owned()),
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(entries) => 1 + entries.values().map(count).sum::<usize>(),
        _ => 1,
    }
}
