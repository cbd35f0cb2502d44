//! `/openapi/v2`: the same as one document of OpenAPI 2.0, which older clients ask for: as JSON, or in
//! gnostic's protobuf, which is all that Kubernetes' Go client reads.
//!
//! It is made kind by kind as its client takes it, so that nobody holds the whole. In protobuf that is
//! possible because messages that come twice are merged.

use std::iter::once;

use bytes::Bytes;
use ironmesh_dialects::kinds::{KINDS, Kind};
use serde_json::{Map, Value, json};

use super::{names, path, schema_name};
use crate::server::answer::{Answer, pulled};

/// The document in the form that a client accepts.
pub(in crate::server) fn answer(accept: &str) -> Answer {
    match accept.contains("proto-openapi.spec.v2") {
        true => pulled(PROTOBUF, protobuf()),
        false => pulled("application/json", text()),
    }
}

/// The document as JSON, in parts.
fn text() -> impl Iterator<Item = Bytes> + Send {
    let head = json!({"swagger": "2.0", "info": info()}).to_string();
    let head = format!(r#"{},"paths":{{"#, &head[..head.len() - 1]);
    let paths = entries(paths());
    let definitions = entries(definitions());
    once(head.into())
        .chain(paths)
        .chain(once(Bytes::from_static(br#"},"definitions":{"#)))
        .chain(definitions)
        .chain(once(Bytes::from_static(b"}}")))
}

/// Entries of an object as JSON, with commas between them.
fn entries(
    all: impl Iterator<Item = (String, Value)> + Send,
) -> impl Iterator<Item = Bytes> + Send {
    let mut comma = "";
    all.map(move |(name, value)| {
        let comma = std::mem::replace(&mut comma, ",");
        format!("{comma}{}:{value}", Value::String(name)).into()
    })
}

/// The document in protobuf, in parts.
fn protobuf() -> impl Iterator<Item = Bytes> + Send {
    let mut head = Message::default();
    head.text(document::SWAGGER, "2.0");
    let info = info();
    head.message(document::INFO, |to| {
        to.text(1, text_of(&info["title"]));
        to.text(2, text_of(&info["version"]));
    });
    let paths = paths().map(|(name, item)| {
        let mut part = Message::default();
        part.message(document::PATHS, |to| {
            to.named(2, &name, |to| to.message(8, |to| operation(to, &item["patch"])));
        });
        part
    });
    let definitions = definitions().map(|(name, value)| {
        let mut part = Message::default();
        part.message(document::DEFINITIONS, |to| to.named(1, &name, |to| schema(to, &value)));
        part
    });
    once(head).chain(paths).chain(definitions).map(|part| part.0.into())
}

fn info() -> Value {
    json!({"title": "ironmesh", "version": env!("CARGO_PKG_VERSION")})
}

/// What can be patched, with which parameters: by that clients know what the server can do.
fn paths() -> impl Iterator<Item = (String, Value)> + Send {
    let all = KINDS
        .iter()
        .flat_map(|kind| kind.group_versions().map(move |(group, version)| (kind, group, version)));
    all.map(|(kind, group, version)| {
        let parameter = |name: &str| json!({"name": name, "in": "query", "type": "string"});
        let patch = json!({
            "parameters": [parameter("dryRun"), parameter("fieldValidation")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-group-version-kind": names(kind, group, version),
        });
        (path(kind, group, version), json!({"patch": patch}))
    })
}

/// The fields of each kind that has a table, once for all its versions.
fn definitions() -> impl Iterator<Item = (String, Value)> + Send {
    KINDS.iter().filter_map(|kind: &Kind| {
        let mut schema = kind.fields?.openapi();
        let all = kind.group_versions();
        let all: Vec<Value> = all.map(|(group, version)| names(kind, group, version)).collect();
        schema["x-kubernetes-group-version-kind"] = all.into();
        Some((schema_name(kind, kind.group, kind.versions[0]), schema))
    })
}

fn operation(to: &mut Message, value: &Value) {
    for parameter in value["parameters"].as_array().into_iter().flatten() {
        // ParametersItem, Parameter, NonBodyParameter, QueryParameterSubSchema.
        to.message(8, |to| {
            to.message(1, |to| {
                to.message(2, |to| {
                    to.message(3, |to| {
                        to.text(2, text_of(&parameter["in"]));
                        to.text(4, text_of(&parameter["name"]));
                        to.text(6, text_of(&parameter["type"]));
                    });
                });
            });
        });
    }
    to.message(9, |to| {
        for (code, response) in object_of(&value["responses"]) {
            to.named(1, code, |to| {
                to.message(1, |to| to.text(1, text_of(&response["description"])));
            });
        }
    });
    extensions(to, 13, value);
}

fn schema(to: &mut Message, value: &Value) {
    for (key, value) in object_of(value) {
        match key.as_str() {
            "format" => to.text(2, text_of(value)),
            "description" => to.text(4, text_of(value)),
            "default" => to.message(5, |to| any(to, value)),
            "maximum" => to.double(7, value.as_f64().unwrap_or_default()),
            "minimum" => to.double(9, value.as_f64().unwrap_or_default()),
            "required" => list_of(value).for_each(|name| to.text(19, text_of(name))),
            "enum" => list_of(value).for_each(|word| to.message(20, |to| any(to, word))),
            "additionalProperties" => to.message(21, |to| to.message(1, |to| schema(to, value))),
            "type" => to.message(22, |to| to.text(1, text_of(value))),
            "items" => to.message(23, |to| to.message(1, |to| schema(to, value))),
            "properties" => to.message(25, |to| {
                for (name, value) in object_of(value) {
                    to.named(1, name, |to| schema(to, value));
                }
            }),
            // Extensions come below; nothing else is in a table's schema.
            _ => {}
        }
    }
    extensions(to, 31, value);
}

/// What Kubernetes has added to OpenAPI.
fn extensions(to: &mut Message, number: u32, value: &Value) {
    for (key, value) in object_of(value).filter(|(key, _)| key.starts_with("x-")) {
        to.named(number, key, |to| any(to, value));
    }
}

/// A value of any type: as YAML, which JSON is.
fn any(to: &mut Message, value: &Value) {
    to.text(2, &value.to_string());
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list_of(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn object_of(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// A message that is being written.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn text(&mut self, number: u32, text: &str) {
        self.bytes(number, text.as_bytes());
    }

    fn double(&mut self, number: u32, value: f64) {
        self.varint(u64::from(number << 3 | 1));
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn message(&mut self, number: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(number, &inner.0);
    }

    /// An entry of what is a map in JSON: a name and a message.
    fn named(&mut self, number: u32, name: &str, write: impl FnOnce(&mut Self)) {
        self.message(number, |to| {
            to.text(1, name);
            to.message(2, write);
        });
    }

    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.varint(u64::from(number << 3 | 2));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Fields of the whole document, as `OpenAPIv2.proto` numbers them.
mod document {
    pub(super) const SWAGGER: u32 = 1;
    pub(super) const INFO: u32 = 2;
    pub(super) const PATHS: u32 = 8;
    pub(super) const DEFINITIONS: u32 = 9;
}

/// What the answer in protobuf is called.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

#[cfg(test)]
mod tests;
