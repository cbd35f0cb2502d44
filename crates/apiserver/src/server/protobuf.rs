//! Bodies in `application/vnd.kubernetes.protobuf`, as typed clients send them, read as the JSON that they
//! stand for. Answers are JSON always: clients that send protobuf take that, too.
//!
//! A body is `k8s`, a zero byte and an envelope (`runtime.Unknown`), which says the kind and holds its
//! message. What messages there are is in a table, a line for each: its name, and for each field
//! `NUMBER:NAME:TYPE`, where NAME is the one in JSON (none: its fields are those of the message around it).
//! Before TYPE, `[` is a list, `{` a map from text, and `?` a field that is kept although it has its zero
//! value, which clients send for all others that were not set. The table is made from `generated.proto` and
//! `types.go` of k8s.io/api and k8s.io/apimachinery, version 0.36.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::failure::Failure;
use crate::object::DEPTH_MAX;

/// The media type.
pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Whether a content type is that.
pub(super) fn is_protobuf(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim().eq_ignore_ascii_case(PROTOBUF)
}

/// The JSON that a body stands for.
///
/// # Errors
///
/// 400 if it is no such body, or of a kind that is not in the table.
pub(super) fn read(body: &[u8]) -> Result<Value, Failure> {
    let bad = |why: Bad| {
        Failure::bad_request(format!("the body of the request is not {PROTOBUF}: {why}"))
    };
    let Envelope { api_version, kind, raw } = Envelope::read(body).map_err(bad)?;
    let message = Message::of_kind(&api_version, &kind).ok_or_else(|| {
        Failure::bad_request(format!(
            "no protobuf is known of kind {kind:?} in version {api_version:?}; send it as JSON"
        ))
    })?;
    let mut object = message.read(raw, 0).map_err(bad)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// What is around a message.
#[derive(Debug, Default)]
struct Envelope<'a> {
    api_version: String,
    kind: String,
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(body: &'a [u8]) -> Result<Self, Bad> {
        let body = body.strip_prefix(MAGIC).ok_or(Bad("it does not begin as one"))?;
        let mut envelope = Self::default();
        for field in fields(body) {
            match field? {
                (1, Wire::Bytes(meta)) => envelope.read_meta(meta)?,
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (3, Wire::Bytes(encoding)) if !encoding.is_empty() => {
                    return Err(Bad("its content is encoded once more"));
                }
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_meta(&mut self, meta: &[u8]) -> Result<(), Bad> {
        for field in fields(meta) {
            match field? {
                (1, Wire::Bytes(bytes)) => self.api_version = text(bytes)?,
                (2, Wire::Bytes(bytes)) => self.kind = text(bytes)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is wrong with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
struct Bad(&'static str);

/// A message of the table.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    /// `core/v1`, with which names of the same package are completed.
    package: &'a str,
    fields: &'a str,
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
struct Field<'a> {
    name: &'a str,
    shape: Shape,
    is_kept: bool,
    kind: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    One,
    List,
    Map,
    Inline,
}

impl<'a> Message<'a> {
    fn of_kind(api_version: &str, kind: &str) -> Option<Self> {
        let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
        let group = group.split('.').next().unwrap_or_default();
        // Options have the version of what they are sent to.
        Self::of(&format!("{group}/{version}.{kind}"))
            .or_else(|| Self::of(&format!("meta/v1.{kind}")))
    }

    fn of(name: &str) -> Option<Message<'static>> {
        let line = MESSAGES.lines().find_map(|line| {
            line.strip_prefix(name)
                .and_then(|rest| rest.strip_prefix(' '))
                .map(|fields| (line, fields))
        });
        let (line, fields) = line?;
        let package = line.split('.').next().unwrap_or_default();
        Some(Message { package, fields })
    }

    fn field(&self, number: u32) -> Option<Field<'a>> {
        self.fields.split(' ').find_map(|field| {
            let mut parts = field.splitn(3, ':');
            if parts.next()?.parse() != Ok(number) {
                return None;
            }
            let (name, kind) = (parts.next()?, parts.next()?);
            let (shape, kind) = match kind.split_at_checked(1)? {
                ("[", kind) => (Shape::List, kind),
                ("{", kind) => (Shape::Map, kind),
                ("=", kind) => (Shape::Inline, kind),
                _ => (Shape::One, kind),
            };
            let kept = kind.strip_prefix('?');
            Some(Field { name, shape, is_kept: kept.is_some(), kind: kept.unwrap_or(kind) })
        })
    }

    fn read(&self, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, Bad> {
        if depth > DEPTH_MAX {
            return Err(Bad("it nests messages too deeply"));
        }
        let mut object = Map::new();
        for field in fields(bytes) {
            let (number, wire) = field?;
            // Fields of newer clients are left out, as Kubernetes does.
            let Some(field) = self.field(number) else { continue };
            match field.shape {
                Shape::Inline => {
                    let Wire::Bytes(bytes) = wire else { return Err(WRONG_TYPE) };
                    object.extend(self.message(field.kind)?.read(bytes, depth + 1)?);
                }
                Shape::List => {
                    let value = self.value(field.kind, wire, depth)?;
                    match object.entry(field.name).or_insert_with(|| Value::Array(Vec::new())) {
                        Value::Array(items) => items.push(value),
                        _ => return Err(WRONG_TYPE),
                    }
                }
                Shape::Map => {
                    let (key, value) = self.entry(field.kind, wire, depth)?;
                    match object.entry(field.name).or_insert_with(|| Value::Object(Map::new())) {
                        Value::Object(entries) => entries.insert(key, value),
                        _ => return Err(WRONG_TYPE),
                    };
                }
                Shape::One => {
                    let value = self.value(field.kind, wire, depth)?;
                    if field.is_kept || !is_zero(&value) {
                        object.insert(field.name.to_owned(), value);
                    }
                }
            }
        }
        Ok(object)
    }

    /// An entry of a map: a message of a key and a value.
    fn entry(&self, kind: &str, wire: Wire<'_>, depth: usize) -> Result<(String, Value), Bad> {
        let Wire::Bytes(bytes) = wire else { return Err(WRONG_TYPE) };
        let (mut key, mut value) = (String::new(), None);
        for field in fields(bytes) {
            match field? {
                (1, Wire::Bytes(bytes)) => key = text(bytes)?,
                (2, wire) => value = Some(self.value(kind, wire, depth)?),
                _ => {}
            }
        }
        let value = match value {
            Some(value) => value,
            None => self.value(kind, Wire::Bytes(&[]), depth)?,
        };
        Ok((key, value))
    }

    fn value(&self, kind: &str, wire: Wire<'_>, depth: usize) -> Result<Value, Bad> {
        Ok(match (kind, wire) {
            ("s", Wire::Bytes(bytes)) => text(bytes)?.into(),
            ("y", Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
            ("b", Wire::Number(number)) => (number != 0).into(),
            // Two's complement, for negative ones, too.
            ("i", Wire::Number(number)) => (number as i64).into(),
            ("d", Wire::Fixed(bits)) => f64::from_bits(bits).into(),
            ("T", Wire::Bytes(bytes)) => time(bytes, false)?,
            ("U", Wire::Bytes(bytes)) => time(bytes, true)?,
            ("Q", Wire::Bytes(bytes)) => quantity(bytes)?,
            ("X", Wire::Bytes(bytes)) => number_or_text(bytes)?,
            ("R", Wire::Bytes(bytes)) => raw(bytes)?,
            ("D", Wire::Bytes(bytes)) => duration(bytes)?,
            ("L", Wire::Bytes(bytes)) => texts(bytes)?,
            ("s" | "y" | "b" | "i" | "d" | "T" | "U" | "Q" | "X" | "R" | "D" | "L", _) => {
                return Err(WRONG_TYPE);
            }
            (message, Wire::Bytes(bytes)) => {
                Value::Object(self.message(message)?.read(bytes, depth + 1)?)
            }
            _ => return Err(WRONG_TYPE),
        })
    }

    fn message(&self, name: &str) -> Result<Message<'static>, Bad> {
        let found = match name.contains('.') {
            true => Self::of(name),
            false => Self::of(&format!("{}.{name}", self.package)),
        };
        found.ok_or(Bad("it holds a message that is not known here"))
    }
}

/// Whether a value is what a field has that was not set.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

/// Nothing for the time that was not set.
fn time(bytes: &[u8], is_exact: bool) -> Result<Value, Bad> {
    let (mut seconds, mut nanoseconds) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, Wire::Number(number)) => seconds = number as i64,
            (2, Wire::Number(number)) => nanoseconds = number as i32,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let at =
        Timestamp::new(seconds, nanoseconds).map_err(|_| Bad("it holds a time that is none"))?;
    let format = if is_exact { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(at.strftime(format).to_string().into())
}

fn quantity(bytes: &[u8]) -> Result<Value, Bad> {
    let mut number = String::new();
    for field in fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            number = text(bytes)?;
        }
    }
    Ok(number.into())
}

fn number_or_text(bytes: &[u8]) -> Result<Value, Bad> {
    let (mut is_text, mut number, mut words) = (false, 0, String::new());
    for field in fields(bytes) {
        match field? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value as i32,
            (3, Wire::Bytes(bytes)) => words = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { words.into() } else { number.into() })
}

fn raw(bytes: &[u8]) -> Result<Value, Bad> {
    let mut value = Value::Null;
    for field in fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            value = serde_json::from_slice(bytes).map_err(|_| Bad("it holds JSON that is none"))?;
        }
    }
    Ok(value)
}

fn duration(bytes: &[u8]) -> Result<Value, Bad> {
    let mut nanoseconds = 0;
    for field in fields(bytes) {
        if let (1, Wire::Number(number)) = field? {
            nanoseconds = number as i64;
        }
    }
    Ok(format!("{}s", nanoseconds as f64 / 1e9).into())
}

fn texts(bytes: &[u8]) -> Result<Value, Bad> {
    let mut items = Vec::new();
    for field in fields(bytes) {
        if let (1, Wire::Bytes(bytes)) = field? {
            items.push(text(bytes)?.into());
        }
    }
    Ok(Value::Array(items))
}

fn text(bytes: &[u8]) -> Result<String, Bad> {
    let text = std::str::from_utf8(bytes).map_err(|_| Bad("it holds text that is not UTF-8"))?;
    Ok(text.to_owned())
}

/// What stands behind a field's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u32, Wire<'_>), Bad>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Wire<'a>), Bad> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).map_err(|_| CUT)?;
    let wire = match key & 7 {
        0 => Wire::Number(varint(rest)?),
        1 => Wire::Fixed(u64::from_le_bytes(take(rest, 8)?.try_into().map_err(|_| CUT)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| CUT)?;
            Wire::Bytes(take(rest, length)?)
        }
        5 => {
            let bits = u32::from_le_bytes(take(rest, 4)?.try_into().map_err(|_| CUT)?);
            Wire::Fixed(u64::from(bits))
        }
        _ => return Err(CUT),
    };
    Ok((number, wire))
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Bad> {
    let (taken, left) = rest.split_at_checked(length).ok_or(CUT)?;
    *rest = left;
    Ok(taken)
}

fn varint(rest: &mut &[u8]) -> Result<u64, Bad> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte] = *take(rest, 1)? else { return Err(CUT) };
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(CUT)
}

const MAGIC: &[u8] = b"k8s\0";
const MESSAGES: &str = include_str!("protobuf/messages.txt");
const CUT: Bad = Bad("it is cut or damaged");
const WRONG_TYPE: Bad = Bad("it holds a field of another type than its message has");

#[cfg(test)]
mod tests;
