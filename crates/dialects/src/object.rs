//! A Kubernetes-shaped object: typed access to what all kinds share, and old API versions.

use std::sync::Arc;

use ironmesh_model::snapshot::Created;
use ironmesh_model::{Finding, FindingCode, Labels, Name, ObjectId};
use serde_json::{Value, json};

use crate::kinds::{self, Kind, Resource};

pub mod value;

/// One object, cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    id: ObjectId,
    group: Name,
    version: Name,
    value: Arc<Value>,
}

/// A value that is no object of Kubernetes' shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnObject {
    /// A field that names the object is not there, or is no text.
    #[error("{0} is missing or no text")]
    Field(&'static str),
    /// It is no JSON object at all.
    #[error("a resource must be an object with apiVersion, kind and metadata.name")]
    Shape,
}

impl Object {
    /// Reads what names the object. An absent namespace stays empty: whoever accepts objects fills it
    /// in before.
    ///
    /// # Errors
    ///
    /// If `apiVersion`, `kind` or `metadata.name` is missing, or `metadata.namespace` is no text.
    pub fn new(value: impl Into<Arc<Value>>) -> Result<Self, NotAnObject> {
        let value = value.into();
        if !value.is_object() {
            return Err(NotAnObject::Shape);
        }
        let text = |pointer: &str, field| match value.pointer(pointer) {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.as_str()),
            _ => Err(NotAnObject::Field(field)),
        };
        let api_version = text("/apiVersion", "apiVersion")?;
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        let namespace = match value.pointer("/metadata/namespace") {
            None | Some(Value::Null) => "",
            Some(_) => text("/metadata/namespace", "metadata.namespace")?,
        };
        let id = ObjectId::new(
            text("/kind", "kind")?,
            namespace,
            text("/metadata/name", "metadata.name")?,
        );
        let (group, version) = (group.into(), version.into());
        Ok(Self { id, group, version, value })
    }

    /// Its kind, namespace and name.
    pub fn id(&self) -> &ObjectId {
        &self.id
    }

    /// Its kind, such as `VirtualService`.
    pub fn kind(&self) -> &str {
        &self.id.kind
    }

    /// Its namespace; empty if it has none.
    pub fn namespace(&self) -> &Name {
        &self.id.namespace
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        &self.id.name
    }

    /// Its API group; empty for the core group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Its API version, without group.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The whole of it.
    pub fn value(&self) -> &Arc<Value> {
        &self.value
    }

    /// `metadata.uid`; if it has none its namespace and name.
    pub fn uid(&self) -> Name {
        match self.value.pointer("/metadata/uid").and_then(Value::as_str) {
            Some(uid) => uid.into(),
            None => format!("{}/{}", self.id.namespace, self.id.name).into(),
        }
    }

    /// `metadata.labels`; those that are no text are left out.
    pub fn labels(&self) -> Labels {
        self.value.pointer("/metadata/labels").map(labels).unwrap_or_default()
    }

    /// One of `metadata.annotations`.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.value.pointer("/metadata/annotations")?.get(name)?.as_str()
    }

    /// `metadata.generation`; 0 if it is absent.
    pub fn generation(&self) -> i64 {
        self.value.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default()
    }

    /// `metadata.creationTimestamp`; 0 if it is absent or none.
    pub fn created(&self) -> Created {
        let stamp = self.value.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
        stamp.and_then(|s| s.parse::<jiff::Timestamp>().ok()).map_or(0, jiff::Timestamp::as_second)
    }

    /// Whether `metadata.deletionTimestamp` is set.
    pub fn is_terminating(&self) -> bool {
        self.value.pointer("/metadata/deletionTimestamp").is_some_and(|stamp| !stamp.is_null())
    }
}

/// Labels from a JSON object of texts.
pub(crate) fn labels(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
}

/// Turns an object of an old API version, which differs from the preferred one of its kind, into one of
/// that, in place.
///
/// The finding says that the form is old. Other values stay as they are.
pub fn normalize(value: &mut Value) -> Option<Finding> {
    let old = value["apiVersion"].as_str()?.to_owned();
    let (group, version) = kinds::split_api_version(&old);
    let kind = Kind::of(group, value["kind"].as_str()?)?;
    let new = Resource::from(kind).api_version();
    let convert = kind.convert.filter(|_| old != new && kind.has_version(group, version))?;
    value["apiVersion"] = json!(new);
    convert(value);
    let object = Object::new(value.clone()).ok()?;
    let message = format!("{old} is taken as {new}");
    Some(Finding::new(object.id(), "apiVersion", FindingCode::Deprecated, message))
}

/// Turns an object of the preferred version of its kind into one of another version, in place, where the two
/// differ in more than `apiVersion`: what [`normalize`] turns back. Others stay as they are.
pub fn revert(value: &mut Value, api_version: &str) {
    let (group, version) = kinds::split_api_version(api_version);
    let kind = value["kind"].as_str().and_then(|kind| Kind::of(group, kind));
    let is_other = |kind: &&Kind| (group, version) != (kind.group, kind.versions[0]);
    if let Some(revert) = kind.filter(is_other).and_then(|kind| kind.revert) {
        value["apiVersion"] = json!(api_version);
        revert(value);
    }
}
