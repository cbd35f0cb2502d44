//! However and whenever a mesh is ended, it leaves nothing.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::explain::Random;
use super::failure::Host;
use super::mesh::{Stage, descendants, wait_for};
use super::{Options, ensure, fact};

/// Starts meshes with some of the samples each, and ends them at some moment in one of three ways.
pub(super) fn random(stage: &Stage, options: &Options) -> anyhow::Result<()> {
    let manifests = manifests(&options.samples)?;
    let injected = stage.home.join("default.yaml");
    fs::write(&injected, INJECTED)?;
    let rounds = if options.soak { 100 } else { 30 };
    // The folders that are made once and stay: of state, and of what the user has mapped.
    stage.up(&[])?.stop()?;
    let before = Host::look(stage)?;
    let mut random = Random(0x2545_f491);
    let (mut counts, mut processes) = ([0; 3], 0);
    for round in 0..rounds {
        let mut files: Vec<&Path> = (0..random.below(4))
            .map(|_| &*manifests[random.below(manifests.len() as u64) as usize])
            .collect();
        // None is Bookinfo.
        if !files.is_empty() {
            files.push(&injected);
        }
        let way = random.below(3) as usize;
        let ending = [Ending::Down, Ending::Interrupt, Ending::Kill][way];
        let moment = Duration::from_millis(random.below(LATEST_MS));
        let mut up = start(stage, &files)?;
        thread::sleep(moment);
        let all = descendants(i32::try_from(up.0.id())?);
        let what = || format!("round {round}: {files:?}, {ending:?} after {moment:?}");
        end(&mut up, stage, ending).with_context(what)?;
        let mut left = String::new();
        wait_for("the end of every process and trace", Duration::from_secs(5), || {
            left = Host::look(stage)?.beyond(&before);
            let lasting = all.iter().copied().filter(|pid| lives(*pid));
            for pid in lasting.chain(of_binary(stage)?).collect::<BTreeSet<_>>() {
                left += &format!("process {pid}\n");
            }
            Ok(left.is_empty().then_some(()))
        })
        .with_context(|| format!("{}: left by the mesh:\n{left}", what()))?;
        counts[way] += 1;
        processes += all.len();
    }
    let [down, interrupt, killed] = counts;
    fact(format!(
        "{rounds} meshes ended ({down} down, {interrupt} Ctrl-C, {killed} kill -9) within \
         {LATEST_MS} ms of their start: {processes} processes and every trace gone"
    ));
    // Else all have been ended before they began.
    ensure(processes > rounds * 3, || "hardly a mesh had begun".to_owned())
}

/// How a mesh is ended.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Down,
    Interrupt,
    Kill,
}

/// `ironmesh up`; it is killed with this.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        // One that has ended needs no signal.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(stage: &Stage, files: &[&Path]) -> anyhow::Result<Up> {
    let log = File::create(stage.home.join("up.log"))?;
    let mut command = stage.ironmesh(&["up"]);
    command.args(files).stdout(log.try_clone()?).stderr(log);
    Ok(Up(command.spawn().context("ironmesh up does not start")?))
}

/// Ends a mesh, and waits for `up`.
fn end(Up(up): &mut Up, stage: &Stage, ending: Ending) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(up.id())?);
    match ending {
        Ending::Interrupt => kill(pid, Signal::SIGINT)?,
        Ending::Kill => kill(pid, Signal::SIGKILL)?,
        Ending::Down => wait_for("a mesh to end", Duration::from_secs(60), || {
            // Before it has begun there is nothing to be ended.
            if let Some(status) = up.try_wait()? {
                bail!("ironmesh up ended by itself: {status}");
            }
            Ok(stage.output(&["down"])?.status.success().then_some(()))
        })?,
    }
    let mut said = Instant::now();
    wait_for("the end of ironmesh up", Duration::from_secs(30), || {
        let ended = up.try_wait()?.map(|_| ());
        // Once more, since a shell that runs this in the background has it ignored until `up` listens.
        if ended.is_none() && matches!(ending, Ending::Interrupt) && said.elapsed() > AGAIN {
            kill(pid, Signal::SIGINT)?;
            said = Instant::now();
        }
        Ok(ended)
    })
}

fn lives(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Processes of the binaries of a stage, whoever has started them.
fn of_binary(stage: &Stage) -> anyhow::Result<Vec<i32>> {
    let file = |path: PathBuf| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let binaries = ["ironmesh", "ironmesh-samples"].map(|name| file(stage.home.join(name)));
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let exe = file(entry.path().join("exe"));
        (exe.is_some() && binaries.contains(&exe)).then_some(pid)
    });
    Ok(pids.collect())
}

/// The manifests in a folder and those below.
fn manifests(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                // Go downloads and builds their database, and keeps it for its user.
                _ if path.to_string_lossy().contains("ratings/") => {}
                Some(extension) if extension == "yaml" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    ensure(!found.is_empty(), || format!("no manifests in {}", folder.display()))?;
    Ok(found)
}

/// Has pods get sidecars.
const INJECTED: &str = "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {istio-injection: enabled}}}";
/// A mesh with Bookinfo is ready before.
const LATEST_MS: u64 = 2500;
/// When Ctrl-C is pressed again.
const AGAIN: Duration = Duration::from_secs(5);
