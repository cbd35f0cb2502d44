//! Limits of memory: a cgroup of its own for each container that has one. They are made on the host
//! side, since the mesh has a `/sys` of its own, where no cgroup is seen.
//!
//! A cgroup outlives the processes in it, and `up` may be killed. So a process beside the mesh waits
//! for the end of `up`, however it comes, and removes what is left ([`sweep`]).

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

/// The cgroups of a mesh.
#[derive(Debug)]
pub(super) struct MemoryGroups {
    folder: PathBuf,
    version: Version,
    /// Those that could not be removed yet: what was in them is still ending.
    ended: Vec<u64>,
    _sweeper: Sweeper,
}

/// Version of the kernel's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl MemoryGroups {
    /// The cgroup of a mesh, below that of this process or beside it.
    ///
    /// # Errors
    ///
    /// If there is none that can be written; as text.
    pub(super) fn new(mesh: &str) -> Result<Self, String> {
        let read = |path| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
        let (mounts, own) = (read("/proc/self/mountinfo")?, read("/proc/self/cgroup")?);
        let parent = parent(&mounts, &own).ok_or(
            "no cgroup with a memory controller can be written here (as root it can, and where \
             systemd delegates one: systemd-run --user --scope -p Delegate=yes ironmesh up)",
        )?;
        let (parent, version) = parent;
        let uid = nix::unistd::geteuid();
        let folder = parent.join(format!("ironmesh.{uid}.{mesh}"));
        // One that was left, if this process and the one that sweeps were both killed.
        remove_tree(&folder);
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir(&folder).map_err(failed)?;
        let sweeper = Sweeper::new(&folder).map_err(failed)?;
        if version == Version::Two {
            fs::write(folder.join("cgroup.subtree_control"), "+memory").map_err(failed)?;
        }
        Ok(Self { folder, version, ended: Vec::new(), _sweeper: sweeper })
    }

    /// Makes a cgroup whose processes may have so many bytes, swap included. Returns the file by which
    /// a process joins it, and the one that counts those which were killed for more.
    pub(super) fn make(&mut self, id: u64, bytes: u64) -> io::Result<[OwnedFd; 2]> {
        self.remove_ended();
        let folder = self.folder.join(id.to_string());
        fs::create_dir(&folder)?;
        let set = |name: &str, value: u64| fs::write(folder.join(name), value.to_string());
        let events = match self.version {
            Version::One => {
                set("memory.limit_in_bytes", bytes)?;
                // Absent where the kernel does not count swap.
                let _ = set("memory.memsw.limit_in_bytes", bytes);
                "memory.oom_control"
            }
            Version::Two => {
                set("memory.max", bytes)?;
                let _ = set("memory.swap.max", 0);
                "memory.events"
            }
        };
        let join = File::options().write(true).open(folder.join("cgroup.procs"))?;
        Ok([join.into(), File::open(folder.join(events))?.into()])
    }

    /// Removes a cgroup whose processes have ended.
    pub(super) fn remove(&mut self, id: u64) {
        self.ended.push(id);
        self.remove_ended();
    }

    fn remove_ended(&mut self) {
        let folder = &self.folder;
        self.ended.retain(|id| fs::remove_dir(folder.join(id.to_string())).is_err());
    }
}

/// Where a mesh may make a cgroup with a memory controller: from the text of `/proc/self/mountinfo` and
/// of `/proc/self/cgroup`.
fn parent(mounts: &str, own: &str) -> Option<(PathBuf, Version)> {
    let of = |line: &str| -> Option<(PathBuf, PathBuf, Version)> {
        let (mount, file_system) = line.split_once(" - ")?;
        let [_, _, _, root, at, ..] = mount.split(' ').collect::<Vec<_>>()[..] else { return None };
        let [kind, _, options] = file_system.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let version = match kind {
            "cgroup2" => Version::Two,
            "cgroup" if options.split(',').any(|option| option == "memory") => Version::One,
            _ => return None,
        };
        let of_version = |line: &str| -> Option<PathBuf> {
            let [number, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else {
                return None;
            };
            let is_it = match version {
                Version::One => controllers.split(',').any(|name| name == "memory"),
                Version::Two => number == "0",
            };
            is_it.then(|| PathBuf::from(path))
        };
        let path = own.lines().find_map(of_version)?;
        let below = path.strip_prefix(root).ok()?;
        let is_plain =
            below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        is_plain.then(|| (PathBuf::from(at), Path::new(at).join(below), version))
    };
    mounts.lines().filter_map(of).find_map(|(top, own, version)| {
        let usable = |folder: &&Path| {
            let is_writable = access(*folder, AccessFlags::W_OK).is_ok();
            is_writable && (version == Version::One || gives_memory(folder, *folder == own))
        };
        let mut folders = own.ancestors().take_while(|folder| folder.starts_with(&top));
        let found = match version {
            Version::One => folders.next().filter(usable),
            Version::Two => folders.find(usable),
        };
        found.map(|folder| (folder.to_owned(), version))
    })
}

/// Whether the children of a cgroup of version 2 have a memory controller; `ask`: if not, to give them
/// one, which is refused where processes are in it.
fn gives_memory(folder: &Path, ask: bool) -> bool {
    let control = folder.join("cgroup.subtree_control");
    let gives = || {
        let given = fs::read_to_string(&control).unwrap_or_default();
        given.split_whitespace().any(|name| name == "memory")
    };
    gives() || ask && fs::write(&control, "+memory").is_ok() && gives()
}

/// Removes a cgroup and those in it, as far as they are empty.
fn remove_tree(folder: &Path) {
    for inner in fs::read_dir(folder).into_iter().flatten().flatten() {
        // Only folders can be removed, and those only while nothing is in them.
        let _ = fs::remove_dir(inner.path());
    }
    let _ = fs::remove_dir(folder);
}

/// The process that removes the cgroups once this one has ended.
#[derive(Debug)]
struct Sweeper {
    child: Child,
    /// Closed by the end of this process.
    lifeline: Option<ChildStdin>,
}

impl Sweeper {
    fn new(folder: &Path) -> io::Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .args(["internal", STAGE])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C is for the mesh.
            .process_group(0)
            .spawn()?;
        let lifeline = child.stdin.take();
        Ok(Self { child, lifeline })
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // If it was killed, the next mesh of the name removes what is left.
        let _ = self.child.wait();
    }
}

/// Name of the stage.
pub(crate) const STAGE: &str = "sweep";

/// The stage: waits until standard input is closed, and removes the cgroup and those in it.
pub(crate) fn sweep(folder: &Path) -> ExitCode {
    // What a mesh writes here is nothing.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    for _ in 0..SWEEPS_MAX {
        remove_tree(folder);
        if !folder.exists() {
            return ExitCode::SUCCESS;
        }
        std::thread::sleep(SWEEP_PAUSE);
    }
    ExitCode::FAILURE
}

/// How often the removal is tried: the processes of a mesh that was killed end a moment later.
const SWEEPS_MAX: u32 = 1_000;
const SWEEP_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_where_children_have_a_memory_controller() {
        let top = tempfile::tempdir().unwrap();
        let at = top.path().display();
        let own = top.path().join("user/session");
        fs::create_dir_all(&own).unwrap();
        let control = |folder: &Path, text: &str| {
            fs::write(folder.join("cgroup.subtree_control"), text).unwrap();
        };
        control(top.path(), "cpu memory pids\n");
        control(&top.path().join("user"), "cpu\n");
        let two = format!("30 23 0:26 / {at} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        let found = parent(&two, "0::/user/session\n");
        // Its own one, where processes are, gives none however it is asked.
        assert_eq!(found, Some((top.path().to_owned(), Version::Two)));
        let below = format!("30 23 0:26 /user {at} rw - cgroup2 cgroup2 rw\n");
        assert_eq!(parent(&below, "0::/user\n"), Some((top.path().to_owned(), Version::Two)));
        for (mounts, own) in [
            (&*two, "1:name=systemd:/user/session\n"),
            (&*two, "0::/../session\n"),
            ("", "0::/user/session\n"),
            ("30 23 0:26 / /x rw - cgroup2 cgroup2 rw\n", "0::/\n"),
        ] {
            assert_eq!(parent(mounts, own), None, "{mounts} {own}");
        }
        let one = format!("31 23 0:27 / {at} rw - cgroup cgroup rw,memory\n");
        let found = parent(&one, "5:cpu:/x\n4:memory:/user\n");
        assert_eq!(found, Some((top.path().join("user"), Version::One)));
        let other = format!("31 23 0:27 / {at} rw - cgroup cgroup rw,cpu\n");
        assert_eq!(parent(&other, "4:memory:/user\n"), None);
    }
}
