//! Checks before an object is taken, with the texts that kubectl shows. Pure functions. What
//! belongs to the mesh's own kinds is checked by the dialects.

use std::collections::BTreeSet;

use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::base64;
use ironmesh_dialects::kubernetes::kinds::{
    AnyObject, DaemonSet, Deployment, PersistentVolumeClaim, Pod, ReplicaSet, RestartPolicy,
    Service, ServiceSpec, ServiceType, StatefulSet,
};
use ironmesh_dialects::schema::Fields;
use serde_json::{Value, json};

use crate::failure::Cause;
use crate::object::{self, Object};
use crate::registry::defaults;
use crate::selector;

mod claims;
mod definitions;
mod ips;
mod jobs;
pub(crate) mod labels;
mod pods;
mod rollout;

/// What is wrong with a new or changed object of a kind that the control plane itself acts on.
pub(crate) fn check(resource: &Resource, object: &Object) -> Vec<Cause> {
    let mut causes = Vec::new();
    labels::metadata(AnyObject::of(object).metadata(), "metadata", &mut causes);
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => {
            let all = [RestartPolicy::Always, RestartPolicy::OnFailure, RestartPolicy::Never];
            pods::spec(Pod::of(object).spec(), "spec", &all, &[], &mut causes);
        }
        ("", "services") => service(Service::of(object).spec(), &mut causes),
        ("", "endpoints") => ips::endpoints(object, &mut causes),
        ("discovery.k8s.io", "endpointslices") => ips::endpoint_slice(object, &mut causes),
        ("", "secrets") => secret(object, &mut causes),
        ("", "configmaps") => config_map(object, &mut causes),
        ("apps", plural @ ("deployments" | "replicasets" | "statefulsets" | "daemonsets")) => {
            let claims = StatefulSet::of(object).spec().volume_claim_templates();
            let claims: Vec<_> = claims.map(|claim| claim.metadata().name()).collect();
            workload(object, &claims, &mut causes);
            match plural {
                "deployments" => rollout::deployment(Deployment::of(object).spec(), &mut causes),
                "statefulsets" => claims::of_set(StatefulSet::of(object).spec(), &mut causes),
                "daemonsets" => rollout::daemon_set(DaemonSet::of(object).spec(), &mut causes),
                _ => {}
            }
        }
        ("", "replicationcontrollers") => {
            workload(&replica_set_of(object), &[], &mut causes);
        }
        ("", "persistentvolumeclaims") => {
            let claim = PersistentVolumeClaim::of(object).spec();
            claims::claim(claim, "spec", &mut causes);
        }
        ("batch", "jobs") => jobs::job(object, &mut causes),
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            definitions::definition(object, &mut causes);
        }
        _ => {}
    }
    causes
}

/// What of a changed object may not change.
pub(crate) fn check_update(resource: &Resource, old: &Object, new: &Object) -> Vec<Cause> {
    let mut causes = Vec::from_iter(added_finalizers(old, new));
    let mut fixed = |pointer: &str, field: &str| {
        let (old, new) = (old.pointer(pointer), new.pointer(pointer));
        if old.is_some_and(|old| !old.is_null()) && old != new {
            let value = new.cloned().unwrap_or_default();
            causes.push(Cause::invalid(field, &value, "field is immutable"));
        }
    };
    match (&*resource.group, &*resource.plural) {
        ("apps", "statefulsets") => causes.extend(claims::changed_set(old, new)),
        ("", "persistentvolumeclaims") => causes.extend(claims::changed(old, new)),
        ("apps", _) => fixed("/spec/selector", "spec.selector"),
        ("batch", "jobs") => {
            for field in [
                "completions",
                "completionMode",
                "selector",
                "template",
                "podFailurePolicy",
                "successPolicy",
                "backoffLimitPerIndex",
            ] {
                fixed(&format!("/spec/{field}"), &format!("spec.{field}"));
            }
        }
        ("", "services") if Service::of(new).spec().of() != ServiceType::ExternalName => {
            fixed("/spec/clusterIP", "spec.clusterIP");
        }
        ("", "secrets") => fixed("/type", "type"),
        ("", "pods") if frozen_spec(old) != frozen_spec(new) => {
            causes.push(Cause { field: "spec".to_owned(), message: POD_FROZEN.to_owned() });
        }
        _ => {}
    }
    if matches!(&*resource.plural, "configmaps" | "secrets") && resource.group.is_empty() {
        causes.extend(changed_immutable(old, new));
    }
    causes
}

/// What is deleted waits for the finalizers that it has; none may be added.
fn added_finalizers(old: &Object, new: &Object) -> Option<Cause> {
    if !object::is_terminating(old) {
        return None;
    }
    let finalizers = |of: &Object| -> BTreeSet<String> {
        AnyObject::of(of).metadata().finalizers().map(str::to_owned).collect()
    };
    let added: Vec<_> = finalizers(new).difference(&finalizers(old)).cloned().collect();
    (!added.is_empty()).then(|| Cause {
        field: "metadata.finalizers".to_owned(),
        message: format!(
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
        ),
    })
}

/// What of a ConfigMap or Secret that was made immutable was changed.
fn changed_immutable(old: &Object, new: &Object) -> Vec<Cause> {
    if old.get("immutable") != Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let changed = ["immutable", "data", "binaryData"];
    let changed = changed.into_iter().filter(|field| old.get(field) != new.get(field));
    let message = "Forbidden: field is immutable when `immutable` is set";
    changed.map(|field| Cause { field: field.to_owned(), message: message.to_owned() }).collect()
}

/// Whether `name` may name an object: at most 253 characters, in parts that look like DNS labels
/// (RFC 1123) but may be as long as the whole, as Kubernetes has it.
pub(crate) fn is_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_part)
}

/// Whether `name` is a DNS label (RFC 1123).
pub(crate) fn is_label(name: &str) -> bool {
    name.len() <= 63 && is_part(name)
}

fn is_part(name: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.bytes().all(|b| alphanumeric(b) || b == b'-')
        && name.bytes().next().is_some_and(alphanumeric)
        && name.bytes().last().is_some_and(alphanumeric)
}

/// What is wrong with the name of an object.
pub(crate) fn check_name(resource: &Resource, name: &str) -> Option<Cause> {
    let field = "metadata.name";
    let value = Value::from(name);
    match (&*resource.group, &*resource.plural) {
        ("", "namespaces") if !is_label(name) => Some(Cause::invalid(field, &value, LABEL_RULE)),
        ("", "services")
            if !is_label(name) || !name.starts_with(|c: char| c.is_ascii_lowercase()) =>
        {
            Some(Cause::invalid(field, &value, SERVICE_RULE))
        }
        // Names of RBAC objects are path segments.
        ("rbac.authorization.k8s.io", _) if !name.contains('/') && !name.contains('%') => None,
        _ if !is_subdomain(name) => Some(Cause::invalid(field, &value, SUBDOMAIN_RULE)),
        _ => None,
    }
}

/// All workloads have what a ReplicaSet has. `claims` are volumes of their pods, too.
fn workload(object: &Object, claims: &[&str], causes: &mut Vec<Cause>) {
    let spec = ReplicaSet::of(object).spec();
    let (selector, template) = (spec.selector(), spec.template());
    labels::selector(selector, "spec.selector", causes);
    labels::metadata(template.metadata(), "spec.template.metadata", causes);
    if selector.json().is_null() {
        causes.push(Cause::required("spec.selector"));
    } else if !selector::selects(selector, template.metadata().labels()) {
        let value = template.metadata().json()["labels"].clone();
        let why = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", &value, why));
    }
    let replicas = spec.replicas().get();
    if replicas > REPLICAS_MAX {
        let why = format!("must be a whole number from 0 to {REPLICAS_MAX}");
        causes.push(Cause::invalid("spec.replicas", &replicas.into(), &why));
    }
    // Their pods are there for good: one that ended would be replaced again and again.
    let policies = [RestartPolicy::Always];
    pods::spec(template.spec(), "spec.template.spec", &policies, claims, causes);
}

/// A replication controller as the ReplicaSet that it would be.
pub(crate) fn replica_set_of(controller: &Object) -> Object {
    let mut set = controller.clone();
    let labels = set["spec"]["selector"].take();
    set["spec"]["selector"] = json!({ "matchLabels": labels });
    set
}

fn service(spec: Fields<'_, ServiceSpec>, causes: &mut Vec<Cause>) {
    let (of, ports) = (spec.of(), spec.ports());
    if ports.len() == 0 && !spec.is_headless() && of != ServiceType::ExternalName {
        causes.push(Cause::required("spec.ports"));
    }
    labels::pairs(spec.selector(), "spec.selector", causes);
    ips::service(spec, causes);
    let count = ports.len();
    let (mut seen, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.enumerate() {
        let path = format!("spec.ports[{index}]");
        let name = port.name();
        if name.is_empty() {
            if count > 1 {
                causes.push(Cause::required(format!("{path}.name")));
            }
        } else if !is_label(name) {
            causes.push(Cause::invalid(format!("{path}.name"), &name.into(), LABEL_RULE));
        } else if !names.insert(name) {
            let message = format!("Duplicate value: {name:?}");
            causes.push(Cause { field: format!("{path}.name"), message });
        }
        if !seen.insert((port.protocol().word(), port.port())) {
            let message = format!("Duplicate value: {}", port.port());
            causes.push(Cause { field: path.clone(), message });
        }
        if matches!(of, ServiceType::ClusterIp | ServiceType::ExternalName)
            && port.node_port().is_some_and(|port| port.get() != 0)
        {
            let message = format!("Forbidden: may not be used when `type` is '{}'", of.word());
            causes.push(Cause { field: format!("{path}.nodePort"), message });
        }
    }
}

fn secret(object: &Object, causes: &mut Vec<Cause>) {
    keys(object, &["data", "stringData"], causes);
    base64_values(object, "data", causes);
}

fn config_map(object: &Object, causes: &mut Vec<Cause>) {
    keys(object, &["data", "binaryData"], causes);
    base64_values(object, "binaryData", causes);
}

/// Checks keys, which are names of files in volumes.
fn keys(object: &Object, fields: &[&str], causes: &mut Vec<Cause>) {
    let is_key = |key: &str| {
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=253).contains(&key.len())
            && key.bytes().all(known)
            && key != "."
            && !key.starts_with("..")
    };
    for field in fields {
        for key in object.get(field).and_then(Value::as_object).into_iter().flatten() {
            if !is_key(key.0) {
                let name = Value::from(&**key.0);
                causes.push(Cause::invalid(format!("{field}[{}]", key.0), &name, FILE_RULE));
            }
        }
    }
}

fn base64_values(object: &Object, field: &str, causes: &mut Vec<Cause>) {
    for (key, value) in object.get(field).and_then(Value::as_object).into_iter().flatten() {
        if !value.is_null() && value.as_str().and_then(base64::decode).is_none() {
            causes.push(Cause::invalid(format!("{field}[{key}]"), value, "must be base64"));
        }
    }
}

/// What of a pod's spec no update may change, as Kubernetes has it.
fn frozen_spec(pod: &Object) -> Value {
    let mut spec = pod.get("spec").cloned().unwrap_or_default();
    // One that was kept by an older version may lack defaults of today.
    defaults::pod_spec(&mut spec);
    if let Some(spec) = spec.as_object_mut() {
        for key in ["tolerations", "activeDeadlineSeconds", "terminationGracePeriodSeconds"] {
            spec.remove(key);
        }
        for list in ["initContainers", "containers"] {
            for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
            {
                if let Some(container) = container.as_object_mut() {
                    container.remove("image");
                }
            }
        }
    }
    spec
}

/// Pods that one workload may ask for.
const REPLICAS_MAX: u32 = 10_000;
const POD_FROZEN: &str = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SERVICE_RULE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const FILE_RULE: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.', and may not be '.' or start with '..'";
pub(super) const IP_RULE: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn texts(kind: (&str, &str), object: Value) -> Vec<String> {
        let causes = check(&Resource::of(kind.0, kind.1), &object);
        causes.into_iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn what_kubectl_would_say() {
        let deployment = json!({"spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "b"}}, "spec": {"containers": [{"name": "X"}]}},
        }});
        let said = texts(("apps/v1", "Deployment"), deployment);
        assert!(said[0].starts_with("spec.template.metadata.labels: Invalid value"), "{said:?}");
        assert!(said[1].starts_with("spec.template.spec.containers[0].name: Invalid"), "{said:?}");
        assert_eq!(said[2], "spec.template.spec.containers[0].image: Required value");
        let said = texts(("v1", "Pod"), json!({}));
        assert_eq!(said, ["spec.containers: Required value"]);
        let two = json!({"spec": {"type": "ClusterIP", "ports": [{"port": 1}, {"port": 1}]}});
        let said = texts(("v1", "Service"), two);
        assert_eq!(said.len(), 3, "{said:?}");
        let endpoints = json!({"subsets": [{"addresses": [{"ip": "<ip>"}]}]});
        assert_eq!(texts(("v1", "Endpoints"), endpoints).len(), 1);
        let secret = json!({"data": {"user": "$GRAFANA_USERNAME"}});
        assert_eq!(texts(("v1", "Secret"), secret).len(), 1);
        let folded = json!({"data": {"ca.crt": "QUJDREVG\nR0g=\n", "empty": ""}});
        assert!(texts(("v1", "Secret"), folded).is_empty());
        for key in ["..", ".", "../a", "a/b", "..new", "", "a b"] {
            let map = json!({"data": {key: "x"}});
            assert_eq!(texts(("v1", "ConfigMap"), map).len(), 1, "{key}");
            let secret = json!({"stringData": {key: "x"}});
            assert_eq!(texts(("v1", "Secret"), secret).len(), 1, "{key}");
        }
    }

    #[test]
    fn ports_and_variables_are_named_as_in_kubernetes() {
        let service = |names: [&str; 2]| {
            let ports = [(80, names[0]), (81, names[1])]
                .map(|(port, name)| json!({"port": port, "name": name}));
            texts(("v1", "Service"), json!({"spec": {"ports": ports}}))
        };
        assert_eq!(service(["a", "b-2"]), [""; 0]);
        assert_eq!(service(["a", "a"]), [r#"spec.ports[1].name: Duplicate value: "a""#]);
        assert!(
            service(["a", "A_b"])[0].starts_with(r#"spec.ports[1].name: Invalid value: "A_b""#)
        );
        let pod = |fields: Value| {
            let mut container = json!({"name": "a", "image": "a:1"});
            fields
                .as_object()
                .unwrap()
                .iter()
                .for_each(|(key, value)| container[key] = value.clone());
            texts(("v1", "Pod"), json!({"spec": {"containers": [container]}}))
        };
        let port = |name: &str| json!({"containerPort": 80, "name": name});
        assert_eq!(pod(json!({"ports": [port("http"), port(""), port("")]})), [""; 0]);
        for name in ["a-name-of-16-char", "UP", "80", "a--b", "-a", "a-"] {
            let said = pod(json!({"ports": [port(name)]}));
            assert!(said[0].starts_with("spec.containers[0].ports[0].name: Invalid"), "{name}");
        }
        assert_eq!(
            pod(json!({"ports": [port("http"), port("http")]})),
            [r#"spec.containers[0].ports[1].name: Duplicate value: "http""#]
        );
        let variable = |name: &str| json!({"env": [{"name": name, "value": "x"}]});
        assert_eq!(pod(variable("my.var-1 %")), [""; 0]);
        assert_eq!(pod(variable("")), ["spec.containers[0].env[0].name: Required value"]);
        for name in ["a=b", "a\0b", "\u{e4}"] {
            let said = pod(variable(name));
            assert!(said[0].starts_with("spec.containers[0].env[0].name: Invalid"), "{name}");
        }
    }

    #[test]
    fn restart_policies_are_those_that_the_owner_allows() {
        let spec = |policy: &str, init: &str| {
            json!({
                "restartPolicy": policy,
                "initContainers": [{"name": "a", "image": "a:1", "restartPolicy": init}],
                "containers": [{"name": "b", "image": "b:1"}],
            })
        };
        assert_eq!(texts(("v1", "Pod"), json!({"spec": spec("Never", "Always")})), [""; 0]);
        let deployment = json!({"spec": {
            "selector": {"matchLabels": {"app": "a"}},
            "template": {"metadata": {"labels": {"app": "a"}}, "spec": spec("Never", "Always")},
        }});
        assert_eq!(
            texts(("apps/v1", "Deployment"), deployment),
            [
                r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#
            ]
        );
    }

    #[test]
    fn immutable_fields() {
        let service = Resource::of("v1", "Service");
        let old = json!({"spec": {"clusterIP": "10.96.0.1"}});
        let new = json!({"spec": {"clusterIP": "10.96.0.2"}});
        let causes = check_update(&service, &old, &new);
        assert_eq!(causes[0].message, "Invalid value: \"10.96.0.2\": field is immutable");
        let pod = Resource::of("v1", "Pod");
        let old = json!({"spec": {"containers": [{"name": "a", "image": "x"}]}});
        let new = json!({"spec": {"containers": [{"name": "a", "image": "y"}]}});
        assert!(check_update(&pod, &old, &new).is_empty());
        let new = json!({"spec": {"containers": [{"name": "a", "image": "y", "args": []}]}});
        assert_eq!(check_update(&pod, &old, &new).len(), 1);
        // What older versions have not filled in is no change.
        let mut new = json!({"spec": {"containers": [{"name": "a", "image": "y"}]}});
        defaults::pod_spec(&mut new["spec"]);
        assert_eq!(new["spec"]["enableServiceLinks"], true);
        assert!(check_update(&pod, &old, &new).is_empty());
    }
}
