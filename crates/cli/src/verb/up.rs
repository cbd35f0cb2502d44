//! `ironmesh up`: starts a mesh on this machine.

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ironmesh_local::agent_api::Client;
use ironmesh_local::{self as local, Apply, External, UpOptions};
use ironmesh_model::Severity;
use ironmesh_model::limits::{Limits, PlatformLimits};
use ironmesh_model::settings::{Setting, Settings, parse_duration};
use serde_json::json;

use crate::api::Api;
use crate::cli::Context;
use crate::say;
use crate::source::{self, Home, Loaded};
use crate::target;
use crate::verb::apply::apply;
use crate::verb::exit;
use crate::verb::image::mappings;
use crate::verb::settings::check;

/// Start a mesh on this machine, and apply manifests to it.
///
/// Without paths the mesh has Bookinfo and its gateway in the namespace default, which is labelled
/// for injection. Stays in the foreground; Ctrl-C ends everything.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh up                                   Bookinfo; says where its page is
  ironmesh up app.yaml routes/                  your own manifests
  ironmesh up --empty --detach                  nothing yet, in the background
  ironmesh up --set accessLogEncoding=JSON --set mtlsMode=STRICT
  ironmesh up --set limits.proxy.head_bytes_max=128KiB
  ironmesh up --external hello.example.com=127.131.7.9:80
  ironmesh up --image 'example.com/shop:*=/usr/local/bin/shop --port 80' shop.yaml")]
pub(crate) struct Up {
    /// Files and directories with manifests; - for standard input.
    #[arg(value_name = "PATH", conflicts_with = "empty")]
    paths: Vec<String>,
    /// Start without Bookinfo.
    #[arg(long)]
    empty: bool,
    /// Return when everything is ready; end the mesh with `ironmesh down`. The exit code is 1 if
    /// something is not ready and nothing has become so for limits.platform.progress_timeout (30 s);
    /// the mesh runs on then. Pods that wait for you, such as for the command of an image, are named
    /// and do not count. Where the mesh runs already, it waits for what is applied to it.
    #[arg(short, long)]
    detach: bool,
    /// Keep objects, CA and external names in this directory over restarts, and logs for as long as the mesh runs.
    /// One mesh can use it at a time.
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Let nothing out of the mesh: no connection and no question for a name.
    #[arg(long, conflicts_with = "external")]
    no_egress: bool,
    /// Let a name lead to an address of this machine's network in pods: its port, 80 if none is given,
    /// reaches the address. May be given several times; `ironmesh external` changes it later.
    #[arg(long, value_name = "NAME[:PORT]=ADDRESS:PORT")]
    external: Vec<External>,
    /// A setting or limit of the mesh (`ironmesh settings` lists them), by MeshConfig's name where
    /// it has one; may be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// The command that stands for images whose name matches; may be given several times. So do lines
    /// `NAME: COMMAND` of an images.yaml beside the manifests; `ironmesh image map` changes it later.
    #[arg(long = "image", value_name = "PATTERN=COMMAND")]
    images: Vec<String>,
}

impl Up {
    /// Starts the mesh; returns when it has ended, or with `--detach` when it is ready.
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (mut settings, mut limits) = (Settings::default(), Limits::default());
        for setting in &self.settings {
            let (name, value) = setting
                .split_once('=')
                .with_context(|| format!("--set {setting:?} is not NAME=VALUE"))?;
            if name.starts_with(Limits::PREFIX) {
                limits.set(name, value)?;
            } else {
                settings.set(name, value)?;
            }
        }
        check(&settings)?;
        // Files are read now: what is missing shall be said before anything is started.
        let given = source::load(&self.paths, false)?;
        let images = mappings(&self.images, &self.paths)?;
        if let Ok(agent) = context.agent() {
            return self.join(context, agent, given, images);
        }
        let bookinfo = self.paths.is_empty() && !self.empty;
        let loaded = if bookinfo { built_in() } else { given };
        let mesh = context.mesh.clone();
        let namespace = context.namespace.clone();
        let hook: Apply = Box::new(move |socket| {
            let api = Api::of_socket(&mesh, socket);
            let applied = crate::runtime().map_err(anyhow::Error::from).and_then(|runtime| {
                runtime.block_on(fill(&api, loaded, namespace.as_deref(), bookinfo))
            });
            applied.map_err(|error| format!("{error:#}"))
        });
        let options = UpOptions {
            mesh: context.mesh.clone(),
            state: self.state,
            egress: !self.no_egress,
            externals: self.external,
            settings,
            limits,
            images,
            detach: self.detach,
            apply: Some(hook),
            page: page(bookinfo).to_owned(),
            ..UpOptions::default()
        };
        Ok(local::up(options)?)
    }

    /// Applies what is given to a mesh that runs already.
    fn join(
        self,
        context: &Context,
        agent: Client,
        given: Loaded,
        images: Vec<String>,
    ) -> anyhow::Result<ExitCode> {
        let mesh = &context.mesh;
        say::notice(&format!(
            "mesh {mesh:?} runs already: what is given is applied to it (`ironmesh --mesh {mesh} down` \
             ends it)"
        ));
        let fixed = [
            ("--state", self.state.is_some_and(|folder| !is_kept_in(&folder, agent))),
            ("--no-egress", self.no_egress),
            ("--external", !self.external.is_empty()),
            ("--set", !self.settings.is_empty()),
        ];
        let fixed: Vec<&str> = fixed.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        if !fixed.is_empty() {
            bail!(
                "{} can be given when the mesh starts; for one that runs there are `ironmesh \
                 settings` and `ironmesh external`",
                fixed.join(", ")
            );
        }
        if !images.is_empty() {
            context.agent()?.images(images, Vec::new())?;
        }
        let api = context.api();
        let bookinfo = self.paths.is_empty() && !self.empty;
        crate::runtime()?.block_on(async {
            if !(given.objects.is_empty() && given.problems.is_empty()) {
                let workloads = Workloads::of(&given, context.home());
                let failed = apply(&api, given, context.home()).await?;
                workloads.say_bare(&api).await?;
                if failed {
                    return Ok(exit(failed));
                }
            }
            if !self.detach {
                return Ok(ExitCode::SUCCESS);
            }
            let longest = progress_timeout(&api).await?;
            let is_ready = local::await_ready(mesh, page(bookinfo), longest).await;
            Ok(exit(!is_ready))
        })
    }
}

/// Whether this is the folder of a mesh's state, in which its logs are.
fn is_kept_in(folder: &Path, agent: Client) -> bool {
    let Ok(status) = agent.status() else { return false };
    folder.canonicalize().is_ok_and(|folder| folder.join("logs") == status.log_directory)
}

/// The path at the gateway that is worth a look.
fn page(bookinfo: bool) -> &'static str {
    if bookinfo { "/productpage" } else { "/" }
}

/// How long a mesh that runs may make no progress.
async fn progress_timeout(api: &Api) -> anyhow::Result<Duration> {
    let rows: Vec<Setting> = serde_json::from_value(api.get("/ironmesh/settings").await?)?;
    let name = "limits.platform.progress_timeout";
    let row = rows.iter().find(|row| row.name == name);
    let timeout = row.and_then(|row| parse_duration(&row.value));
    Ok(timeout.unwrap_or(PlatformLimits::default().progress_timeout))
}

/// Bookinfo and its gateway.
fn built_in() -> Loaded {
    let mut loaded = Loaded::default();
    loaded.add("bookinfo.yaml", include_str!("../../../../samples/bookinfo/bookinfo.yaml"));
    loaded.add("gateway.yaml", include_str!("../../../../samples/bookinfo/gateway.yaml"));
    loaded
}

/// Applies the manifests to a mesh that has just begun to answer.
async fn fill(
    api: &Api,
    loaded: Loaded,
    namespace: Option<&str>,
    bookinfo: bool,
) -> anyhow::Result<()> {
    let notices = api.get("/ironmesh/notices").await?;
    for notice in notices.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str) {
        say::notice(&format!("{} {notice}", say::severity(Severity::Warning)));
    }
    if bookinfo {
        let namespaces = target::resource("namespaces")?;
        let label = json!({ "metadata": { "labels": { "istio-injection": "enabled" } } });
        api.merge(&namespaces.path(None, Some(namespace.unwrap_or("default"))), &label).await?;
        writeln!(stdout(), "namespace/{} labeled", namespace.unwrap_or("default"))?;
    }
    let home = Home::asked_for(namespace);
    let workloads = Workloads::of(&loaded, home);
    if apply(api, loaded, home).await? {
        bail!("not every manifest could be applied");
    }
    workloads.say_bare(api).await
}

/// The namespaces of manifests' workloads that say nothing of sidecars themselves.
#[derive(Debug, Default, PartialEq, Eq)]
struct Workloads {
    namespaces: BTreeSet<String>,
}

impl Workloads {
    fn of(loaded: &Loaded, home: Home<'_>) -> Self {
        let silent = loaded.objects.iter().filter(|manifest| {
            let place = match manifest.kind() {
                "Pod" => "/metadata",
                "Deployment"
                | "ReplicaSet"
                | "StatefulSet"
                | "DaemonSet"
                | "ReplicationController" => "/spec/template/metadata",
                _ => return false,
            };
            let metadata = manifest.value().pointer(place);
            ["labels", "annotations"]
                .into_iter()
                .all(|of| metadata.is_none_or(|metadata| metadata[of][INJECT].is_null()))
        });
        // One that cannot be applied is said by `apply`.
        let namespaces = silent.filter_map(|manifest| manifest.namespace(home).ok().flatten());
        Self { namespaces: namespaces.collect() }
    }

    /// Says of which namespaces pods get no sidecar, and how they would.
    async fn say_bare(&self, api: &Api) -> anyhow::Result<()> {
        let namespaces = target::resource("namespaces")?;
        for name in &self.namespaces {
            let namespace = match api.get(&namespaces.path(None, Some(name))).await {
                Err(error) if error.is_not_found() => continue,
                namespace => namespace?,
            };
            let labels = &namespace["metadata"]["labels"];
            let is_injected = labels["istio-injection"] == "enabled"
                || labels["istio-injection"].is_null() && labels["istio.io/rev"].is_string();
            if !is_injected {
                say::notice(&format!(
                    "{} pods of namespace {name} have no sidecars; they get them by: ironmesh label \
                     namespace {name} istio-injection=enabled --overwrite, and: ironmesh rollout \
                     restart deployment -n {name}",
                    say::severity(Severity::Info)
                ));
            }
        }
        Ok(())
    }
}

/// Label or annotation of a pod that says whether it gets a sidecar.
const INJECT: &str = "sidecar.istio.io/inject";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifests_can_be_read() {
        let loaded = built_in();
        assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
        let count =
            |kind: &str| loaded.objects.iter().filter(|object| object.kind() == kind).count();
        assert_eq!(count("Deployment"), 6);
        assert_eq!(count("Service"), 4);
        assert_eq!(count("ServiceAccount"), 4);
        assert_eq!(count("Gateway") + count("VirtualService"), 2);
    }
}
