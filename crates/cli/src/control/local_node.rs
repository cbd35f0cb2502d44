//! The node of this machine: the agent, which the API server asks for commands and connections.

use std::path::PathBuf;

use ironmesh_apiserver::node::{Command, Connection, Doing, Input, Node, Process, Taken, Usage};
use ironmesh_local::agent_api::streams::{Agent, Running};
use ironmesh_local::agent_api::{self, Exec};

/// The agent.
#[derive(Debug)]
pub(super) struct LocalNode(Agent);

impl LocalNode {
    /// The agent that listens there.
    pub(super) fn new(mesh: &str, socket: PathBuf) -> Self {
        Self(Agent::at(mesh, socket))
    }
}

impl Node for LocalNode {
    fn exec(&self, command: Command) -> Doing<'_, Process> {
        Box::pin(async move {
            let exec = Exec {
                namespace: command.namespace,
                pod: command.pod,
                container: Some(command.container),
                command: command.words,
                tty: command.tty,
                stdin: command.stdin,
                term: command.tty.then(|| TERMINAL.to_owned()),
                size: None,
            };
            self.0.exec(exec).await.map(process).map_err(|error| error.to_string())
        })
    }

    fn input<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
    ) -> Doing<'a, Input> {
        Box::pin(async move {
            let input = self.0.input(namespace, pod, container).await;
            Ok(Box::new(input.map_err(|error| error.to_string())?) as Input)
        })
    }

    fn usage(&self) -> Doing<'_, Usage> {
        Box::pin(async move {
            let measured = self.0.usage().await.map_err(|error| error.to_string())?;
            let mut usage =
                Usage { window: measured.window, all: taken(measured.all), ..Usage::default() };
            for container in measured.containers {
                let of_pod = usage.containers.entry((container.namespace, container.pod));
                of_pod.or_default().insert(container.container, taken(container.taken));
            }
            Ok(usage)
        })
    }

    fn connect<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        port: u16,
    ) -> Doing<'a, Box<dyn Connection>> {
        Box::pin(async move {
            let forwarded = self.0.forward(namespace, pod, port).await;
            let forwarded = forwarded.map_err(|error| error.to_string())?;
            Ok(Box::new(forwarded) as Box<dyn Connection>)
        })
    }
}

fn taken(of: agent_api::Taken) -> Taken {
    Taken { cpu_per_second: of.cpu_per_second, memory_bytes: of.memory_bytes }
}

fn process(running: Running) -> Process {
    let Running { stdin, stdout, stderr, terminal, ending } = running;
    Process {
        stdin: stdin.map(|input| Box::new(input) as _),
        stdout: Box::new(stdout),
        stderr: stderr.map(|output| Box::new(output) as _),
        resize: terminal
            .map(|terminal| Box::new(move |rows, columns| terminal.resize(rows, columns)) as _),
        exit: Box::pin(async move {
            let exit = ending.exit().await.map_err(|error| error.to_string())?;
            exit.error.map_or(Ok(exit.code), Err)
        }),
    }
}

/// What clients of the API do not say, and container runtimes assume.
const TERMINAL: &str = "xterm";
