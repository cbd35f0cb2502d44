//! `apply --prune` and `apply --server-side`, by kubectl's rules.

use crate::mesh::Mesh;

fn config(name: &str, labels: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
         data: {{key: {value}}}\n---\n"
    )
}

#[test]
fn prune_deletes_what_apply_made_and_nothing_else() {
    let mesh = Mesh::start();
    let names = |namespace: &str| {
        let line = format!("get configmaps -n {namespace} -o jsonpath={{.items[*].metadata.name}}");
        let mut names: Vec<String> =
            mesh.run(&line).ok().split_whitespace().map(str::to_owned).collect();
        names.retain(|name| name != "kube-root-ca.crt");
        names.join(" ")
    };
    let shop = "app: shop";
    let all = [
        config("one", shop, "a"),
        config("two", shop, "a"),
        config("other", "app: bank", "a"),
        config("bare", "", "a"),
    ];
    mesh.run_with("apply -f -", &all.concat()).ok();
    // By hand, and in another namespace.
    mesh.run_with("create -f -", &config("made", shop, "a")).ok();
    mesh.run("create namespace elsewhere").ok();
    mesh.run_with("apply -n elsewhere -f -", &config("far", shop, "a")).ok();
    // A kind that kubectl does not prune by itself.
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: rule, labels: {app: shop}}\nspec: {host: web}\n";
    mesh.run_with("apply -f -", rule).ok();

    // Without saying of what nothing is done at all.
    for line in ["apply --prune -f -", "apply --prune -l= -f -", "apply --all -f -"] {
        let refused = mesh.run_with(line, &config("three", shop, "a"));
        assert!(refused.code != 0, "{line}: {refused:?}");
    }
    let refused = mesh.run_with("apply --prune -f -", &all[0]);
    assert!(refused.err.contains("without explicitly passing --all"), "{refused:?}");
    assert_eq!(names("default"), "bare made one other two");

    let tried = mesh.run_with("apply --prune -l app=shop --dry-run=server -f -", &all[0]).ok();
    assert!(tried.contains("configmap/two pruned (server dry run)\n"), "{tried:?}");
    let tried = mesh.run_with("apply --prune -l app=shop --dry-run=client -f -", &all[0]).ok();
    assert!(tried.contains("configmap/two pruned (dry run)\n"), "{tried:?}");
    assert_eq!(names("default"), "bare made one other two");

    // Of the manifests only what has the labels is applied.
    let changed = [config("one", shop, "b"), config("other", "app: bank", "b")].concat();
    let said = mesh.run_with("apply --prune -l app=shop -f -", &changed).ok();
    assert_eq!(said, "configmap/one configured\nconfigmap/two pruned\n");
    assert_eq!(names("default"), "bare made one other");
    assert_eq!(names("elsewhere"), "far");
    let value = mesh.run("get configmap other -o jsonpath={.data.key}").ok();
    assert_eq!(value, "a");
    mesh.run("get destinationrule rule").ok();

    // What fails keeps the rest from being deleted.
    let broken = format!("{}apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: UPPER}}\n", all[0]);
    let failed = mesh.run_with("apply --prune --all -f -", &broken);
    assert!(failed.code == 1 && !failed.out.contains("pruned"), "{failed:?}");

    let kinds = "--prune-allowlist=networking.istio.io/v1/DestinationRule";
    let said = mesh.run_with(&format!("apply --prune --all {kinds} -f -"), &all[0]).ok();
    assert!(said.contains("destinationrule.networking.istio.io/rule pruned"), "{said:?}");
    assert_eq!(names("default"), "bare made one other");
    let said = mesh.run_with("apply --prune --all -f -", &all[0]).ok();
    assert!(said.contains("configmap/bare pruned\n"), "{said:?}");
    assert_eq!((names("default").as_str(), names("elsewhere").as_str()), ("made one", "far"));
    for bad in
        ["apply --prune --all --server-side -f -", "apply --prune --all --prune-allowlist=x -f -"]
    {
        assert_ne!(mesh.run_with(bad, &all[0]).code, 0, "{bad}");
    }
}

#[test]
fn the_server_merges_and_says_whose_fields_are_whose() {
    let mesh = Mesh::start();
    let said = mesh.run_with("apply --server-side -f -", &config("one", "app: shop", "a")).ok();
    assert_eq!(said, "configmap/one serverside-applied\n");
    let managers =
        "get configmap one -o jsonpath={.metadata.managedFields[*].manager} --show-managed-fields";
    assert_eq!(mesh.run(managers).ok(), "kubectl");
    // Nobody else takes its field without saying so.
    let other = config("one", "app: shop", "b");
    let line = "apply --server-side --field-manager=robot -f -";
    let refused = mesh.run_with(line, &other);
    assert!(refused.code == 1 && refused.err.contains("--force-conflicts"), "{refused:?}");
    assert!(refused.err.contains("kubectl") && refused.err.contains(".data.key"), "{refused:?}");
    let value = || mesh.run("get configmap one -o jsonpath={.data.key}").ok();
    assert_eq!(value(), "a");
    let tried = mesh.run_with(&format!("{line} --force-conflicts --dry-run=server"), &other).ok();
    assert_eq!(tried, "configmap/one serverside-applied (server dry run)\n");
    assert_eq!(value(), "a");
    mesh.run_with(&format!("{line} --force-conflicts"), &other).ok();
    assert_eq!(value(), "b");
    // What was applied here before is taken over.
    mesh.run_with("apply -f -", &config("two", "app: shop", "a")).ok();
    mesh.run_with("apply --server-side -f -", &config("two", "app: shop", "b")).ok();
    assert_eq!(mesh.run("get configmap two -o jsonpath={.data.key}").ok(), "b");
    for bad in ["apply --server-side --dry-run=client -f -", "apply --force-conflicts -f -"] {
        assert_ne!(mesh.run_with(bad, &other).code, 0, "{bad}");
    }
}
