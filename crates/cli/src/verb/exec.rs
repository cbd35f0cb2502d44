//! `ironmesh exec`: runs a command in a container.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use ironmesh_local::agent_api;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::cli::Context;
use crate::say;
use crate::verb::logs::{container_names, default_container};
use crate::verb::proxy_config::admin::Proxy;
use crate::verb::{pods_of, text};
use proxy::Asked;

mod proxy;

/// The container of the sidecar, which is the proxy itself and has no programs.
const PROXY: &str = "istio-proxy";

/// Run a command in a container of a pod, and end with its exit code.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  ironmesh exec deploy/productpage-v1 -- curl -s http://reviews:9080/reviews/0
  ironmesh exec -it details-v1-5f4d584748-abcde -- sh
  ironmesh exec -i mypod -c app -- sh -c 'cat > /data/x' < x
  ironmesh exec deploy/productpage-v1 -c istio-proxy -- pilot-agent request GET stats")]
pub(crate) struct Exec {
    /// POD, or KIND/NAME of what has pods (deploy/NAME).
    pod: String,
    /// The container; default: the pod's own (not the sidecar).
    #[arg(short, long)]
    container: Option<String>,
    /// Pass standard input to the command.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal.
    #[arg(short = 't', long)]
    tty: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Exec {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<ExitCode> {
        let pods = pods_of(&context.api(), context.namespace(), &self.pod).await?;
        let pod = &pods[0];
        let name = text(pod, "/metadata/name");
        let container = match self.container {
            Some(container) => {
                ensure!(
                    container_names(pod).contains(&container.as_str()),
                    "container {container} is not valid for pod {name}"
                );
                container
            }
            None => default_container(pod)?.to_owned(),
        };
        if container == PROXY
            && let Some(asked) = Asked::of(&self.command)
        {
            let (method, path) = asked?.into_parts();
            let proxy = Proxy::of(name, text(pod, "/metadata/namespace"), context);
            stdout().lock().write_all(&proxy.ask(method, &path).await?)?;
            return Ok(ExitCode::SUCCESS);
        }
        let session = Session { command: self.command, stdin: self.stdin, tty: self.tty };
        session.run(context, name, &container).await
    }
}

/// A command in a container, and what of ours it gets.
pub(crate) struct Session {
    /// The command and its arguments.
    pub(crate) command: Vec<String>,
    /// Whether it gets our standard input.
    pub(crate) stdin: bool,
    /// Whether it gets a terminal.
    pub(crate) tty: bool,
}

impl Session {
    /// Runs it to its end; its exit code.
    pub(crate) async fn run(
        self,
        context: &Context,
        pod: &str,
        container: &str,
    ) -> anyhow::Result<ExitCode> {
        // A terminal for a command that reads from none would show nothing that is typed.
        let tty = self.tty && stdin().is_terminal();
        if self.tty && !tty {
            say::notice("Unable to use a TTY - input is not a terminal or the right kind of file");
        }
        let request = agent_api::Exec {
            namespace: context.namespace().to_owned(),
            pod: pod.to_owned(),
            container: Some(container.to_owned()),
            command: self.command,
            tty,
            stdin: self.stdin || tty,
            term: std::env::var("TERM").ok(),
            size: None,
        };
        let mesh = context.mesh.clone();
        let exit = tokio::task::spawn_blocking(move || exec(&mesh, request)).await??;
        if let Some(error) = exit.error {
            bail!("{error}");
        }
        Ok(ExitCode::from(u8::try_from(exit.code).unwrap_or(u8::MAX)))
    }
}

/// Runs a command by the agent, which gets our own descriptors.
fn exec(mesh: &str, request: agent_api::Exec) -> anyhow::Result<agent_api::Exit> {
    let client = crate::cli::agent(mesh)?;
    if request.tty {
        let _raw = RawTerminal::enter()?;
        // What it shows may go elsewhere: to a pipe, or a file.
        return Ok(client.exec(request, &[stdin().as_fd(), stdout().as_fd()])?);
    }
    Ok(client.exec(request, &[stdin().as_fd(), stdout().as_fd(), stderr().as_fd()])?)
}

/// Our terminal in raw mode, for as long as this lives: every key goes to the command.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> anyhow::Result<Self> {
        let before = tcgetattr(stdin()).context("reading the terminal's mode")?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin(), SetArg::TCSANOW, &raw).context("setting the terminal's mode")?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(stdin(), SetArg::TCSANOW, &self.before);
    }
}
