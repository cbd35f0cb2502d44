//! Serves the agent's API: status, shutdown, commands in containers, connections to pods.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ironmesh_fds::recv_with_fds;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_local;

use super::agent_api::{Answer, ContainerStatus, Exec, Exit, PodStatus, Request, Status};
use super::externals::External;
use super::kubelet::container::{Kind, Slot};
use super::kubelet::handler::{KillOnDrop, dial};
use super::kubelet::launch::{command_inside, started};
use super::kubelet::pod::{Inside, PodState};
use super::node::Node;
use crate::carry::both_ways;
use crate::sandbox::exec::{ExecIo, ExecSpec, spawn};
use crate::usage;

/// Serves for ever; `shutdown` is rung when a client asks for the end.
pub(crate) async fn serve(node: Rc<Node>, listener: UnixListener, shutdown: Rc<Notify>) {
    let connections = Arc::new(Semaphore::new(node.limits.platform.agent_connections_max));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others will be closed.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (node, shutdown) = (Rc::clone(&node), Rc::clone(&shutdown));
        spawn_local(async move {
            let _permit = permit;
            if let Err(error) = connection(&node, stream, &shutdown).await {
                tracing::debug!(%error, "a client of the agent went away");
            }
        });
    }
}

async fn connection(node: &Rc<Node>, mut stream: UnixStream, shutdown: &Notify) -> io::Result<()> {
    // In a mesh with a user namespace its own user shows as 0, and all others, root of the host
    // included, as nobody.
    if stream.peer_cred()?.uid() != 0 {
        return refuse(&mut stream, "this mesh belongs to another user").await;
    }
    let limits = &node.limits.platform;
    let receive = receive_request(&stream, limits.agent_request_bytes_max);
    let (request, fds) = match tokio::time::timeout(limits.agent_request_timeout, receive).await? {
        Ok(received) => received,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return refuse(&mut stream, &format!("request: {error}")).await;
        }
        Err(error) => return Err(error),
    };
    match request {
        Request::Status => {
            let answer = Answer { status: Some(status(node)), ..Answer::default() };
            send(&mut stream, &answer).await
        }
        Request::Shutdown => {
            let down_timeout = Some(limits.down_timeout);
            send(&mut stream, &Answer { down_timeout, ..Answer::default() }).await?;
            shutdown.notify_one();
            // The connection ends with the agent, so the client sees when nothing is left.
            std::future::pending().await
        }
        Request::External { set, remove } => match change_externals(node, set, &remove) {
            Ok(()) => {
                let externals = Some(node.externals.all());
                send(&mut stream, &Answer { externals, ..Answer::default() }).await
            }
            Err(error) => refuse(&mut stream, &error).await,
        },
        Request::Images { map, unmap } => match change_images(node, &map, &unmap) {
            Ok(()) => {
                let images = Some(node.images.all());
                send(&mut stream, &Answer { images, ..Answer::default() }).await
            }
            Err(error) => refuse(&mut stream, &error).await,
        },
        Request::Usage => {
            let usage = Some(usage::measure(node).await?);
            send(&mut stream, &Answer { usage, ..Answer::default() }).await
        }
        Request::Exec(exec) => run(node, stream, exec, fds).await,
        Request::Input { namespace, pod, container } => {
            input(node, stream, &namespace, &pod, &container).await
        }
        Request::Forward { namespace, pod, port } => {
            forward(node, stream, &namespace, &pod, port).await
        }
    }
}

/// Changes which names lead out of the mesh.
fn change_externals(node: &Node, set: Vec<External>, remove: &[String]) -> Result<(), String> {
    let changes = !set.is_empty() || !remove.is_empty();
    if changes && !node.egress {
        return Err("the mesh was started with --no-egress: nothing leads out of it".to_owned());
    }
    for name in remove {
        if !node.externals.remove(name) {
            return Err(format!(
                "no name {name:?} was given (`ironmesh external` shows which were)"
            ));
        }
    }
    set.into_iter().try_for_each(|external| node.externals.set(external))?;
    if changes { node.externals.keep() } else { Ok(()) }
}

/// Changes which commands stand for images, and has all who wait for one look again.
fn change_images(node: &Node, map: &[String], unmap: &[String]) -> Result<(), String> {
    for pattern in unmap {
        if !node.images.unmap(pattern) {
            return Err(format!(
                "no image {pattern:?} is mapped (`ironmesh image map` shows which are)"
            ));
        }
    }
    for mapping in map {
        node.images.map(mapping).map_err(|error| error.to_string())?;
    }
    node.images.note_change();
    Ok(())
}

/// A request with its descriptors. One to run something is followed by one more line end, which
/// brings the descriptors.
async fn receive_request(
    stream: &UnixStream,
    bytes_max: usize,
) -> io::Result<(Request, Vec<OwnedFd>)> {
    let (mut bytes, mut fds) = (Vec::new(), Vec::new());
    let mut request: Option<Request> = None;
    loop {
        let mut buffer = [0; 4096];
        let received = stream
            .async_io(Interest::READABLE, || recv_with_fds(stream.as_fd(), &mut buffer))
            .await?;
        if received.0 == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..received.0]);
        fds.extend(received.1);
        if fds.len() > REQUEST_FDS_MAX {
            return Err(invalid(format!("more than {REQUEST_FDS_MAX} descriptors came with it")));
        }
        if request.is_none()
            && let Some(end) = bytes.iter().position(|&byte| byte == b'\n')
        {
            let line: Vec<u8> = bytes.drain(..=end).collect();
            request = Some(serde_json::from_slice(&line)?);
        }
        match request.take() {
            Some(Request::Exec(exec)) if !bytes.contains(&b'\n') => {
                request = Some(Request::Exec(exec));
            }
            Some(request) => return Ok((request, fds)),
            None => {}
        }
        if bytes.len() > bytes_max {
            return Err(invalid(format!("it is longer than {bytes_max} bytes")));
        }
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn status(node: &Node) -> Status {
    Status {
        mesh: node.mesh.clone(),
        agent_pid: 1,
        control_pid: node.control_pid.get(),
        urls: node.exposure.of_gateways(),
        notes: node.exposure.inconvenient(),
        node_address: Some(node.exposure.node_address()),
        lowest_port: node.exposure.lowest_port(),
        services: node.exposure.services(),
        log_directory: node.logs.directory().to_owned(),
        pods: node.pods.borrow().values().map(|pod| pod_status(node, pod)).collect(),
    }
}

fn pod_status(node: &Node, state: &PodState) -> PodStatus {
    let (pod, record) = (state.pod.borrow(), state.record.borrow());
    let meta = &pod.metadata;
    let mut status = PodStatus {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        ip: record.ip.clone().unwrap_or_default(),
        phase: record.phase(pod.spec.restart_policy).to_owned(),
        ready: record.ready_count(),
        restarts: record.restarts(),
        log_directory: node.logs.pod(&meta.namespace, &meta.name),
        ..PodStatus::default()
    };
    for (index, (container, record)) in
        pod.spec.containers.iter().zip(&record.containers).enumerate()
    {
        match Slot::new(false, index, container).kind {
            Kind::Sidecar => status.sidecar_pid = record.pid,
            _ => status.pid = status.pid.or(record.pid),
        }
        status.containers.push(ContainerStatus {
            name: container.name.to_string(),
            pid: record.pid,
            log: node.logs.container(&meta.namespace, &meta.name, &container.name),
        });
    }
    status
}

/// Runs a command in a container, until it ends or its client goes away.
async fn run(
    node: &Rc<Node>,
    mut stream: UnixStream,
    exec: Exec,
    fds: Vec<OwnedFd>,
) -> io::Result<()> {
    let inside = match find(node, &exec) {
        Ok(inside) => inside,
        Err(error) => return refuse(&mut stream, &error).await,
    };
    if exec.command.is_empty() {
        return refuse(&mut stream, "you must specify at least one command for the container")
            .await;
    }
    let cgroup = inside.cgroup.clone();
    let cgroup = cgroup.as_deref().map(AsFd::as_fd);
    let mut environment = inside.environment;
    if let Some(term) = exec.term {
        environment.retain(|(name, _)| name != "TERM");
        environment.push(("TERM".to_owned(), term));
    }
    let (argv, program) = command_inside(node, &inside.image, exec.command);
    let spec = ExecSpec {
        limits: inside.limits,
        init: inside.init,
        argv,
        environment,
        directory: inside.directory,
        user: inside.user,
        terminal: exec.tty.then(|| exec.size.unwrap_or((24, 80))),
    };
    let fd = |index: usize| fds.get(index).map(AsFd::as_fd);
    let io = if exec.tty {
        ExecIo { terminal: fd(0), program, cgroup, ..ExecIo::default() }
    } else {
        ExecIo {
            stdin: fd(0).filter(|_| exec.stdin),
            stdout: fd(1),
            stderr: fd(2),
            program,
            cgroup,
            terminal: None,
        }
    };
    let spawned = match spawn(&spec, io) {
        Ok(spawned) => spawned,
        Err(error) => return refuse(&mut stream, &error.to_string()).await,
    };
    let mut ended = node.reaper.expect(spawned.pid);
    let killer = KillOnDrop(Some(spawned.pid));
    drop(fds);
    send(&mut stream, &Answer::default()).await?;
    let error = started(spawned.status).await.err().map(|error| error.to_string());
    let mut end = [0; 1];
    let status = tokio::select! {
        status = &mut ended => status.unwrap_or(255),
        // The client sends nothing more: this is its end, and with it the command's.
        _ = stream.read(&mut end) => return Ok(()),
    };
    killer.disarm();
    let code = if error.is_some() { 126 } else { status };
    send_line(&mut stream, &Exit { code, error }).await
}

/// The container that a command is to run in.
fn find(node: &Node, exec: &Exec) -> Result<Inside, String> {
    let state = node
        .pod(&exec.namespace, &exec.pod)
        .ok_or_else(|| format!("pods \"{}\" not found", exec.pod))?;
    let pod = state.pod.borrow();
    let default = pod.metadata.annotations.get("kubectl.kubernetes.io/default-container");
    let first = pod.spec.containers.first().map(|container| container.name.as_str());
    let given = exec.container.as_deref().or(default.map(String::as_str));
    let name = given.or(first).ok_or("the pod has no container")?;
    let known = pod.spec.containers.iter().chain(&pod.spec.init_containers);
    if !known.into_iter().any(|container| *container.name == *name) {
        return Err(format!("container {name} is not valid for pod {}", exec.pod));
    }
    let inits = state.inits.borrow();
    inits.get(name).cloned().ok_or_else(|| {
        format!("container not found ({name:?}): in pod {} it does not run now", exec.pod)
    })
}

/// Connects to a port on a pod's own loopback, and relays.
async fn forward(
    node: &Node,
    mut stream: UnixStream,
    namespace: &str,
    pod: &str,
    port: u16,
) -> io::Result<()> {
    let sandbox = node.pod(namespace, pod).and_then(|state| state.sandbox.get().cloned());
    let Some(sandbox) = sandbox else {
        return refuse(&mut stream, &format!("pods \"{pod}\" not found, or not running yet")).await;
    };
    let dial = dial(sandbox, Ipv4Addr::LOCALHOST, port);
    match tokio::time::timeout(node.limits.platform.agent_request_timeout, dial).await? {
        Ok(mut target) => {
            send(&mut stream, &Answer::default()).await?;
            both_ways(&mut stream, &mut target).await;
            Ok(())
        }
        Err(error) => refuse(&mut stream, &error).await,
    }
}

/// Writes what comes to the standard input of a container. It ends with the first who has written, if the
/// manifest says so.
async fn input(
    node: &Node,
    mut stream: UnixStream,
    namespace: &str,
    pod: &str,
    container: &str,
) -> io::Result<()> {
    let state = node.pod(namespace, pod);
    let input = state.as_ref().and_then(|state| state.inputs.borrow().get(container).cloned());
    let (Some(state), Some(input)) = (state, input) else {
        // Whoever asks has looked into the manifest already.
        let why = format!(
            "the standard input of container {container} of pod {pod} is closed: the container has \
             ended, or takes its input from one writer only (stdinOnce)"
        );
        return refuse(&mut stream, &why).await;
    };
    let mut writing = Sender::from_owned_fd(input.try_clone()?)?;
    drop(input);
    send(&mut stream, &Answer::default()).await?;
    // It may end before all is written; then nobody reads the rest.
    let written = tokio::io::copy(&mut stream, &mut writing).await;
    let is_once = {
        let pod = state.pod.borrow();
        let mut all = pod.spec.containers.iter().chain(&pod.spec.init_containers);
        all.any(|other| *other.name == *container && other.stdin_once)
    };
    if is_once {
        state.inputs.borrow_mut().remove(container);
    }
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map(drop),
    }
}

async fn refuse(stream: &mut UnixStream, error: &str) -> io::Result<()> {
    send(stream, &Answer { error: Some(error.to_owned()), ..Answer::default() }).await
}

async fn send(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    send_line(stream, answer).await
}

async fn send_line<T: serde::Serialize>(stream: &mut UnixStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Descriptors of a request: standard input, output and error.
const REQUEST_FDS_MAX: usize = 3;
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
