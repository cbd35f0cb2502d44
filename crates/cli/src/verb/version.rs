//! `ironmesh version`.

use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::Args;
use ironmesh_control::api::ProxyItem;
use serde_json::{Value, json};

use crate::api::{Api, ApiError};
use crate::cli::Context;
use crate::program::Program;
use crate::verb::text;

/// Print the version of this command, and of the running mesh.
///
/// Called as istioctl or ironmesh it prints what istioctl does: how this command was built, then the
/// versions of client, control plane and proxies; called as kubectl, the versions of client and server.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh version
  ironmesh version --short
  ironmesh version -o json
  ironmesh version --client")]
pub(crate) struct Version {
    /// This command only; needs no mesh.
    #[arg(long)]
    client: bool,
    /// Whether to ask the mesh, too.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    remote: bool,
    /// Leave out how this command was built.
    #[arg(short, long, default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    short: bool,
    /// json for everything.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
}

/// What is known of a running mesh.
struct Mesh {
    /// `GET /version`.
    server: Value,
    proxies: Vec<ProxyItem>,
}

impl Version {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let mesh = match self.remote && !self.client {
            true => Mesh::ask(&context.api()).await?,
            false => None,
        };
        let lines = match (Program::called(), self.output.is_some()) {
            (Program::Kubectl, true) => format!("{:#}\n", kubectl_json(mesh.as_ref())),
            (Program::Kubectl, false) => kubectl_lines(mesh.as_ref()),
            (_, true) => format!("{:#}\n", istioctl_json(mesh.as_ref())),
            (_, false) => self.istioctl_lines(mesh.as_ref()),
        };
        stdout().write_all(lines.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    }

    fn istioctl_lines(&self, mesh: Option<&Mesh>) -> String {
        let mut lines = String::new();
        if !self.short {
            lines += &format!(
                "Version: {VERSION}\nGitRevision: {REVISION}\nGitBranch: {BRANCH}\nUser: {BUILDER}\n\
                 GolangVersion: none (Rust {RUST})\n"
            );
        }
        lines += &format!("client version: {VERSION}\n");
        match mesh {
            Some(mesh) => {
                let proxies = match mesh.proxies.len() {
                    0 => "none".to_owned(),
                    1 => format!("{VERSION} (1 proxy)"),
                    many => format!("{VERSION} ({many} proxies)"),
                };
                lines +=
                    &format!("control plane version: {VERSION}\ndata plane version: {proxies}\n");
            }
            None if self.remote && !self.client => {
                lines += "control plane version: none, no mesh is running\n";
            }
            None => {}
        }
        lines
    }
}

impl Mesh {
    /// What a mesh says of itself; `None` if none is running.
    async fn ask(api: &Api) -> anyhow::Result<Option<Self>> {
        let server = match api.get("/version").await {
            Err(ApiError::NotRunning { .. }) => return Ok(None),
            server => server?,
        };
        let proxies = serde_json::from_value(api.get("/ironmesh/proxies").await?)?;
        Ok(Some(Self { server, proxies }))
    }
}

fn kubectl_lines(mesh: Option<&Mesh>) -> String {
    let server = mesh.map_or_else(String::new, |mesh| {
        format!("Server Version: {}\n", text(&mesh.server, "/gitVersion"))
    });
    format!("Client Version: v{VERSION}\n{server}")
}

fn kubectl_json(mesh: Option<&Mesh>) -> Value {
    let mut versions = json!({"clientVersion": {
        "major": env!("CARGO_PKG_VERSION_MAJOR"),
        "minor": env!("CARGO_PKG_VERSION_MINOR"),
        "gitVersion": format!("v{VERSION}"),
        "gitCommit": REVISION,
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    }});
    if let Some(mesh) = mesh {
        versions["serverVersion"] = mesh.server.clone();
    }
    versions
}

fn istioctl_json(mesh: Option<&Mesh>) -> Value {
    let build = json!({
        "version": VERSION,
        "revision": REVISION,
        "golang_version": "none",
        "rust_version": RUST,
        "status": BRANCH,
        "tag": VERSION,
    });
    let mut versions = json!({"clientVersion": build});
    if let Some(mesh) = mesh {
        versions["meshVersion"] = json!([{"Component": "pilot", "Info": build}]);
        let proxies = mesh.proxies.iter().map(|proxy| {
            json!({"ID": format!("{}.{}", proxy.name, proxy.namespace), "IstioVersion": VERSION})
        });
        versions["dataPlaneVersion"] = proxies.collect();
    }
    versions
}

/// Control plane and proxies are this binary, too.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The Rust that it needs.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");
/// What whoever builds a release says of it in the environment.
const REVISION: &str = match option_env!("IRONMESH_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
const BRANCH: &str = match option_env!("IRONMESH_BRANCH") {
    Some(branch) => branch,
    None => "unknown",
};
const BUILDER: &str = match option_env!("IRONMESH_BUILDER") {
    Some(builder) => builder,
    None => "unknown",
};
