//! Ingresses: where those of the mesh's class are served, which is where its gateway is.

use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use super::{Controller, ObjectName, none};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{Part, Registry};
use crate::store::{Collection, Event};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("networking.k8s.io", "ingresses"),
    owner: None,
    watches,
    patience: none,
    lacks: &[],
    reconcile: |registry, namespace, name| reconcile(registry, namespace, name).map(|()| None),
};

/// All Ingresses, if the gateway's Service changed.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    let is_gateway = event.key.collection.is("", "services")
        && *event.key.namespace == *GATEWAY.0
        && *event.key.name == *GATEWAY.1;
    if !is_gateway {
        return Vec::new();
    }
    let all = registry.store().list(&Collection::from(&resource()), None).0;
    let name = |ingress: &Object| (object::namespace(ingress).into(), object::name(ingress).into());
    all.iter().map(|ingress| name(ingress)).collect()
}

/// Writes into the status of one Ingress where it is served.
fn reconcile(registry: &Registry, namespace: &str, name: &str) -> Result<(), Failure> {
    let key = Collection::from(&resource()).key(namespace, name);
    let Some(ingress) = registry.store().object(&key) else { return Ok(()) };
    if object::is_terminating(&ingress) {
        return Ok(());
    }
    let gateway = registry.store().object(&Collection::core("services").key(GATEWAY.0, GATEWAY.1));
    let at = |object: &Object| {
        object.pointer("/status/loadBalancer/ingress").cloned().unwrap_or(Value::Null)
    };
    // One of another class is somebody else's, with its status.
    if !is_ours(&ingress) {
        return Ok(());
    }
    let places = gateway.as_deref().map_or(Value::Null, at);
    // The ports are those of the Service.
    let places = places
        .as_array()
        .into_iter()
        .flatten()
        .map(|place| json!({"ip": place["ip"], "hostname": place["hostname"]}));
    let places = places.map(|mut place| {
        if let Some(fields) = place.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        place
    });
    let places: Vec<Value> = places.collect();
    let balancer = if places.is_empty() { json!({}) } else { json!({"ingress": places}) };
    if ingress.pointer("/status/loadBalancer") == Some(&balancer) {
        return Ok(());
    }
    registry.update(&resource(), &key, Part::Status, |old| {
        let mut changed = old.clone();
        changed["status"]["loadBalancer"].clone_from(&balancer);
        Ok(changed)
    })?;
    Ok(())
}

/// Whether the mesh's gateway serves it: the annotation, which is older, wins.
fn is_ours(ingress: &Object) -> bool {
    let annotated = ingress.pointer("/metadata/annotations/kubernetes.io~1ingress.class");
    let class = annotated.or_else(|| ingress.pointer("/spec/ingressClassName"));
    class.and_then(Value::as_str) == Some(CLASS)
}

fn resource() -> Resource {
    Resource::of("networking.k8s.io/v1", "Ingress")
}

/// Namespace and name of the gateway's Service.
const GATEWAY: (&str, &str) = ("istio-system", "istio-ingressgateway");

/// The class that the mesh serves.
const CLASS: &str = "istio";
