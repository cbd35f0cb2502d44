//! `ironmesh config`: which mesh is meant where nothing names one.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::start_command;
use crate::cli::Context;
use crate::contexts::{self, Contexts};
use crate::output::Output;
use crate::output::table::Columns;
use crate::say;
use crate::verb::get::print_objects;
use crate::verb::kubeconfig::config;

/// Choose the mesh that commands mean: a mesh is a context.
///
/// `--context` beats `--mesh`, that beats IRONMESH_MESH, and that beats what is chosen here.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh config get-contexts                 which meshes run, and which one is meant
  ironmesh config use-context second
  ironmesh config current-context
  ironmesh config view                         the kubeconfig of the meshes that run
  ironmesh config unset current-context
  ironmesh --context first get pods            for one command")]
pub(crate) struct Config {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Let commands mean this mesh.
    #[command(visible_alias = "use")]
    #[command(after_help = "Example:\n  ironmesh config use-context second")]
    UseContext {
        /// Name of the mesh, which must run; `default` need not.
        name: String,
    },
    /// List the meshes that run, and the one that is meant.
    #[command(after_help = "Example:\n  ironmesh config get-contexts -o name")]
    GetContexts {
        /// Only these.
        names: Vec<String>,
        /// name for the names alone, json for everything.
        #[arg(short, long, value_parser = ["name", "json"], value_name = "FORMAT")]
        output: Option<String>,
        /// Leave out the head of the table.
        #[arg(long)]
        no_headers: bool,
    },
    /// Show the meshes that run as a kubeconfig, without what is secret in it.
    #[command(after_help = "Examples:
  ironmesh config view
  ironmesh config view --minify -o jsonpath='{..namespace}'")]
    View {
        /// yaml, json, jsonpath=TEMPLATE.
        #[arg(short, long, default_value = "yaml", value_name = "FORMAT")]
        output: Output,
        /// Only the mesh that is meant.
        #[arg(long)]
        minify: bool,
        /// With tokens and certificates.
        #[arg(long)]
        raw: bool,
    },
    /// Take back what was chosen.
    #[command(after_help = "Examples:
  ironmesh config unset current-context
  ironmesh config unset contexts.second.namespace")]
    Unset {
        /// current-context, or contexts.NAME.namespace.
        property: String,
    },
    /// Print the name of the mesh that is meant.
    #[command(after_help = "Example:\n  ironmesh config current-context")]
    CurrentContext,
    /// Set the namespace that commands mean in a mesh.
    #[command(after_help = "Example:\n  ironmesh config set-context --current --namespace=shop")]
    SetContext {
        /// Name of the mesh.
        name: Option<String>,
        /// The mesh that is meant now.
        #[arg(long, conflicts_with = "name")]
        current: bool,
    },
}

impl Config {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mut contexts = Contexts::load()?;
        let mut out = stdout().lock();
        match self.what {
            What::UseContext { name } => {
                contexts::check_name(&name)?;
                // As kubectl has it: a slip would else be found out by the next command only.
                ensure!(
                    name == contexts::DEFAULT_MESH || contexts::running()?.contains(&name),
                    "no context exists with the name: {name:?}; a mesh is a context, which `{}` starts{}",
                    start_command(&name),
                    contexts::others()
                );
                contexts.current = Some(name.clone());
                contexts.save()?;
                writeln!(out, "Switched to context {name:?}.")?;
            }
            What::CurrentContext => writeln!(out, "{}", context.chosen(&contexts)?)?,
            What::SetContext { name, current } => {
                let name = match name {
                    Some(name) => name,
                    None if current => context.chosen(&contexts)?,
                    None => bail!("say which context: its name, or --current"),
                };
                contexts::check_name(&name)?;
                let Some(namespace) = &context.namespace else {
                    bail!("say what to set: --namespace=NAME");
                };
                match &**namespace {
                    "" | "default" => contexts.namespaces.remove(&name),
                    namespace => contexts.namespaces.insert(name.clone(), namespace.to_owned()),
                };
                contexts.save()?;
                writeln!(out, "Context {name:?} modified.")?;
            }
            What::View { output, minify, raw } => {
                let view = crate::runtime()?.block_on(view(context, &contexts, minify, raw))?;
                drop(out);
                print_objects(vec![view], true, &output)?;
            }
            What::Unset { property } => {
                contexts.unset(&property)?;
                contexts.save()?;
                writeln!(out, "Property {property:?} unset.")?;
            }
            What::GetContexts { names, output, no_headers } => {
                let current = context.chosen(&contexts)?;
                let known = known(&contexts, &current, &names)?;
                match output.as_deref() {
                    Some("name") => {
                        for context in &known {
                            writeln!(out, "{}", context.name)?;
                        }
                    }
                    Some(_) => writeln!(out, "{:#}", serde_json::to_value(&known)?)?,
                    None => write!(out, "{}", table(&known, !no_headers))?,
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The kubeconfigs of the meshes that run, as one.
async fn view(
    context: &Context,
    contexts: &Contexts,
    only_current: bool,
    raw: bool,
) -> anyhow::Result<Value> {
    let current = context.chosen(contexts)?;
    let mut whole = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [],
        "contexts": [],
        "current-context": current,
        "users": [],
    });
    let all = known(contexts, &current, &[])?.into_iter();
    for known in all.filter(|known| known.running && (known.current || !only_current)) {
        let Known { name, namespace, .. } = known;
        let mut choice = json!({ "cluster": name, "user": name });
        if let Some(namespace) = &namespace {
            choice["namespace"] = namespace.as_str().into();
        }
        push(&mut whole["contexts"], json!({ "name": name, "context": choice }));
        let mut config = match config(&context.api_of(&name), &name, None).await {
            Ok(config) => config,
            // It may have ended meanwhile, or be reached by this command alone.
            Err(error) => {
                say::notice(&format!("mesh {name:?}: {error:#}"));
                continue;
            }
        };
        if !raw {
            config["clusters"][0]["cluster"]["certificate-authority-data"] = OMITTED.into();
            config["users"][0]["user"]["token"] = REDACTED.into();
        }
        for list in ["clusters", "users"] {
            push(&mut whole[list], config[list][0].take());
        }
    }
    Ok(whole)
}

fn push(list: &mut Value, item: Value) {
    if let Value::Array(list) = list {
        list.push(item);
    }
}

/// What stands for a secret, as kubectl writes it.
const REDACTED: &str = "REDACTED";
/// What stands for certificates, as kubectl writes it.
const OMITTED: &str = "DATA+OMITTED";

/// A context that there is.
#[derive(Debug, Serialize)]
struct Known {
    name: String,
    current: bool,
    running: bool,
    namespace: Option<String>,
}

/// The meshes that run and the one that is meant; only those of some names, if any are given.
fn known(contexts: &Contexts, current: &str, names: &[String]) -> anyhow::Result<Vec<Known>> {
    let running = contexts::running()?;
    let mut all = running.clone();
    if !all.iter().any(|name| name == current) {
        all.push(current.to_owned());
        all.sort();
    }
    for name in names {
        ensure!(all.contains(name), "context {name} not found: no such mesh runs");
    }
    all.retain(|name| names.is_empty() || names.contains(name));
    let known = |name: String| Known {
        current: name == current,
        running: running.contains(&name),
        namespace: contexts.namespaces.get(&name).cloned(),
        name,
    };
    Ok(all.into_iter().map(known).collect())
}

fn table(known: &[Known], with_head: bool) -> String {
    let mut columns = Columns::default();
    if with_head {
        columns.push(["CURRENT", "NAME", "CLUSTER", "AUTHINFO", "NAMESPACE"]);
    }
    for Known { name, current, running, namespace } in known {
        let mark = if *current { "*" } else { "" };
        // Of a mesh that does not run there is only the name.
        let cluster = if *running { name } else { "" };
        columns.push([mark, name, cluster, cluster, namespace.as_deref().unwrap_or_default()]);
    }
    columns.take_text()
}
