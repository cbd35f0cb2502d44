//! `ironmesh apply`: makes the mesh's objects what manifests say.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use ironmesh_dialects::object::normalize;
use ironmesh_model::{Finding, FindingCode};
use serde_json::{Value, json};

use crate::api::{Api, ApiError};
use crate::cli::Context;
use crate::merge::three_way;
use crate::say;
use crate::source::{Files, Loaded, Manifest};
use crate::verb::dry_run::DryRunArg;
use crate::verb::{exit, text};

/// Create the objects of manifests, or change those that are there.
///
/// Fields that others set stay; fields that the last apply set and the manifest no longer has are
/// removed. Findings about the objects are printed with their place; they are no failure.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh apply -f samples/bookinfo/bookinfo.yaml
  ironmesh apply -f samples/helloworld/            all files of a directory
  ironmesh apply -f - < my.yaml
  ironmesh apply -n shop -f app.yaml -f routes.yaml
  ironmesh apply -f my.yaml --dry-run=server       only see whether it would be taken")]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    dry_run: DryRunArg,
}

impl Apply {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let loaded = self.files.load()?;
        let namespace = context.namespace.as_deref();
        Ok(exit(apply_all(&context.api(), loaded, namespace, self.dry_run).await?))
    }
}

/// Applies manifests; tells whether any failed. One that fails keeps no other from being applied.
pub(crate) async fn apply(
    api: &Api,
    loaded: Loaded,
    namespace: Option<&str>,
) -> anyhow::Result<bool> {
    apply_all(api, loaded, namespace, DryRunArg::default()).await
}

async fn apply_all(
    api: &Api,
    loaded: Loaded,
    namespace: Option<&str>,
    dry_run: DryRunArg,
) -> anyhow::Result<bool> {
    let mut failed = loaded.say_problems("applied");
    let mut applied = Vec::new();
    let mut pods_change = false;
    for manifest in &loaded.objects {
        match apply_one(api, manifest, namespace, dry_run).await {
            Ok(outcome) => {
                let kind = manifest.resource().qualified_singular();
                let (name, word) = (manifest.name(), outcome.word());
                writeln!(stdout(), "{kind}/{name} {word}{}", dry_run.suffix())?;
                pods_change |= outcome != Outcome::Unchanged && concerns_pods(manifest.kind());
                applied.push(manifest);
            }
            Err(error) => {
                refuse("applying", manifest, &error)?;
                failed = true;
            }
        }
    }
    if dry_run.is_real() {
        print_findings(api, &applied, namespace, pods_change).await?;
    }
    Ok(failed)
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
}

impl Outcome {
    /// As `kubectl` says it.
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// Whether a change of a kind may change which pods there are, or who selects them.
fn concerns_pods(kind: &str) -> bool {
    matches!(
        kind,
        "Pod"
            | "Deployment"
            | "ReplicaSet"
            | "ReplicationController"
            | "StatefulSet"
            | "DaemonSet"
            | "Job"
            | "Service"
    )
}

/// Says why an object was not taken. An error that concerns the mesh as a whole is handed on.
pub(crate) fn refuse(
    doing: &str,
    manifest: &Manifest,
    error: &anyhow::Error,
) -> anyhow::Result<()> {
    let file = &manifest.file;
    match error.downcast_ref::<ApiError>() {
        Some(ApiError::Refused { reason, message, causes, .. }) => {
            let (kind, name) = (manifest.kind(), manifest.name());
            let word = say::severity(ironmesh_model::Severity::Error);
            for (field, message) in causes {
                let place = manifest.place(field);
                let separator = if field.is_empty() { "" } else { ": " };
                say::notice(&format!("{place}: {word} {kind} {name}: {field}{separator}{message}"));
            }
            if causes.is_empty() && reason == "Invalid" {
                let place = manifest.place("");
                say::notice(&format!("{place}: {word} {kind} {name}: {message}"));
            } else if causes.is_empty() {
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

/// Applies one object.
async fn apply_one(
    api: &Api,
    manifest: &Manifest,
    namespace: Option<&str>,
    dry_run: DryRunArg,
) -> anyhow::Result<Outcome> {
    let resource = manifest.resource();
    let namespace = manifest.namespace(namespace)?;
    if manifest.name().is_empty() {
        let base = text(manifest.value(), "/metadata/generateName");
        bail!("from {base}: cannot use generate name with apply; use create");
    }
    let path = resource.path(namespace.as_deref(), Some(manifest.name()));
    let new = annotated(manifest.value(), namespace.as_deref());
    for _ in 0..ATTEMPTS {
        let live = match api.get(&path).await {
            Ok(live) => live,
            Err(error) if error.is_not_found() => {
                let collection = dry_run.on(resource.path(namespace.as_deref(), None));
                if !dry_run.is_client() {
                    api.post(&collection, &new).await?;
                }
                return Ok(Outcome::Created);
            }
            Err(error) => return Err(error.into()),
        };
        let last = live["metadata"]["annotations"][LAST_APPLIED]
            .as_str()
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        let mut merged = three_way(&resource, last.as_ref(), &live, &new);
        // The server converts between versions of a kind: which one a manifest is written in is no
        // difference, but decides which defaults it gets.
        let version = std::mem::replace(&mut merged["apiVersion"], live["apiVersion"].clone());
        if merged == live {
            return Ok(Outcome::Unchanged);
        }
        merged["apiVersion"] = version;
        if dry_run.is_client() {
            return Ok(Outcome::Configured);
        }
        match api.put(&dry_run.on(path.clone()), &merged).await {
            // The server may write the same in one way only (base64, `stringData`).
            Ok(put)
                if put["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
                    && dry_run.is_real() =>
            {
                return Ok(Outcome::Unchanged);
            }
            Ok(_) => return Ok(Outcome::Configured),
            // A manifest that names a version or uid wants that one, and no other.
            Err(error) if error.is_conflict() && !is_pinned(manifest.value()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{} changes faster than it can be applied; try again", manifest.name())
}

/// Whether an object says which version of which object it is to replace.
fn is_pinned(object: &Value) -> bool {
    ["/metadata/resourceVersion", "/metadata/uid"]
        .iter()
        .any(|pointer| !text(object, pointer).is_empty())
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

/// Prints what the mesh found in objects that were just applied, in their order. If pods change with
/// them, what is found about pods that are missing is not yet true, and not printed.
async fn print_findings(
    api: &Api,
    applied: &[&Manifest],
    namespace: Option<&str>,
    pods_change: bool,
) -> anyhow::Result<()> {
    if applied.is_empty() {
        return Ok(());
    }
    let findings = findings(api, "").await?;
    for manifest in applied {
        // The store has the new form only, so that the mesh does not know.
        if let Some(finding) = normalize(&mut manifest.value().clone()) {
            say::notice(&format!("{}: {}", manifest.place(&finding.path), sentence(&finding)));
        }
        let own = manifest.namespace(namespace)?.unwrap_or_default();
        let about = findings.iter().filter(|finding| {
            *finding.object.kind == *manifest.kind()
                && *finding.object.name == *manifest.name()
                && *finding.object.namespace == *own
        });
        let shown = |finding: &&Finding| {
            finding.code != FindingCode::NotBoundedHere && !(pods_change && settles(finding.code))
        };
        for finding in about.filter(shown) {
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
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How often an apply is tried against others who change the object.
const ATTEMPTS: usize = 5;
