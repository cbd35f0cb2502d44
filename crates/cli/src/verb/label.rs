//! `ironmesh label` and `ironmesh annotate`: set and remove labels and annotations.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::{Map, Value, json};

use crate::api::{Api, Query};
use crate::cli::Context;
use crate::target;
use crate::verb::text;

/// Set labels of objects (KEY=VALUE), or remove them (KEY-).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh label namespace default istio-injection=enabled
  ironmesh label pod/a pod/b tier=web --overwrite
  ironmesh label namespace default istio-injection-")]
pub(crate) struct Label {
    #[command(flatten)]
    change: Change,
}

/// Set annotations of objects (KEY=VALUE), or remove them (KEY-).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh annotate pod a note='look at this'
  ironmesh annotate deployment/web note-")]
pub(crate) struct Annotate {
    #[command(flatten)]
    change: Change,
}

#[derive(Debug, Args)]
struct Change {
    /// Kind and names, or KIND/NAME several times; then KEY=VALUE or KEY-.
    #[arg(required = true)]
    words: Vec<String>,
    /// Change a value that is there already.
    #[arg(long)]
    overwrite: bool,
    /// All objects of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
}

impl Label {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.change.run(context, "labels", ["labeled", "unlabeled", "not labeled"]).await
    }
}

impl Annotate {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.change.run(context, "annotations", ["annotated"; 3]).await
    }
}

impl Change {
    /// `done` are the words for set, only removed, and nothing changed.
    async fn run(
        self,
        context: &Context,
        field: &str,
        done: [&str; 3],
    ) -> anyhow::Result<ExitCode> {
        let (words, pairs) = split(&self.words);
        ensure!(!pairs.is_empty(), "say what to set: KEY=VALUE, or KEY- to remove");
        let wanted = wanted(&pairs)?;
        let api = context.api();
        for (resource, name) in self.objects(&api, context, words).await? {
            let path = resource.path(Some(context.namespace()), Some(&name));
            let object = api.get(&path).await?;
            let there = &object["metadata"][field];
            if !self.overwrite {
                check_free(&wanted, there)?;
            }
            let changed =
                wanted.iter().any(|(key, value)| there.get(key).unwrap_or(&Value::Null) != value);
            if changed {
                api.merge(&path, &json!({ "metadata": { field: wanted } })).await?;
            }
            let word = match changed {
                false => done[2],
                true if wanted.values().all(Value::is_null) => done[1],
                true => done[0],
            };
            writeln!(stdout(), "{}/{name} {word}", resource.qualified_singular())?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn objects(
        &self,
        api: &Api,
        context: &Context,
        words: &[String],
    ) -> anyhow::Result<Vec<(Resource, String)>> {
        if !self.all && self.selector.is_none() {
            return target::parse_named(words);
        }
        let mut objects = Vec::new();
        for target in target::parse(words)? {
            let path = Query::new(target.resource.path(Some(context.namespace()), None))
                .with_some("labelSelector", self.selector.as_deref());
            let list = api.get(&path.build()).await?;
            for item in list["items"].as_array().context("the list has no items")? {
                objects.push((target.resource.clone(), text(item, "/metadata/name").to_owned()));
            }
        }
        Ok(objects)
    }
}

/// Splits the words at the first that sets or removes something.
fn split(words: &[String]) -> (&[String], Vec<&str>) {
    let is_pair = |word: &String| word.contains('=') || word.ends_with('-');
    let at = words.iter().position(is_pair).unwrap_or(words.len());
    (&words[..at], words[at..].iter().map(String::as_str).collect())
}

/// What the fields are to become; null: gone.
fn wanted(pairs: &[&str]) -> anyhow::Result<Map<String, Value>> {
    let mut wanted = Map::new();
    for pair in pairs {
        let (key, value) = match (pair.split_once('='), pair.strip_suffix('-')) {
            (Some((key, value)), _) => (key, json!(value)),
            (None, Some(key)) => (key, Value::Null),
            (None, None) => bail!("{pair:?} is neither KEY=VALUE nor KEY-"),
        };
        ensure!(!key.is_empty(), "{pair:?} has no key");
        wanted.insert(key.to_owned(), value);
    }
    Ok(wanted)
}

fn check_free(wanted: &Map<String, Value>, there: &Value) -> anyhow::Result<()> {
    for (key, value) in wanted {
        if let Some(old) = there[key.as_str()].as_str()
            && !value.is_null()
            && value != old
        {
            bail!("'{key}' already has a value ({old}), and --overwrite is false");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_then_pairs() {
        let words: Vec<String> =
            ["namespace", "default", "a=b", "c-", "d="].map(str::to_owned).to_vec();
        let (objects, pairs) = split(&words);
        assert_eq!(objects, ["namespace", "default"]);
        let wanted = Value::Object(wanted(&pairs).unwrap());
        assert_eq!(wanted, json!({ "a": "b", "c": null, "d": "" }));
    }

    #[test]
    fn a_value_is_not_overwritten_unasked() {
        let there = json!({ "a": "x" });
        let of = |pair: &str| check_free(&wanted(&[pair]).unwrap(), &there);
        assert!(of("a=x").is_ok());
        assert!(of("a-").is_ok());
        assert!(of("b=y").is_ok());
        assert_eq!(
            of("a=y").unwrap_err().to_string(),
            "'a' already has a value (x), and --overwrite is false"
        );
    }
}
