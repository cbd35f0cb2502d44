//! What nodes and pods take of the machine (`metrics.k8s.io`), for `kubectl top`.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use super::answer::{self, Answer};
use super::request::ApiRequest;
use super::resources::selector;
use crate::access::Action;
use crate::clock;
use crate::context::Context;
use crate::failure::Failure;
use crate::node::{Taken, Usage};
use crate::object::{self, Object};
use crate::registry::defaults::NODE;
use crate::store::Collection;

/// The group, and its only version.
pub(super) const GROUP: &str = "metrics.k8s.io";
pub(super) const VERSION: &str = "v1beta1";
/// Its resources: plural, kind, and whether they are in namespaces.
pub(super) const RESOURCES: [(&str, &str, bool); 2] =
    [("nodes", "NodeMetrics", false), ("pods", "PodMetrics", true)];

/// Answers for a path in the group.
///
/// # Errors
///
/// If the caller may not ask that, there is no such path or object, or the node does not answer.
pub(super) async fn answer(
    context: &Context,
    request: &ApiRequest,
    path: &[&str],
) -> Result<Answer, Failure> {
    let (namespace, resource, name) = match *path {
        [resource] => (None, resource, None),
        ["nodes", name] => (None, "nodes", Some(name)),
        ["namespaces", namespace, "pods"] => (Some(namespace), "pods", None),
        ["namespaces", namespace, "pods", name] => (Some(namespace), "pods", Some(name)),
        _ => return Err(Failure::no_such_path()),
    };
    let known = RESOURCES.iter().find(|(plural, ..)| *plural == resource);
    let (plural, kind, _) = *known.ok_or_else(Failure::no_such_path)?;
    request.user.check(&Action::Resource {
        verb: if name.is_some() { "get" } else { "list" },
        group: GROUP,
        resource: plural,
        subresource: "",
        namespace: namespace.unwrap_or_default(),
    })?;
    if request.method != Method::GET {
        return Err(Failure::method_not_allowed());
    }
    let of = Resource::of("v1", if plural == "pods" { "Pod" } else { "Node" });
    let objects = match name {
        Some(name) => {
            let key = Collection::core(plural).key(namespace.unwrap_or_default(), name);
            vec![context.registry.object(&of, &key)?]
        }
        None => {
            let selector = selector(request, &of)?;
            let (all, _) = context.registry.store().list(&Collection::core(plural), namespace);
            all.into_iter().filter(|object| selector.matches(object)).collect()
        }
    };
    let usage = context.node.usage().await.map_err(Failure::unavailable)?;
    let now = clock::rfc3339(clock::now());
    let items = objects.iter().filter_map(|object| {
        let mut item = measured(&usage, plural, object)?;
        item["kind"] = kind.into();
        item["timestamp"] = now.as_str().into();
        Some(item)
    });
    let mut items: Vec<Value> = items.collect();
    let answer = match name {
        Some(name) => {
            let resource = Resource { group: GROUP.into(), ..of };
            items.pop().ok_or_else(|| Failure::not_found(&resource, name))?
        }
        None => json!({
            "kind": format!("{kind}List"),
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "metadata": {},
            "items": items,
        }),
    };
    Ok(answer::json(StatusCode::OK, &answer))
}

/// The figures of an object; none of what does not run.
fn measured(usage: &Usage, plural: &str, object: &Object) -> Option<Value> {
    let (field, figures) = figures(usage, plural, object)?;
    let mut metadata = json!({});
    for field in ["name", "namespace", "labels", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    Some(json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": metadata,
        "window": format!("{}s", usage.window.as_secs()),
        field: figures,
    }))
}

/// The field that has the figures of an object, and what it says; none of what does not run.
fn figures(usage: &Usage, plural: &str, object: &Object) -> Option<(&'static str, Value)> {
    if plural == "nodes" {
        return (object::name(object) == NODE).then(|| ("usage", quantities(&usage.all)));
    }
    let key = (object::namespace(object).to_owned(), object::name(object).to_owned());
    let containers: &BTreeMap<String, Taken> = usage.containers.get(&key)?;
    let of = |(name, taken)| json!({"name": name, "usage": quantities(taken)});
    Some(("containers", containers.iter().map(of).collect()))
}

/// As quantities are written.
fn quantities(taken: &Taken) -> Value {
    json!({
        "cpu": format!("{}n", taken.cpu_per_second.as_nanos()),
        "memory": format!("{}Ki", taken.memory_bytes / 1024),
    })
}
