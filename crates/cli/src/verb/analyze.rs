//! `ironmesh analyze`: what is wrong with manifests or with what a mesh has, as `istioctl analyze` says
//! it.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::ensure;
use clap::Args;
use ironmesh_control::gateway;
use ironmesh_dialects::kinds::{KINDS, Kind, Resource};
use ironmesh_dialects::kubernetes::set_default_class;
use ironmesh_dialects::object::normalize;
use ironmesh_dialects::{Object, translate, translate_one};
use ironmesh_model::finding::joined;
use ironmesh_model::settings::Settings;
use ironmesh_model::{Finding, FindingCode, Severity, Snapshot};
use serde_json::{Value, json};

use crate::api::{Api, ApiError, Query};
use crate::cli::Context;
use crate::source::{self, Loaded, Manifest};
use crate::verb::apply;

mod pods;

/// Say what is wrong with manifests, or with what the mesh has.
///
/// Manifests are looked at as if they were applied to the mesh that runs, and alone where none does;
/// their workloads count as if they ran. Nothing is changed. The exit code is 1 if there is a finding as grave as --failure-threshold, or
/// something cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh analyze                         the namespace in use
  ironmesh analyze -A
  ironmesh analyze routes.yaml more/       before they are applied
  ironmesh analyze --use-kube=false routes.yaml
  ironmesh analyze -A -o json")]
pub(crate) struct Analyze {
    /// Files and directories with manifests; - for standard input.
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// Take the directories inside a directory, too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Look at the whole mesh.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Whether to look at the mesh beside the files.
    #[arg(short = 'k', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    use_kube: bool,
    /// From which severity on the exit code is 1.
    #[arg(long, default_value = "error", value_parser = ["error", "warning", "info"], ignore_case = true, value_name = "SEVERITY")]
    failure_threshold: String,
    /// json for everything that is known.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
}

/// A finding, and where it stands.
struct Found {
    finding: Finding,
    /// `FILE:LINE`; none for what the mesh has.
    place: Option<String>,
}

impl Analyze {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut unreadable = false;
        let found = if self.files.is_empty() {
            ensure!(self.use_kube, "without the mesh there is nothing to look at but files");
            let namespace = (!self.all_namespaces).then(|| context.namespace());
            let query = Query::new("").with_some("namespace", namespace).build();
            let findings = apply::findings(&context.api(), &query).await?;
            findings.into_iter().map(|finding| Found { finding, place: None }).collect()
        } else {
            let loaded = source::load(&self.files, self.recursive)?;
            unreadable = loaded.say_problems("looked at");
            let mesh = match self.use_kube {
                true => objects_of_mesh(&context.api()).await?,
                false => None,
            };
            of_files(&loaded, mesh, context)?
        };
        // That limits of single machines are not kept is no fault of a manifest.
        let mut found: Vec<Found> = found;
        found.retain(|found| found.finding.code != FindingCode::NotBoundedHere);
        self.print(&found, context)?;
        let grave =
            found.iter().any(|found| rank(found.finding.code.severity()) >= self.threshold());
        Ok(super::exit(grave || unreadable))
    }

    fn threshold(&self) -> u8 {
        rank(match self.failure_threshold.to_ascii_lowercase().as_str() {
            "info" => Severity::Info,
            "warning" => Severity::Warning,
            _ => Severity::Error,
        })
    }

    fn print(&self, found: &[Found], context: &Context) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        if self.output.is_some() {
            let all: Vec<Value> = found.iter().map(as_json).collect();
            writeln!(out, "{:#}", Value::Array(all))?;
            return Ok(());
        }
        for found in found {
            writeln!(out, "{}", as_line(found))?;
        }
        if found.is_empty() {
            let what = match (self.files.is_empty(), self.all_namespaces) {
                (false, _) => self.files.join(", "),
                (true, true) => "all namespaces".to_owned(),
                (true, false) => format!("namespace: {}", context.namespace()),
            };
            writeln!(out, "✔ No validation issues found when analyzing {what}.")?;
        }
        Ok(())
    }
}

/// What is found about the objects of files, as if they were in the mesh.
fn of_files(
    loaded: &Loaded,
    mesh: Option<Vec<Value>>,
    context: &Context,
) -> anyhow::Result<Vec<Found>> {
    let mut own: Vec<(Value, &Manifest)> = Vec::new();
    let mut found = Vec::new();
    for manifest in &loaded.objects {
        let mut value = manifest.value().clone();
        if let Some(namespace) = manifest.namespace(context.home())? {
            value["metadata"]["namespace"] = json!(namespace);
        }
        if let Some(finding) = normalize(&mut value) {
            let place = Some(manifest.place(&finding.path));
            found.push(Found { finding, place });
        }
        own.push((value, manifest));
    }
    let is_replaced = |there: &Value| own.iter().any(|(value, _)| is_same(value, there));
    // Every mesh has that gateway.
    let (mesh, gateway) = match mesh {
        Some(mesh) => (mesh, Vec::new()),
        None => {
            let gateway = gateway::ingress([80, 443]);
            (gateway.clone(), gateway)
        }
    };
    let mut values: Vec<Value> = mesh.into_iter().filter(|there| !is_replaced(there)).collect();
    values.extend(own.iter().map(|(value, _)| value.clone()));
    let others = gateway.iter().filter(|there| !is_replaced(there));
    let workloads = own.iter().map(|(value, _)| value).chain(others);
    let imagined = pods::imagined(workloads, &values);
    let is_imagined = |value: &Value| imagined.iter().any(|pod| is_same(pod, value));
    let (replaced, mut values): (Vec<Value>, Vec<Value>) =
        values.into_iter().partition(is_imagined);
    values.extend(imagined.iter().cloned());
    let is_class = |value: &&Value| value["kind"] == "IngressClass";
    let classes: Vec<Value> = values.iter().filter(is_class).cloned().collect();
    for ingress in values.iter_mut().filter(|value| value["kind"] == "Ingress") {
        set_default_class(ingress, &classes);
    }
    let objects: Vec<Object> =
        values.into_iter().filter_map(|value| Object::new(value).ok()).collect();
    let mut translation = translate(&objects, &Settings::default());
    let (_, together) = Snapshot::new(std::mem::take(&mut translation.objects));
    // What their manifests say, without what a sidecar adds.
    translation.findings.retain(|found| !imagined.iter().any(|pod| is_about(found, pod)));
    for object in replaced.into_iter().filter_map(|value| Object::new(value).ok()) {
        translation.findings.extend(translate_one(&object).findings);
    }
    for finding in joined(translation.findings.iter(), together.iter()) {
        let about = own.iter().find(|(value, _)| is_about(finding, value));
        if let Some((_, manifest)) = about {
            let place = Some(manifest.place(&finding.path));
            found.push(Found { finding: finding.clone(), place });
        }
    }
    Ok(found)
}

/// The objects of the mesh of which its model is made; none where no mesh runs.
async fn objects_of_mesh(api: &Api) -> anyhow::Result<Option<Vec<Value>>> {
    let mut all = Vec::new();
    for kind in KINDS.iter().filter(|kind| kind.is_modelled()) {
        let resource = Resource::from(kind);
        let mut list = match api.get(&resource.path(None, None)).await {
            Err(ApiError::NotRunning { .. }) => return Ok(None),
            list => list?,
        };
        let items = list["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        all.extend(items.into_iter().map(|item| typed(item, kind, &resource)));
    }
    Ok(Some(all))
}

/// An object of a list says itself what it is.
fn typed(mut item: Value, kind: &Kind, resource: &Resource) -> Value {
    if item["kind"].is_null() {
        item["kind"] = json!(kind.kind);
        item["apiVersion"] = json!(resource.api_version());
    }
    item
}

fn is_same(one: &Value, other: &Value) -> bool {
    let name = |value: &Value, field: &str| value["metadata"][field].clone();
    one["kind"] == other["kind"]
        && ["namespace", "name"].iter().all(|field| name(one, field) == name(other, field))
}

fn is_about(finding: &Finding, value: &Value) -> bool {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &value["metadata"];
    *finding.object.kind == *text(&value["kind"])
        && *finding.object.name == *text(&metadata["name"])
        && *finding.object.namespace == *text(&metadata["namespace"])
}

/// A line as istioctl has it.
fn as_line(found: &Found) -> String {
    let Found { finding, place } = found;
    let object = &finding.object;
    let name = match &*object.namespace {
        "" => object.name.to_string(),
        namespace => format!("{namespace}/{}", object.name),
    };
    let place = place.as_ref().map(|place| format!(" {place}")).unwrap_or_default();
    let field = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
    let (word, code) = (word(finding.code.severity()), finding.code);
    format!("{word} [{code}] ({} {name}{place}) {field}{}", object.kind, finding.message)
}

fn as_json(found: &Found) -> Value {
    let Found { finding, place } = found;
    let object = &finding.object;
    let mut all = json!({
        "code": finding.code.to_string(),
        "level": word(finding.code.severity()),
        "origin": format!("{} {}/{}", object.kind, object.namespace, object.name),
        "field": finding.path,
        "message": finding.message,
    });
    if let Some(place) = place {
        all["reference"] = json!(place);
    }
    all
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
        Severity::Info => "Info",
    }
}

fn rank(severity: Severity) -> u8 {
    match severity {
        Severity::Info => 0,
        Severity::Warning => 1,
        Severity::Error => 2,
    }
}
