//! The `ironmesh` program. It has a crate of its own for its optimisation level, which is that of the link-time
//! optimisation of all; everything that it does is in `ironmesh-cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ironmesh_cli::run()
}
