use super::*;

fn by(manager: &str) -> Author<'_> {
    Author { manager, api_version: "apps/v1", time: "2026-01-01T00:00:00Z", whole_lists: false }
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
    let custom = Author { whole_lists: true, ..by("a") };
    let list = |items: Value| deployment(json!({"ports": items}));
    let first = apply(None, &list(json!([{"port": 1}])), &custom, false).unwrap();
    let second = apply(Some(&first), &list(json!([{"port": 2}])), &custom, false).unwrap();
    assert_eq!(second["spec"]["ports"], json!([{"port": 2}]));
}
