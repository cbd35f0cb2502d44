//! One more command inside a running container.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ironmesh_fds as fds;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sched::{CloneFlags, setns};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};
use serde::{Deserialize, Serialize};

use super::container::{ProgramLimits, drop_rights};
use super::error::AtStep;
use super::init::FAILED;
use super::mesh::clone_into;
use super::program::{Program, ProgramFile};
use super::spawn::{SPEC_FD, STATUS_FD, StageStatus, spawn_stage};
use super::{SandboxError, Spawned, init, users};

/// Name of the stage.
pub(super) const STAGE: &str = "exec";

/// What is executed, and where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecSpec {
    /// First process of the container, as [`super::StageStatus::wait`] gave it.
    pub init: i32,
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Working directory. Default `/`.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// User and group, as of the container.
    #[serde(default)]
    pub user: Option<(u32, u32)>,
    /// Whether the command gets a terminal of the container, rows and columns. Its master is sent
    /// over [`ExecIo::terminal`] before the command starts.
    #[serde(default)]
    pub terminal: Option<(u16, u16)>,
    /// What the command may take of the machine, as of the container.
    #[serde(default)]
    pub limits: ProgramLimits,
}

/// Descriptors that a command begins with; those not given are `/dev/null`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExecIo<'a> {
    /// Standard input.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Standard output.
    pub stdout: Option<BorrowedFd<'a>>,
    /// Standard error.
    pub stderr: Option<BorrowedFd<'a>>,
    /// Where the master of the terminal is sent, with one byte: a unix socket.
    pub terminal: Option<BorrowedFd<'a>>,
    /// The program itself, where it is not in the container's root; `argv[0]` is then only a name.
    pub program: Option<&'a ProgramFile>,
    /// `cgroup.procs` of the cgroup that the container is in; none: that of the agent.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Starts a command in a running container.
///
/// The child ends with the command's status (`128 + n` after signal n), passes signals on as
/// [`super::container::spawn`]'s does, and when it is killed the command dies.
///
/// # Errors
///
/// If no process could be made. All else is reported by `Spawned::status`.
pub fn spawn(spec: &ExecSpec, io: ExecIo<'_>) -> io::Result<Spawned> {
    let (has_program, has_cgroup) = (io.program.is_some(), io.cgroup.is_some());
    let instructions = Instructions { spec: spec.clone(), has_program, has_cgroup };
    let document = fds::json_memfd(STAGE, &instructions)?;
    let (status, report) = fds::pipe()?;
    let mut descriptors = vec![(document.as_fd(), SPEC_FD), (report.as_fd(), STATUS_FD)];
    let given = [
        (io.stdin, 0),
        (io.stdout, 1),
        (io.stderr, 2),
        (io.terminal, TERMINAL_FD),
        (io.program.map(AsFd::as_fd), PROGRAM_FD),
        (io.cgroup, CGROUP_FD),
    ];
    descriptors.extend(given.into_iter().filter_map(|(fd, number)| Some((fd?, number))));
    let pid = spawn_stage(STAGE, &[], &descriptors)?;
    Ok(Spawned { pid, status: StageStatus::new(status) })
}

/// What the stage reads.
#[derive(Debug, Serialize, Deserialize)]
struct Instructions {
    spec: ExecSpec,
    has_program: bool,
    has_cgroup: bool,
}

/// The stage: enters the container, forks the command, and stays until it has ended.
pub(super) fn stage() -> ExitCode {
    init::stage(start)
}

fn start(status: &mut Option<OwnedFd>) -> Result<u8, SandboxError> {
    init::block_signals()?;
    let document = fds::take_inherited(SPEC_FD).step("take", "the instructions")?;
    let Instructions { spec, has_program, has_cgroup } =
        fds::read_json(document).step("read", "the instructions")?;
    if has_cgroup {
        init::join_cgroup(CGROUP_FD)?;
    }
    let by = has_program.then(|| fds::take_inherited(PROGRAM_FD)).transpose();
    let by = by.step("take", "the program")?;
    let terminal = spec.terminal.map(|_| fds::take_inherited(TERMINAL_FD)).transpose();
    let terminal = terminal.step("take", "the terminal's socket")?;
    let program = Program::new(&spec.argv, &spec.environment)?;
    let is_only_user = users::is_only_one()?;
    let users = enter_container(spec.init)?;
    let (lifeline, kept) = fds::pipe().step("create", "a pipe")?;
    let child = clone_into(CloneFlags::empty()).step("fork", "the command")?;
    let Some(child) = child else {
        drop(kept);
        let inside = Inside { users, is_only_user };
        let error = match prepare(&spec, inside, terminal, &lifeline) {
            Ok(()) => {
                let directory = spec.directory.as_deref().unwrap_or(Path::new("/"));
                program.execute(directory, by.as_ref().map(AsFd::as_fd))
            }
            Err(error) => error,
        };
        init::fail(status.as_ref(), error);
        std::process::exit(i32::from(FAILED));
    };
    init::stay(status, child, (lifeline, users, terminal, by), kept)
}

/// What is left to enter.
struct Inside {
    users: OwnedFd,
    is_only_user: bool,
}

/// Enters the namespaces of a container but for its user namespace, which is returned: entering that
/// gives up the right to enter the others. Children are in its PID namespace.
fn enter_container(init: i32) -> Result<OwnedFd, SandboxError> {
    let open = |name: &str| -> Result<File, SandboxError> {
        let path = format!("/proc/{init}/ns/{name}");
        File::open(&path).step("open", &path)
    };
    let users = open("user")?;
    let namespaces = [
        (open("net")?, CloneFlags::CLONE_NEWNET),
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (open("ipc")?, CloneFlags::CLONE_NEWIPC),
        (open("pid")?, CloneFlags::CLONE_NEWPID),
        // Last, as the others are found in this one's /proc.
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    for (namespace, kind) in &namespaces {
        setns(namespace, *kind).step("enter", format_args!("the container's {kind:?}"))?;
    }
    Ok(users.into())
}

/// Makes the command's process what the container's are.
fn prepare(
    spec: &ExecSpec,
    Inside { users, is_only_user }: Inside,
    terminal: Option<OwnedFd>,
    lifeline: &OwnedFd,
) -> Result<(), SandboxError> {
    users::enter_namespace(&users, is_only_user)?;
    drop_rights(spec.user, spec.limits, is_only_user)?;
    if let (Some(size), Some(socket)) = (spec.terminal, &terminal) {
        open_terminal(size, socket)?;
    }
    init::die_with_parent(lifeline)
}

/// Makes a terminal of the container this session's, and sends its master to who asked for it.
fn open_terminal((rows, columns): (u16, u16), socket: &OwnedFd) -> Result<(), SandboxError> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(flags).step("open", "/dev/ptmx")?;
    grantpt(&master).step("grant", "a terminal")?;
    unlockpt(&master).step("unlock", "a terminal")?;
    let path = ptsname_r(&master).step("name", "a terminal")?;
    let slave = File::options().read(true).write(true).open(&path).step("open", &path)?;
    control_terminal(&slave, rows, columns)?;
    dup2_stdin(&slave).step("connect", "standard input")?;
    dup2_stdout(&slave).step("connect", "standard output")?;
    dup2_stderr(&slave).step("connect", "standard error")?;
    let sent = fds::send_with_fds(socket.as_fd(), b"t", &[master.as_fd()]);
    sent.map(drop).step("send", "the terminal")
}

#[expect(unsafe_code, reason = "ioctls of terminals")]
fn control_terminal(slave: &File, rows: u16, columns: u16) -> Result<(), SandboxError> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open; the first call takes a number, the second a structure that
    // lives through it.
    let results = unsafe {
        [
            libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0),
            libc::ioctl(slave.as_raw_fd(), libc::TIOCSWINSZ, &raw const size),
        ]
    };
    for result in results {
        nix::Error::result(result).step("set up", "the terminal")?;
    }
    Ok(())
}

/// Number under which the stage finds where to send a terminal.
const TERMINAL_FD: RawFd = 5;
/// Number under which the stage finds the program.
const PROGRAM_FD: RawFd = 6;
/// Number under which the stage finds the cgroup.
const CGROUP_FD: RawFd = 7;
