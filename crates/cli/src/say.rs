//! Lines for people on standard error: problems that do not end a verb, findings, notices.

use std::io::{self, IsTerminal, Write, stderr};

use ironmesh_model::Severity;

/// Writes a line to standard error. Nothing is left to tell if that fails.
pub(crate) fn notice(line: &str) {
    let _ = writeln!(stderr(), "{line}");
}

/// Writes an error as every verb words it: those of the API as `kubectl` does, others after
/// `error:`. That the reader of our output has read enough is none.
pub(crate) fn error(error: &anyhow::Error) {
    if is_read_enough(error) {
        return;
    }
    let text = format!("{error:#}");
    if text.starts_with("Error from server") {
        notice(&text);
    } else {
        notice(&format!("{} {text}", painted("error:", RED)));
    }
}

/// Whether the reader of our output went away, and not the mesh.
pub(crate) fn is_read_enough(error: &anyhow::Error) -> bool {
    let is_of_mesh = error.chain().any(|cause| {
        cause.is::<ironmesh_client::Error>() || cause.is::<ironmesh_local::agent_api::ClientError>()
    });
    let mut written = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    !is_of_mesh && written.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The word for a severity, coloured on a terminal.
pub(crate) fn severity(severity: Severity) -> String {
    match severity {
        Severity::Error => painted("error", RED),
        Severity::Warning => painted("warning", YELLOW),
        Severity::Info => "info".to_owned(),
    }
}

/// A word in a colour, if standard error is a terminal that wants colours.
fn painted(word: &str, color: &str) -> String {
    if stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{color}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}

const RED: &str = "1;31";
const YELLOW: &str = "1;33";

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_reader_that_has_read_enough_is_told_from_a_mesh_that_went_away() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        let written: anyhow::Result<()> = Err(broken()).context("writing the table");
        assert!(is_read_enough(&written.unwrap_err()));
        let asked: anyhow::Result<()> =
            Err(ironmesh_client::Error::Io(broken())).context("asking for pods");
        assert!(!is_read_enough(&asked.unwrap_err()));
        let asked = ironmesh_local::agent_api::ClientError::Io(broken());
        assert!(!is_read_enough(&asked.into()));
        assert!(!is_read_enough(&io::Error::from(io::ErrorKind::NotFound).into()));
    }
}
