//! The objects that every mesh has from its start: namespaces, the node, the ingress gateway.

use serde_json::{Value, json};

use crate::api::kinds::Resource;
use crate::failure::Failure;
use crate::inject;
use crate::object::{self, Object};
use crate::registry::defaults::NODE;
use crate::registry::{Part, Registry};
use crate::store::Collection;

/// Creates them in a new store. In one that had them they stay as their users left them, also those
/// that were deleted; what cannot be made is logged, the mesh goes on without it, and the next start
/// tries again.
pub(crate) fn ensure(registry: &Registry) {
    // The node is made last: where it is, all others were made.
    if registry.store().object(&Collection::core("nodes").key("", NODE)).is_some() {
        return;
    }
    let namespaces = ["default", "kube-system", "istio-system"].map(namespace);
    let gateway = [gateway_account(), gateway_service(), gateway_deployment()];
    let mut all_made = true;
    for object in namespaces.into_iter().chain(gateway) {
        all_made &= make(registry, object);
    }
    if let Err(failure) = publish_gateway(registry) {
        tracing::error!(%failure, "address of the gateway not noted");
        all_made = false;
    }
    if all_made {
        make(registry, node());
    }
}

/// Returns whether an object is there afterwards.
fn make(registry: &Registry, object: Object) -> bool {
    let resource =
        Resource::of(object::text(&object, "/apiVersion"), object::text(&object, "/kind"));
    let namespace = object::namespace(&object).to_owned();
    let name = object::name(&object).to_owned();
    match registry.create(&resource, &namespace, object) {
        Err(failure) if failure.code != 409 => {
            tracing::error!(kind = %resource.kind, name, %failure, "built-in object not made");
            false
        }
        _ => true,
    }
}

fn namespace(name: &str) -> Object {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// The one node that all pods run on.
fn node() -> Object {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {
                "kubernetes.io/hostname": NODE,
                "kubernetes.io/os": std::env::consts::OS,
                "node-role.kubernetes.io/control-plane": "",
            },
        },
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "10.77.0.1"},
                {"type": "Hostname", "address": NODE},
            ],
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": {
                "kubeletVersion": format!("ironmesh-{}", env!("CARGO_PKG_VERSION")),
                "operatingSystem": std::env::consts::OS,
                "architecture": std::env::consts::ARCH,
            },
        },
    })
}

fn gateway_metadata() -> Value {
    json!({"name": GATEWAY, "namespace": "istio-system", "labels": gateway_labels()})
}

fn gateway_labels() -> Value {
    json!({"app": GATEWAY, "istio": "ingressgateway"})
}

fn gateway_account() -> Object {
    let mut metadata = gateway_metadata();
    metadata["name"] = format!("{GATEWAY}-service-account").into();
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}

fn gateway_service() -> Object {
    let port = |name: &str, port: u16, target: u16| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": gateway_metadata(),
        "spec": {
            "type": "LoadBalancer",
            "selector": gateway_labels(),
            "ports": [
                port("status-port", 15021, 15021),
                port("http2", 80, 80),
                port("https", 443, 443),
            ],
        },
    })
}

fn gateway_deployment() -> Object {
    let probe = json!({
        "httpGet": {"path": "/healthz/ready", "port": 15021},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "failureThreshold": 4,
    });
    let container = json!({
        "name": inject::SIDECAR,
        "image": inject::image(),
        "args": ["proxy", "router"],
        "ports": [
            {"containerPort": 15021, "protocol": "TCP"},
            {"containerPort": 80, "protocol": "TCP"},
            {"containerPort": 443, "protocol": "TCP"},
            {"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"},
        ],
        "readinessProbe": probe,
    });
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": gateway_metadata(),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": gateway_labels()},
            "template": {
                "metadata": {
                    "labels": gateway_labels(),
                    "annotations": {"sidecar.istio.io/inject": "false"},
                },
                "spec": {
                    "serviceAccountName": format!("{GATEWAY}-service-account"),
                    "containers": [container],
                },
            },
        },
    })
}

/// The gateway is published on the host's loopback, so that is its outside address.
fn publish_gateway(registry: &Registry) -> Result<(), Failure> {
    let key = Collection::core("services").key("istio-system", GATEWAY);
    registry.update(&Resource::of("v1", "Service"), &key, Part::Status, |old| {
        let mut new = old.clone();
        new["status"] = json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1"}]}});
        Ok(new)
    })?;
    Ok(())
}

const GATEWAY: &str = "istio-ingressgateway";

#[cfg(test)]
mod tests {
    use ironmesh_model::limits::ControlLimits;

    use super::*;
    use crate::store::Store;

    #[test]
    fn what_was_not_made_is_made_at_the_next_start_and_what_was_deleted_is_not() {
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
        let gateway = services.key("istio-system", GATEWAY);
        ensure(&registry);
        assert!(registry.store().object(&gateway).is_none());
        registry.store().remove(&services.key("shop", "a")).unwrap();
        ensure(&registry);
        let made = registry.object(&Resource::of("v1", "Service"), &gateway).unwrap();
        assert_eq!(object::text(&made, "/status/loadBalancer/ingress/0/ip"), "127.0.0.1");
        registry.store().remove(&gateway).unwrap();
        ensure(&registry);
        assert!(registry.store().object(&gateway).is_none());
    }
}
