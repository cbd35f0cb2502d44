//! `ironmesh finding`: what a finding means and what to do about it. Needs no mesh.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use ironmesh_model::{FindingCode, Severity};

/// Explain a finding by its code, or list all codes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh finding IM0101     what this finding means and what to do
  ironmesh finding            all findings there are")]
pub(crate) struct Finding {
    /// The code, such as IM0101.
    code: Option<String>,
}

impl Finding {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let mut out = stdout().lock();
        let Some(wanted) = self.code else {
            for code in FindingCode::ALL {
                writeln!(out, "{code}  {:7}  {}", word(code.severity()), code.title())?;
            }
            return Ok(ExitCode::SUCCESS);
        };
        let Some(code) = FindingCode::ALL.iter().find(|c| c.code().eq_ignore_ascii_case(&wanted))
        else {
            bail!("no finding has the code {wanted:?}; list them with: ironmesh finding");
        };
        writeln!(out, "{code} ({})", word(code.severity()))?;
        writeln!(out, "  {}", code.title())?;
        writeln!(out, "  What to do: {}", code.remedy())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The word for a severity, as findings print it.
pub(crate) fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}
