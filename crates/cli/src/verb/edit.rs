//! `ironmesh edit`: changes objects in an editor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_dialects::kinds::Resource;
use serde_json::Value;

use crate::api::Api;
use crate::cli::Context;
use crate::done::OutputArg;
use crate::output::yaml::to_yaml;
use crate::say;
use crate::target;
use crate::verb::dry_run::DryRunArg;
use crate::verb::text;

/// Change objects in an editor: KUBE_EDITOR, else EDITOR, else vi.
///
/// What is refused is kept in a file, and its place is said.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh edit virtualservice reviews
  KUBE_EDITOR=nano ironmesh edit deploy/web")]
pub(crate) struct Edit {
    /// Kind and names, or KIND/NAME several times.
    #[arg(required = true)]
    words: Vec<String>,
    #[command(flatten)]
    output: OutputArg,
}

impl Edit {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        for (resource, name) in target::parse_named(&api, &self.words).await? {
            let path = resource.path(Some(context.namespace()), Some(&name));
            self.edit(&api, &resource, &path).await?;
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn edit(&self, api: &Api, resource: &Resource, path: &str) -> anyhow::Result<()> {
        let object = api.get(path).await?;
        let shown = format!("{HEAD}{}", to_yaml(&object)?);
        let file = new_file(&object, &shown)?;
        let result = self.change(api, resource, path, &object, &shown, &file).await;
        let is_changed = || fs::read_to_string(&file).is_ok_and(|text| text != shown);
        if result.is_err() && is_changed() {
            say::notice(&format!("A copy of your changes has been stored to {file:?}"));
        } else {
            // A left-over file is no reason to fail.
            let _ = fs::remove_file(&file);
        }
        result
    }

    async fn change(
        &self,
        api: &Api,
        resource: &Resource,
        path: &str,
        object: &Value,
        shown: &str,
        file: &Path,
    ) -> anyhow::Result<()> {
        open_editor(file)?;
        let edited = fs::read_to_string(file).with_context(|| format!("reading {file:?}"))?;
        let is_empty = edited.lines().all(|line| line.trim().is_empty() || line.starts_with('#'));
        if is_empty || edited == shown {
            say::notice("Edit cancelled, no changes made.");
            return Ok(());
        }
        let new: Value = serde_saphyr::from_str(&edited).context("what was edited is no YAML")?;
        for pointer in ["/apiVersion", "/kind", "/metadata/name", "/metadata/namespace"] {
            ensure!(
                new.pointer(pointer) == object.pointer(pointer),
                "{} must stay as it is",
                pointer[1..].replace('/', ".")
            );
        }
        if new == *object {
            say::notice("Edit cancelled, no changes made.");
            return Ok(());
        }
        // It has the resourceVersion that was shown: what others changed meanwhile is a conflict.
        let put = api.put(path, &new).await?;
        self.output.say(resource, &put, "edited", DryRunArg::default())
    }
}

/// Runs the user's editor on a file.
fn open_editor(file: &Path) -> anyhow::Result<()> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = variable("KUBE_EDITOR").or_else(|| variable("EDITOR")).unwrap_or("vi".to_owned());
    // A value may be a command with arguments, in the shell's words.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$0\"")])
        .arg(file)
        .status()
        .with_context(|| format!("starting the editor {editor:?}"))?;
    if !status.success() {
        bail!("the editor {editor:?} ended with {status}; set KUBE_EDITOR to another one");
    }
    Ok(())
}

/// A new file that nobody else reads, with a text.
fn new_file(object: &Value, shown: &str) -> anyhow::Result<PathBuf> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let name = text(object, "/metadata/name").replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    for number in 0..FILES_TRIED {
        let file = format!("ironmesh-edit-{name}-{}-{number}.yaml", std::process::id());
        let path = std::env::temp_dir().join(file);
        let mut options = fs::OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(mut file) => {
                file.write_all(shown.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    bail!("no file for the object can be made in {}", std::env::temp_dir().display())
}

/// What stands before the object.
const HEAD: &str = "# Edit the object below; lines that begin with '#' are ignored, and an empty file\n\
                    # cancels. What the mesh refuses is kept in this file.\n#\n";
/// Names that are tried for a file.
const FILES_TRIED: u32 = 100;
