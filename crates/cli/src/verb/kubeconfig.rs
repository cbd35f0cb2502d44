//! `ironmesh kubeconfig`: how a real `kubectl`, and whatever else speaks to Kubernetes, reaches the mesh.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;
use serde_json::{Value, json};

use crate::api::Api;
use crate::cli::Context;
use crate::output::yaml::to_yaml;
use crate::verb::text;

/// Print a kubeconfig, with which a real kubectl works on this mesh.
///
/// The API is served over TLS on the mesh's own address of the loopback, to who has the token in this
/// file; the token is kept with the state of the mesh, and is another one at each start without `--state`.
/// What the mesh finds in objects that are written this way is said as warnings, which kubectl shows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh kubeconfig > ~/.kube/ironmesh
  KUBECONFIG=~/.kube/ironmesh kubectl get pods
  kubectl --kubeconfig <(ironmesh kubeconfig) get pods")]
pub(crate) struct Kubeconfig {}

impl Kubeconfig {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let config = config(&context.api(), &context.mesh, context.namespace.as_deref()).await?;
        stdout().write_all(to_yaml(&config)?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The kubeconfig of a mesh.
pub(crate) async fn config(
    api: &Api,
    mesh: &str,
    namespace: Option<&str>,
) -> anyhow::Result<Value> {
    let way = api.get("/ironmesh/kubeconfig").await?;
    let server = way["server"].as_str().context("the mesh serves its API on no port")?;
    let mut choice = json!({"cluster": mesh, "user": mesh});
    if let Some(namespace) = namespace {
        choice["namespace"] = namespace.into();
    }
    let anchors = BASE64_STANDARD.encode(text(&way, "/anchors"));
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": mesh,
            "cluster": {"server": server, "certificate-authority-data": anchors},
        }],
        "users": [{"name": mesh, "user": {"token": way["token"]}}],
        "contexts": [{"name": mesh, "context": choice}],
        "current-context": mesh,
    }))
}
