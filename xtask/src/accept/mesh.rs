//! A mesh under test: the real binary, started as a user would start it.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Who runs the mesh, and from which folder.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Folder with the two binaries, readable by the user; the mesh's home.
    pub home: PathBuf,
    /// `None`: the caller.
    pub user: Option<User>,
}

/// A user account.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Stage {
    /// A command that runs the `ironmesh` binary as this stage's user.
    pub(super) fn ironmesh(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.home.join("ironmesh"));
        command
            .args(args)
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("XDG_STATE_HOME", self.home.join("state"))
            .env_remove("IRONMESH_MESH")
            .stdin(Stdio::null());
        if let Some(user) = &self.user {
            command.uid(user.uid).gid(user.gid);
        }
        command
    }

    /// Runs `ironmesh ARGS` to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// If it fails, with its output.
    pub(super) fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let output = self.output(args)?;
        if !output.status.success() {
            bail!(
                "ironmesh {}: {}\n{}{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `ironmesh ARGS` to its end, however it ends.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(super) fn output(&self, args: &[&str]) -> anyhow::Result<Output> {
        self.ironmesh(args).output().with_context(|| format!("ironmesh {}", args.join(" ")))
    }

    /// Applies manifest text.
    ///
    /// # Errors
    ///
    /// If `apply` fails.
    pub(super) fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let file = self.home.join("apply.yaml");
        fs::write(&file, manifest)?;
        self.run(&["apply", "-f", &file.display().to_string()])
    }

    /// Starts `ironmesh up ARGS` and waits until it has printed its URL.
    ///
    /// # Errors
    ///
    /// If it ends, or prints no URL within 60 s.
    pub(super) fn up(&self, args: &[&str]) -> anyhow::Result<Mesh> {
        let log = self.home.join("up.log");
        let output = File::create(&log)?;
        let mut command = self.ironmesh(&["up"]);
        command.args(args).stdout(output.try_clone()?).stderr(output);
        let started = Instant::now();
        let child = command.spawn().context("ironmesh up does not start")?;
        let mut mesh = Mesh { stage: self.clone(), child, started, gateway: NOWHERE, log };
        mesh.gateway = wait_for("the URL of the gateway", Duration::from_secs(60), || {
            if let Some(status) = mesh.child.try_wait()? {
                bail!("ironmesh up ended: {status}\n{}", mesh.said());
            }
            Ok(gateway_address(&mesh.said()))
        })?;
        Ok(mesh)
    }
}

/// The address in the first `http://ADDRESS:PORT/` of the output of `up`.
fn gateway_address(text: &str) -> Option<SocketAddr> {
    let (authority, _) = text.split_once("http://")?.1.split_once('/')?;
    authority.parse().ok()
}

/// Before the output of `up` says where.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// A running mesh; ended when dropped.
#[derive(Debug)]
pub(super) struct Mesh {
    /// Its stage.
    pub stage: Stage,
    /// `ironmesh up`.
    pub child: Child,
    /// When it was started.
    pub started: Instant,
    /// Where the gateway is published.
    pub gateway: SocketAddr,
    log: PathBuf,
}

impl Mesh {
    /// What `up` has printed so far.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `ironmesh status -o json`.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub(super) fn status(&self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.stage.run(&["status", "-o", "json"])?)?)
    }

    /// Pid of a pod's first application process, as the host sees it.
    ///
    /// # Errors
    ///
    /// If there is no such pod.
    pub(super) fn pod(&self, prefix: &str) -> anyhow::Result<Value> {
        let status = self.status()?;
        let pods = status["pods"].as_array().context("status has no pods")?;
        pods.iter()
            .find(|pod| pod["name"].as_str().is_some_and(|name| name.starts_with(prefix)))
            .cloned()
            .with_context(|| format!("no pod is called {prefix}..."))
    }

    /// Waits until every pod of a namespace is ready.
    ///
    /// # Errors
    ///
    /// If one is not ready within 60 s.
    pub(super) fn wait_ready(&self, namespace: &str, pods: usize) -> anyhow::Result<()> {
        wait_for(&format!("{pods} ready pods in {namespace}"), Duration::from_secs(60), || {
            let table = self.stage.run(&["get", "pods", "-n", namespace, "--no-headers"])?;
            let rows: Vec<Vec<&str>> =
                table.lines().map(|line| line.split_whitespace().collect()).collect();
            let ready = rows.iter().all(|row| {
                row.get(2) == Some(&"Running")
                    && row
                        .get(1)
                        .and_then(|cell| cell.split_once('/'))
                        .is_some_and(|(have, want)| have == want)
            });
            Ok((rows.len() == pods && ready).then_some(()))
        })
    }

    /// The mesh's own processes: descendants of `up` that run its binary.
    pub(super) fn processes(&self) -> Vec<i32> {
        // By file and not by name: of a proxy, which has a root of its own, the name is another.
        let file = |path: &Path| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
        let binary = file(&self.stage.home.join("ironmesh"));
        let pid = i32::try_from(self.child.id()).unwrap_or_default();
        descendants(pid)
            .into_iter()
            .filter(|pid| file(Path::new(&format!("/proc/{pid}/exe"))) == binary)
            .collect()
    }

    /// Ends the mesh as Ctrl-C does, and waits for it.
    ///
    /// # Errors
    ///
    /// If it has not ended within 30 s.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::SIGINT)?;
        wait_for("the end of ironmesh up", Duration::from_secs(30), || {
            Ok(self.child.try_wait()?.map(|_| ()))
        })
    }

    /// Sends a signal to `up`.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub(super) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // If it was waited for there is nothing to end; otherwise its children end with it.
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

/// A process and all its descendants, itself first.
pub(super) fn descendants(pid: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(child) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if let Ok(stat) = fs::read_to_string(format!("/proc/{child}/stat"))
            && let Some((_, rest)) = stat.rsplit_once(") ")
            && let Some(parent) = rest.split(' ').nth(1).and_then(|p| p.parse::<i32>().ok())
        {
            parents.push((child, parent));
        }
    }
    let mut found = vec![pid];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(child, _)| *child));
        next += 1;
    }
    found
}

/// Polls every 20 ms until there is a result.
///
/// # Errors
///
/// If polling fails, or there is no result in time.
pub(super) fn wait_for<T>(
    what: &str,
    longest: Duration,
    mut ask: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + longest;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("waited {longest:?} for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Creates the stage for a user: a new folder with copies of the release binaries.
///
/// # Errors
///
/// If the folder cannot be made.
pub(super) fn stage(root: &Path, user: Option<User>) -> anyhow::Result<Stage> {
    let name = user.as_ref().map_or_else(|| "self".to_owned(), |user| user.name.clone());
    let home = std::env::temp_dir().join(format!("ironmesh-accept-{name}"));
    drop(fs::remove_dir_all(&home));
    fs::create_dir_all(&home)?;
    for binary in ["ironmesh", "ironmesh-samples"] {
        fs::copy(root.join("target/release").join(binary), home.join(binary))
            .with_context(|| format!("target/release/{binary} is not built"))?;
    }
    if let Some(user) = &user {
        std::os::unix::fs::chown(&home, Some(user.uid), Some(user.gid))?;
    }
    Ok(Stage { home, user })
}
