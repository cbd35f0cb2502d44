//! The verbs of kubectl that texts and people use, and what is said where they cannot do it.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::mesh::{ATTEMPTS, Mesh};

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {zone: b, app: web}}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: \"shop/web:1\"}]}
";

/// A manifest of a ConfigMap.
fn map(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n{more}---\n"
    )
}

#[test]
fn objects_of_the_command_line() {
    let mesh = Mesh::start();
    assert_eq!(mesh.run("create namespace shop").ok(), "namespace/shop created\n");
    let again = mesh.run("create ns shop");
    let exists = "Error from server (AlreadyExists): namespaces \"shop\" already exists\n";
    assert_eq!((again.code, &*again.err), (1, exists));
    let line = "create secret generic login -n shop --from-literal=user=me --from-file=key=k";
    mesh.write("k", "s3cret");
    assert_eq!(mesh.run(line).ok(), "secret/login created\n");
    let data = mesh.run("get secret login -n shop -o jsonpath={.data}").ok();
    assert_eq!(data, r#"{"key":"czNjcmV0","user":"bWU="}"#);
    // Only printed, for `apply -f -`.
    let printed = mesh.run("create configmap conf --from-file=k --dry-run=client -o yaml").ok();
    assert_eq!(mesh.run_with("apply -f -", &printed).ok(), "configmap/conf created\n");
    assert_eq!(mesh.run("get cm conf -o jsonpath={.data.k}").ok(), "s3cret");
    let made = mesh.run("create deployment api --image=a/api:1 --port=80").ok();
    assert_eq!(made, "deployment.apps/api created\n");
    assert_eq!(mesh.run("expose deployment api").ok(), "service/api exposed\n");
    let port = mesh.run("get svc api -o jsonpath={.spec.ports[0].port}/{.spec.selector.app}").ok();
    assert_eq!(port, "80/api");
    for (words, row) in [
        ("clusterip c --tcp=80:8080", "ClusterIP/8080/c"),
        ("nodeport n --tcp=80 --node-port=30123", "NodePort/80/n"),
        ("loadbalancer l --tcp=80:http,81", "LoadBalancer/http/l"),
        ("externalname e --external-name=db.example.com", "ExternalName//e"),
    ] {
        let name = words.split(' ').nth(1).unwrap();
        let made = mesh.run(&format!("create service {words}")).ok();
        assert_eq!(made, format!("service/{name} created\n"));
        let fields = "{.spec.type}/{.spec.ports[0].targetPort}/{.spec.selector.app}";
        assert_eq!(mesh.run(&format!("get svc {name} -o jsonpath={fields}")).ok(), row);
    }
    assert_eq!(mesh.run("get svc n -o jsonpath={.spec.ports[0].nodePort}").ok(), "30123");
    for (bad, said) in [
        ("create service clusterip x", "at least one port"),
        ("create service clusterip x --tcp=http", "PORT:TARGET"),
        ("create secret tls t --cert=k --key=k", "no PEM"),
        ("create secret generic x --from-file=none", "reading none"),
        ("create secret generic x --from-literal=a=1 --from-literal=a=2", "already exists"),
        ("create namespace Shop", "RFC 1123"),
        ("create frobnicator x", "unrecognized subcommand"),
    ] {
        let refused = mesh.run(bad);
        assert!(refused.code != 0 && refused.err.contains(said), "{bad}: {refused:?}");
    }
}

#[test]
fn replace_keeps_nothing_of_others() {
    let mesh = Mesh::start();
    mesh.write("map.yaml", &map("m", ""));
    let missing = mesh.run("replace -f map.yaml");
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("(NotFound): error when replacing \"map.yaml\""), "{missing:?}");
    mesh.run("create -f map.yaml").ok();
    mesh.run("label cm m others=1").ok();
    assert_eq!(mesh.run("replace -f map.yaml").ok(), "configmap/m replaced\n");
    assert_eq!(mesh.run("get cm m -o jsonpath={.metadata.labels}").ok(), "");
    let uid = || mesh.run("get cm m -o jsonpath={.metadata.uid}").ok();
    let first = uid();
    assert_eq!(mesh.run("replace --force -f map.yaml").ok(), "configmap/m replaced\n");
    assert_ne!(uid(), first);
    mesh.run("delete cm m").ok();
    assert_eq!(mesh.run("replace --force -f map.yaml").ok(), "configmap/m replaced\n");
}

#[test]
fn patches_of_three_types() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", DEPLOYMENT).ok();
    let image = "get deploy web -o jsonpath={.spec.template.spec.containers[*].image}";
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","image":"x:2"}]}}}}"#;
    let patched = mesh.run(&format!("patch deploy web -p {strategic}")).ok();
    assert_eq!(patched, "deployment.apps/web patched\n");
    assert_eq!(mesh.run(image).ok(), "x:2");
    let again = mesh.run(&format!("patch deploy web -p {strategic}")).ok();
    assert_eq!(again, "deployment.apps/web patched (no change)\n");
    let json =
        r#"[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"x:3"}]"#;
    mesh.run(&format!("patch deploy/web --type=json -p {json}")).ok();
    assert_eq!(mesh.run(image).ok(), "x:3");
    mesh.write("p.yaml", "metadata:\n  labels:\n    zone: null\n");
    mesh.run("patch deploy web --type=merge --patch-file=p.yaml").ok();
    assert_eq!(mesh.run("get deploy web -o jsonpath={.metadata.labels}").ok(), r#"{"app":"web"}"#);
    for (bad, said) in [
        ("patch deploy web -p []", "no object"),
        ("patch deploy web --type=json -p {}", "no list of operations"),
        ("patch deploy web -p {", "unable to parse the patch"),
        ("patch vs x -p {}", "not found"),
    ] {
        let refused = mesh.run(bad);
        assert!(refused.code == 1 && refused.err.contains(said), "{bad}: {refused:?}");
    }
}

#[test]
fn images_replicas_and_the_way_back() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", DEPLOYMENT).ok();
    let image = "get deploy web -o jsonpath={.spec.template.spec.containers[0].image}";
    mesh.until("get rs -l app=web -o custom-columns=N:.spec.replicas --no-headers", "1");
    assert_eq!(
        mesh.run("set image deployment/web web=shop/web:2").ok(),
        "deployment.apps/web image updated\n"
    );
    assert_eq!(mesh.run(image).ok(), "shop/web:2");
    let history =
        "deployment.apps/web \nREVISION  CHANGE-CAUSE\n1         <none>\n2         <none>";
    mesh.until("rollout history deploy/web", history);
    assert_eq!(
        mesh.run("rollout undo deploy/web --to-revision=1").ok(),
        "deployment.apps/web rolled back\n"
    );
    assert_eq!(mesh.run(image).ok(), "shop/web:1");
    let same = mesh.run("rollout undo deploy/web --to-revision=7");
    assert_eq!(same.err, "error: unable to find specified revision 7 in history\n");
    let none = mesh.run("set image deployment/web nobody=x:1");
    assert_eq!(none.err, "error: unable to find container named \"nobody\"\n");
    let other = mesh.run("scale deploy web --current-replicas=5 --replicas=2");
    assert_eq!(other.err, "error: Expected replicas to be 5, was 1\n");
    let scaled = mesh.run("scale deploy web --current-replicas=1 --replicas=2").ok();
    assert_eq!(scaled, "deployment.apps/web scaled\n");
    assert!(mesh.run("scale svc istio-ingressgateway -n istio-system --replicas=2").code == 1);
}

#[test]
fn columns_and_order_of_tables() {
    let mesh = Mesh::start();
    for (name, size, zone) in [("m-10", "2", "a"), ("m-9", "10", "b")] {
        mesh.run_with("apply -f -", &map(name, "")).ok();
        mesh.run(&format!("label cm {name} zone={zone} size={size} app=x")).ok();
    }
    let names = |line: &str| -> Vec<String> {
        let said = mesh.run(line).ok();
        said.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let table = "get cm -l app=x --no-headers --sort-by";
    assert_eq!(names(&format!("{table}=.metadata.name")), ["m-9", "m-10"]);
    assert_eq!(names(&format!("{table}={{.metadata.labels.size}}")), ["m-10", "m-9"]);
    assert_eq!(names("get cm -l app=x -o name --sort-by=.metadata.name").len(), 2);
    let columns = mesh.run("get cm -l app=x -L zone,size").ok();
    assert!(columns.lines().next().unwrap().ends_with("ZONE   SIZE"), "{columns}");
    assert!(columns.lines().nth(1).unwrap().ends_with("a      2"), "{columns}");
    let labels = mesh.run("get cm m-9 --show-labels").ok();
    assert!(labels.trim_end().ends_with("app=x,size=10,zone=b"), "{labels}");
    mesh.write("both.yaml", &(map("m-9", "") + &map("m-10", "")));
    assert_eq!(mesh.run("get -f both.yaml -o name").ok(), "configmap/m-9\nconfigmap/m-10\n");
    mesh.write("columns", "NAME            ZONE\n.metadata.name  .metadata.labels.zone\n");
    let filed = mesh.run("get cm m-9 -o custom-columns-file=columns").ok();
    assert_eq!(filed, "NAME   ZONE\nm-9    b\n");
    let template = mesh.run("get cm -o go-template={{.}}");
    assert!(template.code == 2 && template.err.contains("-o jsonpath="), "{template:?}");
}

#[test]
fn labels_of_many_and_what_stays_as_it_is() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", &(map("a", "") + &map("b", ""))).ok();
    let both = "configmap/a labeled\nconfigmap/b labeled\n";
    assert_eq!(mesh.run("label cm a b team=x").ok(), both);
    assert_eq!(mesh.run("label cm -l team=x team=y --overwrite").ok(), both);
    // One that cannot be changed keeps no other from it.
    mesh.run("label cm a tier=1").ok();
    let some = mesh.run("label cm a b tier=2");
    assert_eq!((some.code, &*some.out), (1, "configmap/b labeled\n"), "{some:?}");
    assert_eq!(mesh.run("label cm a --list").ok(), "team=y\ntier=1\n");
    let gone = mesh.run("label cm a none-");
    assert_eq!((gone.code, &*gone.err), (0, "label \"none\" not found.\n"));
    assert_eq!(mesh.run("label cm a x=1 x-").code, 1);
    let dry = mesh.run("label cm a dry=1 --dry-run=server").ok();
    assert_eq!(dry, "configmap/a labeled (server dry run)\n");
    assert_eq!(mesh.run("get cm a -o jsonpath={.metadata.labels.dry}").ok(), "");
}

#[test]
fn waiting_for_values_ends_and_nothing() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", &(map("a", "") + &map("b", ""))).ok();
    let value = mesh.run("wait --for=jsonpath={.data.a}=b cm/a cm/b").ok();
    assert_eq!(value, "configmap/a condition met\nconfigmap/b condition met\n");
    let late = mesh.run("wait --for=jsonpath={.data.a}=c cm/a --timeout=0s");
    assert_eq!(late.err, "error: timed out waiting for the condition on configmaps/a\n");
    let nothing = mesh.run("wait --for=condition=Ready pod -l app=none");
    assert_eq!((nothing.code, &*nothing.err), (1, "error: no matching resources found\n"));
    let bad = mesh.run("wait --for=ready cm/a");
    assert!(bad.code == 2 && bad.err.contains("jsonpath="), "{bad:?}");
    let (held, free) = (map("held", ""), "configmap \"b\" deleted");
    mesh.run_with("apply -f -", &held.replace("{name: held}", "{name: held, finalizers: [a.b/c]}"))
        .ok();
    mesh.run("delete cm held --wait=false").ok();
    let waiting = mesh.run("wait --for=delete cm/held cm/none --timeout=0s");
    assert_eq!(waiting.code, 1, "{waiting:?}");
    // The first failure leaves the others to be deleted.
    let some = mesh.run("delete cm a none b");
    assert_eq!(some.code, 1);
    assert!(some.out.contains(free) && some.err.contains("\"none\" not found"), "{some:?}");
    assert_eq!(mesh.run("wait --for=delete cm/a cm/b").ok(), "");
}

#[test]
fn orphans_are_left() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", DEPLOYMENT).ok();
    mesh.until("get rs -l app=web -o custom-columns=N:.spec.replicas --no-headers", "1");
    mesh.run("delete deploy web --cascade=orphan").ok();
    mesh.until("get rs -l app=web -o jsonpath={.items[*].metadata.ownerReferences[*].kind}", "");
    assert_eq!(mesh.run("get rs -l app=web -o name").ok().lines().count(), 1);
    assert_eq!(mesh.run("delete rs --all --cascade=sideways").code, 2);
}

#[test]
fn manifests_by_url_of_this_machine_alone_are_plain_http() {
    let mesh = Mesh::start();
    let answer = |kind: &str, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    let page = "<!DOCTYPE html><html>no manifest</html>";
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answers = [
        answer("text/plain", &map("by-url", "")),
        answer("text/html", page),
        answer("text/plain", page),
        elsewhere.to_owned(),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        answer("text/plain", &map("by-url", "")),
    ];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.yaml", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert_eq!(mesh.run(&format!("apply -f {url}")).ok(), "configmap/by-url created\n");
    for said in ["web page", "web page", "plain http", "404"] {
        let refused = mesh.run(&format!("create -f {url}"));
        assert!(refused.code == 1 && refused.err.contains(said), "{said}: {refused:?}");
        assert_eq!(refused.out, "");
    }
    assert_eq!(mesh.run(&format!("delete -f {url}")).ok(), "configmap \"by-url\" deleted\n");
    server.join().unwrap();
    let refused = mesh.run("apply -f http://192.0.2.1/a.yaml");
    assert!(refused.code == 1 && refused.err.contains("use https"), "{refused:?}");
}

#[test]
fn kinds_that_there_are_not_are_guessed_and_definitions_add_some() {
    let mesh = Mesh::start();
    let misspelt = mesh.run_with("apply -f -", &DEPLOYMENT.replace("Deployment", "Deploymnt"));
    assert_eq!((misspelt.code, &*misspelt.out), (1, ""), "{misspelt:?}");
    assert!(misspelt.err.contains("no matches for kind \"Deploymnt\""), "{misspelt:?}");
    assert!(misspelt.err.contains("did you mean \"Deployment\""), "{misspelt:?}");
    let misspelt = mesh.run("get deploymnts");
    assert!(misspelt.err.contains("did you mean \"deployments\"?"), "{misspelt:?}");
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w}\nspec: {size: 1}\n";
    assert_eq!(mesh.run_with("create -f -", widget).code, 1);
    let definition = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets, shortNames: [wd]}
  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}]
---
";
    let both = mesh.run_with("apply -f -", &format!("{definition}{widget}"));
    assert_eq!(both.code, 0, "{both:?}");
    // Neither is a warning: the one needs nobody, the other has its definition.
    assert!(!both.err.contains("CustomResourceDefinition"), "{both:?}");
    assert_eq!(mesh.run("get wd -o jsonpath={.items[*].spec.size}").ok(), "1");
    assert_eq!(mesh.run_with("delete -f -", widget).ok(), "widget.example.com \"w\" deleted\n");
}

#[test]
fn a_misspelt_field_is_named_beside_what_is_missing() {
    let mesh = Mesh::start();
    let service = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a]
  http:
  - rout: [{destination: {host: a}}]
";
    let refused = mesh.run_with("apply -f -", service);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("needs route"), "{refused:?}");
    assert!(refused.err.contains("did you mean \"route\""), "{refused:?}");
}

#[test]
fn findings_are_counted_said_once_and_by_all_verbs() {
    let mesh = Mesh::start();
    let rule = |name: usize| {
        format!(
            "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata: {{name: r{name}}}\nspec: {{}}\n---\n"
        )
    };
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: c}\nrules: []\n";
    mesh.write("rules.yaml", &((0..9).map(rule).collect::<String>() + role));
    let line = "rules.yaml:1: warning IM0004 TrafficTarget default/r0: TrafficTarget (access.smi-spec.io) is kept, but nothing acts on it yet (and 8 more IM0004 of TrafficTarget: -v shows all)\n";
    let dry = mesh.run("create -f rules.yaml --dry-run=server");
    assert_eq!((dry.code, &*dry.err), (0, line));
    let created = mesh.run("create -f rules.yaml");
    assert_eq!((created.code, &*created.err), (0, line));
    let unchanged = mesh.run("apply -f rules.yaml");
    let unchanged = (unchanged.code, unchanged.err, mesh.run("apply -f rules.yaml").err);
    assert_eq!((unchanged.0, &*unchanged.2), (0, ""), "{unchanged:?}");
    let all = mesh.run("apply -v -f rules.yaml");
    assert_eq!(all.err.matches("IM0004 TrafficTarget").count(), 9, "{all:?}");
    assert!(all.err.contains("info IM0120 ClusterRole c"), "{all:?}");
}

#[test]
fn nothing_in_a_manifest_is_an_error() {
    let mesh = Mesh::start();
    for verb in ["apply", "create", "replace"] {
        let said = mesh.run_with(&format!("{verb} -f -"), "# nothing\n---\n");
        let expected = format!("error: no objects passed to {verb}: there is none in -\n");
        assert_eq!((said.code, &*said.err), (1, &*expected));
    }
    assert!(mesh.run("apply -f .").err.contains("recognized file extensions"));
    let unnamed = mesh.run("apply my.yaml");
    assert!(unnamed.code == 2 && unnamed.err.contains("-f my.yaml"), "{unnamed:?}");
    let unknown = mesh.run("get pods --sort");
    assert!(unknown.code == 2 && !unknown.err.contains("use '-- "), "{unknown:?}");
    let built = mesh.run("apply -k .");
    assert!(built.code == 1 && built.err.contains("kubectl kustomize"), "{built:?}");
}

#[test]
fn a_watch_of_two_kinds_shows_both() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", &map("first", "")).ok();
    let said = mesh.shell(
        r#"
        "$0" --mesh "$1" get cm,sa -w --no-headers > "$0.watch.$1" & W=$!
        trap 'kill $W 2>/dev/null; rm -f "$0.watch.$1"' EXIT
        seen() { for _ in $(seq 3000); do grep -q "$1" "$F" && return; sleep 0.02; done; echo "no $1"; }
        F="$0.watch.$1"
        seen configmap/first
        "$0" --mesh "$1" create sa later > /dev/null
        "$0" --mesh "$1" create cm later > /dev/null
        seen serviceaccount/later
        seen configmap/later
        "#,
    );
    assert_eq!((said.code, &*said.out), (0, ""), "{said:?}");
}

#[test]
fn what_an_editor_leaves_is_taken_or_kept() {
    let mesh = Mesh::start();
    mesh.run_with("apply -f -", &map("m", "")).ok();
    let edit = |script: &str| {
        mesh.shell(&format!("KUBE_EDITOR=\"{script}\" \"$0\" --mesh \"$1\" edit cm m"))
    };
    assert_eq!(edit("sed -i 's/a: b/a: c/'").ok(), "configmap/m edited\n");
    assert_eq!(mesh.run("get cm m -o jsonpath={.data.a}").ok(), "c");
    let same = edit("true");
    assert_eq!((same.code, &*same.err), (0, "Edit cancelled, no changes made.\n"));
    let renamed = edit("sed -i 's/  name: m/  name: n/'");
    assert!(renamed.code == 1 && renamed.err.contains("metadata.name must stay"), "{renamed:?}");
    let kept = renamed.err.split('"').nth(1).unwrap();
    assert!(std::fs::read_to_string(kept).unwrap().contains("name: n"));
    std::fs::remove_file(kept).unwrap();
    let failed = edit("false");
    assert!(failed.code == 1 && !failed.err.contains("stored"), "{failed:?}");
}

#[test]
fn contexts_are_meshes_and_the_nearest_word_wins() {
    let (one, two) = (Mesh::start(), Mesh::start());
    for mesh in [&one, &two] {
        mesh.run_with("apply -f -", &map(&mesh.name(), "")).ok();
    }
    let script = format!(
        r#"
        export XDG_CONFIG_HOME=$(mktemp -d); trap 'rm -r "$XDG_CONFIG_HOME"' EXIT
        unset IRONMESH_MESH; I="$0"; ONE={one}; TWO={two}
        mine() {{ "$I" "$@" get cm -o jsonpath='{{.items[*].metadata.name}}'; echo; }}
        "$I" config use-context $ONE
        mine
        IRONMESH_MESH=$TWO mine
        IRONMESH_MESH=$TWO mine --context $ONE
        mine --mesh $ONE --context=$TWO
        "$I" config current-context
        "$I" config get-contexts -o name | grep -c -e "^$ONE\$" -e "^$TWO\$"
        "$I" config set-context --current --namespace=kube-system
        "$I" get cm $ONE 2>&1
        "$I" config view --minify -o jsonpath='{{.contexts[*].name}} {{.contexts[*].context.namespace}}'; echo
        "$I" config unset contexts.$ONE.namespace
        "$I" get cm $ONE -o name
        "$I" config unset users.x 2>&1
        "$I" config use-context 'bad name' 2>&1
        "$I" config use-context nobody 2>&1 | sed 's/; running: .*//'
        "$I" config current-context
        "$I" --context ../x get cm 2>&1
        "$I" --context nobody down 2>&1
        "#,
        one = one.name(),
        two = two.name(),
    );
    let (one_name, two_name) = (one.name(), two.name());
    let name_rule = "is no name of a mesh: letters, digits, '-', '_' and '.', at most 55, and a letter or digit at the beginning";
    let said = one.shell(&script);
    // Other meshes may run.
    let out = said.out.split("; running: ").next().unwrap();
    assert_eq!(
        out,
        format!(
            "Switched to context {one_name:?}.\n{one_name}\n{two_name}\n{one_name}\n{two_name}\n{one_name}\n2\n\
             Context {one_name:?} modified.\n\
             Error from server (NotFound): configmaps {one_name:?} not found\n\
             {one_name} kube-system\n\
             Property \"contexts.{one_name}.namespace\" unset.\nconfigmap/{one_name}\n\
             error: \"users.x\" is neither current-context nor contexts.NAME.namespace\n\
             error: \"bad name\" {name_rule}\n\
             error: no context exists with the name: \"nobody\"; a mesh is a context, which \
             `ironmesh --mesh nobody up` starts\n{one_name}\nerror: \"../x\" {name_rule}\n\
             error: no mesh \"nobody\" is running, so there is nothing to end"
        ),
        "{said:?}"
    );
}

#[test]
fn a_node_is_shown_and_described_as_the_machine_it_is() {
    let mesh = Mesh::start();
    let wide = mesh.run("get no -o wide --request-timeout=1m").ok();
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for word in ["EXTERNAL-IP", "OS-IMAGE", "CONTAINER-RUNTIME", kernel.trim(), "ironmesh://"] {
        assert!(wide.contains(word), "{word}: {wide}");
    }
    let said = mesh.run("describe node").ok();
    for line in ["Roles:", "Unschedulable:", "Kernel Version:", "Non-terminated Pods (", "  cpu:"] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let patch = r#"{"spec":{"taints":[{"key":"a","value":"b","effect":"NoSchedule"}]}}"#;
    mesh.run(&format!("patch no ironmesh --type=merge -p {patch}")).ok();
    // What is found is known a moment later.
    let mut looks = (0..ATTEMPTS).map(|_| mesh.run("describe node ironmesh").ok());
    let found = looks.find(|said| said.contains("pods run on this one node"));
    assert!(found.is_some_and(|said| said.contains("a=b:NoSchedule")));
    let refused = mesh.run("get no --request-timeout=soon");
    assert!(refused.code == 2 && refused.err.contains("a duration such as"), "{refused:?}");
}

#[test]
fn completions_and_manual_pages_know_the_verbs() {
    let mesh = Mesh::start();
    for shell in ["bash", "zsh", "fish"] {
        let script = mesh.run(&format!("completion {shell}")).ok();
        assert!(script.contains("rollout") && script.contains("sort-by"), "{shell}");
    }
    assert_eq!(mesh.run("completion tcsh").code, 2);
    mesh.run("man pages").ok();
    let page = mesh.read("pages/ironmesh-rollout-undo.1");
    assert!(page.contains("to\\-revision"), "{page}");
    let help = mesh.run("--help").ok();
    assert_eq!(help, mesh.run("-h").ok());
    for line in ["Objects:\n", "\n  version  ", "\n  port-forward  "] {
        assert_eq!(help.matches(line).count(), 1, "{line:?}: {help}");
    }
    assert!(!help.contains("capture"), "{help}");
}

#[test]
fn all_alternatives_of_a_rule_say_why_they_lost() {
    let mesh = Mesh::start();
    let text = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: ['*']
  gateways: [g]
  http:
  - match: [{uri: {exact: /a}}, {uri: {exact: /b}}]
    route: [{destination: {host: web}}]
";
    mesh.run_with("apply -f -", text).ok();
    // Without a gateway's pod nothing can be explained: it is made, and need not run.
    mesh.until(
        "get pods -n istio-system -o jsonpath={.items[*].metadata.labels.istio}",
        "ingressgateway",
    );
    let said = mesh.run("explain GET http://shop.example/c");
    if said.code == 0 {
        for line in ["match[0]: path \"/c\" is not exactly \"/a\"", "match[1]: path"] {
            assert!(said.out.contains(line), "{said:?}");
        }
        assert!(!said.out.contains("see `ironmesh explain`"), "{said:?}");
    } else {
        assert!(said.err.contains("pod"), "{said:?}");
    }
}

#[test]
fn what_belongs_to_other_injections_and_old_settings_is_found() {
    let mesh = Mesh::start();
    let text = "apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {linkerd.io/inject: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'authPolicy: MUTUAL_TLS'}
";
    let said = mesh.run_with("apply -f -", text);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("IM0101 Namespace shop"), "{said:?}");
    assert!(said.err.contains("is taken as mtlsMode: STRICT"), "{said:?}");
    let mode = mesh.run("settings mtlsMode").ok();
    assert!(mode.contains("STRICT"), "{mode}");
}
