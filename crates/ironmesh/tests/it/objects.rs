use crate::mesh::Mesh;

const SERVICE: &str = "apiVersion: v1
kind: Service
metadata:
  name: web
  labels: {app: web}
spec:
  selector: {app: web, version: \"1.0\"}
  ports:
  - {name: http, port: 80, targetPort: 8080}
";

#[test]
fn apply_creates_configures_and_leaves_alone() {
    let mesh = Mesh::start();
    let apply = |text: &str| mesh.run_with("apply -f -", text).ok();
    assert_eq!(apply(SERVICE), "service/web created\n");
    assert_eq!(apply(SERVICE), "service/web unchanged\n");
    assert_eq!(apply(&SERVICE.replace("port: 80,", "port: 81,")), "service/web configured\n");
    let port = mesh.run("get svc web -o jsonpath={.spec.ports[0].port}").ok();
    assert_eq!(port, "81");
    // What others set stays, what the manifest no longer says goes.
    mesh.run("label svc web team=a").ok();
    assert_eq!(
        apply(&SERVICE.replace("labels: {app: web}", "labels: {tier: b}")),
        "service/web configured\n"
    );
    assert_eq!(
        mesh.run("get svc web -o jsonpath={.metadata.labels}").ok(),
        r#"{"team":"a","tier":"b"}"#
    );
}

#[test]
fn deployments_of_old_api_versions_are_unchanged_the_second_time() {
    let mesh = Mesh::start();
    let text = "apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: shop/web, ports: [{containerPort: 80}]}
";
    let said = mesh.run_with("apply -f -", text);
    assert_eq!((said.code, &*said.out), (0, "deployment.apps/web created\n"), "{said:?}");
    assert_eq!(
        said.err,
        "STDIN:1: info IM0113 Deployment web apiVersion: extensions/v1beta1 is taken as apps/v1\n"
    );
    assert_eq!(mesh.run_with("apply -f -", text).ok(), "deployment.apps/web unchanged\n");
}

#[test]
fn one_bad_document_blocks_no_other() {
    let mesh = Mesh::start();
    mesh.write(
        "all.yaml",
        &format!(
            "{SERVICE}---\nkind: Nothing\n---\n---\n{}",
            SERVICE.replace("name: web", "name: two")
        ),
    );
    let said = mesh.run("apply -f all.yaml");
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.out, "service/web created\nservice/two created\n");
    assert!(said.err.starts_with("all.yaml:11: the object has no apiVersion"), "{}", said.err);
}

#[test]
fn an_invalid_object_is_refused_with_its_place() {
    let mesh = Mesh::start();
    let said = mesh.run_with("apply -f -", &SERVICE.replace("port: 80,", "port: no,"));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.starts_with("STDIN:9: error Service web: "), "{}", said.err);
}

#[test]
fn create_and_delete_in_kubectls_words() {
    let mesh = Mesh::start();
    mesh.write("web.yaml", SERVICE);
    assert_eq!(mesh.run("create -f web.yaml").ok(), "service/web created\n");
    let again = mesh.run("create -f web.yaml");
    assert_eq!(again.code, 1);
    assert_eq!(
        again.err,
        "Error from server (AlreadyExists): error when creating \"web.yaml\": services \"web\" already exists\n"
    );
    assert_eq!(mesh.run("delete -f web.yaml").ok(), "service \"web\" deleted\n");
    let again = mesh.run("delete -f web.yaml");
    assert_eq!(again.code, 1);
    assert_eq!(
        again.err,
        "Error from server (NotFound): error when deleting \"web.yaml\": services \"web\" not found\n"
    );
    assert_eq!(mesh.run("delete -f web.yaml --ignore-not-found").ok(), "");
    let named = mesh.run("delete svc web");
    assert_eq!(named.err, "Error from server (NotFound): services \"web\" not found\n");
}

#[test]
fn get_in_every_form() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", SERVICE).ok();
    let table = mesh.run("get svc web").ok();
    let head = table.lines().next().unwrap();
    assert!(head.starts_with("NAME   TYPE        CLUSTER-IP"), "{table}");
    assert_eq!(mesh.run("get svc web --no-headers").ok().lines().count(), 1);
    assert!(mesh.run("get svc -A").ok().starts_with("NAMESPACE"));
    assert!(mesh.run("get svc web --show-labels").ok().contains("app=web"));
    assert_eq!(mesh.run("get svc web -o name").ok(), "service/web\n");
    let yaml = mesh.run("get svc web -o yaml").ok();
    assert!(yaml.contains("    version: \"1.0\"\n"), "{yaml}");
    let json = mesh.run("get svc -l app=web -o json").ok();
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((list["kind"].as_str(), list["items"].as_array().unwrap().len()), (Some("List"), 1));
    assert_eq!(list["items"][0]["kind"], "Service");
    let columns = mesh.run("get svc web -o custom-columns=N:.metadata.name,P:.spec.ports[0].port");
    assert_eq!(columns.ok(), "N     P\nweb   80\n");
    let both = mesh.run("get svc,sa").ok();
    assert!(both.contains("service/web") && both.contains("serviceaccount/default"), "{both}");

    let none = mesh.run("get pods");
    assert_eq!((none.code, &*none.err), (0, "No resources found in default namespace.\n"));
    let missing = mesh.run("get svc nope");
    assert_eq!(missing.code, 1);
    assert_eq!(missing.err, "Error from server (NotFound): services \"nope\" not found\n");
    let unknown = mesh.run("get nonsense");
    assert_eq!(unknown.err, "error: the server doesn't have a resource type \"nonsense\"\n");
}

#[test]
fn the_gateways_port_is_found_by_its_name() {
    let mesh = Mesh::start();
    let port = "{.spec.ports[?(@.name==\"http2\")].port}";
    let line = format!("get svc istio-ingressgateway -n istio-system -o jsonpath={port}");
    assert_eq!(mesh.run(&line).ok(), "80");
}

#[test]
fn labels_and_annotations() {
    let mesh = Mesh::start();
    let label = |words: &str| mesh.run(&format!("label namespace default {words}"));
    assert_eq!(label("istio-injection=enabled").ok(), "namespace/default labeled\n");
    assert_eq!(label("istio-injection=enabled").ok(), "namespace/default not labeled\n");
    let taken = label("istio-injection=disabled");
    assert_eq!(taken.code, 1);
    assert_eq!(
        taken.err,
        "error: 'istio-injection' already has a value (enabled), and --overwrite is false\n"
    );
    assert_eq!(label("istio-injection=disabled --overwrite").ok(), "namespace/default labeled\n");
    let shown = mesh.run("get ns default --show-labels").ok();
    assert!(shown.contains("istio-injection=disabled"), "{shown}");
    assert_eq!(label("istio-injection-").ok(), "namespace/default unlabeled\n");
    let annotated = mesh.run("annotate ns default note=x");
    assert_eq!(annotated.ok(), "namespace/default annotated\n");
}

#[test]
fn scale_makes_pods_and_describe_shows_them() {
    let mesh = Mesh::start();
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: shop/web}]}
";
    mesh.run_with("apply -f -", text).ok();
    assert_eq!(mesh.run("scale deployment/web --replicas=3").ok(), "deployment.apps/web scaled\n");
    let deadline = std::time::Duration::from_secs(20);
    let begun = std::thread::spawn(move || std::thread::sleep(deadline));
    while mesh.run("get pods -l app=web -o name").ok().lines().count() != 3 {
        assert!(!begun.is_finished(), "no three pods in {deadline:?}");
    }
    let described = mesh.run("describe deploy web").ok();
    assert!(described.contains("3 desired"), "{described}");
    let pods = mesh.run("describe pods -l app=web").ok();
    assert_eq!(pods.matches("Controlled By:").count(), 3, "{pods}");
}

#[test]
fn without_a_mesh_the_remedy_is_said() {
    let command = std::process::Command::new(env!("CARGO_BIN_EXE_ironmesh"))
        .args(["--mesh", "nobody", "get", "pods"])
        .output()
        .unwrap();
    assert_eq!(command.status.code(), Some(1));
    assert_eq!(
        String::from_utf8(command.stderr).unwrap(),
        "error: no mesh \"nobody\" is running; start one with: ironmesh --mesh nobody up\n"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mesh = Mesh::start();
    let script = "\"$0\" --mesh \"$1\" get svc -A -o yaml | head -n 1; echo ${PIPESTATUS[0]}";
    let said = mesh.shell(script);
    assert_eq!(said.out, "apiVersion: v1\n0\n", "{said:?}");
    // What is to be done is done all the same, without a word for each line that nobody reads.
    for name in ["one", "two", "three"] {
        mesh.run(&format!("create configmap {name}")).ok();
    }
    let said = mesh.shell("\"$0\" --mesh \"$1\" delete configmap one two three | true");
    assert_eq!((&*said.out, &*said.err), ("", ""), "{said:?}");
    let left = mesh.run("get configmap -o name").ok();
    assert!(!["one", "two", "three"].iter().any(|name| left.contains(name)), "{left}");
}

#[test]
fn applying_an_injected_pod_again_changes_nothing() {
    let mesh = Mesh::start();
    mesh.run("label namespace default istio-injection=enabled").ok();
    let text = "apiVersion: v1
kind: Pod
metadata: {name: alone, labels: {app: alone}}
spec:
  initContainers: [{name: first, image: shop/first}]
  containers: [{name: app, image: shop/app, ports: [{containerPort: 80}]}]
";
    assert_eq!(mesh.run_with("apply -f -", text).ok(), "pod/alone created\n");
    let containers = "get pod alone -o jsonpath={.spec.containers[*].name}";
    assert_eq!(mesh.run(containers).ok(), "app istio-proxy");
    assert_eq!(mesh.run_with("apply -f -", text).ok(), "pod/alone unchanged\n");
    let labelled = text.replace("labels: {app: alone}", "labels: {app: alone, tier: web}");
    assert_eq!(mesh.run_with("apply -f -", &labelled).ok(), "pod/alone configured\n");
    assert_eq!(mesh.run(containers).ok(), "app istio-proxy");
}

#[test]
fn wrong_types_have_their_line_and_doubtful_files_a_warning() {
    let mesh = Mesh::start();
    mesh.write(
        "web.yaml",
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: shop/web
        env:
        - {name: PORT, value: 80}
        command: sh
",
    );
    let said = mesh.run("apply -f web.yaml");
    assert_eq!((said.code, &*said.out), (1, ""), "{said:?}");
    assert!(said.err.starts_with("web.yaml:6:3: warning "), "{}", said.err);
    assert!(said.err.contains("    6 |   replicas: 2\n      |   ^\n"), "{}", said.err);
    // Each mistake has a line of its own.
    for line in [
        "web.yaml:15: error Deployment web: spec.template.spec.containers[0].env[0].value: \
         this takes a text, not 80; put it in quotes (IM0001)\n",
        "web.yaml:16: error Deployment web: spec.template.spec.containers[0].command: \
         this takes a list, not \"sh\" (IM0001)\n",
    ] {
        assert!(said.err.contains(line), "{}", said.err);
    }
}

#[test]
fn a_dry_run_says_what_would_be_done() {
    let mesh = Mesh::start();
    mesh.write("web.yaml", SERVICE);
    for (how, suffix) in [("client", "(dry run)"), ("server", "(server dry run)")] {
        let create = mesh.run(&format!("create -f web.yaml --dry-run={how}"));
        assert_eq!(create.ok(), format!("service/web created {suffix}\n"));
        let apply = mesh.run(&format!("apply -f web.yaml --dry-run={how}"));
        assert_eq!(apply.ok(), format!("service/web created {suffix}\n"));
    }
    assert_eq!(mesh.run("get svc web").code, 1);
    mesh.run("apply -f web.yaml").ok();
    for how in ["--dry-run", "--dry-run=server"] {
        assert!(mesh.run(&format!("delete svc web {how}")).ok().contains("deleted ("));
    }
    mesh.run("get svc web").ok();
    let bad = SERVICE.replace("port: 80,", "port: no,");
    assert_eq!(mesh.run_with("apply -f - --dry-run=server", &bad).code, 1);
}

#[test]
fn words_that_do_not_go_together_are_refused() {
    let mesh = Mesh::start();
    mesh.write("web.yaml", SERVICE);
    mesh.write("generated.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}\n");
    for (line, said) in [
        ("delete -f web.yaml -l app=web", "not among those of files"),
        ("delete -f web.yaml --all", "not among those of files"),
        ("create namespace x -f web.yaml", "unexpected argument"),
        ("create -f web.yaml namespace x", "not both"),
        ("apply -f generated.yaml", "from a-: cannot use generate name with apply"),
        ("proxy-status nosuchpod", "no pod \"nosuchpod\" has a proxy"),
        ("proxy-status deploy/nosuch", "deployments.apps \"nosuch\" not found"),
        ("proxy-config x --metrics -o json", "cannot be used with"),
        ("get pod nosuchpod -w -o yaml", "pods \"nosuchpod\" not found"),
    ] {
        let refused = mesh.run(line);
        assert_ne!(refused.code, 0, "{line}");
        assert!(refused.err.contains(said), "{line}: {}", refused.err);
    }
    assert!(mesh.run("create -f generated.yaml").ok().starts_with("configmap/a-"));
}

#[test]
fn a_watch_prints_objects_in_the_form_asked_for() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", SERVICE).ok();
    // A watch goes on until it is ended.
    let first_lines = |form: &str, count: usize| {
        let script = format!(
            "exec 3< <(exec \"$0\" --mesh \"$1\" get svc web -w -o {form}); pid=$!; \
             head -n {count} <&3; kill $pid"
        );
        mesh.shell(&script).out
    };
    assert_eq!(first_lines("name", 1), "service/web\n");
    assert_eq!(first_lines("yaml", 2), "apiVersion: v1\nkind: Service\n");
}

#[test]
fn endpoints_of_a_service_without_a_selector_are_those_that_are_listed() {
    let mesh = Mesh::start();
    let text = "apiVersion: v1
kind: Service
metadata: {name: outside}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: outside}
subsets:
- addresses: [{ip: 192.0.2.1}, {ip: 192.0.2.2}]
  ports: [{name: http, port: 8080}]
";
    let said = mesh.run_with("apply -f -", text);
    assert_eq!((said.code, &*said.err), (0, ""), "{said:?}");
    let addresses = "192.0.2.1:8080,192.0.2.2:8080";
    assert!(mesh.run("get endpoints outside").ok().contains(addresses));
    assert!(mesh.run("describe svc outside").ok().contains(addresses));
}
