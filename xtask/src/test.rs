//! Runs every test of the workspace and adds up the results.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Builds the binaries that tests start, then runs all unit, integration and doc tests. The last line
/// it prints is `N passed, N failed`; before it come the tests that reported they cannot run here.
///
/// # Errors
///
/// If a test failed or something did not build; with `--deny-skips` also if a test could not run,
/// except for those that need the workshops' manifests.
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let deny_skips = args.iter().any(|arg| arg == "--deny-skips");
    let built = cargo(root, &["build", "--workspace", "--bins"]).status()?;
    if !built.success() {
        bail!("the workspace does not build");
    }
    let mut child = cargo(root, &["test", "--workspace", "--no-fail-fast", "--", "--show-output"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo test does not start")?;
    let mut tally = Tally::default();
    let output = child.stdout.take().context("no output of cargo test")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        tally.take(&line);
    }
    let status = child.wait()?;
    if !tally.skipped.is_empty() {
        println!("\nnot run here:");
        tally.skipped.iter().for_each(|line| println!("  {line}"));
    }
    if !tally.failures.is_empty() {
        println!("\nfailed:");
        tally.failures.iter().for_each(|line| println!("  {line}"));
    }
    let skips: Vec<_> =
        tally.skipped.iter().filter(|line| !line.contains("IRONMESH_WORKSHOPS")).collect();
    let refused = deny_skips && !skips.is_empty();
    let failed =
        tally.failed + usize::from(refused) + usize::from(!status.success() && tally.failed == 0);
    println!("{} passed, {failed} failed", tally.passed);
    if failed > 0 {
        bail!(if refused { "tests were skipped that can run here" } else { "tests failed" });
    }
    Ok(())
}

fn cargo(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.current_dir(root).args(args);
    command
}

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    failures: Vec<String>,
}

impl Tally {
    fn take(&mut self, line: &str) {
        if let Some((_, why)) = line.split_once("SKIPPED: ") {
            self.skipped.push(why.to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
        } else if line.starts_with("test ") && line.ends_with("... FAILED") {
            self.failures.push(line.to_owned());
        }
    }
}

/// The number before `word`.
fn count(text: &str, word: &str) -> usize {
    text.split(word)
        .next()
        .and_then(|before| before.rsplit([' ', '.']).next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "test a::b ... ok",
            "test c ... FAILED",
            "SKIPPED: no root",
            "test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tally.take(line);
        }
        assert_eq!((tally.passed, tally.failed), (15, 1));
        assert_eq!(tally.skipped, ["no root"]);
        assert_eq!(tally.failures, ["test c ... FAILED"]);
    }
}
