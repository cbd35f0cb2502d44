//! WATCH: changes as lines of JSON, from a version on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::options;
use super::parts::PART_BYTES;
use super::request::{ApiRequest, Target};
use super::resources::{columns_of, present_version, rows_of, selector, write_object};
use crate::context::Context;
use crate::custom::Printed;
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
    table: Option<(ApiRequest, Arc<[Printed]>)>,
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
    let watcher = Watcher {
        collection: Collection::from(&target.resource),
        namespace: target.namespace.clone(),
        name: name.map(str::to_owned),
        selector: selector(request, &target.resource)?,
        target: target.clone(),
        table: request.wants_table().then(|| (request.head(), columns_of(context, target))),
        bookmarks: request.flag("allowWatchBookmarks"),
    };
    let all_first = request.flag("sendInitialEvents");
    let seconds = options::number(request, "timeoutSeconds")?.unwrap_or(0);
    let asked: Option<u64> = options::number(request, "resourceVersion")?;
    let mut first = First::default();
    let revision = match asked.filter(|asked| *asked != 0 && !all_first) {
        None => {
            first.bookmark = all_first && watcher.bookmarks;
            let store = context.registry.store();
            let (objects, revision) = store.list(&watcher.collection, target.namespace.as_deref());
            first.objects = objects;
            first.objects.retain(|object| watcher.means(object));
            revision
        }
        Some(revision) => revision,
    };
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
async fn bounded<T>(watch: impl Future<Output = T>, client: &mpsc::Sender<Bytes>, most: Duration) {
    tokio::select! {
        _ = watch => {}
        () = client.closed() => {}
        () = tokio::time::sleep(most) => {}
    }
}

/// What a watch begins with.
#[derive(Default)]
struct First {
    /// The objects that there are.
    objects: Vec<Arc<Object>>,
    /// Whether a bookmark says that these were all.
    bookmark: bool,
}

/// What is written for a client and not sent yet.
struct Lines<'a> {
    context: &'a Context,
    bytes: Vec<u8>,
    client: &'a mpsc::Sender<Bytes>,
}

impl Lines<'_> {
    /// Sends what there is, once it is enough for a part. Fails if the client is gone.
    async fn send_beyond(&mut self, enough: usize) -> Result<(), Left> {
        if self.bytes.is_empty() || self.bytes.len() < enough {
            return Ok(());
        }
        let part = self.context.parts.part(std::mem::take(&mut self.bytes));
        self.client.send(part).await.map_err(|_| Left)
    }
}

/// The client is gone.
struct Left;

/// Follows the changes until the watch ends.
async fn follow(
    context: &Context,
    watcher: &Watcher,
    mut revision: u64,
    first: First,
    client: &mpsc::Sender<Bytes>,
    timeout: Duration,
) -> Result<(), Left> {
    let store = context.registry.store();
    let mut changes = store.subscribe();
    let mut bookmark = tokio::time::interval(BOOKMARK_INTERVAL);
    bookmark.reset();
    let end = tokio::time::sleep(timeout);
    tokio::pin!(end);
    let mut lines = Lines { context, bytes: Vec::new(), client };
    for object in first.objects {
        watcher.write(&mut lines.bytes, "ADDED", &object);
        lines.send_beyond(PART_BYTES).await?;
    }
    if first.bookmark {
        watcher.write_bookmark(&mut lines.bytes, revision, true);
    }
    loop {
        changes.mark_unchanged();
        // A slow client is not waited for: it reads on from the history, while that lasts.
        match store.events_after(revision, EVENTS_AT_ONCE_MAX) {
            Ok(events) => {
                for event in &events {
                    watcher.write_event(&mut lines.bytes, event);
                    revision = event.revision;
                    lines.send_beyond(PART_BYTES).await?;
                }
                lines.send_beyond(0).await?;
                if events.len() == EVENTS_AT_ONCE_MAX {
                    continue;
                }
            }
            Err(gone) => {
                lines.bytes.extend_from_slice(gone_line(&gone).as_bytes());
                return lines.send_beyond(0).await;
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
            watcher.write_bookmark(&mut lines.bytes, revision, false);
        }
        if ends {
            // The client is told nothing but its version, from which it comes back.
            return lines.send_beyond(0).await;
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
            || self.name.as_deref().is_some_and(|wanted| wanted != &*event.key.name)
        {
            return;
        }
        // Who watches everything needs no look at what was before.
        let before = event.had_old()
            && (self.selector.is_everything() || event.old().is_some_and(|old| self.means(&old)));
        let object = event.object();
        let after = event.kind != EventKind::Deleted && self.means(&object);
        match (before, after) {
            (true, true) => self.write(lines, "MODIFIED", &object),
            (false, true) => self.write(lines, "ADDED", &object),
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
            Some((request, printed)) => {
                let revision = object::text(object, "/metadata/resourceVersion");
                let rows = rows_of(request, &self.target, printed.clone());
                let table = rows.table(vec![rows.row(object)], revision);
                lines.extend_from_slice(table.to_string().as_bytes());
            }
            None => write_object(lines, &self.target, object),
        }
        lines.extend_from_slice(b"}\n");
    }
}

/// An object that a watcher no longer means, as it last was for it, in the version of the change.
fn last_state(event: &Event) -> Object {
    let mut object = Object::clone(&event.old().unwrap_or_else(|| event.object()));
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
