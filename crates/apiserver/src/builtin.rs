//! The objects that every store has from its start: namespaces, the node, and what the mesh adds.

use std::net::{Ipv4Addr, SocketAddr};

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::node_labels;
use serde_json::{Value, json};

use crate::clock;
use crate::failure::Failure;
use crate::object::{self, Object};
use crate::registry::defaults::NODE;
use crate::registry::{Part, Registry};
use crate::store::Collection;

/// Creates those that are missing, also such as earlier builds let their users delete; all others stay as
/// their users left them. What cannot be made is logged, the mesh goes on without it, and the next start
/// tries again.
pub(crate) fn ensure(registry: &Registry, added: Vec<Object>) {
    let namespaces = ["default", "kube-node-lease", "kube-public", "kube-system"].map(namespace);
    for object in namespaces.into_iter().chain(added).chain([node(), lease()]) {
        make(registry, object);
    }
    if let Err(failure) = note_machine(registry) {
        tracing::error!(%failure, "the node does not say what the machine is now");
    }
}

/// Writes down what the machine is, which may be another one, or another kernel, than at the last start,
/// and that it is there from now on.
fn note_machine(registry: &Registry) -> Result<(), Failure> {
    let key = Collection::core("nodes").key("", NODE);
    let status = node_status();
    registry.update(&Resource::of("v1", "Node"), &key, Part::Status, |old| {
        let mut new = old.clone();
        for (field, value) in status.as_object().into_iter().flatten() {
            object::entry(&mut new, "status")[field] = value.clone();
        }
        Ok(new)
    })?;
    let lease = lease();
    let resource = Resource::of("coordination.k8s.io/v1", "Lease");
    let key = Collection::from(&resource).key(object::namespace(&lease), NODE);
    registry.update(&resource, &key, Part::Main, |old| {
        let mut new = old.clone();
        new["spec"] = lease["spec"].clone();
        Ok(new)
    })?;
    Ok(())
}

/// The Service by which pods reach the API, at the first address of the Services, and where that leads.
pub(crate) fn api_service(address: Ipv4Addr, door: SocketAddr) -> [Object; 2] {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let metadata = json!({"name": "kubernetes", "namespace": "default", "labels": labels});
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {
                "clusterIP": address.to_string(),
                "ports": [{"name": "https", "port": 443, "targetPort": door.port()}],
            },
        }),
        json!({
            "apiVersion": "v1", "kind": "Endpoints", "metadata": metadata,
            "subsets": [{
                "addresses": [{"ip": door.ip().to_string()}],
                "ports": [{"name": "https", "port": door.port()}],
            }],
        }),
    ]
}

fn make(registry: &Registry, object: Object) {
    let resource =
        Resource::of(object::text(&object, "/apiVersion"), object::text(&object, "/kind"));
    let namespace = object::namespace(&object).to_owned();
    let name = object::name(&object).to_owned();
    let status = object.get("status").cloned();
    let key = Collection::from(&resource).key(&namespace, &name);
    if registry.store().object(&key).is_some() {
        return;
    }
    let made = registry.create(&resource, &namespace, object).map(drop);
    let noted = |status: Value| {
        registry.update(&resource, &key, Part::Status, |old| {
            let mut new = old.clone();
            new["status"] = status.clone();
            Ok(new)
        })
    };
    let made = made.and_then(|()| status.map_or(Ok(()), |status| noted(status).map(drop)));
    if let Err(failure) = &made {
        tracing::error!(kind = %resource.kind, name, %failure, "built-in object not made");
    }
}

fn namespace(name: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// The one node that all pods run on.
fn node() -> Object {
    let labels: serde_json::Map<_, Value> =
        node_labels().map(|(label, value)| (label.to_owned(), value.into())).into_iter().collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": labels,
        },
        "spec": {},
    })
}

/// By which the node says that it is there. It names no duration: there are pods as long as there is this
/// API, so that nobody needs to wait for a sign of the node.
fn lease() -> Object {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": NODE, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": NODE, "renewTime": clock::rfc3339_micro(clock::now())},
    })
}

fn node_status() -> Value {
    let now = clock::rfc3339(clock::now());
    let file = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let version = env!("CARGO_PKG_VERSION");
    let capacity = json!({
        "cpu": std::thread::available_parallelism().map_or(1, usize::from).to_string(),
        "memory": memory(&file("/proc/meminfo")),
    });
    json!({
        "addresses": [
            {"type": "InternalIP", "address": "10.77.0.1"},
            {"type": "Hostname", "address": NODE},
        ],
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [{
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "the mesh runs pods",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "kubeletVersion": format!("ironmesh-{version}"),
            "containerRuntimeVersion": format!("ironmesh://{version}"),
            "kernelVersion": file("/proc/sys/kernel/osrelease").trim(),
            "osImage": system_name(&file("/etc/os-release")),
            "operatingSystem": std::env::consts::OS,
            "architecture": std::env::consts::ARCH,
        },
    })
}

/// The memory of the machine, as quantities are written; of `/proc/meminfo`.
fn memory(of: &str) -> String {
    let total = of.lines().find_map(|line| line.strip_prefix("MemTotal:")?.strip_suffix("kB"));
    format!("{}Ki", total.map_or("0", str::trim))
}

/// What the system calls itself; of `/etc/os-release`.
fn system_name(of: &str) -> String {
    let name = of.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.unwrap_or("Linux").trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use ironmesh_model::limits::ControlLimits;

    use super::*;
    use crate::store::Store;

    const GATEWAY: &str = "gateway";

    fn gateway_service() -> Object {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": GATEWAY, "namespace": "kube-system"},
            "spec": {"ports": [{"port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}},
        })
    }

    #[test]
    fn the_node_says_what_the_machine_is() {
        assert_eq!(memory("MemTotal:   16 kB\nMemFree: 1 kB\n"), "16Ki");
        assert_eq!(memory(""), "0Ki");
        assert_eq!(system_name("ID=x\nPRETTY_NAME=\"Some 12 (x)\"\n"), "Some 12 (x)");
        assert_eq!(system_name(""), "Linux");
    }

    #[test]
    fn what_is_missing_is_made_at_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let limits = ControlLimits::default();
        let store = Store::open(directory.path(), &limits).unwrap();
        // It has two addresses for Services, both taken.
        let registry = Registry::new(store, "10.96.0.0/30".parse().unwrap(), limits);
        registry.create(&Resource::of("v1", "Namespace"), "", namespace("shop")).unwrap();
        let services = Collection::core("services");
        for name in ["a", "b"] {
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"ports": [{"port": 80}]},
            });
            registry.create(&Resource::of("v1", "Service"), "shop", service).unwrap();
        }
        let gateway = services.key("kube-system", GATEWAY);
        ensure(&registry, vec![gateway_service()]);
        assert!(registry.store().object(&gateway).is_none());
        registry.store().remove(&services.key("shop", "a")).unwrap();
        ensure(&registry, vec![gateway_service()]);
        let made = registry.object(&Resource::of("v1", "Service"), &gateway).unwrap();
        assert_eq!(object::text(&made, "/status/loadBalancer/ingress/0/ip"), "127.0.0.1");
        registry.store().remove(&gateway).unwrap();
        ensure(&registry, vec![gateway_service()]);
        assert!(registry.store().object(&gateway).is_some());
    }
}
