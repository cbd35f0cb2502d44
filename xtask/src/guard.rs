//! `cargo xtask guard`: what the hot path costs, in instructions and allocations, against the figures
//! that were accepted.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Builds the programs that are counted, and counts. With `--release` the program is counted as it is
/// released, which takes ten minutes more to build.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let release = arguments.iter().any(|argument| argument == "--release");
    let profile = if release { "release" } else { "guard" };
    build(root, &["--profile", profile, "-p", "ironmesh-bench"])?;
    if release {
        // Apart, for what others ask of the crates that it is made of must not be in it.
        build(root, &["--release"])?;
    }
    let script = root.join("bench/guard");
    let counted = Command::new(&script)
        .args(arguments)
        .status()
        .with_context(|| format!("{}: needs python3", script.display()))?;
    anyhow::ensure!(counted.success(), "the hot path is not as it was accepted");
    Ok(())
}

fn build(root: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let built = Command::new("cargo")
        .args(["build", "--quiet"])
        .args(arguments)
        .current_dir(root)
        .status()
        .context("cargo")?;
    anyhow::ensure!(built.success(), "the build failed");
    Ok(())
}
