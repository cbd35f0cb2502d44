use ironmesh_model::Snapshot;
use ironmesh_model::settings::Settings;
use serde_json::{Value, json};

use super::*;
use crate::translate;

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
    let sent = old.clone();
    old_ingress(&mut old);
    let mut back = old.clone();
    as_old_ingress(&mut back);
    for path in back["spec"]["rules"][0]["http"]["paths"].as_array_mut().unwrap() {
        let kind = path.as_object_mut().unwrap().remove("pathType");
        assert_eq!(kind, Some("ImplementationSpecific".into()), "which it meant");
    }
    assert_eq!(back, sent);
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

/// Whose an Ingress is, as the mesh joins it with its IngressClasses and MeshConfig: whether there is a
/// Gateway for it, and what was found.
fn joined(objects: &[Value]) -> (bool, Vec<String>) {
    let objects: Vec<Object> =
        objects.iter().map(|object| Object::new(object.clone()).unwrap()).collect();
    let translation = translate(&objects, &Settings::default());
    let is_served = !translation.objects.gateways.is_empty();
    let (_, found) = Snapshot::new(translation.objects);
    let of_class = |finding: &&Finding| finding.code == FindingCode::NothingServes;
    let text = |finding: &Finding| format!("{}: {}", finding.path, finding.message);
    (is_served, found.iter().filter(of_class).map(text).collect())
}

fn class(name: &str, controller: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
        "metadata": {"name": name}, "spec": {"controller": controller},
    })
}

fn mesh_config(text: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"mesh": text},
    })
}

/// MeshConfig, the annotation and the name of the class of an Ingress, the IngressClasses that there are,
/// and what is found; nothing: it is served.
type Whose = (
    &'static str,
    Option<&'static str>,
    Option<&'static str>,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const OURS: &str = "istio.io/ingress-controller";
const STRICT: &str = "";
const ANY: &str = "ingressControllerMode: DEFAULT";
const OFF: &str = "ingressControllerMode: OFF";

const WHOSE: &[Whose] = &[
    (STRICT, None, Some("istio"), &[], ""),
    (STRICT, None, None, &[], "spec.ingressClassName: it has no class"),
    (STRICT, None, Some(""), &[], "spec.ingressClassName: it has no class"),
    (
        STRICT,
        None,
        Some("nginx"),
        &[],
        "spec.ingressClassName: nothing here serves the class \"nginx\"",
    ),
    (STRICT, None, Some("edge"), &[("edge", OURS)], ""),
    (STRICT, None, Some("edge"), &[("other", OURS)], "spec.ingressClassName: nothing here"),
    // Another controller may have the name.
    (
        STRICT,
        None,
        Some("istio"),
        &[("istio", "example.com/x")],
        "spec.ingressClassName: its IngressClass is for the controller \"example.com/x\"",
    ),
    (STRICT, Some("istio"), None, &[], ""),
    // The annotation is looked at alone, as in Istio.
    (
        STRICT,
        Some("edge"),
        None,
        &[("edge", OURS)],
        "metadata.annotations[\"kubernetes.io/ingress.class\"]: nothing",
    ),
    (STRICT, Some("nginx"), Some("istio"), &[], "metadata.annotations"),
    (ANY, None, None, &[], ""),
    (ANY, None, Some("nobodys"), &[], ""),
    (ANY, None, Some("nginx"), &[("nginx", "k8s.io/ingress-nginx")], "spec.ingressClassName: its"),
    (ANY, Some("nginx"), None, &[], "metadata.annotations"),
    (
        OFF,
        Some("istio"),
        None,
        &[],
        "metadata.annotations[\"kubernetes.io/ingress.class\"]: MeshConfig turns",
    ),
    (OFF, None, Some("edge"), &[("edge", OURS)], "spec.ingressClassName: MeshConfig turns"),
    ("ingressClass: edge", Some("edge"), None, &[], ""),
    ("ingressClass: edge", Some("istio"), None, &[], "metadata.annotations"),
    (
        "ingressClass: edge",
        None,
        Some("istio"),
        &[],
        "spec.ingressClassName: nothing here serves the class \"istio\"; the mesh serves `ingressClassName: edge`",
    ),
];

#[test]
fn whose_an_ingress_is_its_class_and_meshconfig_say() {
    let of = |annotation: Option<&str>, class: Option<&str>| {
        let mut spec =
            json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}});
        if let Some(class) = class {
            spec["ingressClassName"] = class.into();
        }
        let annotation = annotation.map(|class| json!({"kubernetes.io/ingress.class": class}));
        given(annotation.unwrap_or_default(), spec)
    };
    for (mode, annotation, named, classes, said) in WHOSE {
        let mut objects = vec![of(*annotation, *named), mesh_config(mode)];
        objects.extend(classes.iter().map(|(name, controller)| class(name, controller)));
        for _ in 0..objects.len() {
            objects.rotate_left(1);
            let (is_served, found) = joined(&objects);
            assert_eq!(is_served, said.is_empty(), "{mode} {annotation:?} {named:?} {classes:?}");
            match &found[..] {
                [] => assert_eq!(*said, ""),
                [one] => assert!(!said.is_empty() && one.starts_with(said), "{one}"),
                more => panic!("{more:?}"),
            }
        }
    }
}

#[test]
fn meshconfig_says_which_gateways_serve() {
    let of = |text: &str| {
        let spec = json!({"ingressClassName": "istio", "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}});
        let objects = [given(json!({}), spec), mesh_config(text)].map(|o| Object::new(o).unwrap());
        let translation = translate(&objects, &Settings::default());
        assert_eq!(translation.findings, []);
        let gateway = translation.objects.gateways.first().unwrap();
        gateway.selector.value("istio").unwrap().to_owned()
    };
    for (text, label) in [
        ("", "ingressgateway"),
        ("ingressService: istio-ingressgateway", "ingressgateway"),
        ("ingressService: edge", "edge"),
        // Of the control plane of 0.2, for which the mesh's own stands in.
        ("ingressService: istio-ingress", "ingressgateway"),
        ("ingressService: istio-ingress\ningressSelector: ingress", "ingress"),
        ("ingressService: \"\"", "ingressgateway"),
        ("ingressSelector: inner", "inner"),
        ("ingressSelector: inner\ningressService: edge", "inner"),
    ] {
        assert_eq!(of(text), label, "{text}");
    }
}

#[test]
fn a_new_ingress_gets_the_youngest_default_class() {
    let default = |name: &str, created: &str, is: &str| {
        let mut class = class(name, "istio.io/ingress-controller");
        class["metadata"]["creationTimestamp"] = created.into();
        class["metadata"]["annotations"] =
            json!({"ingressclass.kubernetes.io/is-default-class": is});
        class
    };
    let classes = [
        default("old", "2026-01-01T00:00:00Z", "true"),
        default("b", "2026-02-01T00:00:00Z", "true"),
        default("a", "2026-02-01T00:00:00Z", "true"),
        default("not", "2026-03-01T00:00:00Z", "yes"),
    ];
    let class_of = |annotation: Value, spec: Value, classes: &[Value]| {
        let mut ingress = given(annotation, spec);
        set_default_class(&mut ingress, classes);
        ingress["spec"]["ingressClassName"].clone()
    };
    assert_eq!(class_of(json!({}), json!({}), &classes), "a");
    assert_eq!(class_of(json!({}), json!({}), &classes[3..]), Value::Null);
    assert_eq!(class_of(json!({}), json!({"ingressClassName": "x"}), &classes), "x");
    assert_eq!(class_of(json!({}), json!({"ingressClassName": ""}), &classes), "");
    let annotated = json!({"kubernetes.io/ingress.class": "nginx"});
    assert_eq!(class_of(annotated, json!({}), &classes), Value::Null);
}

/// What one controller of Ingresses does not do another one may do.
#[test]
fn what_is_not_done_here_is_said_of_ingresses_that_are_served() {
    let of = |class: &str| {
        let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
        let paths =
            json!([{"path": "/a(.*)", "pathType": "ImplementationSpecific", "backend": backend}]);
        let spec = json!({
            "ingressClassName": class, "rules": [{"http": {"paths": paths}}],
            "tls": [{"hosts": ["a.com"]}],
        });
        let object = Object::new(given(json!({}), spec)).unwrap();
        let translation = translate(&[object], &Settings::default());
        let (_, found) = Snapshot::new(translation.objects);
        let all = translation.findings.into_iter().chain(found);
        all.filter(|f| f.code == FindingCode::NoEffect).map(|f| f.path).collect::<Vec<_>>()
    };
    assert_eq!(of("nginx"), [""; 0]);
    assert_eq!(of("istio"), ["spec.rules[0].http.paths[0].path", "spec.tls[0].secretName"]);
}

/// Sizes, names and types that nobody has checked.
#[test]
fn hostile_classes_bring_nothing_down() {
    let long = "x".repeat(100_000);
    for hostile in [json!(null), json!(7), json!([]), json!({"a": 1}), json!(long), json!("\u{0}é")]
    {
        let mut ingress = given(json!({"kubernetes.io/ingress.class": hostile}), json!({}));
        set_default_class(&mut ingress, [&hostile, &class("c", "x")]);
        let mut of_class = class("istio", "istio.io/ingress-controller");
        of_class["spec"]["controller"] = hostile.clone();
        let spec = json!({"ingressClassName": hostile, "rules": hostile});
        let config =
            mesh_config(&format!("ingressClass: {hostile}\ningressControllerMode: {hostile}"));
        let objects = [ingress, of_class, given(json!({}), spec), config];
        let objects = objects.into_iter().filter_map(|object| Object::new(object).ok());
        let translation = translate(&objects.collect::<Vec<_>>(), &Settings::default());
        Snapshot::new(translation.objects);
    }
    // Many classes, of which one is ours.
    let name = |number: usize| format!("c{number}");
    let mut all: Vec<Value> =
        (0..1_000).map(|number| class(&name(number), "example.com/x")).collect();
    all.push(class("c7", "istio.io/ingress-controller"));
    let spec = json!({"ingressClassName": "c500"});
    all.push(given(json!({}), spec));
    assert!(!joined(&all).0);
}
