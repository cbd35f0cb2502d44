//! The last step of a stage: from this binary to the program.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{AtFlags, FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use nix::sys::uio::pread;
use nix::unistd::{chdir, execve, execveat};

use super::error::AtStep;
use super::{SandboxError, mounts};

/// The file of a program that enters a container by descriptor. Who runs it reaches the file by
/// `/proc/self/exe`, so it is opened by a mount of its own that nothing can be written through.
#[derive(Debug)]
pub struct ProgramFile(OwnedFd);

impl ProgramFile {
    /// Opens the program at a path of this mount namespace.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn open(path: &Path) -> Result<Self, SandboxError> {
        Ok(Self(mounts::open_read_only(path)?.into()))
    }

    /// This binary. Where its path is not to be looked at, it is opened as it is: then nobody here
    /// may write to it, either.
    ///
    /// # Errors
    ///
    /// The step that failed.
    pub fn own() -> Result<Self, SandboxError> {
        let here = File::open(OWN).step("open", OWN)?;
        let same = |other: &File| {
            let (one, two) = (here.metadata().ok(), other.metadata().ok());
            one.zip(two).is_some_and(|(one, two)| (one.dev(), one.ino()) == (two.dev(), two.ino()))
        };
        let by_path = fs::read_link(OWN).ok().and_then(|path| mounts::open_read_only(&path).ok());
        Ok(Self(by_path.filter(same).unwrap_or(here).into()))
    }

    /// Another handle of the same.
    ///
    /// # Errors
    ///
    /// As `dup(2)`.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl AsFd for ProgramFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A program that is to be executed, ready for the call.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    argv: Vec<CString>,
    environment: Vec<CString>,
    search: Vec<String>,
}

impl Program {
    /// The program of a container or command.
    pub(crate) fn new(
        argv: &[String],
        environment: &[(String, String)],
    ) -> Result<Self, SandboxError> {
        let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
            return Err(SandboxError::new("run", "an empty command", 0));
        };
        let path = environment.iter().find(|(key, _)| key == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
        let text = |text: String| {
            CString::new(text).map_err(|_| SandboxError::new("pass on", "text with a zero byte", 0))
        };
        let environment = environment.iter().map(|(key, value)| text(format!("{key}={value}")));
        Ok(Self {
            name: name.clone(),
            argv: argv.iter().cloned().map(text).collect::<Result<_, _>>()?,
            environment: environment.collect::<Result<_, _>>()?,
            search: path.split(':').map(str::to_owned).collect(),
        })
    }

    /// Becomes the program, in this directory; only a failure comes back.
    pub(crate) fn execute(&self, directory: &Path, by: Option<BorrowedFd<'_>>) -> SandboxError {
        if let Err(error) = prepare(directory) {
            return error;
        }
        if let Some(descriptor) = by {
            if let Err(error) = keep_for_interpreter(descriptor) {
                return error;
            }
            let flags = AtFlags::AT_EMPTY_PATH;
            let Err(errno) = execveat(descriptor, c"", &self.argv, &self.environment, flags);
            return SandboxError::new("run", &self.name, errno as i32);
        }
        if self.name.contains('/') {
            return SandboxError::new("run", &self.name, self.try_path(&self.name) as i32);
        }
        let mut worst = None;
        for directory in &self.search {
            let directory = if directory.is_empty() { "." } else { directory };
            match self.try_path(&format!("{directory}/{}", self.name)) {
                nix::Error::ENOENT | nix::Error::ENOTDIR => {}
                errno => worst = Some(errno),
            }
        }
        match worst {
            Some(errno) => SandboxError::new("run", &self.name, errno as i32),
            None => SandboxError::new(
                "run",
                format_args!("{:?}: executable file not found in $PATH", self.name),
                0,
            ),
        }
    }

    fn try_path(&self, path: &str) -> nix::Error {
        let Ok(path) = CString::new(path) else { return nix::Error::EINVAL };
        let Err(errno) = execve(&path, &self.argv, &self.environment);
        errno
    }
}

/// Leaves a script's descriptor open: its interpreter is to open it by its number.
fn keep_for_interpreter(descriptor: BorrowedFd<'_>) -> Result<(), SandboxError> {
    let mut start = [0; 2];
    if matches!(pread(descriptor, &mut start, 0), Ok(2)) && &start == b"#!" {
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).step("keep open", "a script")?;
    }
    Ok(())
}

/// Gives the program what a fresh process expects: its directory, and signals at their defaults.
#[expect(unsafe_code, reason = "sigaction")]
fn prepare(directory: &Path) -> Result<(), SandboxError> {
    chdir(directory).step("change to directory", directory.display())?;
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // The Rust runtime ignores it, and what is ignored stays so.
    // SAFETY: the default handler runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &default) }.step("reset", "SIGPIPE")?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).step("unblock", "signals")
}

/// The file that this process executes.
const OWN: &str = "/proc/self/exe";
/// Where programs are looked for without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
