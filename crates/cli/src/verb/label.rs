//! `ironmesh label` and `ironmesh annotate`: set and remove labels and annotations.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::{Map, Value, json};

use crate::api::{Api, MERGE_PATCH, Query};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::output::table::cell;
use crate::say;
use crate::source::Files;
use crate::target::{self, Target};
use crate::verb::dry_run::DryRunArg;
use crate::verb::{exit, text};

/// Set labels of objects (KEY=VALUE), or remove them (KEY-).
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh label namespace default istio-injection=enabled
  ironmesh label pod/a pod/b tier=web --overwrite
  ironmesh label pods --all tier=web
  ironmesh label pods -l app=web tier=web -A
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
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// Change a value that is there already.
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    overwrite: bool,
    /// All objects of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// Objects of all namespaces, with --all or -l.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Only objects with these fields, such as metadata.name=x.
    #[arg(long)]
    field_selector: Option<String>,
    /// Print what is set now.
    #[arg(long)]
    list: bool,
    /// Only if the object has this version.
    #[arg(long, value_name = "VERSION")]
    resource_version: Option<String>,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
}

/// An object to change.
#[derive(Debug)]
struct Meant {
    resource: Resource,
    namespace: Option<String>,
    name: String,
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
        ensure!(!pairs.is_empty() || self.list, "say what to set: KEY=VALUE, or KEY- to remove");
        let wanted = wanted(&pairs)?;
        let api = context.api();
        let meant = self.objects(&api, context, words).await?;
        if meant.is_empty() {
            say::notice("No resources found");
        }
        let mut failed = false;
        for object in meant {
            // One that cannot be changed keeps no other from it.
            if let Err(error) = self.change(&api, &object, field, &wanted, done).await {
                say::error(&error);
                failed = true;
            }
        }
        Ok(exit(failed))
    }

    async fn change(
        &self,
        api: &Api,
        meant: &Meant,
        field: &str,
        wanted: &Map<String, Value>,
        done: [&str; 3],
    ) -> anyhow::Result<()> {
        let path = meant.resource.path(meant.namespace.as_deref(), Some(&meant.name));
        let mut object = api.get(&path).await?;
        let there = &object["metadata"][field];
        if !self.overwrite {
            check_free(wanted, there)?;
        }
        for key in wanted.iter().filter(|(key, value)| value.is_null() && there.get(key).is_none())
        {
            say::notice(&format!("{} {:?} not found.", field.trim_end_matches('s'), key.0));
        }
        let changed =
            wanted.iter().any(|(key, value)| there.get(key).unwrap_or(&Value::Null) != value);
        if changed && !self.dry_run.is_client() {
            let mut patch = json!({ "metadata": { field: wanted } });
            if let Some(version) = &self.resource_version {
                patch["metadata"]["resourceVersion"] = json!(version);
            }
            object = api.patch(&self.dry_run.on(path), MERGE_PATCH, &patch).await?;
        }
        let word = match changed {
            false => done[2],
            true if wanted.values().all(Value::is_null) => done[1],
            true => done[0],
        };
        if self.list {
            let pairs = object["metadata"][field].as_object().into_iter().flatten();
            let mut lines: Vec<String> = pairs.map(|(k, v)| format!("{k}={}", cell(v))).collect();
            lines.sort();
            for line in lines {
                writeln!(stdout(), "{line}")?;
            }
            return Ok(());
        }
        self.output.say(&meant.resource, &object, word, self.dry_run)
    }

    async fn objects(
        &self,
        api: &Api,
        context: &Context,
        words: &[String],
    ) -> anyhow::Result<Vec<Meant>> {
        if self.files.are_given() {
            ensure!(words.is_empty(), "give files or names, not both");
            let mut loaded = self.files.load_some("change")?;
            loaded.learn_kinds(api).await?;
            ensure!(!loaded.say_problems("changed"), "some manifests cannot be read");
            let meant = loaded.objects.iter().map(|manifest| {
                manifest.check_kind()?;
                Ok(Meant {
                    resource: manifest.resource(),
                    namespace: manifest.namespace(context.home())?,
                    name: manifest.name().to_owned(),
                })
            });
            return meant.collect();
        }
        let mut objects = Vec::new();
        for Target { resource, name } in target::parse(api, words).await? {
            let namespace = Some(context.namespace().to_owned()).filter(|_| resource.namespaced);
            if let Some(name) = name {
                objects.push(Meant { resource, namespace, name });
                continue;
            }
            let chooses = self.all || self.selector.is_some() || self.field_selector.is_some();
            ensure!(chooses, "say which object: KIND NAME or KIND/NAME; --all for all");
            let namespace = namespace.filter(|_| !self.all_namespaces);
            let path = Query::new(resource.path(namespace.as_deref(), None))
                .with_some("labelSelector", self.selector.as_deref())
                .with_some("fieldSelector", self.field_selector.as_deref());
            let list = api.get(&path.build()).await?;
            for item in list["items"].as_array().context("the list has no items")? {
                let namespace = item["metadata"]["namespace"].as_str().map(str::to_owned);
                let name = text(item, "/metadata/name").to_owned();
                objects.push(Meant { resource: resource.clone(), namespace, name });
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
        let before = wanted.insert(key.to_owned(), value);
        ensure!(before.is_none(), "{key:?} is set or removed twice");
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
