//! What a container says at its end: a file that it may write, or the end of its log.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ironmesh_dialects::kubernetes::kinds::{Container, MessagePolicy};

use super::pod::PodState;
use super::volumes;
use crate::reaper::ExitStatus;
use crate::sandbox::container::{Volume, VolumeSource};

/// The file that a container may write, empty, and where it finds it. It is in memory of its own, so
/// that a container that fills it takes nothing from the others.
pub(super) fn file(state: &PodState, container: &Container) -> io::Result<Volume> {
    let folder = folder(state, container);
    if !folder.exists() {
        volumes::make_empty(state, &folder, FILE_BYTES)?;
    }
    let path = folder.join(MESSAGE);
    File::create(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    volumes::own(volumes::uid_base(state), &path, false)?;
    Ok(Volume {
        source: VolumeSource::Path(path),
        target: Path::new("/").join(&container.termination_message_path),
        read_only: false,
        mapped: false,
    })
}

/// What a container that ended so has said.
pub(super) fn message(state: &PodState, container: &Container, exit: ExitStatus) -> String {
    let said = File::open(folder(state, container).join(MESSAGE))
        .map(|file| read(file, MESSAGE_BYTES_MAX));
    let said = said.unwrap_or_default();
    let by_log =
        container.termination_message_policy == MessagePolicy::FallbackToLogsOnError && exit != 0;
    if !said.is_empty() || !by_log {
        return said;
    }
    let log = File::open(state.log(&container.name)).map(end_of_log);
    log.unwrap_or_default()
}

/// No volume of a manifest can have such a name.
fn folder(state: &PodState, container: &Container) -> PathBuf {
    volumes::own_folder(state, &format!("..termination.{}", container.name))
}

/// The last lines of a log.
fn end_of_log(mut log: File) -> String {
    let length = log.seek(SeekFrom::End(0)).unwrap_or(0);
    if log.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES_MAX))).is_err() {
        return String::new();
    }
    let text = read(log, LOG_BYTES_MAX);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines[lines.len().saturating_sub(LOG_LINES_MAX)..].concat()
}

fn read(file: File, bytes_max: u64) -> String {
    let mut bytes = Vec::new();
    // What cannot be read was not said.
    let _ = file.take(bytes_max).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Name of the file.
const MESSAGE: &str = "message";
/// Room for it: more than is read.
const FILE_BYTES: u64 = 16 << 10;
/// Bytes of a message, as Kubernetes has it.
const MESSAGE_BYTES_MAX: u64 = 4_096;
/// Bytes of a log that are a message, as Kubernetes has it.
const LOG_BYTES_MAX: u64 = 2_048;
/// Lines of a log that are a message, as Kubernetes has it.
const LOG_LINES_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_bounded_in_lines_and_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let end = |text: &str| {
            fs::write(&path, text).unwrap();
            end_of_log(File::open(&path).unwrap())
        };
        assert_eq!(end("one\ntwo"), "one\ntwo");
        assert_eq!(end(""), "");
        let many: String = (0..200).map(|n| format!("{n}\n")).collect();
        let last = end(&many);
        assert_eq!((last.lines().count(), last.lines().next()), (80, Some("120")));
        assert_eq!(end(&"x".repeat(10_000)).len(), 2_048);
    }
}
