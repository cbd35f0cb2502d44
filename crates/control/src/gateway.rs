//! The ingress gateway of a mesh, as the objects that make it.

use serde_json::{Value, json};

use crate::inject;

/// The objects of the gateway: its namespace, its service account, its Service and its Deployment.
/// `ports` are where its ports 80 and 443 are reached from outside: at these numbers the Service has its
/// ports `http2` and `https`, since that is where callers look. In the mesh it has 80 and 443 all the
/// same.
pub fn gateway(ports: [u16; 2]) -> Vec<Value> {
    vec![namespace(), account(), service(ports), deployment()]
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

fn service([http, https]: [u16; 2]) -> Value {
    let port = |name: &str, port: u16, target: u16| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"});
    let mut ports =
        vec![port("status-port", 15021, 15021), port("http2", http, 80), port("https", https, 443)];
    for (name, outside, own) in [("http2-inside", http, 80), ("https-inside", https, 443)] {
        if outside != own {
            ports.push(port(name, own, own));
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(),
        "spec": {
            "type": "LoadBalancer",
            "selector": labels(),
            "ports": ports,
        },
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
