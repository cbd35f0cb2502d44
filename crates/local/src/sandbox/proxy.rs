//! A proxy beside a pod: in its network, with nothing but the right to mark its connections.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ironmesh_fds as fds;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};

use super::error::AtStep;
use super::init::FAILED;
use super::pod::PodSandbox;
use super::program::{Program, ProgramFile};
use super::spawn::{Report, SPEC_FD, STATUS_FD, StageStatus, spawn_stage};
use super::{SandboxError, Spawned, capabilities, init, mounts, users};

/// Name of the stage.
pub(super) const STAGE: &str = "proxy-stage";

/// Lowest number that a descriptor may have in a proxy.
pub const FD_MIN: RawFd = 16;

/// What is started as a proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProxySpec {
    /// Arguments of this same binary: `internal proxy --bootstrap-fd 16`.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// User that the proxy runs as. Only where the mesh was started by root.
    #[serde(default)]
    pub user: Option<u32>,
    /// Directories of the host whose content is not to be seen; they may be absent.
    #[serde(default)]
    pub hidden: Vec<PathBuf>,
}

/// Starts this binary in a pod's network namespace, in the mesh's user namespace, with CAP_NET_RAW
/// and no other capability; the file system is read-only to it.
///
/// `descriptors` are found in it under their numbers, each at least [`FD_MIN`]. Standard input is
/// `/dev/null`, standard output and standard error are `log`. The child *is* the proxy.
///
/// # Errors
///
/// If no process could be made. All else is reported by `Spawned::status`.
pub fn spawn(
    pod: &PodSandbox,
    spec: &ProxySpec,
    log: BorrowedFd<'_>,
    descriptors: &[(BorrowedFd<'_>, RawFd)],
) -> io::Result<Spawned> {
    if descriptors.iter().any(|(_, number)| *number < FD_MIN) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let numbers: Vec<RawFd> = descriptors.iter().map(|(_, number)| *number).collect();
    let document = fds::json_memfd(STAGE, &Instructions { spec: spec.clone(), numbers })?;
    let (status, report) = fds::pipe()?;
    let mut all = vec![
        (log, 1),
        (log, 2),
        (document.as_fd(), SPEC_FD),
        (report.as_fd(), STATUS_FD),
        (pod.netns(), NETNS_FD),
        (pod.utsns(), UTSNS_FD),
    ];
    all.extend_from_slice(descriptors);
    let pid = spawn_stage(STAGE, &[] as &[CString], &all)?;
    Ok(Spawned { pid, status: StageStatus::new(status) })
}

/// What the stage reads.
#[derive(Debug, Serialize, Deserialize)]
struct Instructions {
    spec: ProxySpec,
    numbers: Vec<RawFd>,
}

/// The stage: enters the pod, gives up rights, and becomes the proxy.
pub(super) fn stage() -> ExitCode {
    let Ok(status) = fds::take_inherited(STATUS_FD) else { return ExitCode::FAILURE };
    let error = match prepare(&status) {
        Ok((program, binary)) => program.execute(Path::new("/"), Some(binary.as_fd())),
        Err(error) => error,
    };
    init::fail(Some(&status), error);
    ExitCode::from(FAILED)
}

fn prepare(status: &OwnedFd) -> Result<(Program, ProgramFile), SandboxError> {
    let document = fds::take_inherited(SPEC_FD).step("take", "the instructions")?;
    let Instructions { spec, numbers } =
        fds::read_json(document).step("read", "the instructions")?;
    let argv: Vec<String> = std::iter::once("ironmesh".to_owned()).chain(spec.arguments).collect();
    let program = Program::new(&argv, &spec.environment)?;
    // Later, as another user, it might not be found by its path.
    let binary = ProgramFile::own()?;
    for (number, kind) in
        [(NETNS_FD, CloneFlags::CLONE_NEWNET), (UTSNS_FD, CloneFlags::CLONE_NEWUTS)]
    {
        let namespace = fds::take_inherited(number).step("take", "a namespace")?;
        setns(namespace, kind).step("enter", "a namespace of the pod")?;
    }
    unshare(CloneFlags::CLONE_NEWNS).step("create", "a mount namespace")?;
    mounts::make_private()?;
    hide_run()?;
    for directory in spec.hidden.iter().filter(|directory| directory.is_dir()) {
        mounts::fresh("tmpfs", directory, mounts::HARDENED, EMPTY)?;
    }
    mounts::make_read_only(Path::new("/"), true)?;
    for number in numbers {
        inherit(number).step("pass on descriptor", number)?;
    }
    let pid = std::process::id() as i32;
    let copy = status.try_clone().step("copy", "the report's pipe")?;
    init::report(Some(copy), &Report::Started(pid));
    if let Some(user) = spec.user {
        users::become_user(user, user)?;
    }
    capabilities::keep_only(&[capabilities::NET_RAW], true)?;
    Ok((program, binary))
}

/// Takes the mesh's `/run` away: the volumes of all pods are there, Secrets among them, and the state
/// of the control plane. What is mounted there is also free to go when its pod ends.
fn hide_run() -> Result<(), SandboxError> {
    umount2("/run", MntFlags::MNT_DETACH).step("detach", "/run")?;
    mounts::fresh("tmpfs", Path::new("/run"), mounts::HARDENED, EMPTY)
}

/// Leaves a descriptor open across exec.
#[expect(unsafe_code, reason = "an inherited descriptor is known by its number alone")]
fn inherit(number: RawFd) -> nix::Result<()> {
    // SAFETY: `fcntl` fails with EBADF if it is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::empty())).map(drop)
}

/// Options of a directory in which there is nothing.
const EMPTY: &str = "mode=0755,size=4k";

// Numbers under which the stage finds what it inherits.
const NETNS_FD: RawFd = 5;
const UTSNS_FD: RawFd = 6;
