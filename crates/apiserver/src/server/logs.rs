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
    let Ok(mut log) = LogReader::open(&path).await else {
        // As `istio-init`, whose work is done in the pod and by no program that could write.
        if !previous && has_ended(&pod, &container) {
            return Ok(answer::text(""));
        }
        return Err(Failure::bad_request(why_no_log(&pod, &container, previous)));
    };
    let failed = |error: std::io::Error| Failure::internal(format!("{}: {error}", path.display()));
    let mut start = 0;
    if let Some(since) = since {
        start = log.since(&path, since).await.map_err(failed)?;
    }
    if let Some(lines) = options::number(request, "tailLines")? {
        start = start.max(log.tail(lines).await.map_err(failed)?);
    }
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
            () = container.send(log, start, limit, follow, sender) => {}
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

    /// Sends what is there from a byte on, and if wanted what comes, until the container has ended.
    pub(super) async fn send(
        &self,
        mut log: LogReader,
        mut at: u64,
        mut limit: u64,
        follow: bool,
        to: mpsc::Sender<Bytes>,
    ) {
        let mut buffer = vec![0; READ_BYTES];
        let mut line_begins = true;
        while limit > 0 {
            match log.read_at(at, &mut buffer).await {
                Ok(0) if !follow => return,
                Ok(0) => match self.await_more(&mut log, at).await {
                    Some(next) => at = next,
                    None => return,
                },
                Ok(count) => {
                    let read = &buffer[..count];
                    let mut sent = match self.timestamps {
                        false => Bytes::copy_from_slice(read),
                        true => {
                            let times = log.times(&self.path).await;
                            with_times(read, at, &times, &mut line_begins)
                        }
                    };
                    at += count as u64;
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

    /// Returns from where on there may be more to read; nothing if there will be none. A log that was
    /// cut is read from its beginning again, and one that outgrew its file in the next one.
    async fn await_more(&self, log: &mut LogReader, at: u64) -> Option<u64> {
        let ended = !self.runs();
        let replaced = is_replaced(&log.file, &self.path).await;
        // Asked after whether it is replaced: by then nothing more is written to it.
        let length = log.length().await.ok()?;
        if length < at {
            return Some(log.base());
        }
        if length == at && replaced {
            let next = LogReader::open(&self.path).await.ok()?;
            let goes_on = match &next.older {
                Some(older) => same(&older.file, &log.file).await,
                None => true,
            };
            *log = next;
            // Else it outgrew more than one file meanwhile.
            return Some(if goes_on { log.base() } else { 0 });
        }
        if length == at && ended {
            return None;
        }
        if length == at {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
        Some(at)
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

/// A log: what it had outgrown, and then its file, as one row of bytes.
pub(super) struct LogReader {
    older: Option<Older>,
    file: File,
}

/// What a log had outgrown when it was opened.
struct Older {
    file: File,
    bytes: u64,
    times: LogTimes,
}

impl LogReader {
    /// Opens the log at a path, and what it has outgrown.
    pub(super) async fn open(path: &Path) -> std::io::Result<Self> {
        let older_path = path.with_extension("log.1");
        for _ in 0..OPENED_MAX {
            let older = File::open(&older_path).await.ok();
            let file = File::open(path).await?;
            // If it outgrew its file just now, that is what was taken for the older part, or is
            // neither.
            let is_still = match (&older, &File::open(&older_path).await.ok()) {
                (Some(older), Some(now)) => same(older, now).await,
                (None, None) => true,
                _ => false,
            };
            if !is_still {
                continue;
            }
            let Some(older) = older else { return Ok(Self { older: None, file }) };
            let (bytes, times) = (older.metadata().await?.len(), times_of(&older_path).await);
            return Ok(Self { older: Some(Older { file: older, bytes, times }), file });
        }
        Ok(Self { older: None, file: File::open(path).await? })
    }

    /// Where the file begins in the row.
    fn base(&self) -> u64 {
        self.older.as_ref().map_or(0, |older| older.bytes)
    }

    /// How long the row is now.
    pub(super) async fn length(&self) -> std::io::Result<u64> {
        Ok(self.base() + self.file.metadata().await?.len())
    }

    /// Reads from a place on: some of what is there, nothing only at the end.
    async fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> std::io::Result<usize> {
        let base = self.base();
        if let Some(older) = self.older.as_mut().filter(|older| at < older.bytes) {
            let room = usize::try_from(older.bytes - at).unwrap_or(usize::MAX).min(buffer.len());
            older.file.seek(SeekFrom::Start(at)).await?;
            let count = older.file.read(&mut buffer[..room]).await?;
            if count > 0 {
                return Ok(count);
            }
        }
        self.file.seek(SeekFrom::Start(at.saturating_sub(base))).await?;
        self.file.read(buffer).await
    }

    /// When its lines were written.
    async fn times(&self, path: &Path) -> LogTimes {
        let times = times_of(path).await;
        match &self.older {
            Some(older) => times.behind(&older.times, older.bytes),
            None => times,
        }
    }

    /// Where the first line begins that was written at a time or later.
    async fn since(&mut self, path: &Path, since: u64) -> std::io::Result<u64> {
        let end = self.length().await?;
        let Some(offset) = self.times(path).await.since(since) else { return Ok(end) };
        if offset == 0 || offset >= end {
            return Ok(offset.min(end));
        }
        // Of a line that was begun before only the rest would be shown.
        let mut start = offset - 1;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = self.read_at(start, &mut buffer).await?;
            match memchr::memchr(b'\n', &buffer[..count]) {
                Some(at) => return Ok(start + at as u64 + 1),
                None if count == 0 => return Ok(end),
                None => start += count as u64,
            }
        }
    }

    /// Where the last `lines` lines begin.
    async fn tail(&mut self, lines: usize) -> std::io::Result<u64> {
        let mut end = self.length().await?;
        let mut buffer = vec![0; READ_BYTES];
        let mut newlines = 0;
        let mut is_last_byte = true;
        if lines == 0 {
            return Ok(end);
        }
        while end > 0 {
            let count = buffer.len().min(usize::try_from(end).unwrap_or(usize::MAX));
            let start = end - count as u64;
            self.read_exactly(start, &mut buffer[..count]).await?;
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

    async fn read_exactly(&mut self, mut at: u64, mut buffer: &mut [u8]) -> std::io::Result<()> {
        while !buffer.is_empty() {
            let count = self.read_at(at, buffer).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            at += count as u64;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }
}

/// The times of a log; none are known if they cannot be read.
async fn times_of(path: &Path) -> LogTimes {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(log_times::EXTENSION);
    LogTimes::parse(&tokio::fs::read(name).await.unwrap_or_default())
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

/// Whether the path names another file by now: the container was started anew, or the log outgrew it.
async fn is_replaced(file: &File, path: &Path) -> bool {
    match File::open(path).await {
        Ok(named) => !same(file, &named).await,
        Err(_) => false,
    }
}

/// Whether two are one file.
async fn same(one: &File, other: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (one.metadata().await, other.metadata().await) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
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

/// Whether a container is one that has ended.
fn has_ended(pod: &Object, container: &str) -> bool {
    let status = Pod::of(pod).status();
    let mut all = status.init_container_statuses().chain(status.container_statuses());
    all.any(|status| status.name() == container && status.state().terminated().is_some())
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

/// Attempts to open a log that outgrows its file meanwhile; then without what it had outgrown.
const OPENED_MAX: usize = 8;
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
        let mut log = LogReader::open(&path).await.unwrap();
        // Of a log whose times nobody knows nothing is known to be recent.
        assert_eq!(log.since(&path, 0).await.unwrap(), 14);
        let records = [(0, 1_000), (6, 5_000)];
        let records =
            records.map(|(offset, unix_millis)| Record { offset, unix_millis }.to_bytes());
        std::fs::write(directory.path().join("c.log.times"), records.concat()).unwrap();
        for (since, start) in [(0, 0), (1_000, 0), (2_000, 8), (5_000, 8), (9_000, 14)] {
            assert_eq!(log.since(&path, since).await.unwrap(), start, "{since}");
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
            let mut log = LogReader::open(&path).await.unwrap();
            assert_eq!(log.tail(lines).await.unwrap(), expected, "{content:?} {lines}");
        }
    }

    #[tokio::test]
    async fn what_a_log_has_outgrown_is_a_part_of_it() {
        use ironmesh_model::log_times::Record;
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            std::fs::write(directory.path().join(name), content).unwrap();
        };
        let times = |records: &[(u64, u64)]| {
            let bytes = records.iter().flat_map(|(offset, unix_millis)| {
                Record { offset: *offset, unix_millis: *unix_millis }.to_bytes()
            });
            bytes.collect::<Vec<u8>>()
        };
        // The third line goes on in the next file.
        write("c.log.1", b"one\ntwo\nthr");
        write("c.log.1.times", &times(&[(0, 1_000), (4, 2_000)]));
        write("c.log", b"ee\nfour\n");
        write("c.log.times", &times(&[(0, 5_000)]));
        let path = directory.path().join("c.log");
        let mut log = LogReader::open(&path).await.unwrap();
        for (lines, start) in [(1, 14), (2, 8), (3, 4), (4, 0), (9, 0)] {
            assert_eq!(log.tail(lines).await.unwrap(), start, "{lines}");
        }
        for (since, start) in [(0, 0), (1_500, 4), (4_000, 14), (9_000, 19)] {
            assert_eq!(log.since(&path, since).await.unwrap(), start, "{since}");
        }
        let mut whole = vec![0; 19];
        log.read_exactly(0, &mut whole).await.unwrap();
        assert_eq!(whole, b"one\ntwo\nthree\nfour\n");
        assert_eq!(log.read_at(19, &mut whole).await.unwrap(), 0);
        // It outgrows its file while it is open: what was opened stays whole.
        std::fs::rename(&path, directory.path().join("c.log.1")).unwrap();
        write("c.log", b"five\n");
        assert!(is_replaced(&log.file, &path).await);
        let next = LogReader::open(&path).await.unwrap();
        assert!(same(&next.older.as_ref().unwrap().file, &log.file).await);
        assert_eq!(next.base(), 8);
    }
}
