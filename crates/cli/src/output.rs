//! How objects are shown: tables, YAML, JSON, names, JSONPath.

pub(crate) mod jsonpath;
pub(crate) mod table;
pub(crate) mod yaml;

use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
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
                Self::JsonPath(read_to_string(file)?.trim_end().parse()?)
            }
            ("jsonpath" | "jsonpath-file", _) => {
                bail!("-o jsonpath=TEMPLATE: the template is missing")
            }
            ("custom-columns", Some(columns)) => Self::Columns(parse_columns(columns)?),
            ("custom-columns-file", Some(file)) => {
                let text = read_to_string(file)?;
                let mut lines = text.lines().filter(|line| !line.trim().is_empty());
                let names = lines.next().unwrap_or_default().split_whitespace();
                let paths = lines.next().unwrap_or_default().split_whitespace();
                let columns: Vec<String> =
                    names.zip(paths).map(|(name, path)| format!("{name}:{path}")).collect();
                ensure!(!columns.is_empty(), "{file}: a line of names and one of paths are wanted");
                Self::Columns(parse_columns(&columns.join(","))?)
            }
            ("go-template" | "go-template-file" | "template", _) => bail!(
                "-o {kind} is not made: templates of Go need Go; -o jsonpath=TEMPLATE and \
                 -o custom-columns=NAME:PATH,... are"
            ),
            _ => bail!(
                "there is no output format {text:?}; there are: wide, yaml, json, name, \
                 jsonpath=TEMPLATE, jsonpath-file=FILE, custom-columns=NAME:PATH,..., \
                 custom-columns-file=FILE"
            ),
        })
    }
}

fn parse_columns(text: &str) -> anyhow::Result<Vec<(String, JsonPath)>> {
    let column = |column: &str| {
        let (name, path) = column.split_once(':').unwrap_or((column, ""));
        ensure!(!path.is_empty(), "column {column:?} is not NAME:PATH");
        Ok((name.to_owned(), relaxed_path(path).parse()?))
    };
    text.split(',').map(column).collect()
}

/// A path as a template: `{.a.b}`, `.a.b` and `a.b` are the same.
pub(crate) fn relaxed_path(path: &str) -> String {
    let inner = path.strip_prefix('{').and_then(|path| path.strip_suffix('}')).unwrap_or(path);
    let dot = if inner.starts_with(['.', '[', '$', '@']) { "" } else { "." };
    format!("{{{dot}{inner}}}")
}

fn read_to_string(file: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("reading {file}"))
}
