//! `ironmesh kubeconfig`: how a real `kubectl`, and whatever else speaks to Kubernetes, reaches the mesh.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::Args;
use serde_json::json;

use crate::cli::Context;
use crate::output::yaml::to_yaml;
use crate::verb::text;

/// Print a kubeconfig, with which a real kubectl works on this mesh.
///
/// The API is served over TLS on the mesh's own address of the loopback, to who has the token in this
/// file; the token is kept with the state of the mesh, and is another one at each start without `--state`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh kubeconfig > ~/.kube/ironmesh
  KUBECONFIG=~/.kube/ironmesh kubectl get pods
  kubectl --kubeconfig <(ironmesh kubeconfig) get pods")]
pub(crate) struct Kubeconfig {}

impl Kubeconfig {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let way = context.api().get("/ironmesh/kubeconfig").await?;
        let server = way["server"].as_str().context("the mesh serves its API on no port")?;
        let name = &context.mesh;
        let mut choice = json!({"cluster": name, "user": name});
        if let Some(namespace) = &context.namespace {
            choice["namespace"] = namespace.as_str().into();
        }
        let anchors = BASE64_STANDARD.encode(text(&way, "/anchors"));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": anchors},
            }],
            "users": [{"name": name, "user": {"token": way["token"]}}],
            "contexts": [{"name": name, "context": choice}],
            "current-context": name,
        });
        stdout().write_all(to_yaml(&config)?.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }
}
