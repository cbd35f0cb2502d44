//! What other texts type: the names of their programs, sidecars by hand, installs, charts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::mesh::Mesh;
use crate::running::{Running, await_some, samples};

const BINARY: &str = env!("CARGO_BIN_EXE_ironmesh");
const BOOKINFO: &str = include_str!("../../../../samples/bookinfo/bookinfo.yaml");

/// A folder with the shims in `bin`.
fn shims() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(BINARY).arg("shims").arg(folder.path().join("bin")).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    folder
}

/// Runs a script of bash in a folder, its `bin` in front of PATH.
fn bash(folder: &TempDir, mesh: &str, script: &str) -> Output {
    let path = format!("{}:/usr/bin:/bin", folder.path().join("bin").display());
    let mut command = Command::new("bash");
    command.args(["-euc", script]).current_dir(folder.path());
    command.env("PATH", path).env("HOME", folder.path()).env("IRONMESH_MESH", mesh);
    command.env_remove("XDG_CONFIG_HOME").output().unwrap()
}

fn ok(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output, why: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains(why), "no {why:?} in {output:?}");
}

#[test]
fn shims_are_this_program_under_other_names_and_replace_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let odd = folder.path().join("it's a folder");
    let run = || Command::new(BINARY).arg("shims").arg(&odd).output().unwrap();
    let line = ok(&run());
    assert_eq!(ok(&run()), line, "a second time changes nothing");
    let script = format!(
        "{line}\nkubectl version --client; k version --client; istioctl version --remote=false; helm help"
    );
    let said = ok(&bash(&folder, "none", &script));
    assert_eq!(said.matches("Client Version: v").count(), 2, "{said}");
    for line in ["Version: ", "GitRevision: ", "GitBranch: ", "User: ", "GolangVersion: "] {
        assert!(said.lines().any(|said| said.starts_with(line)), "no {line} in {said}");
    }
    assert!(said.contains("\nclient version: ") && !said.contains("control plane"), "{said}");
    // A program of somebody else stays.
    fs::remove_file(odd.join("kubectl")).unwrap();
    fs::write(odd.join("kubectl"), "mine").unwrap();
    refused(&run(), "is there already and is none of ours");
    assert_eq!(fs::read_to_string(odd.join("kubectl")).unwrap(), "mine");
}

#[test]
fn versions_are_told_as_the_other_programs_tell_them() {
    let mesh = Mesh::start();
    let said = mesh.run("version").ok();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 8, "{said}");
    assert!(
        lines[5].starts_with("client version: ") && lines[6].starts_with("control plane version: ")
    );
    assert!(lines[7].starts_with("data plane version: "), "{said}");
    let short = mesh.run("version --short").ok();
    assert_eq!(short.lines().take(2).collect::<Vec<_>>(), lines[5..7], "{short}");
    let all = mesh.shell("$0 --mesh $1 version -o json").ok();
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!(all["meshVersion"][0]["Component"], "pilot");
    assert_eq!(all["clientVersion"]["version"], env!("CARGO_PKG_VERSION"));
    let alone = mesh.shell("$0 --mesh none-$1 version --short").ok();
    assert!(alone.contains("no mesh is running"), "{alone}");
}

#[test]
fn sidecars_by_hand_are_there_once() {
    let mesh = Mesh::start();
    let once = mesh.run_with("inject -f -", BOOKINFO).ok();
    assert_eq!(once.matches("name: istio-proxy\n").count(), 6);
    assert_eq!(once.matches("name: istio-init\n").count(), 6);
    assert_eq!(once.matches("kind: Service\n").count(), 4);
    assert_eq!(mesh.run_with("kube-inject -i istio-system -f -", &once).ok(), once);
    // Applied where the label of the namespace injects, too.
    mesh.run("label namespace default istio-injection=enabled").ok();
    mesh.run_with("apply -f -", &once).ok();
    let names = "get pods -l app=details -o jsonpath={.items[*].spec.containers[*].name}";
    mesh.until(names, "details istio-proxy");
    assert!(
        mesh.run_with("apply -f -", &once).ok().lines().all(|line| line.ends_with(" unchanged"))
    );
}

#[test]
fn injection_passes_on_what_it_does_not_know_and_prints_nothing_of_what_it_cannot_read() {
    let mesh = Mesh::start();
    let odd = "# a comment\napiVersion: example.com/v1\nkind: Thing\nmetadata: {name: t}\n\
               spec: {version: \"1.0\", on: \"yes\", text: \"a\\nb\"}\n---\nname: nothing\n---\n---\n\
               apiVersion: v1\nkind: List\nitems:\n- apiVersion: extensions/v1beta1\n  kind: Deployment\n\
               \x20 metadata: {name: d}\n  spec: {template: {spec: {containers: [{name: a, image: b}]}}}\n";
    let out = mesh.run_with("inject -f -", odd).ok();
    assert!(out.contains("version: \"1.0\"\n") && out.contains("\"yes\"\n"), "{out}");
    assert!(out.contains("name: nothing\n") && out.contains("apiVersion: extensions/v1beta1\n"));
    assert_eq!(out.matches("name: istio-proxy\n").count(), 1);
    mesh.write("odd.yaml", odd);
    assert_eq!(mesh.run("inject -f odd.yaml -o injected.yaml").ok(), "");
    assert_eq!(mesh.run("inject -f injected.yaml").ok(), out);
    for (input, why) in [
        ("a: [1\n", "STDIN: line "),
        ("kind: Pod\n---\na: [1\n", "STDIN: line "),
        ("", "STDIN holds no object"),
        ("# only a comment\n", "STDIN holds no object"),
    ] {
        let said = mesh.run_with("inject -f -", input);
        assert_eq!((said.code, &*said.out), (1, ""), "{input:?}");
        assert!(said.err.contains(why), "{input:?}: {said:?}");
    }
    let said = mesh.run("inject -f missing.yaml");
    assert!(said.code == 1 && said.err.contains("\"missing.yaml\" does not exist"), "{said:?}");
    assert_eq!(mesh.run("inject").code, 2);
}

#[test]
fn an_install_asks_starts_a_mesh_and_sets_up_the_one_that_runs() {
    let mesh = Running::new();
    let shell = |script: &str| {
        let mut command = mesh.command(&[]);
        let environment: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        command = Command::new("bash");
        command.args(["-c", script, BINARY, &mesh.name]).current_dir(mesh.folder.path());
        command.envs(environment).output().unwrap()
    };
    // Nothing but a yes starts anything.
    for answer in ["n", "", "perhaps"] {
        let said = shell(&format!("echo {answer} | $0 --mesh $1 install"));
        let out = String::from_utf8_lossy(&said.stdout);
        assert!(out.contains("default profile with [\"Istio core\" \"Istiod\" \"Ingress gateways\"] components into the cluster. Proceed? (y/N)"), "{out}");
        assert!(out.ends_with("Cancelled.\n") && said.status.code() == Some(1), "{said:?}");
    }
    mesh.write("service.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n");
    for (options, why) in [
        ("--set profile=best", "no profile is called \"best\""),
        ("--set profile", "there is no ="),
        ("--set meshConfig.mtlsMode=MAYBE", "mtlsMode"),
        ("-f service.yaml", "must be an IstioOperator"),
        ("-f missing.yaml", "does not exist"),
        ("--set meshConfig.acessLogFile=x", "did you mean \"accessLogFile\"?"),
        ("--set components.pilots.enabled=true", "did you mean \"pilot\"?"),
        ("--set meshConfig.accessLogFormat=%DURATON%", "did you mean %DURATION%?"),
        (
            "--set meshConfig.accessLogFormat=a --set meshConfig.accessLogEncoding=JSON",
            "must be a JSON object of texts",
        ),
    ] {
        refused(&shell(&format!("$0 --mesh $1 install -y {options}")), why);
    }
    assert_ne!(mesh.run(&["get", "pods"]).code, 0, "a mesh was started");

    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let started = shell("echo y | $0 --mesh $1 install --set meshConfig.accessLogEncoding=JSON");
    if String::from_utf8_lossy(&started.stderr).contains("does not let ironmesh run") {
        println!("SKIPPED: namespaces are forbidden here");
        return;
    }
    let said = ok(&started);
    assert_eq!(said.matches("Making this installation the default").count(), 1, "{said}");
    assert!(said.contains("Thank you for installing Istio"), "{said}");
    assert!(mesh.ok(&["settings", "accessLogEncoding"]).contains("JSON"));
    let ports = "jsonpath={.spec.ports[*].port}";
    assert_eq!(
        mesh.ok(&["-n", "istio-system", "get", "svc", "istiod", "-o", ports]),
        "15010 15012 443 15014"
    );

    mesh.write(
        "operator.yaml",
        "apiVersion: install.istio.io/v1alpha1\nkind: IstioOperator\nspec:\n  profile: demo\n  hub: x\n  meshConfig:\n    outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
    );
    let again = mesh.run(&["install", "-y", "-f", "operator.yaml"]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.err.contains("warning hub: changes nothing here"), "{again:?}");
    await_some("the setting", || {
        mesh.ok(&["settings", "outboundTrafficPolicy"]).contains("REGISTRY_ONLY").then_some(())
    });
    assert_eq!(mesh.run(&["x", "precheck"]).code, 0);
    declares(&mesh);
    is_taken_back(&mesh);
}

fn is_set(mesh: &Running, name: &str, value: &str) {
    await_some(&format!("{name} to be {value}"), || {
        mesh.ok(&["settings", name]).contains(value).then_some(())
    });
}

/// An install says what the mesh is, whatever it was before.
fn declares(mesh: &Running) {
    let has =
        |kind: &str, name: &str| mesh.run(&["-n", "istio-system", "get", kind, name]).code == 0;
    // What the install before said, and the last one did not.
    is_set(mesh, "accessLogEncoding", "TEXT");
    mesh.ok(&["settings", "mtlsMode=STRICT"]);
    is_set(mesh, "mtlsMode", "STRICT");
    let kiali = ["--set", "values.kiali.enabled=true"];
    let planned = mesh.ok(&[&["install", "--dry-run"][..], &kiali].concat());
    for line in [
        "~ outboundTrafficPolicy.mode: REGISTRY_ONLY -> ALLOW_ANY",
        "~ mtlsMode: STRICT -> PERMISSIVE",
        "+ Deployment istio-system/kiali",
    ] {
        assert!(planned.lines().any(|other| other == line), "{line} in {planned}");
    }
    assert!(!planned.contains("istiod"), "it is there: {planned}");
    assert!(mesh.ok(&["settings", "mtlsMode"]).contains("STRICT"), "nothing was to be done");
    let refused = mesh.run(&["install", "-y", "--set", "meshConfig.trustDomain=other.example"]);
    assert!(refused.code == 1 && refused.err.contains("fixed while the mesh runs"), "{refused:?}");

    mesh.ok(&[&["install", "-y"][..], &kiali].concat());
    is_set(mesh, "mtlsMode", "PERMISSIVE");
    is_set(mesh, "accessLogEncoding", "TEXT");
    is_set(mesh, "outboundTrafficPolicy.mode", "ALLOW_ANY");
    assert!(has("deploy", "kiali") && has("svc", "kiali") && has("svc", "istiod"));

    // A Deployment of a user's is not an install's, though the note was made to say so.
    let note = r#"[{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"default","name":"mine"}}]"#;
    mesh.ok(&["create", "configmap", "mine", "--from-literal=a=b"]);
    let state = mesh.ok(&[
        "-n",
        "istio-system",
        "get",
        "cm",
        "installed-state",
        "-o",
        "jsonpath={.data.objects}",
    ]);
    let forged = state.replacen('[', &note.replacen(']', ",", 1), 1);
    let patch = serde_json::json!({"data": {"objects": forged}}).to_string();
    mesh.ok(&[
        "-n",
        "istio-system",
        "patch",
        "cm",
        "installed-state",
        "--type=merge",
        "-p",
        &patch,
    ]);
    let said = mesh.ok(&["install", "-y"]);
    assert!(said.contains("- Deployment istio-system/kiali") && !said.contains("mine"), "{said}");
    assert!(!has("deploy", "kiali") && !has("svc", "kiali") && has("svc", "istiod"));
    mesh.ok(&["get", "configmap", "mine"]);
    // The same once more changes nothing.
    let said = mesh.ok(&["install", "--dry-run"]);
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// What an install made and set goes, and what it had no part in stays.
fn is_taken_back(mesh: &Running) {
    assert_eq!(mesh.run(&["uninstall", "-y"]).code, 2, "of what?");
    let other = mesh.run(&["uninstall", "-y", "--revision", "canary"]);
    assert!(other.code == 1 && other.err.contains("there is no revision"), "{other:?}");
    mesh.ok(&["install", "-y", "--set", "meshConfig.accessLogEncoding=JSON"]);
    is_set(mesh, "accessLogEncoding", "JSON");
    assert_eq!(mesh.run(&["uninstall", "--purge", "--dry-run"]).code, 0);
    let said = mesh.ok(&["x", "uninstall", "--purge", "-y"]);
    assert!(said.contains("Removed Deployment istio-system/istiod."), "{said}");
    assert!(said.contains("✔ Uninstall complete"), "{said}");
    is_set(mesh, "accessLogEncoding", "TEXT");
    assert_ne!(mesh.run(&["-n", "istio-system", "get", "svc", "istiod"]).code, 0);
    mesh.ok(&["get", "configmap", "mine"]);
    let plan = mesh.ok(&["install", "--dry-run"]);
    assert!(plan.contains("~ labels of namespaces inject from now on"), "{plan}");
    assert!(plan.contains("+ Deployment istio-system/istiod"), "{plan}");
    // Twice is harmless.
    mesh.ok(&["uninstall", "--purge", "-y"]);
    mesh.ok(&["install", "-y"]);
    assert_eq!(mesh.ok(&["install", "--dry-run"]).lines().count(), 1);
}

#[test]
fn helm_knows_the_charts_of_istio_by_the_words_of_helm_2_and_3() {
    let mesh = Mesh::start();
    let folder = shims();
    let name = mesh.name();
    let run = |script: &str| bash(&folder, &name, script);
    ok(&run(
        "helm init; helm repo add istio.io https://storage.googleapis.com/istio-release/releases/1.3.2/charts/; helm repo update",
    ));
    let init = "helm install istio.io/istio-init --name istio-init --namespace istio-system";
    assert!(ok(&run(init)).starts_with("NAME:   istio-init\n"));
    refused(&run(init), "already exists");
    assert_eq!(ok(&run("kubectl get crds | grep -c istio.io")).trim(), "23");
    mesh.until(
        "get job -n istio-system istio-init-crd-10-1.3.2 -o jsonpath={.metadata.name}",
        "istio-init-crd-10-1.3.2",
    );

    ok(&run("helm install ./istio-1.0.0-snapshot.1/install/kubernetes/helm/istio --name istio \
             --namespace istio-system --set sidecarInjectorWebhook.enabled=false,grafana.enabled=true"));
    let egress = || mesh.run("settings outboundTrafficPolicy.mode").ok().contains("REGISTRY_ONLY");
    await_some("closed egress", || egress().then_some(()));
    mesh.run("label namespace default istio-injection=enabled").ok();
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: NAME}\nspec: {containers: [{name: a, image: b}]}\n";
    let containers = |pod: &str| {
        mesh.run(&format!("get pod {pod} -o jsonpath={{.spec.containers[*].name}}")).ok()
    };
    mesh.run_with("apply -f -", &pod.replace("NAME", "without")).ok();
    assert_eq!(containers("without"), "a", "the label injects nothing now");
    assert!(ok(&run("helm list")).contains("istio-1.0.0-snapshot.1"));
    let changed =
        ok(&run("helm upgrade istio ./istio-1.0.0-snapshot.1/install/kubernetes/helm/istio \
                           -n istio-system --set global.mtls.enabled=true"));
    assert!(
        !changed.contains("grafana") && changed.contains("istio-sidecar-injector"),
        "{changed}"
    );
    assert_eq!(mesh.run("get -n istio-system deploy grafana").code, 1);
    mesh.run_with("apply -f -", &pod.replace("NAME", "with")).ok();
    assert_eq!(containers("with"), "a istio-proxy");

    assert_eq!(ok(&run("helm delete istio --purge")), "release \"istio\" deleted\n");
    refused(&run("helm delete istio --purge"), "\"istio\" not found");
    assert_eq!(mesh.run("get -n istio-system deploy istio-pilot").code, 1);
    mesh.run("get -n istio-system deploy istio-ingressgateway").ok();
    await_some("open egress", || (!egress()).then_some(()));
    // From 1.1 on the gateway has more ports, as long as the release is there.
    let ports = || {
        mesh.run("get svc istio-ingressgateway -n istio-system -o jsonpath={.spec.ports[*].port}")
            .ok()
    };
    let before = ports();
    ok(&run("helm install istio.io/istio --name istio --namespace istio-system --version 1.3.2"));
    assert_eq!(ports(), format!("{before} 15020 31400 15029 15030 15031 15032 15443"));
    let selector = "get svc istio-policy -n istio-system -o jsonpath={.spec.selector.istio}";
    assert_eq!(mesh.run(selector).ok(), "mixer");
    ok(&run("helm delete istio --purge"));
    assert_eq!(ports(), before);
    refused(&run("helm install istio/istio-init --name x"), "say which version");
    refused(&run("helm install istio.io/istio --name x --set a"), "there is no =");
}

/// Makes a program in the folder `real` that tells what it was asked, and its kubeconfig.
fn real(folder: &TempDir, name: &str) {
    let folder = folder.path().join("real");
    fs::create_dir(&folder).unwrap();
    let script = "#!/bin/sh\necho real \"$@\"\n[ -z \"$KUBECONFIG\" ] || cat $KUBECONFIG\n";
    fs::write(folder.join(name), script).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn verbs_that_only_a_real_kubectl_has_go_to_it() {
    let folder = shims();
    let run = |script: &str| bash(&folder, "none", script);
    real(&folder, "kubectl");
    for program in ["kubectl", "k"] {
        let alone = run(&format!("PATH=$PWD/bin; {program} cp a p:/b"));
        let said = String::from_utf8_lossy(&alone.stderr);
        assert!(alone.status.code() == Some(2), "{alone:?}");
        assert!(said.contains("ironmesh has no \"cp\"; a real kubectl does that"), "{said}");
    }
    let with_real = "PATH=$PWD/bin:$PWD/real:$PATH; export KUBECONFIG=; ";
    let script =
        format!("{with_real} kubectl cp a p:/b --kubeconfig x; k kustomize shop; kubectl gett");
    let said = run(&script);
    // Only the real one knows all of its verbs. Of the mesh that does not run none is asked.
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "real cp a p:/b --kubeconfig x\nreal kustomize shop\n"
    );
    refused(&said, "no mesh \"none\" is running");
    // What would go to another cluster than is meant does not.
    let elsewhere = format!("{with_real} export KUBECONFIG=$PWD/other;");
    refused(&run(&format!("{elsewhere} kubectl drain node")), "no mesh \"none\" is running");
    refused(&run(&format!("{elsewhere} k top pods --context ../x")), "is no name of a mesh");
    // Verbs of ironmesh stay its own, and so do those of its own name.
    refused(&run(&format!("{elsewhere} kubectl get pods")), "no mesh \"none\" is running");
    let own = run(&format!("{with_real} {BINARY} cp a p:/b"));
    assert!(own.status.code() == Some(2) && own.stdout.is_empty(), "{own:?}");

    let namespace = "{apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
    let Some(mesh) = Running::start(namespace, &[]) else { return };
    for (name, script) in [
        (&*mesh.name, "kubectl diff -f x".to_owned()),
        ("none", format!("kubectl diff -f x --context={}", mesh.name)),
    ] {
        let said = ok(&bash(&folder, name, &format!("{elsewhere} {script}")));
        let (words, config) = said.split_once('\n').unwrap();
        assert_eq!(words, script.replace("kubectl", "real"));
        let config: Value = serde_json::from_str(config).unwrap();
        assert_eq!(config["current-context"], *mesh.name);
        assert!(config["users"][0]["user"]["token"].is_string());
    }
}

#[test]
fn other_charts_go_to_the_real_helm() {
    let folder = shims();
    let run = |script: &str| bash(&folder, "none", script);
    let other = "helm install ratingsdb bitnami/mongodb -n db --set a=b";
    let script = format!("PATH=$PWD/bin; {other}");
    refused(&run(&script), "hands over to the helm that comes after it on PATH, and there is none");
    real(&folder, "helm");
    let script = format!(
        "PATH=$PATH:$PWD/real; helm repo add bitnami https://x; helm search repo bitnami; helm version; \
         {other} --kubeconfig x"
    );
    let said = "real repo add bitnami https://x\nreal search repo bitnami\nreal version\n\
                real install ratingsdb bitnami/mongodb -n db --set a=b --kubeconfig x\n";
    assert_eq!(ok(&run(&script)), said);
    // No other cluster is taken for the mesh that does not run.
    let script = format!("PATH=$PATH:$PWD/real; export KUBECONFIG=$PWD/other; {other}");
    refused(&run(&script), "no mesh \"none\" is running");
    let mesh = Mesh::start();
    let script = format!("PATH=$PATH:$PWD/real; export KUBECONFIG=$PWD/other; {other}");
    let said = bash(&folder, &mesh.name(), &script);
    if String::from_utf8_lossy(&said.stderr).contains("serves its API on no port") {
        return;
    }
    let said = ok(&said);
    let (words, config) = said.split_once('\n').unwrap();
    assert_eq!(words, "real install ratingsdb bitnami/mongodb -n db --set a=b");
    let config: Value = serde_json::from_str(config).unwrap();
    assert_eq!(config["current-context"], mesh.name());
    assert!(config["users"][0]["user"]["token"].is_string());
}

const KIALI: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kiali, namespace: istio-system, labels: {app: kiali}}
spec: {containers: [{name: kiali, image: 'quay.io/kiali/kiali:v1.50', ports: [{containerPort: 20001}]}]}
";

#[test]
fn a_dashboard_takes_another_port_where_its_own_is_taken() {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let Some(mesh) = Running::start(KIALI, &[]) else { return };
    let none = mesh.run(&["dashboard", "grafana"]);
    assert!(none.code == 1 && none.err.contains("no pod with the label app=grafana"), "{none:?}");
    let other = mesh.run(&["dashboard", "kiali", "some-pod"]);
    assert!(other.code == 1 && other.err.contains("only envoy takes a pod"), "{other:?}");
    assert_eq!(mesh.run(&["dashboard", "nothing"]).code, 2);

    // Taken by us, or by somebody else already.
    let _taken = TcpListener::bind("127.0.0.1:20001");
    let mut command = mesh.command(&["dashboard", "kiali", "--browser=false"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port =
        line.strip_prefix("http://localhost:").and_then(|rest| rest.strip_suffix("/kiali\n"));
    let port: u16 = port.unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    assert_ne!(port, 20001);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /kiali HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("kiali"), "{answer}");
    child.kill().unwrap();
    let said = child.wait_with_output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    let notice =
        "Unable to listen on port 20001: Listeners failed to create with the following errors: [";
    assert!(said.starts_with(notice), "{said}");
}

#[test]
fn an_analysis_says_where_what_is_wrong_and_changes_nothing() {
    let mesh = Mesh::start();
    assert!(mesh.run("analyze").ok().starts_with("✔ No validation issues found"));
    mesh.write(
        "routes.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: reviews}\nspec:\n  hosts: [reviews]\n  http:\n  - route: [{destination: {host: missing}}]\n",
    );
    let place = "(VirtualService default/reviews routes.yaml:7)";
    let alone = mesh.run("analyze --use-kube=false routes.yaml");
    let said = mesh.run("analyze routes.yaml");
    for said in [&alone, &said] {
        assert!(said.out.contains(place) && said.out.contains("[IM0104]"), "{said:?}");
    }
    assert_eq!(mesh.run("get vs reviews").code, 1, "it was applied");
    assert_eq!(mesh.run("analyze --failure-threshold Info routes.yaml").code, 1);
    // What the mesh has counts, too; so does what stands in the files beside it.
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {selector: {app: a}, ports: [{port: 80}]}\n";
    for name in ["missing", "reviews"] {
        mesh.run_with("apply -f -", &service.replace("NAME", name)).ok();
    }
    let said = mesh.run("analyze routes.yaml").ok();
    assert!(!said.contains("IM0104"), "{said}");
    assert!(mesh.run("analyze --use-kube=false routes.yaml").out.contains("IM0104"));
    mesh.run("apply -f routes.yaml").ok();
    mesh.run("delete svc missing").ok();
    await_some("the finding of the mesh", || {
        mesh.run("analyze -A")
            .out
            .contains("[IM0104] (VirtualService default/reviews) ")
            .then_some(())
    });
    let all: Value = serde_json::from_str(&mesh.run("analyze -o json").out).unwrap();
    assert!(all.as_array().unwrap().iter().any(|one| one["code"] == "IM0104"), "{all}");
    // Workloads of the files count as if they ran; so does the gateway that every mesh has.
    mesh.write(
        "workloads.yaml",
        &(service.replace("NAME", "a")
            + "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec:\n  selector: {matchLabels: {app: a}}\n  template:\n    metadata: {labels: {app: a, version: v1}}\n    spec: {containers: [{name: a, image: a}]}\n---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a}\nspec:\n  host: a\n  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]\n---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  selector: {istio: ingressgateway}\n  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]\n"),
    );
    for kube in ["false", "true"] {
        let said = mesh.run(&format!("analyze --use-kube={kube} workloads.yaml")).ok();
        let of_subsets: Vec<_> = said.lines().filter(|line| line.contains("[IM0112]")).collect();
        assert!(matches!(of_subsets[..], [line] if line.contains("spec.subsets[1]: ")), "{said}");
        // Nothing runs here that the mesh could know.
        assert_eq!(said.contains("[IM0111]"), kube == "true", "{said}");
    }
    mesh.write("broken.yaml", "a: [1\n");
    assert_eq!(mesh.run("analyze broken.yaml").code, 1);
    assert_eq!(mesh.run("analyze missing.yaml").code, 1);
    assert_eq!(mesh.run("analyze --use-kube=false").code, 1);
}
