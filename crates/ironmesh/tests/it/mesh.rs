//! A control process without a platform: it answers, and nothing runs.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ironmesh_model::bootstrap::ControlBootstrap;
use ironmesh_model::limits::Limits;
use ironmesh_model::settings::Settings;
use tempfile::TempDir;

/// A running control process, and a folder for the files of a test.
pub(crate) struct Mesh {
    name: String,
    folder: TempDir,
    api: UnixListener,
    push: TcpListener,
    control: Child,
}

impl Mesh {
    /// Starts one.
    pub(crate) fn start() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        let uid = nix::unistd::geteuid();
        let address = SocketAddr::from_abstract_name(format!("ironmesh/{uid}/{name}/api")).unwrap();
        let api = UnixListener::bind_addr(&address).unwrap();
        let push = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = control(&name, &folder, &api, &push);
        Self { name, folder, api, push, control }
    }

    /// Kills the control process, and starts another one with the same sockets and state.
    pub(crate) fn restart(&mut self) {
        self.control.kill().unwrap();
        self.control.wait().unwrap();
        self.control = control(&self.name, &self.folder, &self.api, &self.push);
    }

    /// Runs `ironmesh LINE`, the words split at blanks.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.run_with(line, "")
    }

    /// Runs `ironmesh LINE` with a text on standard input.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ironmesh"));
        command
            .args(["--mesh", &self.name])
            .args(line.split(' ').filter(|word| !word.is_empty()))
            .current_dir(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Said::new(child.wait_with_output().unwrap())
    }

    /// Runs a line until it says this.
    pub(crate) fn until(&self, line: &str, wanted: &str) {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let said = self.run(line);
            if said.code == 0 && said.out.trim() == wanted {
                return;
            }
            last = Some(said);
            std::thread::sleep(PAUSE);
        }
        panic!("{line}: not {wanted:?}, but {last:?}");
    }

    /// Runs a script of bash with the command as `$0` and the mesh's name as `$1`.
    pub(crate) fn shell(&self, script: &str) -> Said {
        let binary = env!("CARGO_BIN_EXE_ironmesh");
        Said::new(Command::new("bash").args(["-c", script, binary, &self.name]).output().unwrap())
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    /// Reads a file of the test's folder.
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// Writes a file of the test's folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.control.kill();
        let _ = self.control.wait();
    }
}

/// Starts the process as the agent does: with its bootstrap and its sockets as descriptors. Those of
/// the standard streams are the ones that a child of this process can be given; bash moves them.
fn control(name: &str, folder: &TempDir, api: &UnixListener, push: &TcpListener) -> Child {
    let bootstrap = ControlBootstrap {
        mesh: name.to_owned(),
        api_fds: vec![4],
        secure_api_fds: Vec::new(),
        agent_socket: None,
        push_address: push.local_addr().unwrap(),
        report_fd: None,
        gateway_ports: [80, 443],
        push_fd: 5,
        state: folder.path().join("state"),
        logs: folder.path().join("logs"),
        token_key: "00".repeat(32),
        settings: Settings::default(),
        service_network: "10.96.0.0/16".to_owned(),
        user_ids: true,
        keeps_claims: true,
        limits: Limits::default(),
    };
    let script = "exec 3<&0 4<&1 5<&2 </dev/null >/dev/null 2>&1
                  exec \"$0\" internal control --bootstrap-fd 3";
    Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_ironmesh")])
        .stdin(ironmesh_fds::json_memfd("bootstrap", &bootstrap).unwrap())
        .stdout(OwnedFd::from(api.try_clone().unwrap()))
        .stderr(OwnedFd::from(push.try_clone().unwrap()))
        .spawn()
        .unwrap()
}

/// What a command said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output of a command that must succeed.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }
}

/// How often a line is run until it says what is waited for.
pub(crate) const ATTEMPTS: u32 = 3_000;
/// Pause between two runs.
const PAUSE: Duration = Duration::from_millis(20);
