//! `ironmesh uninstall`: takes back what `ironmesh install` made and set.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::Args;
use ironmesh_dialects::install::Installation;
use serde_json::json;

use super::install::plan::Plan;
use super::install::{is_confirmed, running};
use crate::cli::Context;

/// Take back what `ironmesh install` made and set, as istioctl does.
///
/// Settings go back to their defaults, Service and pod istiod and the addons go, and labels of
/// namespaces inject no longer: pods that have a sidecar keep it, new ones get none. Your own objects
/// stay. The mesh's control plane and gateway are parts of the mesh: `ironmesh down` ends them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh uninstall --purge
  ironmesh uninstall --purge -y
  istioctl x uninstall --revision default -y")]
pub(crate) struct Uninstall {
    /// Take back everything.
    #[arg(long, required_unless_present = "revision")]
    purge: bool,
    /// The same by Istio's name of an installation; here there is one, `default`.
    #[arg(long, visible_alias = "rev", value_name = "REVISION")]
    revision: Option<String>,
    /// Do not ask.
    #[arg(short = 'y', long, visible_alias = "yes")]
    skip_confirmation: bool,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
}

impl Uninstall {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if let Some(revision) = &self.revision {
            ensure!(revision == "default", "there is no revision {revision:?}; there is: default");
        }
        let Some(api) = running(context)? else {
            bail!("no mesh named {:?} runs, so nothing is installed", context.mesh);
        };
        let plan = crate::runtime()?.block_on(Plan::of_nothing(&api))?;
        write!(stdout(), "{}", plan.text())?;
        if self.dry_run {
            return Ok(ExitCode::SUCCESS);
        }
        let question = "All Istio resources will be pruned from the cluster\nProceed? (y/N) ";
        if !self.skip_confirmation && !is_confirmed(question)? {
            writeln!(stdout(), "Cancelled.")?;
            return Ok(ExitCode::FAILURE);
        }
        let nothing = Installation::of_operator(&json!({"profile": "empty"}))?;
        crate::runtime()?.block_on(async {
            plan.carry_out(&api, &nothing).await?;
            Ok::<_, anyhow::Error>(Plan::forget(&api).await?)
        })?;
        let mut out = stdout().lock();
        for name in plan.deleted() {
            writeln!(out, "  Removed {name}.")?;
        }
        writeln!(out, "✔ Uninstall complete")?;
        writeln!(
            out,
            "The mesh runs on, with its own gateway; `ironmesh down` ends it. New pods get no sidecar \
             until `ironmesh install`."
        )?;
        Ok(ExitCode::SUCCESS)
    }
}
