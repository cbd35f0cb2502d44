//! `ironmesh precheck`: whether a mesh can run here, as `istioctl x precheck` asks.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ironmesh_local::preflight;

use crate::api::ApiError;
use crate::cli::Context;
use crate::verb::uninstall::Uninstall;

/// Check whether this machine lets a mesh run, or whether the one that runs is well.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh precheck
  istioctl x precheck")]
pub(crate) struct Precheck {}

/// Commands that istioctl calls experimental.
#[derive(Debug, Args)]
#[command(visible_alias = "experimental")]
#[command(after_help = "Examples:
  istioctl x precheck
  istioctl x uninstall --purge -y")]
pub(crate) struct Experimental {
    #[command(subcommand)]
    verb: Inner,
}

#[derive(Debug, Subcommand)]
enum Inner {
    Precheck(Precheck),
    Uninstall(Uninstall),
}

impl Experimental {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self.verb {
            Inner::Precheck(verb) => verb.run(context),
            Inner::Uninstall(verb) => verb.run(context),
        }
    }
}

impl Precheck {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        // Before anything else starts a thread.
        let mut problems: Vec<String> =
            preflight::check().err().iter().map(ToString::to_string).collect();
        match context.agent() {
            Ok(agent) => {
                drop(agent);
                if let Err(error) = crate::runtime()?.block_on(context.api().get("/version")) {
                    problems.push(error.to_string());
                }
            }
            // It can be started.
            Err(ApiError::NotRunning { .. }) => {}
            Err(error) => problems.push(error.to_string()),
        }
        let mut out = stdout().lock();
        if problems.is_empty() {
            writeln!(
                out,
                "✔ No issues found when checking the cluster. Istio is safe to install or upgrade!\n  \
                 `ironmesh install` starts a mesh, or sets up the one that runs."
            )?;
            return Ok(ExitCode::SUCCESS);
        }
        for problem in problems {
            writeln!(out, "Error: {problem}")?;
        }
        Ok(ExitCode::FAILURE)
    }
}
