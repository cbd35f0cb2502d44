//! `ironmesh create`: creates objects that are not there yet.

mod secret;
mod service;
mod workload;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use crate::api::Api;
use crate::cli::Context;
use crate::done::OutputArg;
use crate::source::{Files, Home, Manifest};
use crate::verb::apply::refuse;
use crate::verb::apply::report::Report;
use crate::verb::dry_run::DryRunArg;
use crate::verb::exit;

/// Create objects from manifests, or from the command line; one that is there already is an error.
#[derive(Debug, Args)]
#[command(subcommand_negates_reqs = true)]
#[command(after_help = "Examples:
  ironmesh create -f my.yaml
  ironmesh create -f https://example.com/my.yaml
  ironmesh create namespace shop
  ironmesh create secret generic login --from-literal=user=me -n shop
  ironmesh create configmap conf --from-file=app.conf --dry-run=client -o yaml
  ironmesh create -f my.yaml --dry-run=server     only see whether it would be taken")]
pub(crate) struct Create {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    how: How,
    /// Show all findings, each in its line.
    #[arg(short, long)]
    verbose: bool,
    #[command(subcommand)]
    what: Option<What>,
}

/// What all ways of creating take.
#[derive(Clone, Debug, Args)]
struct How {
    #[command(flatten)]
    dry_run: DryRunArg,
    #[command(flatten)]
    output: OutputArg,
    /// Taken as kubectl's and without effect: `apply` finds out what is new without it.
    #[arg(long, hide = true)]
    save_config: bool,
    /// Taken as kubectl's and without effect: what is wrong is always said.
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    validate: Option<String>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A namespace.
    #[command(visible_alias = "ns")]
    #[command(after_help = "Example:\n  ironmesh create namespace shop")]
    Namespace(Named),
    /// An account that pods run as.
    #[command(visible_alias = "sa")]
    #[command(after_help = "Example:\n  ironmesh create serviceaccount robot -n shop")]
    Serviceaccount(Named),
    /// A secret: generic, tls or docker-registry.
    #[command(after_help = "Examples:
  ironmesh create secret generic login --from-literal=user=me --from-file=./password
  ironmesh create secret tls shop-tls --cert=shop.crt --key=shop.key")]
    Secret(secret::Secret),
    /// Settings of applications.
    #[command(visible_alias = "cm")]
    #[command(after_help = "Examples:
  ironmesh create configmap conf --from-literal=color=blue
  ironmesh create configmap conf --from-file=folder/ --from-env-file=app.env")]
    Configmap(ConfigMap),
    /// Pods of an image, so many at all times.
    #[command(visible_alias = "deploy")]
    #[command(
        after_help = "Example:\n  ironmesh create deployment web --image=nginx --replicas=2 --port=80"
    )]
    Deployment(workload::Deployment),
    /// A run of an image to its end.
    #[command(after_help = "Example:\n  ironmesh create job hello --image=busybox -- echo hello")]
    Job(workload::Job),
    /// A name and an address for pods.
    #[command(visible_alias = "svc")]
    #[command(after_help = "Examples:
  ironmesh create service clusterip web --tcp=80:8080
  ironmesh create service nodeport web --tcp=80 --node-port=30080
  ironmesh create service externalname db --external-name=db.example.com")]
    Service(service::Service),
}

/// An object that is nothing but a name.
#[derive(Debug, Args)]
struct Named {
    /// Its name.
    name: String,
    #[command(flatten)]
    how: How,
}

/// A ConfigMap of the command line.
#[derive(Debug, Args)]
struct ConfigMap {
    /// Its name.
    name: String,
    #[command(flatten)]
    data: Data,
    #[command(flatten)]
    how: How,
}

impl Create {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let api = context.api();
        let Some(what) = self.what else {
            return create_files(&api, context, &self.files, &self.how, self.verbose).await;
        };
        ensure!(!self.files.are_given(), "give files, or an object to create, not both");
        let (object, how) = what.object()?;
        create_object(&api, context.namespace(), object, &how).await?;
        Ok(ExitCode::SUCCESS)
    }
}

impl What {
    /// The object that is wanted, without its namespace.
    fn object(self) -> anyhow::Result<(Value, How)> {
        let plain = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } });
        Ok(match self {
            Self::Namespace(named) => (plain("Namespace", &named.name), named.how),
            Self::Serviceaccount(named) => (plain("ServiceAccount", &named.name), named.how),
            Self::Secret(secret) => secret.object()?,
            Self::Configmap(map) => {
                let mut object = plain("ConfigMap", &map.name);
                let (mut data, mut binary) = (json!({}), json!({}));
                for (key, bytes) in map.data.read()? {
                    match String::from_utf8(bytes) {
                        Ok(text) => data[key] = json!(text),
                        Err(error) => binary[key] = json!(secret::base64(error.as_bytes())),
                    }
                }
                for (field, values) in [("data", data), ("binaryData", binary)] {
                    if values.as_object().is_some_and(|values| !values.is_empty()) {
                        object[field] = values;
                    }
                }
                (object, map.how)
            }
            Self::Deployment(deployment) => deployment.object(),
            Self::Job(job) => job.object(),
            Self::Service(service) => service.object()?,
        })
    }
}

async fn create_files(
    api: &Api,
    context: &Context,
    files: &Files,
    how: &How,
    verbose: bool,
) -> anyhow::Result<ExitCode> {
    let mut loaded = files.load_some("create")?;
    loaded.learn_kinds(api).await?;
    let mut failed = loaded.say_problems("created");
    let mut report = Report::new(verbose);
    for manifest in &loaded.objects {
        match create_one(api, manifest, context.home(), how).await {
            Ok(()) => report.add(manifest, true),
            Err(error) => {
                refuse("creating", manifest, &error)?;
                failed = true;
            }
        }
    }
    report.print(api, context.home(), how.dry_run).await?;
    Ok(exit(failed))
}

async fn create_one(
    api: &Api,
    manifest: &Manifest,
    home: Home<'_>,
    how: &How,
) -> anyhow::Result<()> {
    let resource = manifest.resource();
    manifest.check_kind()?;
    let namespace = manifest.namespace(home)?;
    let mut object = manifest.value().clone();
    if let Some(namespace) = &namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    post(api, &resource, namespace.as_deref(), object, how).await
}

/// Creates an object of the command line, and says so.
async fn create_object(
    api: &Api,
    namespace: &str,
    mut object: Value,
    how: &How,
) -> anyhow::Result<()> {
    let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
    let resource = Resource::of(version.unwrap_or_default(), kind.unwrap_or_default());
    let namespace = resource.namespaced.then_some(namespace);
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    post(api, &resource, namespace, object, how).await
}

async fn post(
    api: &Api,
    resource: &Resource,
    namespace: Option<&str>,
    object: Value,
    how: &How,
) -> anyhow::Result<()> {
    let path = how.dry_run.on(resource.path(namespace, None));
    let created = match how.dry_run.is_client() {
        true => object,
        false => api.post(&path, &object).await?,
    };
    how.output.say(resource, &created, "created", how.dry_run)
}

/// Where the values of a Secret or ConfigMap come from.
#[derive(Clone, Debug, Args)]
struct Data {
    /// A value: KEY=TEXT; may be given several times.
    #[arg(long, value_name = "KEY=TEXT")]
    from_literal: Vec<String>,
    /// A file, with its name or KEY for key; or the files of a folder.
    #[arg(long, value_name = "[KEY=]FILE|DIR")]
    from_file: Vec<String>,
    /// A file of KEY=TEXT lines.
    #[arg(long, value_name = "FILE")]
    from_env_file: Vec<String>,
}

impl Data {
    /// Reads the values.
    fn read(&self) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
        let mut values = BTreeMap::new();
        let mut add = |key: &str, value: Vec<u8>| {
            ensure!(!key.is_empty(), "a value has no key");
            let first = values.insert(key.to_owned(), value).is_none();
            ensure!(first, "cannot add key {key:?}, another key by that name already exists");
            Ok(())
        };
        for literal in &self.from_literal {
            let (key, value) = literal
                .split_once('=')
                .with_context(|| format!("--from-literal {literal:?} is not KEY=TEXT"))?;
            // As kubectl: a shell may have left the quotes of a value.
            add(key, unquoted(value).as_bytes().to_vec())?;
        }
        for source in &self.from_file {
            let (key, path) =
                source.split_once('=').map_or((None, &**source), |(k, p)| (Some(k), p));
            if Path::new(path).is_dir() {
                ensure!(key.is_none(), "--from-file {source:?}: a folder has no key of its own");
                for (key, path) in files_of(path)? {
                    add(&key, read(&path)?)?;
                }
            } else {
                let name = Path::new(path).file_name().and_then(|name| name.to_str());
                add(key.or(name).unwrap_or_default(), read(path)?)?;
            }
        }
        for path in &self.from_env_file {
            let text =
                String::from_utf8(read(path)?).with_context(|| format!("{path} is no text"))?;
            for (line, at) in text.lines().zip(1..) {
                let line = line.trim_start().trim_end_matches('\r');
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                match line.split_once('=') {
                    Some((key, value)) => add(key, value.as_bytes().to_vec())?,
                    // As kubectl: from the environment of the command.
                    None => match std::env::var(line) {
                        Ok(value) => add(line, value.into_bytes())?,
                        Err(_) => bail!("{path}:{at}: {line:?} is neither KEY=TEXT nor a variable"),
                    },
                }
            }
        }
        Ok(values)
    }
}

/// The plain files of a folder whose names can be keys, by these names.
fn files_of(folder: &str) -> anyhow::Result<Vec<(String, String)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading the folder {folder}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_key = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if entry.file_type()?.is_file() && is_key {
            files.push((name, entry.path().display().to_string()));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: &str) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {path}"))
}

fn unquoted(text: &str) -> &str {
    let within = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(literals: &[&str]) -> Data {
        let from_literal = literals.iter().map(|&literal| literal.to_owned()).collect();
        Data { from_literal, from_file: Vec::new(), from_env_file: Vec::new() }
    }

    #[test]
    fn values_of_the_command_line() {
        let values = data(&["a=1", "b=x=y", "c=\"q\"", "d="]).read().unwrap();
        let texts: Vec<_> =
            values.iter().map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(v))).collect();
        assert_eq!(texts, ["a=1", "b=x=y", "c=q", "d="]);
        assert!(data(&["a"]).read().is_err() && data(&["=a"]).read().is_err());
        let twice = data(&["a=1", "a=2"]).read().unwrap_err().to_string();
        assert_eq!(twice, "cannot add key \"a\", another key by that name already exists");
    }

    #[test]
    fn values_of_files_folders_and_lists() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(path("conf")).unwrap();
        fs::create_dir(path("conf/inner")).unwrap();
        fs::write(path("conf/a.txt"), "A").unwrap();
        fs::write(path("conf/no key"), "-").unwrap();
        fs::write(path("list.env"), "# note\n\nX=1=2\r\nY=\n").unwrap();
        let data = Data {
            from_literal: Vec::new(),
            from_file: vec![path("conf"), format!("k={}", path("conf/a.txt"))],
            from_env_file: vec![path("list.env")],
        };
        let values = data.read().unwrap();
        let texts: Vec<_> =
            values.iter().map(|(k, v)| format!("{k}={}", String::from_utf8_lossy(v))).collect();
        assert_eq!(texts, ["X=1=2", "Y=", "a.txt=A", "k=A"]);
        let missing = Data { from_file: vec![path("none")], ..data };
        assert!(missing.read().unwrap_err().to_string().contains("none"));
    }
}
