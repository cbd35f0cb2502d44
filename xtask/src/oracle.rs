//! `cargo xtask oracle`: a real sidecar beside what Istio would do with the same objects.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Builds the programs that are compared, and compares.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let built = Command::new("cargo")
        .args(["build", "--quiet", "-p", "ironmesh", "-p", "ironmesh-oracle"])
        .current_dir(root)
        .status()
        .context("cargo")?;
    anyhow::ensure!(built.success(), "the build failed");
    let script = root.join("oracle/run");
    let compared = Command::new(&script)
        .args(arguments)
        .status()
        .with_context(|| format!("{}: needs python3", script.display()))?;
    anyhow::ensure!(compared.success(), "ironmesh and Istio differ, or could not be compared");
    Ok(())
}
