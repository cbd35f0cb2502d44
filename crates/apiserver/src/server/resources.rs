//! The verbs on collections and objects.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use ironmesh_dialects::kinds::{Kind, Resource, split_api_version};
use ironmesh_dialects::kubernetes::kinds::{ReplicaSet, ReplicationController};
use ironmesh_dialects::object::{normalize, revert};
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::parts::PART_BYTES;
use super::request::{ApiRequest, Target};
use super::{advice, apply, eviction, logs, options, strict, watch};
use crate::clock;
use crate::context::Context;
use crate::custom::{Definition, Printed};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::patch;
use crate::registry::{Deleted, Part};
use crate::selector::Selector;
use crate::store::{Collection, Key};
use crate::table::{Include, Rows};

/// Answers a request for a collection or an object.
pub(super) async fn handle(
    context: &Arc<Context>,
    request: &ApiRequest,
    mut target: Target,
) -> Result<Answer, Failure> {
    request.check(&target)?;
    learn(context, &mut target)?;
    let method = &request.method;
    let Some(name) = target.name.clone() else {
        return match *method {
            Method::GET if request.flag("watch") => watch::start(context, request, &target, None),
            Method::GET => list(context, request, &target),
            Method::POST => {
                let answer = create(context, request, &target)?;
                Ok(advice::add(context, request, answer).await)
            }
            Method::DELETE => delete_collection(context, request, &target),
            _ => Err(Failure::method_not_allowed()),
        };
    };
    if target.resource.namespaced && target.namespace.is_none() {
        return Err(Failure::no_such_path());
    }
    match (target.subresource.as_deref(), method) {
        (None, &Method::GET) if request.flag("watch") => {
            watch::start(context, request, &target, Some(&name))
        }
        (None, &Method::GET) => read(context, request, &target, &name),
        (None, &Method::DELETE) => delete(context, request, &target, &name),
        (None, _) => {
            let answer = change(context, request, &target, &name, Part::Main)?;
            Ok(advice::add(context, request, answer).await)
        }
        (Some("status"), &Method::GET) => read(context, request, &target, &name),
        (Some("status"), _) => change(context, request, &target, &name, Part::Status),
        (Some("scale"), _) => scale(context, request, &target, &name),
        (Some("eviction"), &Method::POST) if is_pod(&target) => {
            eviction::evict(context, request, &target, &name)
        }
        (Some("log"), &Method::GET) => logs::read(context, request, &target.key(&name)).await,
        _ => Err(Failure::no_such_path()),
    }
}

fn is_pod(target: &Target) -> bool {
    &*target.resource.plural == "pods" && target.resource.group.is_empty()
}

/// Completes a collection that the table of kinds does not have from the definition of its kind.
///
/// # Errors
///
/// If nobody has defined it in this version.
fn learn(context: &Context, target: &mut Target) -> Result<(), Failure> {
    if target.known {
        return Ok(());
    }
    let Resource { group, plural, .. } = &target.resource;
    let definition = Definition::find(context.registry.store(), group, plural);
    let definition = definition.ok_or_else(Failure::no_such_path)?;
    if !definition.kind.versions.contains(&target.version) {
        return Err(Failure::no_such_path());
    }
    target.resource = definition.kind.resource;
    Ok(())
}

fn list(context: &Arc<Context>, request: &ApiRequest, target: &Target) -> Result<Answer, Failure> {
    let selector = selector(request, &target.resource)?;
    let collection = Collection::from(&target.resource);
    let store = context.registry.store();
    let (mut objects, revision) = store.list(&collection, target.namespace.as_deref());
    options::check_list(request, revision)?;
    objects.retain(|object| selector.matches(object));
    let revision = revision.to_string();
    let rows = request.wants_table().then(|| rows_of(request, target, columns_of(context, target)));
    let head = match &rows {
        // Its last two characters end the list of rows and the table.
        Some(rows) => rows.table(Vec::new(), &revision).to_string(),
        None => format!(
            r#"{{"kind":"{}List","apiVersion":"{}","metadata":{{"resourceVersion":"{revision}"}},"items":[]}}"#,
            target.resource.kind,
            present_version(target),
        ),
    };
    let target = target.clone();
    let write = move |part: &mut Vec<u8>, object: &Object| match &rows {
        Some(rows) => part.extend_from_slice(rows.row(object).to_string().as_bytes()),
        None => write_object(part, &target, object),
    };
    Ok(answer::pulled("application/json", parts_of_list(context.clone(), head, objects, write)))
}

/// A list, made part by part as its client takes it: who does not read holds the objects, which
/// others hold, too, and one part. `empty` is the list without items.
fn parts_of_list(
    context: Arc<Context>,
    mut empty: String,
    objects: Vec<Arc<Object>>,
    write: impl Fn(&mut Vec<u8>, &Object),
) -> impl Iterator<Item = Bytes> {
    let end = empty.split_off(empty.len() - 2);
    let mut part = empty.into_bytes();
    let mut objects = objects.into_iter();
    let mut separator: &[u8] = b"";
    let mut ended = false;
    std::iter::from_fn(move || {
        if ended {
            return None;
        }
        while part.len() < PART_BYTES {
            let Some(object) = objects.next() else {
                part.extend_from_slice(end.as_bytes());
                ended = true;
                break;
            };
            part.extend_from_slice(std::mem::replace(&mut separator, b","));
            write(&mut part, &object);
        }
        Some(context.parts.part(std::mem::take(&mut part)))
    })
}

fn read(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
    name: &str,
) -> Result<Answer, Failure> {
    let object = context.registry.object(&target.resource, &target.key(name))?;
    if request.wants_table() {
        let revision = object::text(&object, "/metadata/resourceVersion");
        let rows = rows_of(request, target, columns_of(context, target));
        let table = rows.table(vec![rows.row(&object)], revision);
        return Ok(answer::json(StatusCode::OK, &table));
    }
    Ok(presented(StatusCode::OK, target, &object))
}

fn create(context: &Context, request: &ApiRequest, target: &Target) -> Result<Answer, Failure> {
    options::check_json(request)?;
    let mut object = request.json()?;
    let resource = resource_for(target, &object)?;
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    let namespace = target.namespace.as_deref().unwrap_or_default();
    if resource.namespaced && namespace.is_empty() {
        return Err(Failure::bad_request(
            "an object of a namespace is to be posted to the path of its namespace",
        ));
    }
    let warnings = strict::check(request, &object, None)?;
    let is_tried = request.is_dry_run()?;
    let created = if is_tried {
        context.registry.would_create(&resource, namespace, object)?
    } else {
        context.registry.create(&resource, namespace, object)?
    };
    let answer = strict::warn(presented(StatusCode::CREATED, target, &created), &warnings);
    Ok(advice::note(answer, &created, is_tried))
}

/// The resource of a sent object, which must be that of the path.
pub(super) fn resource_for(target: &Target, object: &Object) -> Result<Resource, Failure> {
    let api_version = object::text(object, "/apiVersion");
    let kind = object::text(object, "/kind");
    if api_version.is_empty() || kind.is_empty() {
        let field = if kind.is_empty() { "kind" } else { "apiVersion" };
        return Err(Failure::bad_request(format!("Object '{field}' is missing in the body")));
    }
    if let Some(versions) = Resource::versions_instead(api_version, kind) {
        return Err(Failure::bad_request(format!(
            "no matches for kind {kind:?} in version {api_version:?}; its versions are {}",
            versions.join(", ")
        )));
    }
    let sent = Resource::of(api_version, kind);
    let (group, _) = split_api_version(api_version);
    let is_it = match target.known {
        true => sent.group == target.resource.group && sent.plural == target.resource.plural,
        false => *group == *target.resource.group && *kind == *target.resource.kind,
    };
    if !is_it {
        return Err(Failure::bad_request(format!(
            "the kind in the data ({api_version} {kind}) does not match the expected kind ({} {})",
            target.resource.api_version(),
            target.resource.kind
        )));
    }
    Ok(target.resource.clone())
}

fn change(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
    name: &str,
    part: Part,
) -> Result<Answer, Failure> {
    let key = target.key(name);
    if !matches!(request.method, Method::PUT | Method::PATCH) {
        return Err(Failure::method_not_allowed());
    }
    if request.method == Method::PATCH && apply::is_apply(request) {
        return apply::apply(context, request, target, name, part);
    }
    if request.method == Method::PUT {
        options::check_json(request)?;
    }
    let body = request.json()?;
    if request.method == Method::PUT {
        let resource = resource_for(target, &body)?;
        if part == Part::Main && context.registry.store().object(&key).is_none() {
            return Err(Failure::not_found(&resource, name));
        }
        let updated = update(context, request, &resource, &key, part, |_| Ok(body.clone()))?;
        return presented_update(request, target, &updated);
    }
    let apply = patch_of(&request.content_type, &target.resource)?;
    let bytes_max = context.registry.limits().object_bytes_max;
    let updated = update(context, request, &target.resource, &key, part, |old| {
        let mut new = old.clone();
        // The patch is of the version in the path.
        revert(&mut new, &present_version(target));
        apply(&mut new, &body, bytes_max)?;
        Ok(new)
    })?;
    presented_update(request, target, &updated)
}

pub(super) fn presented_update(
    request: &ApiRequest,
    target: &Target,
    Updated { object, warnings, is_changed }: &Updated,
) -> Result<Answer, Failure> {
    let answer = strict::warn(presented(StatusCode::OK, target, object), warnings);
    // Of one that is as it was nothing is repeated.
    Ok(match is_changed {
        true => advice::note(answer, object, request.is_dry_run()?),
        false => answer,
    })
}

/// What became of an update.
pub(super) struct Updated {
    object: Arc<Object>,
    /// What its author is to be warned of.
    warnings: Vec<String>,
    /// Whether it is another object now.
    is_changed: bool,
}

/// Changes an object, or only tries to.
pub(super) fn update(
    context: &Context,
    request: &ApiRequest,
    resource: &Resource,
    key: &Key,
    part: Part,
    change: impl Fn(&Object) -> Result<Object, Failure>,
) -> Result<Updated, Failure> {
    let (warnings, is_changed) = (RefCell::default(), Cell::new(false));
    let change = |old: &Object| {
        let mut new = change(old)?;
        // Objects are compared, and kept, in the version of today; whoever wrote an old one knows.
        drop(normalize(&mut new));
        is_changed.set(new != *old);
        warnings.replace(strict::check(request, &new, Some(old))?);
        apply::note_update(request, resource, part, old, &mut new);
        Ok(new)
    };
    let updated = if request.is_dry_run()? {
        context.registry.would_update(resource, key, part, change)?
    } else {
        context.registry.update(resource, key, part, change)?
    };
    Ok(Updated { object: updated, warnings: warnings.take(), is_changed: is_changed.get() })
}

type Patch = fn(&mut Value, &Value, usize) -> Result<(), Failure>;

/// How a patch of a media type is applied: to an object, the patch, and the bytes that an object may
/// have. Of custom resources Kubernetes does not know by which keys lists are merged, so it takes no
/// strategic merge patch for them.
fn patch_of(content_type: &str, resource: &Resource) -> Result<Patch, Failure> {
    let kind = Kind::of_path(&resource.group, &resource.plural);
    let is_strategic = kind.is_some_and(|kind| !kind.custom);
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    match media_type {
        "application/merge-patch+json" => Ok(|object, change, _| {
            patch::merge(object, change);
            Ok(())
        }),
        STRATEGIC if is_strategic => Ok(|object, change, _| {
            patch::strategic_merge(object, change);
            Ok(())
        }),
        "application/json-patch+json" => Ok(|object, change, bytes_max| {
            patch::json_patch(object, change, bytes_max).map_err(|error| match error {
                patch::Error::Form(_) => Failure::bad_request(error.to_string()),
                patch::Error::Path(_) => Failure::unprocessable(error.to_string()),
                patch::Error::TooLarge(_) => Failure::over_limit(error.to_string()),
            })
        }),
        other => {
            let known = [
                "application/json-patch+json",
                "application/merge-patch+json",
                apply::APPLY,
                STRATEGIC,
            ];
            let count = known.len() - usize::from(!is_strategic);
            Err(Failure::unsupported_type(other, &known[..count]))
        }
    }
}

const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn delete(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
    name: &str,
) -> Result<Answer, Failure> {
    let options = options::of_deletion(request)?;
    match context.registry.delete(&target.resource, &target.key(name), &options)? {
        Deleted::Marked(object) => Ok(presented(StatusCode::OK, target, &object)),
        Deleted::Gone(object) => {
            let status = json!({
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": {
                    "name": name,
                    "group": target.resource.group,
                    "kind": target.resource.plural,
                    "uid": object::uid(&object),
                },
            });
            Ok(answer::json(StatusCode::OK, &status))
        }
    }
}

fn delete_collection(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
) -> Result<Answer, Failure> {
    let options = options::of_deletion(request)?;
    let selector = selector(request, &target.resource)?;
    let collection = Collection::from(&target.resource);
    let (objects, _) = context.registry.store().list(&collection, target.namespace.as_deref());
    for object in objects.iter().filter(|object| selector.matches(object)) {
        let key = collection.key(object::namespace(object), object::name(object));
        context.registry.delete(&target.resource, &key, &options)?;
    }
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
    Ok(answer::json(StatusCode::OK, &status))
}

/// `/scale`: the number of replicas alone.
fn scale(
    context: &Context,
    request: &ApiRequest,
    target: &Target,
    name: &str,
) -> Result<Answer, Failure> {
    if !SCALED.contains(&&*target.resource.plural) {
        return Err(Failure::no_such_path());
    }
    let key = target.key(name);
    let mut object = context.registry.object(&target.resource, &key)?;
    if request.method != Method::GET {
        let body = request.json()?;
        let scaled = update(context, request, &target.resource, &key, Part::Main, |old| {
            let mut scale = scale_of(old);
            if request.method == Method::PATCH {
                let bytes_max = context.registry.limits().object_bytes_max;
                patch_of(&request.content_type, &target.resource)?(&mut scale, &body, bytes_max)?;
            } else {
                scale = body.clone();
            }
            let mut new = old.clone();
            new["spec"]["replicas"] = match scale.pointer("/spec/replicas") {
                Some(replicas) => replicas.clone(),
                None => 0.into(),
            };
            if let Some(version) = scale.pointer("/metadata/resourceVersion") {
                new["metadata"]["resourceVersion"] = version.clone();
            }
            Ok(new)
        })?;
        object = scaled.object;
    }
    Ok(answer::json(StatusCode::OK, &scale_of(&object)))
}

/// What has replicas.
pub(super) const SCALED: [&str; 4] =
    ["deployments", "replicasets", "replicationcontrollers", "statefulsets"];

/// The scale of a workload; all of them have what a ReplicaSet has.
fn scale_of(object: &Object) -> Value {
    let metadata = &object["metadata"];
    let set = ReplicaSet::of(object);
    let labels = match object["kind"] == "ReplicationController" {
        true => ReplicationController::of(object).spec().selector(),
        false => set.spec().selector().match_labels(),
    };
    let mut selector: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    selector.sort();
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": set.spec().replicas().get()},
        "status": {
            "replicas": set.status().replicas().get(),
            "selector": selector.join(","),
        },
    })
}

/// The selectors of a request.
pub(super) fn selector(request: &ApiRequest, resource: &Resource) -> Result<Selector, Failure> {
    let (labels, fields) = (request.query("labelSelector"), request.query("fieldSelector"));
    Selector::parse(labels, fields, &resource.group, &resource.plural)
        .map_err(|error| Failure::bad_request(error.to_string()))
}

/// The columns that the definition of a target's kind gives its tables.
pub(super) fn columns_of(context: &Context, target: &Target) -> Arc<[Printed]> {
    Definition::columns_of(context.registry.store(), &target.resource)
}

/// How the objects of a target are shown in tables, with as much of each as the request wants.
pub(super) fn rows_of(request: &ApiRequest, target: &Target, printed: Arc<[Printed]>) -> Rows {
    let include = match request.query("includeObject") {
        "None" => Include::Nothing,
        "Object" => Include::Object,
        _ => Include::Metadata,
    };
    let Resource { group, plural, .. } = &target.resource;
    Rows::new(group, plural, printed, include, clock::now())
}

pub(super) fn presented(status: StatusCode, target: &Target, object: &Object) -> Answer {
    let mut body = Vec::new();
    write_object(&mut body, target, object);
    answer::whole(status, "application/json", Bytes::from(body))
}

/// Writes an object as the version in the path presents it.
pub(super) fn write_object(out: &mut Vec<u8>, target: &Target, object: &Object) {
    let (group, version) = split_api_version(object::text(object, "/apiVersion"));
    let is_own = group == &*target.resource.group;
    let written = if is_own && (group, version) != (&*target.group, &*target.version) {
        let version = present_version(target);
        let mut copy = object.clone();
        revert(&mut copy, &version);
        copy["apiVersion"] = version.into();
        serde_json::to_writer(out, &copy)
    } else {
        serde_json::to_writer(out, object)
    };
    // Writing a JSON value into memory cannot fail.
    written.unwrap_or_default();
}

/// `apiVersion` of objects as the path asks for them.
pub(super) fn present_version(target: &Target) -> String {
    let Target { group, version, .. } = target;
    if group.is_empty() { version.clone() } else { format!("{group}/{version}") }
}
