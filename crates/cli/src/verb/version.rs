//! `ironmesh version`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;

use crate::api::ApiError;
use crate::cli::Context;
use crate::verb::text;

/// Print the version of this command, and of the running mesh.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh version
  ironmesh version --client")]
pub(crate) struct Version {
    /// This command only; needs no mesh.
    #[arg(long)]
    client: bool,
}

impl Version {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut out = stdout();
        writeln!(out, "client: {}", env!("CARGO_PKG_VERSION"))?;
        if !self.client {
            match context.api().get("/version").await {
                Ok(version) => writeln!(out, "mesh: {}", text(&version, "/gitVersion"))?,
                Err(ApiError::NotRunning { .. }) => writeln!(out, "mesh: not running")?,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
