//! `ironmesh create`: creates objects that are not there yet.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;

use crate::api::Api;
use crate::cli::Context;
use crate::source::{Files, Manifest};
use crate::target;
use crate::verb::apply::refuse;
use crate::verb::dry_run::DryRunArg;
use crate::verb::exit;

/// Create objects from manifests; one that is there already is an error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh create -f my.yaml
  ironmesh create namespace shop
  ironmesh create -f my.yaml --dry-run=server     only see whether it would be taken")]
pub(crate) struct Create {
    #[command(flatten)]
    files: Files,
    /// `namespace NAME` or `serviceaccount NAME`, instead of a file.
    #[arg(value_name = "KIND NAME", num_args = 0..=2)]
    words: Vec<String>,
    #[command(flatten)]
    dry_run: DryRunArg,
}

impl Create {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        if !self.words.is_empty() {
            let [kind, name] = &self.words[..] else { bail!("give a kind and one name") };
            ensure!(self.files.filename.is_empty(), "give files, or a kind and a name, not both");
            let message = create_plain(&api, kind, name, context.namespace(), self.dry_run).await?;
            writeln!(stdout(), "{message}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let loaded = self.files.load()?;
        let mut failed = loaded.say_problems("created");
        for manifest in &loaded.objects {
            match create_one(&api, manifest, context.namespace.as_deref(), self.dry_run).await {
                Ok(message) => writeln!(stdout(), "{message}")?,
                Err(error) => {
                    refuse("creating", manifest, &error)?;
                    failed = true;
                }
            }
        }
        Ok(exit(failed))
    }
}

async fn create_one(
    api: &Api,
    manifest: &Manifest,
    namespace: Option<&str>,
    dry_run: DryRunArg,
) -> anyhow::Result<String> {
    let resource = manifest.resource();
    let namespace = manifest.namespace(namespace)?;
    let mut object = manifest.value().clone();
    if let Some(namespace) = &namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let path = dry_run.on(resource.path(namespace.as_deref(), None));
    let created = if dry_run.is_client() { object } else { api.post(&path, &object).await? };
    let name = created["metadata"]["name"].as_str().unwrap_or(manifest.name());
    Ok(format!("{}/{name} created{}", resource.qualified_singular(), dry_run.suffix()))
}

/// Creates an object that is nothing but a name.
async fn create_plain(
    api: &Api,
    kind: &str,
    name: &str,
    namespace: &str,
    dry_run: DryRunArg,
) -> anyhow::Result<String> {
    let resource = target::resource(kind)?;
    if !matches!(&*resource.kind, "Namespace" | "ServiceAccount") {
        bail!("a {} is more than a name; write a manifest and use -f FILE", resource.kind);
    }
    let object = json!({
        "apiVersion": resource.api_version(),
        "kind": &*resource.kind,
        "metadata": { "name": name },
    });
    let path = dry_run.on(resource.path(Some(namespace), None));
    if !dry_run.is_client() {
        api.post(&path, &object).await.context("creating the object")?;
    }
    Ok(format!("{}/{name} created{}", resource.qualified_singular(), dry_run.suffix()))
}
