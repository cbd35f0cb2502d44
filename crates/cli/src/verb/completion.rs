//! `ironmesh completion`: completions of a shell.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use clap_complete::{Shell, generate};

use crate::cli;

/// Print what makes a shell complete verbs and options.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(ironmesh completion bash)
  ironmesh completion zsh > ~/.zfunc/_ironmesh
  ironmesh completion fish > ~/.config/fish/completions/ironmesh.fish")]
pub(crate) struct Completion {
    /// The shell: bash, zsh, fish.
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

impl Completion {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let shell = match &*self.shell {
            "zsh" => Shell::Zsh,
            "fish" => Shell::Fish,
            _ => Shell::Bash,
        };
        // Written at once: the generator panics where its reader has gone away.
        let mut script = Vec::new();
        generate(shell, &mut cli::command(), "ironmesh", &mut script);
        stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
