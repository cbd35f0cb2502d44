use serde_json::json;

use super::*;

/// A registry over a fresh store with the namespace `default`.
fn registry(directory: &tempfile::TempDir) -> Registry {
    let limits = ControlLimits::default();
    let store = Store::open(directory.path(), &limits).unwrap();
    let registry = Registry::new(store, "10.96.0.0/16".parse().unwrap(), limits);
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    registry.create(&Resource::of("v1", "Namespace"), "", namespace).unwrap();
    registry
}

fn pods() -> Resource {
    Resource::of("v1", "Pod")
}

fn pod(name: &str) -> Object {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

fn pod_key(name: &str) -> Key {
    Collection::core("pods").key("default", name)
}

#[test]
fn a_pod_gets_what_kubernetes_gives_it() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let made = registry.create(&pods(), "default", pod("a")).unwrap();
    assert_eq!(object::text(&made, "/spec/nodeName"), "ironmesh");
    assert_eq!(object::text(&made, "/spec/serviceAccountName"), "default");
    assert_eq!(object::text(&made, "/status/phase"), "Pending");
    assert_eq!(object::uid(&made).len(), 36);
    let again = registry.create(&pods(), "default", pod("a")).unwrap_err();
    assert_eq!(again.message, "pods \"a\" already exists");
    let nowhere = registry.create(&pods(), "nowhere", pod("a")).unwrap_err();
    assert_eq!((nowhere.code, &*nowhere.message), (404, "namespaces \"nowhere\" not found"));
    let mut generated = pod("");
    generated["metadata"] = json!({"generateName": "a-"});
    let made = registry.create(&pods(), "default", generated).unwrap();
    assert_eq!(object::name(&made).len(), 7);
}

#[test]
fn deletion_of_a_pod_is_graceful_and_the_second_brings_it_nearer() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    registry.create(&pods(), "default", pod("a")).unwrap();
    let options = DeleteOptions::default();
    let Deleted::Marked(marked) = registry.delete(&pods(), &pod_key("a"), &options).unwrap() else {
        panic!("gone at once");
    };
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    let sooner = DeleteOptions { grace_seconds: Some(1), ..DeleteOptions::default() };
    let Deleted::Marked(marked) = registry.delete(&pods(), &pod_key("a"), &sooner).unwrap() else {
        panic!("gone at once");
    };
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 1);
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    assert!(matches!(registry.delete(&pods(), &pod_key("a"), &now), Ok(Deleted::Gone(_))));
    let missing = registry.delete(&pods(), &pod_key("a"), &now).unwrap_err();
    assert_eq!(missing.message, "pods \"a\" not found");
}

#[test]
fn an_update_keeps_what_is_the_servers() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let made = registry.create(&pods(), "default", pod("a")).unwrap();
    let updated = registry
        .update(&pods(), &pod_key("a"), Part::Main, |old| {
            let mut new = old.clone();
            new["metadata"]["uid"] = json!(null);
            new["metadata"]["labels"] = json!({"x": "y"});
            new["status"] = json!({"phase": "Running"});
            Ok(new)
        })
        .unwrap();
    assert_eq!(object::uid(&updated), object::uid(&made));
    assert_eq!(object::text(&updated, "/status/phase"), "Pending");
    assert_eq!(object::label(&updated, "x"), Some("y"));
    let stale = |_: &Object| Ok((*made).clone());
    let conflict = registry.update(&pods(), &pod_key("a"), Part::Main, stale).unwrap_err();
    assert_eq!(conflict.code, 409);
    assert!(conflict.message.starts_with("Operation cannot be fulfilled on pods \"a\""));
}

#[test]
fn services_get_addresses_and_keep_them() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let services = Resource::of("v1", "Service");
    let service = |name: &str, spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    let ports = json!([{"port": 80}]);
    let made = registry
        .create(&services, "default", service("a", json!({"ports": ports, "type": "NodePort"})))
        .unwrap();
    let address = object::text(&made, "/spec/clusterIP").to_owned();
    assert!(address.starts_with("10.96."), "{address}");
    let node_port = object::number(&made, "/spec/ports/0/nodePort").unwrap();
    assert!((30_000..32_768).contains(&node_port));
    let key = Collection::core("services").key("default", "a");
    let replaced = registry
        .update(&services, &key, Part::Main, |_| {
            Ok(service("a", json!({"ports": ports, "type": "NodePort"})))
        })
        .unwrap();
    assert_eq!(object::text(&replaced, "/spec/clusterIP"), address);
    assert_eq!(object::number(&replaced, "/spec/ports/0/nodePort"), Some(node_port));
    let twice = service("b", json!({"ports": ports, "clusterIP": address}));
    let refused = registry.create(&services, "default", twice).unwrap_err();
    assert!(refused.message.contains("already allocated"), "{refused}");
    let headless = service("c", json!({"ports": ports, "clusterIP": "None"}));
    let made = registry.create(&services, "default", headless).unwrap();
    assert_eq!(object::text(&made, "/spec/clusterIP"), "None");
}

#[test]
fn pods_in_a_labelled_namespace_are_injected() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    registry.create(&pods(), "default", pod("before")).unwrap();
    let namespaces = Resource::of("v1", "Namespace");
    let key = Collection::core("namespaces").key("", "default");
    registry
        .update(&namespaces, &key, Part::Main, |old| {
            let mut new = old.clone();
            new["metadata"]["labels"]["istio-injection"] = "enabled".into();
            Ok(new)
        })
        .unwrap();
    registry.create(&pods(), "default", pod("after")).unwrap();
    let count = |name: &str| {
        let pod = registry.store().object(&pod_key(name)).unwrap();
        object::list(&pod, "/spec/containers").len()
    };
    assert_eq!((count("before"), count("after")), (1, 2));
}
