//! Injection: whether a pod gets a sidecar, and what is added to it. Pure functions.

use std::sync::Arc;

use ironmesh_dialects::kubernetes::image::{Role, stand_in};
use ironmesh_dialects::kubernetes::kinds::Pod;
use ironmesh_dialects::manifest;
use ironmesh_dialects::object::value::{self as object, entry, set_default};
use serde_json::{Value, json};

/// Name of the container that is the sidecar.
pub(crate) const SIDECAR: &str = "istio-proxy";

/// Name of the init container that captures the pod's traffic.
const CAPTURE: &str = "istio-init";

/// Adds the sidecar if namespace and pod want one and it is not there yet: what an admission webhook
/// does to a new pod. One that another mesh's tools put into the pod becomes ours.
///
/// The ConfigMap `istio-sidecar-injector` of istio-system can say that the labels of namespaces inject
/// nothing: `policy: disabled` in its `config`, as Istio has it.
pub fn inject(
    namespace: &Value,
    config_map: &dyn Fn(&str, &str) -> Option<Arc<Value>>,
    pod: &mut Value,
) {
    if takes_the_place_of_another(pod) {
        return;
    }
    let is_gateway = asks_for_gateway(pod);
    if has_sidecar(pod) && !is_gateway {
        return;
    }
    let is_off = config_map("istio-system", "istio-sidecar-injector").is_some_and(|map| {
        let config = manifest::parse(object::text(&map, "/data/config"));
        config.documents.first().is_some_and(|config| config.value["policy"] == "disabled")
    });
    let wanted = is_wanted(namespace, pod) && (!is_off || asked(pod) == Some(true));
    let owner = Pod::of(pod).metadata().pod_owner().to_owned();
    match (wanted, is_gateway) {
        (true, true) => make_gateway(pod, &owner),
        (true, false) => add_sidecar(pod, &owner),
        (false, _) => {}
    }
}

/// Whether a pod is to be a gateway of a user (Istio's injection template `gateway`), and none yet.
fn asks_for_gateway(pod: &Value) -> bool {
    let templates = object::annotation(pod, "inject.istio.io/templates").unwrap_or_default();
    templates.split(',').any(|template| template.trim() == "gateway") && !is_router(pod)
}

/// Makes the container of the proxy's name the proxy of a gateway, or adds one. What the user says of it
/// stays, but for its program.
fn make_gateway(pod: &mut Value, owner: &str) {
    note_names(pod, owner);
    let gateway = json!({
        "image": image(),
        "args": ["proxy", "router"],
        "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        "readinessProbe": ready_probe(),
    });
    let containers = list_mut(entry(pod, "spec"), "containers");
    let own = containers.iter().position(|own| object::text(own, "/name") == SIDECAR);
    let at = own.unwrap_or_else(|| {
        containers.push(json!({"name": SIDECAR}));
        containers.len() - 1
    });
    for (key, value) in gateway.as_object().into_iter().flatten() {
        if matches!(key.as_str(), "image" | "args") || containers[at].get(key).is_none() {
            containers[at][key.as_str()] = value.clone();
        }
    }
}

/// Adds the sidecar to a workload of a manifest, as Istio's `kube-inject` does: to the pods of every
/// kind that makes some, and to those of a list, unless they say that they want none. Whether an
/// object is changed; what makes no pods, what is unknown and what has a sidecar is left as it is.
pub fn inject_manifest(object: &mut Value) -> bool {
    if object::text(object, "/kind").ends_with("List") {
        let Some(Value::Array(items)) = object.get_mut("items") else { return false };
        let changed: Vec<bool> = items.iter_mut().map(inject_manifest).collect();
        return changed.contains(&true);
    }
    if is_system(object::namespace(object)) {
        return false;
    }
    let name = object::name(object).to_owned();
    let Some(template) = template(object::text(object, "/kind")) else { return false };
    let Some(pod) = object.pointer_mut(template) else { return false };
    let has_containers = !object::list(pod, "/spec/containers").is_empty();
    let wanted = asked(pod).unwrap_or(true) && !Pod::of(pod).spec().host_network();
    if !has_containers || !wanted || has_sidecar(pod) {
        return false;
    }
    add_sidecar(pod, &name);
    true
}

/// Where an object of a kind has what its pods are made from, as a pointer; `None` if it makes none.
#[must_use]
pub fn template(kind: &str) -> Option<&'static str> {
    match kind {
        "Pod" => Some(""),
        "Deployment"
        | "ReplicaSet"
        | "ReplicationController"
        | "StatefulSet"
        | "DaemonSet"
        | "Job" => Some("/spec/template"),
        "CronJob" => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Makes the sidecar of another mesh's injector ours, with the init container and without the volumes
/// that were its own. Whether there was one.
fn takes_the_place_of_another(pod: &mut Value) -> bool {
    let is_theirs = |container: &Value| {
        object::text(container, "/name") == SIDECAR
            && stand_in(object::text(container, "/image")).is_some_and(|known| {
                known.role == Role::ControlPlane && known.name.starts_with("proxy")
            })
    };
    let is_router = |container: &Value| object::text(container, "/args/1") == "router";
    let containers = object::list(pod, "/spec/containers");
    let Some(theirs) = containers.iter().find(|container| is_theirs(container)) else {
        return false;
    };
    // Without the note of an injector it was written so, as in old control planes.
    let status = object::annotation(pod, STATUS).filter(|_| !is_router(theirs));
    let Some(status) = status.and_then(|status| serde_json::from_str::<Value>(status).ok()) else {
        return false;
    };
    let volumes: Vec<String> = object::list(&status, "/volumes")
        .iter()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    let spec = entry(pod, "spec");
    let is_own = |container: &Value| {
        matches!(object::text(container, "/name"), SIDECAR | CAPTURE | "istio-validation")
    };
    list_mut(spec, "containers").retain(|container| !is_own(container));
    list_mut(spec, "initContainers").retain(|container| !is_own(container));
    list_mut(spec, "volumes")
        .retain(|volume| !volumes.iter().any(|name| name == object::text(volume, "/name")));
    let owner = Pod::of(pod).metadata().pod_owner().to_owned();
    add_sidecar(pod, &owner);
    true
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

/// What a pod itself says about its sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    asked: Option<bool>,
    /// Whether it is in the host's network, where nothing is captured.
    is_on_host: bool,
}

impl Wish {
    /// That of a pod.
    pub(crate) fn of(pod: &Value) -> Self {
        Self { asked: asked(pod), is_on_host: Pod::of(pod).spec().host_network() }
    }

    /// Whether it gets a sidecar in this namespace. As Istio decides: what the pod says (its label
    /// before its annotation) wins over the namespace's label, but for a namespace where injection is
    /// off; pods in the host's network never.
    pub(crate) fn is_granted(self, namespace: &Value) -> bool {
        let switch = object::label(namespace, "istio-injection");
        let by_namespace = switch == Some("enabled")
            || switch.is_none() && object::label(namespace, "istio.io/rev").is_some();
        let excluded =
            switch == Some("disabled") || is_system(object::name(namespace)) || self.is_on_host;
        !excluded && self.asked.unwrap_or(by_namespace)
    }
}

fn is_wanted(namespace: &Value, pod: &Value) -> bool {
    Wish::of(pod).is_granted(namespace)
}

/// Namespaces of the platform, whose pods get no sidecar.
fn is_system(namespace: &str) -> bool {
    matches!(namespace, "kube-system" | "kube-public" | "kube-node-lease")
}

/// What the pod itself says of injection.
fn asked(pod: &Value) -> Option<bool> {
    let asked = object::label(pod, INJECT).or_else(|| object::annotation(pod, INJECT));
    asked.map(|value| matches!(value, "true" | "y" | "yes" | "on"))
}

/// Labels a pod as that of a workload: by its own labels, else by what it belongs to.
fn note_names(pod: &mut Value, owner: &str) {
    let canonical = ["app.kubernetes.io/name", "app"]
        .iter()
        .find_map(|key| object::label(pod, key))
        .unwrap_or(owner)
        .to_owned();
    let revision = ["app.kubernetes.io/version", "version"]
        .iter()
        .find_map(|key| object::label(pod, key))
        .unwrap_or("latest")
        .to_owned();

    let labels = entry(object::metadata_mut(pod), "labels");
    set_default(labels, "security.istio.io/tlsMode", "istio");
    set_default(labels, "service.istio.io/canonical-name", canonical);
    set_default(labels, "service.istio.io/canonical-revision", revision);
}

/// Adds the sidecar. `owner` names what the pod belongs to.
fn add_sidecar(pod: &mut Value, owner: &str) {
    let app = Pod::of(pod).spec().containers().next().map_or("", |first| first.name()).to_owned();
    note_names(pod, owner);
    let annotations = entry(object::metadata_mut(pod), "annotations");
    set_default(annotations, "kubectl.kubernetes.io/default-container", app.clone());
    set_default(annotations, "kubectl.kubernetes.io/default-logs-container", app);
    let status = json!({
        "initContainers": [CAPTURE],
        "containers": [SIDECAR],
        "volumes": [],
        "imagePullSecrets": null,
        "revision": "default",
    });
    annotations[STATUS] = status.to_string().into();
    // Who says where an application's own metrics are, or that there are none, is left to it.
    if annotations.get("prometheus.io/scrape").is_none() {
        set_default(annotations, "prometheus.io/path", "/stats/prometheus");
        set_default(annotations, "prometheus.io/port", "15020");
        set_default(annotations, "prometheus.io/scrape", "true");
    }

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
        "readinessProbe": ready_probe(),
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}},
    })
}

/// A proxy that hangs is taken out after four probes of a second each.
fn ready_probe() -> Value {
    json!({
        "httpGet": {"path": "/healthz/ready", "port": 15021, "scheme": "HTTP"},
        "periodSeconds": 1,
        "timeoutSeconds": 1,
        "successThreshold": 1,
        "failureThreshold": 4,
    })
}

/// Image of the proxy; the agent runs its own binary for it.
pub(crate) fn image() -> String {
    format!("ironmesh/proxy:{}", env!("CARGO_PKG_VERSION"))
}

const INJECT: &str = "sidecar.istio.io/inject";
/// What an injector notes of what it added.
const STATUS: &str = "sidecar.istio.io/status";

#[cfg(test)]
mod tests {
    use super::*;

    /// As where no ConfigMap says anything of injection.
    fn inject(namespace: &Value, pod: &mut Value) {
        super::inject(namespace, &|_, _| None, pod);
    }

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

    /// As Istio's task for gateways of users writes it.
    #[test]
    fn a_pod_that_asks_for_it_becomes_a_gateway_and_no_other_does() {
        let gateway = |inject: &str, templates: &str| {
            json!({
                "metadata": {
                    "labels": {"istio": "egressgateway", "sidecar.istio.io/inject": inject},
                    "annotations": {"inject.istio.io/templates": templates},
                },
                "spec": {"containers": [
                    {"name": "istio-proxy", "image": "auto", "resources": {"limits": {"cpu": "1"}}},
                ]},
            })
        };
        let mut subject = gateway("true", "gateway");
        inject(&namespace(json!({})), &mut subject);
        assert!(is_router(&subject));
        let container = &subject["spec"]["containers"][0];
        assert_eq!(container["image"], image());
        assert_eq!(container["resources"]["limits"]["cpu"], "1", "what the user says stays");
        assert!(subject["spec"].get("initContainers").is_none(), "nothing of it is captured");
        let once = subject.clone();
        inject(&namespace(json!({})), &mut subject);
        assert_eq!(subject, once);
        for (asked, templates) in [("false", "gateway"), ("true", "sidecar"), ("true", "gateways")]
        {
            let mut other = gateway(asked, templates);
            let before = other.clone();
            inject(&namespace(json!({"istio-injection": "enabled"})), &mut other);
            assert_eq!(other, before, "{asked} {templates}");
        }
        let mut without = gateway("true", "gateway");
        without["spec"]["containers"] = json!([]);
        inject(&namespace(json!({})), &mut without);
        assert!(is_router(&without));
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

    #[test]
    fn workloads_of_manifests_get_one_sidecar_whatever_their_version() {
        for (version, kind, at) in [
            ("v1", "Pod", ""),
            ("v1", "ReplicationController", "/spec/template"),
            ("extensions/v1beta1", "Deployment", "/spec/template"),
            ("apps/v1beta2", "StatefulSet", "/spec/template"),
            ("extensions/v1beta1", "DaemonSet", "/spec/template"),
            ("batch/v1", "Job", "/spec/template"),
            ("batch/v1beta1", "CronJob", "/spec/jobTemplate/spec/template"),
        ] {
            let pod = json!({"spec": {"containers": [{"name": "app"}]}});
            let mut object = match at {
                "" => pod,
                "/spec/template" => json!({"spec": {"template": pod}}),
                _ => json!({"spec": {"jobTemplate": {"spec": {"template": pod}}}}),
            };
            object["apiVersion"] = version.into();
            object["kind"] = kind.into();
            object["metadata"] = json!({"name": "shop"});
            assert!(inject_manifest(&mut object), "{kind}");
            let pod = object.pointer(at).unwrap();
            let names: Vec<_> = object::list(pod, "/spec/containers")
                .iter()
                .map(|container| object::text(container, "/name"))
                .collect();
            assert_eq!(names, ["app", "istio-proxy"], "{kind}");
            assert_eq!(object::text(pod, "/spec/initContainers/0/name"), "istio-init", "{kind}");
            assert_eq!(object::label(pod, "service.istio.io/canonical-name"), Some("shop"));
            let once = object.clone();
            assert!(!inject_manifest(&mut object), "{kind}");
            assert_eq!(object, once, "{kind}");
            // Applied where the namespace wants sidecars, too, its pods still have one.
            let mut applied = pod_of(&object, at);
            inject(&namespace(json!({"istio-injection": "enabled"})), &mut applied);
            assert_eq!(applied, pod_of(&object, at), "{kind}");
        }
    }

    fn pod_of(object: &Value, at: &str) -> Value {
        object.pointer(at).unwrap().clone()
    }

    #[test]
    fn what_makes_no_pods_or_wants_no_sidecar_is_left_as_it_is() {
        let template = |metadata: Value, spec: Value| {
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                "spec": {"template": {"metadata": metadata, "spec": spec}},
            })
        };
        let containers = || json!([{"name": "app"}]);
        let no = json!({"annotations": {"sidecar.istio.io/inject": "false"}});
        let mut of_the_platform = template(json!({}), json!({"containers": containers()}));
        of_the_platform["metadata"]["namespace"] = "kube-system".into();
        for object in [
            template(no, json!({"containers": containers()})),
            template(json!({}), json!({"containers": containers(), "hostNetwork": true})),
            template(json!({}), json!({"containers": []})),
            template(json!({}), json!({"containers": "none"})),
            of_the_platform,
            json!({"kind": "Service", "spec": {"template": {"spec": {"containers": containers()}}}}),
            json!({"kind": "Deployment"}),
            json!({"kind": "CronJob", "spec": {"jobTemplate": 3}}),
            json!({"kind": "Unknown", "items": [{"kind": "Pod"}]}),
            json!(["Pod"]),
            json!(null),
        ] {
            let mut subject = object.clone();
            assert!(!inject_manifest(&mut subject), "{object}");
            assert_eq!(subject, object);
        }
        let mut list = json!({"kind": "List", "items": [{
            "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers()},
        }, {"kind": "Service"}]});
        assert!(inject_manifest(&mut list));
        assert!(has_sidecar(&list["items"][0]));
        assert_eq!(list["items"][1], json!({"kind": "Service"}));
    }

    #[test]
    fn the_sidecar_of_another_injector_becomes_ours() {
        let status = r#"{"containers":["istio-proxy"],"volumes":["istio-token","istiod-ca-cert"]}"#;
        let mut subject = pod(json!({
            "name": "web", "labels": {"app": "web"},
            "annotations": {"sidecar.istio.io/status": status},
        }));
        subject["spec"] = json!({
            "initContainers": [{"name": "istio-init", "image": "istio/proxyv2:1.14.2"}],
            "containers": [
                {"name": "web"},
                {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.14.2", "args": ["proxy", "sidecar"]},
            ],
            "volumes": [{"name": "istio-token"}, {"name": "own"}, {"name": "istiod-ca-cert"}],
        });
        inject(&namespace(json!({})), &mut subject);
        let containers = object::list(&subject, "/spec/containers");
        assert_eq!(containers.len(), 2);
        assert_eq!(containers[1], sidecar());
        assert_eq!(object::list(&subject, "/spec/initContainers"), [capture()]);
        assert_eq!(subject["spec"]["volumes"], json!([{"name": "own"}]));
        let once = subject.clone();
        inject(&namespace(json!({"istio-injection": "enabled"})), &mut subject);
        assert_eq!(subject, once);
        // An application that merely has the name keeps its container.
        let mut other = pod(json!({}));
        other["spec"]["containers"] = json!([
            {"name": "app"}, {"name": "istio-proxy", "image": "example.com/mine"},
        ]);
        let before = other.clone();
        inject(&namespace(json!({"istio-injection": "enabled"})), &mut other);
        assert_eq!(other, before);
    }

    #[test]
    fn the_annotations_say_where_metrics_are_unless_the_application_does() {
        let on = namespace(json!({"istio-injection": "enabled"}));
        let mut plain = pod(json!({}));
        inject(&on, &mut plain);
        for (key, value) in [("scrape", "true"), ("port", "15020"), ("path", "/stats/prometheus")] {
            assert_eq!(object::annotation(&plain, &format!("prometheus.io/{key}")), Some(value));
        }
        let mut own = pod(json!({"annotations": {"prometheus.io/scrape": "false"}}));
        inject(&on, &mut own);
        assert_eq!(object::annotation(&own, "prometheus.io/scrape"), Some("false"));
        assert_eq!(object::annotation(&own, "prometheus.io/port"), None);
    }

    #[test]
    fn a_config_map_takes_the_labels_of_namespaces_their_effect() {
        let on = namespace(json!({"istio-injection": "enabled"}));
        let asks = json!({"labels": {"sidecar.istio.io/inject": "true"}});
        for (config, metadata, expected) in [
            ("policy: disabled", json!({}), false),
            ("policy: disabled", asks, true),
            ("policy: enabled", json!({}), true),
            (": [", json!({}), true),
        ] {
            let map = Arc::new(json!({"data": {"config": config}}));
            let mut subject = pod(metadata);
            super::inject(&on, &|_, _| Some(map.clone()), &mut subject);
            assert_eq!(has_sidecar(&subject), expected, "{config}");
        }
    }
}
