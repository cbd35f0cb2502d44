use ironmesh_dialects::kinds::Resource;
use ironmesh_dialects::kubernetes::kinds::ObjectMeta;
use ironmesh_model::limits::ControlLimits;
use serde_json::json;

use super::*;
use crate::object::Object;
use crate::registry::DeleteOptions;
use crate::store::{Collection, Store};

fn endpoints_of_crowd() -> Work {
    let place = CONTROLLERS.iter().position(|controller| controller.of == ("", "services"));
    Work::Reconcile(place.unwrap(), ("shop".into(), "crowd".into()))
}

fn slices_of_crowd() -> Work {
    let place = CONTROLLERS.iter().rposition(|controller| controller.of == ("", "services"));
    Work::Reconcile(place.unwrap(), ("shop".into(), "crowd".into()))
}

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

/// A Service of many running pods, of which the last is ready. Returns the version before them.
fn crowd(registry: &Registry, pods: usize) -> u64 {
    let before = registry.store().revision();
    let create = |kind: &str, object: Object| {
        registry.create(&Resource::of("v1", kind), "shop", object).unwrap();
    };
    create(
        "Service",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "crowd"},
            "spec": {"selector": {"app": "crowd"}, "ports": [{"port": 80}]},
        }),
    );
    for n in 0..pods {
        let name = format!("crowd-{n:04}");
        create(
            "Pod",
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": "crowd"}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            }),
        );
        tell(registry, &name, &format!("10.1.{}.{}", n / 250, n % 250 + 1), n == pods - 1);
    }
    before
}

/// A pod tells of itself.
fn tell(registry: &Registry, name: &str, ip: &str, ready: bool) {
    let ready = if ready { "True" } else { "False" };
    let key = Collection::core("pods").key("shop", name);
    let change = |old: &Object| {
        let mut new = old.clone();
        let conditions = json!([{"type": "Ready", "status": ready}]);
        new["status"] = json!({"phase": "Running", "podIP": ip, "conditions": conditions});
        Ok(new)
    };
    let part = crate::registry::Part::Status;
    registry.update(&Resource::of("v1", "Pod"), &key, part, change).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_endpoints_of_many_pods_are_made_once_for_what_changes_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), 1);
    let before = crowd(&registry, PODS_AT_ONCE + 1);
    settle(&registry, before);
    let mut revision = registry.store().revision();
    let mut queue = Queue::new(registry.limits());
    for n in 0..50 {
        tell(&registry, &format!("crowd-{n:04}"), &format!("10.1.0.{}", n + 1), true);
        for event in registry.store().events_after(revision, usize::MAX).unwrap() {
            revision = event.revision;
            concerns(&registry, &event, &mut queue);
        }
        assert_eq!(queue.next(), None, "they wait for each other");
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    for work in [endpoints_of_crowd(), slices_of_crowd()] {
        assert_eq!(queue.next().as_ref(), Some(&work));
        reconcile(&registry, &work).unwrap();
        queue.done(work, None);
    }
    assert_eq!(queue.next(), None);
    let key = Collection::core("endpoints").key("shop", "crowd");
    let shown = registry.store().object(&key).unwrap();
    assert_eq!(object::list(&shown, "/subsets/0/addresses").len(), 51);
}

/// Pods of a Service whose changes are shown at once.
const PODS_AT_ONCE: usize = 100;

#[test]
fn endpoints_have_no_more_addresses_than_in_kubernetes_and_the_ready_ones() {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), 1);
    let before = crowd(&registry, 1_001);
    settle(&registry, before);
    let key = Collection::core("endpoints").key("shop", "crowd");
    let shown = registry.store().object(&key).unwrap();
    let count = |list: &str| object::list(&shown, &format!("/subsets/0/{list}")).len();
    assert_eq!((count("addresses"), count("notReadyAddresses")), (1, 999));
    let truncated = "endpoints.kubernetes.io/over-capacity";
    assert_eq!(object::annotation(&shown, truncated), Some("truncated"));
    let before = registry.store().revision();
    let pods = Resource::of("v1", "Pod");
    let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    let pod = Collection::core("pods").key("shop", "crowd-0000");
    registry.delete(&pods, &pod, &options).unwrap();
    // What has time is looked at in the end, too.
    settle(&registry, before);
    reconcile(&registry, &endpoints_of_crowd()).unwrap();
    let shown = registry.store().object(&key).unwrap();
    assert_eq!(object::annotation(&shown, truncated), None, "all are shown now");
}

mod slices;
