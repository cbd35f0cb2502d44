//! `ironmesh patch`: changes some fields of objects.

use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use ironmesh_dialects::kinds::{Kind, Resource};
use serde_json::Value;

use crate::api::{JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::target;
use crate::verb::dry_run::DryRunArg;

/// Change fields of objects by a patch, in JSON or YAML.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh patch deploy web -p '{\"spec\":{\"replicas\":2}}'
  ironmesh patch svc/web --type=json -p '[{\"op\":\"remove\",\"path\":\"/spec/selector/version\"}]'
  ironmesh patch virtualservice reviews --type=merge --patch-file=change.yaml")]
pub(crate) struct Patch {
    /// Kind and names, or KIND/NAME several times.
    #[arg(required = true)]
    words: Vec<String>,
    /// The patch.
    #[arg(short, long, value_name = "PATCH", required_unless_present = "patch_file")]
    patch: Option<String>,
    /// File with the patch.
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    patch_file: Option<String>,
    /// How it is read: strategic merges lists by the keys of their items, and is of Kubernetes' own
    /// kinds only; merge replaces lists (RFC 7386); json is a list of operations (RFC 6902).
    #[arg(
        long = "type",
        value_enum,
        default_value = "strategic",
        value_name = "strategic|merge|json"
    )]
    of: Type,
    /// Change this part of the object, such as status.
    #[arg(long, value_name = "PART")]
    subresource: Option<String>,
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Type {
    Strategic,
    Merge,
    Json,
}

impl Patch {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let text = match (&self.patch, &self.patch_file) {
            (Some(patch), _) => patch.clone(),
            (None, Some(file)) => {
                std::fs::read_to_string(file).with_context(|| format!("reading {file}"))?
            }
            (None, None) => String::new(),
        };
        // JSON is YAML.
        let patch: Value = serde_saphyr::from_str(&text).context("unable to parse the patch")?;
        let is_list = self.of == Type::Json;
        ensure!(
            if is_list { patch.is_array() } else { patch.is_object() },
            "the patch is no {}; --type says how it is read",
            if is_list { "list of operations" } else { "object" }
        );
        for (resource, name) in target::parse_named(&api, &self.words).await? {
            let mut path = resource.path(Some(context.namespace()), Some(&name));
            let before = api.get(&path).await?;
            if let Some(part) = &self.subresource {
                path = format!("{path}/{part}");
            }
            let media_type = self.media_type(&resource)?;
            let after = match self.dry_run.is_client() {
                true => before.clone(),
                false => api.patch(&self.dry_run.on(path), media_type, &patch).await?,
            };
            let is_same =
                before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"];
            let is_real = self.dry_run.is_real();
            let done = if is_same && is_real { "patched (no change)" } else { "patched" };
            self.output.say(&resource, &after, done, self.dry_run)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn media_type(&self, resource: &Resource) -> anyhow::Result<&'static str> {
        let kind = Kind::of_path(&resource.group, &resource.plural);
        Ok(match self.of {
            Type::Json => JSON_PATCH,
            Type::Merge => MERGE_PATCH,
            Type::Strategic => {
                ensure!(
                    kind.is_some_and(|kind| !kind.custom),
                    "of a {} nobody knows by which keys lists are merged: use --type=merge",
                    resource.kind
                );
                STRATEGIC_PATCH
            }
        })
    }
}
