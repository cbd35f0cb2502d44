//! `cargo xtask guard`: what the hot path costs, in instructions and allocations, against the figures
//! that were accepted.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Builds the programs that are counted, and counts.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--profile", "guard", "-p", "ironmesh-bench"])
        .current_dir(root)
        .status()
        .context("cargo")?;
    anyhow::ensure!(built.success(), "the build failed");
    let script = root.join("bench/guard");
    let counted = Command::new(&script)
        .args(arguments)
        .status()
        .with_context(|| format!("{}: needs python3", script.display()))?;
    anyhow::ensure!(counted.success(), "the hot path is not as it was accepted");
    Ok(())
}
