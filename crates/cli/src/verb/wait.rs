//! `ironmesh wait`: waits until objects are as they should be.

use std::io::{Write, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use crate::api::{Api, Query};
use crate::cli::Context;
use crate::target::{self, Target};
use crate::verb::rollout::parse_duration;
use crate::verb::text;

/// Wait until objects have a condition, or are gone.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh wait --for=condition=Ready pod -l app=reviews --timeout=60s
  ironmesh wait --for=condition=Available deployment --all
  ironmesh wait --for=delete pod/mypod")]
pub(crate) struct Wait {
    /// Kind and names, or KIND/NAME several times.
    #[arg(required = true)]
    words: Vec<String>,
    /// condition=NAME[=STATUS], or delete.
    #[arg(long = "for", value_name = "WHAT")]
    what: String,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// All objects of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// How long to wait.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    timeout: Duration,
}

/// What is waited for.
#[derive(Debug)]
enum Goal {
    Gone,
    Condition { name: String, status: String },
}

impl Wait {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let goal = parse_goal(&self.what)?;
        let api = context.api();
        for target in target::parse(&self.words)? {
            let waiting = self.reach(&api, context, &target, &goal);
            if tokio::time::timeout(self.timeout, waiting).await.is_err() {
                let name = target.name.unwrap_or_default();
                bail!("timed out waiting for the condition on {}/{name}", target.resource.plural);
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn reach(
        &self,
        api: &Api,
        context: &Context,
        target: &Target,
        goal: &Goal,
    ) -> anyhow::Result<()> {
        if target.name.is_none() && !self.all && self.selector.is_none() {
            bail!("resource(s) were provided, but no name was specified; use --all for all");
        }
        let path =
            Query::new(target.resource.path(Some(context.namespace()), target.name.as_deref()))
                .with_some("labelSelector", self.selector.as_deref())
                .build();
        loop {
            let objects = match api.get(&path).await {
                Ok(object) if target.name.is_some() => vec![object],
                Ok(mut list) => match list["items"].take() {
                    Value::Array(items) => items,
                    _ => bail!("the list has no items"),
                },
                Err(error) if error.is_not_found() && matches!(goal, Goal::Gone) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            let kind = target.resource.qualified_singular();
            match goal {
                Goal::Gone if objects.is_empty() => return Ok(()),
                Goal::Condition { name, status }
                    if !objects.is_empty() && objects.iter().all(|o| has(o, name, status)) =>
                {
                    for object in &objects {
                        writeln!(
                            stdout(),
                            "{kind}/{} condition met",
                            text(object, "/metadata/name")
                        )?;
                    }
                    return Ok(());
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }
}

fn parse_goal(text: &str) -> anyhow::Result<Goal> {
    if text == "delete" {
        return Ok(Goal::Gone);
    }
    let condition =
        text.strip_prefix("condition=").context("--for takes condition=NAME[=STATUS] or delete")?;
    let (name, status) = condition.split_once('=').unwrap_or((condition, "True"));
    Ok(Goal::Condition { name: name.to_owned(), status: status.to_owned() })
}

/// Whether an object has a condition with a status; letter case is ignored, as `kubectl` does.
fn has(object: &Value, name: &str, status: &str) -> bool {
    object["status"]["conditions"].as_array().into_iter().flatten().any(|condition| {
        text(condition, "/type").eq_ignore_ascii_case(name)
            && text(condition, "/status").eq_ignore_ascii_case(status)
    })
}

/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);
