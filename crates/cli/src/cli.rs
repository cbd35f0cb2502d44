//! The command line: every verb, and the options that all of them take.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::verb;

/// A service mesh in one binary.
#[derive(Debug, Parser)]
#[command(name = "ironmesh", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Finding(verb::finding::Finding),
}

/// Parses the command line and runs its verb.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().verb {
        Verb::Finding(finding) => finding.run(),
    }
}
