//! `pods/NAME/log`: what a container wrote, from the files of the agent.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_model::log_times::{self, LogTimes};
use jiff::{SignedDuration, Timestamp};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::options;
use super::request::ApiRequest;
use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::store::Key;

/// Answers with the log of one container.
pub(super) async fn read(
    context: &Arc<Context>,
    request: &ApiRequest,
    key: &Key,
) -> Result<Answer, Failure> {
    let pod = context.registry.object(&Resource::of("v1", "Pod"), key)?;
    let container = container_of(&pod, request.query("container"))?;
    let since = since(request)?;
    let timestamps = request.flag("timestamps");
    let directory = context.logs.join(format!("{}_{}", key.namespace, key.name));
    let previous = request.flag("previous");
    let extension = if previous { "previous.log" } else { "log" };
    let path = directory.join(format!("{container}.{extension}"));
    let Ok(mut file) = File::open(&path).await else {
        return Err(Failure::bad_request(why_no_log(&pod, &container, previous)));
    };
    let failed = |error: std::io::Error| Failure::internal(format!("{}: {error}", path.display()));
    let mut start = 0;
    if let Some(since) = since {
        start = since_start(&mut file, &path, since).await.map_err(failed)?;
    }
    if let Some(lines) = options::number(request, "tailLines")? {
        start = start.max(tail_start(&mut file, lines).await.map_err(failed)?);
    }
    file.seek(SeekFrom::Start(start)).await.map_err(failed)?;
    let limit = options::number(request, "limitBytes")?.unwrap_or(u64::MAX);
    let follow = request.flag("follow") && !previous;
    let (sender, answer) = answer::stream("text/plain", context.registry.limits().api_parts_max);
    let context = context.clone();
    let key = key.clone();
    tokio::spawn(async move {
        let uid = object::uid(&pod).to_owned();
        let container = Container { context, key, name: container, path, uid, timestamps };
        let client = sender.clone();
        tokio::select! {
            () = container.send(file, limit, follow, sender) => {}
            () = client.closed() => {}
        }
    });
    Ok(answer)
}

/// The container whose log is read.
pub(super) struct Container {
    context: Arc<Context>,
    key: Key,
    name: String,
    path: PathBuf,
    uid: String,
    /// Whether each line has its time before it.
    timestamps: bool,
}

impl Container {
    /// The container of a pod, as it is now.
    pub(super) fn new(context: Arc<Context>, key: Key, name: &str, uid: &str) -> Self {
        let directory = context.logs.join(format!("{}_{}", key.namespace, key.name));
        let path = directory.join(format!("{name}.log"));
        let (name, uid) = (name.to_owned(), uid.to_owned());
        Self { context, key, name, path, uid, timestamps: false }
    }

    /// Its log.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sends what is there, and if wanted what comes, until the container has ended.
    pub(super) async fn send(
        &self,
        mut file: File,
        mut limit: u64,
        follow: bool,
        to: mpsc::Sender<Bytes>,
    ) {
        let mut buffer = vec![0; READ_BYTES];
        let mut line_begins = true;
        while limit > 0 {
            let Ok(offset) = file.stream_position().await else { return };
            match file.read(&mut buffer).await {
                Ok(0) if !follow => return,
                Ok(0) => match self.await_more(&mut file).await {
                    Some(()) => {}
                    None => return,
                },
                Ok(count) => {
                    let read = &buffer[..count];
                    let mut sent = match self.timestamps {
                        false => Bytes::copy_from_slice(read),
                        true => {
                            let times = times_of(&self.path).await;
                            with_times(read, offset, &times, &mut line_begins)
                        }
                    };
                    sent.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
                    limit -= sent.len() as u64;
                    if to.send(sent).await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Returns when there may be more to read; nothing if there will be none. A log that was cut
    /// is read from its beginning again, and one that outgrew its file in the next one.
    async fn await_more(&self, file: &mut File) -> Option<()> {
        let ended = !self.runs();
        let replaced = is_replaced(file, &self.path).await;
        let position = file.stream_position().await.ok()?;
        // Asked after whether it is replaced: by then nothing more is written to it.
        let length = file.metadata().await.ok()?.len();
        if length < position {
            file.seek(SeekFrom::Start(0)).await.ok()?;
        } else if length == position {
            if replaced {
                *file = File::open(&self.path).await.ok()?;
            } else if ended {
                return None;
            } else {
                tokio::time::sleep(FOLLOW_INTERVAL).await;
            }
        }
        Some(())
    }

    /// Whether the container may still write.
    fn runs(&self) -> bool {
        let Some(pod) = self.context.registry.store().object(&self.key) else { return false };
        if object::uid(&pod) != self.uid || Pod::of(&pod).is_finished() {
            return false;
        }
        // An init container ends while its pod goes on.
        let mut init = Pod::of(&pod).status().init_container_statuses();
        !init.any(|status| status.name() == self.name && status.state().terminated().is_some())
    }
}

/// From when on a request wants to know what was written, in milliseconds since 1970.
fn since(request: &ApiRequest) -> Result<Option<u64>, Failure> {
    let time = request.query("sinceTime");
    let since = match options::number::<i64>(request, "sinceSeconds")? {
        Some(_) if !time.is_empty() => {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            return Err(Failure::bad_request(why));
        }
        Some(seconds) if seconds < 1 => {
            return Err(Failure::bad_request("sinceSeconds: must be greater than 0"));
        }
        Some(seconds) => {
            let now = clock::now();
            now.saturating_sub(SignedDuration::from_secs(seconds)).unwrap_or(now)
        }
        None if time.is_empty() => return Ok(None),
        None => time.parse::<Timestamp>().map_err(|_| {
            Failure::bad_request(format!("sinceTime: Invalid value: {time:?}: no RFC 3339 time"))
        })?,
    };
    Ok(Some(u64::try_from(since.as_millisecond()).unwrap_or(0)))
}

/// The times of a log; none are known if they cannot be read.
async fn times_of(path: &Path) -> LogTimes {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(log_times::EXTENSION);
    LogTimes::parse(&tokio::fs::read(name).await.unwrap_or_default())
}

/// Where the first line begins that was written at a time or later.
async fn since_start(file: &mut File, path: &Path, since: u64) -> std::io::Result<u64> {
    let end = file.metadata().await?.len();
    let Some(offset) = times_of(path).await.since(since) else { return Ok(end) };
    if offset == 0 || offset >= end {
        return Ok(offset.min(end));
    }
    // Of a line that was begun before only the rest would be shown.
    file.seek(SeekFrom::Start(offset - 1)).await?;
    let mut start = offset - 1;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).await?;
        match memchr::memchr(b'\n', &buffer[..count]) {
            Some(at) => return Ok(start + at as u64 + 1),
            None if count == 0 => return Ok(end),
            None => start += count as u64,
        }
    }
}

/// What was read at an offset, with the time before each line.
fn with_times(read: &[u8], offset: u64, times: &LogTimes, line_begins: &mut bool) -> Bytes {
    let mut text = Vec::with_capacity(read.len() * 2);
    let mut at = offset;
    for line in read.split_inclusive(|byte| *byte == b'\n') {
        if *line_begins {
            let millis = times.at(at).and_then(|millis| i64::try_from(millis).ok());
            let time = millis.and_then(|millis| Timestamp::from_millisecond(millis).ok());
            let time = time.unwrap_or(Timestamp::UNIX_EPOCH);
            text.extend_from_slice(format!("{time:.9} ").as_bytes());
        }
        text.extend_from_slice(line);
        *line_begins = line.ends_with(b"\n");
        at += line.len() as u64;
    }
    text.into()
}

/// Whether the path names another file by now: the container was started anew.
async fn is_replaced(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata().await, tokio::fs::metadata(path).await) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) != (named.dev(), named.ino()),
        _ => false,
    }
}

/// Where the last `lines` lines begin.
async fn tail_start(file: &mut File, lines: usize) -> std::io::Result<u64> {
    let mut end = file.metadata().await?.len();
    let mut buffer = vec![0; READ_BYTES];
    let mut newlines = 0;
    let mut is_last_byte = true;
    if lines == 0 {
        return Ok(end);
    }
    while end > 0 {
        let count = buffer.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        let start = end - count as u64;
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut buffer[..count]).await?;
        for at in (0..count).rev() {
            // The newline that ends the last line begins no other.
            if buffer[at] == b'\n' && !is_last_byte {
                newlines += 1;
                if newlines == lines {
                    return Ok(start + at as u64 + 1);
                }
            }
            is_last_byte = false;
        }
        end = start;
    }
    Ok(0)
}

/// The container that is meant: the named one, the default one, or the only one.
pub(super) fn container_of(pod: &Object, asked: &str) -> Result<String, Failure> {
    let spec = Pod::of(pod).spec();
    let containers: Vec<&str> = spec.containers().map(|container| container.name()).collect();
    let init: Vec<&str> = spec.init_containers().map(|container| container.name()).collect();
    let name = object::name(pod);
    if !asked.is_empty() {
        return if containers.contains(&asked) || init.contains(&asked) {
            Ok(asked.to_owned())
        } else {
            let text = format!("container {asked} is not valid for pod {name}");
            Err(Failure::bad_request(text))
        };
    }
    let default =
        ["kubectl.kubernetes.io/default-logs-container", "kubectl.kubernetes.io/default-container"]
            .iter()
            .find_map(|key| object::annotation(pod, key))
            .filter(|default| containers.contains(default));
    let only = (containers.len() == 1).then(|| containers[0]);
    match default.or(only) {
        Some(meant) => Ok(meant.to_owned()),
        None => {
            let init = match &init[..] {
                [] => String::new(),
                init => format!(" or one of the init containers: [{}]", init.join(" ")),
            };
            Err(Failure::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]{init}",
                containers.join(" ")
            )))
        }
    }
}

pub(super) fn why_no_log(pod: &Object, container: &str, previous: bool) -> String {
    let name = object::name(pod);
    if previous {
        return format!("previous terminated container {container:?} in pod {name:?} not found");
    }
    let status = Pod::of(pod).status();
    let waiting = status
        .init_container_statuses()
        .chain(status.container_statuses())
        .find(|status| status.name() == container)
        .and_then(|status| status.state().waiting())
        .map(|waiting| waiting.reason())
        .filter(|reason| !reason.is_empty())
        .unwrap_or("ContainerCreating");
    format!("container {container:?} in pod {name:?} is waiting to start: {waiting}")
}

/// Bytes that are read and sent at once.
const READ_BYTES: usize = 16 << 10;
/// How often a log that is followed is looked at. Files on overlays give no reliable notices.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn which_container_is_meant() {
        let pod = |annotations: serde_json::Value| {
            json!({
                "metadata": {"name": "p", "annotations": annotations},
                "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]},
            })
        };
        let said = container_of(&pod(json!({})), "").unwrap_err().message;
        assert_eq!(
            said,
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]"
        );
        let default = pod(json!({"kubectl.kubernetes.io/default-container": "b"}));
        assert_eq!(container_of(&default, ""), Ok("b".to_owned()));
        assert_eq!(container_of(&default, "i"), Ok("i".to_owned()));
        let said = container_of(&default, "x").unwrap_err().message;
        assert_eq!(said, "container x is not valid for pod p");
    }

    #[tokio::test]
    async fn lines_since_a_time_and_with_their_times() {
        use ironmesh_model::log_times::Record;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.log");
        let content = "one\ntwo\nthree\n";
        std::fs::write(&path, content).unwrap();
        let mut file = File::open(&path).await.unwrap();
        // Of a log whose times nobody knows nothing is known to be recent.
        assert_eq!(since_start(&mut file, &path, 0).await.unwrap(), 14);
        let records = [(0, 1_000), (6, 5_000)];
        let records =
            records.map(|(offset, unix_millis)| Record { offset, unix_millis }.to_bytes());
        std::fs::write(directory.path().join("c.log.times"), records.concat()).unwrap();
        for (since, start) in [(0, 0), (1_000, 0), (2_000, 8), (5_000, 8), (9_000, 14)] {
            assert_eq!(since_start(&mut file, &path, since).await.unwrap(), start, "{since}");
        }
        let times = times_of(&path).await;
        let mut line_begins = true;
        let (first, rest) = content.as_bytes().split_at(5);
        let shown = [
            with_times(first, 0, &times, &mut line_begins),
            with_times(rest, 5, &times, &mut line_begins),
        ]
        .concat();
        assert_eq!(
            String::from_utf8(shown).unwrap(),
            "1970-01-01T00:00:01.000000000Z one\n1970-01-01T00:00:01.000000000Z two\n\
             1970-01-01T00:00:05.000000000Z three\n"
        );
    }

    #[tokio::test]
    async fn the_last_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        for (content, lines, expected) in [
            ("", 3, 0),
            ("a\nb\nc\n", 0, 6),
            ("a\nb\nc\n", 1, 4),
            ("a\nb\nc", 1, 4),
            ("a\nb\nc\n", 2, 2),
            ("a\nb\nc\n", 9, 0),
        ] {
            std::fs::write(&path, content).unwrap();
            let mut file = File::open(&path).await.unwrap();
            assert_eq!(
                tail_start(&mut file, lines).await.unwrap(),
                expected,
                "{content:?} {lines}"
            );
        }
    }
}
