//! A table as OpenAPI's schema (version 3.0), as Kubernetes' API describes kinds.

use serde_json::{Map, Value, json};

use super::{Field, Message, Status, Type, Word};

impl Message {
    /// The schema of an object with these fields.
    pub fn openapi(&self) -> Value {
        let properties: Map<String, Value> =
            self.fields.iter().map(|field| (field.name.to_owned(), field.openapi())).collect();
        let mut schema = json!({
            "type": "object",
            "description": self.doc.trim(),
            "properties": properties,
        });
        let required: Vec<&str> = self
            .fields
            .iter()
            .filter(|field| field.status == Status::Required)
            .map(|field| field.name)
            .collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        if self.open {
            schema["x-kubernetes-preserve-unknown-fields"] = json!(true);
        }
        schema
    }
}

impl Field {
    fn openapi(&self) -> Value {
        let mut schema = self.of.openapi();
        let doc = self.doc.trim();
        let description = match self.effect() {
            Some(effect) => format!("{doc} ({effect})"),
            None => doc.to_owned(),
        };
        schema["description"] = Value::String(description);
        if let Some(default) = self.default {
            schema["default"] = default();
        }
        schema
    }

    /// What the mesh does with the field, unless it simply does what it says.
    pub fn effect(&self) -> Option<String> {
        match self.status {
            Status::Honoured | Status::Required => None,
            Status::NotHonoured => Some("not honoured yet".to_owned()),
            Status::Old(new) => Some(format!("old; now written {new}")),
            Status::Found(_, why) => Some(format!("on one machine: {why}")),
        }
    }
}

impl Type {
    fn openapi(&self) -> Value {
        match self {
            Self::Bool => json!({ "type": "boolean" }),
            Self::Integer(min, max) => {
                json!({ "type": "integer", "format": "int64", "minimum": min, "maximum": max })
            }
            Self::Number => json!({ "type": "number", "format": "double" }),
            Self::Text | Self::Duration => json!({ "type": "string" }),
            Self::IntegerOrText | Self::Quantity => {
                json!({ "x-kubernetes-int-or-string": true })
            }
            // What letter case does not matter to is no enumeration.
            Self::Words { any_case: true, .. } => json!({ "type": "string" }),
            Self::Words { words, any_case: false } => {
                let words: Vec<&str> = words.iter().map(|Word { word, .. }| *word).collect();
                json!({ "type": "string", "enum": words })
            }
            Self::List(of) => json!({ "type": "array", "items": of.openapi() }),
            Self::Map(of) => json!({ "type": "object", "additionalProperties": of.openapi() }),
            Self::Object(message) => message.openapi(),
            Self::Any => json!({ "x-kubernetes-preserve-unknown-fields": true }),
        }
    }
}
