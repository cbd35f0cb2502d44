//! Scenarios in real namespaces, each in a process of its own that becomes the agent of a mesh; each
//! as root and as an unprivileged user.
//!
//! The binary is its own test runner (libtest's processes have threads, and namespaces must be
//! entered without), and also what the mesh executes as its stages.

#![allow(clippy::print_stdout, reason = "a test runner")]
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(unsafe_code, reason = "a test forks a runner as another user")]

mod scenarios;
mod world;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use world::World;

/// Longest scenario.
const SCENARIO_SECONDS_MAX: u32 = 120;

/// User of the unprivileged runs: `nobody`.
const UNPRIVILEGED: u32 = 65_534;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("internal") => {
            let stage = arguments.get(1).map_or("", String::as_str);
            if stage == world::LISTENER {
                return world::listener();
            }
            if stage == world::PREFLIGHT {
                let refusal = ironmesh_local::preflight::check().unwrap_err();
                println!("{refusal}");
                return ExitCode::SUCCESS;
            }
            ironmesh_local::sandbox::stage(stage).unwrap_or(ExitCode::FAILURE)
        }
        Some("scenario") => run_scenario(&arguments[1]),
        _ => run_all(&arguments),
    }
}

fn run_scenario(name: &str) -> ExitCode {
    let Some((_, scenario)) = scenarios::ALL.iter().find(|(known, _)| *known == name) else {
        return ExitCode::FAILURE;
    };
    // A scenario that hangs ends with all that it has started: the mesh dies with this process.
    nix::unistd::alarm::set(SCENARIO_SECONDS_MAX);
    scenario()
}

fn run_all(arguments: &[String]) -> ExitCode {
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(*f));
    let (mut passed, mut failed, mut filtered) = (0, 0, 0);
    let root = nix::unistd::Uid::effective().is_root();
    let why_not = world::why_impossible();
    for (name, _) in scenarios::ALL {
        for user in [None, Some(UNPRIVILEGED)].into_iter().take(if root { 2 } else { 1 }) {
            let kind = if root && user.is_none() { "root" } else { "unprivileged" };
            let title = format!("{name} ({kind})");
            if !wanted(&title) {
                filtered += 1;
                continue;
            }
            if let Some(why) = &why_not {
                println!("test {title} ... SKIPPED: {why}");
                continue;
            }
            if run_one(&title, name, user) {
                passed += 1;
            } else {
                failed += 1;
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; \
         {filtered} filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_one(title: &str, name: &str, user: Option<u32>) -> bool {
    let mut command = Command::new("/proc/self/exe");
    command.args(["scenario", name]).stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    // The binary may lie where the user may not look: what is open stays executable.
    command.current_dir("/");
    // Whatever a failed scenario leaves running is not to hold the runner's pipe.
    let output = command.env("RUST_BACKTRACE", "0").output();
    match output {
        Ok(output) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout);
            for line in text.lines().filter(|line| line.starts_with("SKIPPED: ")) {
                println!("{title}: {line}");
            }
            println!("test {title} ... ok");
            true
        }
        Ok(output) => {
            println!("test {title} ... FAILED ({})", output.status);
            println!("{}", String::from_utf8_lossy(&output.stdout));
            println!("{}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            println!("test {title} ... FAILED ({error})");
            false
        }
    }
}

/// Runs `scenario` as the agent of a fresh mesh.
fn in_mesh(scenario: fn(&World)) -> ExitCode {
    world::enter(scenario)
}
