//! The hidden `internal` processes: how the mesh starts itself from its own binary.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use ironmesh_fds as fds;
use serde::de::DeserializeOwned;

/// Runs `internal WHAT ...`. No thread or runtime exists yet.
pub(crate) fn run(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    match arguments.first().and_then(|what| what.to_str()) {
        Some("proxy") => {
            close_memory()?;
            ironmesh_proxy::run(bootstrap(arguments)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("control") => {
            close_memory()?;
            crate::control::run(bootstrap(arguments)?)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ironmesh_local::internal(arguments)),
    }
}

/// Keeps other processes of the same user out of the memory of one that holds private keys.
fn close_memory() -> anyhow::Result<()> {
    nix::sys::prctl::set_dumpable(false).context("closing the process's memory")
}

/// Reads the JSON document of `--bootstrap-fd N` to its end, and closes the descriptor, so that the
/// secrets in it stay in one place.
fn bootstrap<T: DeserializeOwned>(arguments: &[OsString]) -> anyhow::Result<T> {
    let fd: i32 = arguments
        .iter()
        .skip_while(|argument| *argument != "--bootstrap-fd")
        .nth(1)
        .and_then(|fd| fd.to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .context("--bootstrap-fd N is missing; the mesh starts this process itself")?;
    let document = fds::take_inherited(fd).context("taking over the bootstrap document")?;
    fds::read_json(document).context("reading the bootstrap document")
}
