//! `cargo xtask oracle`: a real sidecar beside what Istio would do with the same objects;
//! `cargo xtask oracle findings`: what is refused and found beside what Istio's code says.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// Builds the programs that are compared, and compares.
pub(crate) fn run(root: &Path, arguments: &[String]) -> anyhow::Result<()> {
    let (script, arguments, packages): (_, _, &[&str]) = match arguments {
        [what, rest @ ..] if what == "findings" => {
            ("oracle/findings", rest, &["-p", "ironmesh-dialects", "--example", "findings"])
        }
        all => ("oracle/run", all, &["-p", "ironmesh", "-p", "ironmesh-oracle"]),
    };
    let built = Command::new("cargo")
        .args(["build", "--quiet"])
        .args(packages)
        .current_dir(root)
        .status()
        .context("cargo")?;
    anyhow::ensure!(built.success(), "the build failed");
    let script = root.join(script);
    let compared = Command::new(&script)
        .args(arguments)
        .status()
        .with_context(|| format!("{}: needs python3", script.display()))?;
    anyhow::ensure!(compared.success(), "ironmesh and Istio differ, or could not be compared");
    Ok(())
}
