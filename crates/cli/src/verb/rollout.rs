//! `ironmesh rollout`: follows or repeats the rollout of a Deployment, a DaemonSet or a StatefulSet.

mod history;
mod sets;

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use crate::api::Api;
use crate::cli::Context;
use crate::clock;
use crate::target::{self, Target};
use crate::verb::text;

/// Follow, repeat or undo the rollout of a Deployment, a DaemonSet or a StatefulSet.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh rollout status deployment/productpage-v1
  ironmesh rollout restart deploy reviews-v1 reviews-v2
  ironmesh rollout history deploy/web
  ironmesh rollout undo deploy/web --to-revision=2")]
pub(crate) struct Rollout {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Wait until the rollout is complete; one that makes no progress for its
    /// progressDeadlineSeconds has failed.
    #[command(after_help = "Example:\n  ironmesh rollout status deploy/reviews-v1 --timeout=60s")]
    Status {
        /// KIND/NAME, or kind and names.
        #[arg(required = true)]
        words: Vec<String>,
        /// How long to wait; 0s: for ever.
        #[arg(long, default_value = "0s", value_parser = parse_duration)]
        timeout: Duration,
        /// Whether to wait; with --watch=false only say how far it is.
        #[arg(short, long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
        watch: bool,
    },
    /// List the templates that a workload had, by their revisions.
    #[command(after_help = "Example:\n  ironmesh rollout history deploy/web --revision=2")]
    History {
        /// KIND/NAME, or kind and names.
        #[arg(required = true)]
        words: Vec<String>,
        /// Show the template of this revision.
        #[arg(long)]
        revision: Option<i64>,
    },
    /// Go back to a template that a workload had before.
    #[command(after_help = "Example:\n  ironmesh rollout undo deploy/web --to-revision=2")]
    Undo {
        /// KIND/NAME, or kind and names.
        #[arg(required = true)]
        words: Vec<String>,
        #[command(flatten)]
        how: history::Rollback,
    },
    /// Roll out no changes of a Deployment until it is resumed.
    #[command(after_help = "Example:\n  ironmesh rollout pause deploy/web")]
    Pause {
        /// KIND/NAME, or kind and names.
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Roll out the changes of a paused Deployment.
    #[command(after_help = "Example:\n  ironmesh rollout resume deploy/web")]
    Resume {
        /// KIND/NAME, or kind and names.
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// Make all pods anew, a few at a time.
    #[command(after_help = "Example:\n  ironmesh rollout restart deploy reviews-v1 reviews-v2")]
    Restart {
        /// KIND/NAME, or kind and names.
        #[arg(required = true)]
        words: Vec<String>,
    },
}

impl Rollout {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let words = match &self.what {
            What::Status { words, .. }
            | What::Restart { words }
            | What::History { words, .. }
            | What::Undo { words, .. }
            | What::Pause { words }
            | What::Resume { words } => words,
        };
        for (resource, name) in meant(&api, context, words).await? {
            let path = resource.path(Some(context.namespace()), Some(&name));
            match &self.what {
                What::Status { timeout, watch, .. } => {
                    let following = follow(&api, &resource, &path, &name, *watch);
                    if timeout.is_zero() {
                        following.await?;
                    } else if tokio::time::timeout(*timeout, following).await.is_err() {
                        bail!("timed out waiting for the rollout of {name}");
                    }
                }
                What::Restart { .. } => restart(&api, &resource, &path, &name).await?,
                What::History { revision, .. } => {
                    history::show(&api, context, &resource, &name, *revision).await?;
                }
                What::Undo { how, .. } => how.run(&api, context, &resource, &name).await?,
                What::Pause { .. } => pause(&api, &resource, &path, &name, true).await?,
                What::Resume { .. } => pause(&api, &resource, &path, &name, false).await?,
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The objects that words name; of a kind alone all that are in the namespace.
async fn meant(
    api: &Api,
    context: &Context,
    words: &[String],
) -> anyhow::Result<Vec<(Resource, String)>> {
    let mut meant = Vec::new();
    for Target { resource, name } in target::parse(api, words).await? {
        if let Some(name) = name {
            meant.push((resource, name));
            continue;
        }
        let list = api.get(&resource.path(Some(context.namespace()), None)).await?;
        let items = list["items"].as_array().into_iter().flatten();
        meant.extend(items.map(|item| (resource.clone(), text(item, "/metadata/name").to_owned())));
    }
    ensure!(!meant.is_empty(), "no resources found in {} namespace", context.namespace());
    Ok(meant)
}

async fn follow(
    api: &Api,
    resource: &Resource,
    path: &str,
    name: &str,
    watch: bool,
) -> anyhow::Result<()> {
    let mut said = String::new();
    loop {
        let object = api.get(path).await?;
        let progress = match &*resource.kind {
            "Deployment" => deployment(&object, name)?,
            "DaemonSet" => sets::daemon_set(&object, name)?,
            "StatefulSet" => sets::stateful_set(&object)?,
            _ => bail!(
                "no rollout status of {}: there is one of a Deployment, a DaemonSet, a StatefulSet",
                resource.qualified()
            ),
        };
        let (text, ends) = match progress {
            Progress::Waits(text) => (text, false),
            Progress::Done(text) => (text, true),
        };
        if text != said {
            writeln!(stdout(), "{text}")?;
        }
        if ends || !watch {
            return Ok(());
        }
        said = text;
        tokio::time::sleep(POLL).await;
    }
}

/// How far a rollout is, in `kubectl`'s words.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    Waits(String),
    Done(String),
}

fn deployment(deployment: &Value, name: &str) -> anyhow::Result<Progress> {
    if is_late(deployment) {
        bail!("deployment {name:?} exceeded its progress deadline");
    }
    Ok(match missing(deployment, name) {
        Some(missing) => Progress::Waits(format!(
            "Waiting for deployment {name:?} rollout to finish: {missing}..."
        )),
        None => Progress::Done(format!("deployment {name:?} successfully rolled out")),
    })
}

/// Whether the rollout that was asked for last has not got on for too long.
fn is_late(deployment: &Value) -> bool {
    let observed =
        deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"];
    let conditions = deployment["status"]["conditions"].as_array().into_iter().flatten();
    observed
        && conditions
            .filter(|condition| condition["type"] == "Progressing")
            .any(|condition| condition["reason"] == "ProgressDeadlineExceeded")
}

/// What a rollout still waits for, in `kubectl`'s words.
fn missing(deployment: &Value, name: &str) -> Option<String> {
    let number = |pointer: &str| deployment.pointer(pointer).and_then(Value::as_i64);
    let status = |field: &str| number(&format!("/status/{field}")).unwrap_or_default();
    let wanted = number("/spec/replicas").unwrap_or(1);
    let generation = number("/metadata/generation").unwrap_or_default();
    let (all, updated) = (status("replicas"), status("updatedReplicas"));
    let available = status("availableReplicas");
    if status("observedGeneration") < generation {
        Some(format!("deployment {name:?} spec update to be observed"))
    } else if updated < wanted {
        Some(format!("{updated} out of {wanted} new replicas have been updated"))
    } else if all > updated {
        Some(format!("{} old replicas are pending termination", all - updated))
    } else if available < updated {
        Some(format!("{available} of {updated} updated replicas are available"))
    } else {
        None
    }
}

async fn restart(api: &Api, resource: &Resource, path: &str, name: &str) -> anyhow::Result<()> {
    ensure!(
        matches!(&*resource.kind, "Deployment" | "DaemonSet" | "StatefulSet"),
        "restarting a {} is not supported",
        resource.kind
    );
    let note = json!({ "kubectl.kubernetes.io/restartedAt": clock::now() });
    let patch = json!({ "spec": { "template": { "metadata": { "annotations": note } } } });
    api.merge(path, &patch).await?;
    writeln!(stdout(), "{}/{name} restarted", resource.qualified_singular())?;
    Ok(())
}

async fn pause(
    api: &Api,
    resource: &Resource,
    path: &str,
    name: &str,
    paused: bool,
) -> anyhow::Result<()> {
    let word = if paused { "paused" } else { "resumed" };
    ensure!(&*resource.kind == "Deployment", "a {} cannot be {word}", resource.kind);
    let before = api.get(path).await?;
    let was = before["spec"]["paused"] == true;
    ensure!(was != paused, "{}/{name} is already {word}", resource.qualified_singular());
    api.merge(path, &json!({ "spec": { "paused": paused.then_some(true) } })).await?;
    writeln!(stdout(), "{}/{name} {word}", resource.qualified_singular())?;
    Ok(())
}

/// A duration of the command line, such as `90s`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    ironmesh_model::settings::parse_duration(text)
        .ok_or_else(|| "expected a duration such as 30s or 1m30s".to_owned())
}

/// How often it is looked how far the rollout is.
const POLL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rollout_waits_for() {
        let deployment = |observed, all, updated, available| {
            json!({
                "metadata": { "generation": 2 },
                "spec": { "replicas": 3 },
                "status": { "observedGeneration": observed, "replicas": all,
                    "updatedReplicas": updated, "availableReplicas": available },
            })
        };
        for (numbers, expected) in [
            ((1, 3, 3, 3), Some("deployment \"d\" spec update to be observed")),
            ((2, 4, 2, 3), Some("2 out of 3 new replicas have been updated")),
            ((2, 4, 3, 3), Some("1 old replicas are pending termination")),
            ((2, 3, 3, 2), Some("2 of 3 updated replicas are available")),
            ((2, 3, 3, 3), None),
        ] {
            let (observed, all, updated, available) = numbers;
            let deployment = deployment(observed, all, updated, available);
            assert_eq!(missing(&deployment, "d").as_deref(), expected);
        }
    }
}
