//! Endpoints: for each Service with a selector an object of its name that lists its pods, for those
//! who look there. The mesh itself finds the pods by the selector.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::{Pod, Service, ServicePort, ServiceType};
use ironmesh_dialects::schema::{Entries, Fields};
use serde_json::{Value, json};

use super::{Controller, ObjectName};
use crate::failure::Failure;
use crate::object::{self, Object, entry};
use crate::registry::{DeleteOptions, Part, Registry};
use crate::store::{Collection, Event, EventKind, Key};

pub(super) const CONTROLLER: Controller = Controller {
    of: ("", "services"),
    owner: None,
    watches,
    patience,
    lacks: &[],
    reconcile: |registry, namespace, name| reconcile(registry, namespace, name).map(|()| None),
};

/// The Services whose Endpoints a change concerns: those of a pod of which they show something else,
/// and that whose Endpoints are gone.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    let is_gone = event.kind == EventKind::Deleted;
    let namespace = &event.key.namespace;
    if event.key.collection.is("", "endpoints") && is_gone {
        return vec![(namespace.clone(), event.key.name.clone())];
    }
    services_shown(registry, event)
}

/// The Services that select a pod of which a change alters what they show.
pub(super) fn services_shown(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    if !event.key.collection.is("", "pods") {
        return Vec::new();
    }
    let (namespace, is_gone) = (&event.key.namespace, event.kind == EventKind::Deleted);
    let (object, old) = (event.object(), event.old());
    let (object, old) = (&*object, old.as_deref());
    if !is_gone && old.is_some_and(|old| shown(old) == shown(object)) {
        return Vec::new();
    }
    let pods: Vec<&Object> = std::iter::once(object).chain(old).collect();
    let services = services_of(registry, &pods).into_iter();
    services.map(|service| (namespace.clone(), service.into())).collect()
}

/// Changes of many pods are shown together, later the more pods there are: the object is made anew and
/// written as a whole each time.
pub(super) fn patience(registry: &Registry, (namespace, name): &ObjectName) -> Duration {
    let service = registry.store().object(&Collection::core("services").key(namespace, name));
    let selected = service.as_deref().and_then(selector);
    let pods = selected.map_or(0, |pairs| registry.store().count_pods_with(namespace, pairs));
    if pods <= PODS_SHOWN_AT_ONCE { Duration::ZERO } else { PATIENCE_PER_POD * pods as u32 }
}

/// Reconciles the Endpoints of one Service.
fn reconcile(registry: &Registry, namespace: &str, name: &str) -> Result<(), Failure> {
    let store = registry.store();
    let key = Collection::core("endpoints").key(namespace, name);
    let there = store.object(&key);
    let service = store.object(&Collection::core("services").key(namespace, name));
    let service = service.filter(|service| !object::is_terminating(service));
    let Some(service) = service else {
        return there.map_or(Ok(()), |_| delete(registry, &key));
    };
    if selector(&service).is_none() {
        return there.map_or(Ok(()), |there| give_up(registry, &key, &there));
    }
    if registry.is_ending(namespace) {
        return Ok(());
    }
    let mut wanted = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}},
    });
    let (subsets, is_cut) = subsets(registry, &service);
    if let Some(subsets) = subsets {
        wanted["subsets"] = subsets;
    }
    if is_cut {
        wanted["metadata"]["annotations"] = json!({OVER_CAPACITY: "truncated"});
    }
    if there.is_none() {
        return registry.create(&resource(), namespace, wanted).map(drop);
    }
    registry.update(&resource(), &key, Part::Main, |old| {
        let mut new = old.clone();
        entry(object::metadata_mut(&mut new), "labels")[MANAGED_BY] = MANAGER.into();
        match (wanted.get("subsets"), new.as_object_mut()) {
            (Some(subsets), _) => new["subsets"] = subsets.clone(),
            (None, Some(fields)) => drop(fields.shift_remove("subsets")),
            (None, None) => {}
        }
        let metadata = object::metadata_mut(&mut new);
        if is_cut {
            entry(metadata, "annotations")[OVER_CAPACITY] = "truncated".into();
        } else if let Some(annotations) =
            metadata.get_mut("annotations").and_then(Value::as_object_mut)
        {
            annotations.shift_remove(OVER_CAPACITY);
        }
        Ok(new)
    })?;
    Ok(())
}

/// The Services of a namespace that mean a pod, as it is or as it was.
fn services_of(registry: &Registry, pods: &[&Object]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pod in pods {
        let labels = Pod::of(pod).metadata().labels();
        let services = registry.store().services_for(object::namespace(pod), labels);
        let meant = services.iter().filter(|service| selects(service, pod));
        found.extend(meant.map(|service| object::name(service).to_owned()));
    }
    found
}

/// What of a pod its Services' Endpoints and EndpointSlices show.
fn shown(pod: &Object) -> (Option<&Value>, &str, bool, bool, bool) {
    let (labels, read) = (pod.pointer("/metadata/labels"), Pod::of(pod));
    let (ends, has_ended) = (object::is_terminating(pod), read.is_finished());
    (labels, read.status().pod_ip(), read.status().is_ready(), ends, has_ended)
}

pub(super) fn selector(service: &Object) -> Option<Entries<'_, String>> {
    let spec = Service::of(service).spec();
    let external = spec.of() == ServiceType::ExternalName;
    Some(spec.selector()).filter(|pairs| !pairs.is_empty() && !external)
}

pub(super) fn selects(service: &Object, pod: &Object) -> bool {
    let labels = Pod::of(pod).metadata().labels();
    let has = |(key, value)| labels.get(key) == Some(value);
    selector(service).is_some_and(|pairs| pairs.iter().all(has))
}

/// The subsets: pods that serve the same ports stand together. Ready ones go first where there are
/// more than an object may have; whether that is so.
fn subsets(registry: &Registry, service: &Object) -> (Option<Value>, bool) {
    let Some(pairs) = selector(service) else { return (None, false) };
    let mut pods = registry.store().pods_with(object::namespace(service), pairs);
    let all = Service::of(service).spec().publish_not_ready_addresses();
    pods.retain(|pod| {
        let read = Pod::of(pod);
        let gone = read.is_finished() || object::is_terminating(pod) && !all;
        !gone && !read.status().pod_ip().is_empty() && selects(service, pod)
    });
    let is_cut = pods.len() > ADDRESSES_MAX;
    if is_cut {
        pods.sort_by_key(|pod| !Pod::of(pod).is_ready());
        pods.truncate(ADDRESSES_MAX);
    }
    let mut by_ports: BTreeMap<String, (Value, [Vec<Value>; 2])> = BTreeMap::new();
    for pod in &pods {
        let read = Pod::of(pod);
        let ip = read.status().pod_ip();
        let ports = ports(Service::of(service), read);
        let address = json!({
            "ip": ip,
            "nodeName": read.spec().node_name(),
            "targetRef": {
                "kind": "Pod",
                "name": object::name(pod),
                "namespace": object::namespace(pod),
                "uid": object::uid(pod),
            },
        });
        let ready = all || read.is_ready();
        let subset =
            by_ports.entry(ports.to_string()).or_insert_with(|| (ports, Default::default()));
        subset.1[usize::from(!ready)].push(address);
    }
    let subset = |(ports, [ready, unready]): (Value, [Vec<Value>; 2])| {
        let mut subset = json!({});
        for (name, addresses) in [("addresses", ready), ("notReadyAddresses", unready)] {
            if !addresses.is_empty() {
                subset[name] = addresses.into();
            }
        }
        if ports != json!([]) {
            subset["ports"] = ports;
        }
        subset
    };
    let is_any = !by_ports.is_empty();
    (is_any.then(|| by_ports.into_values().map(subset).collect()), is_cut)
}

/// The ports of a Service at a pod; one by a name that the pod does not have is left out.
pub(super) fn ports(service: Fields<'_, Service>, pod: Fields<'_, Pod>) -> Value {
    let port = |port: Fields<'_, ServicePort>| {
        let mut shown = json!({"port": port.target(pod)?, "protocol": port.protocol().word()});
        if !port.name().is_empty() {
            shown["name"] = port.name().into();
        }
        if let Some(protocol) = port.app_protocol() {
            shown["appProtocol"] = protocol.into();
        }
        Some(shown)
    };
    service.spec().ports().filter_map(port).collect()
}

/// Leaves the object to the users of a Service that selects no pods any more, with what it lists.
fn give_up(registry: &Registry, key: &Key, there: &Object) -> Result<(), Failure> {
    if object::label(there, MANAGED_BY).is_none() {
        return Ok(());
    }
    let given_up = registry.update(&resource(), key, Part::Main, |old| {
        let mut new = old.clone();
        let labels = entry(object::metadata_mut(&mut new), "labels");
        labels.as_object_mut().map(|labels| labels.shift_remove(MANAGED_BY));
        Ok(new)
    });
    given_up.map(drop)
}

fn delete(registry: &Registry, key: &Key) -> Result<(), Failure> {
    registry.delete(&resource(), key, &DeleteOptions::default()).map(drop)
}

fn resource() -> Resource {
    Resource::of("v1", "Endpoints")
}

/// Label that tells these objects from those that users wrote, as in Kubernetes 1.33 and later.
pub(super) const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

/// Says that there are more addresses, as in Kubernetes.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses that an object has at most, as in Kubernetes.
const ADDRESSES_MAX: usize = 1_000;

/// Pods of a Service whose changes are shown at once.
const PODS_SHOWN_AT_ONCE: usize = 100;
/// More than it takes to look at a pod, by far, so that large Services cost a small share of a CPU.
const PATIENCE_PER_POD: Duration = Duration::from_millis(1);
