//! A real `kubectl` works on a mesh. Where there is none, that is said and nothing is tried.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::running::{Running, Said, as_every_user, await_some, samples};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: details, labels: {app: details}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: details
    image: docker.io/istio/examples-bookinfo-details-v1:1.20.3
    ports: [{name: web, containerPort: 9080}]
";

/// A kubectl with the kubeconfig that the mesh prints.
struct Kubectl<'a> {
    mesh: &'a Running,
}

impl<'a> Kubectl<'a> {
    fn of(mesh: &'a Running) -> Self {
        mesh.write("kubeconfig", &mesh.ok(&["kubeconfig"]));
        Self { mesh }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        let folder = self.mesh.folder.path();
        command.arg("--kubeconfig").arg(folder.join("kubeconfig"));
        command.args(line.split(' ')).current_dir(folder).env("HOME", folder);
        command
    }

    fn run(&self, line: &str) -> Said {
        Said::of(self.command(line))
    }

    fn ok(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!(said.code, 0, "{line}: {said:?}");
        said.out
    }

    fn with_input(&self, line: &str, input: &str) -> Said {
        Self::given(self.command(line), input)
    }

    fn given(mut command: Command, input: &str) -> Said {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // Whoever reads nothing may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn can_run() -> bool {
    let client = Command::new("kubectl").args(["version", "--client"]).output();
    if !client.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: there is no kubectl");
        return false;
    }
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return false;
    }
    true
}

#[test]
fn a_real_kubectl_works_on_a_mesh_by_its_kubeconfig() {
    if !can_run() {
        return;
    }
    as_every_user(POD, &[], |mesh| {
        let kubectl = Kubectl::of(mesh);
        assert!(kubectl.ok("get pods").contains("details   1/1     Running"));
        commands(&kubectl);
        inputs(&kubectl);
        objects(&kubectl);
        reaches(&kubectl);
        // Who has another token is nobody.
        let config = mesh.ok(&["kubeconfig"]).replace("token: ", "token: x");
        mesh.write("kubeconfig", &config);
        let refused = kubectl.run("get pods");
        assert!(refused.code != 0 && !refused.out.contains("details"), "{refused:?}");
    });
}

/// Commands in containers.
fn commands(kubectl: &Kubectl<'_>) {
    let said = kubectl.run("exec details -- sh -c exit${IFS}3");
    assert_eq!(said.code, 3, "{said:?}");
    let said = kubectl.with_input("exec -i details -- cat", "to and fro");
    assert_eq!((said.code, &*said.out), (0, "to and fro"), "{said:?}");
    // As older ones do it.
    let mut older = kubectl.command("exec -i details -- sh -c cat;exit${IFS}4");
    older.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
    let said = Kubectl::given(older, "to and fro");
    assert_eq!((said.code, &*said.out), (4, "to and fro"), "{said:?}");
    // What was said before all that comes has been read is heard.
    let said = kubectl.with_input("exec -i details -- head -n1", &"a line\n".repeat(500_000));
    assert_eq!((said.code, &*said.out), (0, "a line\n"), "{said:?}");
    let said = kubectl.run("exec details -- sh -c sleep${IFS}1000&");
    assert_eq!(said.code, 0, "{said:?}");
    let said = kubectl.run("exec details -- /no/such/program");
    assert!(said.code != 0 && !said.err.is_empty(), "{said:?}");
    kubectl.mesh.write("there", &"a line\n".repeat(100_000));
    kubectl.ok("cp there details:/tmp/there");
    kubectl.ok("cp details:/tmp/there back");
    let read = |name| std::fs::read(kubectl.mesh.folder.path().join(name)).unwrap();
    assert!(read("there") == read("back"));
}

/// Requests that go on to applications, and what these take.
fn reaches(kubectl: &Kubectl<'_>) {
    let of_pod = "get --raw /api/v1/namespaces/default/pods/details:9080/proxy/details/0";
    assert!(kubectl.ok(of_pod).contains("PublisherA"));
    kubectl.ok("expose pod details --name shown --port 80 --target-port 9080");
    let of_service = "get --raw /api/v1/namespaces/default/services/shown/proxy/details/0";
    await_some("the Service's pod", || (kubectl.run(of_service).code == 0).then_some(()));
    let said = kubectl.run("get --raw /api/v1/namespaces/default/pods/details:9/proxy/");
    assert!(said.code != 0 && said.err.contains("error trying to reach port 9"), "{said:?}");
    let top = kubectl.ok("top pod details --containers --no-headers");
    let row: Vec<&str> = top.split_whitespace().collect();
    assert_eq!(row[..2], ["details", "details"], "{top}");
    let mebibytes = row[3].strip_suffix("Mi").and_then(|number| number.parse::<u32>().ok());
    assert!(mebibytes > Some(0), "{top}");
    kubectl.ok("run busy --image=busybox --restart=Never -- dd if=/dev/zero of=/dev/null");
    await_some("a busy container", || {
        let said = kubectl.run("top pods -l run=busy --no-headers");
        let millis = said.out.split_whitespace().nth(1)?.strip_suffix('m')?.parse::<u32>().ok()?;
        (millis > 50).then_some(())
    });
    assert!(kubectl.ok("top nodes").contains('%'));
    kubectl.ok("delete pod busy --grace-period=0");
}

/// The standard input of a container that has one.
fn inputs(kubectl: &Kubectl<'_>) {
    // A text that begins with a brace is JSON to older kubectls.
    let pod = "kind: Pod\napiVersion: v1\nmetadata: {name: once}\nspec: {restartPolicy: Never, \
               containers: [{name: c, image: busybox, command: [cat], stdin: true, stdinOnce: true}]}";
    kubectl.mesh.write("once.yaml", pod);
    kubectl.ok("apply -f once.yaml");
    kubectl.ok("wait --for=condition=Ready pod/once --timeout=60s");
    let said = kubectl.with_input("attach -i once", "to it\n");
    assert!(said.code == 0 && said.out.contains("to it"), "{said:?}");
    kubectl.ok("wait --for=jsonpath={.status.phase}=Succeeded pod/once --timeout=60s");
    let said =
        kubectl.with_input("run twice --image=busybox --restart=Never --rm -i -q -- cat", "more\n");
    assert!(said.code == 0 && said.out.contains("more"), "{said:?}");
    // What was written before kubectl came is not lost, and what has ended by then is shown from its log.
    for (script, out) in [
        ("echo${IFS}early;exit${IFS}3", "early\n"),
        ("echo${IFS}early;cat;exit${IFS}3", "early\nlate\n"),
    ] {
        let run = "run early --image=busybox --restart=Never --rm -i -q --command -- sh -c";
        let said = kubectl.with_input(&format!("{run} {script}"), "late\n");
        assert!(said.code == 3 && said.out.contains(out), "{said:?}");
    }
    // One whose manifest has none gets none.
    let said = kubectl.with_input("attach -i details", "nobody reads this");
    assert!(said.code != 0 && said.err.contains("no standard input"), "{said:?}");
}

/// What is done with objects.
fn objects(kubectl: &Kubectl<'_>) {
    kubectl.ok("create namespace shop");
    kubectl.ok("create secret generic s --from-literal=a=b -n shop");
    kubectl.ok("create configmap c --from-literal=a=b -n shop");
    kubectl.ok("label ns shop a=b");
    kubectl.ok("annotate ns shop a=b");
    kubectl.ok("patch ns shop -p {\"metadata\":{\"labels\":{\"c\":\"d\"}}}");
    assert_eq!(
        kubectl.ok("get ns shop -o jsonpath={.metadata.labels.a}{.metadata.labels.c}"),
        "bd"
    );
    kubectl.ok("label ns shop istio-injection=enabled");
    kubectl.ok("create deployment web --image=ironmesh/sleep -n shop");
    kubectl.ok("rollout status deployment/web -n shop --timeout=60s");
    // Of which `istio-init` is one that has nothing to say.
    kubectl.ok("logs deployment/web -n shop --all-containers");
    assert_eq!(kubectl.ok("logs deployment/web -n shop -c istio-init"), "");
    kubectl.ok("scale deployment/web --replicas=2 -n shop");
    kubectl
        .ok("wait --for=jsonpath={.status.readyReplicas}=2 deployment/web -n shop --timeout=60s");
    assert!(kubectl.ok("explain deployment.spec.replicas").contains("<integer>"));
    // As older ones ask for it.
    let explained = kubectl.ok("explain deployment.spec --output=plaintext-openapiv2");
    assert!(explained.contains("replicas\t<integer>"), "{explained}");
    assert!(kubectl.ok("describe pod details").contains("Ready"));
    assert!(kubectl.ok("api-resources").contains("virtualservices"));
    assert_eq!(kubectl.ok("auth can-i create pods"), "yes\n");
    let said = kubectl.run("auth can-i get secrets --as=system:serviceaccount:shop:default");
    assert!(said.code == 1 && said.out.starts_with("no"), "{said:?}");
    let token = kubectl.ok("create token default -n shop");
    assert_eq!(token.split('.').count(), 3, "{token}");
    let manifest = "---\n{apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: shop}, data: {a: new}}";
    kubectl.mesh.write("c.yaml", manifest);
    let said = kubectl.run("diff -f c.yaml");
    assert!(said.code == 1 && said.out.contains("+  a: new"), "{said:?}");
    kubectl.ok("apply -f c.yaml");
    assert_eq!(kubectl.run("diff -f c.yaml").code, 0);
    server_side_apply(kubectl);
    old_versions(kubectl);
    rollouts(kubectl);
    findings(kubectl);
    kubectl.ok("delete namespace shop");
}

/// Manifests of years ago, in versions that kubectl finds in discovery alone.
fn old_versions(kubectl: &Kubectl<'_>) {
    kubectl.mesh.write(
        "old.yaml",
        "---\n{apiVersion: extensions/v1beta1, kind: Deployment, metadata: {name: old, namespace: shop}, \
         spec: {template: {metadata: {labels: {app: old}}, spec: {containers: [{name: c, image: ironmesh/sleep}]}}}}\n\
         ---\n{apiVersion: extensions/v1beta1, kind: Ingress, metadata: {name: old, namespace: shop}, \
         spec: {backend: {serviceName: old, servicePort: 80}}}",
    );
    kubectl.ok("apply -f old.yaml");
    let said = kubectl.ok("apply -f old.yaml");
    assert_eq!(said.matches(" unchanged").count(), 2, "{said}");
    assert!(
        kubectl.ok("get deployments,ingresses -n shop -o name").contains("deployment.apps/old\n")
    );
    assert_eq!(kubectl.ok("get all -n shop -o name").matches("/old\n").count(), 1);
    kubectl.ok("delete -f old.yaml");
}

/// The histories of what keeps its templates as ControllerRevisions.
fn rollouts(kubectl: &Kubectl<'_>) {
    for kind in ["DaemonSet", "StatefulSet"] {
        let set = format!(
            "---\n{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: s, namespace: shop}}, \
             spec: {{selector: {{matchLabels: {{app: s}}}}, template: {{metadata: {{labels: {{app: s}}}}, \
             spec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: ironmesh/sleep}}]}}}}}}}}"
        );
        kubectl.mesh.write("set.yaml", &set);
        kubectl.ok("apply -f set.yaml");
        kubectl.ok(&format!("rollout status {kind}/s -n shop --timeout=60s"));
        kubectl.ok(&format!("set env {kind}/s -n shop NEW=1"));
        kubectl.ok(&format!("rollout status {kind}/s -n shop --timeout=60s"));
        kubectl.ok(&format!("annotate {kind}/s -n shop kubernetes.io/change-cause=because"));
        kubectl.ok(&format!("set env {kind}/s -n shop NEW=2"));
        kubectl.ok(&format!("rollout status {kind}/s -n shop --timeout=60s"));
        let history = kubectl.ok(&format!("rollout history {kind}/s -n shop"));
        for revision in ["1         <none>", "2         <none>", "3         because"] {
            assert!(history.contains(revision), "{history}");
        }
        let old = kubectl.ok(&format!("rollout history {kind}/s -n shop --revision=2"));
        assert!(old.contains("NEW:") && old.contains('1'), "{old}");
        // What the old template did not have is gone, too.
        kubectl.ok(&format!("rollout undo {kind}/s -n shop --to-revision=1"));
        let env =
            format!("get {kind} s -n shop -o jsonpath={{.spec.template.spec.containers[0].env}}");
        assert_eq!(kubectl.ok(&env), "");
        kubectl.ok(&format!("rollout status {kind}/s -n shop --timeout=60s"));
        kubectl.ok(&format!("rollout undo {kind}/s -n shop"));
        assert!(kubectl.ok(&env).contains("2"));
        kubectl.ok(&format!("delete {kind} s -n shop"));
    }
}

/// What the mesh finds, as warnings.
fn findings(kubectl: &Kubectl<'_>) {
    let route = |weight: u32| {
        format!(
            "---\n{{apiVersion: networking.istio.io/v1, kind: VirtualService, \
             metadata: {{name: r, namespace: shop}}, spec: {{hosts: [nosuch], \
             http: [{{route: [{{weight: {weight}, destination: {{host: nosuch}}}}]}}]}}}}"
        )
    };
    let nosuch = "Warning: IM0104 VirtualService shop/r spec.http[0].route[0].destination.host: \
                  no service is called nosuch.shop.svc.cluster.local";
    kubectl.mesh.write("r.yaml", &route(1));
    let said = kubectl.run("apply -f r.yaml");
    assert!(said.code == 0 && said.err.contains(nosuch), "{said:?}");
    let said = kubectl.run("apply -f r.yaml");
    assert!(said.out.contains("unchanged") && !said.err.contains("IM0104"), "{said:?}");
    kubectl.mesh.write("r.yaml", &route(2));
    let said = kubectl.run("replace -f r.yaml");
    assert!(said.code == 0 && said.err.contains(nosuch), "{said:?}");
    // Verbs that name no file, and those that change nothing.
    let kept = "Warning: IM0004 ResourceQuota shop/q: ResourceQuota (core) is kept, but nothing acts on it yet";
    for dry_run in [" --dry-run=server", ""] {
        let said = kubectl.run(&format!("create quota q --hard=pods=1 -n shop{dry_run}"));
        assert!(said.code == 0 && said.err.contains(kept), "{said:?}");
    }
}

fn server_side_apply(kubectl: &Kubectl<'_>) {
    let deployment = |spec: &str| {
        let pod = "{metadata: {labels: {app: x}}, spec: {containers: [{name: c, image: ironmesh/sleep}]}}";
        format!(
            "---\n{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: x, namespace: shop}}, \
             spec: {{{spec} selector: {{matchLabels: {{app: x}}}}, template: {pod}}}}}"
        )
    };
    let path = "{.spec.replicas}{.spec.minReadySeconds}";
    let get = format!("get deployment x -n shop -o jsonpath={path}");
    kubectl.mesh.write("a.yaml", &deployment("replicas: 1, minReadySeconds: 7,"));
    kubectl.ok("apply --server-side -f a.yaml");
    assert_eq!(kubectl.ok(&get), "17");
    kubectl.ok("scale deployment x --replicas=2 -n shop");
    let refused = kubectl.run("apply --server-side -f a.yaml");
    assert!(refused.code != 0 && refused.err.contains(".spec.replicas"), "{refused:?}");
    kubectl.mesh.write("a.yaml", &deployment(""));
    kubectl.ok("apply --server-side -f a.yaml");
    assert_eq!(kubectl.ok(&get), "2");
    kubectl.mesh.write("a.yaml", &deployment("replicas: 3,"));
    kubectl.ok("apply --server-side --force-conflicts -f a.yaml");
    assert_eq!(kubectl.ok(&get), "3");
}
