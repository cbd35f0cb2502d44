//! The layout of a description: names of fields, values in one column, blocks under a name.

use serde_json::Value;

use crate::output::table::labels;
use crate::verb::apply::LAST_APPLIED;

/// A description that is being written.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    text: String,
    /// Fields whose values are put into one column once the block ends.
    fields: Vec<(String, String)>,
    indent: usize,
}

impl Sheet {
    /// A field with one value.
    pub(super) fn field(&mut self, name: &str, value: impl Into<String>) {
        self.fields.push((name.to_owned(), value.into()));
    }

    /// A field with a value for each line, such as labels; `<none>` without any.
    pub(super) fn lines(&mut self, name: &str, lines: impl IntoIterator<Item = String>) {
        let lines: Vec<String> = lines.into_iter().collect();
        self.field(name, if lines.is_empty() { "<none>".to_owned() } else { lines.join("\n") });
    }

    /// The name of a field whose parts follow as fields of their own.
    pub(super) fn header(&mut self, name: &str) {
        self.flush();
        self.line(&format!("{name}:"));
    }

    /// A line of its own.
    pub(super) fn text(&mut self, line: &str) {
        self.flush();
        self.line(line);
    }

    /// A named block of text, indented.
    pub(super) fn block(&mut self, name: &str, text: &str) {
        self.flush();
        self.line(&format!("{name}:"));
        for line in text.lines() {
            self.line(format!("  {line}").trim_end());
        }
    }

    /// A named block of fields.
    pub(super) fn nested(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.flush();
        self.line(&format!("{name}:"));
        self.indent += 2;
        write(self);
        self.flush();
        self.indent -= 2;
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        self.flush();
        self.text
    }

    fn flush(&mut self) {
        let width = self.fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 3;
        for (name, value) in std::mem::take(&mut self.fields) {
            for (at, line) in value.split('\n').enumerate() {
                let name = if at == 0 { format!("{name}:") } else { String::new() };
                self.line(format!("{name:width$}{line}").trim_end());
            }
        }
    }

    fn line(&mut self, line: &str) {
        self.text.extend(std::iter::repeat_n(' ', self.indent));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

/// What every object has.
pub(super) fn metadata(sheet: &mut Sheet, object: &Value) {
    let metadata = &object["metadata"];
    sheet.field("Name", string(&metadata["name"]));
    if let Some(namespace) = metadata["namespace"].as_str() {
        sheet.field("Namespace", namespace);
    }
    labels_and_annotations(sheet, object);
}

/// Labels and annotations, a line each.
pub(super) fn labels_and_annotations(sheet: &mut Sheet, object: &Value) {
    let metadata = &object["metadata"];
    sheet.lines("Labels", pairs(&metadata["labels"]));
    let annotations = pairs_with(&metadata["annotations"], ": ").into_iter();
    // As in kubectl: it repeats the whole object.
    sheet.lines("Annotations", annotations.filter(|line| !line.starts_with(LAST_APPLIED)));
}

/// A map of text to text as `key=value` lines.
pub(super) fn pairs(map: &Value) -> Vec<String> {
    pairs_with(map, "=")
}

/// A selector in one line.
pub(super) fn selector(map: &Value) -> String {
    labels(map)
}

/// A scalar as text; `<none>` if it is not there.
pub(super) fn string(value: &Value) -> String {
    match value {
        Value::Null => "<none>".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn pairs_with(map: &Value, between: &str) -> Vec<String> {
    let pairs = map.as_object().into_iter().flatten();
    let mut lines: Vec<String> =
        pairs.map(|(key, value)| format!("{key}{between}{}", string(value))).collect();
    lines.sort();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_share_a_column_and_blocks_are_indented() {
        let mut sheet = Sheet::default();
        let object = json!({ "metadata": {
            "name": "a", "namespace": "n", "labels": { "app": "x", "v": "1" },
            "annotations": { LAST_APPLIED: "{}" },
        } });
        metadata(&mut sheet, &object);
        sheet.nested("Containers", |sheet| {
            sheet.nested("web", |sheet| sheet.field("Image", "shop"));
        });
        assert_eq!(
            sheet.finish(),
            "Name:         a\nNamespace:    n\nLabels:       app=x\n              v=1\n\
             Annotations:  <none>\nContainers:\n  web:\n    Image:  shop\n"
        );
    }
}
