//! A mesh for one scenario, with pods and containers.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ironmesh_fds as fds;
use ironmesh_local::sandbox::container::{self, ContainerIo, ContainerSpec, ProgramLimits};
use ironmesh_local::sandbox::exec::{self, ExecIo, ExecSpec};
use ironmesh_local::sandbox::mesh::{Entered, MeshSpec, enter_mesh};
use ironmesh_local::sandbox::namespaces::PodUsers;
use ironmesh_local::sandbox::pod::{PodSandbox, PodSpec};
use ironmesh_local::sandbox::{SandboxError, Spawned};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Address of the mesh.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Network of Services.
pub(crate) const SERVICES: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);
/// User of proxies.
pub(crate) const PROXY_USER: u32 = 61_337;
/// Processes of a pod.
const PROCESSES_MAX: u32 = 4_096;
/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Name of the stage that stands in for a proxy.
pub(crate) const LISTENER: &str = "test-listener";
/// Name of the stage that says why a mesh cannot run where it runs.
pub(crate) const PREFLIGHT: &str = "test-preflight";

/// The mesh of a scenario.
#[derive(Debug)]
pub(crate) struct World {
    /// Whether it was started by root.
    pub(crate) root: bool,
    pods: AtomicU32,
}

/// A pod with its number.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) sandbox: PodSandbox,
    pub(crate) index: u32,
}

/// What a finished program left.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) code: i32,
    pub(crate) output: String,
}

/// A running container whose output is read.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) init: i32,
    pub(crate) output: File,
}

/// Why no scenario can run here.
pub(crate) fn why_impossible() -> Option<String> {
    ironmesh_local::preflight::check().err().map(|refusal| refusal.error.to_string())
}

pub(crate) fn mesh_spec() -> MeshSpec {
    MeshSpec { address: GATEWAY, services: SERVICES, hostname: "mesh".to_owned() }
}

/// Enters a mesh; the process outside waits for the scenario.
pub(crate) fn enter(scenario: fn(&World)) -> ExitCode {
    match enter_mesh(&mesh_spec()).unwrap() {
        Entered::Outside { agent, lifeline } => {
            let status = waitpid(Pid::from_raw(agent), None).unwrap();
            drop(lifeline);
            match status {
                WaitStatus::Exited(_, code) => ExitCode::from(code as u8),
                _ => ExitCode::FAILURE,
            }
        }
        Entered::Inside { lifeline, root } => {
            let world = World::new(root);
            scenario(&world);
            drop(lifeline);
            ExitCode::SUCCESS
        }
    }
}

impl World {
    /// The mesh that this process has entered.
    pub(crate) fn new(root: bool) -> Self {
        Self { root, pods: AtomicU32::new(0) }
    }

    /// A fresh pod.
    pub(crate) fn pod(&self) -> Pod {
        self.pod_of(PROCESSES_MAX)
    }

    /// A fresh pod with a limit of processes.
    pub(crate) fn pod_of(&self, processes_max: u32) -> Pod {
        let index = self.pods.fetch_add(1, Ordering::Relaxed);
        let ip = Ipv4Addr::new(10, 77, 0, 2 + index as u8);
        let hostname = format!("pod-{index}");
        let users = self.root.then(|| PodUsers {
            base: first_user(index),
            proxy: PROXY_USER,
            processes_max,
        });
        let spec = PodSpec { index, ip, gateway: GATEWAY, hostname, sysctls: Vec::new(), users };
        Pod { sandbox: PodSandbox::create(&spec).unwrap(), index }
    }

    /// Whether containers have users of their own.
    pub(crate) fn uid_base(&self, pod: &Pod) -> Option<u32> {
        self.root.then(|| first_user(pod.index))
    }
}

impl Pod {
    /// A container that runs this.
    pub(crate) fn spec(&self, world: &World, argv: &[&str]) -> ContainerSpec {
        ContainerSpec {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            environment: environment(),
            uid_base: world.uid_base(self),
            writable_bytes_max: 256 << 20,
            ..ContainerSpec::default()
        }
    }

    /// Starts a container, whose output and errors are read together.
    pub(crate) fn start(&self, spec: &ContainerSpec) -> Result<Running, SandboxError> {
        let (output, write) = fds::pipe().unwrap();
        let (stdout, stderr) = (Some(write.as_fd()), Some(write.as_fd()));
        let io = ContainerIo { stdout, stderr, ..ContainerIo::default() };
        let Spawned { pid, status } = container::spawn(&self.sandbox, spec, io).unwrap();
        Ok(Running { pid, init: status.wait()?, output: output.into() })
    }

    /// Runs a container to its end.
    pub(crate) fn run(&self, world: &World, argv: &[&str]) -> Finished {
        self.start(&self.spec(world, argv)).unwrap().finish()
    }

    /// Runs a shell command in a container to its end.
    pub(crate) fn shell(&self, world: &World, script: &str) -> Finished {
        self.run(world, &["sh", "-c", script])
    }

    /// Connects from within the pod, as an application does.
    pub(crate) fn connect(&self, to: SocketAddrV4) -> std::io::Result<TcpStream> {
        self.sandbox.in_netns(|| TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE)).unwrap()
    }

    /// A server in the pod that answers each connection with `NAME LOCAL PEER`, for good.
    pub(crate) fn serve(&self, name: &str, at: SocketAddrV4) {
        let listener = self.sandbox.listen(at).unwrap();
        listener.set_nonblocking(false).unwrap();
        serve(listener, name);
    }
}

impl Running {
    /// Reads all output and waits for the end.
    pub(crate) fn finish(mut self) -> Finished {
        let mut output = String::new();
        self.output.read_to_string(&mut output).unwrap();
        Finished { code: exit_code(self.pid), output }
    }

    /// Reads until this text has come.
    pub(crate) fn await_output(&mut self, text: &str) -> String {
        let mut seen = String::new();
        let mut buffer = [0; 4096];
        while !seen.contains(text) {
            let count = self.output.read(&mut buffer).unwrap();
            assert!(count > 0, "ended before {text:?}: {seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        seen
    }

    /// Runs one more command in the container.
    pub(crate) fn exec(&self, argv: &[&str]) -> Finished {
        self.run_command(&self.exec_spec(argv))
    }

    /// As [`exec`](Self::exec), of this command.
    pub(crate) fn run_command(&self, spec: &ExecSpec) -> Finished {
        let (output, write) = fds::pipe().unwrap();
        let (stdout, stderr) = (Some(write.as_fd()), Some(write.as_fd()));
        let spawned = exec::spawn(spec, ExecIo { stdout, stderr, ..ExecIo::default() });
        drop(write);
        let Spawned { pid, status } = spawned.unwrap();
        status.wait().unwrap();
        let mut text = String::new();
        File::from(output).read_to_string(&mut text).unwrap();
        Finished { code: exit_code(pid), output: text }
    }

    pub(crate) fn exec_spec(&self, argv: &[&str]) -> ExecSpec {
        ExecSpec {
            limits: ProgramLimits::default(),
            init: self.init,
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            environment: environment(),
            directory: None,
            user: None,
            terminal: None,
        }
    }

    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.pid), signal).unwrap();
    }
}

fn first_user(index: u32) -> u32 {
    1_000_000 + index * 65_536
}

/// Answers each connection with `NAME LOCAL PEER`.
pub(crate) fn serve(listener: TcpListener, name: &str) {
    let name = name.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            let original = original_destination(&stream);
            let _ = write!(stream, "{name} {local} {} {original}", peer.ip());
        }
    });
}

/// What a server of [`serve`] says to who connects.
pub(crate) fn answer(stream: std::io::Result<TcpStream>) -> String {
    match stream {
        Ok(mut stream) => {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        }
        Err(error) => format!("error {}", error.raw_os_error().unwrap_or(-1)),
    }
}

/// Exit code of a child.
pub(crate) fn exit_code(pid: i32) -> i32 {
    match waitpid(Pid::from_raw(pid), None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        other => panic!("{other:?}"),
    }
}

fn original_destination(stream: &TcpStream) -> String {
    use nix::sys::socket::{getsockopt, sockopt::OriginalDst};
    match getsockopt(&stream.as_fd(), OriginalDst) {
        Ok(address) => {
            let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
            format!("{ip}:{}", u16::from_be(address.sin_port))
        }
        Err(errno) => errno.to_string(),
    }
}

/// What a stand-in for a proxy does: says whether it may mark a socket, and what it may not do.
pub(crate) fn listener() -> ExitCode {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let marked = socket.set_mark(1).is_ok();
    let inherited: OwnedFd = fds::take_inherited(16).unwrap();
    let text: Vec<u8> = fds::read_json(inherited).unwrap();
    let written = File::create("/usr/ironmesh-was-here").is_ok();
    let hostname = nix::unistd::gethostname().unwrap();
    let count = |path: &str| std::fs::read_dir(path).unwrap().count();
    let seen = count("/run") + count("/opt");
    println!("marked={marked} inherited={text:?} written={written} host={hostname:?} run={seen}");
    ExitCode::SUCCESS
}

fn environment() -> Vec<(String, String)> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    vec![("PATH".to_owned(), path.to_owned()), ("HOME".to_owned(), "/root".to_owned())]
}
