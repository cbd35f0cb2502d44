//! Command lines of kubectl and helm that this program has no answer for: the real one, which comes after
//! this one on PATH, takes its place, for the mesh that is meant.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context as _;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::api::Api;
use crate::verb::kubeconfig::config;

/// The first program of a name on PATH that is not this one.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = std::fs::canonicalize("/proc/self/exe").ok()?;
    let is_other = |file: &PathBuf| {
        let is_program =
            nix::unistd::access(file.as_path(), nix::unistd::AccessFlags::X_OK).is_ok();
        is_program && file.is_file() && std::fs::canonicalize(file).is_ok_and(|file| file != own)
    };
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder: PathBuf| Path::new(&folder).join(name)).find(is_other)
}

/// Becomes another program, with a kubeconfig if there is one for it.
///
/// # Errors
///
/// Whenever it returns.
pub(crate) fn become_program(
    program: &Path,
    arguments: &[OsString],
    kubeconfig: Option<File>,
) -> anyhow::Result<ExitCode> {
    let mut command = Command::new(program);
    command.args(arguments);
    if let Some(config) = &kubeconfig {
        command.env("KUBECONFIG", format!("/proc/self/fd/{}", config.as_raw_fd()));
    }
    // The file is kept until the other program has it.
    let error = command.exec();
    Err(error).with_context(|| format!("running {}", program.display()))
}

/// The kubeconfig of a mesh, in memory, for a program that takes this one's place.
///
/// # Errors
///
/// If the mesh does not run.
pub(crate) fn kubeconfig(mesh: &str, namespace: Option<&str>) -> anyhow::Result<File> {
    let config = crate::runtime()?.block_on(config(&Api::of_mesh(mesh), mesh, namespace))?;
    let file = File::from(ironmesh_fds::memfd("kubeconfig", config.to_string().as_bytes())?);
    // helm warns of one that others may read.
    file.set_permissions(Permissions::from_mode(0o600))?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(file)
}
