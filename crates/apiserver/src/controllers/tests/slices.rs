//! EndpointSlices.

use std::sync::Arc;

use super::*;
use crate::registry::Part;

fn slices(registry: &Registry) -> Vec<Arc<Object>> {
    registry.store().list(&Collection::new("discovery.k8s.io", "endpointslices"), Some("shop")).0
}

/// The slices of a Service.
fn of(registry: &Registry, service: &str) -> Vec<Arc<Object>> {
    let mut all = slices(registry);
    all.retain(|slice| object::label(slice, "kubernetes.io/service-name") == Some(service));
    all
}

fn create(registry: &Registry, api_version: &str, kind: &str, mut object: Object) {
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    registry.create(&Resource::of(api_version, kind), "shop", object).unwrap();
}

/// Changes an object.
fn edit(registry: &Registry, kind: &str, plural: &str, name: &str, change: impl Fn(&mut Object)) {
    let key = Collection::core(plural).key("shop", name);
    registry
        .update(&Resource::of("v1", kind), &key, Part::Main, |old| {
            let mut new = old.clone();
            change(&mut new);
            Ok(new)
        })
        .unwrap();
}

/// Acts, and reconciles what it changed.
fn then(registry: &Registry, act: impl FnOnce()) {
    let before = registry.store().revision();
    act();
    settle(registry, before);
    // What may wait has waited long enough.
    reconcile(registry, &slices_of_crowd()).unwrap();
}

#[test]
fn a_service_has_slices_as_kubernetes_makes_them() {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), 1);
    let before = crowd(&registry, 1);
    edit(&registry, "Service", "services", "crowd", |service| {
        service["metadata"]["labels"] = json!({"team": "x"});
    });
    settle(&registry, before);
    let all = of(&registry, "crowd");
    let [slice] = &all[..] else { panic!("{all:?}") };
    let name = object::name(slice);
    assert!(name.starts_with("crowd-") && name.len() == "crowd-".len() + 5, "{name}");
    let labels = json!({
        "team": "x", "kubernetes.io/service-name": "crowd",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    assert_eq!(slice["metadata"]["labels"], labels);
    let owner = &slice["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["controller"]), (&json!("Service"), &json!(true)));
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(slice["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    let pod = Collection::core("pods").key("shop", "crowd-0000");
    let uid = object::uid(&registry.store().object(&pod).unwrap()).to_owned();
    let target = json!({"kind": "Pod", "name": "crowd-0000", "namespace": "shop", "uid": uid});
    let endpoint = &slice["endpoints"][0];
    assert_eq!((&endpoint["addresses"], &endpoint["targetRef"]), (&json!(["10.1.0.1"]), &target));
    let conditions = json!({"ready": true, "serving": true, "terminating": false});
    assert_eq!(endpoint["conditions"], conditions);

    // A pod that ends is shown until it is gone, and a Service without pods has an empty slice.
    let delete = |pod: &Key| {
        let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
        registry.delete(&Resource::of("v1", "Pod"), pod, &options).unwrap();
    };
    let ends = json!({
        "metadata": {"name": "crowd-ends", "labels": {"app": "crowd"}},
        "spec": {"nodeName": "here", "containers": [{"name": "app", "image": "app:1"}]},
    });
    let key = Collection::core("pods").key("shop", "crowd-ends");
    then(&registry, || {
        create(&registry, "v1", "Pod", ends);
        tell(&registry, "crowd-ends", "10.1.9.9", true);
        registry.delete(&Resource::of("v1", "Pod"), &key, &DeleteOptions::default()).unwrap();
    });
    let endpoint = &of(&registry, "crowd")[0]["endpoints"][1];
    assert_eq!(
        (&endpoint["addresses"], &endpoint["nodeName"]),
        (&json!(["10.1.9.9"]), &json!("here"))
    );
    let conditions = json!({"ready": false, "serving": true, "terminating": true});
    assert_eq!(endpoint["conditions"], conditions);
    then(&registry, || delete(&key));
    then(&registry, || delete(&pod));
    let all = of(&registry, "crowd");
    assert_eq!((all.len(), &all[0]["endpoints"], object::name(&all[0])), (1, &json!([]), name));

    // It goes with its Service; one that is taken away is made anew.
    let key = Collection::new("discovery.k8s.io", "endpointslices").key("shop", name);
    let resource = Resource::of("discovery.k8s.io/v1", "EndpointSlice");
    then(&registry, || {
        registry.delete(&resource, &key, &DeleteOptions::default()).unwrap();
    });
    assert_eq!(of(&registry, "crowd").len(), 1);
    then(&registry, || {
        let service = Collection::core("services").key("shop", "crowd");
        let options = DeleteOptions::default();
        registry.delete(&Resource::of("v1", "Service"), &service, &options).unwrap();
    });
    assert!(of(&registry, "crowd").is_empty());
}

#[test]
fn a_change_of_a_pod_rewrites_the_slice_that_has_it_alone() {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), 1);
    let before = crowd(&registry, 250);
    settle(&registry, before);
    reconcile(&registry, &slices_of_crowd()).unwrap();
    let lengths = |registry: &Registry| {
        let all = of(registry, "crowd");
        let mut lengths: Vec<usize> =
            all.iter().map(|slice| object::list(slice, "/endpoints").len()).collect();
        lengths.sort_unstable();
        lengths
    };
    assert_eq!(lengths(&registry), [50, 100, 100]);
    let versions = || -> Vec<String> {
        let all = of(&registry, "crowd").into_iter();
        all.map(|s| object::text(&s, "/metadata/resourceVersion").to_owned()).collect()
    };
    let before = versions();
    then(&registry, || tell(&registry, "crowd-0000", "10.1.0.1", true));
    let after = versions();
    assert_eq!(before.iter().zip(&after).filter(|(a, b)| a != b).count(), 1);
    // Nothing to do: nothing is written.
    reconcile(&registry, &slices_of_crowd()).unwrap();
    assert_eq!(versions(), after);
    // Freed places are taken before there is another slice.
    then(&registry, || {
        for n in 0..60 {
            let pod = Collection::core("pods").key("shop", &format!("crowd-{n:04}"));
            let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
            registry.delete(&Resource::of("v1", "Pod"), &pod, &options).unwrap();
        }
    });
    assert_eq!(lengths(&registry).iter().sum::<usize>(), 190);
    assert!(lengths(&registry).len() <= 3);
}

#[test]
fn slices_and_endpoints_that_users_made_are_left_and_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let registry = shop(directory.path(), 1);
    let before = registry.store().revision();
    let own = json!({
        "metadata": {"name": "mine", "labels": {"kubernetes.io/service-name": "app-0"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.9.9.9"]}],
    });
    create(&registry, "discovery.k8s.io/v1", "EndpointSlice", own);
    let outside = json!({"metadata": {"name": "outside"}, "spec": {"ports": [{"port": 5432}]}});
    create(&registry, "v1", "Service", outside);
    let listed = json!({
        "metadata": {"name": "outside"},
        "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}],
    });
    create(&registry, "v1", "Endpoints", listed);
    settle(&registry, before);
    assert_eq!(of(&registry, "app-0").len(), 2, "the user's own, and the one of the selector");
    let all = of(&registry, "outside");
    let [slice] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        object::label(slice, "endpointslice.kubernetes.io/managed-by"),
        Some("endpointslicemirroring-controller.k8s.io")
    );
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["192.0.2.7"]));
    assert_eq!(slice["ports"], json!([{"port": 5432, "protocol": "TCP", "name": ""}]));
    // A selector comes, and goes again.
    then(&registry, || {
        edit(&registry, "Service", "services", "outside", |service| {
            service["spec"]["selector"] = json!({"app": "none"});
        });
    });
    let all = of(&registry, "outside");
    assert_eq!((all.len(), &all[0]["endpoints"]), (1, &json!([])));
    then(&registry, || {
        edit(&registry, "Service", "services", "outside", |service| {
            service["spec"].as_object_mut().unwrap().shift_remove("selector");
        });
    });
    let named = |slice: &Arc<Object>| object::name(slice) == "mine";
    assert_eq!(slices(&registry).iter().filter(|slice| named(slice)).count(), 1);
    // Who wants no slices of Endpoints says so.
    then(&registry, || {
        edit(&registry, "Endpoints", "endpoints", "outside", |listed| {
            let skip = "endpointslice.kubernetes.io/skip-mirror";
            listed["metadata"]["labels"] = json!({skip: "true"});
        });
    });
    assert!(of(&registry, "outside").is_empty());
}
