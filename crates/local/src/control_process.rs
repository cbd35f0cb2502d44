//! The control plane's process: started, and started again whenever it ends.
//!
//! Its listening sockets and its key are the agent's, so that callers of a dead control plane wait
//! in a queue for the next one, which believes the same tokens.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use ironmesh_fds as fds;
use ironmesh_model::bootstrap::ControlBootstrap;
use ironmesh_model::settings::Settings;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::addresses::{SERVICE_NETWORK, cidr};
use super::backoff::Backoff;
use super::node::Node;
use super::reaper::ExitStatus;
use crate::sandbox::spawn_stage;

/// Name of the stage that becomes the control plane.
pub(crate) const STAGE: &str = "control-stage";

/// What every control plane of a mesh is started with.
#[derive(Debug)]
pub(crate) struct ControlSpec {
    /// The API's socket in the host's network namespace.
    pub(crate) host_api: UnixListener,
    /// The API's socket in the mesh's mount namespace.
    pub(crate) own_api: UnixListener,
    /// The API's sockets for TLS in the network namespaces of the host and the mesh.
    pub(crate) host_secure_api: OwnedFd,
    pub(crate) own_secure_api: TcpListener,
    /// Where the agent serves the control plane.
    pub(crate) agent_socket: PathBuf,
    /// The listening socket of the push protocol.
    pub(crate) push: TcpListener,
    pub(crate) push_address: SocketAddr,
    pub(crate) state: PathBuf,
    pub(crate) settings: Settings,
}

/// Keeps a control plane running. Returns only when none has ever answered and another start would
/// be of no use, with the reason.
pub(crate) async fn supervise(node: Rc<Node>, spec: ControlSpec) -> io::Result<()> {
    let mut backoff = Backoff::own_process();
    let log = node.logs.process("control");
    let mut failures = 0_u32;
    loop {
        failures = failures.saturating_add(1);
        let since = Instant::now();
        let ended = match start(&node, &spec).await {
            Ok(process) => {
                node.control_pid.set(Some(process.pid));
                let status: ExitStatus = process.ended.await.unwrap_or(255);
                node.control_pid.set(None);
                node.logs.end(log.clone()).await;
                tracing::warn!(pid = process.pid, status, "the control plane ended");
                Ended { status: format!("status {status}"), report: read_report(process.report) }
            }
            Err(error) => {
                tracing::error!(%error, "the control plane cannot be started");
                Ended { status: error.to_string(), report: String::new() }
            }
        };
        if let (false, Some(error)) = (node.has_started.get(), ended.is_final(failures, &log)) {
            return Err(error);
        }
        tokio::time::sleep(backoff.pause(since.elapsed())).await;
    }
}

/// How a control plane ended.
struct Ended {
    status: String,
    /// Why it could not start, in its own words; empty if it did not say.
    report: String,
}

impl Ended {
    /// The reason not to start another one, after so many that have never answered.
    fn is_final(&self, failures: u32, log: &Path) -> Option<io::Error> {
        let Self { status, report } = self;
        if !report.is_empty() {
            return Some(io::Error::other(format!("the control plane cannot start: {report}")));
        }
        (failures >= STARTS_MAX).then(|| {
            io::Error::other(format!(
                "the control plane ended {failures} times before it answered ({status}); see {}",
                log.display()
            ))
        })
    }
}

/// A control plane that was started.
struct Process {
    pid: i32,
    ended: oneshot::Receiver<ExitStatus>,
    /// Where it says why it cannot start.
    report: OwnedFd,
}

/// What a control plane that has ended reported.
fn read_report(report: OwnedFd) -> String {
    let mut text = Vec::new();
    // Nobody else holds the other end, so this does not wait; what cannot be read was not said.
    let _ = File::from(report).take(REPORT_BYTES_MAX).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

async fn start(node: &Node, spec: &ControlSpec) -> io::Result<Process> {
    let (report, report_write) = fds::pipe()?;
    let bootstrap = ControlBootstrap {
        mesh: node.mesh.clone(),
        api_fds: vec![HOST_API_FD, OWN_API_FD],
        secure_api_fds: vec![HOST_SECURE_API_FD, OWN_SECURE_API_FD],
        agent_socket: Some(spec.agent_socket.clone()),
        gateway_ports: node.exposure.gateway_ports(),
        push_fd: PUSH_FD,
        report_fd: Some(REPORT_FD),
        push_address: spec.push_address,
        state: spec.state.clone(),
        logs: node.logs.directory().to_owned(),
        token_key: node.token_key.to_hex(),
        settings: spec.settings.clone(),
        service_network: cidr(SERVICE_NETWORK),
        user_ids: node.users.is_some(),
        keeps_claims: node.claims.are_kept(),
        limits: node.limits.clone(),
    };
    let document = fds::json_memfd("bootstrap", &bootstrap)?;
    let log = node.logs.begin(node.logs.process("control"), false).await?;
    let descriptors: [(BorrowedFd<'_>, i32); 9] = [
        (log.as_fd(), 1),
        (log.as_fd(), 2),
        (document.as_fd(), BOOTSTRAP_FD),
        (spec.host_api.as_fd(), HOST_API_FD),
        (spec.own_api.as_fd(), OWN_API_FD),
        (spec.push.as_fd(), PUSH_FD),
        (report_write.as_fd(), REPORT_FD),
        (spec.host_secure_api.as_fd(), HOST_SECURE_API_FD),
        (spec.own_secure_api.as_fd(), OWN_SECURE_API_FD),
    ];
    let environment: Vec<CString> = std::env::vars()
        .filter(|(name, _)| name == "RUST_LOG" || name == "RUST_BACKTRACE")
        .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
        .collect();
    let pid = spawn_stage(STAGE, &environment, &descriptors)?;
    Ok(Process { pid, ended: node.reaper.expect(pid), report })
}

/// Becomes the control plane: the same binary, told where its bootstrap document is.
pub(crate) fn stage() -> ExitCode {
    let arguments =
        ["internal", "control", "--bootstrap-fd", &BOOTSTRAP_FD.to_string()].map(str::to_owned);
    let error = Command::new("/proc/self/exe").arg0("ironmesh").args(arguments).exec();
    tracing::error!(%error, "the control plane cannot be executed");
    ExitCode::FAILURE
}

const BOOTSTRAP_FD: i32 = 3;
const HOST_API_FD: i32 = 4;
const OWN_API_FD: i32 = 5;
const PUSH_FD: i32 = 6;
const REPORT_FD: i32 = 7;
const HOST_SECURE_API_FD: i32 = 8;
const OWN_SECURE_API_FD: i32 = 9;
/// Control planes that may end without a word before one has answered, until the mesh gives up.
const STARTS_MAX: u32 = 5;
/// Bytes of a report that are shown.
const REPORT_BYTES_MAX: u64 = 4 << 10;
