//! The gateways that Istio's installation knows, as the objects that make them.

use ironmesh_dialects::kubernetes::MADE_BY_MESH;
use ironmesh_dialects::object::value as object;
use serde_json::{Value, json};

use crate::inject;

/// The objects of the ingress gateway, which every mesh has: its namespace, its service account, its
/// Service and its Deployment. `ports` are where its ports 80 and 443 are reached from outside: at these
/// numbers the Service has its ports `http2` and `https`, since that is where callers look. In the mesh it
/// has 80 and 443 all the same.
pub fn ingress(ports: [u16; 2]) -> Vec<Value> {
    vec![namespace(), account(&INGRESS), service(&INGRESS, ports), deployment(&INGRESS)]
}

/// The objects of the egress gateway, which a mesh has where an installation asks for it. Its namespace
/// is that of the ingress gateway.
pub fn egress() -> Vec<Value> {
    vec![account(&EGRESS), service(&EGRESS, [80, 443]), deployment(&EGRESS)]
}

/// Keeps what the mesh needs: it may be changed, but not deleted, and manifests of other control planes
/// do not put theirs in its place.
///
/// # Errors
///
/// Why an object must not become the new one, or go if there is none.
pub fn guard(old: &Value, new: Option<&Value>) -> Result<(), String> {
    let (kind, name) = (object::text(old, "/kind"), object::name(old));
    match (kind, object::namespace(old), new) {
        ("Namespace", "", None) if name == NAMESPACE => Err(
            "the mesh has its gateway in it, so that it stays with what else is in it; `ironmesh down` \
             ends the mesh"
                .to_owned(),
        ),
        ("Deployment" | "Service" | "ServiceAccount", NAMESPACE, None)
            if name == INGRESS.name || name == account_name(&INGRESS) =>
        {
            Err("it belongs to the mesh's own gateway, which stays while the mesh runs; `ironmesh down` \
                 ends the mesh"
                .to_owned())
        }
        ("Deployment", NAMESPACE, Some(new)) if name == INGRESS.name => keeps_proxy(new),
        ("Service", NAMESPACE, Some(new)) if name == INGRESS.name => keeps_selector(new),
        _ => Ok(()),
    }
}

/// Whether a Deployment still runs our proxy.
fn keeps_proxy(new: &Value) -> Result<(), String> {
    let containers = object::list(new, "/spec/template/spec/containers");
    let own = inject::image();
    let repository = own.split(':').next();
    let is_own =
        |container: &Value| object::text(container, "/image").split(':').next() == repository;
    match containers.iter().find(|container| !is_own(container)) {
        None => Ok(()),
        Some(other) => Err(format!(
            "it is the mesh's own gateway, and would run {} instead; the mesh needs no other one, and \
             another one needs another name",
            object::text(other, "/image")
        )),
    }
}

/// Whether a Service still finds our gateway.
fn keeps_selector(new: &Value) -> Result<(), String> {
    let labels = labels(&INGRESS);
    let selector = object::map(new, "/spec/selector").into_iter().flatten();
    match selector.into_iter().find(|(key, value)| labels[key.as_str()] != **value) {
        None => Ok(()),
        Some((key, value)) => Err(format!(
            "it leads to the mesh's own gateway, which has no label {key}={}",
            value.as_str().unwrap_or_default()
        )),
    }
}

fn namespace() -> Value {
    let annotations = json!({MADE_BY_MESH: "true"});
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "annotations": annotations},
    })
}

fn metadata(of: &Role) -> Value {
    json!({"name": of.name, "namespace": NAMESPACE, "labels": labels(of)})
}

fn labels(of: &Role) -> Value {
    json!({"app": of.name, "istio": of.label})
}

fn account_name(of: &Role) -> String {
    format!("{}-service-account", of.name)
}

fn account(of: &Role) -> Value {
    let mut metadata = metadata(of);
    metadata["name"] = account_name(of).into();
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
}

fn service(of: &Role, [http, https]: [u16; 2]) -> Value {
    let port = |name: &str, port: u16, target: u16| json!({"name": name, "port": port, "targetPort": target, "protocol": "TCP"});
    let mut ports = vec![port("http2", http, 80), port("https", https, 443)];
    if of.service == "LoadBalancer" {
        ports.insert(0, port("status-port", 15021, 15021));
    }
    for (name, outside, own) in [("http2-inside", http, 80), ("https-inside", https, 443)] {
        if outside != own {
            ports.push(port(name, own, own));
        }
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(of),
        "spec": {
            "type": of.service,
            "selector": labels(of),
            "ports": ports,
        },
    })
}

fn deployment(of: &Role) -> Value {
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
        "metadata": metadata(of),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels(of)},
            "template": {
                "metadata": {
                    "labels": labels(of),
                    "annotations": {"sidecar.istio.io/inject": "false"},
                },
                "spec": {
                    "serviceAccountName": account_name(of),
                    "containers": [container],
                },
            },
        },
    })
}

/// What a gateway is for, as Istio's charts have it.
struct Role {
    /// Name of its Deployment and its Service.
    name: &'static str,
    /// Its label `istio`.
    label: &'static str,
    /// Type of its Service.
    service: &'static str,
}

const INGRESS: Role =
    Role { name: "istio-ingressgateway", label: "ingressgateway", service: "LoadBalancer" };
const EGRESS: Role =
    Role { name: "istio-egressgateway", label: "egressgateway", service: "ClusterIP" };
const NAMESPACE: &str = "istio-system";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_mesh_needs_stays_and_may_be_changed() {
        let [space, account, service, deployment] = &ingress([80, 443])[..] else { panic!() };
        for object in [space, account, service, deployment] {
            assert!(guard(object, None).is_err(), "{object}");
            assert_eq!(guard(object, Some(object)), Ok(()), "{object}");
        }
        let mut scaled = deployment.clone();
        scaled["spec"]["replicas"] = 0.into();
        assert_eq!(guard(deployment, Some(&scaled)), Ok(()));
        let mut theirs = deployment.clone();
        theirs["spec"]["template"]["spec"]["containers"][0]["image"] = "istio/proxyv2:1.3.2".into();
        let why = guard(deployment, Some(&theirs)).unwrap_err();
        assert!(why.contains("would run istio/proxyv2:1.3.2 instead"), "{why}");
        let mut more = service.clone();
        more["spec"]["ports"][0] = json!({"name": "tcp", "port": 31400});
        more["spec"]["selector"] = json!({"istio": "ingressgateway"});
        assert_eq!(guard(service, Some(&more)), Ok(()));
        more["spec"]["selector"]["release"] = "istio".into();
        let why = guard(service, Some(&more)).unwrap_err();
        assert!(why.contains("no label release=istio"), "{why}");
        // The other gateway goes as it came.
        for object in egress() {
            assert_eq!(guard(&object, None), Ok(()), "{object}");
        }
        // Of the same names elsewhere it knows nothing.
        for (field, value) in [("namespace", "shop"), ("name", "other")] {
            let mut other = deployment.clone();
            other["metadata"][field] = value.into();
            assert_eq!(guard(&other, None), Ok(()));
        }
    }
}
