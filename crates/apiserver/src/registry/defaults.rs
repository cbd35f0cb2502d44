//! What Kubernetes fills in when an object is taken. Pure functions; each is idempotent.

use ironmesh_dialects::kinds::{Kind, Resource};
use ironmesh_dialects::kubernetes::base64;
use ironmesh_dialects::kubernetes::kinds::{
    Container, DaemonUpdate, Job, PodSpec, StatefulUpdate, Strategy, StrategyType, UpdateType,
};
use ironmesh_dialects::schema;
use serde_json::{Map, Value, json};

use crate::object::{self, Object, entry, set_default};

/// Node that all pods run on.
pub(crate) const NODE: &str = "ironmesh";

/// Fills in the defaults of an object's kind: those of its table, and what follows from other fields.
/// Its fields are of the right types.
pub(crate) fn apply(resource: &Resource, object: &mut Object) {
    match (&*resource.group, &*resource.plural) {
        ("", "namespaces") => {
            let name = object::name(object).to_owned();
            entry(object::metadata_mut(object), "labels")["kubernetes.io/metadata.name"] =
                name.into();
            set_default(entry(object, "status"), "phase", "Active");
        }
        ("", "pods") => pod_spec(entry(object, "spec")),
        ("", "services") => service(object),
        ("", "secrets") => secret(object),
        ("apps", "deployments") => deployment(object),
        ("apps", "replicasets") => template(entry(object, "spec")),
        ("apps", "daemonsets") => daemon_set(object),
        ("apps", "statefulsets") => stateful_set(object),
        ("", "replicationcontrollers") => replication_controller(object),
        ("batch", "jobs") => job(object),
        _ => {}
    }
    let table = Kind::of_path(&resource.group, &resource.plural).and_then(|kind| kind.fields);
    if let Some(fields) = table.filter(|fields| !fields.protobuf) {
        fields.fill(object);
    }
}

/// Fills in what is left open in a pod's spec.
pub(crate) fn pod_spec(spec: &mut Value) {
    set_default(spec, "securityContext", json!({}));
    // The two names are one field; the older is still read by tools.
    let read = PodSpec::of(spec);
    let accounts = [read.service_account_name(), read.old_service_account()];
    let account = accounts.into_iter().find(|name| !name.is_empty()).map(str::to_owned);
    if let Some(account) = account {
        spec["serviceAccountName"] = account.clone().into();
        spec["serviceAccount"] = account.into();
    }
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            if container.is_object() {
                self::container(container);
            }
        }
    }
    schema::fill::<PodSpec>(spec);
}

fn container(container: &mut Value) {
    let image = Container::of(container).image();
    let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let pull = if !tagged || image.ends_with(":latest") { "Always" } else { "IfNotPresent" };
    set_default(container, "imagePullPolicy", pull);
    set_default(container, "resources", json!({}));
}

fn template(spec: &mut Value) {
    pod_spec(entry(entry(spec, "template"), "spec"));
}

fn service(object: &mut Object) {
    let spec = entry(object, "spec");
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if port.is_object() {
            let number = port.get("port").cloned().unwrap_or_default();
            set_default(port, "targetPort", number);
        }
    }
    set_default(entry(object, "status"), "loadBalancer", json!({}));
}

/// `stringData` is written into `data`, in base64; what is there already is written anew without the
/// line breaks that Kubernetes passes over.
fn secret(object: &mut Object) {
    for value in object.get_mut("data").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(bytes) = value.1.as_str().and_then(base64::decode) {
            *value.1 = base64::encode(&bytes).into();
        }
    }
    let Some(plain) = object.as_object_mut().and_then(|o| o.shift_remove("stringData")) else {
        return;
    };
    for (key, value) in plain.as_object().into_iter().flatten() {
        if let Some(text) = value.as_str() {
            entry(object, "data")[key.as_str()] = base64::encode(text.as_bytes()).into();
        }
    }
}

fn deployment(object: &mut Object) {
    let spec = entry(object, "spec");
    let strategy = entry(spec, "strategy");
    if Strategy::of(strategy).of() == StrategyType::RollingUpdate {
        entry(strategy, "rollingUpdate");
    }
    template(spec);
}

fn daemon_set(object: &mut Object) {
    let spec = entry(object, "spec");
    let strategy = entry(spec, "updateStrategy");
    if DaemonUpdate::of(strategy).of() == UpdateType::RollingUpdate {
        entry(strategy, "rollingUpdate");
    }
    template(spec);
}

fn stateful_set(object: &mut Object) {
    let spec = entry(object, "spec");
    let strategy = entry(spec, "updateStrategy");
    if StatefulUpdate::of(strategy).of() == UpdateType::RollingUpdate {
        entry(strategy, "rollingUpdate");
    }
    template(spec);
    let claims = spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut);
    for claim in claims.into_iter().flatten().filter(|claim| claim.is_object()) {
        set_default(claim, "apiVersion", "v1");
        set_default(claim, "kind", "PersistentVolumeClaim");
        entry(claim, "spec");
    }
}

/// One that does not say which pods are its own means those that have all labels of its template.
fn replication_controller(object: &mut Object) {
    let labels = object.pointer("/spec/template/metadata/labels").cloned();
    let labels = labels.filter(Value::is_object).unwrap_or_else(|| json!({}));
    let is_empty = |value: &Value| value.as_object().is_none_or(Map::is_empty);
    let own = entry(object::metadata_mut(object), "labels");
    if is_empty(own) {
        *own = labels.clone();
    }
    let selector = entry(entry(object, "spec"), "selector");
    if is_empty(selector) {
        *selector = labels;
    }
    template(entry(object, "spec"));
}

/// A Job without counts is one pod. Its selector is made, and means its pods alone: they have its
/// uid as a label.
fn job(object: &mut Object) {
    let (name, uid) = (object::name(object).to_owned(), object::uid(object).to_owned());
    let read = Job::of(object).spec();
    let (no_count, manual) =
        (read.completions().is_none() && read.parallelism().is_none(), read.manual_selector());
    let spec = entry(object, "spec");
    if no_count {
        spec["completions"] = 1.into();
    }
    set_default(spec, "parallelism", 1);
    if !spec["backoffLimitPerIndex"].is_null() {
        set_default(spec, "backoffLimit", i32::MAX);
    }
    template(spec);
    if manual {
        return;
    }
    spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    let labels = entry(entry(entry(spec, "template"), "metadata"), "labels");
    for prefix in ["batch.kubernetes.io/", ""] {
        labels[format!("{prefix}controller-uid")] = uid.clone().into();
        labels[format!("{prefix}job-name")] = name.clone().into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::normal_form::normalize;

    fn defaulted(api_version: &str, kind: &str, mut object: Value) -> Value {
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        entry(&mut object, "metadata")["name"] = "a".into();
        let resource = Resource::of(api_version, kind);
        normalize(&resource, &mut object);
        apply(&resource, &mut object);
        object
    }

    #[test]
    fn old_deployments_become_apps_v1_with_a_selector() {
        let template = json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": []}});
        let deployment =
            defaulted("extensions/v1beta1", "Deployment", json!({"spec": {"template": template}}));
        assert_eq!(deployment["apiVersion"], "apps/v1");
        assert_eq!(deployment["spec"]["selector"], json!({"matchLabels": {"app": "a"}}));
        assert_eq!(deployment["spec"]["replicas"], 1);
        assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        let strict = defaulted("apps/v1", "Deployment", json!({"spec": {}}));
        assert_eq!(strict["spec"].get("selector"), None);
    }

    #[test]
    fn secrets_and_services_and_pods() {
        let secret = defaulted("v1", "Secret", json!({"stringData": {"a": "hello", "b": ""}}));
        assert_eq!(secret["data"], json!({"a": "aGVsbG8=", "b": ""}));
        assert_eq!(secret.get("stringData"), None);
        let folded = defaulted("v1", "Secret", json!({"data": {"a": "aGVs\nbG8=\r\n"}}));
        assert_eq!(folded["data"], json!({"a": "aGVsbG8="}));
        let spec = json!({"spec": {"ports": [{"port": 80, "protocol": null}]}});
        let service = defaulted("v1", "Service", spec);
        assert_eq!(
            service["spec"]["ports"],
            json!([{"port": 80, "protocol": "TCP", "targetPort": 80}])
        );
        let spec = json!({"spec": {"serviceAccount": "x", "containers": [{"image": "r:5000/a"}]}});
        let pod = defaulted("v1", "Pod", spec);
        assert_eq!(pod["spec"]["serviceAccountName"], "x");
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "Always");
        let map = defaulted("v1", "ConfigMap", json!({"data": {"empty": null, "a": "b"}}));
        assert_eq!(map["data"], json!({"empty": "", "a": "b"}));
        let spec = json!({"spec": {"terminationGracePeriodSeconds": -1}});
        let pod = defaulted("v1", "Pod", spec);
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1);
    }
}
