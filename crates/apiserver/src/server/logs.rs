//! `pods/NAME/log`: what a container wrote, from the files of the agent.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::Pod;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::options;
use super::request::ApiRequest;
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
    for name in ["sinceSeconds", "sinceTime"] {
        if !request.query(name).is_empty() {
            let why =
                format!("{name} is not supported: lines of logs are kept without their times");
            return Err(Failure::bad_request(why));
        }
    }
    if request.query("timestamps") == "true" {
        let why = "timestamps is not supported: lines of logs are kept without their times";
        return Err(Failure::bad_request(why));
    }
    let directory = context.logs.join(format!("{}_{}", key.namespace, key.name));
    let previous = request.flag("previous");
    let extension = if previous { "previous.log" } else { "log" };
    let path = directory.join(format!("{container}.{extension}"));
    let Ok(mut file) = File::open(&path).await else {
        return Err(Failure::bad_request(why_no_log(&pod, &container, previous)));
    };
    let failed = |error: std::io::Error| Failure::internal(format!("{}: {error}", path.display()));
    if let Some(lines) = options::number(request, "tailLines")? {
        let start = tail_start(&mut file, lines).await.map_err(failed)?;
        file.seek(SeekFrom::Start(start)).await.map_err(failed)?;
    }
    let limit = options::number(request, "limitBytes")?.unwrap_or(u64::MAX);
    let follow = request.flag("follow") && !previous;
    let (sender, answer) = answer::stream("text/plain", context.registry.limits().api_parts_max);
    let context = context.clone();
    let key = key.clone();
    tokio::spawn(async move {
        let container =
            Container { context, key, name: container, path, uid: object::uid(&pod).to_owned() };
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
}

impl Container {
    /// The container of a pod, as it is now.
    pub(super) fn new(context: Arc<Context>, key: Key, name: &str, uid: &str) -> Self {
        let directory = context.logs.join(format!("{}_{}", key.namespace, key.name));
        let path = directory.join(format!("{name}.log"));
        Self { context, key, name: name.to_owned(), path, uid: uid.to_owned() }
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
        loop {
            let most = buffer.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
            match file.read(&mut buffer[..most]).await {
                Ok(0) if !follow || limit == 0 => return,
                Ok(0) => match self.await_more(&mut file).await {
                    Some(()) => {}
                    None => return,
                },
                Ok(count) => {
                    limit -= count as u64;
                    if to.send(Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
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
