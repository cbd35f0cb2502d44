//! `ironmesh proxy-config endpoints`: how the endpoints stand with a proxy, asked of it through the
//! control plane.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use ironmesh_control::api::ProxyEndpoints;
use ironmesh_control::api::mesh::{EndpointState, GroupEndpoint, GroupItem};

use super::{Format, cluster_name, split};
use crate::cli::Context;
use crate::output::table::Columns;
use crate::say;
use crate::verb::{pods_of, text};

/// Show the endpoints that the proxy of a pod uses: which are ejected, and connections, requests and
/// failures of each.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config endpoints productpage-v1-6b746f74dc-abcde
  ironmesh proxy-config endpoints deploy/productpage-v1 --port 9080
  ironmesh proxy-config endpoints deploy/productpage-v1 \\
      --cluster 'outbound|9080||reviews.default.svc.cluster.local' -o json

CONNECTIONS and REQUESTS are those of the proxy to the endpoint. Clusters share them, but for those
whose DestinationRule limits connections (connectionPool).")]
pub(crate) struct Endpoints {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    pod: String,
    /// Only those of this cluster: outbound|PORT|SUBSET|HOST.
    #[arg(long, value_name = "CLUSTER")]
    cluster: Option<String>,
    /// Only those at this IP address.
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,
    /// Only those that are dialled at this port.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only healthy ones, which take requests, or only the others.
    #[arg(long, value_parser = ["healthy", "unhealthy"], value_name = "STATUS")]
    status: Option<String>,
    /// json or yaml for everything that is known.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
}

impl Endpoints {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let (pod, namespace) = split(&self.pod, context);
        let api = context.api();
        let pods = pods_of(&api, &namespace, &pod).await?;
        let pod = text(&pods[0], "/metadata/name");
        let answer = api.get(&format!("/ironmesh/proxies/{namespace}/{pod}/endpoints")).await?;
        let mut told: ProxyEndpoints =
            serde_json::from_value(answer).context("reading the answer of the control plane")?;
        if let Some(why) = told.not_known {
            bail!("the endpoints of pod {pod} are not known: {why}");
        }
        for group in &mut told.groups {
            let is_of_cluster = self.cluster.as_ref().is_none_or(|name| *name == cluster(group));
            group.endpoints.retain(|endpoint| is_of_cluster && self.wants(endpoint));
        }
        told.groups.retain(|group| !group.endpoints.is_empty());
        self.output.write(&table(&told.groups), &told)?;
        if told.left_out > 0 {
            let left_out = told.left_out;
            say::notice(&format!(
                "{left_out} endpoints found no room in the answer (limits.wire.answer_bytes_max)"
            ));
        }
        Ok(ExitCode::SUCCESS)
    }

    fn wants(&self, endpoint: &GroupEndpoint) -> bool {
        let is_healthy = endpoint.state.ready && endpoint.state.ejected_for_ms == 0;
        self.address.is_none_or(|address| endpoint.address.ip() == address)
            && self.port.is_none_or(|port| endpoint.address.port() == port)
            && self.status.as_ref().is_none_or(|status| (status == "healthy") == is_healthy)
    }
}

fn table(groups: &[GroupItem]) -> String {
    let mut columns = Columns::default();
    columns.push([
        "ENDPOINT",
        "STATUS",
        "OUTLIER CHECK",
        "CLUSTER",
        "CONNECTIONS",
        "REQUESTS",
        "FAILURES",
        "POD",
    ]);
    for group in groups {
        for GroupEndpoint { address, workload, state } in &group.endpoints {
            let outlier = match state.ejected_for_ms {
                0 => "OK".to_owned(),
                _ => format!("FAILED ({})", status(state)),
            };
            columns.push([
                address.to_string(),
                if state.ready { "HEALTHY" } else { "UNHEALTHY" }.to_owned(),
                outlier,
                cluster(group),
                count(state.connections),
                count(state.requests),
                state.failures.to_string(),
                workload.clone(),
            ]);
        }
    }
    columns.take_text()
}

/// The state of an endpoint in a few words.
pub(crate) fn status(state: &EndpointState) -> String {
    match (state.ejected_for_ms, state.ready) {
        (0, true) => "ready".to_owned(),
        (0, false) => "not ready".to_owned(),
        (ejected_for_ms, _) => {
            // Full seconds, so that it does not say 0 of one that is still ejected.
            let seconds = Duration::from_millis(ejected_for_ms).as_secs_f64().ceil();
            format!("ejected for {seconds}s")
        }
    }
}

fn cluster(group: &GroupItem) -> String {
    cluster_name(group.port, group.subset.as_deref(), &group.host)
}

/// `-`: not known.
fn count(count: Option<u32>) -> String {
    count.map_or_else(|| "-".to_owned(), |count| count.to_string())
}
