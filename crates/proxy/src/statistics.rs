//! What a proxy knows of the groups that its workload uses, in the words of Envoy's admin API, which
//! people and Istio's tasks search for: `/stats`, `/clusters`, and `envoy_cluster_...`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_model::group::{EndpointLoad, Member, Statistic};
use ironmesh_model::text_match::{BadPattern, compile_search};

use crate::process::Process;
use crate::report::{Loads, groups};
use crate::worker::Workers;
use crate::workload::LocalWorkload;

/// A group, as Envoy tells of a cluster.
#[derive(Debug)]
pub(crate) struct ClusterStatistics {
    /// `outbound|PORT|SUBSET|HOST`.
    name: String,
    statistics: Vec<Statistic>,
    endpoints: Vec<(SocketAddr, EndpointLoad, &'static str)>,
}

/// All of a workload, in order of their keys. What is open is asked of the workers, who have `longest`
/// to tell; without it nothing counts as open.
pub(crate) async fn of(
    process: &Process,
    workload: &Arc<LocalWorkload>,
    workers: Option<&Workers>,
    longest: Duration,
) -> Vec<ClusterStatistics> {
    let loads = match workers {
        Some(workers) => workers.loads(workload, longest).await.map(Loads::of),
        None => None,
    };
    let now = process.now();
    let of_group = |group: &Arc<_>| {
        let load = |address, member: &Member| {
            loads
                .as_ref()
                .map_or_else(EndpointLoad::default, |loads| loads.to(group, address, member))
        };
        let members = group.members();
        let endpoints: Vec<_> = members
            .all
            .iter()
            .filter_map(|member| {
                let address = member.address()?;
                let health = match member.endpoint.ready {
                    _ if group.is_ejected(member, now) => "/failed_outlier_check",
                    true => "healthy",
                    false => "/failed_eds_health",
                };
                Some((address, load(address, member), health))
            })
            .collect();
        let open = endpoints.iter().fold((0, 0), |(connections, requests), (_, load, _)| {
            (connections + u64::from(load.connections), requests + u64::from(load.requests))
        });
        let statistics = group.statistics(now, open);
        ClusterStatistics { name: group.cluster_name(), statistics, endpoints }
    };
    groups(workload).iter().map(of_group).collect()
}

/// As `/stats` tells it. A query of `filter=REGEX` leaves out what the expression finds nothing in, and
/// `usedonly` what never was anything but 0.
///
/// # Errors
///
/// If the expression is none.
pub(crate) fn text(
    clusters: &[ClusterStatistics],
    query: Option<&str>,
) -> Result<String, BadPattern> {
    let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let asked = |name| pairs.clone().find_map(|(key, value)| (key == name).then_some(value));
    let filter = asked("filter").map(|filter| compile_search(&filter)).transpose()?;
    let used_only = asked("usedonly").is_some();
    let mut text = String::new();
    for cluster in clusters {
        for Statistic { name, value, .. } in &cluster.statistics {
            let line = format!("cluster.{}.{name}", cluster.name);
            let is_asked = filter.as_ref().is_none_or(|filter| filter.is_match(&line));
            if is_asked && (*value > 0 || !used_only) {
                // Writing to a text does not fail.
                let _ = writeln!(text, "{line}: {value}");
            }
        }
    }
    Ok(text)
}

/// As `/clusters` tells it.
pub(crate) fn endpoints(clusters: &[ClusterStatistics]) -> String {
    let mut text = String::new();
    for ClusterStatistics { name, endpoints, .. } in clusters {
        for (address, load, health) in endpoints {
            for (what, value) in [
                ("cx_active", load.connections.to_string()),
                ("rq_active", load.requests.to_string()),
                ("health_flags", (*health).to_owned()),
            ] {
                // As above.
                let _ = writeln!(text, "{name}::{address}::{what}::{value}");
            }
        }
    }
    text
}

/// As Prometheus reads it: a piece of text for each name.
pub(crate) fn prometheus(clusters: &[ClusterStatistics]) -> Vec<String> {
    let mut families: BTreeMap<&str, String> = BTreeMap::new();
    for cluster in clusters {
        for Statistic { name, is_counter, value } in &cluster.statistics {
            let family = format!("envoy_cluster_{}", name.replace('.', "_"));
            let text = families.entry(name).or_insert_with(|| {
                let kind = if *is_counter { "counter" } else { "gauge" };
                format!("# TYPE {family} {kind}\n")
            });
            // As above.
            let _ = writeln!(text, "{family}{{cluster_name=\"{}\"}} {value}", cluster.name);
        }
    }
    families.into_values().collect()
}
