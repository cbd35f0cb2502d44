//! `ironmesh explain KIND[.FIELD...]`: the fields of a kind, as `kubectl explain` shows them.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use ironmesh_dialects::kinds::{KINDS, Kind, Resource};
use ironmesh_dialects::schema::nearest;
use serde_json::{Map, Value};

/// A kind, and which of its fields.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    kind: &'static Kind,
    path: Vec<&'a str>,
}

impl<'a> Asked<'a> {
    /// Reads a word that begins with a kind; nothing if it does not, or is a URL.
    pub(super) fn read(word: &'a str) -> Option<Self> {
        if word.contains([':', '/']) {
            return None;
        }
        let mut words = word.split('.');
        let named = Resource::by_word(words.next()?)?;
        let is_it = |kind: &&Kind| *kind.kind == *named.kind && *kind.group == *named.group;
        Some(Self { kind: KINDS.iter().find(is_it)?, path: words.collect() })
    }

    /// The page.
    ///
    /// # Errors
    ///
    /// If the kind has no such field, or none of its fields is known here.
    pub(super) fn page(&self) -> anyhow::Result<String> {
        let Kind { group, versions, kind, fields, .. } = self.kind;
        let fields = fields.with_context(|| {
            format!("the fields of {kind} are not known here: its objects are kept as they are")
        })?;
        let mut schema = fields.openapi();
        for name in &self.path {
            schema = field(items(schema), name)?;
        }
        let mut page = String::new();
        if !group.is_empty() {
            writeln!(page, "GROUP:      {group}")?;
        }
        writeln!(page, "KIND:       {kind}\nVERSION:    {}\n", versions[0])?;
        if let Some(name) = self.path.last() {
            writeln!(page, "FIELD: {name} <{}>\n", type_of(&schema))?;
        }
        let description = schema["description"].as_str().unwrap_or_default();
        writeln!(page, "DESCRIPTION:\n    {description}")?;
        for word in schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            writeln!(page, "    - {word}")?;
        }
        let inside = items(schema);
        if let Some(all) = inside["properties"].as_object().filter(|all| !all.is_empty()) {
            writeln!(page, "\nFIELDS:")?;
            for (name, field) in all {
                let is_required = inside["required"]
                    .as_array()
                    .is_some_and(|names| names.iter().any(|n| n == name));
                let required = if is_required { " -required-" } else { "" };
                let description = field["description"].as_str().unwrap_or_default();
                writeln!(page, "  {name}\t<{}>{required}\n    {description}\n", type_of(field))?;
            }
        }
        Ok(page)
    }
}

/// What a list or map is of; anything else itself.
fn items(mut schema: Value) -> Value {
    loop {
        let of =
            ["items", "additionalProperties"].into_iter().find(|name| schema[*name].is_object());
        let Some(of) = of else { return schema };
        schema = schema[of].take();
    }
}

fn field(mut schema: Value, name: &str) -> anyhow::Result<Value> {
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    if known.contains_key(name) {
        return Ok(schema["properties"][name].take());
    }
    let hint = nearest(name, known.keys().map(String::as_str));
    let hint = hint.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    bail!("field {name:?} does not exist{hint}")
}

/// The type of a field, in `kubectl`'s words.
fn type_of(schema: &Value) -> String {
    if schema["items"].is_object() {
        return format!("[]{}", type_of(&schema["items"]));
    }
    if schema["additionalProperties"].is_object() {
        return format!("map[string]{}", type_of(&schema["additionalProperties"]));
    }
    let word = match schema["type"].as_str() {
        Some("object") => "Object",
        Some(word) => word,
        None if schema["x-kubernetes-int-or-string"] == true => "IntOrString",
        None => "Object",
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(word: &str) -> String {
        Asked::read(word).unwrap().page().unwrap()
    }

    #[test]
    fn fields_are_explained_as_kubectl_does() {
        let route = page("vs.spec.http.route");
        let head = "GROUP:      networking.istio.io\nKIND:       VirtualService\nVERSION:    v1\n\n\
                    FIELD: route <[]Object>\n\nDESCRIPTION:\n    ";
        assert!(route.starts_with(head), "{route}");
        assert!(route.contains("\n  destination\t<Object> -required-\n"), "{route}");
        let pod = page("pods");
        assert!(pod.starts_with("KIND:       Pod\nVERSION:    v1\n\nDESCRIPTION:\n"), "{pod}");
        assert!(
            page("Deployment.spec.template.spec.containers.imagePullPolicy")
                .contains("    - Never\n")
        );
        assert!(page("svc.spec.selector").contains("FIELD: selector <map[string]string>\n"));
    }

    #[test]
    fn what_is_no_field_is_refused_and_what_is_no_kind_is_a_url() {
        let why = |word: &str| Asked::read(word).unwrap().page().unwrap_err().to_string();
        assert_eq!(why("vs.spec.htp"), "field \"htp\" does not exist; did you mean \"http\"?");
        assert_eq!(why("pod.spec.containers.name.x"), "field \"x\" does not exist");
        for word in ["reviews", "reviews.shop", "pods:80", "pod/a", "http://pods", "", ".", "GET"] {
            assert!(Asked::read(word).is_none(), "{word}");
        }
    }
}
