//! The hidden `internal` processes: how the mesh starts itself from its own binary.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::ExitCode;

use anyhow::Context;
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
            ironmesh_control::run(bootstrap(arguments)?)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Ok(ironmesh_platform::local::internal(arguments)),
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
    #[expect(unsafe_code, reason = "an inherited descriptor is known by its number only")]
    // SAFETY: the parent names the descriptor that it left open for this process alone, and
    // nothing else of this process, which has done nothing yet, owns it.
    let mut document = unsafe { File::from_raw_fd(fd) };
    let mut text = String::new();
    document.read_to_string(&mut text).context("reading the bootstrap document")?;
    serde_json::from_str(&text).context("decoding the bootstrap document")
}
