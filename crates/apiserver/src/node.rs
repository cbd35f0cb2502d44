//! What the API server has done on the node where pods run: commands in containers,
//! connections to ports, figures of what runs.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// Something on its way, or why it is not.
pub type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// The node.
pub trait Node: fmt::Debug + Send + Sync + 'static {
    /// Starts a command in a container.
    fn exec(&self, command: Command) -> Doing<'_, Process>;

    /// Opens the standard input of a container.
    fn input<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        container: &'a str,
    ) -> Doing<'a, Input>;

    /// What containers take of the machine.
    fn usage(&self) -> Doing<'_, Usage>;

    /// Connects to a port on a pod's own loopback.
    fn connect<'a>(
        &'a self,
        namespace: &'a str,
        pod: &'a str,
        port: u16,
    ) -> Doing<'a, Box<dyn Connection>>;
}

/// What can be written to.
pub type Input = Box<dyn AsyncWrite + Unpin + Send>;

/// A command to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// The command and its arguments.
    pub words: Vec<String>,
    /// Whether it is given standard input.
    pub stdin: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// A command that runs; it is killed when this is dropped.
pub struct Process {
    /// What it is given; dropped at its end.
    pub stdin: Option<Input>,
    /// What it writes.
    pub stdout: Box<dyn AsyncRead + Unpin + Send>,
    /// What it writes as errors, if that comes apart.
    pub stderr: Option<Box<dyn AsyncRead + Unpin + Send>>,
    /// Tells its terminal how many rows and columns are shown.
    pub resize: Option<Box<dyn Fn(u16, u16) + Send + Sync>>,
    /// Its exit code, once it has ended, or why it could not be run.
    pub exit: Doing<'static, i32>,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// What runs takes of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// For how long it was measured.
    pub window: Duration,
    /// Of all processes on the node.
    pub all: Taken,
    /// Of containers, by the namespaces and names of their pods, and their own.
    pub containers: BTreeMap<(String, String), BTreeMap<String, Taken>>,
}

/// What processes take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// CPU time per second.
    pub cpu_per_second: Duration,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// A connection to a pod.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// A node where nothing runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNode;

impl Node for NoNode {
    fn exec(&self, command: Command) -> Doing<'_, Process> {
        Box::pin(async move { Err(format!("pod {:?} does not run", command.pod)) })
    }

    fn input<'a>(&'a self, _: &'a str, pod: &'a str, _: &'a str) -> Doing<'a, Input> {
        Box::pin(async move { Err(format!("pod {pod:?} does not run")) })
    }

    fn usage(&self) -> Doing<'_, Usage> {
        Box::pin(async { Ok(Usage::default()) })
    }

    fn connect<'a>(
        &'a self,
        _namespace: &'a str,
        pod: &'a str,
        _port: u16,
    ) -> Doing<'a, Box<dyn Connection>> {
        Box::pin(async move { Err(format!("pod {pod:?} does not run")) })
    }
}
