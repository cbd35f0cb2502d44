//! What many proxies cost the control plane: `bench/scale`.
//!
//! Starts the control process of the `ironmesh` beside it, fills it by its API, connects thousands of
//! fake proxies by the real push protocol (TLS, tokens), and then edits one object after the other.
//! For each kind of edit: CPU time of the control plane, how many proxies were sent how many keys,
//! and the time from the answer of the API to the last proxy that has the change. Ends with 1 if a
//! figure is above its limit.

use std::io::{Write, stdout};
use std::process::ExitCode;

mod api;
mod bulk;
mod cases;
mod control;
mod objects;
mod proxies;
mod report;

/// Sizes of the mesh.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) proxies: usize,
    pub(crate) keys: usize,
    pub(crate) services: usize,
    /// Endpoints of the one large service.
    pub(crate) endpoints: usize,
    /// Hosts of the gateway, each with a VirtualService of its own.
    pub(crate) hosts: usize,
    /// Edits of each kind.
    pub(crate) edits: usize,
}

const FULL: Sizes =
    Sizes { proxies: 2_000, keys: 30, services: 6_000, endpoints: 5_000, hosts: 5_000, edits: 50 };

/// For a look at whether it runs at all.
const SMALL: Sizes =
    Sizes { proxies: 100, keys: 30, services: 300, endpoints: 500, hosts: 100, edits: 10 };

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let sizes = match &arguments[..] {
        [] => FULL,
        [word] if word == "--small" => SMALL,
        _ => {
            writeln!(stdout(), "usage: bench/scale [--small]")?;
            return Ok(ExitCode::from(2));
        }
    };
    control::raise_limit_of_descriptors()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let report = runtime.block_on(local.run_until(cases::run(sizes)))?;
    Ok(if report.is_within_limits() || arguments.len() == 1 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
