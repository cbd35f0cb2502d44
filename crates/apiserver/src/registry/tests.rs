use serde_json::{Value, json};

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
    assert_eq!(replaced["spec"]["ipFamilyPolicy"], "SingleStack");
    assert_eq!(replaced["spec"]["internalTrafficPolicy"], "Cluster");
    assert_eq!(replaced["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(object::number(&replaced, "/spec/ports/0/nodePort"), Some(node_port));
    let twice = service("b", json!({"ports": ports, "clusterIP": address}));
    let refused = registry.create(&services, "default", twice).unwrap_err();
    let why = format!(
        "spec.clusterIPs: Invalid value: [{address:?}]: failed to allocate IP {address}: provided IP is already allocated"
    );
    assert!(refused.message.contains(&why), "{refused}");
    // An address of the mesh itself, of a pod, of nobody: none that is no Service's.
    for stolen in ["10.77.0.1", "10.77.0.9", "192.0.2.1", "127.0.0.1", "10.96.0.0", "10.96.255.255"]
    {
        let service = service("b", json!({"ports": ports, "clusterIP": stolen}));
        let refused = registry.create(&services, "default", service).unwrap_err();
        let why = format!(
            "failed to allocate IP {stolen}: the provided IP ({stolen}) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
        );
        assert!(refused.message.contains(&why), "{refused}");
    }
    // Nor may it change into one.
    let update = |spec: Value| {
        registry.update(&services, &key, Part::Main, |_| Ok(service("a", spec.clone())))
    };
    let moved = json!({"ports": ports, "type": "NodePort", "clusterIP": "10.77.0.1"});
    assert!(update(moved).is_err());
    let listed = json!({"ports": ports, "type": "NodePort", "clusterIP": address, "clusterIPs": ["10.77.0.1"]});
    assert!(update(listed).unwrap_err().message.contains("must match `clusterIP`"));
    let headless = service("c", json!({"ports": ports, "clusterIP": "None"}));
    let made = registry.create(&services, "default", headless).unwrap();
    assert_eq!(object::text(&made, "/spec/clusterIP"), "None");
    assert_eq!(made["spec"]["ipFamilies"], json!(["IPv4"]));
    // What holds of node ports goes with them; what somebody has asked for stays.
    let local = json!({"ports": ports, "type": "NodePort", "externalTrafficPolicy": "Local"});
    assert_eq!(update(local).unwrap()["spec"]["externalTrafficPolicy"], "Local");
    let plain = update(json!({"ports": ports, "externalTrafficPolicy": "Local"})).unwrap();
    assert_eq!(plain["spec"].get("externalTrafficPolicy"), None);
    let outside = json!({"type": "ExternalName", "externalName": "example.com"});
    let made = registry.create(&services, "default", service("d", outside)).unwrap();
    assert_eq!(made["spec"].get("ipFamilies"), None);
}

#[test]
fn wrong_types_are_refused_with_their_path() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let mut labelled = pod("a");
    labelled["metadata"]["labels"] = json!({"version": 1});
    let refused = registry.create(&pods(), "default", labelled).unwrap_err().message;
    assert!(refused.contains("metadata.labels.version: this takes a text, not 1"), "{refused}");
    let with = |container: Value| {
        let mut object = pod("b");
        object["spec"]["containers"] = json!([container]);
        registry.create(&pods(), "default", object).map(drop).map_err(|failure| failure.message)
    };
    let container = |extra: Value| {
        let mut container = json!({"name": "app", "image": "app:1"});
        container.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        container
    };
    let refused = with(container(json!({"env": [{"name": "PORT", "value": 1}]}))).unwrap_err();
    assert!(
        refused.contains("spec.containers[0].env[0].value: this takes a text, not 1"),
        "{refused}"
    );
    let refused = with(container(json!({"image": 1}))).unwrap_err();
    assert_eq!(refused.matches("containers[0].image").count(), 1, "{refused}");
    let refused = with(container(json!({"restartPolicy": "Always"}))).unwrap_err();
    assert!(refused.contains("may not be set for non-init containers"), "{refused}");
    with(container(json!({"resources": {"limits": {"cpu": 0.5}}}))).unwrap();
}

#[test]
fn fields_written_as_not_set_get_their_defaults() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let probe = json!({
        "httpGet": {"port": 80, "scheme": "", "path": ""},
        "timeoutSeconds": 0, "periodSeconds": 0, "successThreshold": 0, "failureThreshold": 0,
    });
    let spec = json!({
        "restartPolicy": "", "dnsPolicy": "", "nodeSelector": {"disk": null},
        "containers": [{
            "name": "app", "image": "app:1", "imagePullPolicy": "",
            "ports": [{"containerPort": 80, "protocol": ""}],
            "livenessProbe": probe,
            "lifecycle": {"preStop": {"httpGet": {"port": 80, "scheme": ""}}},
            "resources": {"limits": {"cpu": null}, "requests": {"cpu": "1", "memory": null}},
        }],
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {
            "strategy": {"type": ""},
            "selector": {"matchLabels": {"app": null}},
            "template": {"metadata": {"labels": {"app": null}}, "spec": spec},
        },
    });
    let made = registry.create(&Resource::of("apps/v1", "Deployment"), "default", deployment);
    let made = made.unwrap();
    assert_eq!(object::text(&made, "/spec/strategy/type"), "RollingUpdate");
    let made = &made["spec"]["template"]["spec"];
    assert_eq!(made["restartPolicy"], "Always");
    assert_eq!(made["dnsPolicy"], "ClusterFirst");
    let container = &made["containers"][0];
    assert_eq!(container["imagePullPolicy"], "IfNotPresent");
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["resources"], json!({"limits": {}, "requests": {"cpu": "1"}}));
    assert_eq!(
        container["livenessProbe"],
        json!({
            "httpGet": {"port": 80, "scheme": "HTTP", "path": "/"},
            "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
        })
    );

    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"type": "", "sessionAffinity": "", "ports": [{"port": 80, "protocol": ""}]},
    });
    let made = registry.create(&Resource::of("v1", "Service"), "default", service).unwrap();
    assert_eq!(object::text(&made, "/spec/type"), "ClusterIP");
    assert_eq!(object::text(&made, "/spec/sessionAffinity"), "None");
    assert_eq!(object::text(&made, "/spec/ports/0/protocol"), "TCP");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"},
        "stringData": {"empty": null},
    });
    let made = registry.create(&Resource::of("v1", "Secret"), "default", secret).unwrap();
    assert_eq!(made["data"], json!({"empty": ""}));
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"},
        "binaryData": {"empty": null},
    });
    registry.create(&Resource::of("v1", "ConfigMap"), "default", map).unwrap();
}

#[test]
fn a_pod_needs_the_service_account_that_it_names() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let mut named = pod("a");
    named["spec"]["serviceAccountName"] = "shop".into();
    let refused = registry.create(&pods(), "default", named.clone()).unwrap_err();
    assert_eq!(refused.code, 403);
    assert_eq!(
        refused.message,
        "pods \"a\" is forbidden: error looking up service account default/shop: serviceaccount \"shop\" not found"
    );
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "shop"}});
    registry.create(&Resource::of("v1", "ServiceAccount"), "default", account).unwrap();
    registry.create(&pods(), "default", named).unwrap();
}

#[test]
fn a_pod_that_names_no_secrets_for_its_images_has_those_of_its_account() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let accounts = Resource::of("v1", "ServiceAccount");
    let account = |name: &str, secrets: Value| {
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name},
            "imagePullSecrets": secrets,
        })
    };
    for (name, secrets) in [("shop", json!([{"name": "pull"}])), ("bare", json!([]))] {
        registry.create(&accounts, "default", account(name, secrets)).unwrap();
    }
    let secrets_of = |name: &str, account: &str, own: Value| {
        let mut pod = pod(name);
        pod["spec"]["serviceAccountName"] = account.into();
        pod["spec"]["imagePullSecrets"] = own;
        registry.create(&pods(), "default", pod).unwrap()["spec"]["imagePullSecrets"].clone()
    };
    assert_eq!(secrets_of("a", "shop", Value::Null), json!([{"name": "pull"}]));
    assert_eq!(secrets_of("b", "shop", json!([{"name": "own"}])), json!([{"name": "own"}]));
    assert_eq!(secrets_of("c", "bare", json!([])), json!([]));
}

#[test]
fn node_ports_are_in_their_range_given_once_and_go_with_the_type() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let services = Resource::of("v1", "Service");
    let service = |name: &str, kind: &str, port: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": kind, "ports": [port]}});
    let refusal = |name: &str, kind: &str, node_port: u32| {
        let object = service(name, kind, json!({"port": 80, "nodePort": node_port}));
        registry.create(&services, "default", object).unwrap_err().message
    };
    registry
        .create(
            &services,
            "default",
            service("a", "NodePort", json!({"port": 80, "nodePort": 30_080})),
        )
        .unwrap();
    assert!(refusal("b", "NodePort", 30_080).contains("provided port is already allocated"));
    assert!(refusal("b", "NodePort", 80).contains("not in the valid range"));
    assert!(
        refusal("b", "ClusterIP", 30_081).contains("may not be used when `type` is 'ClusterIP'")
    );
    let key = Collection::core("services").key("default", "a");
    let changed = registry.update(&services, &key, Part::Main, |old| {
        let mut new = old.clone();
        new["spec"]["type"] = "ClusterIP".into();
        Ok(new)
    });
    assert_eq!(changed.unwrap().pointer("/spec/ports/0/nodePort"), None);
}

#[test]
fn some_namespaces_stay_and_a_dry_run_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let namespaces = Resource::of("v1", "Namespace");
    let key = Collection::core("namespaces").key("", "default");
    let refused = registry.delete(&namespaces, &key, &DeleteOptions::default()).unwrap_err();
    assert_eq!(
        refused.message,
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
    let would = registry.would_create(&pods(), "default", pod("a")).unwrap();
    assert_eq!(object::text(&would, "/status/phase"), "Pending");
    assert!(registry.store().object(&pod_key("a")).is_none());
    registry.create(&pods(), "default", pod("a")).unwrap();
    assert_eq!(registry.would_create(&pods(), "default", pod("a")).unwrap_err().code, 409);
    let revision = registry.store().revision();
    let try_only = DeleteOptions { dry_run: true, ..DeleteOptions::default() };
    registry.delete(&pods(), &pod_key("a"), &try_only).unwrap();
    assert_eq!(registry.store().revision(), revision);
}

/// The JSON pointers of all parts of a value.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// Objects with many fields, of the kinds that the control plane looks into.
fn rich_objects() -> Vec<(&'static str, &'static str, Value)> {
    let labels = json!({"app": "a"});
    let spec = json!({
        "serviceAccountName": "default", "terminationGracePeriodSeconds": 3,
        "initContainers": [{"name": "i", "image": "i", "restartPolicy": "Always"}],
        "containers": [{
            "name": "c", "image": "c", "command": ["a"], "ports": [{"name": "p", "containerPort": 1}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "resources": {"limits": {"cpu": 1}}, "securityContext": {"runAsUser": 1},
            "readinessProbe": {"httpGet": {"port": "p"}}, "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        }],
        "volumes": [{"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}]}}],
    });
    let workload = json!({
        "replicas": 1, "selector": {"matchLabels": labels, "matchExpressions": [{"key": "app", "operator": "In", "values": ["a"]}]},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
        "template": {"metadata": {"labels": labels, "annotations": {"a": "b"}}, "spec": spec},
    });
    let route = json!({"hosts": ["a"], "http": [{"match": [{"uri": {"prefix": "/"}}], "route": [{"destination": {"host": "a"}, "weight": 1}]}]});
    let service = json!({"type": "NodePort", "selector": labels, "ports": [{"port": 80, "nodePort": 30_001, "targetPort": "p"}]});
    let subsets = json!([{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 1}]}]);
    let part = |name: &str, value: Value| json!({name: value});
    vec![
        ("v1", "Pod", part("spec", spec)),
        ("apps/v1", "Deployment", part("spec", workload.clone())),
        ("extensions/v1beta1", "Deployment", part("spec", workload.clone())),
        ("apps/v1", "ReplicaSet", part("spec", workload.clone())),
        ("apps/v1", "StatefulSet", part("spec", workload)),
        ("v1", "Service", part("spec", service)),
        ("v1", "Endpoints", part("subsets", subsets)),
        ("v1", "Secret", json!({"data": {"a": "aGVsbG8="}, "stringData": {"b": "c"}})),
        ("v1", "ConfigMap", json!({"data": {"a": "b"}, "binaryData": {"b": "aGVsbG8="}})),
        ("v1", "Namespace", part("spec", json!({"finalizers": ["kubernetes"]}))),
        ("networking.istio.io/v1", "VirtualService", part("spec", route)),
    ]
}

#[test]
fn a_part_of_another_type_is_refused_or_harmless_and_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    for (api_version, kind, mut object) in rich_objects() {
        object["apiVersion"] = api_version.into();
        object["kind"] = kind.into();
        object["metadata"] =
            json!({"name": "x", "labels": {"app": "a"}, "annotations": {"a": "b"}});
        let resource = Resource::of(api_version, kind);
        let namespace = if resource.namespaced { "default" } else { "" };
        if kind != "ReplicaSet" {
            registry.would_create(&resource, namespace, object.clone()).unwrap();
        }
        let mut places = Vec::new();
        pointers(&object, "", &mut places);
        let others = [
            json!(null),
            json!(true),
            json!(-7),
            json!("x"),
            json!([]),
            json!([1]),
            json!({}),
            json!({"x": 1}),
        ];
        for place in &places {
            for other in &others {
                let mut changed = object.clone();
                *changed.pointer_mut(place).unwrap() = other.clone();
                // It must not panic, whatever it says.
                let taken = registry.would_create(&resource, namespace, changed);
                let is_typed = !matches!(kind, "StatefulSet" | "Namespace");
                if let (Ok(taken), true, true) = (taken, is_typed, *other == json!("x")) {
                    let now = taken.pointer(place);
                    assert!(
                        now.is_none_or(|now| !now.is_object()),
                        "{kind} {place} was replaced by {now:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_name_may_be_as_long_as_kubernetes_lets_it_be() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let map =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let maps = Resource::of("v1", "ConfigMap");
    for length in [63, 64, 253] {
        registry.create(&maps, "default", map(&"a".repeat(length))).unwrap();
    }
    for name in ["a".repeat(254), "a..b".to_owned(), "a.".to_owned(), "-".repeat(3)] {
        let refused = registry.create(&maps, "default", map(&name)).unwrap_err();
        assert_eq!(refused.code, 422, "{name}");
    }
    // Names of Services are names in DNS.
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a".repeat(64)},
        "spec": {"ports": [{"port": 80}]},
    });
    let services = Resource::of("v1", "Service");
    assert_eq!(registry.create(&services, "default", service).unwrap_err().code, 422);
}

#[test]
fn what_was_made_immutable_stays_so() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let maps = Resource::of("v1", "ConfigMap");
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "fixed"},
        "immutable": true, "data": {"a": "b"},
    });
    registry.create(&maps, "default", map).unwrap();
    let key = Collection::core("configmaps").key("default", "fixed");
    for (field, value) in [
        ("immutable", json!(false)),
        ("immutable", Value::Null),
        ("data", json!({"a": "c"})),
        ("binaryData", json!({"b": "AAAA"})),
    ] {
        let refused = registry
            .update(&maps, &key, Part::Main, |old| {
                let mut new = old.clone();
                new[field] = value.clone();
                Ok(new)
            })
            .unwrap_err();
        let expected = "Forbidden: field is immutable when `immutable` is set";
        let expected = format!("{field}: {expected}");
        assert!(refused.message.ends_with(&expected), "{}", refused.message);
    }
    let labelled = registry.update(&maps, &key, Part::Main, |old| {
        let mut new = old.clone();
        new["metadata"]["labels"] = json!({"a": "b"});
        Ok(new)
    });
    assert!(labelled.is_ok());
}

#[test]
fn a_node_port_serves_one_port_of_each_protocol() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let services = Resource::of("v1", "Service");
    let service = |name: &str, ports: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "ports": ports},
        })
    };
    let dns = json!([
        {"name": "tcp", "port": 53, "nodePort": 30053},
        {"name": "udp", "port": 53, "protocol": "UDP", "nodePort": 30053},
    ]);
    registry.create(&services, "default", service("dns", dns.clone())).unwrap();
    let refused = registry.create(&services, "default", service("other", dns)).unwrap_err();
    assert_eq!(refused.message.matches("already allocated").count(), 2, "{}", refused.message);
    // Sent again without them, each port keeps its own.
    let key = Collection::core("services").key("default", "dns");
    let kept = registry.update(&services, &key, Part::Main, |old| {
        let mut new = old.clone();
        new["spec"]["ports"] = json!([
            {"name": "udp", "port": 53, "protocol": "UDP"},
            {"name": "tcp", "port": 53, "nodePort": 30054},
        ]);
        Ok(new)
    });
    let kept = kept.unwrap();
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], 30053);
    assert_eq!(kept["spec"]["ports"][1]["nodePort"], 30054);
}

#[test]
fn what_is_being_deleted_gets_no_more_finalizers() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let mut held = pod("held");
    held["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    registry.create(&pods(), "default", held).unwrap();
    let now = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
    registry.delete(&pods(), &pod_key("held"), &now).unwrap();
    let finalizers = |list: Value| {
        registry.update(&pods(), &pod_key("held"), Part::Main, |old| {
            let mut new = old.clone();
            new["metadata"]["finalizers"] = list.clone();
            Ok(new)
        })
    };
    let refused = finalizers(json!(["example.com/a", "example.com/c"])).unwrap_err();
    let expected = "metadata.finalizers: Forbidden: no new";
    assert!(refused.message.contains(expected), "{}", refused.message);
    finalizers(json!(["example.com/b"])).unwrap();
    finalizers(json!([])).unwrap();
    assert_eq!(registry.object(&pods(), &pod_key("held")).unwrap_err().code, 404);
}

/// No cluster has the mesh's own namespace from the start, and texts create it.
#[test]
fn a_namespace_that_the_mesh_made_can_be_created_once() {
    let directory = tempfile::tempdir().unwrap();
    let registry = registry(&directory);
    let namespaces = Resource::of("v1", "Namespace");
    let namespace =
        |metadata: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    let own = json!({"name": "mesh", "annotations": {MADE_BY_MESH: "true"}, "labels": {"a": "1"}});
    let made = registry.create(&namespaces, "", namespace(own)).unwrap();
    let wrong = namespace(json!({"name": "mesh", "labels": "x"}));
    assert!(registry.create(&namespaces, "", wrong).is_err());
    let given = namespace(json!({"name": "mesh", "labels": {"b": "2"}}));
    let shown = registry.would_create(&namespaces, "", given.clone()).unwrap();
    let created = registry.create(&namespaces, "", given.clone()).unwrap();
    for adopted in [&shown, &created] {
        let labels = json!({"a": "1", "b": "2", "kubernetes.io/metadata.name": "mesh"});
        assert_eq!(adopted["metadata"]["labels"], labels);
        assert!(adopted["metadata"]["annotations"].get(MADE_BY_MESH).is_none());
        assert_eq!(object::uid(adopted), object::uid(&made));
    }
    for name in ["mesh", "default"] {
        let again = registry.create(&namespaces, "", namespace(json!({"name": name}))).unwrap_err();
        assert_eq!(again.message, format!("namespaces {name:?} already exists"));
    }
}
