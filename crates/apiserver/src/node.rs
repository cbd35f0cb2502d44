//! What the API server has done on the node where pods run: commands in containers, connections to ports.

use std::fmt;
use std::pin::Pin;

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

    fn connect<'a>(
        &'a self,
        _namespace: &'a str,
        pod: &'a str,
        _port: u16,
    ) -> Doing<'a, Box<dyn Connection>> {
        Box::pin(async move { Err(format!("pod {pod:?} does not run")) })
    }
}
