//! `ironmesh proxy-config`: what one proxy holds, asked of the proxy itself.

pub(crate) mod admin;
mod clusters;
pub(crate) mod endpoints;
mod listeners;
mod log;
mod routes;
mod secret;

use std::collections::BTreeSet;
use std::io::{Write, stdout};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ironmesh_model::resource::Resolution;
use ironmesh_model::{ObjectId, Resource, ServiceId};
use ironmesh_proxy::dump::Dump;
use serde::Serialize;

use crate::cli::Context;
use crate::output::table::Columns;
use crate::output::yaml::to_yaml;
use crate::say;
use admin::Proxy;

/// Show what the proxy of a pod holds.
///
/// The proxy itself is asked, so that it also tells while the control plane is away. A proxy holds what
/// its workload has asked for, and no more: a host that it never called is not there. Call it, and look
/// again.
#[derive(Debug, Args)]
#[command(
    visible_alias = "pc",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
#[command(after_help = "Examples:
  ironmesh proxy-config clusters deploy/productpage-v1
  ironmesh proxy-config routes productpage-v1-6b746f74dc-abcde --name 9080 -o yaml
  ironmesh proxy-config listeners deploy/istio-ingressgateway.istio-system
  ironmesh proxy-config endpoints deploy/productpage-v1
  ironmesh proxy-config secret deploy/productpage-v1
  ironmesh proxy-config log deploy/reviews-v1 --level http:debug
  ironmesh proxy-config all deploy/productpage-v1 -o json
  ironmesh proxy-config deploy/reviews-v1 --metrics")]
pub(crate) struct ProxyConfig {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    all: All,
}

/// Show every resource that the proxy of a pod holds, with its version.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config all deploy/productpage-v1
  ironmesh proxy-config all deploy/productpage-v1 -o json")]
struct All {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    #[arg(required = true)]
    pod: Option<String>,
    /// json or yaml for everything, bodies of resources included.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
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
    #[command(visible_aliases = ["cluster", "c"])]
    Clusters(clusters::Clusters),
    #[command(visible_aliases = ["listener", "l"])]
    Listeners(listeners::Listeners),
    #[command(visible_aliases = ["route", "r"])]
    Routes(routes::Routes),
    #[command(visible_aliases = ["endpoint", "ep"])]
    Endpoints(endpoints::Endpoints),
    #[command(visible_aliases = ["secrets", "s"])]
    Secret(secret::Secret),
    #[command(visible_alias = "o")]
    Log(log::Log),
    #[command(visible_alias = "a")]
    All(All),
}

/// How it is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table.
    #[default]
    Short,
    Json,
    Yaml,
}

impl Format {
    /// Writes the table, or the entries as they are.
    fn write(self, table: &str, entries: &impl Serialize) -> anyhow::Result<()> {
        let mut out = stdout().lock();
        match self {
            Self::Short => write!(out, "{table}")?,
            Self::Json => writeln!(out, "{:#}", serde_json::to_value(entries)?)?,
            Self::Yaml => write!(out, "{}", to_yaml(&serde_json::to_value(entries)?)?)?,
        }
        Ok(())
    }
}

impl ProxyConfig {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        match self.part {
            Some(Part::Clusters(part)) => part.run(context).await,
            Some(Part::Listeners(part)) => part.run(context).await,
            Some(Part::Routes(part)) => part.run(context).await,
            Some(Part::Endpoints(part)) => part.run(context).await,
            Some(Part::Secret(part)) => part.run(context).await,
            Some(Part::Log(part)) => part.run(context).await,
            Some(Part::All(part)) => part.run(context).await,
            None => self.all.run(context).await,
        }
    }
}

impl All {
    async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let proxy = Proxy::find(&self.pod.unwrap_or_default(), context).await?;
        let path = self.path.as_deref().or(self.metrics.then_some("/stats/prometheus"));
        if let Some(path) = path {
            stdout().lock().write_all(&proxy.get(path).await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let dump = proxy.dump(None).await?;
        let mut columns = Columns::default();
        columns.push(["KIND", "KEY", "VERSION"]);
        for resource in &dump.resources {
            columns.push([&resource.kind, &resource.key, &resource.version]);
        }
        self.output.write(&columns.take_text(), &dump)?;
        tell_left_out(&dump);
        Ok(ExitCode::SUCCESS)
    }
}

/// Says so if a list is not whole.
fn tell_left_out(dump: &Dump) {
    if dump.left_out > 0 {
        say::notice(&format!(
            "{} entries found no room in the proxy's answer (limits.proxy.dump_bytes_max)",
            dump.left_out
        ));
    }
}

/// An object as istioctl names it: `NAME.NAMESPACE`.
fn object_name(id: &ObjectId) -> String {
    format!("{}.{}", id.name, id.namespace)
}

/// A group as Istio names clusters.
fn cluster_name(port: u16, subset: Option<&str>, service: &str) -> String {
    format!("outbound|{port}|{}|{service}", subset.unwrap_or_default())
}

/// The destination rules that the proxy has for a service.
fn destination_rules(dump: &Dump, service: &ServiceId) -> Vec<String> {
    let applies = dump.resources.iter().filter_map(|resource| match &resource.body {
        Some(Resource::Resolution(resolution)) => match &**resolution {
            Resolution::Present(applies) => Some(applies),
            Resolution::Absent => None,
        },
        _ => None,
    });
    let destinations = applies.flat_map(|applies| &applies.destinations);
    let of_service = destinations.filter(|it| it.service.as_ref() == Some(service));
    let names: BTreeSet<String> = of_service.flat_map(|it| &it.policies).map(object_name).collect();
    names.into_iter().collect()
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
