//! What Istio's chart `gateway` makes: a gateway of its own, which the mesh gives its proxy as it does
//! to any pod that asks for the injection template `gateway`.

use ironmesh_dialects::install::overlay;
use serde_json::{Map, Value, json};

/// A release of the chart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release<'a> {
    /// Its name.
    pub(crate) name: &'a str,
    pub(crate) namespace: &'a str,
    /// Of the chart; empty if nobody says it.
    pub(crate) version: &'a str,
}

/// The objects of a release with these values, and the values that change nothing.
///
/// # Errors
///
/// What is wrong with a value.
pub(crate) fn gateway(
    of: Release<'_>,
    values: &Value,
) -> Result<(Vec<Value>, Vec<String>), &'static str> {
    let mut all = defaults();
    let mut given = if values.is_object() { values.clone() } else { json!({}) };
    // Settings for all charts count here, too.
    if let Some(fields) = given.as_object_mut() {
        let global = fields.remove("global").filter(Value::is_object).unwrap_or_default();
        let known = |(name, _): &(String, Value)| all.get(name).is_some();
        let global = global.as_object().cloned().unwrap_or_default().into_iter();
        for (name, value) in global.filter(known).collect::<Vec<_>>() {
            fields.entry(name).or_insert(value);
        }
    }
    let ignored = ignored(&given, &all);
    overlay(&mut all, given);
    let chart = Chart { of, values: &all };
    chart.check()?;
    let objects = [
        chart.account(),
        chart.role(),
        chart.role_binding(),
        chart.service(),
        Some(chart.workload()),
        chart.autoscaler(),
    ];
    Ok((objects.into_iter().flatten().collect(), ignored))
}

/// The values that the chart does not have, and those that change nothing here.
fn ignored(given: &Value, known: &Value) -> Vec<String> {
    let given = given.as_object().into_iter().flatten();
    let is_ignored = |name: &str, value: &Value| match name {
        // Which of Istio's profiles and platforms is meant: none changes the gateway.
        "profile" | "platform" | "compatibilityVersion" => true,
        "podDisruptionBudget" => !is_empty(value),
        name => known.get(name).is_none(),
    };
    let given = given.filter(|(name, value)| is_ignored(name, value));
    given.map(|(name, _)| name.clone()).collect()
}

/// A value that says nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The chart with its values.
struct Chart<'a> {
    of: Release<'a>,
    values: &'a Value,
}

impl Chart<'_> {
    fn check(&self) -> Result<(), &'static str> {
        let ports = &self.values["service"]["ports"];
        if is_empty(ports) && self.network().is_none() && self.has_service() {
            return Err("service.ports must not be empty when networkGateway is not set");
        }
        Ok(())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.values[name].as_str().filter(|text| !text.is_empty())
    }

    /// Name of all its objects.
    fn name(&self) -> &str {
        self.text("name").unwrap_or(self.of.name)
    }

    /// The network to which it is the way.
    fn network(&self) -> Option<&str> {
        self.text("networkGateway")
    }

    fn has_service(&self) -> bool {
        self.values["service"]["type"] != "None"
    }

    fn account_name(&self) -> &str {
        let account = &self.values["serviceAccount"];
        let named = account["name"].as_str().filter(|name| !name.is_empty());
        named.unwrap_or(if account["create"] == true { self.name() } else { "default" })
    }

    /// What its Service and its Deployment find its pods by.
    fn selector(&self) -> Map<String, Value> {
        let labels = &self.values["labels"];
        let name = self.name();
        let or = |label: &str, otherwise: &str| match &labels[label] {
            Value::Null => otherwise.into(),
            own => quoted(own),
        };
        let istio = or("istio", name.strip_prefix("istio-").unwrap_or(name));
        [("app".to_owned(), or("app", name)), ("istio".to_owned(), istio)].into_iter().collect()
    }

    fn labels(&self) -> Map<String, Value> {
        let mut labels = Map::new();
        let mut add = |label: &str, value: &str| {
            labels.insert(label.to_owned(), value.into());
        };
        add("app.kubernetes.io/name", self.name());
        add("app.kubernetes.io/managed-by", "Helm");
        add("app.kubernetes.io/instance", self.of.name);
        add("app.kubernetes.io/part-of", "istio");
        if !self.of.version.is_empty() {
            add("app.kubernetes.io/version", self.of.version);
            add("helm.sh/chart", &format!("gateway-{}", self.of.version));
        }
        labels.extend(self.selector());
        for (label, value) in self.values["labels"].as_object().into_iter().flatten() {
            if !matches!(label.as_str(), "app" | "istio") && !value.is_null() {
                labels.insert(label.clone(), quoted(value));
            }
        }
        labels
    }

    fn object(&self, version: &str, kind: &str, name: &str) -> Value {
        let mut metadata =
            json!({"name": name, "namespace": self.of.namespace, "labels": self.labels()});
        if !is_empty(&self.values["annotations"]) {
            metadata["annotations"] = self.values["annotations"].clone();
        }
        json!({"apiVersion": version, "kind": kind, "metadata": metadata})
    }

    fn account(&self) -> Option<Value> {
        let given = &self.values["serviceAccount"];
        let mut account = self.object("v1", "ServiceAccount", self.account_name());
        if !is_empty(&given["annotations"]) {
            account["metadata"]["annotations"] = given["annotations"].clone();
        }
        (given["create"] == true).then_some(account)
    }

    fn role(&self) -> Option<Value> {
        let mut role = self.object("rbac.authorization.k8s.io/v1", "Role", self.account_name());
        role["rules"] = json!([{
            "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"],
        }]);
        (self.values["rbac"]["enabled"] == true).then_some(role)
    }

    fn role_binding(&self) -> Option<Value> {
        let name = self.account_name();
        let mut binding = self.object("rbac.authorization.k8s.io/v1", "RoleBinding", name);
        binding["roleRef"] =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
        binding["subjects"] =
            json!([{"kind": "ServiceAccount", "name": name, "namespace": self.of.namespace}]);
        (self.values["rbac"]["enabled"] == true).then_some(binding)
    }

    fn service(&self) -> Option<Value> {
        let given = &self.values["service"];
        let mut service = self.object("v1", "Service", self.name());
        for (name, value) in given["annotations"].as_object().into_iter().flatten() {
            if service["metadata"]["annotations"].is_null() {
                service["metadata"]["annotations"] = json!({});
            }
            service["metadata"]["annotations"][name] = value.clone();
        }
        let mut selector = self.selector();
        selector.extend(given["selectorLabels"].as_object().cloned().unwrap_or_default());
        let mut spec = json!({"selector": selector});
        // What else is said of the Service is said in its own words.
        for (field, value) in given.as_object().into_iter().flatten() {
            if !matches!(field.as_str(), "annotations" | "selectorLabels") && !is_empty(value) {
                spec[field] = value.clone();
            }
        }
        if let Some(network) = self.network() {
            service["metadata"]["labels"][NETWORK] = network.into();
            let ports = self.values["networkGatewayPorts"].as_object().into_iter().flatten();
            let ports = ports.map(|(name, port)| {
                json!({"name": name, "port": port["port"], "targetPort": port["targetPort"], "protocol": "TCP"})
            });
            spec["ports"] = ports.collect();
        }
        service["spec"] = spec;
        self.has_service().then_some(service)
    }

    fn workload(&self) -> Value {
        let kind = self.text("kind").unwrap_or("Deployment");
        let mut workload = self.object("apps/v1", kind, self.name());
        let scale = &self.values["autoscaling"];
        let mut spec = json!({
            "selector": {"matchLabels": self.selector()},
            "template": {"metadata": self.pod_metadata(), "spec": self.pod()},
        });
        if kind == "Deployment" {
            // Nothing scales here, so that there are as many as there are to be at least.
            let replicas = match scale["enabled"] == true {
                true => &scale["minReplicas"],
                false => &self.values["replicaCount"],
            };
            if !replicas.is_null() {
                spec["replicas"] = replicas.clone();
            }
        }
        let strategy = if kind == "DaemonSet" { "updateStrategy" } else { "strategy" };
        for (value, field) in [("strategy", strategy), ("minReadySeconds", "minReadySeconds")] {
            if !is_empty(&self.values[value]) {
                spec[field] = self.values[value].clone();
            }
        }
        workload["spec"] = spec;
        workload
    }

    fn pod_metadata(&self) -> Value {
        let mut labels = self.labels();
        labels.insert("sidecar.istio.io/inject".to_owned(), "true".into());
        if let Some(revision) = self.text("revision") {
            labels.insert("istio.io/rev".to_owned(), revision.into());
        }
        if let Some(network) = self.network() {
            labels.insert(NETWORK.to_owned(), network.into());
        }
        json!({"labels": labels, "annotations": self.values["podAnnotations"]})
    }

    fn pod(&self) -> Value {
        let mut spec = json!({"serviceAccountName": self.account_name()});
        for field in POD_FIELDS {
            if !is_empty(&self.values[*field]) {
                spec[*field] = self.values[*field].clone();
            }
        }
        let mut containers = vec![self.container()];
        containers
            .extend(self.values["additionalContainers"].as_array().into_iter().flatten().cloned());
        spec["containers"] = containers.into();
        spec
    }

    fn container(&self) -> Value {
        let mut container = json!({
            "name": "istio-proxy", "image": "auto",
            "ports": [{"name": "http-envoy-prom", "containerPort": 15090, "protocol": "TCP"}],
        });
        for (value, field) in CONTAINER_FIELDS {
            if !is_empty(&self.values[*value]) {
                container[*field] = self.values[*value].clone();
            }
        }
        let set = self.values["env"].as_object().into_iter().flatten();
        let set = set.map(|(name, value)| json!({"name": name, "value": quoted(value)}));
        let taken = self.values["envVarFrom"].as_array().into_iter().flatten().cloned();
        let environment: Vec<Value> = set.chain(taken).collect();
        if !environment.is_empty() {
            container["env"] = environment.into();
        }
        container
    }

    fn autoscaler(&self) -> Option<Value> {
        let given = &self.values["autoscaling"];
        let kind = self.text("kind").unwrap_or("Deployment");
        let mut scaler = self.object("autoscaling/v2", "HorizontalPodAutoscaler", self.name());
        let metric = |resource: &str, of: &str| {
            let target = &given[of];
            target.is_number().then(|| {
                json!({"type": "Resource", "resource": {
                    "name": resource, "target": {"averageUtilization": target, "type": "Utilization"},
                }})
            })
        };
        let metrics = [
            metric("cpu", "targetCPUUtilizationPercentage"),
            metric("memory", "targetMemoryUtilizationPercentage"),
        ];
        scaler["spec"] = json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": self.name()},
            "minReplicas": given["minReplicas"], "maxReplicas": given["maxReplicas"],
            "metrics": metrics.into_iter().flatten().collect::<Vec<_>>(),
        });
        (given["enabled"] == true && kind == "Deployment").then_some(scaler)
    }
}

/// A value as the text that Helm's `quote` makes of it.
fn quoted(value: &Value) -> Value {
    match value {
        Value::String(_) => value.clone(),
        other => other.to_string().into(),
    }
}

/// The values that the chart has by itself.
fn defaults() -> Value {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP", "targetPort": port});
    let way = |port: u16| json!({"port": port, "targetPort": port});
    json!({
        "name": "", "revision": "", "replicaCount": null, "kind": "Deployment",
        "rbac": {"enabled": true},
        "serviceAccount": {"create": true, "annotations": {}, "name": ""},
        "podAnnotations": {
            "prometheus.io/port": "15020", "prometheus.io/scrape": "true",
            "prometheus.io/path": "/stats/prometheus",
            "inject.istio.io/templates": "gateway", "sidecar.istio.io/inject": "true",
        },
        "securityContext": {}, "containerSecurityContext": {},
        "service": {
            "type": "LoadBalancer",
            "ports": [port("status-port", 15021), port("http2", 80), port("https", 443)],
        },
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "2000m", "memory": "1024Mi"},
        },
        "autoscaling": {
            "enabled": true, "minReplicas": 1, "maxReplicas": 5,
            "targetCPUUtilizationPercentage": 80,
        },
        "env": {}, "envVarFrom": [], "strategy": {}, "minReadySeconds": null, "readinessProbe": {},
        "labels": {"istio.io/dataplane-mode": "none"},
        "annotations": {}, "nodeSelector": {}, "tolerations": [], "topologySpreadConstraints": [],
        "affinity": {}, "networkGateway": "",
        "networkGatewayPorts": {
            "status-port": way(15021), "tls": way(15443), "tls-istiod": way(15012),
            "tls-webhook": way(15017),
        },
        "imagePullPolicy": "", "imagePullSecrets": [], "podDisruptionBudget": {}, "dnsPolicy": "",
        "dnsConfig": {}, "terminationGracePeriodSeconds": 30, "volumes": [], "volumeMounts": [],
        "initContainers": [], "additionalContainers": [], "priorityClassName": "", "lifecycle": {},
    })
}

/// The label that names a network.
const NETWORK: &str = "topology.istio.io/network";

/// Values that are fields of the pods.
const POD_FIELDS: &[&str] = &[
    "imagePullSecrets",
    "securityContext",
    "volumes",
    "initContainers",
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "dnsPolicy",
    "dnsConfig",
    "terminationGracePeriodSeconds",
    "priorityClassName",
];

/// Values that are fields of the container, and these.
const CONTAINER_FIELDS: &[(&str, &str)] = &[
    ("imagePullPolicy", "imagePullPolicy"),
    ("containerSecurityContext", "securityContext"),
    ("resources", "resources"),
    ("volumeMounts", "volumeMounts"),
    ("readinessProbe", "readinessProbe"),
    ("lifecycle", "lifecycle"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, values: Value) -> (Vec<Value>, Vec<String>) {
        let of = Release { name, namespace: "edge", version: "1.24.0" };
        gateway(of, &values).unwrap()
    }

    fn of_kind<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
        objects.iter().find(|object| object["kind"] == kind).unwrap_or(&Value::Null)
    }

    #[test]
    fn a_release_is_a_gateway_of_its_name() {
        let (objects, ignored) = made("istio-ingress", json!({}));
        assert_eq!(ignored, [""; 0]);
        let kinds: Vec<&str> =
            objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        let expected = [
            "ServiceAccount",
            "Role",
            "RoleBinding",
            "Service",
            "Deployment",
            "HorizontalPodAutoscaler",
        ];
        assert_eq!(kinds, expected);
        for object in &objects {
            assert_eq!(object["metadata"]["name"], "istio-ingress", "{object}");
            assert_eq!(object["metadata"]["namespace"], "edge", "{object}");
            assert_eq!(object["metadata"]["labels"]["helm.sh/chart"], "gateway-1.24.0");
        }
        let selector = json!({"app": "istio-ingress", "istio": "ingress"});
        let service = &of_kind(&objects, "Service")["spec"];
        assert_eq!((&service["selector"], &service["type"]), (&selector, &json!("LoadBalancer")));
        assert_eq!(service["ports"][1]["port"], 80);
        let deployment = &of_kind(&objects, "Deployment")["spec"];
        assert_eq!(deployment["selector"]["matchLabels"], selector);
        assert_eq!(deployment["replicas"], 1);
        let template = &deployment["template"];
        assert_eq!(template["metadata"]["labels"]["sidecar.istio.io/inject"], "true");
        assert_eq!(template["metadata"]["annotations"]["inject.istio.io/templates"], "gateway");
        assert_eq!(template["spec"]["containers"][0]["image"], "auto");
        assert_eq!(template["spec"]["serviceAccountName"], "istio-ingress");
    }

    #[test]
    fn values_change_it_as_the_chart_has_it() {
        let (objects, ignored) = made(
            "edge",
            json!({
                "name": "front", "replicaCount": 3, "autoscaling": {"enabled": false},
                "labels": {"istio": "front", "team": 7}, "annotations": {"a": "b"},
                "service": {
                    "type": "NodePort", "annotations": {"c": "d"}, "externalTrafficPolicy": "Local",
                    "ports": [{"name": "http", "port": 8080, "targetPort": 80, "nodePort": 30080}],
                },
                "serviceAccount": {"create": false}, "rbac": {"enabled": false},
                "env": {"A": 1}, "podAnnotations": {"e": "f"}, "resources": null,
                "revision": "canary", "nosuch": 1, "profile": "minimal",
                "global": {"imagePullPolicy": "Always"},
            }),
        );
        assert_eq!(ignored, ["nosuch", "profile"]);
        let kinds: Vec<&str> =
            objects.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["Service", "Deployment"]);
        let service = of_kind(&objects, "Service");
        assert_eq!(service["metadata"]["annotations"], json!({"a": "b", "c": "d"}));
        assert_eq!(service["spec"]["ports"][0]["nodePort"], 30080);
        assert_eq!(service["spec"]["externalTrafficPolicy"], "Local");
        assert_eq!(service["spec"]["selector"], json!({"app": "front", "istio": "front"}));
        assert!(service["spec"].get("annotations").is_none());
        let spec = &of_kind(&objects, "Deployment")["spec"];
        assert_eq!(spec["replicas"], 3);
        let labels = &spec["template"]["metadata"]["labels"];
        assert_eq!((&labels["team"], &labels["istio.io/rev"]), (&json!("7"), &json!("canary")));
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], "default");
        let container = &pod["containers"][0];
        assert_eq!(container["env"], json!([{"name": "A", "value": "1"}]));
        assert_eq!(container["imagePullPolicy"], "Always");
        assert!(container.get("resources").is_none());
        let (objects, _) = made("edge", json!({"service": {"type": "None"}, "kind": "DaemonSet"}));
        assert_eq!(*of_kind(&objects, "Service"), Value::Null);
        assert!(of_kind(&objects, "DaemonSet")["spec"].get("replicas").is_none());
        let (objects, _) = made("edge", json!({"networkGateway": "network1"}));
        assert_eq!(of_kind(&objects, "Service")["spec"]["ports"][1]["port"], 15443);
    }

    /// Values of other types than the chart means: nothing is lost but what they are about.
    #[test]
    fn hostile_values_are_refused_or_change_nothing_else() {
        let of = Release { name: "edge", namespace: "edge", version: "" };
        for hostile in [json!(null), json!(1), json!("x"), json!([1]), json!({"a": {"b": []}})] {
            for name in defaults().as_object().unwrap().keys().chain([&"global".to_owned()]) {
                let mut values = json!({});
                values[name] = hostile.clone();
                if let Ok((objects, _)) = gateway(of, &values) {
                    assert!(objects.iter().any(|object| object["apiVersion"] == "apps/v1"));
                }
            }
            let _ = gateway(of, &hostile);
        }
        assert!(gateway(of, &json!({"service": {"ports": []}})).is_err());
    }
}
