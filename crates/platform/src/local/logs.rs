//! The logs of containers, as files on the host.
//!
//! A container writes to its file directly, in append mode, so that logging costs the agent
//! nothing. A file that outgrows its limit is copied aside and truncated in place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The logs of a mesh.
#[derive(Clone, Debug)]
pub(crate) struct Logs {
    directory: PathBuf,
}

impl Logs {
    /// Logs under this folder.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The folder of all.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The folder of a pod.
    pub(crate) fn pod(&self, namespace: &str, pod: &str) -> PathBuf {
        self.directory.join(format!("{namespace}_{pod}"))
    }

    /// The log of a container.
    pub(crate) fn container(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        self.pod(namespace, pod).join(format!("{container}.log"))
    }

    /// Begins the log of a container that is about to start; the one of its run before becomes
    /// `CONTAINER.previous.log`.
    pub(crate) fn begin(&self, namespace: &str, pod: &str, container: &str) -> io::Result<File> {
        fs::create_dir_all(self.pod(namespace, pod))?;
        let path = self.container(namespace, pod, container);
        match fs::rename(&path, path.with_extension("previous.log")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => append(&path),
        }
    }

    /// Removes the logs of a pod that was deleted, and nothing else that is in its folder.
    pub(crate) fn remove(&self, namespace: &str, pod: &str) {
        let folder = self.pod(namespace, pod);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if is_log(&entry.path()) {
                // What cannot be removed is removed with the next mesh of this name.
                let _ = fs::remove_file(entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }

    /// The log of one of the mesh's own processes, such as `control`.
    pub(crate) fn process(&self, name: &str) -> io::Result<File> {
        append(&self.directory.join(format!("{name}.log")))
    }

    /// Keeps every log below a limit, for ever; what is older is in one more file of that size.
    pub(crate) async fn rotate(self, bytes_max: u64) {
        loop {
            tokio::time::sleep(ROTATION_INTERVAL).await;
            let directory = self.directory.clone();
            // It does not panic, and a next round follows anyway.
            let _ = tokio::task::spawn_blocking(move || rotate_all(&directory, bytes_max)).await;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

/// Rotates what outgrew its limit. A file that vanishes meanwhile, or cannot be rotated, keeps no
/// other from it.
fn rotate_all(directory: &Path, bytes_max: u64) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => rotate_all(&path, bytes_max),
            Ok(metadata) if metadata.len() > bytes_max => {
                if let Err(error) = rotate(&path) {
                    tracing::debug!(path = %path.display(), %error, "a log was not rotated");
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn rotate(path: &Path) -> io::Result<()> {
    if path.extension().is_none_or(|extension| extension != "log") {
        return Ok(());
    }
    fs::copy(path, path.with_extension("log.1"))?;
    OpenOptions::new().write(true).open(path)?.set_len(0)
}

/// Whether a file is a log, or an older part of one.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with(".log") || name.ends_with(".log.1")
}

/// How often sizes are looked at.
const ROTATION_INTERVAL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_restarted_container_begins_a_new_log_and_keeps_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().to_owned());
        logs.begin("n", "p", "c").unwrap().write_all(b"one").unwrap();
        logs.begin("n", "p", "c").unwrap().write_all(b"two").unwrap();
        let path = logs.container("n", "p", "c");
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read(path.with_extension("previous.log")).unwrap(), b"one");
    }

    #[test]
    fn a_long_log_is_moved_aside_under_its_writer() {
        let folder = tempfile::tempdir().unwrap();
        let logs = Logs::new(folder.path().to_owned());
        let mut log = logs.begin("n", "p", "c").unwrap();
        log.write_all(b"old lines").unwrap();
        rotate_all(folder.path(), 4);
        log.write_all(b"new").unwrap();
        let path = logs.container("n", "p", "c");
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(path.with_extension("log.1")).unwrap(), b"old lines");
    }
}
