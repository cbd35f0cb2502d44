//! Runs every test of the workspace and adds up the results.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

/// Builds the binaries that tests start, then runs all unit, integration and doc tests. The last line
/// it prints is `N passed, N failed`; before it come the tests that reported they cannot run here.
///
/// # Errors
///
/// If a test failed or something did not build; with `--deny-skips` also if a test could not run,
/// except for those that need what not every machine can have ([`MAY_LACK`]).
pub(crate) fn run(root: &Path, args: &[String]) -> anyhow::Result<()> {
    let deny_skips = args.iter().any(|arg| arg == "--deny-skips");
    let built = cargo(root, &["build", "--workspace", "--bins"]).status()?;
    if !built.success() {
        bail!("the workspace does not build");
    }
    // Both streams are one, so that a result is told from which tests it is.
    let (output, input) = std::io::pipe().context("no pipe")?;
    let mut command =
        cargo(root, &["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    let mut child = command
        .stdout(input.try_clone().context("no second end of a pipe")?)
        .stderr(input)
        .spawn()
        .context("cargo test does not start")?;
    // It holds the input of the pipe as well, which would never end then.
    drop(command);
    let mut tally = Tally::default();
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        tally.take(&line);
    }
    let status = child.wait()?;
    tally.print_times();
    if !tally.skipped.is_empty() {
        println!("\nnot run here:");
        tally.skipped.iter().for_each(|line| println!("  {line}"));
    }
    if !tally.failures.is_empty() {
        println!("\nfailed:");
        tally.failures.iter().for_each(|line| println!("  {line}"));
    }
    let may_be = |line: &String| MAY_LACK.iter().any(|what| line.contains(what));
    let refused = deny_skips && !tally.skipped.iter().all(may_be);
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

/// What a test may lack: the workshops' manifests, and programs that Debian has not or only too old.
const MAY_LACK: [&str; 7] = [
    "IRONMESH_WORKSHOPS",
    "there is no kubectl",
    "there is no helm",
    "there is no prometheus",
    "this prometheus knows no kubernetes_sd",
    "there is no Go",
    "with Go here",
];

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    failures: Vec<String>,
    /// The crate whose tests run.
    of: String,
    /// The tests that run, and how long those before took, in seconds.
    running: String,
    times: Vec<(String, f64)>,
}

impl Tally {
    fn take(&mut self, line: &str) {
        if let Some((_, why)) = line.split_once("SKIPPED: ") {
            self.skipped.push(why.to_owned());
        } else if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
            let time = counts.rsplit_once("finished in ").and_then(|(_, t)| t.strip_suffix('s'));
            self.times
                .push((self.running.clone(), time.and_then(|t| t.parse().ok()).unwrap_or(0.0)));
        } else if let Some(what) = line.trim_start().strip_prefix("Running ") {
            // `unittests src/lib.rs (target/debug/deps/NAME-HASH)`, or `tests/it/main.rs (...)` of
            // the same crate.
            let (file, program) = what.split_once(" (").unwrap_or((what, ""));
            if let Some(source) = file.strip_prefix("unittests ") {
                let name = program.rsplit('/').next().and_then(|name| name.rsplit_once('-'));
                self.of = name.map_or("?", |(name, _)| name).to_owned();
                self.running = format!("{} {source}", self.of);
            } else {
                self.running = format!("{} {file}", self.of);
            }
        } else if let Some(name) = line.trim_start().strip_prefix("Doc-tests ") {
            self.running = format!("{name} documentation");
        } else if line.starts_with("test ") && line.ends_with("... FAILED") {
            self.failures.push(line.to_owned());
        }
    }
}

impl Tally {
    /// How long the tests of each crate took, the longest first.
    fn print_times(&mut self) {
        self.times.retain(|(_, seconds)| *seconds >= 0.1);
        self.times.sort_by(|a, b| b.1.total_cmp(&a.1));
        println!("\ntimes:");
        self.times.iter().for_each(|(name, seconds)| println!("  {seconds:7.2} s  {name}"));
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
            "     Running unittests src/lib.rs (target/debug/deps/ironmesh_model-0123abcd)",
            "test a::b ... ok",
            "test c ... FAILED",
            "SKIPPED: no root",
            "test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s",
            "     Running tests/it/main.rs (target/debug/deps/it-0123abcd)",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.25s",
        ] {
            tally.take(line);
        }
        assert_eq!((tally.passed, tally.failed), (15, 1));
        assert_eq!(tally.skipped, ["no root"]);
        assert_eq!(tally.failures, ["test c ... FAILED"]);
        let times = [
            ("ironmesh_model src/lib.rs".to_owned(), 1.5),
            ("ironmesh_model tests/it/main.rs".to_owned(), 0.25),
        ];
        assert_eq!(tally.times, times);
    }
}
