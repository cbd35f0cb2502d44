//! Commands in containers and ports of pods for those who serve many at a time: the API server, and
//! `port-forward`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use ironmesh_fds::{pipe, recv_with_fds, send_with_fds};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest, ReadBuf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe::{Receiver, Sender};

use super::terminal::Terminal;
use super::{Answer, ClientError, Exec, Exit, Request, Usage, agent_socket, is_trusted};

/// The agent of a mesh; each request has a connection of its own.
#[derive(Clone, Debug)]
pub struct Agent {
    mesh: String,
    path: PathBuf,
}

/// A connection to a port of a pod.
#[derive(Debug)]
pub struct Forwarded(BufReader<UnixStream>);

/// A command that runs in a container.
#[derive(Debug)]
pub struct Running {
    /// What it is given, if it takes standard input.
    pub stdin: Option<Input>,
    /// What it writes; a terminal has it all.
    pub stdout: Output,
    /// What it writes as errors, but on a terminal.
    pub stderr: Option<Output>,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    /// Its end. The command is killed when this is dropped.
    pub ending: Ending,
}

/// The end of a command.
#[derive(Debug)]
pub struct Ending(BufReader<UnixStream>);

/// Where a command reads from.
#[derive(Debug)]
pub enum Input {
    /// A pipe; its end is the end of what comes.
    Pipe(Sender),
    /// A terminal.
    Terminal(Terminal),
}

/// Where a command writes to.
#[derive(Debug)]
pub enum Output {
    /// A pipe.
    Pipe(Receiver),
    /// A terminal.
    Terminal(Terminal),
}

impl Agent {
    /// The agent of a mesh of a user of this machine.
    #[must_use]
    pub fn of_mesh(uid: u32, mesh: &str) -> Self {
        let path = PathBuf::from(format!("\0{}", agent_socket(uid, mesh)));
        Self { mesh: mesh.to_owned(), path }
    }

    /// The agent that listens on this socket, of the mesh that the caller is in.
    #[must_use]
    pub fn at(mesh: &str, path: PathBuf) -> Self {
        Self { mesh: mesh.to_owned(), path }
    }

    /// Connects to a port on a pod's own loopback.
    ///
    /// # Errors
    ///
    /// If the pod is not there or nothing listens on the port.
    pub async fn forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Forwarded, ClientError> {
        let (namespace, pod) = (namespace.to_owned(), pod.to_owned());
        let mut stream = self.connect().await?;
        send(&mut stream, &Request::Forward { namespace, pod, port }).await?;
        answer(&mut stream).await?;
        Ok(Forwarded(stream))
    }

    /// What containers take of the machine, which is measured for a second.
    ///
    /// # Errors
    ///
    /// If the agent does not answer.
    pub async fn usage(&self) -> Result<Usage, ClientError> {
        let mut stream = self.connect().await?;
        send(&mut stream, &Request::Usage).await?;
        let refused = || ClientError::Refused("the answer holds no usage".to_owned());
        answer(&mut stream).await?.usage.ok_or_else(refused)
    }

    /// Opens the standard input of a container; what is read from it is nothing.
    ///
    /// # Errors
    ///
    /// If the container does not run, or has none.
    pub async fn input(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Forwarded, ClientError> {
        let (namespace, pod, container) = (namespace.into(), pod.into(), container.into());
        let mut stream = self.connect().await?;
        send(&mut stream, &Request::Input { namespace, pod, container }).await?;
        answer(&mut stream).await?;
        Ok(Forwarded(stream))
    }

    /// Starts a command in a container.
    ///
    /// # Errors
    ///
    /// If the pod or the container is not there, or no process can be made.
    pub async fn exec(&self, exec: Exec) -> Result<Running, ClientError> {
        let (takes_input, has_terminal) = (exec.stdin, exec.tty);
        let mut connection = self.connect().await?;
        send(&mut connection, &Request::Exec(exec)).await?;
        if has_terminal {
            let (ours, theirs) = UnixStream::pair()?;
            send_fds(&connection, &[&theirs.into_std()?.into()]).await?;
            answer(&mut connection).await?;
            let terminal = Terminal::new(receive_fd(&ours).await?)?;
            let stdin = takes_input.then(|| Input::Terminal(terminal.clone()));
            let stdout = Output::Terminal(terminal.clone());
            let terminal = Some(terminal);
            let ending = Ending(connection);
            return Ok(Running { stdin, stdout, stderr: None, terminal, ending });
        }
        let (stdin, stdout, stderr) = (pipe()?, pipe()?, pipe()?);
        send_fds(&connection, &[&stdin.0, &stdout.1, &stderr.1]).await?;
        drop((stdin.0, stdout.1, stderr.1));
        answer(&mut connection).await?;
        let stdin = Sender::from_owned_fd(stdin.1)?;
        Ok(Running {
            stdin: takes_input.then_some(Input::Pipe(stdin)),
            stdout: Output::Pipe(Receiver::from_owned_fd(stdout.0)?),
            stderr: Some(Output::Pipe(Receiver::from_owned_fd(stderr.0)?)),
            terminal: None,
            ending: Ending(connection),
        })
    }

    /// Whether the mesh runs.
    pub async fn is_there(&self) -> bool {
        self.connect().await.is_ok()
    }

    async fn connect(&self) -> Result<BufReader<UnixStream>, ClientError> {
        let stream = UnixStream::connect(&self.path).await.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
                ClientError::NotRunning { mesh: self.mesh.clone() }
            }
            _ => ClientError::Io(error),
        })?;
        is_trusted(stream.peer_cred()?.uid())?;
        Ok(BufReader::new(stream))
    }
}

impl Ending {
    /// Returns how the command ended, once it has.
    ///
    /// # Errors
    ///
    /// If the agent goes away.
    pub async fn exit(mut self) -> Result<Exit, ClientError> {
        read(&mut self.0).await
    }
}

async fn send(stream: &mut BufReader<UnixStream>, request: &Request) -> Result<(), ClientError> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    Ok(stream.write_all(&line).await?)
}

async fn answer(stream: &mut BufReader<UnixStream>) -> Result<Answer, ClientError> {
    let answer: Answer = read(stream).await?;
    match answer.error {
        Some(error) => Err(ClientError::Refused(error)),
        None => Ok(answer),
    }
}

async fn read<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> Result<T, ClientError> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_str(&line)?)
}

/// Sends descriptors behind a request, with one more line end.
async fn send_fds(stream: &BufReader<UnixStream>, fds: &[&OwnedFd]) -> io::Result<()> {
    let stream = stream.get_ref();
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    let send = || send_with_fds(stream.as_fd(), b"\n", &fds);
    stream.async_io(Interest::WRITABLE, send).await.map(drop)
}

async fn receive_fd(stream: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0; 1];
    let receive = || recv_with_fds(stream.as_fd(), &mut byte);
    let (_, mut fds) = stream.async_io(Interest::READABLE, receive).await?;
    fds.pop().ok_or_else(|| io::Error::other("the command has got no terminal"))
}

impl AsyncRead for Forwarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_read(context, buffer),
            Self::Terminal(terminal) => Pin::new(terminal).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Pipe(pipe) => Pin::new(pipe).poll_write(context, bytes),
            Self::Terminal(terminal) => Pin::new(terminal).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
