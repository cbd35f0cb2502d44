//! `ironmesh proxy-config listeners`: where a proxy takes connections, and those addresses of which it
//! knows what is there.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ironmesh_model::bootstrap::ListenerRole;
use ironmesh_model::policy::MtlsMode;
use ironmesh_model::resource::EVERY_PORT;
use ironmesh_model::service::Protocol;
use ironmesh_model::{ListenerKind, Target};
use ironmesh_proxy::dump::{Dump, HeldApplies};
use serde::Serialize;

use super::admin::Proxy;
use super::clusters::unknown;
use super::{Format, cluster_name, object_name, tell_left_out};
use crate::cli::Context;
use crate::output::table::Columns;

/// Show the listeners of the proxy of a pod, and the addresses that the workload has called.
///
/// Of outbound addresses there are those that the workload has called; one that it never called is not
/// there. All of them are captured at port 15001.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh proxy-config listeners deploy/productpage-v1
  ironmesh proxy-config listener deploy/productpage-v1 --port 9080 --type HTTP
  ironmesh proxy-config listeners deploy/istio-ingressgateway.istio-system -o json")]
pub(crate) struct Listeners {
    /// POD, POD.NAMESPACE, or KIND/NAME of what has pods.
    pod: String,
    /// Only those at this address.
    #[arg(long, value_name = "IP")]
    address: Option<std::net::IpAddr>,
    /// Only those of this port.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// Only those at which this is spoken; HTTP+TCP: either, as the first bytes tell.
    #[arg(long = "type", value_name = "TYPE", ignore_case = true)]
    kind: Option<Kind>,
    /// How they are shown.
    #[arg(short, long, value_name = "FORMAT", default_value = "short")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
enum Kind {
    #[value(name = "HTTP")]
    #[serde(rename = "HTTP")]
    Http,
    #[value(name = "TCP")]
    #[serde(rename = "TCP")]
    Tcp,
    #[value(name = "HTTP+TCP")]
    #[serde(rename = "HTTP+TCP")]
    Either,
}

impl Kind {
    fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Undeclared => Self::Either,
            other if other.is_http() => Self::Http,
            _ => Self::Tcp,
        }
    }
}

/// A listener, or an address behind one, as JSON shows it.
#[derive(Debug, Serialize)]
struct Entry {
    address: std::net::IpAddr,
    port: u16,
    #[serde(rename = "type")]
    kind: Kind,
    #[serde(rename = "match")]
    matches: String,
    destination: String,
}

impl Listeners {
    pub(super) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let proxy = Proxy::find(&self.pod, context).await?;
        let dump = proxy.dump(Some("linked,settings,listeners")).await?;
        let mut entries = entries(&dump);
        entries.retain(|entry| {
            self.address.is_none_or(|address| entry.address == address)
                && self.port.is_none_or(|port| entry.port == port)
                && self.kind.is_none_or(|kind| entry.kind == kind)
        });
        self.output.write(&table(&entries), &entries)?;
        tell_left_out(&dump);
        Ok(ExitCode::SUCCESS)
    }
}

fn entries(dump: &Dump) -> Vec<Entry> {
    let mut entries: Vec<Entry> = dump
        .linked
        .iter()
        .filter(|linked| linked.key.listener == ListenerKind::Outbound)
        .filter_map(|linked| match (&linked.key.target, &linked.applies) {
            (Target::Address(ip, port), Some(applies)) => Some(outbound(*ip, *port, applies)),
            _ => None,
        })
        .collect();
    for listener in &dump.listeners {
        let entry = |kind, matches: &str, destination: &str| Entry {
            address: listener.address.ip(),
            port: listener.address.port(),
            kind,
            matches: matches.to_owned(),
            destination: destination.to_owned(),
        };
        match listener.role {
            ListenerRole::Outbound => {
                let to = unknown(dump).map_or("-", |(name, _)| name);
                entries.push(entry(Kind::Either, "ALL", to));
            }
            ListenerRole::Inbound => {
                let before = entries.len();
                let inbound = dump.linked.iter().filter_map(|linked| {
                    let is_inbound = linked.key.listener == ListenerKind::Inbound;
                    match (&linked.key.target, &linked.applies) {
                        (Target::Address(_, port), Some(applies)) if is_inbound => {
                            Some((*port, applies))
                        }
                        _ => None,
                    }
                });
                for (port, applies) in inbound {
                    let kind = Kind::of(applies.protocol);
                    for (matches, destination) in behind(port, applies) {
                        entries.push(entry(kind, &matches, &destination));
                    }
                }
                if entries.len() == before {
                    let nobody = "nothing yet: nobody has called this workload";
                    entries.push(entry(Kind::Either, "ALL", nobody));
                }
            }
            ListenerRole::Admin => entries.push(entry(Kind::Http, "ALL", "Inline Route: /*")),
            ListenerRole::Metrics => {
                entries.push(entry(Kind::Http, "ALL", "Inline Route: /stats/prometheus*"));
            }
            ListenerRole::Health => {
                entries.push(entry(Kind::Http, "ALL", "Inline Route: /healthz/ready*"));
            }
            ListenerRole::Gateway(_) => {
                let route = format!("Route: http.{}", listener.address.port());
                entries.push(entry(Kind::Http, "ALL", &route));
            }
        }
    }
    entries
}

/// An address that the workload called.
fn outbound(address: std::net::IpAddr, port: u16, applies: &HeldApplies) -> Entry {
    let kind = Kind::of(applies.protocol);
    let backend = applies.default_backend.as_ref();
    let cluster = backend.map(|backend| {
        let name = cluster_name(backend.port, backend.subset.as_deref(), &backend.host);
        format!("Cluster: {name}")
    });
    let routed =
        applies.connection_routes.first().map(|route| format!("Route: {}", object_name(route)));
    let opaque = routed.or(cluster).unwrap_or_else(|| "the address itself".to_owned());
    let (matches, destination) = match kind {
        Kind::Http => ("App: HTTP", format!("Route: {port}")),
        Kind::Tcp => ("ALL", opaque),
        Kind::Either => ("App: HTTP or ALL", format!("Route: {port} or {opaque}")),
    };
    Entry { address, port, kind, matches: matches.to_owned(), destination }
}

/// A port of the workload; or all that no service serves, after those of which policies say something.
fn behind(port: u16, applies: &HeldApplies) -> Vec<(String, String)> {
    let matches = |port: &str, mode: MtlsMode| format!("Addr: *:{port}; mTLS: {}", mode.word());
    if port != EVERY_PORT {
        let cluster = format!("Cluster: inbound|{port}||");
        return vec![(matches(&port.to_string(), applies.mtls), cluster)];
    }
    let own = applies.mtls_at.iter().map(|(port, mode)| matches(&port.to_string(), *mode));
    let all = own.chain([matches("*", applies.mtls)]);
    all.map(|matches| (matches, "InboundPassthroughCluster".to_owned())).collect()
}

fn table(entries: &[Entry]) -> String {
    let mut columns = Columns::default();
    columns.push(["ADDRESSES", "PORT", "MATCH", "DESTINATION"]);
    for entry in entries {
        columns.push([
            entry.address.to_string(),
            entry.port.to_string(),
            entry.matches.clone(),
            entry.destination.clone(),
        ]);
    }
    columns.take_text()
}
