//! `ironmesh replace`: makes objects that are there what manifests say, and nothing else.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::api::{Api, Query};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::source::{Files, Home, Manifest};
use crate::verb::apply::refuse;
use crate::verb::apply::report::Report;
use crate::verb::delete::{END_TIMEOUT, wait_gone};
use crate::verb::dry_run::DryRunArg;
use crate::verb::{exit, text};

/// Replace objects by those of manifests; one that is not there is an error.
///
/// Other than by `apply`, nothing that others have set stays. With --force objects are deleted and
/// made anew, also those that are not there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh replace -f routes.yaml
  ironmesh get deploy web -o yaml | sed 's/:v1/:v2/' | ironmesh replace -f -
  ironmesh replace --force -f pod.yaml             delete it, and create it anew")]
pub(crate) struct Replace {
    #[command(flatten)]
    files: Files,
    /// Delete the objects and create them anew.
    #[arg(long)]
    force: bool,
    /// With --force: seconds that a pod has for an orderly end.
    #[arg(long, value_name = "SECONDS", requires = "force")]
    grace_period: Option<u32>,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
    /// Show all findings, each in its line.
    #[arg(short, long)]
    verbose: bool,
}

impl Replace {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let home = context.home();
        let mut loaded = self.files.load_some("replace")?;
        loaded.learn_kinds(&api).await?;
        let mut failed = loaded.say_problems("replaced");
        let mut report = Report::new(self.verbose);
        for manifest in &loaded.objects {
            match self.replace(&api, manifest, home).await {
                Ok(object) => {
                    self.output.say(&manifest.resource(), &object, "replaced", self.dry_run)?;
                    report.add(manifest, true);
                }
                Err(error) => {
                    refuse("replacing", manifest, &error)?;
                    failed = true;
                }
            }
        }
        report.print(&api, home, self.dry_run).await?;
        Ok(exit(failed))
    }

    async fn replace(
        &self,
        api: &Api,
        manifest: &Manifest,
        home: Home<'_>,
    ) -> anyhow::Result<Value> {
        manifest.check_kind()?;
        let resource = manifest.resource();
        let namespace = manifest.namespace(home)?;
        let mut object = manifest.value().clone();
        if manifest.name().is_empty() {
            bail!("metadata.name is needed to replace; `create` takes generateName");
        }
        if let Some(namespace) = &namespace {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let path = resource.path(namespace.as_deref(), Some(manifest.name()));
        if self.dry_run.is_client() {
            api.get(&path).await?;
            return Ok(object);
        }
        if self.force && self.dry_run.is_real() {
            self.remove(api, &path).await?;
            for field in ["resourceVersion", "uid", "creationTimestamp"] {
                object["metadata"].as_object_mut().map(|metadata| metadata.shift_remove(field));
            }
            return Ok(api.post(&resource.path(namespace.as_deref(), None), &object).await?);
        }
        Ok(api.put(&self.dry_run.on(path), &object).await?)
    }

    /// Deletes an object, and waits for its end.
    async fn remove(&self, api: &Api, path: &str) -> anyhow::Result<()> {
        let there = match api.get(path).await {
            Err(error) if error.is_not_found() => return Ok(()),
            there => there?,
        };
        let grace = self.grace_period.map(|seconds| seconds.to_string());
        let query = Query::new(path).with_some("gracePeriodSeconds", grace.as_deref());
        api.delete(&query.build()).await?;
        let uid = text(&there, "/metadata/uid");
        let ended = tokio::time::timeout(END_TIMEOUT, wait_gone(api, path, Some(uid))).await;
        match ended {
            Ok(ended) => ended,
            Err(_) => bail!("timed out waiting for the end of what is to be replaced"),
        }
    }
}
