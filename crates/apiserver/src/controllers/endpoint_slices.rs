//! EndpointSlices: for each Service with a selector slices that list its pods, and for one without those
//! that list what its user's Endpoints do, as Kubernetes' two controllers make them. They are for those
//! who look there (Prometheus, ingress controllers, `kubectl`): the mesh itself finds the pods by the selector.
//!
//! A pod's change rewrites the slice that has it and no other. Slices that users made are left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Pod, Service};
use ironmesh_dialects::kubernetes::{
    MIRRORING_CONTROLLER, SERVICE_NAME, SLICE_CONTROLLER, SLICE_MANAGED_BY,
};
use serde_json::{Map, Value, json};

use super::endpoints::{self, MANAGED_BY, ports, selector, selects};
use super::{Controller, ObjectName};
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::store::{Collection, Event, EventKind, Key};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("", "services"),
    owner: None,
    watches,
    patience: endpoints::patience,
    lacks: &[],
    reconcile: |registry, namespace, name| reconcile(registry, namespace, name).map(|()| None),
};

/// The Services whose slices a change concerns: those of a pod of which they show something else, that
/// whose Endpoints a user changed, and that of which a slice is gone.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    let namespace = &event.key.namespace;
    if event.key.collection.is("", "endpoints") {
        let object = event.object();
        let is_mirrored = object::label(&object, MANAGED_BY).is_none();
        return if is_mirrored {
            vec![(namespace.clone(), event.key.name.clone())]
        } else {
            Vec::new()
        };
    }
    if event.key.collection.is("discovery.k8s.io", "endpointslices")
        && event.kind == EventKind::Deleted
    {
        let object = event.object();
        let service = object::label(&object, SERVICE_NAME).filter(|_| is_ours(&object));
        return service.map(|service| (namespace.clone(), service.into())).into_iter().collect();
    }
    endpoints::services_shown(registry, event)
}

/// Endpoints that serve the same ports, by address.
#[derive(Debug, Default)]
struct Group {
    ports: Value,
    endpoints: BTreeMap<String, Value>,
}

/// What the slices of a Service are to be.
struct Wanted {
    manager: &'static str,
    owner: Arc<Object>,
    labels: Map<String, Value>,
    /// By their ports as text.
    groups: BTreeMap<String, Group>,
}

/// Reconciles the slices of one Service. Those of a Service that is gone go with their owner.
fn reconcile(registry: &Registry, namespace: &str, name: &str) -> Result<(), Failure> {
    let store = registry.store();
    let service = store.object(&Collection::core("services").key(namespace, name));
    let service = service.filter(|service| !object::is_terminating(service));
    let Some(service) = service.filter(|_| !registry.is_ending(namespace)) else { return Ok(()) };
    let listed = store.object(&Collection::core("endpoints").key(namespace, name));
    let mut there = slices_of(registry, object::uid(&service));
    if let Some(listed) = &listed {
        there.extend(slices_of(registry, object::uid(listed)));
    }
    let wanted = match (selector(&service), listed.filter(|listed| is_to_mirror(listed))) {
        (Some(_), _) => Some(of_pods(registry, &service)),
        (None, Some(listed)) => Some(of_endpoints(&service, listed)),
        (None, None) => None,
    };
    let manager = wanted.as_ref().map(|wanted| wanted.manager);
    let (there, others): (Vec<_>, Vec<_>) =
        there.into_iter().partition(|(_, slice)| object::label(slice, SLICE_MANAGED_BY) == manager);
    for (key, _) in others {
        delete(registry, &key)?;
    }
    wanted.map_or(Ok(()), |wanted| write(registry, namespace, name, wanted, there))
}

/// The slices of ours that an object of this uid owns.
fn slices_of(registry: &Registry, uid: &str) -> Vec<(Key, Arc<Object>)> {
    let mut owned = registry.store().owned_by(uid);
    owned.retain(|(key, object)| {
        key.collection.is("discovery.k8s.io", "endpointslices")
            && is_ours(object)
            && !object::is_terminating(object)
    });
    owned
}

fn is_ours(slice: &Object) -> bool {
    let manager = object::label(slice, SLICE_MANAGED_BY);
    manager.is_some_and(|manager| [SLICE_CONTROLLER, MIRRORING_CONTROLLER].contains(&manager))
}

/// Whether Endpoints are a user's, who does not say that they are to be mirrored nowhere.
fn is_to_mirror(listed: &Object) -> bool {
    object::label(listed, MANAGED_BY).is_none()
        && object::label(listed, SKIP_MIRROR) != Some("true")
        && !object::is_terminating(listed)
}

/// The slices of a Service that selects pods.
fn of_pods(registry: &Registry, service: &Arc<Object>) -> Wanted {
    let read = Service::of(service).spec();
    let all = read.publish_not_ready_addresses();
    let pods = selector(service)
        .map(|pairs| registry.store().pods_with(object::namespace(service), pairs))
        .unwrap_or_default();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for object in pods.iter().filter(|pod| selects(service, pod)) {
        let pod = Pod::of(object);
        let ip = pod.status().pod_ip();
        if pod.is_finished() || ip.is_empty() {
            continue;
        }
        let (serving, terminating) = (pod.status().is_ready(), object::is_terminating(object));
        let mut endpoint = json!({
            "addresses": [ip],
            "conditions": {
                "ready": all || serving && !terminating,
                "serving": serving,
                "terminating": terminating,
            },
            "nodeName": pod.spec().node_name(),
            "targetRef": {
                "kind": "Pod",
                "name": object::name(object),
                "namespace": object::namespace(object),
                "uid": object::uid(object),
            },
        });
        let hostname = object::text(object, "/spec/hostname");
        if !hostname.is_empty() && object::text(object, "/spec/subdomain") == object::name(service)
        {
            endpoint["hostname"] = hostname.into();
        }
        let ports = ports(Service::of(service), pod);
        let ports = object::list(&ports, "").iter().map(port_of_slice).collect();
        put(&mut groups, ports, ip, endpoint);
    }
    let mut labels = labels_of(service);
    if read.is_headless() {
        labels.insert(HEADLESS.to_owned(), "".into());
    }
    Wanted { manager: SLICE_CONTROLLER, owner: service.clone(), labels, groups }
}

/// The slices that repeat a user's Endpoints.
fn of_endpoints(service: &Object, listed: Arc<Object>) -> Wanted {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for subset in object::list(&listed, "/subsets") {
        let ports: Value = object::list(subset, "/ports").iter().map(port_of_slice).collect();
        for (list, ready) in [("/addresses", true), ("/notReadyAddresses", false)] {
            for address in object::list(subset, list).iter().take(MIRRORED_MAX) {
                let ip = object::text(address, "/ip");
                let mut endpoint = json!({"addresses": [ip], "conditions": {"ready": ready}});
                for field in ["hostname", "nodeName", "targetRef"] {
                    if let Some(value) = address.get(field).filter(|value| !value.is_null()) {
                        endpoint[field] = value.clone();
                    }
                }
                put(&mut groups, ports.clone(), ip, endpoint);
            }
        }
    }
    let mut labels = labels_of(&listed);
    labels.insert(SERVICE_NAME.to_owned(), object::name(service).into());
    Wanted { manager: MIRRORING_CONTROLLER, owner: listed, labels, groups }
}

/// A port of Endpoints as slices have it: with its name and protocol, also where those are the usual.
fn port_of_slice(port: &Value) -> Value {
    let mut port = port.clone();
    object::set_default(&mut port, "protocol", "TCP");
    object::set_default(&mut port, "name", "");
    port
}

fn put(groups: &mut BTreeMap<String, Group>, ports: Value, ip: &str, endpoint: Value) {
    let group = groups.entry(ports.to_string()).or_default();
    group.ports = ports;
    group.endpoints.insert(ip.to_owned(), endpoint);
}

/// The labels of an object's slices: its own, and which Service they are of.
fn labels_of(object: &Object) -> Map<String, Value> {
    let own = object.pointer("/metadata/labels").and_then(Value::as_object);
    let mut labels = own.cloned().unwrap_or_default();
    labels.retain(|key, _| ![HEADLESS, SLICE_MANAGED_BY].contains(&key.as_str()));
    labels.insert(SERVICE_NAME.to_owned(), object::name(object).into());
    labels
}

/// Makes the slices what is wanted: an endpoint stays in its slice, new ones go where there is room, and
/// only slices that differ are written. A Service without any endpoint has one empty slice.
fn write(
    registry: &Registry,
    namespace: &str,
    name: &str,
    mut wanted: Wanted,
    there: Vec<(Key, Arc<Object>)>,
) -> Result<(), Failure> {
    let mut kept: Vec<(Key, String, Vec<Value>)> = Vec::new();
    for (key, slice) in there {
        let ports = slice.get("ports").filter(|ports| !ports.is_null()).unwrap_or(&NO_PORTS);
        let ports = ports.to_string();
        let of = object::list(&slice, "/endpoints").iter();
        let stays: Vec<Value> = match wanted.groups.get_mut(&ports) {
            Some(group) => {
                of.filter_map(|e| group.endpoints.remove(object::text(e, "/addresses/0"))).collect()
            }
            None => Vec::new(),
        };
        kept.push((key, ports, stays));
    }
    // The fullest first, so that few slices have room.
    kept.sort_by_key(|(_, _, endpoints)| std::cmp::Reverse(endpoints.len()));
    for (_, ports, endpoints) in &mut kept {
        let Some(group) = wanted.groups.get_mut(ports) else { continue };
        while endpoints.len() < ENDPOINTS_MAX
            && let Some((_, endpoint)) = group.endpoints.pop_first()
        {
            endpoints.push(endpoint);
        }
    }
    let has_any = kept.iter().any(|(_, _, endpoints)| !endpoints.is_empty())
        || wanted.groups.values().any(|group| !group.endpoints.is_empty());
    let mut placeholder = !has_any;
    for (key, ports, endpoints) in kept {
        if endpoints.is_empty() && !std::mem::take(&mut placeholder) {
            delete(registry, &key)?;
            continue;
        }
        let ports = wanted.groups.get(&ports).map_or(&NO_PORTS, |group| &group.ports);
        update(registry, &key, &wanted, ports, endpoints)?;
    }
    if placeholder {
        create(registry, namespace, name, &wanted, &NO_PORTS, Vec::new())?;
    }
    for group in wanted.groups.values() {
        let new: Vec<&Value> = group.endpoints.values().collect();
        for endpoints in new.chunks(ENDPOINTS_MAX) {
            let endpoints = endpoints.iter().map(|endpoint| (*endpoint).clone()).collect();
            create(registry, namespace, name, &wanted, &group.ports, endpoints)?;
        }
    }
    Ok(())
}

fn create(
    registry: &Registry,
    namespace: &str,
    name: &str,
    wanted: &Wanted,
    ports: &Value,
    endpoints: Vec<Value>,
) -> Result<(), Failure> {
    let first = endpoints.first().map_or("", |first| object::text(first, "/addresses/0"));
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": format!("{name}-"),
            "namespace": namespace,
            "ownerReferences": [object::owner_reference(&wanted.owner)],
        },
        "addressType": if first.contains(':') { "IPv6" } else { "IPv4" },
    });
    fill(&mut slice, wanted, ports, endpoints);
    registry.create(&resource(), namespace, slice).map(drop)
}

fn update(
    registry: &Registry,
    key: &Key,
    wanted: &Wanted,
    ports: &Value,
    endpoints: Vec<Value>,
) -> Result<(), Failure> {
    let updated = registry.update(&resource(), key, Part::Main, |old| {
        let mut new = old.clone();
        fill(&mut new, wanted, ports, endpoints.clone());
        Ok(new)
    });
    updated.map(drop)
}

fn fill(slice: &mut Object, wanted: &Wanted, ports: &Value, endpoints: Vec<Value>) {
    let mut labels = wanted.labels.clone();
    labels.insert(SLICE_MANAGED_BY.to_owned(), wanted.manager.into());
    object::metadata_mut(slice)["labels"] = labels.into();
    slice["endpoints"] = endpoints.into();
    slice["ports"] = ports.clone();
}

fn delete(registry: &Registry, key: &Key) -> Result<(), Failure> {
    registry.delete(&resource(), key, &DeleteOptions::default()).map(drop)
}

fn resource() -> Resource {
    Resource::of("discovery.k8s.io/v1", "EndpointSlice")
}

const HEADLESS: &str = "service.kubernetes.io/headless";
const SKIP_MIRROR: &str = "endpointslice.kubernetes.io/skip-mirror";
static NO_PORTS: Value = Value::Array(Vec::new());
/// Endpoints that a slice has at most, as in Kubernetes (`--max-endpoints-per-slice`).
const ENDPOINTS_MAX: usize = 100;
/// Addresses of a subset that are repeated (`--mirroring-max-endpoints-per-subset`).
const MIRRORED_MAX: usize = 1_000;
