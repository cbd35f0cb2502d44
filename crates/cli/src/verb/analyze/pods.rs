//! The pods that workloads of manifests would have: what labels select, which ports are theirs and who
//! has a sidecar is found before anything runs.

use std::net::Ipv4Addr;

use ironmesh_control::inject;
use ironmesh_dialects::object::value as object;
use ironmesh_dialects::{Object, translate_one};
use ironmesh_model::Severity;
use serde_json::{Value, json};

/// A pod for each workload that has none: ready, at an address of its own, with a sidecar unless its
/// labels, or those of its namespace, say that it gets none. `all` are the objects with its namespace. A
/// pod without an address has the one that stands for it under its own name.
pub(super) fn imagined<'a>(
    workloads: impl Iterator<Item = &'a Value>,
    all: &[Value],
) -> Vec<Value> {
    let pods = workloads.filter_map(of_workload);
    let ready = |(number, mut pod): (u32, Value)| {
        let namespace = namespace(all, object::namespace(&pod));
        inject::inject(&namespace, &|_, _| None, &mut pod);
        let address = Ipv4Addr::from(u32::from(FIRST) + number).to_string();
        pod["metadata"]["uid"] = json!(format!("imagined-{number}"));
        pod["status"] = json!({
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        pod
    };
    (1..IMAGINED_MAX).zip(pods).map(ready).collect()
}

/// What a workload makes; `None` if it makes nothing, or is refused.
fn of_workload(workload: &Value) -> Option<Value> {
    let kind = object::text(workload, "/kind");
    let template = inject::template(kind)?;
    let makes_none = object::number(workload, "/spec/replicas") == Some(0);
    let runs = !object::text(workload, "/status/podIP").is_empty();
    if makes_none || runs || is_refused(workload) {
        return None;
    }
    let template = workload.pointer(template)?;
    let part = |name: &str| template.get(name).filter(|part| part.is_object()).cloned();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": part("spec")?});
    pod["metadata"] = part("metadata").unwrap_or_else(|| json!({}));
    pod["metadata"]["namespace"] = json!(object::namespace(workload));
    pod["metadata"]["name"] = json!(match kind {
        "Pod" => object::name(workload).to_owned(),
        _ => format!("{}-0", object::name(workload)),
    });
    Some(pod)
}

fn is_refused(workload: &Value) -> bool {
    let Ok(object) = Object::new(workload.clone()) else { return true };
    let found = translate_one(&object).findings;
    found.iter().any(|finding| finding.code.severity() == Severity::Error)
}

/// The namespace of a pod. One that is not among the objects is taken to ask for sidecars.
fn namespace(all: &[Value], name: &str) -> Value {
    let is_it = |value: &&Value| value["kind"] == "Namespace" && object::name(value) == name;
    all.iter().find(is_it).cloned().unwrap_or_else(
        || json!({"metadata": {"name": name, "labels": {"istio-injection": "enabled"}}}),
    )
}

/// Before the first address of a pod that is imagined: one that no network has (RFC 2544).
const FIRST: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// As many pods are imagined at most, and as many addresses there are.
const IMAGINED_MAX: u32 = 1 << 17;

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(kind: &str, version: &str, spec: Value) -> Value {
        let metadata = json!({"name": "a", "namespace": "shop"});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    }

    fn template() -> Value {
        let containers = json!([{"name": "app", "image": "a"}]);
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": containers}})
    }

    fn deployment(more: &Value) -> Value {
        let mut spec = json!({"selector": {"matchLabels": {"app": "a"}}, "template": template()});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        workload("Deployment", "apps/v1", spec)
    }

    fn has_sidecar(pod: &Value) -> bool {
        object::list(pod, "/spec/containers").iter().any(|own| own["name"] == "istio-proxy")
    }

    #[test]
    fn workloads_have_pods_with_their_labels_and_a_sidecar_unless_they_want_none() {
        let mut out = deployment(&json!({}));
        out["spec"]["template"]["metadata"]["labels"]["sidecar.istio.io/inject"] = json!("false");
        let pod = workload("Pod", "v1", template()["spec"].clone());
        let workloads = [deployment(&json!({})), out, pod];
        let pods = imagined(workloads.iter(), &[]);
        let said: Vec<_> = pods.iter().map(|pod| (object::name(pod), has_sidecar(pod))).collect();
        assert_eq!(said, [("a-0", true), ("a-0", false), ("a", true)]);
        assert_eq!(object::label(&pods[0], "app"), Some("a"));
        let unlabelled = json!({"kind": "Namespace", "metadata": {"name": "shop"}});
        let pods = imagined(workloads.iter(), &[unlabelled]);
        assert!(!pods.iter().any(has_sidecar));
    }

    #[test]
    fn what_runs_or_makes_nothing_or_cannot_be_has_none() {
        let mut running = workload("Pod", "v1", template()["spec"].clone());
        running["status"]["podIP"] = json!("10.77.0.1");
        let service = workload("Service", "v1", json!({"ports": [{"port": 80}]}));
        let mut odd = deployment(&json!({}));
        odd["spec"]["template"]["metadata"] = json!([1]);
        let mut odder = deployment(&json!({}));
        odder["spec"]["template"] = json!("x");
        let none = deployment(&json!({"replicas": 0}));
        let workloads = [running, service, odd, odder, none, json!(null), json!([])];
        assert_eq!(imagined(workloads.iter(), &[]), [Value::Null; 0]);
    }
}
