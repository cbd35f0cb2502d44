//! `ironmesh proxy-config`: what one proxy holds, asked of the proxy itself.

mod admin;
pub(crate) mod endpoints;

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::Context;
use crate::output::table::Columns;
use crate::verb::{pods_of, text};

/// Show what the proxy of a pod holds.
#[derive(Debug, Args)]
#[command(
    visible_alias = "pc",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
#[command(after_help = "Examples:
  ironmesh proxy-config productpage-v1-6b746f74dc-abcde
  ironmesh proxy-config endpoints deploy/productpage-v1
  ironmesh proxy-config deploy/productpage-v1 -o json
  ironmesh proxy-config deploy/istio-ingressgateway.istio-system
  ironmesh proxy-config deploy/reviews-v1 --metrics")]
pub(crate) struct ProxyConfig {
    #[command(subcommand)]
    part: Option<Part>,
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    #[arg(required = true)]
    pod: Option<String>,
    /// json for everything, bodies of resources included.
    #[arg(short, long, value_parser = ["json"], value_name = "FORMAT")]
    output: Option<String>,
    /// The proxy's metrics instead, in Prometheus' format.
    #[arg(long, conflicts_with_all = ["path", "output"])]
    metrics: bool,
    /// Any other path of the proxy's admin API instead, such as /certs.
    #[arg(long, value_name = "PATH", conflicts_with = "output")]
    path: Option<String>,
}

/// A part of it.
#[derive(Debug, Subcommand)]
enum Part {
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints(endpoints::Endpoints),
}

impl ProxyConfig {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        if let Some(Part::Endpoints(endpoints)) = self.part {
            return endpoints.run(context).await;
        }
        let (pod, namespace) = split(&self.pod.unwrap_or_default(), context);
        let pods = pods_of(&context.api(), &namespace, &pod).await?;
        let pod = text(&pods[0], "/metadata/name");
        let path = match &self.path {
            Some(path) => path,
            None if self.metrics => "/stats/prometheus",
            None => "/config_dump",
        };
        let body = admin::get(&context.mesh, &namespace, pod, path).await?;
        let mut out = stdout().lock();
        if self.metrics || self.path.is_some() {
            out.write_all(&body)?;
            return Ok(ExitCode::SUCCESS);
        }
        let dump: Value =
            serde_json::from_slice(&body).context("the proxy's answer is not JSON")?;
        if self.output.is_some() {
            writeln!(out, "{dump:#}")?;
        } else {
            write!(out, "{}", table(&dump))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `POD.NAMESPACE`, or a pod of the namespace in use.
pub(crate) fn split(word: &str, context: &Context) -> (String, String) {
    match word.rsplit_once('.') {
        Some((pod, namespace)) if context.namespace.is_none() => {
            (pod.to_owned(), namespace.to_owned())
        }
        _ => (word.to_owned(), context.namespace().to_owned()),
    }
}

fn table(dump: &Value) -> String {
    let mut columns = Columns::default();
    columns.push(["KIND", "KEY", "VERSION"]);
    for resource in dump["resources"].as_array().into_iter().flatten() {
        columns.push([text(resource, "/kind"), text(resource, "/key"), text(resource, "/version")]);
    }
    columns.take_text()
}
