//! `ironmesh status`: what runs, in the numbering of the machine's own processes.

mod processes;

use std::io::{Write, stdout};
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ironmesh_control::api::FindingItem;
use ironmesh_local::agent_api::{self, ExposedService};
use ironmesh_local::{self as local};
use ironmesh_model::Severity;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::json;

use crate::cli::Context;
use crate::output::table::Columns;

/// Show what runs: URLs, the mesh's processes, each pod with its addresses, processes and logs, and what
/// is not ready or has crashed, with what was last reported of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh status
  ironmesh status -o json
  curl $(ironmesh status -o url)/productpage
  sudo nsenter --net --target $(ironmesh status -o json | jq '.pods[0].pid') tcpdump -ni eth0")]
pub(crate) struct Status {
    /// json for everything that is known, url for the gateway's URL alone.
    #[arg(short, long, value_parser = ["json", "url"], value_name = "FORMAT")]
    output: Option<String>,
}

impl Status {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let uid = nix::unistd::geteuid().as_raw();
        let mut status = context.agent()?.status()?;
        let up_pid = up_pid(uid, &context.mesh)?;
        let host = processes::numbering(up_pid)?;
        let translate = |pid: &mut Option<i32>| *pid = pid.and_then(|pid| host.get(&pid).copied());
        status.agent_pid = host.get(&status.agent_pid).copied().unwrap_or(status.agent_pid);
        translate(&mut status.control_pid);
        for pod in &mut status.pods {
            translate(&mut pod.pid);
            translate(&mut pod.sidecar_pid);
            for container in &mut pod.containers {
                translate(&mut container.pid);
            }
        }
        let mut out = stdout().lock();
        if self.output.as_deref() == Some("url") {
            let url = gateway_url(&status).context("no gateway serves port 80 now")?;
            writeln!(out, "{url}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let (findings, troubles) = crate::runtime()?.block_on(async {
            let troubles = tokio::time::timeout(ANSWER_TIMEOUT, local::troubles(&context.mesh));
            (count_findings(context).await, troubles.await.unwrap_or_default())
        });
        if self.output.is_some() {
            let mut value = serde_json::to_value(&status)?;
            value["up_pid"] = json!(up_pid);
            value["troubles"] = json!(troubles);
            if let Some([errors, warnings, infos]) = findings {
                value["findings"] = json!({"error": errors, "warning": warnings, "info": infos});
            }
            writeln!(out, "{value:#}")?;
        } else {
            write!(out, "{}", for_people(&status, up_pid, findings))?;
            if !troubles.is_empty() {
                writeln!(out, "\n{}", troubles.join("\n"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The URL of port 80 of a gateway: at an address of its own rather than at 127.0.0.1, where other
/// programs have ports, too.
fn gateway_url(status: &agent_api::Status) -> Option<String> {
    let urls = status.urls.iter().filter(|url| url.port == 80);
    urls.max_by_key(|url| url.address.ip() != Ipv4Addr::LOCALHOST).map(|url| url.url())
}

/// How many errors, warnings and infos the mesh found in its objects; none while the control plane
/// does not say, which is no reason not to show the rest.
async fn count_findings(context: &Context) -> Option<[usize; 3]> {
    let api = context.api();
    let asked = tokio::time::timeout(ANSWER_TIMEOUT, api.get("/ironmesh/findings"));
    let answer = asked.await.ok()?.ok()?;
    let findings: Vec<FindingItem> = serde_json::from_value(answer).ok()?;
    let severities = [Severity::Error, Severity::Warning, Severity::Info];
    Some(severities.map(|severity| findings.iter().filter(|f| f.severity == severity).count()))
}

fn for_people(status: &agent_api::Status, up_pid: i32, findings: Option<[usize; 3]>) -> String {
    let mut text = format!("Mesh:      {}\n", status.mesh);
    for (at, url) in status.urls.iter().enumerate() {
        let name = if at == 0 { "Gateway:   " } else { "           " };
        text.push_str(&format!("{name}{} (port {})\n", url.url(), url.port));
    }
    for note in &status.notes {
        text.push_str(&format!("           not at {note}\n"));
    }
    if let Some(address) = status.node_address {
        text.push_str(&format!("Node:      {address} (node ports)\n"));
    }
    let control = status.control_pid.map_or("restarting".to_owned(), |pid| pid.to_string());
    text.push_str(&format!(
        "Processes: up {up_pid}, agent {}, control {control}\n",
        status.agent_pid
    ));
    text.push_str(&format!("Logs:      {}\n", status.log_directory.display()));
    if let Some([errors, warnings, infos]) = findings {
        text.push_str(&format!(
            "Findings:  {errors} errors, {warnings} warnings, {infos} infos (ironmesh findings -A)\n"
        ));
    }
    text.push('\n');
    if !status.services.is_empty() {
        text.push_str(&services(&status.services));
        text.push('\n');
    }
    let mut columns = Columns::default();
    columns.push(["NAMESPACE", "POD", "READY", "PHASE", "RESTARTS", "IP", "PID", "SIDECAR"]);
    for pod in &status.pods {
        let pid = |pid: Option<i32>| pid.map_or("-".to_owned(), |pid| pid.to_string());
        columns.push([
            pod.namespace.clone(),
            pod.name.clone(),
            pod.ready.clone(),
            pod.phase.clone(),
            pod.restarts.to_string(),
            pod.ip.clone(),
            pid(pod.pid),
            pid(pod.sidecar_pid),
        ]);
    }
    text.push_str(&columns.take_text());
    text
}

/// The Services that answer on this machine.
fn services(services: &[ExposedService]) -> String {
    let mut columns = Columns::default();
    columns.push(["NAMESPACE", "SERVICE", "ADDRESS", "ANSWERS AT", "NOTE"]);
    for service in services {
        let ports: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        columns.push([
            service.namespace.clone(),
            service.name.clone(),
            service.address.map_or("-".to_owned(), |address| address.to_string()),
            or_none(ports.join(",")),
            or_none(service.notes.join("; ")),
        ]);
    }
    columns.take_text()
}

/// The process `up`: the kernel notes who made the agent's listening socket.
fn up_pid(uid: u32, mesh: &str) -> anyhow::Result<i32> {
    let address = SocketAddr::from_abstract_name(agent_api::agent_socket(uid, mesh))?;
    let stream = UnixStream::connect_addr(&address).context("connecting to the agent")?;
    Ok(getsockopt(&stream, PeerCredentials).context("asking who listens")?.pid())
}

/// How long the control plane may take to tell what it found, and what is not ready.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
