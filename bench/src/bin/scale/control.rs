//! The control plane in a process of its own, and what it costs.

use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::Context;
use ironmesh_model::bootstrap::ControlBootstrap;
use ironmesh_model::settings::Settings;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The argument by which this program becomes a control plane.
pub(crate) const WORD: &str = "control";

/// Key with which the proxies' tokens are signed.
pub(crate) const TOKEN_KEY: &str =
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A running control plane; ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Control {
    directory: tempfile::TempDir,
    child: Child,
}

impl Control {
    /// Starts one, and waits until it can be reached.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let program = std::env::current_exe()?;
        let child = Command::new(program).arg(WORD).arg(directory.path()).spawn()?;
        let control = Self { directory, child };
        while !control.anchors_file().exists() || !control.push_file().exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(control)
    }

    /// The socket of its API.
    pub(crate) fn api(&self) -> PathBuf {
        api_socket(self.directory.path())
    }

    /// Where its push protocol is.
    pub(crate) fn push_address(&self) -> anyhow::Result<SocketAddr> {
        Ok(std::fs::read_to_string(self.push_file())?.parse()?)
    }

    /// The certificates by which it is known.
    pub(crate) fn anchors(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.anchors_file())?)
    }

    /// CPU time that it has used.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut nanoseconds = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may have ended meanwhile.
            let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) else {
                continue;
            };
            nanoseconds += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
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

    fn push_file(&self) -> PathBuf {
        push_file(self.directory.path())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn api_socket(directory: &Path) -> PathBuf {
    directory.join("api.sock")
}

fn push_file(directory: &Path) -> PathBuf {
    directory.join("push")
}

/// Is a control plane until it is killed.
pub(crate) fn run(directory: &Path) -> anyhow::Result<()> {
    raise_limit_of_descriptors()?;
    let api = std::os::unix::net::UnixListener::bind(api_socket(directory))?;
    let push = std::net::TcpListener::bind("127.0.0.1:0")?;
    let push_address = push.local_addr()?;
    let mut limits = ironmesh_model::limits::Limits::default();
    limits.control.push_connections_max = 8_192;
    let bootstrap = ControlBootstrap {
        mesh: "bench".to_owned(),
        api_fds: vec![api.into_raw_fd()],
        report_fd: None,
        push_fd: push.into_raw_fd(),
        push_address,
        state: directory.join("state"),
        logs: directory.join("logs"),
        token_key: TOKEN_KEY.to_owned(),
        settings: Settings::default(),
        service_network: "10.96.0.0/16".to_owned(),
        user_ids: true,
        limits,
    };
    let unfinished = directory.join("push.next");
    std::fs::write(&unfinished, push_address.to_string())?;
    std::fs::rename(unfinished, push_file(directory))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ironmesh_control::serve(bootstrap))?;
    Ok(())
}

/// Thousands of connections need as many descriptors.
pub(crate) fn raise_limit_of_descriptors() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}
