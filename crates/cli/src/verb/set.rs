//! `ironmesh set`: changes single fields of what has pods.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::JSON_PATCH;
use crate::cli::Context;
use crate::done::OutputArg;
use crate::target;
use crate::verb::dry_run::DryRunArg;
use crate::verb::text;

/// Change the image or the environment of containers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh set image deployment/web web=shop/web:2
  ironmesh set image deploy web api '*=shop/all:2'
  ironmesh set env deploy/web COLOR=blue DEBUG-")]
pub(crate) struct Set {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The images of containers: CONTAINER=IMAGE, `*` for all containers.
    #[command(after_help = "Example:\n  ironmesh set image deployment/web web=shop/web:2")]
    Image(Change),
    /// Environment variables: NAME=VALUE, or NAME- to remove one.
    #[command(after_help = "Example:\n  ironmesh set env deploy/web COLOR=blue -c web")]
    Env {
        #[command(flatten)]
        change: Change,
        /// Only containers with this name.
        #[arg(short, long)]
        containers: Option<String>,
    },
}

#[derive(Debug, Args)]
struct Change {
    /// KIND/NAME, or kind and names; then what to set.
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
}

impl Set {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (change, done) = match &self.what {
            What::Image(change) => (change, "image updated"),
            What::Env { change, .. } => (change, "env updated"),
        };
        let is_value = |word: &String| {
            word.contains('=') || matches!(self.what, What::Env { .. }) && word.ends_with('-')
        };
        let at = change.words.iter().position(is_value).unwrap_or(change.words.len());
        let (words, values) = change.words.split_at(at);
        ensure!(!values.is_empty(), "say what to set, such as NAME=VALUE");
        let api = context.api();
        for (resource, name) in target::parse_named(&api, words).await? {
            let path = resource.path(Some(context.namespace()), Some(&name));
            let object = api.get(&path).await?;
            let place = match &*resource.kind {
                "Pod" => "/spec",
                "CronJob" => "/spec/jobTemplate/spec/template/spec",
                _ => "/spec/template/spec",
            };
            let spec = object
                .pointer(place)
                .with_context(|| format!("a {} has no containers", resource.kind))?;
            let mut new = spec.clone();
            for value in values {
                match &self.what {
                    What::Image(_) => set_image(&mut new, value)?,
                    What::Env { containers, .. } => {
                        set_env(&mut new, value, containers.as_deref())?;
                    }
                }
            }
            if new == *spec {
                continue;
            }
            let patch = json!([
                { "op": "test", "path": place, "value": spec },
                { "op": "replace", "path": place, "value": new },
            ]);
            let changed = match change.dry_run.is_client() {
                true => object,
                false => api.patch(&change.dry_run.on(path), JSON_PATCH, &patch).await?,
            };
            change.output.say(&resource, &changed, done, change.dry_run)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The containers of a pod's spec that are meant; `*` means all.
fn containers<'a>(spec: &'a mut Value, wanted: &str) -> Vec<&'a mut Value> {
    let Some(fields) = spec.as_object_mut() else { return Vec::new() };
    let lists = fields
        .iter_mut()
        .filter(|(name, _)| matches!(name.as_str(), "containers" | "initContainers"))
        .filter_map(|(_, list)| list.as_array_mut());
    let all = lists.flatten();
    all.filter(|container| wanted == "*" || text(container, "/name") == wanted).collect()
}

fn set_image(spec: &mut Value, value: &str) -> anyhow::Result<()> {
    let (name, image) =
        value.split_once('=').with_context(|| format!("{value:?} is not CONTAINER=IMAGE"))?;
    ensure!(!image.is_empty(), "{value:?} names no image");
    let meant = containers(spec, name);
    ensure!(!meant.is_empty(), "unable to find container named {name:?}");
    for container in meant {
        container["image"] = json!(image);
    }
    Ok(())
}

fn set_env(spec: &mut Value, value: &str, wanted: Option<&str>) -> anyhow::Result<()> {
    let (name, new) = match (value.split_once('='), value.strip_suffix('-')) {
        (Some((name, value)), _) => (name, Some(value)),
        (None, Some(name)) => (name, None),
        (None, None) => bail!("{value:?} is neither NAME=VALUE nor NAME-"),
    };
    ensure!(!name.is_empty(), "{value:?} has no name");
    let meant = containers(spec, wanted.unwrap_or("*"));
    ensure!(!meant.is_empty(), "unable to find container named {:?}", wanted.unwrap_or("*"));
    for container in meant {
        if !container["env"].is_array() {
            container["env"] = json!([]);
        }
        let Some(variables) = container["env"].as_array_mut() else { continue };
        let at = variables.iter().position(|variable| variable["name"] == name);
        match (at, new) {
            (Some(at), Some(new)) => variables[at] = json!({ "name": name, "value": new }),
            (None, Some(new)) => variables.push(json!({ "name": name, "value": new })),
            (Some(at), None) => drop(variables.remove(at)),
            (None, None) => {}
        }
        if container["env"].as_array().is_some_and(Vec::is_empty)
            && let Some(fields) = container.as_object_mut()
        {
            fields.shift_remove("env");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_variables() {
        let mut spec = json!({
            "initContainers": [{ "name": "i", "image": "x" }],
            "containers": [{ "name": "a", "image": "x" }, { "name": "b", "image": "x" }],
        });
        set_image(&mut spec, "a=y:2").unwrap();
        assert_eq!(spec["containers"][0]["image"], "y:2");
        assert_eq!(spec["containers"][1]["image"], "x");
        set_image(&mut spec, "*=z").unwrap();
        assert_eq!(
            (&spec["initContainers"][0]["image"], &spec["containers"][1]["image"]),
            (&json!("z"), &json!("z"))
        );
        for bad in ["c=z", "a=", "a"] {
            assert!(set_image(&mut spec, bad).is_err(), "{bad}");
        }
        set_env(&mut spec, "A=1=2", Some("a")).unwrap();
        assert_eq!(spec["containers"][0]["env"], json!([{ "name": "A", "value": "1=2" }]));
        assert!(spec["containers"][1].get("env").is_none());
        set_env(&mut spec, "A-", None).unwrap();
        assert!(spec["containers"][0].get("env").is_none());
        assert!(set_env(&mut spec, "A=1", Some("none")).is_err());
        assert!(set_env(&mut spec, "=1", None).is_err());
    }
}
