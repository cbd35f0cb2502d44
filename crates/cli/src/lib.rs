//! The `ironmesh` command: the verbs for people, and the processes of the mesh. The program itself is a crate
//! of its own (`crates/ironmesh`), since this one is built for size.
//!
//! One binary is everything. `ironmesh internal WHAT` is how the mesh starts its own processes; it
//! is looked at before anything else, because such a process forks, enters namespaces or sizes its
//! threads itself, and so must find a process with one thread and no runtime.
//!
//! Exit codes: 0 done; 1 it failed, and standard error says why; 2 the command line is wrong.
//! `exec` ends with the code of the command that it ran. A reader that closes our output early
//! (`| head`) is no error.
//!
//! # Layout
//!
//! - `internal`: the hidden processes; `cli`: the command line; `verb`: one module per verb.
//! - `api`: the client of the control plane; `contexts`: which mesh is meant.
//! - `target`, `source`, `fetch`: which objects a command names.
//! - `program`, `kubectl`, `helm`, `charts`, `handover`: this binary under the names of kubectl, istioctl
//!   and helm, and the real ones for what it has not.
//! - `output`: how objects are shown; `done`: what is said of changed ones; `say`: lines on standard
//!   error; `help`: the help, and what is said of wrong command lines.

mod api;
mod charts;
mod cli;
mod clock;
mod contexts;
mod control;
mod done;
mod fetch;
mod handover;
mod helm;
mod help;
mod internal;
mod kinds;
mod kubectl;
mod merge;
mod output;
mod program;
mod say;
mod source;
mod target;
mod verb;

use std::ffi::OsString;
use std::process::ExitCode;

/// What the program does, by its name and its arguments.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.first() {
        Some(first) if first == "internal" => internal::run(&arguments[1..]),
        _ if program::Program::called() == program::Program::Helm => helm::run(&arguments),
        _ => cli::run(),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if say::is_read_enough(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}

/// The runtime of a verb: one thread is enough for one connection at a time.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
