//! The control plane's process: started, and started again whenever it ends.
//!
//! Its listening sockets and its key are the agent's, so that callers of a dead control plane wait
//! in a queue for the next one, which believes the same tokens.

use std::ffi::CString;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use ironmesh_model::bootstrap::ControlBootstrap;
use ironmesh_model::settings::Settings;
use tokio::time::Instant;

use super::addresses::{SERVICE_NETWORK, cidr};
use super::backoff::Backoff;
use super::node::Node;
use super::reaper::ExitStatus;
use crate::fds;
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
    /// The listening socket of the push protocol.
    pub(crate) push: TcpListener,
    pub(crate) push_address: SocketAddr,
    pub(crate) state: PathBuf,
    pub(crate) settings: Settings,
}

/// Keeps a control plane running, for ever.
pub(crate) async fn supervise(node: Rc<Node>, spec: ControlSpec) {
    let mut backoff = Backoff::own_process();
    loop {
        let since = Instant::now();
        match start(&node, &spec) {
            Ok((pid, ended)) => {
                node.control_pid.set(Some(pid));
                let status: ExitStatus = ended.await.unwrap_or(255);
                node.control_pid.set(None);
                tracing::warn!(pid, status, "the control plane ended; it is started again");
            }
            Err(error) => tracing::error!(%error, "the control plane cannot be started"),
        }
        tokio::time::sleep(backoff.pause(since.elapsed())).await;
    }
}

fn start(
    node: &Node,
    spec: &ControlSpec,
) -> std::io::Result<(i32, tokio::sync::oneshot::Receiver<ExitStatus>)> {
    let bootstrap = ControlBootstrap {
        mesh: node.mesh.clone(),
        api_fds: vec![HOST_API_FD, OWN_API_FD],
        push_fd: PUSH_FD,
        push_address: spec.push_address,
        state: spec.state.clone(),
        logs: node.logs.directory().to_owned(),
        token_key: node.token_key.to_hex(),
        settings: spec.settings.clone(),
        service_network: cidr(SERVICE_NETWORK),
        user_ids: node.root,
        limits: node.limits.clone(),
    };
    let document = fds::json_memfd("bootstrap", &bootstrap)?;
    let log: OwnedFd = node.logs.process("control")?.into();
    let descriptors: [(BorrowedFd<'_>, i32); 6] = [
        (log.as_fd(), 1),
        (log.as_fd(), 2),
        (document.as_fd(), BOOTSTRAP_FD),
        (spec.host_api.as_fd(), HOST_API_FD),
        (spec.own_api.as_fd(), OWN_API_FD),
        (spec.push.as_fd(), PUSH_FD),
    ];
    let environment: Vec<CString> = std::env::vars()
        .filter(|(name, _)| name == "RUST_LOG" || name == "RUST_BACKTRACE")
        .filter_map(|(name, value)| CString::new(format!("{name}={value}")).ok())
        .collect();
    let pid = spawn_stage(STAGE, &environment, &descriptors)?;
    Ok((pid, node.reaper.expect(pid)))
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
