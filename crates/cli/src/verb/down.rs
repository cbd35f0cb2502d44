//! `ironmesh down`: ends a mesh.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;

use crate::cli::Context;

/// End a mesh and everything in it. Returns when nothing of it is left.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh down
  ironmesh down --mesh second")]
pub(crate) struct Down {}

impl Down {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        context.agent()?.shutdown()?;
        writeln!(stdout(), "mesh {:?} has ended", context.mesh)?;
        Ok(ExitCode::SUCCESS)
    }
}
