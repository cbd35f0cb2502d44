//! A value along the table of its kind: what is wrong, and what is left without it.

use std::fmt;

use ironmesh_model::settings::parse_duration;
use ironmesh_model::spelling::nearest;
use ironmesh_model::{Finding, FindingCode, Severity};
use serde_json::{Map, Value};

use super::{Field, Message, Quantity, Status, Type, Typed, Word};
use crate::{Object, path};

/// Checks an object of the kind `T` and reads it; `None` if it has errors.
pub(crate) fn read<T: Typed>(object: &Object, findings: &mut Vec<Finding>) -> Option<T> {
    let mut report = |path: &str, code, message| {
        findings.push(Finding::new(object.id(), path, code, message));
    };
    let clean = Walk { report: &mut report, muted: false }.value(&T::TYPE, object.value(), "");
    let refused = findings.iter().any(|finding| finding.code.severity() == Severity::Error);
    (!refused).then(|| T::typed(clean))
}

/// Why a value is none of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Path of the first field that is wrong; empty: the value as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl std::error::Error for Unreadable {}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => self.message.fmt(f),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Reads a value that nobody has checked. What the mesh does not honour is no error.
///
/// # Errors
///
/// What an object is refused for: a field of another type, or one that must be there and is not.
pub fn parse<T: Typed>(value: &Value) -> Result<T, Unreadable> {
    let mut wrong = None;
    let mut report = |path: &str, code: FindingCode, message| {
        if code.severity() == Severity::Error && wrong.is_none() {
            wrong = Some(Unreadable { path: path.to_owned(), message });
        }
    };
    let clean = Walk { report: &mut report, muted: false }.value(&T::TYPE, value, "");
    match wrong {
        Some(wrong) => Err(wrong),
        None => Ok(T::typed(clean)),
    }
}

/// Makes of a value one with canonical names of fields and without nulls.
struct Walk<'a> {
    report: &'a mut dyn FnMut(&str, FindingCode, String),
    /// Within a field that is not honoured: one finding for all of it is enough.
    muted: bool,
}

impl Walk<'_> {
    fn report(&mut self, path: &str, code: FindingCode, message: impl Into<String>) {
        (self.report)(path, code, message.into());
    }

    fn wrong(&mut self, path: &str, expected: &str, value: &Value) -> Value {
        let hint = match value {
            Value::Number(_) | Value::Bool(_) if expected == "a text" => "; put it in quotes",
            _ => "",
        };
        let message = format!("this takes {expected}, not {}{hint}", describe(value));
        self.report(path, FindingCode::Invalid, message);
        Value::Null
    }

    fn message(&mut self, message: &Message, value: &Value, path: &str) -> Value {
        let Some(entries) = value.as_object() else { return self.wrong(path, "an object", value) };
        let mut clean = Map::new();
        for (name, value) in entries {
            let at = path::field(path, name);
            let Some(field) = message.field(name) else {
                if !message.open {
                    self.unknown(message, name, &at);
                }
                continue;
            };
            if value.is_null() {
                continue;
            }
            if name != field.name && entries.contains_key(field.name) {
                let what = format!("this is {:?}, which is given, too; remove one", field.name);
                self.report(&at, FindingCode::Invalid, what);
                continue;
            }
            let value = self.field(field, value, &at);
            if !value.is_null() {
                clean.insert(field.name.to_owned(), value);
            }
        }
        for field in message.fields.iter().filter(|field| field.status == Status::Required) {
            let given = entries.iter().any(|(name, value)| {
                !is_empty(value) && message.field(name).is_some_and(|f| f.name == field.name)
            });
            if !given {
                let at = path::field(path, field.name);
                let what = format!("{} needs {:?}", message.name, field.name);
                self.report(&at, FindingCode::Missing, what);
            }
        }
        Value::Object(clean)
    }

    fn field(&mut self, field: &Field, value: &Value, path: &str) -> Value {
        match field.status {
            Status::Honoured | Status::Required => self.value(&field.of, value, path),
            Status::Old(new) => {
                if !self.muted {
                    self.report(path, FindingCode::Deprecated, format!("now written {new}"));
                }
                self.value(&field.of, value, path)
            }
            Status::NotHonoured => {
                let what = format!("{:?} is not honoured yet", field.name);
                self.without_effect(field, value, path, FindingCode::NotHonoured, what)
            }
            Status::Found(code, why) if asks_for_something(value) => {
                let what = format!("{}: {why}", field.name);
                self.without_effect(field, value, path, code, what)
            }
            Status::Found(..) => self.value(&field.of, value, path),
        }
    }

    /// One finding for a field and all that is in it.
    fn without_effect(
        &mut self,
        field: &Field,
        value: &Value,
        path: &str,
        code: FindingCode,
        what: String,
    ) -> Value {
        if !self.muted {
            self.report(path, code, what);
        }
        let muted = std::mem::replace(&mut self.muted, true);
        let value = self.value(&field.of, value, path);
        self.muted = muted;
        value
    }

    fn value(&mut self, of: &Type, value: &Value, path: &str) -> Value {
        match of {
            Type::Any => value.clone(),
            Type::Bool if value.is_boolean() => value.clone(),
            Type::Bool => self.wrong(path, "true or false", value),
            Type::Number if value.is_number() => value.clone(),
            Type::Number => self.wrong(path, "a number", value),
            Type::Text if value.is_string() => value.clone(),
            Type::Text => self.wrong(path, "a text", value),
            Type::IntegerOrText if value.is_string() || value.is_i64() => value.clone(),
            Type::IntegerOrText => self.wrong(path, "a whole number or a text", value),
            Type::Quantity if Quantity::is_one(value) => value.clone(),
            Type::Quantity => {
                self.wrong(path, "a quantity such as 0.5, \"500m\" or \"1Gi\"", value)
            }
            Type::Duration => match value.as_str() {
                Some(text) if parse_duration(text).is_some() => value.clone(),
                _ => self.wrong(path, "a duration such as \"1.5s\"", value),
            },
            Type::Integer(min, max) => match value.as_i64() {
                Some(number) if (*min..=*max).contains(&number) => value.clone(),
                _ => self.wrong(path, &format!("an integer from {min} to {max}"), value),
            },
            Type::Words { words, any_case } => self.word(words, *any_case, value, path),
            Type::List(of) => self.list(of, value, path),
            Type::Map(of) => self.map(of, value, path),
            Type::Object(message) => self.message(message, value, path),
        }
    }

    fn word(&mut self, words: &[Word], any_case: bool, value: &Value, path: &str) -> Value {
        let given = value.as_str().unwrap_or_default();
        let is_given =
            |w: &&Word| w.word == given || any_case && w.word.eq_ignore_ascii_case(given);
        let Some(Word { word, honoured, .. }) = words.iter().find(is_given) else {
            let (honoured, others): (Vec<&Word>, Vec<&Word>) =
                words.iter().partition(|word| word.honoured);
            let words: Vec<&str> = honoured.iter().chain(&others).map(|word| word.word).collect();
            return self.wrong(path, &format!("one of {}", words.join(", ")), value);
        };
        if !honoured && !self.muted {
            self.report(path, FindingCode::NotHonoured, format!("{word} is not honoured yet"));
        }
        Value::String((*word).to_owned())
    }

    fn list(&mut self, of: &Type, value: &Value, path: &str) -> Value {
        let Some(items) = value.as_array() else { return self.wrong(path, "a list", value) };
        let clean = items.iter().enumerate();
        Value::Array(clean.map(|(at, item)| self.value(of, item, &path::item(path, at))).collect())
    }

    fn map(&mut self, of: &Type, value: &Value, path: &str) -> Value {
        let Some(entries) = value.as_object() else { return self.wrong(path, "an object", value) };
        // A null is no absent entry: a condition or selector without it would take more.
        let clean = entries
            .iter()
            .map(|(name, value)| (name.clone(), self.value(of, value, &path::field(path, name))));
        Value::Object(clean.collect())
    }

    fn unknown(&mut self, message: &Message, name: &str, path: &str) {
        let near = nearest(name, message.fields.iter().map(|field| field.name));
        let hint = near.map(|near| format!("{DID_YOU_MEAN}{near:?}?")).unwrap_or_default();
        let what = format!("{} has no field {name:?}{hint}", message.name);
        self.report(path, FindingCode::UnknownField, what);
    }
}

impl Message {
    /// The field of this name; letter case matters.
    pub(super) fn field(&self, name: &str) -> Option<&'static Field> {
        let exact = self.fields.iter().find(|field| field.name == name);
        exact.or_else(|| {
            let camel = (self.protobuf && name.contains('_')).then(|| camel_case(name))?;
            self.fields.iter().find(|field| field.name == camel)
        })
    }
}

/// How messages about an unknown name go on where a known one is near.
pub(crate) const DID_YOU_MEAN: &str = "; did you mean ";

fn camel_case(snake: &str) -> String {
    let mut out = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        match c {
            '_' => upper = true,
            c if std::mem::take(&mut upper) => out.push(c.to_ascii_uppercase()),
            c => out.push(c),
        }
    }
    out
}

/// Whether a value is as good as absent: protobuf does not tell them apart.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// Whether a value differs from what stands for "not asked for".
fn asks_for_something(value: &Value) -> bool {
    !is_empty(value)
        && *value != Value::Bool(false)
        && value.as_object().is_none_or(|o| !o.is_empty())
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) if text.chars().count() <= 60 => format!("{text:?}"),
        Value::String(_) => "a long text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
