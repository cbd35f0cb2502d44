//! A copy of one kind of the API's objects, kept up to date over restarts of the control plane.
//!
//! What the copy holds is never dropped because the API is away: only a new list, or an event, says
//! that an object is gone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use ironmesh_client::{Client, Error as ApiError, JSON};
use serde_json::Value;
use tokio::sync::mpsc;

/// Namespace and name.
pub(crate) type Key = (String, String);

/// What happened to the objects of a kind.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The object is there, new or changed.
    Is(Value),
    /// It is gone.
    Gone(Key),
    /// All objects that were there at the start have been told.
    Synced,
}

/// A shared copy of one kind of objects.
pub(crate) struct Reflector<T> {
    objects: Rc<RefCell<BTreeMap<Key, T>>>,
}

impl<T> Clone for Reflector<T> {
    fn clone(&self) -> Self {
        Self { objects: Rc::clone(&self.objects) }
    }
}

impl<T> Default for Reflector<T> {
    fn default() -> Self {
        Self { objects: Rc::default() }
    }
}

impl<T: Clone> Reflector<T> {
    /// One object.
    pub(crate) fn object(&self, namespace: &str, name: &str) -> Option<T> {
        self.objects.borrow().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Those that a filter picks, ordered by namespace and name.
    pub(crate) fn filtered(&self, keep: impl Fn(&T) -> bool) -> Vec<T> {
        self.objects.borrow().values().filter(|object| keep(object)).cloned().collect()
    }

    /// Calls a function with each, ordered by namespace and name.
    pub(crate) fn for_each(&self, mut f: impl FnMut(&T)) {
        self.objects.borrow().values().for_each(&mut f);
    }

    pub(crate) fn insert(&self, key: Key, object: T) {
        self.objects.borrow_mut().insert(key, object);
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.objects.borrow_mut().remove(key);
    }
}

/// Follows all objects of a collection, such as `/api/v1/pods`, for ever. Sends every change, and
/// [`Change::Synced`] once, after the first list.
pub(crate) async fn follow(client: Client, path: &'static str, changes: mpsc::Sender<Change>) {
    let mut known: BTreeMap<Key, String> = BTreeMap::new();
    let mut version: Option<String> = None;
    let mut synced = false;
    loop {
        let result = match &version {
            None => list(&client, path, &mut known, &changes).await.map(|v| version = Some(v)),
            Some(from) => watch(&client, path, from.clone(), &mut known, &changes)
                .await
                .map(|reached| version = reached),
        };
        if changes.is_closed() {
            return;
        }
        match result {
            Ok(()) if !synced => {
                synced = true;
                if changes.send(Change::Synced).await.is_err() {
                    return;
                }
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(path, %error, "the API is away");
                if error.is_refused() {
                    version = None;
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// Lists, tells what is new or changed and what is gone, and returns the list's version.
async fn list(
    client: &Client,
    path: &str,
    known: &mut BTreeMap<Key, String>,
    changes: &mpsc::Sender<Change>,
) -> Result<String, ApiError> {
    let mut list = client.get(path).await?;
    let version = version_of(&list);
    let items = match list["items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    let mut gone = std::mem::take(known);
    for item in items {
        let (key, item_version) = (key_of(&item), version_of(&item));
        let before = gone.remove(&key);
        known.insert(key, item_version.clone());
        if before != Some(item_version) {
            // A closed channel is noticed by the caller.
            let _ = changes.send(Change::Is(item)).await;
        }
    }
    for key in gone.into_keys() {
        let _ = changes.send(Change::Gone(key)).await;
    }
    Ok(version)
}

/// Watches until the connection ends; returns the version that was reached, `None` if a new list
/// is needed.
async fn watch(
    client: &Client,
    path: &str,
    from: String,
    known: &mut BTreeMap<Key, String>,
    changes: &mpsc::Sender<Change>,
) -> Result<Option<String>, ApiError> {
    let mut reached = from;
    let query = format!("{path}?watch=1&allowWatchBookmarks=true&resourceVersion={reached}");
    let mut watch = client.stream(&query, JSON).await?;
    loop {
        // A connection that breaks is as one that ends: go on from what was reached.
        let Ok(Some(mut event)) = watch.next_json().await else {
            tokio::time::sleep(REWATCH_PAUSE).await;
            return Ok(Some(reached));
        };
        let object = event["object"].take();
        let kind = event["type"].as_str().unwrap_or_default();
        let change = match kind {
            "ADDED" | "MODIFIED" => {
                known.insert(key_of(&object), version_of(&object));
                reached = version_of(&object);
                Change::Is(object)
            }
            "DELETED" => {
                let key = key_of(&object);
                known.remove(&key);
                reached = version_of(&object);
                Change::Gone(key)
            }
            "BOOKMARK" => {
                reached = version_of(&object);
                continue;
            }
            // An error: the version is too old, or of another store.
            _ => return Ok(None),
        };
        if changes.send(change).await.is_err() {
            return Ok(Some(reached));
        }
    }
}

/// Namespace and name of an object.
pub(crate) fn key_of(object: &Value) -> Key {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

fn version_of(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned()
}

/// Pause before the API is asked again after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Pause before a watch that ended is opened again.
const REWATCH_PAUSE: Duration = Duration::from_millis(20);
