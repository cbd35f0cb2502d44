//! WATCH: changes as lines of JSON, from a version on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::answer::{self, Answer};
use super::request::{ApiRequest, Target};
use super::resources::{selector, table_of, write_object};
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
        selector: selector(request)?,
        target: target.clone(),
        table: request.wants_table().then(|| request.head()),
    };
    let mut first = Vec::new();
    let revision = match request.query("resourceVersion") {
        "" | "0" => {
            let store = context.registry.store();
            let (objects, revision) = store.list(&watcher.collection, target.namespace.as_deref());
            for object in objects.iter().filter(|object| watcher.means(object)) {
                watcher.write(&mut first, "ADDED", object);
            }
            revision
        }
        text => text
            .parse()
            .map_err(|_| Failure::bad_request(format!("invalid resource version {text:?}")))?,
    };
    let timeout = request.query("timeoutSeconds").parse().map_or(WATCH_MAX, Duration::from_secs);
    let (sender, answer) = answer::stream("application/json");
    let context = context.clone();
    tokio::spawn(async move {
        let following = follow(&context, &watcher, revision, first, &sender);
        tokio::select! {
            () = following => {}
            () = sender.closed() => {}
            () = tokio::time::sleep(timeout) => {}
        }
    });
    Ok(answer)
}

async fn follow(
    context: &Context,
    watcher: &Watcher,
    mut revision: u64,
    mut lines: Vec<u8>,
    sender: &mpsc::Sender<Bytes>,
) {
    let store = context.registry.store();
    let mut changes = store.subscribe();
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
                if all_read && changes.changed().await.is_err() {
                    return;
                }
            }
            Err(gone) => {
                // Nobody is left to tell if this fails.
                let _ = sender.send(Bytes::from(gone_line(&gone))).await;
                return;
            }
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
            (true, false) => self.write(lines, "DELETED", &event.object),
            (false, false) => {}
        }
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

fn gone_line(gone: &Gone) -> String {
    let event: Value = json!({"type": "ERROR", "object": Failure::gone(gone).status()});
    format!("{event}\n")
}

/// Events that are read from the history in one step.
const EVENTS_AT_ONCE_MAX: usize = 256;
/// Longest watch; the client comes back.
const WATCH_MAX: Duration = Duration::from_secs(3600);
