//! Where the control plane has its objects from: list, then watch, of objects with a version.
//!
//! The API server of one machine is a source, and so are a Kubernetes API server, folders of files
//! and other meshes. What decides (`mesh`, `explain`, the certificate service) knows this alone, and
//! no store. A source keeps what it has seen, so that asking it waits for nothing.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use ironmesh_dialects::{Object, StatusChange};
use ironmesh_model::Name;
use serde_json::Value;
use tokio::sync::watch;

pub mod memory;

pub use memory::Memory;

/// What an object is known by, whatever version it is written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// API group; empty for the core group.
    pub group: Name,
    /// Kind.
    pub kind: Name,
    /// Namespace; empty for objects of the cluster.
    pub namespace: Name,
    /// Name.
    pub name: Name,
}

impl ObjectKey {
    /// The key of an object.
    pub fn of(object: &Object) -> Self {
        Self {
            group: object.group().into(),
            kind: object.kind().into(),
            namespace: object.namespace().clone(),
            name: object.name().clone(),
        }
    }

    /// The key of a pod.
    pub fn pod(namespace: &str, name: &str) -> Self {
        let (group, kind) = ("".into(), "Pod".into());
        Self { group, kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which object.
    pub key: ObjectKey,
    /// What it is now; `None` once it is gone.
    pub object: Option<Object>,
}

/// The changes after the version that was asked for are not all known any more: list again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the changes after that version are no longer kept; list again")]
pub struct Expired;

/// Why a status was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The object is gone, or of another generation: what it is now comes as a change.
    #[error("the object is another one by now")]
    Outdated,
    /// The source does not take it now.
    #[error("{0}")]
    Refused(String),
}

/// A status that is being written.
pub type Writing<'a> = Pin<Box<dyn Future<Output = Result<(), StatusError>> + Send + 'a>>;

/// Where objects come from.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// The present version. Its receiver wakes after each change; it starts at 1 or later once the
    /// source has all its objects.
    fn subscribe(&self) -> watch::Receiver<u64>;

    /// All objects, and the version at which these were all.
    fn list(&self) -> (Vec<Object>, u64);

    /// The changes after a version, oldest first, and the version that they lead to.
    ///
    /// # Errors
    ///
    /// If some of them are no longer known.
    fn changes_after(&self, version: u64) -> Result<(Vec<Change>, u64), Expired>;

    /// One object, as it is now.
    fn object(&self, key: &ObjectKey) -> Option<Arc<Value>>;

    /// All pods, as they are now, in order of namespace and name.
    fn pods(&self) -> Vec<Arc<Value>>;

    /// Changes the status of an object and nothing else of it, if the object is of the generation that
    /// the change was made from. One writer calls this, and for each object one call at a time.
    ///
    /// # Errors
    ///
    /// See [`StatusError`].
    fn write_status<'a>(&'a self, key: &'a ObjectKey, change: &'a StatusChange) -> Writing<'a>;

    /// The present version.
    fn version(&self) -> u64 {
        *self.subscribe().borrow()
    }
}
