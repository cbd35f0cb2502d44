//! The reference page: every kind with a table, with all its fields, as Markdown.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::{KINDS, Kind};
use crate::schema::{Field, Message, Status, Type, Word};

/// The page, as `docs/kinds.md` has it.
pub fn reference() -> String {
    let mut page = Page { text: HEAD.to_owned(), parts: BTreeSet::new() };
    for kind in KINDS {
        if let Some(message) = kind.fields {
            page.kind(kind, message);
        }
    }
    page.text
}

const HEAD: &str = "# Kinds and their fields

What the mesh reads, field by field, and what it does with each. A field that is missing here is reported
as unknown, and one that is not honoured yet by name, wherever it stands; none is dropped in silence. All
kinds have `apiVersion`, `kind` and `metadata`, too. What several kinds have is listed where it stands first.

This page is made from the tables in `crates/dialects` by `UPDATE=1 cargo test -p ironmesh-dialects reference`.
";

struct Page {
    text: String,
    /// What is on it, by name and meaning.
    parts: BTreeSet<(&'static str, &'static str)>,
}

impl Page {
    fn kind(&mut self, kind: &Kind, message: &'static Message) {
        let versions = kind.group_versions().map(|(group, version)| match group {
            "" => format!("`{version}`"),
            group => format!("`{group}/{version}`"),
        });
        let versions: Vec<String> = versions.collect();
        let (name, doc) = (kind.kind, message.doc.trim());
        let origin = if kind.custom { "a custom resource" } else { "Kubernetes' own" };
        let versions = versions.join(", ");
        let _ =
            write!(self.text, "\n## {name}\n\n{doc} It is {origin}; `apiVersion`: {versions}.\n");
        let mut parts = self.table(message);
        // Breadth first, so that what stands at the top comes first.
        while !parts.is_empty() {
            let mut below = Vec::new();
            for part in parts {
                if self.parts.insert((part.name, part.doc)) {
                    let _ = write!(
                        self.text,
                        "\n### {}: {}\n\n{}\n",
                        kind.kind,
                        part.name,
                        part.doc.trim()
                    );
                    below.extend(self.table(part));
                }
            }
            parts = below;
        }
    }

    /// The fields of a message, and what they are made of.
    fn table(&mut self, message: &'static Message) -> Vec<&'static Message> {
        self.text.push_str("\n| field | takes | what it says |\n|---|---|---|\n");
        let mut parts = Vec::new();
        for field in message.fields {
            // Alike in all kinds.
            if matches!(field.name, "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let (mark, of) = inner(&field.of);
            let _ =
                writeln!(self.text, "| `{}{mark}` | {} | {} |", field.name, takes(of), says(field));
            if let Type::Object(part) = of {
                parts.push(*part);
            }
        }
        parts
    }
}

fn says(field: &Field) -> String {
    let mut doc = field.doc.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(default) = field.default {
        let default = default();
        let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let _ = write!(doc, " Default: `{default}`.");
    }
    if field.status == Status::Required {
        doc.push_str(" *required*");
    }
    if let Some(effect) = field.effect() {
        let _ = write!(doc, " *{effect}*");
    }
    doc
}

/// What a list or map holds, and the mark of its path.
fn inner(of: &'static Type) -> (&'static str, &'static Type) {
    match of {
        Type::List(of) => ("[]", of),
        Type::Map(of) => ("{}", of),
        of => ("", of),
    }
}

fn takes(of: &Type) -> String {
    match of {
        Type::Bool => "true or false".to_owned(),
        Type::Integer(min, max) => format!("{min} to {max}"),
        Type::Number => "a number".to_owned(),
        Type::Text => "a text".to_owned(),
        Type::IntegerOrText => "a number or a text".to_owned(),
        Type::Quantity => "a quantity: `500m`, `1Gi`".to_owned(),
        Type::Duration => "a duration: `1.5s`".to_owned(),
        Type::Words { words, .. } => words.iter().map(word).collect::<Vec<_>>().join(", "),
        Type::List(of) | Type::Map(of) => takes(of),
        Type::Object(message) => message.name.to_owned(),
        Type::Any => "anything".to_owned(),
    }
}

fn word(Word { word, honoured, .. }: &Word) -> String {
    if *honoured { format!("`{word}`") } else { format!("`{word}` (*not honoured yet*)") }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// With `UPDATE=1` in the environment the page is written anew.
    #[test]
    fn the_reference_page_is_what_the_tables_say() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kinds.md");
        let page = reference();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            expected == page,
            "{} is not as the tables are; UPDATE=1 writes it",
            path.display()
        );
    }
}
