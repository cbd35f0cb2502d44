//! `ironmesh apply`: makes the mesh's objects what manifests say.

mod prune;
pub(crate) mod report;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use ironmesh_apiserver::selector::has_labels;
use ironmesh_model::{Finding, FindingCode};
use serde_json::{Value, json};

use crate::api::{APPLY_PATCH, Api, ApiError, Query};
use crate::cli::Context;
use crate::done::OutputArg;
use crate::merge::three_way;
use crate::say;
use crate::source::{Files, Home, Loaded, Manifest};
use crate::verb::dry_run::DryRunArg;
use crate::verb::{exit, text};
use prune::{Prune, Pruning};
use report::Report;

/// Create the objects of manifests, or change those that are there.
///
/// Fields that others set stay; fields that the last apply set and the manifest no longer has are
/// removed. Findings about the objects are printed with their place; they are no failure.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh apply -f samples/bookinfo/bookinfo.yaml
  ironmesh apply -f samples/helloworld/            all files of a directory
  ironmesh apply -f https://example.com/my.yaml
  ironmesh apply -f - < my.yaml
  ironmesh apply -n shop -f app.yaml -f routes.yaml
  ironmesh apply -f my.yaml --dry-run=server       only see whether it would be taken
  ironmesh apply -f my.yaml --server-side          the server merges, and tells who owns which field
  ironmesh apply -f shop/ --prune -l app=shop      delete what was applied with that label and is gone")]
pub(crate) struct Apply {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
}

/// How to apply.
#[derive(Clone, Debug, Default, Args)]
struct How {
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
    /// Show all findings, each in its line, those of unchanged objects, too.
    #[arg(short, long)]
    verbose: bool,
    /// Only the objects of the manifests that have these labels.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    #[command(flatten)]
    prune: Prune,
    #[command(flatten)]
    server_side: ServerSide,
    /// Taken as kubectl's and without effect: what is wrong is always said.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    validate: Option<String>,
}

/// Let the server merge.
#[derive(Clone, Debug, Default, Args)]
struct ServerSide {
    /// Let the server merge, and note which fields are whose.
    #[arg(long)]
    server_side: bool,
    /// Take fields from others who own them.
    #[arg(long, requires = "server_side")]
    force_conflicts: bool,
    /// In whose name fields are owned.
    #[arg(long, value_name = "NAME", default_value = "kubectl")]
    field_manager: String,
}

impl Apply {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        self.how.prune.check(self.how.selector.as_deref(), self.how.server_side.server_side)?;
        let loaded = self.files.load_some("apply")?;
        Ok(exit(apply_all(&context.api(), loaded, context.home(), &self.how).await?))
    }
}

/// Applies manifests; tells whether any failed. One that fails keeps no other from being applied.
pub(crate) async fn apply(api: &Api, loaded: Loaded, home: Home<'_>) -> anyhow::Result<bool> {
    apply_all(api, loaded, home, &How::default()).await
}

async fn apply_all(
    api: &Api,
    mut loaded: Loaded,
    home: Home<'_>,
    how: &How,
) -> anyhow::Result<bool> {
    loaded.learn_kinds(api).await?;
    let mut failed = loaded.say_problems("applied");
    if let Some(selector) = &how.selector {
        let is_wanted = |manifest: &Manifest| has_labels(manifest.value(), selector);
        let wanted: Result<Vec<bool>, String> = loaded.objects.iter().map(is_wanted).collect();
        let mut wanted = wanted.map_err(anyhow::Error::msg)?.into_iter();
        loaded.objects.retain(|_| wanted.next().unwrap_or(false));
    }
    let mut report = Report::new(how.verbose);
    let mut pruning = Pruning::default();
    for manifest in &loaded.objects {
        let done = match how.server_side.server_side {
            true => apply_at_server(api, manifest, home, how).await,
            false => apply_one(api, manifest, home, how.dry_run).await,
        };
        match done {
            Ok((outcome, object)) => {
                pruning.keep(&object);
                how.output.say(&manifest.resource(), &object, outcome.word(), how.dry_run)?;
                report.add(manifest, outcome != Outcome::Unchanged);
            }
            Err(error) => {
                refuse("applying", manifest, &error)?;
                failed = true;
            }
        }
    }
    report.print(api, home, how.dry_run).await?;
    if !failed {
        let selector = how.selector.as_deref().unwrap_or_default();
        failed = pruning.prune(api, &how.prune, selector, how.dry_run, &how.output).await?;
    }
    Ok(failed)
}

/// What became of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Configured,
    Unchanged,
    ServerSide,
}

impl Outcome {
    /// As `kubectl` says it.
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::ServerSide => "serverside-applied",
        }
    }
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
            // A misspelt field may be why another one is missing.
            for finding in report::by_itself(manifest, "") {
                if !causes.is_empty() && finding.code == FindingCode::UnknownField {
                    let place = manifest.place(&finding.path);
                    say::notice(&format!("{place}: {}", sentence(&finding)));
                }
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
    home: Home<'_>,
    dry_run: DryRunArg,
) -> anyhow::Result<(Outcome, Value)> {
    let resource = manifest.resource();
    manifest.check_kind()?;
    let namespace = manifest.namespace(home)?;
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
                let created = match dry_run.is_client() {
                    true => new,
                    false => api.post(&collection, &new).await?,
                };
                return Ok((Outcome::Created, created));
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
            return Ok((Outcome::Unchanged, live));
        }
        merged["apiVersion"] = version;
        if dry_run.is_client() {
            return Ok((Outcome::Configured, merged));
        }
        match api.put(&dry_run.on(path.clone()), &merged).await {
            // The server may write the same in one way only (base64, `stringData`).
            Ok(put)
                if put["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
                    && dry_run.is_real() =>
            {
                return Ok((Outcome::Unchanged, put));
            }
            Ok(put) => return Ok((Outcome::Configured, put)),
            // A manifest that names a version or uid wants that one, and no other.
            Err(error) if error.is_conflict() && !is_pinned(manifest.value()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{} changes faster than it can be applied; try again", manifest.name())
}

/// Applies one object by the server's merge.
async fn apply_at_server(
    api: &Api,
    manifest: &Manifest,
    home: Home<'_>,
    how: &How,
) -> anyhow::Result<(Outcome, Value)> {
    manifest.check_kind()?;
    if how.dry_run.is_client() {
        bail!("--dry-run=client doesn't work with --server-side (did you mean --dry-run=server?)");
    }
    let (resource, namespace) = (manifest.resource(), manifest.namespace(home)?);
    let path = resource.path(namespace.as_deref(), Some(manifest.name()));
    let ServerSide { force_conflicts, field_manager, .. } = &how.server_side;
    let query = Query::new(path)
        .with("fieldManager", field_manager)
        .with_some("force", force_conflicts.then_some("true"));
    let mut object = manifest.value().clone();
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    let applied = api.patch(&how.dry_run.parameter(query).build(), APPLY_PATCH, &object).await;
    match applied {
        Ok(applied) => Ok((Outcome::ServerSide, applied)),
        Err(error) => {
            if error.is_conflict() {
                say::notice(
                    "Others own fields that the manifest sets: leave them out of it, set them to the \
                     same, or take them with --force-conflicts.",
                );
            }
            Err(error.into())
        }
    }
}

/// Whether an object says which version of which object it is to replace.
fn is_pinned(object: &Value) -> bool {
    ["/metadata/resourceVersion", "/metadata/uid"]
        .iter()
        .any(|pointer| !text(object, pointer).is_empty())
}

/// The object as it is sent: with its namespace, without a status, and with a note of what was
/// applied, which the next apply compares with. What only the server sets is not noted, so that what
/// `get -o yaml` printed is no change.
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
    let mut noted = object.clone();
    if let Some(metadata) = noted["metadata"].as_object_mut() {
        SET_BY_SERVER.iter().for_each(|field| drop(metadata.shift_remove(*field)));
    }
    let note = format!("{noted}\n");
    if !object["metadata"]["annotations"].is_object() {
        object["metadata"]["annotations"] = json!({});
    }
    object["metadata"]["annotations"][LAST_APPLIED] = json!(note);
    object
}

/// Findings about objects; `query` may choose some of them.
pub(crate) async fn findings(api: &Api, query: &str) -> anyhow::Result<Vec<Finding>> {
    let value = api.get(&format!("/ironmesh/findings{query}")).await?;
    serde_json::from_value(value).context("reading the findings")
}

/// A finding in a line: severity, code, object, field, text.
pub(crate) fn sentence(finding: &Finding) -> String {
    format!("{} {}", say::severity(finding.code.severity()), statement(finding))
}

/// The same without how bad it is.
pub(crate) fn statement(finding: &Finding) -> String {
    let object = &finding.object;
    let name = match &*object.namespace {
        "" => object.name.to_string(),
        namespace => format!("{namespace}/{}", object.name),
    };
    let path = if finding.path.is_empty() { String::new() } else { format!(" {}", finding.path) };
    format!("{} {} {name}{path}: {}", finding.code, object.kind, finding.message)
}

/// Fields of `metadata` that only the server sets.
const SET_BY_SERVER: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];
/// Annotation with what was applied last, the same as `kubectl`'s.
pub(crate) const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// How often an apply is tried against others who change the object.
const ATTEMPTS: usize = 5;
