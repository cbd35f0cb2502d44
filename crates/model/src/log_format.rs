//! How a line of the access log is written: MeshConfig's `accessLogFormat`. Text, or a JSON object of
//! texts, with [operators](crate::operator) of Envoy's. It is read once, when it is set; a line is
//! written piece by piece.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operator::{self, Argument, Command, Operator};
use crate::settings::AccessLogEncoding;
use crate::spelling::nearest;

/// A format of the access log; by default none, so that lines are as Istio has them by default.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogFormat(Option<Arc<Formats>>);

/// What one text is in either encoding.
#[derive(Debug)]
struct Formats {
    source: String,
    text: Result<Compiled, BadFormat>,
    json: Result<Compiled, BadFormat>,
}

#[derive(Debug, Default)]
struct Compiled {
    pieces: Vec<Piece>,
    /// What has no effect, for people.
    notes: BTreeSet<String>,
    operators: usize,
}

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the line, as they are.
    Literal(String),
    /// What is known of the request.
    Told {
        /// What stands there.
        command: Command,
        /// What is between the parentheses of the operator; names of headers in lower case.
        argument: String,
        /// Characters of it; the rest is left out.
        length_max: Option<usize>,
        /// How it is written.
        form: Form,
    },
}

/// How what an operator stands for is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Into text; `-` if it is not there.
    Text,
    /// Into a JSON string, among other things; `-` if it is not there.
    JsonText,
    /// As a JSON value of its own, a number or a string; `null` if it is not there.
    JsonValue,
}

/// Why a text is no format of the access log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadFormat {
    /// It is too long.
    #[error("a format has at most {FORMAT_BYTES_MAX} bytes, and this has {0}")]
    TooLong(usize),
    /// It has too many operators.
    #[error("a format has at most {OPERATORS_MAX} operators, and this has more")]
    TooManyOperators,
    /// A percent sign that begins no operator.
    #[error(
        "{excerpt:?} is no operator: they are %NAME%, %NAME(ARGUMENT)% or %NAME(ARGUMENT):LENGTH%, and %% \
         is a percent sign"
    )]
    NoOperator {
        /// The text from there on, its beginning.
        excerpt: String,
    },
    /// An operator that neither Envoy nor the mesh has.
    #[error("there is no operator %{name}%{}", hint(*near))]
    Unknown {
        /// Its name.
        name: String,
        /// What was most likely meant.
        near: Option<&'static str>,
    },
    /// An operator that takes something else.
    #[error("%{name}% takes {takes}")]
    Argument {
        /// Its name.
        name: String,
        /// What it takes.
        takes: String,
    },
    /// It is to be a JSON object, and is none.
    #[error("accessLogEncoding is JSON, so the format must be a JSON object of texts: {0}")]
    NotJson(String),
    /// A value of the object is none.
    #[error("{field:?}: {flaw}")]
    Field {
        /// The field that holds it.
        field: String,
        /// What is wrong with it.
        flaw: Box<Self>,
    },
}

fn hint(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean %{near}%?")).unwrap_or_default()
}

impl LogFormat {
    /// Reads a format; empty: none. Whether it goes with an encoding [`LogFormat::check`] tells.
    ///
    /// # Errors
    ///
    /// If it is one in neither encoding.
    pub fn parse(source: &str) -> Result<Self, BadFormat> {
        if source.is_empty() {
            return Ok(Self::default());
        }
        if source.len() > FORMAT_BYTES_MAX {
            return Err(BadFormat::TooLong(source.len()));
        }
        let (text, json) = (Compiled::text(source), Compiled::json(source));
        match (&text, &json) {
            (Err(of_text), Err(BadFormat::NotJson(_))) => return Err(of_text.clone()),
            // Who writes an object means one.
            (Err(_), Err(of_json)) => return Err(of_json.clone()),
            _ => {}
        }
        Ok(Self(Some(Arc::new(Formats { source: source.to_owned(), text, json }))))
    }

    /// As it was given; empty: none.
    pub fn source(&self) -> &str {
        self.0.as_ref().map_or("", |formats| &formats.source)
    }

    /// The pieces of a line; `None`: it is written as by default, since there is no format, or none in
    /// this encoding.
    pub fn pieces(&self, encoding: AccessLogEncoding) -> Option<&[Piece]> {
        Some(&self.compiled(encoding)?.as_ref().ok()?.pieces)
    }

    /// Checks that it is a format in this encoding.
    ///
    /// # Errors
    ///
    /// If it is not, so that lines are written as by default.
    pub fn check(&self, encoding: AccessLogEncoding) -> Result<(), BadFormat> {
        match self.compiled(encoding) {
            Some(Err(flaw)) => Err(flaw.clone()),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// What has no effect in it, in a sentence each.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        let formats = self.0.as_deref();
        let compiled = formats.and_then(|f| f.json.as_ref().or(f.text.as_ref()).ok());
        compiled.into_iter().flat_map(|compiled| compiled.notes.iter().map(String::as_str))
    }

    fn compiled(&self, encoding: AccessLogEncoding) -> Option<&Result<Compiled, BadFormat>> {
        let formats = self.0.as_deref()?;
        Some(match encoding {
            AccessLogEncoding::Text => &formats.text,
            AccessLogEncoding::Json => &formats.json,
        })
    }
}

impl PartialEq for LogFormat {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl Eq for LogFormat {}

impl TryFrom<String> for LogFormat {
    type Error = BadFormat;

    fn try_from(source: String) -> Result<Self, BadFormat> {
        Self::parse(&source)
    }
}

impl From<LogFormat> for String {
    fn from(format: LogFormat) -> Self {
        format.source().to_owned()
    }
}

impl Compiled {
    fn text(source: &str) -> Result<Self, BadFormat> {
        let mut compiled = Self::default();
        compiled.add(source, Form::Text)?;
        // As Istio: a line ends.
        if !source.ends_with('\n') {
            compiled.literal("\n");
        }
        Ok(compiled)
    }

    fn json(source: &str) -> Result<Self, BadFormat> {
        let value: Value =
            serde_json::from_str(source).map_err(|error| BadFormat::NotJson(error.to_string()))?;
        if !value.is_object() {
            return Err(BadFormat::NotJson("this is another value".to_owned()));
        }
        let mut compiled = Self::default();
        compiled.value(&value)?;
        compiled.literal("\n");
        Ok(compiled)
    }

    /// A value of a JSON format. As in Envoy, texts stand for what their operators stand for, within
    /// objects and lists, too; other values are as they are.
    fn value(&mut self, value: &Value) -> Result<(), BadFormat> {
        match value {
            Value::String(text) => return self.string(text),
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.literal(if at == 0 { "[" } else { "," });
                    self.value(item)?;
                }
                self.literal(if items.is_empty() { "[]" } else { "]" });
            }
            Value::Object(fields) => {
                for (at, (name, value)) in fields.iter().enumerate() {
                    self.literal(if at == 0 { "{" } else { "," });
                    self.literal(&Value::from(name.as_str()).to_string());
                    self.literal(":");
                    self.value(value).map_err(|flaw| BadFormat::Field {
                        field: name.clone(),
                        flaw: Box::new(flaw),
                    })?;
                }
                self.literal(if fields.is_empty() { "{}" } else { "}" });
            }
            other => self.literal(&other.to_string()),
        }
        Ok(())
    }

    /// A string: an operator that is alone keeps its type.
    fn string(&mut self, text: &str) -> Result<(), BadFormat> {
        if let Some((operator, "")) = Operator::at_start(text) {
            return self.operator(operator, Form::JsonValue);
        }
        self.literal("\"");
        self.add(text, Form::JsonText)?;
        self.literal("\"");
        Ok(())
    }

    /// Adds a text with operators.
    fn add(&mut self, text: &str, form: Form) -> Result<(), BadFormat> {
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            let (own, from) = rest.split_at(at);
            self.own(own, form);
            if let Some(after) = from.strip_prefix("%%") {
                self.own("%", form);
                rest = after;
            } else if let Some((operator, after)) = Operator::at_start(from) {
                self.operator(operator, form)?;
                rest = after;
            } else {
                let excerpt = from.chars().take(EXCERPT_CHARS).collect();
                return Err(BadFormat::NoOperator { excerpt });
            }
        }
        self.own(rest, form);
        Ok(())
    }

    /// Adds what stands in a text beside its operators.
    fn own(&mut self, text: &str, form: Form) {
        if form == Form::Text {
            self.literal(text);
        } else {
            let quoted = Value::from(text).to_string();
            self.literal(&quoted[1..quoted.len() - 1]);
        }
    }

    fn literal(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(before)) => before.push_str(text),
            _ => self.pieces.push(Piece::Literal(text.to_owned())),
        }
    }

    fn operator(&mut self, operator: Operator<'_>, form: Form) -> Result<(), BadFormat> {
        let Operator { name, argument, length_max } = operator;
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(BadFormat::TooManyOperators);
        }
        let Some((command, takes)) = Command::of(name) else {
            let Some(why) = operator::unfilled(name) else {
                let is_short = name.len() <= NAME_BYTES_MAX;
                let near = is_short.then(|| nearest(name, operator::names())).flatten();
                return Err(BadFormat::Unknown { name: name.to_owned(), near });
            };
            self.notes.insert(format!("%{name}% is always \"-\", or null: {why}"));
            self.literal(if form == Form::JsonValue { "null" } else { "-" });
            return Ok(());
        };
        let argument = self.argument(name, argument, takes)?;
        self.pieces.push(Piece::Told { command, argument, length_max, form });
        Ok(())
    }

    /// Checks what is between the parentheses of an operator.
    fn argument(&mut self, name: &str, given: &str, takes: Argument) -> Result<String, BadFormat> {
        let bad = |takes: String| BadFormat::Argument { name: name.to_owned(), takes };
        match takes {
            Argument::None if !given.is_empty() => Err(bad("no argument".to_owned())),
            Argument::Header if given.is_empty() => {
                Err(bad(format!("the name of a header: %{name}(NAME)%")))
            }
            Argument::Header => Ok(given.to_ascii_lowercase()),
            Argument::Word(words) if !given.is_empty() && !words.contains(&given) => {
                Err(bad(format!("{}, or nothing", words.join(", "))))
            }
            Argument::Time => {
                self.notes.extend(operator::time_notes(given));
                Ok(given.to_owned())
            }
            Argument::None | Argument::Word(_) => Ok(given.to_owned()),
        }
    }
}

/// Bytes of a format.
pub const FORMAT_BYTES_MAX: usize = 8 << 10;

/// Operators of a format: with the length of what each stands for they bound a line.
pub const OPERATORS_MAX: usize = 128;

/// Bytes of the name of an operator for which a near one is looked for.
const NAME_BYTES_MAX: usize = 64;

/// Characters of a format that a message shows.
const EXCERPT_CHARS: usize = 24;

#[cfg(test)]
mod tests;
