//! WATCH: changes as lines of JSON, from a version on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::request::{ApiRequest, Target};
use super::resources::{present_version, selector, table_of, write_object};
use crate::context::Context;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::selector::Selector;
use crate::store::{Collection, Event, EventKind, Gone};

/// One watcher.
struct Watcher {
    collection: Collection,
    namespace: Option<String>,
    name: Option<String>,
    selector: Selector,
    target: Target,
    /// The request that it was made by, if it wants tables.
    table: Option<ApiRequest>,
    /// Whether it wants to know the version at times without changes.
    bookmarks: bool,
}

/// Begins a watch, on one object if a name is given.
pub(super) fn start(
    context: &Arc<Context>,
    request: &ApiRequest,
    target: &Target,
    name: Option<&str>,
) -> Result<Answer, Failure> {
    if !target.known {
        return Err(Failure::no_such_path());
    }
    let watcher = Watcher {
        collection: Collection::from(&target.resource),
        namespace: target.namespace.clone(),
        name: name.map(str::to_owned),
        selector: selector(request)?,
        target: target.clone(),
        table: request.wants_table().then(|| request.head()),
        bookmarks: request.flag("allowWatchBookmarks"),
    };
    let mut first = Vec::new();
    let all_first = request.flag("sendInitialEvents");
    let revision = match request.query("resourceVersion") {
        given if all_first || matches!(given, "" | "0") => {
            let store = context.registry.store();
            let (objects, revision) = store.list(&watcher.collection, target.namespace.as_deref());
            for object in objects.iter().filter(|object| watcher.means(object)) {
                watcher.write(&mut first, "ADDED", object);
            }
            if all_first && watcher.bookmarks {
                watcher.write_bookmark(&mut first, revision, true);
            }
            revision
        }
        text => text
            .parse()
            .map_err(|_| Failure::bad_request(format!("invalid resource version {text:?}")))?,
    };
    let seconds = request.query("timeoutSeconds").parse().unwrap_or(0);
    let limits = context.registry.limits();
    let timeout = match seconds {
        0 => limits.watch_time_max,
        seconds => Duration::from_secs(seconds).min(limits.watch_time_max),
    };
    let (sender, answer) = answer::stream("application/json", limits.api_parts_max);
    let context = context.clone();
    tokio::spawn(async move {
        let watch = follow(&context, &watcher, revision, first, &sender, timeout);
        bounded(watch, &sender, timeout + LAST_PART_WAIT).await;
    });
    Ok(answer)
}

/// Runs a watch until it ends, its client is gone, or `most` is over: a client that has stopped reading
/// would hold it for ever.
async fn bounded(watch: impl Future<Output = ()>, client: &mpsc::Sender<Bytes>, most: Duration) {
    tokio::select! {
        () = watch => {}
        () = client.closed() => {}
        () = tokio::time::sleep(most) => {}
    }
}

async fn follow(
    context: &Context,
    watcher: &Watcher,
    mut revision: u64,
    mut lines: Vec<u8>,
    sender: &mpsc::Sender<Bytes>,
    timeout: Duration,
) {
    let store = context.registry.store();
    let mut changes = store.subscribe();
    let mut bookmark = tokio::time::interval(BOOKMARK_INTERVAL);
    bookmark.reset();
    let end = tokio::time::sleep(timeout);
    tokio::pin!(end);
    loop {
        changes.mark_unchanged();
        // A slow client is not waited for: it reads on from the history, while that lasts.
        match store.events_after(revision, EVENTS_AT_ONCE_MAX) {
            Ok(events) => {
                for event in &events {
                    watcher.write_event(&mut lines, event);
                    revision = event.revision;
                }
                let all_read = events.len() < EVENTS_AT_ONCE_MAX;
                if !lines.is_empty()
                    && sender.send(Bytes::from(std::mem::take(&mut lines))).await.is_err()
                {
                    return;
                }
                if !all_read {
                    continue;
                }
            }
            Err(gone) => {
                // Nobody is left to tell if this fails.
                let _ = sender.send(Bytes::from(gone_line(&gone))).await;
                return;
            }
        }
        let ends = tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => continue,
                Err(_) => true,
            },
            _ = bookmark.tick() => false,
            () = &mut end => true,
        };
        if watcher.bookmarks {
            watcher.write_bookmark(&mut lines, revision, false);
        }
        if ends {
            // The client is told nothing but its version, from which it comes back.
            let _ = sender.send(Bytes::from(lines)).await;
            return;
        }
    }
}

impl Watcher {
    fn means(&self, object: &Object) -> bool {
        self.name.as_deref().is_none_or(|name| name == object::name(object))
            && self.selector.matches(object)
    }

    /// Writes an event as this watcher sees it: an object that begins to match the selector is
    /// added, one that ceases to is deleted.
    fn write_event(&self, lines: &mut Vec<u8>, event: &Event) {
        if event.key.collection != self.collection
            || self.namespace.as_deref().is_some_and(|wanted| wanted != &*event.key.namespace)
        {
            return;
        }
        let before = event.old.as_deref().is_some_and(|old| self.means(old));
        let after = event.kind != EventKind::Deleted && self.means(&event.object);
        match (before, after) {
            (true, true) => self.write(lines, "MODIFIED", &event.object),
            (false, true) => self.write(lines, "ADDED", &event.object),
            (true, false) => self.write(lines, "DELETED", &last_state(event)),
            (false, false) => {}
        }
    }

    /// Writes up to which version the client has seen everything; `initial` says that these were the
    /// objects that there were.
    fn write_bookmark(&self, lines: &mut Vec<u8>, revision: u64, initial: bool) {
        let mut object = json!({
            "kind": &*self.target.resource.kind,
            "apiVersion": present_version(&self.target),
            "metadata": {"resourceVersion": revision.to_string()},
        });
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        lines.extend_from_slice(
            json!({"type": "BOOKMARK", "object": object}).to_string().as_bytes(),
        );
        lines.push(b'\n');
    }

    fn write(&self, lines: &mut Vec<u8>, kind: &str, object: &Object) {
        lines.extend_from_slice(format!(r#"{{"type":"{kind}","object":"#).as_bytes());
        match &self.table {
            Some(request) => {
                let revision = object::text(object, "/metadata/resourceVersion");
                let table = table_of(request, &self.target, [object], revision);
                lines.extend_from_slice(table.to_string().as_bytes());
            }
            None => write_object(lines, &self.target, object),
        }
        lines.extend_from_slice(b"}\n");
    }
}

/// An object that a watcher no longer means, as it last was for it, in the version of the change.
fn last_state(event: &Event) -> Object {
    let mut object = (**event.old.as_ref().unwrap_or(&event.object)).clone();
    object::metadata_mut(&mut object)["resourceVersion"] = event.revision.to_string().into();
    object
}

fn gone_line(gone: &Gone) -> String {
    let event: Value = json!({"type": "ERROR", "object": Failure::gone(gone).status()});
    format!("{event}\n")
}

/// Events that are read from the history in one step.
const EVENTS_AT_ONCE_MAX: usize = 256;
/// How often a watcher that wants bookmarks gets one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long a client has, once its watch is to end, to take what is left.
const LAST_PART_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_has_stopped_reading_holds_no_watch() {
        let (sender, mut parts) = mpsc::channel(1);
        let stuck = async {
            for part in ["first", "second"] {
                sender.send(Bytes::from(part)).await.unwrap();
            }
        };
        let ended = bounded(stuck, &sender, Duration::from_millis(10));
        tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
        drop(sender);
        assert_eq!(parts.recv().await, Some(Bytes::from("first")));
        assert_eq!(parts.recv().await, None);
    }
}
