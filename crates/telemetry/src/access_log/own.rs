//! Lines in a format of the user's own.

use std::borrow::Cow;

use ironmesh_model::log_format::{Form, Piece};
use ironmesh_model::operator::{Command, Value};

use super::pieces::{address, number};
use super::{json, text};

/// Appends a line.
pub(super) fn write<'v>(
    out: &mut Vec<u8>,
    format: &[Piece],
    told: impl Fn(Command, &str) -> Option<Value<'v>>,
) {
    for piece in format {
        match piece {
            Piece::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
            Piece::Told { command, argument, length_max, form } => {
                let value = told(*command, argument);
                // What is cut is text, whatever it was.
                let value = match (value, length_max) {
                    (Some(whole), Some(max)) => Some(cut(&whole, *max)),
                    (value, _) => value,
                };
                write_value(out, value, *form);
            }
        }
    }
}

fn cut<'v>(whole: &Value<'_>, characters_max: usize) -> Value<'v> {
    Value::Text(whole.to_string().chars().take(characters_max).collect())
}

fn write_value(out: &mut Vec<u8>, value: Option<Value<'_>>, form: Form) {
    let quote: &[u8] = if form == Form::JsonValue { b"\"" } else { b"" };
    match value {
        None if form == Form::JsonValue => out.extend_from_slice(b"null"),
        None => out.push(b'-'),
        Some(Value::Text(text)) if text.is_empty() && form == Form::Text => out.push(b'-'),
        Some(Value::Number(value)) => number(out, value),
        Some(Value::Text(text)) => {
            out.extend_from_slice(quote);
            let text = &text[..text.floor_char_boundary(VALUE_BYTES_MAX)];
            match form {
                Form::Text => text::escaped(out, text),
                Form::JsonText | Form::JsonValue => json::escaped(out, text),
            }
            out.extend_from_slice(quote);
        }
        Some(Value::Address(value)) => {
            out.extend_from_slice(quote);
            address(out, value);
            out.extend_from_slice(quote);
        }
        Some(Value::Ip(ip)) => {
            let text = Value::Text(Cow::Owned(ip.to_string()));
            write_value(out, Some(text), form);
        }
    }
}

/// Bytes of what one operator stands for. What clients send is bounded by the size of a head, and a
/// format may name it many times.
pub const VALUE_BYTES_MAX: usize = 8 << 10;
