//! Endpoints: for each Service with a selector an object of its name that lists its pods, for those
//! who look there. The mesh itself finds the pods by the selector.

use std::collections::{BTreeMap, BTreeSet};

use ironmesh_dialects::kinds::Resource;
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
    lacks: &[],
    reconcile: |registry, namespace, name| reconcile(registry, namespace, name).map(|()| None),
};

/// The Services whose Endpoints a change concerns: those of a pod of which they show something else,
/// and that whose Endpoints are gone.
fn watches(registry: &Registry, event: &Event) -> Vec<ObjectName> {
    let (object, old) = (&*event.object, event.old.as_deref());
    let is_gone = event.kind == EventKind::Deleted;
    let namespace = &event.key.namespace;
    if event.key.collection.is("", "endpoints") && is_gone {
        return vec![(namespace.clone(), event.key.name.clone())];
    }
    let is_pod = event.key.collection.is("", "pods");
    if !is_pod || !is_gone && old.is_some_and(|old| shown(old) == shown(object)) {
        return Vec::new();
    }
    let pods: Vec<&Object> = std::iter::once(object).chain(old).collect();
    let services = services_of(registry, &pods).into_iter();
    services.map(|service| (namespace.clone(), service.into())).collect()
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
    if let Some(subsets) = subsets(registry, &service) {
        wanted["subsets"] = subsets;
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
        Ok(new)
    })?;
    Ok(())
}

/// The Services of a namespace that mean a pod, as it is or as it was.
fn services_of(registry: &Registry, pods: &[&Object]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for pod in pods {
        let Some(labels) = object::map(pod, "/metadata/labels") else { continue };
        let services = registry.store().services_for(object::namespace(pod), labels);
        let meant = services.iter().filter(|service| selects(service, pod));
        found.extend(meant.map(|service| object::name(service).to_owned()));
    }
    found
}

/// What of a pod its Services' Endpoints show.
fn shown(pod: &Object) -> (Value, &str, bool, bool) {
    let labels = pod.pointer("/metadata/labels").cloned().unwrap_or_default();
    let gone = object::is_terminating(pod) || object::is_finished_pod(pod);
    (labels, object::text(pod, "/status/podIP"), object::is_ready_pod(pod), gone)
}

fn selector(service: &Object) -> Option<&serde_json::Map<String, Value>> {
    let external = object::text(service, "/spec/type") == "ExternalName";
    object::map(service, "/spec/selector").filter(|pairs| !pairs.is_empty() && !external)
}

fn selects(service: &Object, pod: &Object) -> bool {
    let label = |(key, value): (&String, &Value)| {
        value.as_str().is_some_and(|value| object::label(pod, key) == Some(value))
    };
    selector(service).is_some_and(|pairs| pairs.iter().all(label))
}

/// The subsets: pods that serve the same ports stand together.
fn subsets(registry: &Registry, service: &Object) -> Option<Value> {
    let pods = registry.store().pods_with(object::namespace(service), selector(service)?);
    let all = service.pointer("/spec/publishNotReadyAddresses") == Some(&Value::Bool(true));
    let mut by_ports: BTreeMap<String, (Value, [Vec<Value>; 2])> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| selects(service, pod)) {
        let ip = object::text(pod, "/status/podIP");
        let gone = object::is_finished_pod(pod) || object::is_terminating(pod) && !all;
        if ip.is_empty() || gone {
            continue;
        }
        let ports = ports(service, pod);
        let address = json!({
            "ip": ip,
            "nodeName": object::text(pod, "/spec/nodeName"),
            "targetRef": {
                "kind": "Pod",
                "name": object::name(pod),
                "namespace": object::namespace(pod),
                "uid": object::uid(pod),
            },
        });
        let ready = all || object::is_ready_pod(pod);
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
    (!by_ports.is_empty()).then(|| by_ports.into_values().map(subset).collect())
}

/// The ports of a Service at a pod; one by a name that the pod does not have is left out.
fn ports(service: &Object, pod: &Object) -> Value {
    let port = |port: &Value| {
        let mut shown = json!({
            "port": object::target_port(port, pod)?,
            "protocol": port.get("protocol").cloned().unwrap_or_else(|| "TCP".into()),
        });
        for field in ["name", "appProtocol"] {
            if let Some(value) = port.get(field) {
                shown[field] = value.clone();
            }
        }
        Some(shown)
    };
    object::list(service, "/spec/ports").iter().filter_map(port).collect()
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
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
