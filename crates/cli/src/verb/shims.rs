//! `ironmesh shims`: lets the commands of other texts be typed as they stand there.

use std::fs;
use std::io::{self, Write, stdout};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::program::Program;

/// Make a directory with the commands kubectl, k, istioctl and helm, all of which are ironmesh.
///
/// kubectl, k and istioctl have the verbs of ironmesh. What kubectl has beside them, such as cp, diff and
/// top, is handed to the kubectl that comes after it on PATH, for the mesh that is meant. helm knows
/// Istio's charts, and hands every other chart to the helm that comes after it on PATH. The line that is
/// printed puts the directory in front of PATH.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  eval \"$(ironmesh shims ~/.ironmesh/bin)\"
  kubectl get pods")]
pub(crate) struct Shims {
    /// The directory; made if it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Shims {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let own = fs::canonicalize("/proc/self/exe")
            .context("the program that runs here cannot be found any more")?;
        let directory = std::path::absolute(&self.directory)?;
        fs::create_dir_all(&directory)
            .with_context(|| format!("making the directory {}", directory.display()))?;
        for name in Program::SHIMS {
            link(&own, &directory.join(name))?;
        }
        let directory = directory.to_str().context("the path of the directory is not UTF-8")?;
        writeln!(stdout(), "export PATH={}:$PATH", quoted(directory))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes a link to this program, or leads one that was made earlier there; replaces nothing else.
fn link(own: &Path, shim: &Path) -> anyhow::Result<()> {
    match fs::read_link(shim) {
        Ok(old) if old == own => return Ok(()),
        Ok(old) if old.file_name() == own.file_name() => {
            fs::remove_file(shim).with_context(|| format!("replacing {}", shim.display()))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        _ => bail!(
            "{} is there already and is none of ours; give another directory, or remove it",
            shim.display()
        ),
    }
    symlink(own, shim).with_context(|| format!("making {}", shim.display()))
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
