//! `ironmesh scale`: changes how many replicas run.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use crate::api::{Api, JSON_PATCH, MERGE_PATCH, Query};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::say;
use crate::source::Files;
use crate::target::{self, Target};
use crate::verb::dry_run::DryRunArg;
use crate::verb::rollout::parse_duration;
use crate::verb::{exit, text};

/// Change how many replicas of a Deployment, StatefulSet, ReplicaSet or ReplicationController run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh scale deployment/details-v1 --replicas=2
  ironmesh scale deploy details-v1 ratings-v1 --replicas 0
  ironmesh scale deploy web --current-replicas=2 --replicas=3
  ironmesh scale deploy --all --replicas=1")]
pub(crate) struct Scale {
    /// KIND/NAME, or kind and names.
    words: Vec<String>,
    #[command(flatten)]
    files: Files,
    /// How many.
    #[arg(long)]
    replicas: u32,
    /// Only if there are so many now.
    #[arg(long, value_name = "REPLICAS", allow_negative_numbers = true)]
    current_replicas: Option<i64>,
    /// All objects of the kind in the namespace.
    #[arg(long)]
    all: bool,
    /// Only objects with these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// How long to wait until so many are there; 0s: not at all.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
}

impl Scale {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let mut failed = false;
        for (resource, path) in self.meant(&api, context).await? {
            if let Err(error) = self.scale(&api, &resource, &path).await {
                say::error(&error);
                failed = true;
            }
        }
        Ok(exit(failed))
    }

    /// The objects, by their paths.
    async fn meant(&self, api: &Api, context: &Context) -> anyhow::Result<Vec<(Resource, String)>> {
        let mut meant = Vec::new();
        if self.files.are_given() {
            ensure!(self.words.is_empty(), "give files or names, not both");
            let loaded = self.files.load_some("scale")?;
            ensure!(!loaded.say_problems("scaled"), "some manifests cannot be read");
            for manifest in &loaded.objects {
                let (resource, namespace) =
                    (manifest.resource(), manifest.namespace(context.home())?);
                let path = resource.path(namespace.as_deref(), Some(manifest.name()));
                meant.push((resource, path));
            }
            return Ok(meant);
        }
        let namespace = Some(context.namespace());
        for Target { resource, name } in target::parse(api, &self.words).await? {
            if let Some(name) = name {
                let path = resource.path(namespace, Some(&name));
                meant.push((resource, path));
                continue;
            }
            ensure!(
                self.all || self.selector.is_some(),
                "say which object: KIND NAME or KIND/NAME; --all for all"
            );
            let query = Query::new(resource.path(namespace, None))
                .with_some("labelSelector", self.selector.as_deref());
            let list = api.get(&query.build()).await?;
            for item in list["items"].as_array().context("the list has no items")? {
                let path = resource.path(namespace, Some(text(item, "/metadata/name")));
                meant.push((resource.clone(), path));
            }
        }
        ensure!(!meant.is_empty(), "no objects passed to scale");
        Ok(meant)
    }

    async fn scale(&self, api: &Api, resource: &Resource, path: &str) -> anyhow::Result<()> {
        ensure!(
            SCALED.contains(&&*resource.kind),
            "cannot scale a {}: it has no replicas",
            resource.kind
        );
        let before = api.get(path).await?;
        let now = before["spec"]["replicas"].as_i64().unwrap_or(1);
        // As kubectl: -1 is any number.
        let expected = self.current_replicas.filter(|expected| *expected != -1);
        if let Some(expected) = expected
            && expected != now
        {
            bail!("Expected replicas to be {expected}, was {now}");
        }
        let target = self.dry_run.on(path.to_owned());
        let place = "/spec/replicas";
        let after = if self.dry_run.is_client() {
            before
        } else if expected.is_some() {
            let patch = json!([
                { "op": "test", "path": place, "value": now },
                { "op": "replace", "path": place, "value": self.replicas },
            ]);
            api.patch(&target, JSON_PATCH, &patch).await?
        } else {
            let patch = json!({ "spec": { "replicas": self.replicas } });
            api.patch(&target, MERGE_PATCH, &patch).await?
        };
        self.output.say(resource, &after, "scaled", self.dry_run)?;
        if !self.timeout.is_zero() && self.dry_run.is_real() {
            let name = text(&after, "/metadata/name");
            if tokio::time::timeout(self.timeout, self.reached(api, path)).await.is_err() {
                bail!("timed out waiting for {:?} to be synced", name);
            }
        }
        Ok(())
    }

    /// Waits until so many replicas are there.
    async fn reached(&self, api: &Api, path: &str) -> anyhow::Result<()> {
        loop {
            let object = api.get(path).await?;
            let observed = &object["status"]["observedGeneration"];
            let replicas = object["status"]["replicas"].as_u64().unwrap_or(0);
            if (*observed == Value::Null || *observed == object["metadata"]["generation"])
                && replicas == u64::from(self.replicas)
            {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What has replicas.
const SCALED: [&str; 4] = ["Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"];
/// How often it is looked.
const POLL: Duration = Duration::from_millis(50);
