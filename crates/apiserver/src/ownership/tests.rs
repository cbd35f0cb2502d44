use super::*;

fn by(manager: &str) -> Author<'_> {
    Author { manager, api_version: "apps/v1", time: "2026-01-01T00:00:00Z", custom: false }
}

fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec})
}

fn applied(old: Option<&Value>, spec: Value, manager: &str) -> Value {
    apply(old, &deployment(spec), &by(manager), false).unwrap()
}

#[test]
fn what_is_applied_no_more_is_removed_unless_others_own_it() {
    let first = applied(None, json!({"replicas": 2, "paused": true, "x": {"y": 1}}), "a");
    let fields = &first["metadata"]["managedFields"][0]["fieldsV1"];
    let spec = json!({"f:replicas": {}, "f:paused": {}, "f:x": {"f:y": {}}});
    assert_eq!(fields, &json!({"f:spec": spec}));
    // The same value of two owners is no conflict.
    let both = applied(Some(&first), json!({"paused": true}), "b");
    let second = applied(Some(&both), json!({"replicas": 3}), "a");
    assert_eq!(second["spec"], json!({"replicas": 3, "paused": true}));
    let third = applied(Some(&second), json!({"minReadySeconds": 1}), "b");
    assert_eq!(third["spec"], json!({"replicas": 3, "minReadySeconds": 1}));
}

#[test]
fn who_would_change_the_field_of_another_is_told() {
    let first = applied(None, json!({"replicas": 2}), "a");
    let wanted = deployment(json!({"replicas": 3}));
    let conflicts = apply(Some(&first), &wanted, &by("b"), false).unwrap_err();
    let (manager, api_version) = ("a".to_owned(), "apps/v1".to_owned());
    let field = ".spec.replicas".to_owned();
    assert_eq!(conflicts, [Conflict { manager, api_version, field }]);
    let forced = apply(Some(&first), &wanted, &by("b"), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    // The other one has lost it, and may apply without it.
    assert_eq!(forced["metadata"]["managedFields"].as_array().unwrap().len(), 1);
    let later = applied(Some(&forced), json!({"paused": true}), "a");
    assert_eq!(later["spec"], json!({"replicas": 3, "paused": true}));
}

#[test]
fn items_of_lists_have_owners_of_their_own() {
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let spec = |containers: Vec<Value>| json!({"template": {"spec": {"containers": containers}}});
    let first = applied(None, spec(vec![container("app", "a:1")]), "a");
    let both = applied(Some(&first), spec(vec![container("side", "s:1")]), "b");
    let names = |object: &Value| -> Vec<String> {
        let items = object["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        items.iter().map(|item| format!("{}", item["image"])).collect()
    };
    assert_eq!(names(&both), ["\"a:1\"", "\"s:1\""]);
    let newer = applied(Some(&both), spec(vec![container("app", "a:2")]), "a");
    assert_eq!(names(&newer), ["\"a:2\"", "\"s:1\""]);
    let wanted = deployment(spec(vec![container("app", "b:1")]));
    let conflicts = apply(Some(&newer), &wanted, &by("b"), false).unwrap_err();
    assert_eq!(conflicts[0].field, ".spec.template.spec.containers[name=\"app\"].image");
    let without = applied(Some(&newer), spec(vec![container("new", "n:1")]), "b");
    assert_eq!(names(&without), ["\"a:2\"", "\"n:1\""]);
}

#[test]
fn changes_that_are_no_apply_take_fields_over() {
    let first = applied(None, json!({"replicas": 2, "paused": true}), "a");
    let mut scaled = first.clone();
    scaled["spec"]["replicas"] = 5.into();
    note_update(&first, &mut scaled, &by("kubectl-scale"));
    let wanted = deployment(json!({"replicas": 2, "paused": true}));
    let conflicts = apply(Some(&scaled), &wanted, &by("a"), false).unwrap_err();
    assert_eq!((&*conflicts[0].manager, &*conflicts[0].field), ("kubectl-scale", ".spec.replicas"));
    // Left out, it stays as the other one set it.
    let left = applied(Some(&scaled), json!({"paused": true}), "a");
    assert_eq!(left["spec"], json!({"replicas": 5, "paused": true}));
    // What nobody applied has no owners.
    let plain = deployment(json!({"replicas": 1}));
    let mut changed = deployment(json!({"replicas": 2}));
    changed["metadata"]["managedFields"] = json!([{"manager": "liar"}]);
    note_update(&plain, &mut changed, &by("x"));
    assert_eq!(changed, deployment(json!({"replicas": 2})));
}

#[test]
fn what_was_there_before_the_first_apply_belongs_to_somebody_else() {
    let plain = deployment(json!({"replicas": 1, "paused": true}));
    let same = applied(Some(&plain), json!({"replicas": 1}), "a");
    assert_eq!(same["spec"], plain["spec"]);
    let wanted = deployment(json!({"replicas": 2}));
    let conflicts = apply(Some(&plain), &wanted, &by("a"), false).unwrap_err();
    assert_eq!(conflicts[0].manager, "before-first-apply");
    let custom = Author { custom: true, ..by("a") };
    let list = |items: Value| deployment(json!({"ports": items}));
    let first = apply(None, &list(json!([{"port": 1}])), &custom, false).unwrap();
    let second = apply(Some(&first), &list(json!([{"port": 2}])), &custom, false).unwrap();
    assert_eq!(second["spec"]["ports"], json!([{"port": 2}]));
}

/// Applies to a Service.
fn service(old: Option<&Value>, metadata: Value, spec: Value, manager: &str) -> Value {
    let mut config = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata});
    config["spec"] = spec;
    config["metadata"]["name"] = "s".into();
    apply(old, &config, &by(manager), false).unwrap()
}

#[test]
fn ports_are_told_apart_by_number_and_protocol() {
    let ports = |ports: Value| json!({"ports": ports});
    let tcp = json!({"name": "t", "port": 53});
    let udp = json!({"name": "u", "port": 53, "protocol": "UDP"});
    let mut both = service(None, json!({}), ports(json!([tcp, udp])), "a");
    let owned = &both["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"];
    let keys: Vec<&String> = owned.as_object().unwrap().keys().collect();
    assert_eq!(keys, [r#"k:{"port":53,"protocol":"TCP"}"#, r#"k:{"port":53,"protocol":"UDP"}"#]);
    // The server fills in what is the default; the port is the same one.
    both["spec"]["ports"][0]["protocol"] = "TCP".into();
    let again = service(Some(&both), json!({}), ports(json!([udp, tcp])), "a");
    assert_eq!(again["spec"]["ports"][0], udp, "the order of the configuration");
    assert_eq!(again["spec"]["ports"][1]["protocol"], "TCP");
    let one = service(Some(&again), json!({}), ports(json!([udp])), "a");
    assert_eq!(one["spec"]["ports"], json!([udp]));
    // In a container the same, in Endpoints a list is one value.
    let container = |ports: Value| {
        let container = json!({"name": "app", "ports": ports});
        json!({"template": {"spec": {"containers": [container]}}})
    };
    let pair = json!([{"containerPort": 1, "protocol": "UDP"}, {"containerPort": 1}]);
    let first = applied(None, container(pair), "a");
    let left = json!([{"containerPort": 1, "protocol": "UDP"}]);
    let second = applied(Some(&first), container(left.clone()), "a");
    assert_eq!(second["spec"], container(left));
    let conflicts = apply(
        Some(&second),
        &deployment(container(json!([{"containerPort": 1, "protocol": "UDP", "name": "x"}]))),
        &by("b"),
        false,
    );
    assert!(conflicts.is_ok(), "a field that nobody has set");
}

#[test]
fn selectors_are_one_value_and_finalizers_many() {
    let first = service(None, json!({}), json!({"selector": {"app": "x", "v": "1"}}), "a");
    let fields = &first["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(fields, &json!({"f:spec": {"f:selector": {}}}));
    let other = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"selector": {"other": "y"}},
    });
    let conflicts = apply(Some(&first), &other, &by("b"), false).unwrap_err();
    assert_eq!(conflicts[0].field, ".spec.selector");
    let second = service(Some(&first), json!({}), json!({"selector": {"app": "x"}}), "a");
    assert_eq!(second["spec"]["selector"], json!({"app": "x"}));

    let held = |by: &str| json!({"finalizers": [by]});
    let one = service(None, held("x/one"), json!({}), "a");
    let two = service(Some(&one), held("x/two"), json!({}), "b");
    assert_eq!(two["metadata"]["finalizers"], json!(["x/one", "x/two"]));
    let left = service(Some(&two), json!({}), json!({"type": "ClusterIP"}), "a");
    assert_eq!(left["metadata"]["finalizers"], json!(["x/two"]));
}

#[test]
fn what_kubectl_applied_at_its_own_side_it_takes_over() {
    let mut there = deployment(json!({"replicas": 2, "paused": true, "minReadySeconds": 5}));
    let noted = deployment(json!({"replicas": 1, "paused": true})).to_string();
    there["metadata"]["annotations"] = json!({LAST_APPLIED: noted});
    let wanted = |spec: Value| deployment(spec);
    // Somebody has scaled it since: that is no more kubectl's.
    let conflicts =
        apply(Some(&there), &wanted(json!({"replicas": 3})), &by("kubectl"), false).unwrap_err();
    assert_eq!((&*conflicts[0].manager, conflicts.len()), ("before-first-apply", 1));
    let config = wanted(json!({"minReadySeconds": 5}));
    let taken = apply(Some(&there), &config, &by("kubectl"), false).unwrap();
    assert_eq!(taken["spec"], json!({"replicas": 2, "minReadySeconds": 5}), "paused went");
    let noted: Value =
        serde_json::from_str(object::annotation(&taken, LAST_APPLIED).unwrap()).unwrap();
    assert_eq!(noted, config);
    // Others take over nothing.
    let conflicts =
        apply(Some(&there), &wanted(json!({"paused": false})), &by("argo"), false).unwrap_err();
    assert_eq!(conflicts[0].manager, "kubectl-client-side-apply");
    // An annotation that is none says nothing.
    there["metadata"]["annotations"] = json!({LAST_APPLIED: "{{{"});
    let same = apply(Some(&there), &wanted(json!({"paused": true})), &by("kubectl"), false);
    assert_eq!(same.unwrap()["spec"], there["spec"]);
}
