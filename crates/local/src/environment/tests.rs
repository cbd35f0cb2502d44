use serde_json::json;

use ironmesh_dialects::schema::parse;

use super::super::object::tests::pod;
use super::*;

struct Fixed;

impl Objects for Fixed {
    fn secret(&self, namespace: &str, name: &str) -> Option<Secret> {
        let data = BTreeMap::from([("user".to_owned(), "YWxpY2U=".to_owned())]);
        let secret = Secret { data, ..Secret::default() };
        ((namespace, name) == ("shop", "login")).then_some(secret)
    }

    fn config_map(&self, namespace: &str, name: &str) -> Option<ConfigMap> {
        let data = [("COLOR", "red"), ("size", "9")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let map = ConfigMap { data: data.into(), ..ConfigMap::default() };
        ((namespace, name) == ("shop", "look")).then_some(map)
    }
}

fn environment_of(container: serde_json::Value) -> Result<BTreeMap<String, String>, BadConfig> {
    let container: Container = parse(&container).unwrap();
    let mut pod = pod(json!({"nodeName": "ironmesh"}));
    pod["metadata"] = json!({"name": "cart-1", "namespace": "shop", "labels": {"app": "cart"}});
    let pod: Pod = parse(&pod).unwrap();
    let service: Service = parse(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-db"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"name": "sql", "port": 3306}]},
    }))
    .unwrap();
    environment(&Sources {
        pod: &pod,
        container: &container,
        ip: "10.77.0.2",
        host_ip: "10.77.0.1",
        services: &[service],
        api: None,
        objects: &Fixed,
        image: &[("FROM_IMAGE", "yes"), ("COLOR", "blue")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        home: "/root",
    })
}

#[test]
fn later_sources_win_and_values_refer_to_earlier_ones() {
    let env = environment_of(json!({
        "envFrom": [{"configMapRef": {"name": "look"}}, {"prefix": "L_", "secretRef": {"name": "login"}}],
        "env": [
            {"name": "URL", "value": "db://$(L_user)@$(MY_DB_SERVICE_HOST):$(MY_DB_SERVICE_PORT_SQL)"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "USER", "valueFrom": {"secretKeyRef": {"name": "login", "key": "user"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y", "optional": true}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        ],
        "resources": {"limits": {"memory": "64Mi"}},
    }))
    .unwrap();
    for (name, value) in [
        ("URL", "db://alice@10.96.0.7:3306"),
        ("IP", "10.77.0.2"),
        ("APP", "cart"),
        ("USER", "alice"),
        ("MEM", "64"),
        ("COLOR", "red"),
        ("FROM_IMAGE", "yes"),
        ("MY_DB_PORT_3306_TCP", "tcp://10.96.0.7:3306"),
        ("HOSTNAME", "cart-1"),
    ] {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("NONE"));
}

#[test]
fn what_is_missing_is_named() {
    for (variable, message) in [
        (json!({"secretKeyRef": {"name": "x", "key": "y"}}), "secret \"x\" not found"),
        (
            json!({"configMapKeyRef": {"name": "look", "key": "y"}}),
            "couldn't find key y in configmap shop/look",
        ),
        (
            json!({"fieldRef": {"fieldPath": "spec.x"}}),
            "field path \"spec.x\" is not one of the downward API",
        ),
    ] {
        let error = environment_of(json!({"env": [{"name": "A", "valueFrom": variable}]}));
        assert_eq!(error.unwrap_err().to_string(), message);
    }
}

#[test]
fn references_expand_as_in_kubernetes() {
    let env = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
    for (text, expected) in [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$$(A)", "$(A)"),
        ("$(B)", "$(B)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("cost: 5$", "cost: 5$"),
    ] {
        assert_eq!(expand(text, &env), expected, "{text}");
    }
}

#[test]
fn requests_are_the_limit_where_there_is_none() {
    let container = |resources: serde_json::Value| -> Container {
        parse(&json!({"name": "c", "resources": resources})).unwrap()
    };
    for (resources, name, divisor, expected) in [
        (json!({}), "requests.cpu", None, "0"),
        (json!({"limits": {"cpu": 1.5}}), "requests.cpu", None, "2"),
        (json!({"limits": {"cpu": 0.5}}), "limits.cpu", Some("1m"), "500"),
        (
            json!({"requests": {"cpu": "250m"}, "limits": {"cpu": 2}}),
            "requests.cpu",
            Some("1m"),
            "250",
        ),
        (json!({"limits": {"memory": "1Gi"}}), "limits.memory", Some("0"), "1073741824"),
    ] {
        let reference = ResourceRef {
            resource: name.to_owned(),
            divisor: divisor.map(Into::into),
            ..ResourceRef::default()
        };
        let value = resource(&reference, &Pod::default(), &container(resources)).unwrap();
        assert_eq!(value, expected, "{name}");
    }
}
