//! `ironmesh proxy-config clusters`: over which endpoints a proxy balances.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ironmesh_model::policy::TrafficPolicy;
use ironmesh_model::service::Protocol;
use ironmesh_model::settings::OutboundPolicy;
use ironmesh_model::{ListenerKind, Name, Resource, Target};
use ironmesh_proxy::dump::{Dump, HeldGroup};
use serde::Serialize;

use super::admin::Proxy;
use super::{Format, cluster_name, destination_rules, tell_left_out};
use crate::cli::Context;
use crate::output::table::Columns;

/// Show the clusters of the proxy of a pod: ports of services, and their subsets, that it balances over.
///
/// There is one for each destination that the workload has called, and those that its routes name; a
/// host that it never called is not there.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config clusters deploy/productpage-v1
  ironmesh proxy-config cluster productpage-v1-6b746f74dc-abcde.default --fqdn reviews --subset v1
  ironmesh proxy-config clusters deploy/reviews-v1 --direction inbound -o json")]
pub(crate) struct Clusters {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    pod: String,
    /// Only those whose host contains this.
    #[arg(long, value_name = "HOST")]
    fqdn: Option<String>,
    /// Only those of this port.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only those of this direction.
    #[arg(long, value_name = "DIRECTION")]
    direction: Option<Direction>,
    /// Only those of this subset.
    #[arg(long, value_name = "SUBSET")]
    subset: Option<String>,
    /// How they are shown.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Direction {
    Inbound,
    Outbound,
}

/// A cluster, as JSON shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: String,
    fqdn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subset: Option<Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    /// As Envoy names it: endpoints that the control plane tells, the address that was dialled, or none.
    #[serde(rename = "type")]
    kind: &'static str,
    destination_rules: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<Protocol>,
    /// How an endpoint is chosen, as Envoy names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    lb_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_policy: Option<TrafficPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<usize>,
}

impl Clusters {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let proxy = Proxy::find(&self.pod, context).await?;
        let dump = proxy.dump(Some("groups,linked,resolution,settings,listeners")).await?;
        let mut clusters = clusters(&dump);
        clusters.retain(|cluster| self.wants(cluster));
        self.output.write(&table(&clusters), &clusters)?;
        tell_left_out(&dump);
        Ok(ExitCode::SUCCESS)
    }

    fn wants(&self, cluster: &Cluster) -> bool {
        self.fqdn.as_ref().is_none_or(|fqdn| cluster.fqdn.contains(&**fqdn))
            && self.port.is_none_or(|port| cluster.port == Some(port))
            && self.direction.is_none_or(|direction| cluster.direction == Some(direction))
            && self.subset.as_ref().is_none_or(|subset| cluster.subset.as_deref() == Some(subset))
    }
}

fn clusters(dump: &Dump) -> Vec<Cluster> {
    let inbound =
        dump.linked.iter().filter_map(|linked| match (&linked.key.target, &linked.applies) {
            (Target::Address(_, port), Some(applies))
                if linked.key.listener == ListenerKind::Inbound && *port != 0 =>
            {
                Some(Cluster {
                    name: format!("inbound|{port}||"),
                    fqdn: applies
                        .service
                        .as_ref()
                        .map(|s| s.hostname.to_string())
                        .unwrap_or_default(),
                    port: Some(*port),
                    direction: Some(Direction::Inbound),
                    protocol: Some(applies.protocol),
                    ..Cluster::of("ORIGINAL_DST")
                })
            }
            _ => None,
        });
    let mut clusters: Vec<Cluster> = inbound.collect();
    clusters.extend(elsewhere(dump));
    clusters.extend(dump.groups.iter().map(|group| outbound(dump, group)));
    clusters
}

/// Where what nobody knows goes: no gateway has that.
fn elsewhere(dump: &Dump) -> Option<Cluster> {
    let (name, kind) = unknown(dump)?;
    Some(Cluster { name: name.to_owned(), fqdn: name.to_owned(), ..Cluster::of(kind) })
}

/// The name and type of Istio's cluster for what nobody knows.
pub(super) fn unknown(dump: &Dump) -> Option<(&'static str, &'static str)> {
    let bodies = || dump.resources.iter().filter_map(|resource| resource.body.as_ref());
    let is_gateway = bodies().any(|body| matches!(body, Resource::Listeners(_)));
    let policy = bodies().find_map(|body| match body {
        Resource::Settings(settings) => Some(settings.outbound_policy),
        _ => None,
    })?;
    let cluster = match policy {
        OutboundPolicy::AllowAny => ("PassthroughCluster", "ORIGINAL_DST"),
        OutboundPolicy::RegistryOnly => ("BlackHoleCluster", "STATIC"),
    };
    (!is_gateway).then_some(cluster)
}

fn outbound(dump: &Dump, group: &HeldGroup) -> Cluster {
    let HeldGroup { service, port, subset, .. } = group;
    Cluster {
        name: cluster_name(*port, subset.as_deref(), &service.hostname),
        fqdn: service.hostname.to_string(),
        port: Some(*port),
        subset: subset.clone(),
        direction: Some(Direction::Outbound),
        destination_rules: destination_rules(dump, service),
        protocol: Some(group.protocol),
        lb_policy: Some(group.traffic.balancer().envoy_name()),
        traffic_policy: Some(group.traffic.clone()),
        endpoints: Some(group.endpoints),
        ready: Some(group.ready),
        ..Cluster::of(if group.headless { "ORIGINAL_DST" } else { "EDS" })
    }
}

impl Cluster {
    fn of(kind: &'static str) -> Self {
        Self {
            name: String::new(),
            fqdn: String::new(),
            port: None,
            subset: None,
            direction: None,
            kind,
            destination_rules: Vec::new(),
            protocol: None,
            lb_policy: None,
            traffic_policy: None,
            endpoints: None,
            ready: None,
        }
    }
}

fn table(clusters: &[Cluster]) -> String {
    let mut columns = Columns::default();
    columns.push(["SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"]);
    for cluster in clusters {
        columns.push([
            cluster.fqdn.clone(),
            cluster.port.map_or_else(|| "-".to_owned(), |port| port.to_string()),
            cluster.subset.as_deref().unwrap_or("-").to_owned(),
            match cluster.direction {
                Some(Direction::Inbound) => "inbound".to_owned(),
                Some(Direction::Outbound) => "outbound".to_owned(),
                None => "-".to_owned(),
            },
            cluster.kind.to_owned(),
            cluster.destination_rules.join(","),
        ]);
    }
    columns.take_text()
}
