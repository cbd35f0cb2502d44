use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_model::limits::ControlLimits;
use serde_json::json;

use super::*;
use crate::object::Object;
use crate::registry::DeleteOptions;
use crate::store::{Collection, Store};

/// A registry with a namespace and `count` Services, each with a pod, its ReplicaSet and Endpoints.
fn shop(directory: &std::path::Path, count: usize) -> Registry {
    let limits = ControlLimits { watch_history_max: 100_000, ..ControlLimits::default() };
    let store = Store::open(directory, &limits).unwrap();
    let registry = Registry::new(store, "10.96.0.0/16".parse().unwrap(), limits);
    let create = |namespace: &str, object: Object| {
        let resource =
            Resource::of(object::text(&object, "/apiVersion"), object::text(&object, "/kind"));
        registry.create(&resource, namespace, object).unwrap();
    };
    create("", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
    for number in 0..count {
        let labels = json!({"app": format!("app-{number}")});
        let meta = json!({"name": format!("app-{number}")});
        create(
            "shop",
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": meta,
                "spec": {"selector": labels, "ports": [{"port": 80}]},
            }),
        );
        create(
            "shop",
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta,
                "spec": {
                    "replicas": 1, "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
                    },
                },
            }),
        );
    }
    settle(&registry, 0);
    registry
}

/// Reconciles what changed after a version, until nothing more changes.
fn settle(registry: &Registry, mut revision: u64) {
    let mut queue = Queue::new(registry.limits());
    loop {
        for event in registry.store().events_after(revision, usize::MAX).unwrap() {
            revision = event.revision;
            concerns(registry, &event, &mut queue);
        }
        let Some(work) = queue.next() else { return };
        let again = reconcile(registry, &work).unwrap();
        queue.done(work, again);
    }
}

/// Objects that were looked at to do something in a shop of a size.
fn cost(count: usize, act: impl Fn(&Registry)) -> u64 {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), count);
    let before = registry.store().revision();
    registry.store().take_visited();
    act(&registry);
    settle(&registry, before);
    registry.store().take_visited()
}

#[test]
fn a_change_costs_the_same_however_many_objects_there_are() {
    let delete = |kind: &str| {
        let resource = Resource::of(if kind == "ReplicaSet" { "apps/v1" } else { "v1" }, kind);
        move |registry: &Registry| {
            let key = Collection::from(&resource).key("shop", "app-7");
            registry.delete(&resource, &key, &DeleteOptions::default()).unwrap();
        }
    };
    let start_pod = |registry: &Registry| {
        let (pods, _) = registry.store().list(&Collection::core("pods"), Some("shop"));
        let pod = pods.iter().find(|pod| object::label(pod, "app") == Some("app-7")).unwrap();
        let key = Collection::core("pods").key("shop", object::name(pod));
        registry.store().take_visited();
        let status = json!({
            "phase": "Running", "podIP": "10.77.0.9",
            "conditions": [{"type": "Ready", "status": "True"}],
        });
        let part = crate::registry::Part::Status;
        registry
            .update(&Resource::of("v1", "Pod"), &key, part, |old| {
                let mut new = old.clone();
                new["status"] = status.clone();
                Ok(new)
            })
            .unwrap();
    };
    let create = |registry: &Registry| {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "new"},
            "spec": {"selector": {"app": "app-7"}, "ports": [{"port": 80}]},
        });
        registry.create(&Resource::of("v1", "Service"), "shop", service).unwrap();
    };
    for (what, few, many) in [
        ("a Service created", cost(10, create), cost(300, create)),
        ("a Service deleted", cost(10, delete("Service")), cost(300, delete("Service"))),
        ("a ReplicaSet deleted", cost(10, delete("ReplicaSet")), cost(300, delete("ReplicaSet"))),
        ("a pod ready", cost(10, start_pod), cost(300, start_pod)),
    ] {
        assert_eq!(few, many, "{what}");
        assert!(few < 60, "{what}: {few}");
    }
}

#[test]
fn what_is_found_by_an_index_is_what_a_walk_finds() {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), 5);
    let store = registry.store();
    let pods = || store.list(&Collection::core("pods"), Some("shop")).0;
    assert_eq!(pods().len(), 5);
    // A pod that is relabelled is another Service's, and its ReplicaSet makes a new one.
    let key = Collection::core("pods").key("shop", object::name(&pods()[0]));
    let before = store.revision();
    let relabel = |old: &Object| {
        let mut new = old.clone();
        new["metadata"]["labels"]["app"] = "app-4".into();
        Ok(new)
    };
    let part = crate::registry::Part::Main;
    registry.update(&Resource::of("v1", "Pod"), &key, part, relabel).unwrap();
    settle(&registry, before);
    assert_eq!(pods().len(), 6);
    for number in 0..5 {
        let app = format!("app-{number}");
        let labels = json!({"labels": {"app": app}});
        let found = store.pods_with("shop", ObjectMeta::of(&labels).labels());
        let mut names: Vec<_> = found.iter().map(|pod| object::name(pod).to_owned()).collect();
        names.sort();
        let walked = pods();
        let walked = walked.iter().filter(|pod| object::label(pod, "app") == Some(&app));
        assert_eq!(names, walked.map(|pod| object::name(pod).to_owned()).collect::<Vec<_>>());
        assert_eq!(store.services_for("shop", ObjectMeta::of(&labels).labels()).len(), 1);
    }
    let labels = json!({"labels": {"app": "app-1"}});
    assert!(store.pods_with("other", ObjectMeta::of(&labels).labels()).is_empty());
}
