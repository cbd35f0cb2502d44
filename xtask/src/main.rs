//! Tasks of the project: `cargo xtask help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its terminal")]
#![allow(clippy::disallowed_methods, reason = "checks of real processes run on real time")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod accept;
mod dist;
mod guard;
mod oracle;
mod test;
mod tidy;

const HELP: &str = "\
cargo xtask TASK

  test            build everything and run all tests; the last line is the total
  tidy            the rules that clippy does not know: directions of crates, sizes of files, ...
  guard           counts instructions and allocations of the hot path with valgrind, and compares
                  them with bench/guard.json; --accept writes the figures as they are now;
                  --release counts the program as it is released
  oracle          sends the same requests through a real sidecar and through what Istio would do with
                  the same random objects (oracle/run; needs Istio's code, which IRONMESH_ORACLE names);
                  `oracle findings` compares what is refused and found (oracle/findings);
                  --count N configurations
  dist            the programs as they are given to people, in target/dist: stripped, with their debug
                  lines in a file beside each; --no-build takes the release build that is there
  accept [N]      the acceptance checks, all or number N, on a release build; --soak runs the long
                  ones at full length; --user NAME runs them as that user (default: both root and an
                  unprivileged user where the caller is root); --no-build takes the binaries that
                  are there
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["test", ..] => test::run(&root(), &args[1..]),
        ["tidy"] => tidy::run(&root()),
        ["guard", ..] => guard::run(&root(), &args[1..]),
        ["oracle", ..] => oracle::run(&root(), &args[1..]),
        ["dist", ..] => dist::run(&root(), &args[1..]),
        ["accept", ..] => accept::run(&root(), &args[1..]),
        ["help" | "-h" | "--help"] | [] => {
            print!("{HELP}");
            Ok(())
        }
        [other, ..] => Err(anyhow::anyhow!("no task is called {other:?}\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}
