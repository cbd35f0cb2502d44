//! The host side of a mesh, `ironmesh up` itself: it owns what lies in the host's network and ends
//! the mesh when it ends. It keeps no descriptor from inside.

mod broker;
mod folders;
pub(crate) mod memory;
mod ports;
mod prepare;
pub(crate) mod programs;
mod progress;
pub(crate) mod pull;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::Duration;

use ironmesh_client::{Address, Client};
use ironmesh_fds as fds;
use ironmesh_model::limits::PlatformLimits;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use self::broker::{Broker, Mesh};
use self::prepare::Prepared;
use self::progress::Outcome;
use super::agent;
use super::options::{Apply, UpOptions};
use super::{UpError, agent_api};
use crate::preflight;
use crate::sandbox::mesh::{Entered, enter_mesh};

/// Waits, as `up --detach` does, until everything of a mesh that runs is ready.
pub(super) async fn await_ready(mesh: &str, page: &str, progress_timeout: Duration) -> bool {
    let (mesh, page) = (mesh.to_owned(), page.to_owned());
    let options = UpOptions { mesh, page, detach: true, ..UpOptions::default() };
    let api = api_of(&options.mesh);
    let outcome = progress::until_ready(&api, progress_timeout).await;
    let status = progress::until_published(&api, &options).await;
    progress::say_urls(&status, &options, outcome);
    outcome == Outcome::Ready
}

/// What of a mesh that runs is not ready, or has crashed.
pub(super) async fn troubles(mesh: &str) -> Vec<String> {
    progress::troubles(&api_of(mesh)).await
}

/// The API of a mesh of the calling user.
fn api_of(mesh: &str) -> Client {
    let socket = agent_api::api_socket(nix::unistd::geteuid().as_raw(), mesh);
    Client::new(Address::Abstract(socket), agent::client_limits(&PlatformLimits::default()))
}

/// Starts a mesh and keeps it until it ends.
pub(super) fn up(mut options: UpOptions) -> Result<ExitCode, UpError> {
    let report = if options.detach {
        match detach()? {
            Side::Foreground(code) => return Ok(code),
            Side::Background(report) => Some(report),
        }
    } else {
        None
    };
    // What the caller left open is nothing to the processes of the mesh.
    fds::close_on_exec_from(3).map_err(std::io::Error::from)?;
    preflight::check()?;
    let prepared = Prepared::new(&options)?;
    let apply = options.apply.take();
    let (outside, spec) = prepared.split();
    match enter_mesh(&prepare::mesh_spec(&options.mesh)).map_err(UpError::Enter)? {
        Entered::Inside { lifeline, .. } => {
            drop(outside);
            drop(report);
            drop(apply);
            let result = agent::run(spec.into_agent(lifeline));
            let code = i32::from(result.is_err());
            std::process::exit(code);
        }
        Entered::Outside { agent, lifeline } => {
            drop(spec);
            let host = Host { agent, outside, options, report };
            let result = host.run(apply);
            drop(lifeline);
            result
        }
    }
}

enum Side {
    /// The process that was called: how the start went.
    Foreground(ExitCode),
    /// The process that stays: where it reports that all is ready.
    Background(OwnedFd),
}

/// Forks; the child stays in the background, and the parent waits until it is ready, waits no more
/// for what is not, or has failed.
#[expect(unsafe_code, reason = "fork")]
fn detach() -> Result<Side, UpError> {
    let (read, write) = nix::unistd::pipe().map_err(|error| UpError::Io(error.into()))?;
    // SAFETY: this process has one thread, by the contract of `up`.
    match unsafe { nix::unistd::fork() }.map_err(|error| UpError::Io(error.into()))? {
        ForkResult::Parent { .. } => {
            drop(write);
            let mut report = [0; 1];
            let ready = std::fs::File::from(read).read(&mut report)? == 1 && report[0] == READY;
            Ok(Side::Foreground(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }))
        }
        ForkResult::Child => {
            drop(read);
            nix::unistd::setsid().map_err(|error| UpError::Io(error.into()))?;
            Ok(Side::Background(write))
        }
    }
}

struct Host {
    /// The agent, as seen from here.
    agent: i32,
    outside: prepare::Outside,
    options: UpOptions,
    report: Option<OwnedFd>,
}

impl Host {
    fn run(mut self, apply: Option<Apply>) -> Result<ExitCode, UpError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let result = LocalSet::new().block_on(&runtime, self.serve(apply));
        // Whatever happened, nothing of the mesh is left when this process ends.
        let agent = Pid::from_raw(self.agent);
        // It has most likely ended by itself.
        let _ = kill(agent, Signal::SIGKILL);
        let _ = waitpid(agent, None);
        runtime.shutdown_background();
        result
    }

    async fn serve(&mut self, apply: Option<Apply>) -> Result<ExitCode, UpError> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let broker = Broker::new(&mut self.outside)?;
        let mesh = broker.mesh();
        let api = agent_api::api_socket(nix::unistd::geteuid().as_raw(), &self.options.mesh);
        let end_timeout = self.options.limits.platform.end_timeout;
        let serving = broker.serve();
        tokio::pin!(serving);
        let result = tokio::select! {
            ended = &mut serving => Err(ended),
            result = self.start(&mesh, &api, apply) => Ok(result),
            _ = interrupt.recv() => Ok(Ok(Started::Interrupted)),
            _ = terminate.recv() => Ok(Ok(Started::Interrupted)),
        };
        match result {
            Err(ended) => return ended.map(|()| ExitCode::SUCCESS),
            Ok(Ok(Started::Ready)) => {
                tokio::select! {
                    ended = &mut serving => return ended.map(|()| ExitCode::SUCCESS),
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            }
            Ok(Ok(Started::Interrupted)) => {}
            Ok(Err(error)) => {
                mesh.shut_down().await;
                // The agent's end is not waited for long: the caller kills it.
                let _ = tokio::time::timeout(end_timeout, &mut serving).await;
                return Err(error);
            }
        }
        if self.report.is_none() {
            progress::say("ending the mesh (Ctrl-C again: at once)");
        }
        mesh.shut_down().await;
        tokio::select! {
            _ = tokio::time::timeout(end_timeout, &mut serving) => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Applies the manifests when the API answers, and waits until everything is ready.
    async fn start(
        &mut self,
        mesh: &Mesh,
        api: &str,
        apply: Option<Apply>,
    ) -> Result<Started, UpError> {
        let time = self.options.limits.platform.start_timeout;
        if tokio::time::timeout(time, mesh.api_answers()).await.is_err() {
            let message = format!(
                "the control plane has not answered within {} s (limits.platform.start_timeout)",
                time.as_secs()
            );
            return Err(UpError::Agent { message });
        }
        if let Some(apply) = apply {
            let (sender, receiver) = oneshot::channel();
            let name = api.to_owned();
            std::thread::spawn(move || {
                // If nobody waits any more the mesh is ending.
                let _ = sender.send(apply(&name));
            });
            match receiver.await {
                Ok(Ok(())) => {}
                Ok(Err(message)) => return Err(UpError::Apply { message }),
                Err(_) => {
                    return Err(UpError::Apply { message: "applying ended early".to_owned() });
                }
            }
        }
        let limits = &self.options.limits.platform;
        let address = Address::Abstract(api.to_owned());
        let api = Client::new(address, agent::client_limits(limits));
        let outcome = progress::until_ready(&api, limits.progress_timeout).await;
        let status = progress::until_published(&api, &self.options).await;
        progress::say_urls(&status, &self.options, outcome);
        if let Some(report) = self.report.take() {
            let report_byte = if outcome == Outcome::Ready { READY } else { STALLED };
            std::fs::File::from(report).write_all(&[report_byte])?;
            progress::leave_terminal()?;
            self.report = None;
        }
        Ok(Started::Ready)
    }
}

enum Started {
    Ready,
    Interrupted,
}

/// What the process in the background reports: all is ready, or not all and nothing more comes.
const READY: u8 = b'1';
const STALLED: u8 = b'0';
