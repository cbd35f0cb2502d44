//! `ironmesh man`: manual pages.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;

use crate::cli;
use crate::say;

/// Write the manual pages of all verbs into a folder.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh man ~/.local/share/man/man1 && man ironmesh-apply")]
pub(crate) struct Man {
    /// The folder; it is made if it is not there.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let folder = self.folder.display();
        std::fs::create_dir_all(&self.folder).with_context(|| folder.to_string())?;
        clap_mangen::generate_to(cli::command(), &self.folder)
            .with_context(|| format!("writing pages into {folder}"))?;
        say::notice(&format!("the pages are in {folder}"));
        Ok(ExitCode::SUCCESS)
    }
}
