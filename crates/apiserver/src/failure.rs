//! What the API answers when it refuses: Kubernetes' `Status` with kubectl's texts.

use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use crate::access::Action;
use crate::ownership::Conflict;
use crate::store;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// HTTP status.
    pub code: u16,
    /// Kubernetes' word for it (`NotFound`).
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// What it is about.
    details: Option<Box<Details>>,
}

/// The object that a refusal is about, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    name: String,
    group: String,
    /// Plural, or for wrong fields the kind, as Kubernetes has it.
    kind: String,
    causes: Vec<Cause>,
}

/// One field that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// Path of the field.
    pub(crate) field: String,
    /// What is wrong, as Kubernetes words it (`Required value`).
    pub(crate) message: String,
}

impl Cause {
    /// A field that must be there.
    pub(crate) fn required(field: impl Into<String>) -> Self {
        Self { field: field.into(), message: "Required value".to_owned() }
    }

    /// A field with a value that it does not take.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Self {
        Self { field: field.into(), message: format!("Invalid value: {value}: {why}") }
    }
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self { code, reason, message, details: None }
    }

    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.plural.to_string(),
            causes: Vec::new(),
        }));
        self
    }

    /// 404: no such object.
    pub fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    /// 404: no such path.
    pub fn no_such_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        // Clients look into the details of a 404 without looking whether there are any.
        let details = Some(Box::default());
        Self { details, ..Self::new(404, "NotFound", message) }
    }

    /// 409: the name is taken.
    pub(crate) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    /// 409: somebody else changed it first.
    pub(crate) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified());
        Self::new(409, "Conflict", message).about(resource, name)
    }

    /// 409: others own fields that would be applied with other values.
    pub(crate) fn apply_conflict(resource: &Resource, name: &str, conflicts: &[Conflict]) -> Self {
        let many = if conflicts.len() == 1 { "" } else { "s" };
        let text = |conflict: &Conflict| {
            format!("conflict with {:?} using {}", conflict.manager, conflict.api_version)
        };
        let all: Vec<_> = conflicts.iter().map(|c| format!("{}: {}", text(c), c.field)).collect();
        let message =
            format!("Apply failed with {} conflict{many}: {}", conflicts.len(), all.join(", "));
        let cause =
            |conflict: &Conflict| Cause { field: conflict.field.clone(), message: text(conflict) };
        let mut failure = Self::new(409, "Conflict", message).about(resource, name);
        if let Some(details) = &mut failure.details {
            details.causes = conflicts.iter().map(cause).collect();
        }
        failure
    }

    /// 422: fields are wrong.
    pub(crate) fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let texts: Vec<_> = causes
            .iter()
            .map(|c| {
                if c.field.is_empty() {
                    c.message.clone()
                } else {
                    format!("{}: {}", c.field, c.message)
                }
            })
            .collect();
        let all = match &texts[..] {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {all}", resource.qualified_kind());
        let mut failure = Self::new(422, "Invalid", message);
        failure.details = Some(Box::new(Details {
            name: name.to_owned(),
            group: resource.group.to_string(),
            kind: resource.kind.to_string(),
            causes,
        }));
        failure
    }

    /// 403: not allowed now.
    pub(crate) fn forbidden(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
        Self::new(403, "Forbidden", message).about(resource, name)
    }

    /// 401: it is not known who calls.
    pub(crate) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".to_owned())
    }

    /// 403: who calls may not do that.
    pub(crate) fn not_allowed(user: &str, action: &Action<'_>) -> Self {
        let message = match *action {
            Action::Path { verb, path } => {
                format!("forbidden: User {user:?} cannot {verb} path {path:?}")
            }
            Action::Resource { verb, group, resource, subresource, namespace } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let what = format!("{resource}{slash}{subresource}");
                let place = match namespace {
                    "" => "at the cluster scope".to_owned(),
                    namespace => format!("in the namespace {namespace:?}"),
                };
                let group_dot = if group.is_empty() { "" } else { "." };
                format!(
                    "{resource}{group_dot}{group} is forbidden: User {user:?} cannot {verb} resource {what:?} in API group {group:?} {place}"
                )
            }
        };
        Self::new(403, "Forbidden", message)
    }

    /// 400: the request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into())
    }

    /// 422: the request is well-formed, but the object is not as it assumes.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message.into())
    }

    /// 405: not that verb here.
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message.to_owned())
    }

    /// 410: list again.
    pub(crate) fn gone(gone: &store::Gone) -> Self {
        Self::new(410, "Expired", gone.to_string())
    }

    /// 413: larger than the limit.
    pub(crate) fn too_large(limit: usize) -> Self {
        let message = format!("the request body is larger than object_bytes_max = {limit}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 413: what would be stored, or done, is more than the limits allow.
    pub(crate) fn over_limit(message: impl Into<String>) -> Self {
        Self::new(413, "RequestEntityTooLarge", message.into())
    }

    /// 408: the client was too slow.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(408, "Timeout", message.into())
    }

    /// 504: what is asked for is in the future.
    pub(crate) fn too_new(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        Self::new(504, "Timeout", message)
    }

    /// 429: all connections are in use.
    pub(crate) fn too_many_requests(most: usize) -> Self {
        let message = format!(
            "all connections of the API have requests (limits.control.api_connections_max = {most}); \
             try again later, or end watches"
        );
        Self::new(429, "TooManyRequests", message)
    }

    /// 429: a PodDisruptionBudget needs a pod that is to be evicted.
    pub(crate) fn disruption(budget: &str, needed: i64, healthy: i64) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let mut failure = Self::new(429, "TooManyRequests", message.to_owned());
        let cause = Cause {
            field: "DisruptionBudget".to_owned(),
            message: format!(
                "The disruption budget {budget} needs {needed} healthy pods and has {healthy} currently"
            ),
        };
        failure.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        failure
    }

    /// 415: a body of a type that is not read here.
    pub(crate) fn unsupported_type(found: &str, known: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}; found: {found}",
            known.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 503: nobody is there who could answer.
    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message.into())
    }

    /// 500: it is the server's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(500, "InternalError", message.into())
    }

    /// What the store refused.
    pub(crate) fn of_store(error: &store::Error, resource: &Resource) -> Self {
        match error {
            store::Error::Exists(key) => Self::already_exists(resource, &key.name),
            store::Error::Missing(key) => Self::not_found(resource, &key.name),
            other => Self::of_limits(other),
        }
    }

    /// What the store refused whatever object it was.
    fn of_limits(error: &store::Error) -> Self {
        match error {
            store::Error::TooLarge { .. } | store::Error::TooDeep(_) => {
                Self::over_limit(error.to_string())
            }
            store::Error::Full(_) => Self::new(507, "InsufficientStorage", error.to_string()),
            _ => Self::internal(error.to_string()),
        }
    }

    /// As a `Status` object.
    pub(crate) fn status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        });
        if let Some(details) = &self.details {
            let Details { name, group, kind, causes } = &**details;
            status["details"] = json!({"name": name, "group": group, "kind": kind});
            if !causes.is_empty() {
                let cause = |c: &Cause| {
                    let mut cause = json!({"field": c.field, "message": c.message});
                    // Of a conflict clients tell by the reason that it is one of server-side apply.
                    if self.reason == "Conflict" {
                        cause["reason"] = "FieldManagerConflict".into();
                    }
                    cause
                };
                status["details"]["causes"] = causes.iter().map(cause).collect();
            }
        }
        status
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Self {
        let (store::Error::Exists(key) | store::Error::Missing(key)) = &error else {
            return Self::of_limits(&error);
        };
        let resource = Resource::of_path(&key.collection.group, &key.collection.plural)
            .unwrap_or_else(|| Resource {
                group: key.collection.group.clone(),
                version: "".into(),
                kind: key.collection.plural.clone(),
                plural: key.collection.plural.clone(),
                namespaced: !key.namespace.is_empty(),
            });
        Self::of_store(&error, &resource)
    }
}
