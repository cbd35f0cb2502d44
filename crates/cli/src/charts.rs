//! What Istio's charts install, by the names, ports and labels that texts look for. ironmesh answers for
//! all of it; the mesh needs none.

use ironmesh_dialects::install::{Addon, Installation};
use ironmesh_dialects::kinds::Resource;
use serde_json::{Value, json};

use crate::api::{Api, ApiError};

mod gateway;

pub(crate) use gateway::{Release as GatewayRelease, gateway};

/// A program of the control plane, or one that looks at the mesh.
struct Part {
    /// Name of its Deployment.
    name: &'static str,
    /// The label `app` of its pods.
    app: &'static str,
    /// What its Services select its pods by.
    selector: &'static [(&'static str, &'static str)],
    /// Name and image of each container.
    containers: &'static [(&'static str, &'static str)],
    /// Its Services, and their ports.
    services: &'static [(&'static str, &'static [u16])],
}

/// Today's control plane, as a profile installs it.
pub(crate) fn istiod() -> Vec<Value> {
    objects(&ISTIOD, ROOT, "latest")
}

/// What the chart `istio` installs beside the ingress gateway, which the mesh has.
pub(crate) fn istio(installation: &Installation, namespace: &str, version: &str) -> Vec<Value> {
    let mut parts: Vec<&Part> = CONTROL_PLANE.iter().collect();
    if installation.injects_by_label {
        parts.push(&INJECTOR);
    }
    let mut all: Vec<Value> =
        parts.iter().flat_map(|part| objects(part, namespace, version)).collect();
    all.extend(addons(installation, namespace, version));
    all
}

/// What looks at the mesh.
pub(crate) fn addons(installation: &Installation, namespace: &str, version: &str) -> Vec<Value> {
    let part = |addon: &Addon| match addon {
        Addon::Prometheus => &PROMETHEUS,
        Addon::Grafana => &GRAFANA,
        Addon::Kiali => &KIALI,
        Addon::Tracing => &TRACING,
        Addon::Servicegraph => &SERVICEGRAPH,
    };
    let parts = installation.addons.iter().map(part);
    let mut all: Vec<Value> = parts.flat_map(|part| objects(part, namespace, version)).collect();
    if installation.addons.contains(&Addon::Tracing) {
        all.push(jaeger_agent(namespace));
    }
    all
}

/// Deletes an object; one that is gone is no error.
pub(crate) async fn delete(api: &Api, object: &Value) -> Result<(), ApiError> {
    let (resource, namespace, name) = identity(object);
    match api.delete(&resource.path(namespace, Some(name))).await {
        Err(error) if error.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// What is needed to find an object again.
pub(crate) fn reference(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"]},
    })
}

/// What the chart `istio-init` installs: 23 kinds, and the Jobs that installed them.
pub(crate) fn istio_init(namespace: &str, version: &str) -> Vec<Value> {
    let jobs = ["10", "11", "12"].map(|number| {
        let name = format!("istio-init-crd-{number}-{version}");
        let container = json!({
            "name": format!("istio-init-crd-{number}"),
            "image": format!("docker.io/istio/kubectl:{version}"),
            "command": ["kubectl", "apply", "-f", format!("/etc/istio/crd-{number}/crd-{number}.yaml")],
        });
        json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"template": {
                "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
                "spec": {"containers": [container], "restartPolicy": "OnFailure"},
            }},
        })
    });
    kinds().chain(jobs).collect()
}

/// The kinds of 1.3.
fn kinds() -> impl Iterator<Item = Value> {
    KINDS.iter().flat_map(|(group, version, names)| {
        names.iter().map(move |(kind, plural)| {
            let scope = if *kind == "MeshPolicy" || *kind == "ClusterRbacConfig" {
                "Cluster"
            } else {
                "Namespaced"
            };
            let schema = json!({"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }});
            json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("{plural}.{group}"), "labels": {"chart": "istio"}},
                "spec": {
                    "group": group, "scope": scope,
                    "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                    "versions": [{"name": version, "served": true, "storage": true, "schema": schema}],
                },
            })
        })
    })
}

fn objects(part: &Part, namespace: &str, version: &str) -> Vec<Value> {
    let Part { name, app, selector, containers, services } = part;
    let selector = map(selector);
    let mut labels = selector.clone();
    labels["app"] = (*app).into();
    let own = |(container, image): &(&str, &str)| json!({"name": container, "image": format!("docker.io/{image}:{version}")});
    let mut all = vec![json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": selector},
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {"sidecar.istio.io/inject": "false"},
                },
                "spec": {"containers": containers.iter().map(own).collect::<Vec<_>>()},
            },
        },
    })];
    all.extend(services.iter().map(|(name, ports)| service(name, &selector, ports, namespace)));
    all
}

/// Labels as JSON.
fn map(labels: &[(&str, &str)]) -> Value {
    labels.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect()
}

fn service(name: &str, selector: &Value, ports: &[u16], namespace: &str) -> Value {
    let port = |port: &u16| json!({"name": format!("tcp-{port}"), "port": port});
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": selector},
        "spec": {
            "selector": selector,
            "ports": ports.iter().map(port).collect::<Vec<_>>(),
        },
    })
}

/// The one that speaks UDP.
fn jaeger_agent(namespace: &str) -> Value {
    let ports = [5775, 6831, 6832]
        .map(|port| json!({"name": format!("udp-{port}"), "port": port, "protocol": "UDP"}));
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "jaeger-agent", "namespace": namespace, "labels": {"app": "jaeger"}},
        "spec": {
            "clusterIP": "None",
            "selector": {"app": "jaeger"},
            "ports": ports,
        },
    })
}

/// The ports that the chart `istio` of a version gives the Service of the ingress gateway beside those that
/// the mesh's own has: `tcp` and more from 1.1 on.
pub(crate) fn gateway_ports(version: &str) -> Vec<Value> {
    if version.starts_with("1.0") || version.starts_with("0.") {
        return Vec::new();
    }
    let port = |(name, port): (&str, u16)| json!({"name": name, "port": port, "protocol": "TCP"});
    GATEWAY_PORTS.map(port).to_vec()
}

/// Whether labels of namespaces inject, as Istio's ConfigMap says it.
pub(crate) fn injector(by_label: bool) -> Value {
    let policy = if by_label { "enabled" } else { "disabled" };
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio-sidecar-injector", "namespace": ROOT},
        "data": {"config": format!("policy: {policy}\n")},
    })
}

/// Makes objects, or gives those that are there what is written here.
pub(crate) async fn install(api: &Api, objects: &[Value]) -> Result<(), ApiError> {
    for object in objects {
        let (resource, namespace, name) = identity(object);
        let path = resource.path(namespace, Some(name));
        match api.merge(&path, object).await {
            Err(error) if error.is_not_found() => {
                api.post(&resource.path(namespace, None), object).await?;
            }
            // A Job that is done stays as it is.
            Err(_) if &*resource.kind == "Job" => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// What an object is: its resource, namespace and name.
pub(crate) fn identity(object: &Value) -> (Resource, Option<&str>, &str) {
    let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
    let resource =
        Resource::of(text("/apiVersion").unwrap_or_default(), text("/kind").unwrap_or_default());
    (resource, text("/metadata/namespace"), text("/metadata/name").unwrap_or_default())
}

/// Where the control plane is.
pub(crate) const ROOT: &str = "istio-system";
/// The Service of the mesh's own ingress gateway.
pub(crate) const GATEWAY: &str = "istio-ingressgateway";

const ISTIOD: Part = Part {
    name: "istiod",
    app: "istiod",
    selector: &[("app", "istiod")],
    containers: &[("discovery", "istio/pilot")],
    services: &[("istiod", &[15010, 15012, 443, 15014])],
};
const CONTROL_PLANE: [Part; 5] = [
    Part {
        name: "istio-pilot",
        app: "pilot",
        selector: &[("istio", "pilot")],
        containers: &[("discovery", "istio/pilot"), ("istio-proxy", "istio/proxyv2")],
        services: &[("istio-pilot", &[15010, 15011, 8080, 15014])],
    },
    Part {
        name: "istio-policy",
        app: "policy",
        selector: &[("istio", "mixer"), ("istio-mixer-type", "policy")],
        containers: &[("mixer", "istio/mixer"), ("istio-proxy", "istio/proxyv2")],
        services: &[("istio-policy", &[9091, 15004, 15014])],
    },
    Part {
        name: "istio-telemetry",
        app: "telemetry",
        selector: &[("istio", "mixer"), ("istio-mixer-type", "telemetry")],
        containers: &[("mixer", "istio/mixer"), ("istio-proxy", "istio/proxyv2")],
        services: &[("istio-telemetry", &[9091, 15004, 15014, 42422])],
    },
    Part {
        name: "istio-citadel",
        app: "security",
        selector: &[("istio", "citadel")],
        containers: &[("citadel", "istio/citadel")],
        services: &[("istio-citadel", &[8060, 15014])],
    },
    Part {
        name: "istio-galley",
        app: "galley",
        selector: &[("istio", "galley")],
        containers: &[("galley", "istio/galley")],
        services: &[("istio-galley", &[443, 15014, 9901])],
    },
];
const INJECTOR: Part = Part {
    name: "istio-sidecar-injector",
    app: "sidecarInjectorWebhook",
    selector: &[("istio", "sidecar-injector")],
    containers: &[("sidecar-injector-webhook", "istio/sidecar_injector")],
    services: &[("istio-sidecar-injector", &[443, 15014])],
};
const PROMETHEUS: Part = Part {
    name: "prometheus",
    app: "prometheus",
    selector: &[("app", "prometheus")],
    containers: &[("prometheus", "prom/prometheus")],
    services: &[("prometheus", &[9090])],
};
const GRAFANA: Part = Part {
    name: "grafana",
    app: "grafana",
    selector: &[("app", "grafana")],
    containers: &[("grafana", "grafana/grafana")],
    services: &[("grafana", &[3000])],
};
const KIALI: Part = Part {
    name: "kiali",
    app: "kiali",
    selector: &[("app", "kiali")],
    containers: &[("kiali", "kiali/kiali")],
    services: &[("kiali", &[20001])],
};
const TRACING: Part = Part {
    name: "istio-tracing",
    app: "jaeger",
    selector: &[("app", "jaeger")],
    containers: &[("jaeger", "jaegertracing/all-in-one")],
    services: &[
        ("jaeger-collector", &[14267, 14268]),
        ("jaeger-query", &[16686]),
        ("tracing", &[80]),
        ("zipkin", &[9411]),
    ],
};
const SERVICEGRAPH: Part = Part {
    name: "servicegraph",
    app: "servicegraph",
    selector: &[("app", "servicegraph")],
    containers: &[("servicegraph", "istio/servicegraph")],
    services: &[("servicegraph", &[8088])],
};

const GATEWAY_PORTS: [(&str, u16); 7] = [
    ("status-port-15020", 15020),
    ("tcp", 31400),
    ("https-kiali", 15029),
    ("https-prometheus", 15030),
    ("https-grafana", 15031),
    ("https-tracing", 15032),
    ("tls", 15443),
];

/// Groups, versions and kinds.
type Kinds = &'static [(&'static str, &'static str, &'static [(&'static str, &'static str)])];

/// The 23 kinds of the chart `istio-init` of 1.3.
const KINDS: Kinds = &[
    (
        "networking.istio.io",
        "v1alpha3",
        &[
            ("VirtualService", "virtualservices"),
            ("DestinationRule", "destinationrules"),
            ("ServiceEntry", "serviceentries"),
            ("Gateway", "gateways"),
            ("EnvoyFilter", "envoyfilters"),
            ("Sidecar", "sidecars"),
        ],
    ),
    (
        "rbac.istio.io",
        "v1alpha1",
        &[
            ("ClusterRbacConfig", "clusterrbacconfigs"),
            ("RbacConfig", "rbacconfigs"),
            ("ServiceRole", "serviceroles"),
            ("ServiceRoleBinding", "servicerolebindings"),
            ("AuthorizationPolicy", "authorizationpolicies"),
        ],
    ),
    (
        "authentication.istio.io",
        "v1alpha1",
        &[("Policy", "policies"), ("MeshPolicy", "meshpolicies")],
    ),
    (
        "config.istio.io",
        "v1alpha2",
        &[
            ("HTTPAPISpecBinding", "httpapispecbindings"),
            ("HTTPAPISpec", "httpapispecs"),
            ("QuotaSpecBinding", "quotaspecbindings"),
            ("QuotaSpec", "quotaspecs"),
            ("rule", "rules"),
            ("attributemanifest", "attributemanifests"),
            ("handler", "handlers"),
            ("instance", "instances"),
            ("template", "templates"),
            ("adapter", "adapters"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_make_what_texts_count() {
        let all = istio_init("istio-system", "1.3.2");
        let count = |kind: &str| all.iter().filter(|object| object["kind"] == kind).count();
        assert_eq!((count("CustomResourceDefinition"), count("Job")), (23, 3));
        let values = json!({
            "grafana": {"enabled": true}, "kiali": {"enabled": true}, "tracing": {"enabled": true},
        });
        let installation = Installation::of_chart("1.3.2", &values).unwrap();
        let all = istio(&installation, "istio-system", "1.3.2");
        let services = all.iter().filter(|object| object["kind"] == "Service").count();
        // The fifteenth is the gateway's.
        assert_eq!(services, 14);
        let values = json!({"sidecarInjectorWebhook": {"enabled": false}});
        let installation = Installation::of_chart("1.0.0", &values).unwrap();
        let all = istio(&installation, "mesh", "1.0.0");
        assert!(!all.iter().any(|object| identity(object).2 == "istio-sidecar-injector"));
        assert!(all.iter().all(|object| identity(object).1 == Some("mesh")));
    }
}
