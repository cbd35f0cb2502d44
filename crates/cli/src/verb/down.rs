//! `ironmesh down`: ends a mesh.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::Args;

use crate::api::ApiError;
use crate::cli::Context;
use crate::contexts;

/// End a mesh and everything in it. Returns when nothing of it is left.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh down
  ironmesh down --mesh second")]
pub(crate) struct Down {}

impl Down {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let agent = context.agent().map_err(|error| match error {
            ApiError::NotRunning { mesh } => {
                anyhow!(
                    "no mesh {mesh:?} is running, so there is nothing to end{}",
                    contexts::others()
                )
            }
            other => other.into(),
        })?;
        agent.shutdown()?;
        writeln!(stdout(), "mesh {:?} has ended", context.mesh)?;
        Ok(ExitCode::SUCCESS)
    }
}
