use serde_json::{Value, json};

use super::*;

fn translated(value: Value) -> (Option<IngressPart>, Vec<Finding>) {
    let object = Object::new(value).unwrap();
    let mut findings = Vec::new();
    let part = match ingress(&object, &mut findings) {
        Some(Part::Ingress(part)) => Some(*part),
        _ => None,
    };
    (part, findings)
}

fn given(class: Value, spec: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "i", "namespace": "n", "annotations": class},
        "spec": spec,
    })
}

fn of_istio(spec: Value) -> (Option<IngressPart>, Vec<Finding>) {
    translated(given(json!({"kubernetes.io/ingress.class": "istio"}), spec))
}

/// What each rule matches, as `PATH@AUTHORITY HOST:PORT`.
fn rules(part: &IngressPart) -> Vec<String> {
    let text = |m: &Match| {
        let path = m.path.as_ref().map(|path| match path {
            TextMatch::Exact(text) => format!("={text}"),
            TextMatch::Prefix(text) => format!("{text}..."),
            TextMatch::Regex(text) => format!("~{text}"),
            TextMatch::Present => "present".to_owned(),
        });
        let authority = m.authority.as_ref().map(|_| "@");
        format!("{}{}", path.unwrap_or_default(), authority.unwrap_or_default())
    };
    let rules = part.route.route.rules.iter().map(|rule| {
        let matches: Vec<String> = rule.matches.iter().map(text).collect();
        let to = &rule.action.backends()[0];
        let port = to.port.map(|port| port.to_string());
        let port = port.or_else(|| to.port_name.as_ref().map(ToString::to_string));
        format!("{} {}:{}", matches.join("|"), to.host, port.unwrap_or_default())
    });
    rules.collect()
}

#[test]
fn an_old_ingress_becomes_one_of_today() {
    let backend = json!({"serviceName": "web", "servicePort": 9080});
    let mut old = given(
        json!({"kubernetes.io/ingress.class": "istio"}),
        json!({
            "backend": {"serviceName": "other", "servicePort": "http"},
            "rules": [{"http": {"paths": [
                {"path": "/productpage", "backend": backend},
                {"path": "/api/v1/products/.*", "backend": backend},
            ]}}],
        }),
    );
    old_ingress(&mut old);
    let (part, findings) = translated(old);
    assert_eq!(findings, []);
    let part = part.unwrap();
    assert_eq!(
        rules(&part),
        [
            "=/productpage web.n.svc.cluster.local:9080",
            "/api/v1/products/... web.n.svc.cluster.local:9080",
            " other.n.svc.cluster.local:http",
        ]
    );
    assert_eq!(part.route.hosts, ["*".into()]);
}

#[test]
fn paths_are_tried_exact_ones_first_and_longer_ones_before_shorter() {
    let path = |path: &str, kind: &str| json!({"path": path, "pathType": kind, "backend": {"service": {"name": "s", "port": {"number": 80}}}});
    let paths =
        [path("/", "Prefix"), path("/a/", "Prefix"), path("/a/b", "Prefix"), path("/z", "Exact")];
    let (part, findings) =
        of_istio(json!({"rules": [{"host": "A.com", "http": {"paths": paths}}]}));
    assert_eq!(findings, []);
    let part = part.unwrap();
    let to = "s.n.svc.cluster.local:80";
    assert_eq!(
        rules(&part),
        [
            format!("=/z {to}"),
            format!("=/a/b|/a/b/... {to}"),
            format!("=/a|/a/... {to}"),
            format!("/... {to}"),
        ]
    );
    assert_eq!(part.route.hosts, ["a.com".into()]);
}

#[test]
fn several_hosts_keep_their_rules_apart() {
    let http = |name: &str| json!({"paths": [{"pathType": "Prefix", "path": "/", "backend": {"service": {"name": name, "port": {"number": 80}}}}]});
    let (part, _) = of_istio(json!({
        "rules": [{"host": "a.com", "http": http("a")}, {"host": "*.b.com", "http": http("b")}],
        "tls": [{"hosts": ["a.com"], "secretName": "cert"}],
    }));
    let part = part.unwrap();
    assert_eq!(part.route.hosts, ["*.b.com".into(), Name::from("a.com")]);
    let to = |name: &str| format!("/...@ {name}.n.svc.cluster.local:80");
    assert_eq!(rules(&part), [to("a"), to("b")]);
    let https = &part.gateway.servers[1];
    assert_eq!((https.port, &*https.hosts[0].1), (443, "a.com"));
}

#[test]
fn who_else_serves_a_class_is_not_the_mesh() {
    let spec = json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}});
    for (annotation, class, served) in [
        (None, "istio", true),
        (None, "", false),
        (None, "nginx", false),
        (Some("istio"), "", true),
        (Some("nginx"), "istio", false),
    ] {
        let mut spec = spec.clone();
        spec["ingressClassName"] = class.into();
        let annotations = annotation.map(|class| json!({"kubernetes.io/ingress.class": class}));
        let (part, findings) = translated(given(annotations.unwrap_or_default(), spec));
        assert_eq!(part.is_some(), served, "{annotation:?} {class}");
        let codes: Vec<FindingCode> = findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes.is_empty(), served, "{codes:?}");
    }
}
