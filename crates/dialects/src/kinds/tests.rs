use super::*;

#[test]
fn users_words_name_resources() {
    for (word, qualified) in [
        ("po", "pods"),
        ("Pod", "pods"),
        ("svc", "services"),
        ("deploy", "deployments.apps"),
        ("deployments.apps", "deployments.apps"),
        ("deployment.v1.apps", "deployments.apps"),
        ("vs", "virtualservices.networking.istio.io"),
        ("gateway", "gateways.networking.istio.io"),
        ("gateways.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io"),
    ] {
        assert_eq!(Resource::by_word(word).unwrap().qualified(), qualified, "{word}");
    }
    assert_eq!(Resource::by_word("nonsense"), None);
}

#[test]
fn what_means_something_in_a_url_is_escaped_in_paths() {
    let path = |kind: &str, namespace, name| {
        Resource::of("apps/v1", kind).path(Some(namespace), Some(name))
    };
    for (path, expected) in [
        (path("Deployment", "a", "b-c.d"), "/apis/apps/v1/namespaces/a/deployments/b-c.d"),
        (path("Deployment", "a b", "c/d"), "/apis/apps/v1/namespaces/a%20b/deployments/c%2Fd"),
        (path("Deployment", "a", "?x=%"), "/apis/apps/v1/namespaces/a/deployments/%3Fx%3D%25"),
        (path("Deployment", "a", "\u{fc}"), "/apis/apps/v1/namespaces/a/deployments/%C3%BC"),
    ] {
        assert_eq!(path, expected);
    }
}

#[test]
fn versions_that_nobody_has_are_told_apart() {
    for (api_version, kind, taken) in [
        ("apps/v1", "Deployment", true),
        ("extensions/v1beta1", "Deployment", true),
        ("apps/v7", "Deployment", false),
        ("v2", "Pod", false),
        ("events.k8s.io/v1", "Event", true),
        ("example.com/v7", "Own", true),
    ] {
        assert_eq!(Resource::versions_instead(api_version, kind).is_none(), taken, "{kind}");
    }
    assert!(Resource::is_served("extensions", "v1beta1", "deployments"));
    assert!(!Resource::is_served("extensions", "v1", "deployments"));
    assert!(!Resource::is_served("", "v7", "pods"));
}

#[test]
fn objects_name_resources_by_any_version() {
    for (api_version, kind, path) in [
        ("extensions/v1beta1", "Deployment", "/apis/apps/v1/namespaces/n/deployments/x"),
        ("apps/v1beta2", "Deployment", "/apis/apps/v1/namespaces/n/deployments/x"),
        (
            "networking.istio.io/v1alpha3",
            "VirtualService",
            "/apis/networking.istio.io/v1/namespaces/n/virtualservices/x",
        ),
        ("v1", "Namespace", "/api/v1/namespaces/x"),
        ("example.com/v1", "Proxy", "/apis/example.com/v1/namespaces/n/proxies/x"),
        ("extensions/v1beta1", "Ingress", "/apis/networking.k8s.io/v1/namespaces/n/ingresses/x"),
    ] {
        assert_eq!(Resource::of(api_version, kind).path(Some("n"), Some("x")), path);
    }
}

#[test]
fn labels_of_a_namespace_that_contradict_each_other_are_found() {
    let found = |labels: Value| {
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels},
        });
        let findings = crate::validate(&Object::new(object).unwrap());
        findings.into_iter().map(|f| (f.code.code(), f.path)).collect::<Vec<_>>()
    };
    let both = serde_json::json!({"istio-injection": "disabled", "istio.io/rev": "canary"});
    assert_eq!(found(both), [("IM0114", r#"metadata.labels["istio.io/rev"]"#.to_owned())]);
    assert_eq!(found(serde_json::json!({"istio-injection": "enabled"})), []);
    assert_eq!(found(serde_json::json!({"istio.io/rev": "canary"})), []);
}
