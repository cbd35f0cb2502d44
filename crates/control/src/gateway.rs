//! The ingress gateway of a mesh, as the objects that make it.

use serde_json::{Value, json};

use crate::inject;

/// The objects of the gateway: its namespace, its service account, its Service and its Deployment.
/// `address` is where the Service is reached from outside.
pub fn gateway(address: &str) -> Vec<Value> {
    vec![namespace(), account(), service(address), deployment()]
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
}

fn metadata() -> Value {
    json!({"name": GATEWAY, "namespace": NAMESPACE, "labels": labels()})
}

fn labels() -> Value {
    json!({"app": GATEWAY, "istio": "ingressgateway"})
}

fn account() -> Value {
    let mut metadata = metadata();
    metadata["name"] = format!("{GATEWAY}-service-account").into();
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}

fn service(address: &str) -> Value {
    let port = |name: &str, port: u16, target: u16| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(),
        "spec": {
            "type": "LoadBalancer",
            "selector": labels(),
            "ports": [
                port("status-port", 15021, 15021),
                port("http2", 80, 80),
                port("https", 443, 443),
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    })
}

fn deployment() -> Value {
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
        "metadata": metadata(),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels()},
            "template": {
                "metadata": {
                    "labels": labels(),
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

const GATEWAY: &str = "istio-ingressgateway";
const NAMESPACE: &str = "istio-system";
