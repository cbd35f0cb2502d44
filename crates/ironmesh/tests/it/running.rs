//! A mesh in the background, as the user of this process or another.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// A mesh in the background; it ends with this.
pub(crate) struct Running {
    /// Its name.
    pub(crate) name: String,
    /// Where its commands run, with the manifest as `mesh.yaml`.
    pub(crate) folder: TempDir,
    binary: PathBuf,
    /// The user whose mesh it is, if it is another.
    user: Option<u32>,
}

impl Running {
    /// A name and a folder for a mesh that is not started yet.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("it-{}-{number}", std::process::id());
        let binary = PathBuf::from(env!("CARGO_BIN_EXE_ironmesh"));
        Self { name, folder: tempfile::tempdir().unwrap(), binary, user: None }
    }

    /// As [`new`](Self::new), for a mesh of a user without rights. Only root can do this.
    fn of_user(user: u32) -> Self {
        let mut running = Self::new();
        let folder = running.folder.path();
        // The binaries may lie where that user may not look.
        for file in [&running.binary, &samples()] {
            if let (true, Some(name)) = (file.exists(), file.file_name()) {
                fs::copy(file, folder.join(name)).unwrap();
            }
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
        chown(folder, Some(user), Some(user)).unwrap();
        running.binary = folder.join("ironmesh");
        running.user = Some(user);
        running
    }

    /// Starts a mesh with a manifest; `None`, said why, where namespaces are forbidden.
    pub(crate) fn start(manifest: &str, options: &[&str]) -> Option<Self> {
        Self::new().started(manifest, options)
    }

    /// As [`start`](Self::start), of one that is not started yet.
    pub(crate) fn started(self, manifest: &str, options: &[&str]) -> Option<Self> {
        self.write("mesh.yaml", manifest);
        let up = self.run(&[&["up", "--detach", "mesh.yaml"], options].concat());
        if up.code != 0 && up.err.contains("does not let ironmesh run") {
            println!("SKIPPED: {}", up.err.trim());
            return None;
        }
        assert_eq!(up.code, 0, "{up:?}");
        Some(self)
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A command of this mesh that is not run yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--mesh", &self.name]).args(arguments).current_dir(self.folder.path());
        command.env("XDG_STATE_HOME", self.folder.path().join("state-home"));
        command.env("HOME", self.folder.path()).env_remove("XDG_CACHE_HOME");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments))
    }

    /// As [`run`](Self::run), of one that must succeed; its output.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let said = self.run(arguments);
        assert_eq!(said.code, 0, "{arguments:?}: {said:?}");
        said.out
    }

    /// What runs.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "-o", "json"])).unwrap()
    }

    /// Whether it is a mesh of root's, whose pods have users of their own.
    pub(crate) fn is_of_root(&self) -> bool {
        self.user.is_none() && nix::unistd::geteuid().is_root()
    }

    /// Whether the user of this mesh may listen on ports below 1024.
    pub(crate) fn may_use_low_ports(&self) -> bool {
        self.status()["lowest_port"] == 0
    }

    /// What the status says of a pod whose name begins so.
    pub(crate) fn pod(&self, name: &str) -> Option<Value> {
        let status = self.status();
        let is_it = |pod: &&Value| pod["name"].as_str().is_some_and(|n| n.starts_with(name));
        status["pods"].as_array().unwrap().iter().find(is_it).cloned()
    }

    /// The process of a pod's first container, on the host.
    pub(crate) fn pid(&self, pod: &str) -> Option<i64> {
        self.pod(pod).and_then(|pod| pod["pid"].as_i64())
    }

    /// Waits until a log has a line; returns the log.
    pub(crate) fn await_log(&self, pod: &str, line: &str) -> String {
        await_some(&format!("{line:?} in the log of {pod}"), || {
            let log = self.run(&["logs", pod]).out;
            log.lines().any(|other| other == line).then_some(log)
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.run(&["down"]);
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    /// Its exit code.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Said {
    /// Runs a command to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Tells a story of a mesh with this manifest, as this user and, as root, as one without rights.
pub(crate) fn as_every_user(manifest: &str, options: &[&str], story: impl Fn(&Running)) {
    if let Some(mesh) = Running::start(manifest, options) {
        story(&mesh);
    }
    if nix::unistd::geteuid().is_root()
        && let Some(mesh) = Running::of_user(UNPRIVILEGED).started(manifest, options)
    {
        story(&mesh);
    }
}

/// User of unprivileged meshes: `nobody`.
const UNPRIVILEGED: u32 = 65_534;

/// The sample applications, beside the binary under test. `cargo xtask test` builds them.
pub(crate) fn samples() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_ironmesh")).with_file_name("ironmesh-samples")
}

/// Looks until there is something to see.
pub(crate) fn await_some<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    for _ in 0..3_000 {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain for {what}");
}

/// Ends a process of the host at once.
pub(crate) fn kill(pid: i64) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}
