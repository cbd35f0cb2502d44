//! The API: verbs, refusals, watches, restarts.

use http::Method;
use serde_json::{Value, json};

use crate::world::{World, deployment, eventually, kubelet, service};

#[tokio::test]
async fn built_in_objects_are_there_from_the_start() {
    let world = World::start();
    let api = world.api();
    let names: Vec<_> =
        api.table("/api/v1/namespaces").await.into_iter().map(|r| r[0].clone()).collect();
    assert_eq!(names, ["default", "kube-node-lease", "kube-public", "kube-system"]);
    let gateway = api.get(GATEWAY).await;
    assert_eq!(gateway["status"]["loadBalancer"]["ingress"], json!([{"ip": "127.0.0.1"}]));
    eventually(|| api.try_get("/api/v1/namespaces/default/serviceaccounts/default")).await;
    assert_eq!(api.table("/api/v1/nodes").await[0][..3], ["ironmesh", "Ready", "control-plane"]);
}

#[tokio::test]
async fn refusals_read_as_kubectl_shows_them() {
    let world = World::start();
    let api = world.api();
    let get = |path: &'static str| api.request(Method::GET, path, &[], None);
    let (code, reason, message) = said(get("/apis/apps/v1/namespaces/default/deployments/x").await);
    assert_eq!((code, &*reason, &*message), (404, "NotFound", "deployments.apps \"x\" not found"));
    let (code, _, message) = said(get("/apis/nothing.example/v1/things").await);
    assert_eq!((code, &*message), (404, "the server could not find the requested resource"));
    // kubectl looks for a name in the details, which must be there for that.
    let (_, nothing) = get("/api/v1/namespaces/default/pods/x/ephemeralcontainers").await;
    assert_eq!(nothing["details"]["name"], "", "{nothing}");
    api.create(deployment("x", "x", "v1", 1)).await;
    let (code, reason, message) = said(api.try_create(deployment("x", "x", "v1", 1)).await);
    assert_eq!(
        (code, &*reason, &*message),
        (409, "AlreadyExists", "deployments.apps \"x\" already exists")
    );
    let path = "/apis/apps/v1/namespaces/default/deployments/x";
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "y", "version": "v1"}},
        "template": {"metadata": {"labels": {"app": "y"}}}}});
    let merge = [("content-type", "application/merge-patch+json")];
    let (code, reason, message) =
        said(api.request(Method::PATCH, path, &merge, Some(&selector)).await);
    assert_eq!((code, &*reason), (422, "Invalid"));
    assert!(
        message.starts_with("Deployment.apps \"x\" is invalid: spec.selector: Invalid value"),
        "{message}"
    );
    assert!(message.ends_with("field is immutable"), "{message}");
    let route = json!({
        "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
        "metadata": {"name": "bad"}, "spec": {"hosts": "not a list"},
    });
    let (code, reason, message) = said(api.try_create(route).await);
    assert_eq!((code, &*reason), (422, "Invalid"), "{message}");
}

/// As Kubernetes does: by which keys the lists of a custom resource are merged nobody knows.
#[tokio::test]
async fn custom_resources_take_no_strategic_merge_patch() {
    let world = World::start();
    let api = world.api();
    api.create(deployment("x", "x", "v1", 1)).await;
    api.create(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "x"}, "spec": {"host": "x"},
    }))
    .await;
    api.create(definition("Thing", "Namespaced")).await;
    api.create(json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x"}}))
        .await;
    let patch = json!({"metadata": {"labels": {"a": "b"}}});
    let send = async |path: &str, kind: &str| {
        let kind = format!("application/{kind}+json");
        said(api.request(Method::PATCH, path, &[("content-type", &kind)], Some(&patch)).await)
    };
    for custom in [
        "/apis/networking.istio.io/v1/namespaces/default/destinationrules/x",
        "/apis/example.com/v1/namespaces/default/things/x",
    ] {
        let (code, reason, message) = send(custom, "strategic-merge-patch").await;
        assert_eq!((code, &*reason), (415, "UnsupportedMediaType"), "{custom}");
        let taken = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
        assert!(message.contains(&format!("include: {taken}; found")), "{message}");
        assert_eq!(send(custom, "merge-patch").await.0, 200, "{custom}");
    }
    let native = "/apis/apps/v1/namespaces/default/deployments/x";
    assert_eq!(send(native, "strategic-merge-patch").await.0, 200);
}

/// A definition of a kind of the group `example.com`, with a column of its own.
fn definition(kind: &str, scope: &str) -> Value {
    let plural = format!("{}s", kind.to_ascii_lowercase());
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {
            "group": "example.com", "scope": scope,
            "names": {"kind": kind, "plural": plural, "shortNames": ["th"]},
            "versions": [
                {
                    "name": "v1", "served": true, "storage": true,
                    "additionalPrinterColumns": [{"name": "A", "type": "integer", "jsonPath": ".spec.a"}],
                },
                {"name": "v2", "served": false, "storage": false},
            ],
        },
    })
}

#[tokio::test]
async fn kinds_are_served_from_their_definition_on_and_go_with_it() {
    let world = World::start();
    let api = world.api();
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"a": 1}});
    let things = "/apis/example.com/v1/namespaces/default/things";
    let missing = async |path: &str| api.request(Method::GET, path, &[], None).await.0;
    assert_eq!(api.try_create(thing.clone()).await.0, 404);
    assert_eq!(missing("/apis/example.com/v1").await, 404);
    let defined = api.create(definition("Thing", "Namespaced")).await;
    assert_eq!(defined["status"]["conditions"][1]["type"], "Established");
    let resources = api.get("/apis/example.com/v1").await["resources"].clone();
    assert_eq!(resources[0]["name"], "things");
    assert_eq!(resources[0]["shortNames"], json!(["th"]));
    let groups = api.get("/apis").await["groups"].clone();
    assert!(groups.as_array().unwrap().iter().any(|group| group["name"] == "example.com"));

    api.create(thing.clone()).await;
    let list = api.get(things).await;
    assert_eq!(list["kind"], "ThingList");
    assert_eq!(list["items"][0]["spec"]["a"], 1);
    assert_eq!(api.table(things).await, [["t", "1"]]);
    assert_eq!(missing("/apis/example.com/v2/namespaces/default/things").await, 404);
    let other = json!({"apiVersion": "example.com/v1", "kind": "Other", "metadata": {"name": "o"}});
    assert_eq!(api.request(Method::POST, things, &[], Some(&other)).await.0, 400);
    // It has its own say when it ends; the definition waits for it.
    api.merge(&format!("{things}/t"), json!({"metadata": {"finalizers": ["example.com/hold"]}}))
        .await;

    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.example.com";
    api.delete(path).await;
    eventually(async || {
        let thing = api.try_get(&format!("{things}/t")).await?;
        thing["metadata"].get("deletionTimestamp").cloned()
    })
    .await;
    assert!(api.try_get(path).await.is_some());
    api.merge(&format!("{things}/t"), json!({"metadata": {"finalizers": []}})).await;
    eventually(async || (missing(path).await == 404).then_some(())).await;
    assert_eq!(missing(things).await, 404);
}

#[tokio::test]
async fn kinds_of_the_cluster_are_defined_too() {
    let world = World::start();
    let api = world.api();
    api.create(definition("Thing", "Cluster")).await;
    let thing = json!({"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "t"}});
    let path = "/apis/example.com/v1/things";
    let (status, made) = api.request(Method::POST, path, &[], Some(&thing)).await;
    assert_eq!((status.as_u16(), made["metadata"].get("namespace")), (201, None));
    assert_eq!(api.delete(&format!("{path}/t")).await.0, 200);
}

#[tokio::test]
async fn versions_of_a_kind_are_one_collection() {
    let world = World::start();
    let api = world.api();
    let route = json!({
        "apiVersion": "networking.istio.io/v1alpha3", "kind": "VirtualService",
        "metadata": {"name": "v"},
        "spec": {"hosts": ["a"], "http": [{"route": [{"destination": {"host": "a"}}]}]},
    });
    api.create(route).await;
    for version in ["v1", "v1beta1", "v1alpha3"] {
        let group = format!("networking.istio.io/{version}");
        let path = format!("/apis/{group}/namespaces/default/virtualservices/v");
        assert_eq!(api.get(&path).await["apiVersion"], group);
    }
    let table = api.table("/apis/networking.istio.io/v1/virtualservices").await;
    assert_eq!(table[0][..3], ["v", "", "[\"a\"]"]);
}

#[tokio::test]
async fn a_watch_sees_changes_and_goes_on_after_a_restart() {
    let mut world = World::start();
    let api = world.api();
    let config = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"a": name}}});
    let path = "/api/v1/namespaces/default/configmaps";
    let before = api.get(path).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut all = api.watch(&format!("{path}?watch=1&resourceVersion={before}")).await;
    let mut one = api.watch(&format!("{path}?watch=1&labelSelector=a%3Dy")).await;
    api.create(config("x")).await;
    assert_eq!(all.next_name().await, ("ADDED".to_owned(), "x".to_owned()));
    api.merge(&format!("{path}/x"), json!({"metadata": {"labels": {"a": "y"}}})).await;
    assert_eq!(all.next_name().await, ("MODIFIED".to_owned(), "x".to_owned()));
    assert_eq!(one.next_name().await, ("ADDED".to_owned(), "x".to_owned()));
    api.merge(&format!("{path}/x"), json!({"metadata": {"labels": {"a": "z"}}})).await;
    let left = one.next().await.unwrap();
    assert_eq!(
        (&left["type"], &left["object"]["metadata"]["name"]),
        (&json!("DELETED"), &json!("x"))
    );
    // The object as this watcher last meant it, in the version in which it ceased to.
    assert_eq!(left["object"]["metadata"]["labels"]["a"], "y");
    let now = api.get(&format!("{path}/x")).await["metadata"]["resourceVersion"].clone();
    assert_eq!(left["object"]["metadata"]["resourceVersion"], now);

    world.restart();
    assert!(one.next().await.is_none());
    assert_eq!(api.get(&format!("{path}/x")).await["metadata"]["labels"]["a"], "z");
    let mut resumed = api.watch(&format!("{path}?watch=1&resourceVersion={before}")).await;
    for expected in ["ADDED", "MODIFIED", "MODIFIED"] {
        assert_eq!(resumed.next_name().await, (expected.to_owned(), "x".to_owned()));
    }
    api.delete(&format!("{path}/x")).await;
    assert_eq!(resumed.next_name().await, ("DELETED".to_owned(), "x".to_owned()));
    let mut gone = api.watch(&format!("{path}?watch=1&resourceVersion=999999")).await;
    let event = gone.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(410)));
}

#[tokio::test]
async fn logs_of_a_container_are_read_and_followed() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    api.create(pod).await;
    let path = "/api/v1/namespaces/default/pods/p/log";
    let (status, refused) = api.request(Method::GET, path, &[], None).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["message"],
        "container \"app\" in pod \"p\" is waiting to start: ContainerCreating"
    );
    let directory = world.logs().join("default_p");
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("app.log"), "one\ntwo\nthree\n").unwrap();
    assert_eq!(api.get(path).await, json!("one\ntwo\nthree\n"));
    assert_eq!(api.get(&format!("{path}?tailLines=1")).await, json!("three\n"));
    let mut followed = api.watch(&format!("{path}?follow=true&tailLines=1")).await;
    assert_eq!(followed.next_line().await.unwrap(), "three\n");
    let log = std::fs::OpenOptions::new().append(true).open(directory.join("app.log"));
    std::io::Write::write_all(&mut log.unwrap(), b"more\n").unwrap();
    assert_eq!(followed.next_line().await.unwrap(), "more\n");
    api.delete("/api/v1/namespaces/default/pods/p?gracePeriodSeconds=0").await;
    assert_eq!(followed.next_line().await, None);
}

#[tokio::test]
async fn discovery_lists_what_is_served() {
    let world = World::start();
    let api = world.api();
    let core = api.get("/api/v1").await;
    let pods = core["resources"].as_array().unwrap().iter().find(|r| r["name"] == "pods").unwrap();
    assert_eq!(pods["shortNames"], json!(["po"]));
    assert!(api.get("/apis").await["groups"].as_array().unwrap().len() > 5);
    assert_eq!(api.get("/apis/apps/v1").await["groupVersion"], "apps/v1");
    assert_eq!(api.get("/version").await["major"], "1");
    let asked = json!({"resourceAttributes": {"verb": "list", "resource": "pods"}});
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": asked});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let (status, answer) = api.request(Method::POST, path, &[], Some(&review)).await;
    assert_eq!((status.as_u16(), &answer["status"]["allowed"]), (201, &json!(true)));
}

/// Clients that look for the kinds of a manifest in discovery find those of old ones, too.
#[tokio::test]
async fn groups_that_had_a_kind_before_are_served_as_they_are_asked_for() {
    let world = World::start();
    let api = world.api();
    let groups = api.get("/apis").await["groups"].clone();
    let last = groups.as_array().unwrap().last().unwrap();
    assert_eq!(last["preferredVersion"]["groupVersion"], "extensions/v1beta1");
    assert_eq!(api.get("/apis/extensions").await["name"], "extensions");
    let resources = api.get("/apis/extensions/v1beta1").await["resources"].clone();
    for plural in ["deployments", "deployments/scale", "ingresses"] {
        let found = resources.as_array().unwrap().iter().find(|r| r["name"] == plural);
        assert_eq!(found.map(|found| found.get("categories")), Some(None), "{plural}");
    }
    api.create(deployment("a", "a", "v1", 1)).await;
    for version in ["extensions/v1beta1", "apps/v1beta2", "apps/v1"] {
        let all = format!("/apis/{version}/namespaces/default/deployments");
        assert_eq!(api.get(&format!("{all}/a")).await["apiVersion"], version);
        let listed = api.get(&all).await;
        assert_eq!(
            (&listed["apiVersion"], listed["items"].as_array().unwrap().len()),
            (&json!(version), 1)
        );
    }
}

#[tokio::test]
async fn deleting_a_namespace_takes_its_content_with_it() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})).await;
    let mut app = deployment("a", "a", "v1", 2);
    app["metadata"]["namespace"] = "n".into();
    api.create(app).await;
    let mut svc = service("a", 80);
    svc["metadata"]["namespace"] = "n".into();
    api.create(svc).await;
    eventually(|| async {
        (api.table("/api/v1/namespaces/n/pods").await.len() == 2).then_some(())
    })
    .await;
    let (status, marked) = api.delete("/api/v1/namespaces/n").await;
    assert_eq!((status.as_u16(), &marked["status"]["phase"]), (200, &json!("Terminating")));
    eventually(|| async { api.try_get("/api/v1/namespaces/n").await.is_none().then_some(()) })
        .await;
    for path in [
        "/apis/apps/v1/namespaces/n/replicasets",
        "/api/v1/namespaces/n/pods",
        "/api/v1/namespaces/n/services",
    ] {
        assert_eq!(api.get(path).await["items"], json!([]), "{path}");
    }
}

#[tokio::test]
async fn a_watch_tells_its_version_at_the_end_of_the_first_objects_and_of_all() {
    let world = World::start();
    let api = world.api();
    let path = "/api/v1/namespaces/default/configmaps";
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}})).await;
    let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let mut watch = api.watch(&format!("{path}?{query}")).await;
    assert_eq!(watch.next_name().await, ("ADDED".to_owned(), "x".to_owned()));
    let initial = watch.next().await.unwrap();
    assert_eq!(initial["type"], "BOOKMARK");
    let annotation = &initial["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"];
    assert_eq!(annotation, "true");
    let last = watch.next().await.unwrap();
    assert_eq!((&last["type"], &last["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(last["object"]["metadata"].get("annotations"), None);
    assert_eq!(watch.next().await, None);
    let (status, _) =
        api.request(Method::GET, "/apis/example.com/v1/nothings?watch=1", &[], None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_dry_run_is_answered_and_changes_nothing() {
    let world = World::start();
    let api = world.api();
    let path = "/api/v1/namespaces/default/configmaps";
    let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1"}});
    let all = format!("{path}?dryRun=All");
    let (status, made) = api.request(Method::POST, &all, &[], Some(&config)).await;
    assert_eq!((status.as_u16(), &made["data"]["a"]), (201, &json!("1")));
    assert!(api.try_get(&format!("{path}/x")).await.is_none());
    api.create(config).await;
    let one = format!("{path}/x?dryRun=All");
    let merge = [("content-type", "application/merge-patch+json")];
    let (status, changed) =
        api.request(Method::PATCH, &one, &merge, Some(&json!({"data": {"a": "2"}}))).await;
    assert_eq!((status.as_u16(), &changed["data"]["a"]), (200, &json!("2")));
    assert_eq!(api.delete(&one).await.0, 200);
    let body = json!({"kind": "DeleteOptions", "dryRun": ["All"]});
    let (status, _) = api.request(Method::DELETE, &format!("{path}/x"), &[], Some(&body)).await;
    assert_eq!(status, 200);
    assert_eq!(api.get(&format!("{path}/x")).await["data"]["a"], "1");
    let (status, refused) = api.delete(&format!("{path}/x?dryRun=Some")).await;
    assert_eq!(status, 400, "{refused}");
    assert!(api.try_get(&format!("{path}/x")).await.is_some());
}

#[tokio::test]
async fn versions_that_nobody_has_are_refused() {
    let world = World::start();
    let api = world.api();
    let (status, _) =
        api.request(Method::GET, "/apis/apps/v7/namespaces/default/deployments", &[], None).await;
    assert_eq!(status, 404);
    let mut future = deployment("x", "x", "v1", 1);
    future["apiVersion"] = "apps/v7".into();
    let (status, refused) = api.try_create(future).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["message"],
        "no matches for kind \"Deployment\" in version \"apps/v7\"; its versions are v1, v1beta2, v1beta1"
    );
}

#[tokio::test]
async fn endpoints_follow_the_pods_of_a_service() {
    let world = World::start();
    let api = world.api();
    tokio::spawn(kubelet(api.clone()));
    api.create(service("web", 80)).await;
    api.create(deployment("web", "web", "v1", 2)).await;
    api.create(deployment("broken-web", "web", "broken", 1)).await;
    let path = "/api/v1/namespaces/default/endpoints/web";
    let count = |subset: &Value, list: &str| subset[list].as_array().map_or(0, Vec::len);
    eventually(|| async {
        let subset = api.try_get(path).await?["subsets"][0].clone();
        (count(&subset, "addresses") == 3).then_some(())
    })
    .await;
    let endpoints = api.get(path).await;
    assert_eq!(
        endpoints["subsets"][0]["ports"],
        json!([{"name": "http", "port": 80, "protocol": "TCP"}])
    );
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["targetRef"]["kind"], "Pod");
    assert!(api.table(path).await[0][1].contains(":80,"));
    api.delete(path).await;
    eventually(|| api.try_get(path)).await;
    // Without a selector they are the users', with what they list, but go with the Service as before.
    let label = "endpoints.kubernetes.io/managed-by";
    api.merge("/api/v1/namespaces/default/services/web", json!({"spec": {"selector": null}})).await;
    let left = eventually(|| async {
        let there = api.try_get(path).await?;
        there["metadata"]["labels"].get(label).is_none().then_some(there)
    })
    .await;
    assert_eq!(count(&left["subsets"][0], "addresses"), 3);
    api.delete("/api/v1/namespaces/default/services/web").await;
    eventually(|| async { api.try_get(path).await.is_none().then_some(()) }).await;
}

#[tokio::test]
async fn built_in_objects_that_were_deleted_are_there_after_the_next_start() {
    let mut world = World::start();
    let api = world.api();
    eventually(|| api.try_get(GATEWAY)).await;
    api.delete(GATEWAY).await;
    assert!(api.try_get(GATEWAY).await.is_none());
    world.restart();
    eventually(|| api.try_get(GATEWAY)).await;
}

#[tokio::test]
async fn what_is_not_kubernetes_is_answered_by_the_extension() {
    let world = World::start();
    let api = world.api();
    let (path, body) = ("/ironmesh/echo?x=a%20b", json!({"asked": 1}));
    let (status, answer) = api.request(Method::POST, path, &[], Some(&body)).await;
    assert_eq!((status.as_u16(), &answer["query"], &answer["body"]), (200, &json!("a b"), &body));

    let (status, refused) = api.request(Method::GET, path, &[], None).await;
    assert_eq!((status.as_u16(), &refused["reason"]), (400, &json!("BadRequest")));
    let (status, refused) = api.request(Method::GET, "/ironmesh/else", &[], None).await;
    assert_eq!((status.as_u16(), &refused["reason"]), (404, &json!("NotFound")));
    assert_eq!(api.get("/ironmesh/notices").await, json!([]));
}

/// The Service that the worlds of these tests begin with.
const GATEWAY: &str = "/api/v1/namespaces/kube-system/services/gateway";

#[tokio::test]
async fn unknown_fields_are_refused_warned_of_or_kept_as_asked_for() {
    let world = World::start();
    let api = world.api();
    let mut typo = deployment("x", "x", "v1", 1);
    typo["spec"]["template"]["spec"]["contianers"] = json!([]);
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let strict = format!("{path}?fieldValidation=Strict");
    let (status, refused) = api.request(Method::POST, &strict, &[], Some(&typo)).await;
    assert_eq!(status, 400);
    assert_eq!(
        refused["message"],
        "strict decoding error: unknown field \"spec.template.spec.contianers\""
    );
    let (status, _) =
        api.request(Method::POST, &format!("{path}?fieldValidation=Warn"), &[], Some(&typo)).await;
    assert_eq!(status, 201);
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({"spec": {"replica": 2}});
    let one = format!("{path}/x?fieldValidation=Strict");
    assert_eq!(api.request(Method::PATCH, &one, &merge, Some(&patch)).await.0, 400);
    let warned = format!("{path}/x?fieldValidation=Warn");
    assert_eq!(
        api.warnings(Method::PATCH, &warned, &merge, &patch).await,
        [r#"299 - "unknown field \"spec.replica\"""#]
    );
    // What clients ask before they send an object.
    let index = api.get("/openapi/v3").await;
    let place = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    assert!(api.get(&place).await["paths"].as_object().unwrap().len() > 2);
}

/// Code, reason and message of an answer.
fn said((code, value): (http::StatusCode, Value)) -> (u16, String, String) {
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    (code.as_u16(), text("reason"), text("message"))
}
