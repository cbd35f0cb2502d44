//! One container: a root of its own, PID and mount namespaces of its own, and capabilities that count in
//! its pod's namespaces alone.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ironmesh_fds as fds;
use ironmesh_model::limits::PlatformLimits;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::setsid;
use serde::{Deserialize, Serialize};

use super::error::AtStep;
use super::init::FAILED;
use super::mesh::clone_into;
use super::pod::PodSandbox;
use super::program::{Program, ProgramFile};
use super::root::{self, Users};
use super::spawn::{Report, SPEC_FD, STATUS_FD, StageStatus, spawn_init_stage};
use super::{SandboxError, Spawned, capabilities, init, system_calls, users};

/// Name of the stage.
pub(super) const STAGE: &str = "container";

/// What a container is like.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The program and its arguments. A program without a slash is looked for in `PATH` of
    /// `environment`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Working directory, made if absent. Default `/`.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// User and group. Honoured where the mesh was started by root; elsewhere there is only 0.
    #[serde(default)]
    pub user: Option<(u32, u32)>,
    /// First of the [`USERS_PER_NAMESPACE`](super::USERS_PER_NAMESPACE) users of the mesh's root
    /// that stand for the users of this container. Where the mesh was started by root there must
    /// be one, as the container's root would be the host's; elsewhere there is only one user.
    #[serde(default)]
    pub uid_base: Option<u32>,
    /// The image whose files its root has; none: the host's tree.
    #[serde(default)]
    pub image: Option<ImageRoot>,
    /// What is mounted over the root. Targets are made.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Files written into the root before anything runs, such as `/etc/hosts`.
    #[serde(default)]
    pub files: Vec<RootFile>,
    /// Directories of the host whose content is not to be seen, such as the user's home: an empty
    /// one of the container's own is in their place. They may be absent, or inside one another.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
    /// Bytes that the container may write outside its volumes; they are in memory.
    pub writable_bytes_max: u64,
    /// What its program may take of the machine.
    #[serde(default)]
    pub limits: ProgramLimits,
}

/// The files of an image.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageRoot {
    /// The folders of its layers, the uppermost first, as layers of an overlay with `userxattr`. On
    /// them users have the numbers that they have in the container.
    pub layers: Vec<PathBuf>,
}

/// What the program of a container may take of the machine.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ProgramLimits {
    /// Processes and threads of its user in its pod. Default 4 096.
    pub processes: u32,
    /// Open files of one process. Default 65 536.
    pub open_files: u32,
    /// Capabilities of the program, a bit each, in the user namespace of its pod, which owns the pod's
    /// network, host name and IPC namespaces, but no mounts. User 0 has them; they bound what others
    /// could get. Default none.
    #[serde(default)]
    pub capabilities: u32,
}

impl Default for ProgramLimits {
    fn default() -> Self {
        let limits = PlatformLimits::default();
        Self { processes: limits.processes_max, open_files: limits.open_files_max, capabilities: 0 }
    }
}

/// Something mounted at a path of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    /// What.
    pub source: VolumeSource,
    /// Where, absolute.
    pub target: PathBuf,
    /// Whether it can only be read.
    #[serde(default)]
    pub read_only: bool,
    /// Whether its files belong to the users of a container by their numbers, whatever these are
    /// outside: those of a folder that outlives the pod.
    #[serde(default)]
    pub mapped: bool,
}

/// What a volume is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeSource {
    /// A file or directory of the mesh's mount namespace, such as an emptyDir that containers share.
    Path(PathBuf),
    /// A mount that is attached nowhere, as `open_tree(2)` clones one: its place in
    /// [`ContainerIo::volumes`].
    Descriptor(usize),
}

/// A file of a container's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RootFile {
    /// Where, absolute.
    pub path: PathBuf,
    /// What is in it.
    pub content: String,
}

/// Descriptors that a container begins with; those not given are `/dev/null`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ContainerIo<'a> {
    /// Standard input.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
    /// The program itself, where it is not in the container's root; `argv[0]` is then only a name.
    pub program: Option<&'a ProgramFile>,
    /// What [`VolumeSource::Descriptor`] names.
    pub volumes: &'a [BorrowedFd<'a>],
    /// `cgroup.procs` of the cgroup that all its processes are in; none: that of the agent.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Starts a container in a pod.
///
/// The child (`Spawned::pid`) lives as long as the container and ends with the status of its
/// program, `128 + n` after signal n. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and
/// SIGWINCH sent to it reach the program; SIGKILL ends the whole container. It may be called on any
/// thread of the agent.
///
/// # Errors
///
/// If no process could be made. All else is reported by `Spawned::status`.
pub fn spawn(pod: &PodSandbox, spec: &ContainerSpec, io: ContainerIo<'_>) -> io::Result<Spawned> {
    let has_program = io.program.is_some();
    let volumes = io.volumes.len();
    let has_cgroup = io.cgroup.is_some();
    let instructions = Instructions { spec: spec.clone(), has_program, has_cgroup, volumes };
    let document = fds::json_memfd(STAGE, &instructions)?;
    let (status, report) = fds::pipe()?;
    let mut descriptors = vec![
        (document.as_fd(), SPEC_FD),
        (report.as_fd(), STATUS_FD),
        (pod.netns(), NETNS_FD),
        (pod.utsns(), UTSNS_FD),
        (pod.ipcns(), IPCNS_FD),
        (pod.userns(), USERNS_FD),
    ];
    let streams = [
        (io.stdin, 0),
        (io.stdout, 1),
        (io.stderr, 2),
        (io.program.map(AsFd::as_fd), PROGRAM_FD),
        (io.cgroup, CGROUP_FD),
    ];
    descriptors.extend(streams.into_iter().filter_map(|(fd, number)| Some((fd?, number))));
    descriptors.extend(io.volumes.iter().copied().zip(FIRST_VOLUME_FD..));
    let pid = spawn_init_stage(STAGE, &descriptors)?;
    Ok(Spawned { pid, status: StageStatus::new(status) })
}

/// What the stage reads.
#[derive(Debug, Serialize, Deserialize)]
struct Instructions {
    spec: ContainerSpec,
    has_program: bool,
    has_cgroup: bool,
    /// How many descriptors of volumes there are.
    volumes: usize,
}

/// The stage: PID 1 of the container, which enters the pod, starts the program, and stays until it
/// has ended.
pub(super) fn stage() -> ExitCode {
    init::stage(start)
}

fn start(status: &mut Option<OwnedFd>) -> Result<u8, SandboxError> {
    init::block_signals()?;
    umask(Mode::empty());
    let document = fds::take_inherited(SPEC_FD).step("take", "the instructions")?;
    let instructions: Instructions = fds::read_json(document).step("read", "the instructions")?;
    if instructions.has_cgroup {
        init::join_cgroup(CGROUP_FD)?;
    }
    for (number, kind) in [
        (NETNS_FD, CloneFlags::CLONE_NEWNET),
        (UTSNS_FD, CloneFlags::CLONE_NEWUTS),
        (IPCNS_FD, CloneFlags::CLONE_NEWIPC),
    ] {
        let namespace = fds::take_inherited(number).step("take", "a namespace")?;
        setns(namespace, kind).step("enter", "a namespace of the pod")?;
    }
    let program = instructions.has_program.then(|| fds::take_inherited(PROGRAM_FD)).transpose();
    let program = program.step("take", "the program")?;
    let volumes = (FIRST_VOLUME_FD..).take(instructions.volumes).map(fds::take_inherited);
    let volumes: Vec<OwnedFd> = volumes.collect::<io::Result<_>>().step("take", "a volume")?;
    let namespace = fds::take_inherited(USERNS_FD).step("take", "the user namespace")?;
    become_init(&instructions.spec, Given { namespace, program, volumes }, status)
}

/// What the container's init has from the agent.
struct Given {
    /// The pod's user namespace.
    namespace: OwnedFd,
    program: Option<OwnedFd>,
    volumes: Vec<OwnedFd>,
}

/// Makes the container, starts its program, and is its parent until it has ended.
fn become_init(
    spec: &ContainerSpec,
    given: Given,
    status: &mut Option<OwnedFd>,
) -> Result<u8, SandboxError> {
    let Given { namespace, program: by, volumes } = given;
    let users = own_users(spec, &namespace)?;
    // The host's /proc, which is gone later, counts as the agent does.
    let pid = init::agents_pid()?;
    let program = Program::new(&spec.argv, &spec.environment)?;
    unshare(CloneFlags::CLONE_NEWNS).step("create", "a mount namespace")?;
    root::enter(spec, users.as_ref(), &volumes)?;
    drop(volumes);
    if let Some(users) = &users {
        give_streams(users.outside(spec.user.map_or(0, |(user, _)| user))?)?;
    }
    users::enter_namespace(&namespace, users.is_none())?;
    drop((users, namespace));
    let Some(child) = clone_into(CloneFlags::empty()).step("fork", "the program")? else {
        let error = run(spec, &program, by.as_ref().map(AsFd::as_fd));
        init::fail(status.as_ref(), error);
        std::process::exit(i32::from(FAILED));
    };
    // The report ends when the program's own copies of it are closed, by exec.
    drop(by);
    init::report(status.take(), &Report::Started(pid));
    init::release_streams()?;
    capabilities::keep_only(&[capabilities::KILL], false)?;
    Ok(init::supervise(child))
}

/// Becomes the program; only a failure comes back.
fn run(spec: &ContainerSpec, program: &Program, by: Option<BorrowedFd<'_>>) -> SandboxError {
    let is_only_user = spec.uid_base.is_none();
    match drop_rights(spec.user, spec.limits, is_only_user) {
        Ok(()) => program.execute(spec.directory.as_deref().unwrap_or(Path::new("/")), by),
        Err(error) => error,
    }
}

/// A session of its own, the user that was asked for, only the capabilities that it may have, and what
/// limits a program. Where there is a single user, capture cannot tell a proxy by it.
pub(super) fn drop_rights(
    user: Option<(u32, u32)>,
    limits: ProgramLimits,
    is_only_user: bool,
) -> Result<(), SandboxError> {
    umask(Mode::from_bits_truncate(0o022));
    setsid().step("begin", "a session")?;
    if let Some((user, group)) = user {
        users::become_user(user, group)?;
    }
    let is_root = user.is_none_or(|(user, _)| user == 0);
    let given = limits.capabilities & capabilities::GRANTABLE;
    capabilities::leave_program(given, is_root)?;
    limit(limits)?;
    system_calls::confine(given, is_only_user)
}

/// Keeps a program from taking all processes and descriptors of the machine.
fn limit(limits: ProgramLimits) -> Result<(), SandboxError> {
    for (resource, name, wanted) in [
        (Resource::RLIMIT_NPROC, "processes", limits.processes),
        (Resource::RLIMIT_NOFILE, "open files", limits.open_files),
    ] {
        let (soft, hard) = getrlimit(resource).step("read the limit of", name)?;
        let hard = hard.min(u64::from(wanted));
        setrlimit(resource, soft.min(hard), hard).step("limit", name)?;
    }
    Ok(())
}

/// Users of the container's own; none in a mesh of a single user, which is nobody else's.
fn own_users(spec: &ContainerSpec, namespace: &OwnedFd) -> Result<Option<Users>, SandboxError> {
    if let Some(base) = spec.uid_base {
        let namespace = namespace.try_clone().step("copy", "the user namespace")?;
        return Ok(Some(Users { namespace, base }));
    }
    match users::is_only_one()? {
        true => Ok(None),
        false => Err(SandboxError::new("run", "a container as the host's root", libc::EPERM)),
    }
}

/// Gives pipes and files that the container writes to its user, so that `/dev/stdout` can be opened.
/// Its log in the host's folder is then that user's, too.
fn give_streams(user: u32) -> Result<(), SandboxError> {
    for stream in [io::stdout().as_fd(), io::stderr().as_fd()] {
        let copy = stream.try_clone_to_owned().step("copy", "a stream")?;
        let file = File::from(copy);
        let kind = file.metadata().step("look at", "a stream")?.file_type();
        if kind.is_fifo() || kind.is_file() {
            fchown(&file, Some(user), None).step("change owner of", "a stream")?;
        }
    }
    Ok(())
}

// Numbers under which the stage finds what it inherits.
const NETNS_FD: RawFd = 5;
const UTSNS_FD: RawFd = 6;
const IPCNS_FD: RawFd = 7;
const USERNS_FD: RawFd = 8;
const PROGRAM_FD: RawFd = 9;
const CGROUP_FD: RawFd = 10;
const FIRST_VOLUME_FD: RawFd = 11;
