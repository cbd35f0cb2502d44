//! The control process of a mesh, and what it costs.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Context;
use ironmesh_model::bootstrap::ControlBootstrap;
use ironmesh_model::settings::Settings;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// Key with which the proxies' tokens are signed.
pub(crate) const TOKEN_KEY: &str =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A running control plane; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    directory: tempfile::TempDir,
    child: Child,
    push_address: SocketAddr,
}

impl Control {
    /// Starts one, and waits until it can be reached.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let push = TcpListener::bind("127.0.0.1:0")?;
        let push_address = push.local_addr()?;
        let child = spawn(directory.path(), push)?;
        let control = Self { directory, child, push_address };
        while !control.anchors_file().exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(control)
    }

    /// Ends it without warning, and starts it again with what it had stored.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        std::fs::remove_file(self.api())?;
        self.child = spawn(self.directory.path(), TcpListener::bind(self.push_address)?)?;
        Ok(())
    }

    /// The socket of its API.
    pub(crate) fn api(&self) -> PathBuf {
        self.directory.path().join(API)
    }

    /// Where its push protocol is.
    pub(crate) fn push_address(&self) -> SocketAddr {
        self.push_address
    }

    /// The certificates by which it is known.
    pub(crate) fn anchors(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.anchors_file())?)
    }

    /// CPU time that it has used, with that of threads that have ended.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let process = Pid::from_raw(self.child.id().try_into()?);
        Ok(clock_gettime(clock_getcpuclockid(process)?)?.into())
    }

    /// Memory that it holds, in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }

    fn anchors_file(&self) -> PathBuf {
        self.directory.path().join("state/anchors.pem")
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &Path, push: TcpListener) -> anyhow::Result<Child> {
    let api = UnixListener::bind(directory.join(API))?;
    let bootstrap = bootstrap(directory, push.local_addr()?);
    let program = std::env::current_exe()?.with_file_name("ironmesh");
    anyhow::ensure!(
        program.exists(),
        "{} is missing: cargo build --release -p ironmesh",
        program.display()
    );
    // Its descriptors are those that a child can be given; bash moves them to their numbers.
    let script = "exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>&1
                  exec \"$0\" internal control --bootstrap-fd 3";
    Ok(Command::new("bash")
        .args(["-c", script])
        .arg(program)
        .stdin(ironmesh_fds::json_memfd("bootstrap", &bootstrap)?)
        .stdout(OwnedFd::from(api))
        .stderr(OwnedFd::from(push))
        .spawn()?)
}

fn bootstrap(directory: &Path, push_address: SocketAddr) -> ControlBootstrap {
    let mut limits = ironmesh_model::limits::Limits::default();
    limits.control.push_connections_max = 8_192;
    ControlBootstrap {
        mesh: "bench".to_owned(),
        api_fds: vec![4],
        secure_api_fds: Vec::new(),
        agent_socket: None,
        report_fd: None,
        push_fd: 5,
        push_address,
        state: directory.join("state"),
        logs: directory.join("logs"),
        token_key: TOKEN_KEY.to_owned(),
        settings: Settings::default(),
        service_network: "10.96.0.0/16".to_owned(),
        user_ids: true,
        keeps_claims: true,
        gateway_ports: Default::default(),
        limits,
    }
}

/// Name of the socket of the API.
const API: &str = "api.sock";

/// Thousands of connections need as many descriptors.
pub(crate) fn raise_limit_of_descriptors() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
