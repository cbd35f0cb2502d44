//! `ironmesh apply`: makes the mesh's objects what manifests say.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use ironmesh_model::{Finding, FindingCode};
use serde_json::{Value, json};

use crate::api::{Api, ApiError};
use crate::cli::Context;
use crate::merge::three_way;
use crate::say;
use crate::source::{Files, Loaded, Manifest};
use crate::verb::exit;

/// Create the objects of manifests, or change those that are there.
///
/// Fields that others set stay; fields that the last apply set and the manifest no longer has are
/// removed. Findings about the objects are printed with their place; they are no failure.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh apply -f samples/bookinfo/bookinfo.yaml
  ironmesh apply -f samples/helloworld/            all files of a directory
  ironmesh apply -f - < my.yaml
  ironmesh apply -n shop -f app.yaml -f routes.yaml")]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
}

impl Apply {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let loaded = self.files.load()?;
        let namespace = context.namespace.as_deref();
        Ok(exit(apply(&context.api(), loaded, namespace).await?))
    }
}

/// Applies manifests; tells whether any failed. One that fails keeps no other from being applied.
pub(crate) async fn apply(
    api: &Api,
    loaded: Loaded,
    namespace: Option<&str>,
) -> anyhow::Result<bool> {
    let mut failed = !loaded.problems.is_empty();
    for problem in &loaded.problems {
        say::notice(&format!("{problem}; the object is not applied"));
    }
    let mut applied = Vec::new();
    for manifest in &loaded.objects {
        match apply_one(api, manifest, namespace).await {
            Ok(message) => {
                writeln!(stdout(), "{message}")?;
                applied.push(manifest);
            }
            Err(error) => {
                refuse("applying", manifest, &error)?;
                failed = true;
            }
        }
    }
    print_findings(api, &applied, namespace).await?;
    Ok(failed)
}

/// Says why an object was not taken. An error that concerns the mesh as a whole is handed on.
pub(crate) fn refuse(
    doing: &str,
    manifest: &Manifest,
    error: &anyhow::Error,
) -> anyhow::Result<()> {
    let file = &manifest.file;
    match error.downcast_ref::<ApiError>() {
        Some(ApiError::Refused { reason, message, field, .. }) => {
            if reason == "Invalid" || field.is_some() {
                let place = manifest.place(field.as_deref().unwrap_or_default());
                let (kind, name) = (manifest.kind(), manifest.name());
                let word = say::severity(ironmesh_model::Severity::Error);
                say::notice(&format!("{place}: {word} {kind} {name}: {message}"));
            } else {
                say::notice(&format!(
                    "Error from server ({reason}): error when {doing} {file:?}: {message}"
                ));
            }
            Ok(())
        }
        Some(ApiError::NotRunning { mesh }) => {
            Err(ApiError::NotRunning { mesh: mesh.clone() }.into())
        }
        _ => {
            say::notice(&format!("error: error when {doing} {file:?}: {error:#}"));
            Ok(())
        }
    }
}

/// Applies one object; what became of it, as `kubectl` says it.
async fn apply_one(
    api: &Api,
    manifest: &Manifest,
    namespace: Option<&str>,
) -> anyhow::Result<String> {
    let resource = manifest.resource();
    let namespace = manifest.namespace(namespace)?;
    let path = resource.path(namespace.as_deref(), Some(manifest.name()));
    let what = format!("{}/{}", resource.qualified_singular(), manifest.name());
    let new = annotated(manifest.value(), namespace.as_deref());
    for _ in 0..ATTEMPTS {
        let live = match api.get(&path).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => {
                let collection = resource.path(namespace.as_deref(), None);
                api.post(&collection, &new).await?;
                return Ok(format!("{what} created"));
            }
            Err(error) => return Err(error.into()),
        };
        let last = live["metadata"]["annotations"][LAST_APPLIED]
            .as_str()
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mut merged = three_way(last.as_ref(), &live, &new);
        // The server converts between versions of a kind: which one a manifest is written in is no
        // difference, but decides which defaults it gets.
        let version = std::mem::replace(&mut merged["apiVersion"], live["apiVersion"].clone());
        if merged == live {
            return Ok(format!("{what} unchanged"));
        }
        merged["apiVersion"] = version;
        match api.put(&path, &merged).await {
            Ok(_) => return Ok(format!("{what} configured")),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error.into()),
        }
    }
    anyhow::bail!("{what} changes faster than it can be applied; try again")
}

/// The object as it is sent: with its namespace, without a status, and with a note of what was
/// applied, which the next apply compares with.
fn annotated(value: &Value, namespace: Option<&str>) -> Value {
    let mut object = value.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if let Some(annotations) = object["metadata"]["annotations"].as_object_mut() {
        annotations.shift_remove(LAST_APPLIED);
    }
    let note = format!("{object}\n");
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][LAST_APPLIED] = json!(note);
    object
}

/// Prints what the mesh found in objects that were just applied, in their order.
async fn print_findings(
    api: &Api,
    applied: &[&Manifest],
    namespace: Option<&str>,
) -> anyhow::Result<()> {
    if applied.is_empty() {
        return Ok(());
    }
    let findings = findings(api, "").await?;
    for manifest in applied {
        let own = manifest.namespace(namespace)?.unwrap_or_default();
        let about = findings.iter().filter(|finding| {
            *finding.object.kind == *manifest.kind()
                && *finding.object.name == *manifest.name()
                && *finding.object.namespace == *own
        });
        for finding in about.filter(|finding| !settles(finding.code)) {
            let place = manifest.place(&finding.path);
            say::notice(&format!("{place}: {}", sentence(finding)));
        }
    }
    Ok(())
}

/// Findings about objects; `query` may choose some of them.
pub(crate) async fn findings(api: &Api, query: &str) -> anyhow::Result<Vec<Finding>> {
    let value = api.get(&format!("/ironmesh/findings{query}")).await?;
    serde_json::from_value(value).context("reading the findings")
}

/// A finding in a line: severity, code, object, field, text.
pub(crate) fn sentence(finding: &Finding) -> String {
    let object = &finding.object;
    let word = say::severity(finding.code.severity());
    let name = match &*object.namespace {
        "" => object.name.to_string(),
        namespace => format!("{namespace}/{}", object.name),
    };
    let path = if finding.path.is_empty() { String::new() } else { format!(" {}", finding.path) };
    format!("{word} {} {} {name}{path}: {}", finding.code, object.kind, finding.message)
}

/// Whether a finding is true only until the pods run, which an apply has just asked for.
fn settles(code: FindingCode) -> bool {
    matches!(code, FindingCode::NothingSelected | FindingCode::EmptySubset)
}

/// Annotation with what was applied last, the same as `kubectl`'s.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How often an apply is tried against others who change the object.
const ATTEMPTS: usize = 5;
