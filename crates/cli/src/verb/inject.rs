//! `ironmesh inject`: adds the sidecar to manifests, as Istio's `kube-inject` does.

use std::fs;
use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_control::inject::inject_manifest;
use serde_json::Value;

use crate::output::yaml::to_yaml;
use crate::say;
use crate::source::{self, Text};

/// Add the sidecar to the workloads of manifests, and print them.
///
/// Needs no mesh. Workloads of every kind and version get the containers istio-init and istio-proxy,
/// unless their pods say `sidecar.istio.io/inject: "false"`, use the network of the host, or have a
/// sidecar; all other objects are printed as they are. What is printed can be applied whether or not
/// its namespace is labelled for injection.
#[derive(Debug, Args)]
#[command(visible_alias = "kube-inject")]
#[command(after_help = "Examples:
  ironmesh inject -f app.yaml | ironmesh apply -f -
  ironmesh create -f <(ironmesh inject -f app.yaml)
  ironmesh inject -f app.yaml -o app-injected.yaml")]
pub(crate) struct Inject {
    /// File, directory or - (standard input) with manifests; may be given several times.
    #[arg(short, long = "filename", value_name = "FILE|DIR|-", required = true)]
    filename: Vec<String>,
    /// File to write instead of standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Namespace of the control plane: istio-system. For commands that name it.
    #[arg(short = 'i', long = "istioNamespace", value_name = "NAMESPACE")]
    istio_namespace: Option<String>,
}

impl Inject {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        if self.istio_namespace.as_deref().is_some_and(|namespace| namespace != ROOT) {
            say::notice(&format!("the control plane of ironmesh is in {ROOT}; -i changes nothing"));
        }
        let mut out = String::new();
        for text in source::texts(&self.filename, false)? {
            let objects = objects(&text)?;
            ensure!(!objects.is_empty(), "{} holds no object", text.file);
            for mut object in objects {
                inject_manifest(&mut object);
                if !out.is_empty() {
                    out.push_str("---\n");
                }
                out.push_str(&to_yaml(&object)?);
            }
        }
        match &self.output {
            Some(file) => {
                fs::write(file, out).with_context(|| format!("writing {}", file.display()))?;
            }
            None => stdout().write_all(out.as_bytes())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The objects of a text. Nothing is printed of one that cannot be read whole: what is applied would
/// lack a part without a word.
fn objects(text: &Text) -> anyhow::Result<Vec<Value>> {
    let file = &text.file;
    let Ok(utf8) = std::str::from_utf8(&text.bytes) else { bail!("{file} is not UTF-8") };
    let parsed = ironmesh_dialects::manifest::parse(utf8);
    if let Some(error) = parsed.errors.first() {
        bail!("{file}: {error}");
    }
    Ok(parsed.documents.into_iter().map(|document| document.value).collect())
}

/// Where the control plane is.
const ROOT: &str = "istio-system";
