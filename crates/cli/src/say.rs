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
    let written = error.downcast_ref::<io::Error>();
    if written.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return;
    }
    let text = format!("{error:#}");
    if text.starts_with("Error from server") {
        notice(&text);
    } else {
        notice(&format!("{} {text}", painted("error:", RED)));
    }
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
