//! Sockets that the local agent makes for this proxy: for traffic that leaves the mesh, and to
//! listen on at the edge.
//!
//! One task on the control thread talks to the agent, one question after the other; workers ask it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use ironmesh_fds::{recv_with_fds, set_nonblocking};
use ironmesh_model::bootstrap::{FromAgent, ToAgent};
use nix::sys::socket::{MsgFlags, send};
use tokio::io::unix::AsyncFd;
use tokio::net::TcpSocket;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::workload::LocalWorkload;

/// Asks for sockets of the host's network.
#[derive(Clone, Debug)]
pub(crate) struct Egress(mpsc::Sender<Question>);

/// Asks for sockets to listen on.
#[derive(Clone, Debug)]
pub(crate) struct EdgePorts {
    questions: mpsc::Sender<Question>,
    moved: Arc<Notify>,
}

/// The end of the task that talks to the agent.
#[derive(Debug)]
pub(crate) struct Asked {
    questions: mpsc::Receiver<Question>,
    /// Rung when the sockets of ports are others than before.
    moved: Arc<Notify>,
}

/// What the task is asked.
#[derive(Debug)]
pub(crate) enum Question {
    Egress { v6: bool, answer: oneshot::Sender<io::Result<OwnedFd>> },
    Listen { port: u16, answer: oneshot::Sender<io::Result<Vec<OwnedFd>>> },
}

/// Egress sockets asked for at once: a question costs more than a socket.
const EGRESS_BATCH: u8 = 8;
/// Bytes of one message.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Handles for the workers, and the questions that come from them, of which so many may wait.
pub(crate) fn questions(questions_max: usize) -> (Egress, EdgePorts, Asked) {
    let (ask, questions) = mpsc::channel(questions_max);
    let moved = Arc::<Notify>::default();
    let ports = EdgePorts { questions: ask.clone(), moved: moved.clone() };
    (Egress(ask), ports, Asked { questions, moved })
}

impl Egress {
    /// An unconnected socket, good for one attempt.
    ///
    /// # Errors
    ///
    /// If the agent gives none: the mesh has no egress, or the agent is gone.
    pub(crate) async fn socket(&self, v6: bool) -> io::Result<TcpSocket> {
        let fd = ask(&self.0, |answer| Question::Egress { v6, answer }).await?;
        set_nonblocking(fd.as_fd())?;
        Ok(TcpSocket::from_std_stream(fd.into()))
    }
}

impl EdgePorts {
    /// The sockets of a port: in the pod, and on the host where it is published.
    ///
    /// # Errors
    ///
    /// If the agent gives none.
    pub(crate) async fn listen(&self, port: u16) -> io::Result<Vec<std::net::TcpListener>> {
        let fds = ask(&self.questions, |answer| Question::Listen { port, answer }).await?;
        Ok(fds.into_iter().map(Into::into).collect())
    }

    /// Returns when ports have other sockets than before: each is to be asked for again. Cancel safe.
    pub(crate) async fn moved(&self) {
        self.moved.notified().await;
    }
}

async fn ask<T>(
    questions: &mpsc::Sender<Question>,
    question: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Question,
) -> io::Result<T> {
    let gone = || io::Error::new(io::ErrorKind::NotConnected, "the local agent is gone");
    let (answer, answered) = oneshot::channel();
    questions.send(question(answer)).await.map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?
}

/// Talks to the agent until it is gone.
pub(crate) async fn run(fd: OwnedFd, asked: Asked, workload: Arc<LocalWorkload>) -> io::Result<()> {
    set_nonblocking(fd.as_fd())?;
    let Asked { mut questions, moved } = asked;
    let agent = Agent { socket: register(fd)?, workload, moved };
    let (mut stock4, mut stock6) = (VecDeque::new(), VecDeque::new());
    loop {
        let question = tokio::select! {
            question = questions.recv() => match question {
                Some(question) => question,
                None => return Ok(()),
            },
            unasked = agent.receive() => {
                agent.take_unasked(&unasked?.0);
                continue;
            }
        };
        match question {
            Question::Egress { v6, answer } => {
                let stock = if v6 { &mut stock6 } else { &mut stock4 };
                let mut refusal = None;
                if stock.is_empty() {
                    match agent.egress(v6).await? {
                        Ok(fds) => stock.extend(fds),
                        Err(refused) => refusal = Some(refused),
                    }
                }
                let given = stock.pop_front().ok_or_else(|| {
                    io::Error::other(refusal.unwrap_or_else(|| "the agent gave none".to_owned()))
                });
                // Who asked may have given up.
                let _ = answer.send(given);
            }
            Question::Listen { port, answer } => {
                let given = agent.listen(port).await?;
                // Who asked may have given up.
                let _ = answer.send(given.map_err(io::Error::other));
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio wants to be told that the descriptor stays open")]
fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `OwnedFd` moves into the `AsyncFd`, gives the same descriptor always and keeps it
    // open until it is dropped.
    unsafe { AsyncFd::register(fd) }.map_err(Into::into)
}

/// The socket to the agent.
struct Agent {
    socket: AsyncFd<OwnedFd>,
    workload: Arc<LocalWorkload>,
    moved: Arc<Notify>,
}

impl Agent {
    async fn egress(&self, v6: bool) -> io::Result<Result<Vec<OwnedFd>, String>> {
        self.send(&ToAgent::Egress { count: EGRESS_BATCH, v6 }).await?;
        loop {
            match self.receive().await? {
                (FromAgent::Egress { v6: of, refused }, fds) if of == v6 => {
                    return Ok(refused.map_or(Ok(fds), Err));
                }
                (other, _) => self.take_unasked(&other),
            }
        }
    }

    async fn listen(&self, port: u16) -> io::Result<Result<Vec<OwnedFd>, String>> {
        self.send(&ToAgent::Listen { port }).await?;
        loop {
            match self.receive().await? {
                (FromAgent::Listen { port: of, refused }, fds) if of == port => {
                    return Ok(refused.map_or(Ok(fds), Err));
                }
                (other, _) => self.take_unasked(&other),
            }
        }
    }

    fn take_unasked(&self, message: &FromAgent) {
        match message {
            FromAgent::WorkloadEnds => {
                tracing::info!("the workload ends; callers are sent elsewhere");
                self.workload.send_away();
            }
            FromAgent::PortsMoved => self.moved.notify_one(),
            other => tracing::debug!(?other, "unasked message of the agent"),
        }
    }

    async fn send(&self, message: &ToAgent) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        loop {
            let mut guard = self.socket.writable().await?;
            let sent = guard.try_io(|fd| {
                let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
                Ok(send(fd.as_raw_fd(), &bytes, flags)?)
            });
            if let Ok(sent) = sent {
                return sent.map(drop);
            }
        }
    }

    /// The next message. Cancel safe: a message is received as a whole or not at all.
    async fn receive(&self) -> io::Result<(FromAgent, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        loop {
            let mut guard = self.socket.readable().await?;
            let received = guard.try_io(|fd| receive(fd.get_ref(), &mut bytes));
            match received {
                Ok(Ok((0, _))) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok((count, fds))) => return Ok((serde_json::from_slice(&bytes[..count])?, fds)),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

fn receive(fd: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    match recv_with_fds(fd.as_fd(), bytes) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok((0, Vec::new())),
        received => received,
    }
}
