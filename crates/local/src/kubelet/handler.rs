//! What probes and life-cycle hooks do: an HTTP request, a call of gRPC, a connection, a command.
//!
//! Connections come from a socket made in the pod's network with the inbound proxy's mark, so that
//! capture leaves them alone and a strict policy does not change what a probe sees.

mod grpc;
mod tls;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use ironmesh_dialects::kubernetes::kinds::{
    Container, Exec, GrpcProbe, Hook, HttpGet, Probe, ProbeScheme, Sleep, TcpSocket,
};
use ironmesh_dialects::schema::IntegerOrText;
use ironmesh_model::bootstrap::{HEALTH_PORT, INBOUND_MARK};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::launch::{command_inside, sandbox, started};
use super::pod::{PodState, blocking};
use crate::sandbox::exec::{ExecIo, ExecSpec, spawn};
use crate::sandbox::pod::PodSandbox;

/// What a probe or a life-cycle hook does: one of these.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Handler<'a> {
    http_get: Option<&'a HttpGet>,
    tcp_socket: Option<&'a TcpSocket>,
    exec: Option<&'a Exec>,
    grpc: Option<&'a GrpcProbe>,
    sleep: Option<&'a Sleep>,
}

impl<'a> From<&'a Probe> for Handler<'a> {
    fn from(probe: &'a Probe) -> Self {
        Self {
            http_get: probe.http_get.as_ref(),
            tcp_socket: probe.tcp_socket.as_ref(),
            exec: probe.exec.as_ref(),
            grpc: probe.grpc.as_ref(),
            sleep: None,
        }
    }
}

impl<'a> From<&'a Hook> for Handler<'a> {
    fn from(hook: &'a Hook) -> Self {
        Self {
            http_get: hook.http_get.as_ref(),
            tcp_socket: hook.tcp_socket.as_ref(),
            exec: hook.exec.as_ref(),
            grpc: None,
            sleep: hook.sleep.as_ref(),
        }
    }
}

/// Does what a handler says; an error says why it failed, or that it took too long.
pub(super) async fn run(
    state: &Rc<PodState>,
    container: &Container,
    handler: Handler<'_>,
    time: Duration,
) -> Result<(), String> {
    let work = async {
        if let Some(get) = handler.http_get {
            // On the heap: every container holds this future, and few use it at a time.
            Box::pin(http_get(state, container, get)).await
        } else if let Some(tcp) = handler.tcp_socket {
            connect(state, container, &tcp.host, &tcp.port).await.map(drop)
        } else if let Some(call) = handler.grpc {
            let port = IntegerOrText::Integer(call.port.into());
            let stream = connect(state, container, "", &port).await?;
            Box::pin(grpc::check(stream, &call.service)).await
        } else if let Some(exec) = handler.exec {
            command(state, container, &exec.command).await
        } else if let Some(sleep) = handler.sleep {
            tokio::time::sleep(Duration::from_secs(sleep.seconds.get().into())).await;
            Ok(())
        } else {
            Err("it says neither httpGet, tcpSocket, grpc, exec nor sleep".to_owned())
        }
    };
    let late = |_elapsed| format!("no answer within {} s", time.as_secs());
    tokio::time::timeout(time, work).await.map_err(late)?
}

/// Connects to a port of a pod from inside its network, past its proxy.
pub(crate) async fn dial(
    sandbox: Arc<PodSandbox>,
    ip: Ipv4Addr,
    port: u16,
) -> Result<TcpStream, String> {
    let socket = blocking(move || sandbox.marked_socket(INBOUND_MARK)).await;
    let socket = socket.map_err(|error| error.to_string())?;
    let socket = tokio::net::TcpSocket::from_std_stream(socket.into());
    let address = SocketAddr::from((ip, port));
    socket.connect(address).await.map_err(|error| format!("dial tcp {address}: {error}"))
}

async fn connect(
    state: &PodState,
    container: &Container,
    host: &str,
    port: &IntegerOrText,
) -> Result<TcpStream, String> {
    let number = container.port(port).ok_or_else(|| format!("port {port} is not one"))?;
    let sandbox = sandbox(state).map_err(|_none| "the pod has no network yet".to_owned())?;
    let ip = match host {
        "" => sandbox.ip(),
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => host.parse().map_err(|_bad| format!("host {host:?} is no IPv4 address"))?,
    };
    dial(sandbox, ip, number).await
}

/// A connection to the proxy of a pod that nobody else has, for the questions of the agent alone: that
/// others take all of its ports' connections does not make the pod unready.
#[derive(Debug)]
pub(crate) struct ProbeChannel {
    container: String,
    sender: http1::SendRequest<Empty<Bytes>>,
}

impl ProbeChannel {
    /// The agent's end, of the proxy in this container.
    pub(super) async fn new(
        container: &str,
        stream: std::os::unix::net::UnixStream,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let stream = TokioIo::new(UnixStream::from_std(stream)?);
        let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        // How it ends, its sender tells.
        tokio::spawn(connection);
        Ok(Self { container: container.to_owned(), sender })
    }

    async fn ask(&mut self, path: &str) -> Result<StatusCode, hyper::Error> {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = path.parse().unwrap_or_default();
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }
}

/// The channel to a proxy, if that is what a probe asks. It is given back after an answer.
fn take_channel(state: &PodState, container: &Container, get: &HttpGet) -> Option<ProbeChannel> {
    if !get.host.is_empty() || container.port(&get.port) != Some(HEALTH_PORT) {
        return None;
    }
    state.probes.borrow_mut().take_if(|channel| *channel.container == *container.name)
}

async fn http_get(state: &PodState, container: &Container, get: &HttpGet) -> Result<(), String> {
    if let Some(mut channel) = take_channel(state, container, get)
        && let Ok(status) = channel.ask(&get.path).await
    {
        state.probes.borrow_mut().get_or_insert(channel);
        return judge(status);
    }
    let stream = connect(state, container, &get.host, &get.port).await?;
    get_by(stream, get).await
}

/// Makes the request of a probe on a connection.
async fn get_by(stream: TcpStream, get: &HttpGet) -> Result<(), String> {
    let peer = stream.peer_addr().map_err(|error| error.to_string())?;
    match get.scheme {
        ProbeScheme::Https => request(tls::connect(stream).await?, peer, "https", get).await,
        ProbeScheme::Http => request(stream, peer, "http", get).await,
    }
}

/// Probes a workload that is no pod: `dial` connects to a port of it. An error says why it failed, or that
/// it took too long.
pub(crate) async fn probe_by<F: Future<Output = Result<TcpStream, String>>>(
    probe: &Probe,
    dial: impl FnOnce(u16) -> F,
) -> Result<(), String> {
    let number = |port: &IntegerOrText| match port {
        IntegerOrText::Integer(number) => {
            u16::try_from(*number).map_err(|_big| format!("port {number} is not one"))
        }
        IntegerOrText::Text(name) => Err(format!("port {name} is no number")),
    };
    let work = async {
        if let Some(get) = &probe.http_get {
            get_by(dial(number(&get.port)?).await?, get).await
        } else if let Some(tcp) = &probe.tcp_socket {
            dial(number(&tcp.port)?).await.map(drop)
        } else if let Some(call) = &probe.grpc {
            grpc::check(dial(call.port).await?, &call.service).await
        } else {
            Err("it says neither httpGet, tcpSocket nor grpc".to_owned())
        }
    };
    let time = Duration::from_secs(probe.timeout_seconds.get().into());
    let late = |_elapsed| format!("no answer within {} s", time.as_secs());
    tokio::time::timeout(time, work).await.map_err(late)?
}

/// Sends the request of a handler on a connection, and judges the status of the answer.
async fn request<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    peer: SocketAddr,
    scheme: &str,
    get: &HttpGet,
) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("Get \"{scheme}://{peer}{}\": {error}", get.path);
    let (mut sender, connection) =
        http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await.map_err(failed)?;
    let connection = tokio::spawn(connection);
    let path = if get.path.starts_with('/') { get.path.clone() } else { format!("/{}", get.path) };
    let mut request = Request::builder().uri(path).header("connection", "close");
    let given = |name: &str| get.http_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    for (name, value) in [("host", peer.to_string()), ("user-agent", "kube-probe/1.30".to_owned())]
    {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for header in &get.http_headers {
        request = request.header(header.name.to_ascii_lowercase(), &header.value);
    }
    let request = request.body(Empty::new()).map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(failed)?;
    connection.abort();
    judge(response.status())
}

fn judge(status: StatusCode) -> Result<(), String> {
    match status.as_u16() {
        200..=399 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

/// Runs a command in the container, without its output. It is killed if the caller waits no more.
async fn command(
    state: &PodState,
    container: &Container,
    command: &[String],
) -> Result<(), String> {
    let inside = state.inits.borrow().get(container.name.as_str()).cloned();
    let inside = inside.ok_or_else(|| format!("container {} does not run", container.name))?;
    let cgroup = inside.cgroup.clone();
    let cgroup = cgroup.as_deref().map(AsFd::as_fd);
    let (argv, program) = command_inside(&state.node, &inside.image, command.to_vec());
    let spec = ExecSpec {
        limits: inside.limits,
        init: inside.init,
        argv,
        environment: inside.environment,
        directory: inside.directory,
        user: inside.user,
        terminal: None,
    };
    let spawned = spawn(&spec, ExecIo { program, cgroup, ..ExecIo::default() })
        .map_err(|error| error.to_string())?;
    let ended = state.node.reaper.expect(spawned.pid);
    let killer = KillOnDrop(Some(spawned.pid));
    started(spawned.status).await.map_err(|error| error.to_string())?;
    let status = ended.await.unwrap_or(255);
    killer.disarm();
    if status == 0 { Ok(()) } else { Err(format!("command ended with exit code {status}")) }
}

/// Kills a child that nobody waits for any more.
pub(crate) struct KillOnDrop(pub(crate) Option<i32>);

impl KillOnDrop {
    /// The child has ended by itself.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            // One that has just ended needs no signal.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}
