//! Server-side apply: `PATCH` with `application/apply-patch+yaml`, and who changes objects otherwise.

use http::StatusCode;
use ironmesh_dialects::kinds::{Kind, Resource};
use ironmesh_dialects::object::normalize;
use serde_json::Value;

use super::answer::Answer;
use super::request::{ApiRequest, Target};
use super::resources::{presented, presented_update, resource_for, update};
use super::{advice, strict};
use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::ownership::{self, Author};
use crate::registry::Part;

/// Whether a request is one.
pub(super) fn is_apply(request: &ApiRequest) -> bool {
    let media_type = request.content_type.split(';').next().unwrap_or_default().trim();
    media_type == APPLY
}

/// Applies the configuration of an object: changes it, or makes it.
///
/// # Errors
///
/// If others own fields of it with other values (409), it is not said who applies, or as with any change.
pub(super) fn apply(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
    name: &str,
    part: Part,
) -> Result<Answer, Failure> {
    if request.query("fieldManager").is_empty() {
        return Err(Failure::bad_request("fieldManager is required for apply patch"));
    }
    let mut config = read(&request.body)?;
    let resource = resource_for(target, &config)?;
    let named = object::name(&config);
    if named.is_empty() {
        object::metadata_mut(&mut config)["name"] = name.into();
    } else if named != name {
        return Err(Failure::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    if let Some(metadata) = object::metadata_mut(&mut config).as_object_mut()
        && metadata.shift_remove("managedFields").is_some_and(|entries| !entries.is_null())
    {
        return Err(Failure::bad_request("metadata.managedFields must be nil"));
    }
    drop(normalize(&mut config));
    let key = target.key(name);
    let applied = |old: Option<&Object>| {
        let now = clock::rfc3339(clock::now());
        let version = resource.api_version();
        let by = author(request, &resource, &version, &now);
        let force = request.flag("force");
        ownership::apply(old, &config, &by, force)
            .map_err(|conflicts| Failure::apply_conflict(&resource, name, &conflicts))
    };
    if part == Part::Main && context.registry.store().object(&key).is_none() {
        let object = applied(None)?;
        let warnings = strict::check(request, &object, None)?;
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let is_tried = request.is_dry_run()?;
        let created = if is_tried {
            context.registry.would_create(&resource, namespace, object)?
        } else {
            context.registry.create(&resource, namespace, object)?
        };
        let answer = strict::warn(presented(StatusCode::CREATED, target, &created), &warnings);
        return Ok(advice::note(answer, &created, is_tried));
    }
    let change = |old: &Object| applied(Some(old));
    let updated = update(context, request, &resource, &key, part, change)?;
    presented_update(request, target, &updated)
}

/// Notes who owns the fields that a request has changed otherwise.
pub(super) fn note_update(
    request: &ApiRequest,
    resource: &Resource,
    part: Part,
    old: &Object,
    new: &mut Object,
) {
    if part == Part::Status || is_apply(request) {
        return;
    }
    let now = clock::rfc3339(clock::now());
    let version = resource.api_version();
    ownership::note_update(old, new, &author(request, resource, &version, &now));
}

fn author<'a>(
    request: &'a ApiRequest,
    resource: &Resource,
    api_version: &'a str,
    time: &'a str,
) -> Author<'a> {
    let manager = match request.query("fieldManager") {
        // As Kubernetes: the program, without its version.
        "" => request.user_agent.split('/').next().filter(|name| !name.is_empty()),
        manager => Some(manager),
    };
    let kind = Kind::of_path(&resource.group, &resource.plural);
    Author {
        manager: manager.unwrap_or("unknown"),
        api_version,
        time,
        custom: kind.is_none_or(|kind| kind.custom),
    }
}

/// The configuration: JSON, or YAML of one document.
fn read(body: &[u8]) -> Result<Object, Failure> {
    if let Ok(object) = serde_json::from_slice::<Value>(body) {
        return object.is_object().then_some(object).ok_or_else(no_object);
    }
    let text = std::str::from_utf8(body).map_err(|_| no_object())?;
    let parsed = ironmesh_dialects::manifest::parse(text);
    if let Some(error) = parsed.errors.first() {
        return Err(Failure::bad_request(format!(
            "the body of the request is no YAML: line {}: {}",
            error.line, error.message
        )));
    }
    let mut documents = parsed.documents.into_iter();
    match (documents.next(), documents.next()) {
        (Some(document), None) if document.value.is_object() => Ok(document.value),
        _ => Err(no_object()),
    }
}

fn no_object() -> Failure {
    Failure::bad_request("the body of the request is not one object")
}

/// The media type.
pub(super) const APPLY: &str = "application/apply-patch+yaml";
