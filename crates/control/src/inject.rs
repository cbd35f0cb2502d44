//! Injection: whether a pod gets a sidecar, and what is added to it. Pure functions.

use ironmesh_dialects::kubernetes::kinds::Pod;
use serde_json::{Value, json};

use ironmesh_dialects::object::value::{self as object, entry, set_default};

/// Name of the container that is the sidecar.
pub(crate) const SIDECAR: &str = "istio-proxy";

/// Name of the init container that captures the pod's traffic.
const CAPTURE: &str = "istio-init";

/// Adds the sidecar if namespace and pod want one and it is not there yet: what an admission webhook
/// does to a new pod.
pub fn inject(namespace: &Value, pod: &mut Value) {
    if is_wanted(namespace, pod) && !has_sidecar(pod) {
        add_sidecar(pod);
    }
}

/// Whether the pod has a sidecar, given by us or by its manifest.
pub(crate) fn has_sidecar(pod: &Value) -> bool {
    let spec = Pod::of(pod).spec();
    spec.containers().chain(spec.init_containers()).any(|container| container.name() == SIDECAR)
}

/// Whether the pod is a gateway: its proxy serves no workload beside it.
pub(crate) fn is_router(pod: &Value) -> bool {
    let mut containers = Pod::of(pod).spec().containers();
    containers.any(|c| c.name() == SIDECAR && c.args().nth(1) == Some("router"))
}

/// As Istio decides: what the pod says (its label before its annotation) wins over the namespace's
/// label, but for a namespace where injection is off; pods in the host's network never.
fn is_wanted(namespace: &Value, pod: &Value) -> bool {
    let asked = object::label(pod, INJECT).or_else(|| object::annotation(pod, INJECT));
    let asked = asked.map(|value| matches!(value, "true" | "y" | "yes" | "on"));
    let switch = object::label(namespace, "istio-injection");
    let by_namespace = switch == Some("enabled")
        || switch.is_none() && object::label(namespace, "istio.io/rev").is_some();
    let excluded = switch == Some("disabled")
        || matches!(object::name(namespace), "kube-system" | "kube-public")
        || Pod::of(pod).spec().host_network();
    !excluded && asked.unwrap_or(by_namespace)
}

fn add_sidecar(pod: &mut Value) {
    let read = Pod::of(pod);
    let owner = read.metadata().pod_owner().to_owned();
    let app = read.spec().containers().next().map_or("", |first| first.name()).to_owned();
    let canonical = ["app.kubernetes.io/name", "app"]
        .iter()
        .find_map(|key| object::label(pod, key))
        .unwrap_or(&owner)
        .to_owned();
    let revision = ["app.kubernetes.io/version", "version"]
        .iter()
        .find_map(|key| object::label(pod, key))
        .unwrap_or("latest")
        .to_owned();

    let metadata = object::metadata_mut(pod);
    let labels = entry(metadata, "labels");
    set_default(labels, "security.istio.io/tlsMode", "istio");
    set_default(labels, "service.istio.io/canonical-name", canonical);
    set_default(labels, "service.istio.io/canonical-revision", revision);
    let annotations = entry(metadata, "annotations");
    set_default(annotations, "kubectl.kubernetes.io/default-container", app.clone());
    set_default(annotations, "kubectl.kubernetes.io/default-logs-container", app);
    let status = json!({
        "initContainers": [CAPTURE],
        "containers": [SIDECAR],
        "volumes": [],
        "imagePullSecrets": null,
        "revision": "default",
    });
    annotations["sidecar.istio.io/status"] = status.to_string().into();

    let spec = entry(pod, "spec");
    list_mut(spec, "initContainers").insert(0, capture());
    list_mut(spec, "containers").push(sidecar());
}

fn list_mut<'a>(spec: &'a mut Value, key: &str) -> &'a mut Vec<Value> {
    let list = &mut spec[key];
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut().expect("it was made a list above")
}

fn capture() -> Value {
    json!({
        "name": CAPTURE,
        "image": image(),
        "imagePullPolicy": "IfNotPresent",
        "args": ["capture"],
        "resources": {},
    })
}

fn sidecar() -> Value {
    json!({
        "name": SIDECAR,
        "image": image(),
        "imagePullPolicy": "IfNotPresent",
        "args": ["proxy", "sidecar"],
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        // A proxy that hangs is taken out after four probes of a second each.
        "readinessProbe": {
            "httpGet": {"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 4,
        },
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
    })
}

/// Image of the proxy; the agent runs its own binary for it.
pub(crate) fn image() -> String {
    format!("ironmesh/proxy:{}", env!("CARGO_PKG_VERSION"))
}

const INJECT: &str = "sidecar.istio.io/inject";

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(labels: Value) -> Value {
        json!({"metadata": {"name": "default", "labels": labels}})
    }

    fn pod(metadata: Value) -> Value {
        json!({"metadata": metadata, "spec": {"containers": [{"name": "app"}]}})
    }

    #[test]
    fn who_is_injected() {
        let on = || json!({"istio-injection": "enabled"});
        let said = |value: &str| json!({"labels": {"sidecar.istio.io/inject": value}});
        let annotated = |value: &str| json!({"annotations": {"sidecar.istio.io/inject": value}});
        for (labels, metadata, expected) in [
            (json!({}), json!({}), false),
            (on(), json!({}), true),
            (json!({"istio.io/rev": "default"}), json!({}), true),
            (on(), said("false"), false),
            (on(), annotated("false"), false),
            (json!({}), said("true"), true),
            (json!({}), annotated("true"), true),
            (json!({"istio-injection": "disabled"}), said("true"), false),
        ] {
            let mut subject = pod(metadata.clone());
            inject(&namespace(labels.clone()), &mut subject);
            assert_eq!(has_sidecar(&subject), expected, "{labels} {metadata}");
        }
        let mut host = pod(json!({}));
        host["spec"]["hostNetwork"] = true.into();
        inject(&namespace(on()), &mut host);
        assert!(!has_sidecar(&host));
    }

    #[test]
    fn the_app_stays_first_and_a_second_time_changes_nothing() {
        let on = namespace(json!({"istio-injection": "enabled"}));
        let mut subject = pod(json!({"labels": {"app": "reviews", "version": "v1"}}));
        inject(&on, &mut subject);
        let names: Vec<_> = object::list(&subject, "/spec/containers")
            .iter()
            .map(|c| object::text(c, "/name"))
            .collect();
        assert_eq!(names, ["app", "istio-proxy"]);
        assert_eq!(object::text(&subject, "/spec/initContainers/0/name"), "istio-init");
        let default = "kubectl.kubernetes.io/default-container";
        assert_eq!(object::annotation(&subject, default), Some("app"));
        assert_eq!(object::label(&subject, "service.istio.io/canonical-name"), Some("reviews"));
        let once = subject.clone();
        inject(&on, &mut subject);
        assert_eq!(subject, once);
    }
}
