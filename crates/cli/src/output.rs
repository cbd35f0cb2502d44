//! How objects are shown: tables, YAML, JSON, names, JSONPath.

pub(crate) mod jsonpath;
pub(crate) mod table;
pub(crate) mod yaml;

use std::str::FromStr;

use anyhow::{bail, ensure};
use jsonpath::JsonPath;

/// What `-o` asks for.
#[derive(Clone, Debug, Default)]
pub(crate) enum Output {
    /// A table.
    #[default]
    Table,
    /// A table with all columns.
    Wide,
    /// YAML.
    Yaml,
    /// JSON.
    Json,
    /// `KIND/NAME` lines.
    Name,
    /// What a JSONPath template makes of it.
    JsonPath(JsonPath),
    /// A table of chosen fields.
    Columns(Vec<(String, JsonPath)>),
}

impl FromStr for Output {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (kind, rest) = text.split_once('=').map_or((text, None), |(k, r)| (k, Some(r)));
        Ok(match (kind, rest) {
            ("wide", None) => Self::Wide,
            ("yaml", None) => Self::Yaml,
            ("json", None) => Self::Json,
            ("name", None) => Self::Name,
            ("jsonpath", Some(template)) => Self::JsonPath(template.parse()?),
            ("jsonpath-file", Some(file)) => {
                Self::JsonPath(std::fs::read_to_string(file)?.trim_end().parse()?)
            }
            ("custom-columns", Some(columns)) => Self::Columns(parse_columns(columns)?),
            _ => bail!(
                "there is no output format {text:?}; there are: wide, yaml, json, name, \
                 jsonpath=TEMPLATE, custom-columns=NAME:PATH,..."
            ),
        })
    }
}

fn parse_columns(text: &str) -> anyhow::Result<Vec<(String, JsonPath)>> {
    let column = |column: &str| {
        let (name, path) = column.split_once(':').unwrap_or((column, ""));
        ensure!(!path.is_empty(), "column {column:?} is not NAME:PATH");
        let path = path.trim_start_matches('{').trim_end_matches('}');
        let dot = if path.starts_with(['.', '[']) { "" } else { "." };
        Ok((name.to_owned(), format!("{{{dot}{path}}}").parse()?))
    };
    text.split(',').map(column).collect()
}
