//! The applications of `samples/`, each by its own manifest in a mesh.

use std::fs;
use std::path::Path;

use crate::mesh::Mesh;
use crate::running::{Running, as_every_user, await_some, samples};

/// A manifest of `samples/`.
fn sample(path: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    fs::read_to_string(folder.join(path)).unwrap()
}

/// A mesh with these manifests, where the applications are built.
fn mesh(paths: &[&str]) -> Option<Running> {
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return None;
    }
    let manifests: Vec<_> = paths.iter().map(|path| sample(path)).collect();
    Running::start(&manifests.join("\n"), &[])
}

/// What a command in the client's pod prints.
fn client(mesh: &Running, command: &[&str]) -> String {
    mesh.ok(&[&["exec", "deploy/client", "-c", "client", "--"], command].concat())
}

#[test]
fn versions_follow_the_tags_of_images() {
    let files = ["client/client.yaml", "podinfo/podinfo.yaml", "myweb/myweb.yaml"];
    let Some(mesh) = mesh(&files) else { return };
    let asked = |url: &str, expected: &[&str]| {
        for text in expected {
            let said = || client(&mesh, &["curl", "-s", url]);
            await_some(text, || said().contains(text).then_some(()));
        }
    };
    asked("podinfo:9898/version", &["\"version\": \"1.7.0\"", "\"version\": \"1.7.1\""]);
    asked("podinfo:9898/", &["\"color\": \"blue\"", "\"color\": \"green\""]);
    asked("myweb", &["Welcome to Version 1<br>", "Welcome to Version 2<br>"]);
}

#[test]
fn a_backend_crashes_as_often_as_it_is_asked_to_and_comes_back() {
    let Some(mesh) = mesh(&["client/client.yaml", "retry/retry.yaml"]) else { return };
    let call = |query: &str| client(&mesh, &["curl", "-s", &format!("retry-service{query}")]);
    assert_eq!(call("/?failRate=1"), "OK");
    assert_eq!(call("/?failRate=101&mode=busy"), "Overloaded");
    let crash = ["exec", "deploy/client", "-c", "client", "--", "curl", "-s"];
    let said = mesh.run(&[&crash[..], &["retry-service/?failRate=101&mode=crash"]].concat());
    assert_ne!(said.code, 0, "{said:?}");
    let restarts = "-o=jsonpath={.items[*].status.containerStatuses[*].restartCount}";
    await_some("a restart", || {
        let counts = mesh.ok(&["get", "pods", "-l", "app=retry", restarts]);
        counts.split(' ').any(|count| count.trim() == "1").then_some(())
    });
    await_some("an answer", || (call("/?failRate=1") == "OK").then_some(()));
}

/// A program of the image, by the path that it has there.
#[test]
fn fortio_is_run_inside_its_pod() {
    let Some(mesh) = mesh(&["fortio/fortio.yaml", "httpbin/httpbin.yaml"]) else { return };
    let fortio = ["exec", "deploy/fortio", "-c", "fortio", "--", "/usr/bin/fortio"];
    let load = ["load", "-c", "2", "-qps", "0", "-n", "20", "-quiet", "http://httpbin:8000/get"];
    let said = mesh.ok(&[&fortio[..], &load].concat());
    assert!(said.contains("\nCode 200 : 20 (100.0 %)\n"), "{said}");
    let said =
        mesh.ok(&[&fortio[..], &["curl", "-quiet", "http://fortio:8080/?status=202"]].concat());
    assert!(said.starts_with("HTTP/1.1 202 Accepted\r\n"), "{said}");
}

#[test]
fn manifests_of_samples_have_no_warnings() {
    let mesh = Mesh::start();
    let folders = [
        "client",
        "fortio",
        "httpbin",
        "myweb",
        "nginx",
        "podinfo",
        "ratings",
        "retry",
        "siege",
        "sleep",
        "sniffer",
        "voting",
        "addons",
        "control-plane",
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
    let named = folders.map(|name| format!("-f {}", folder.join(name).display()));
    let said = mesh.run(&format!("apply {}", named.join(" ")));
    assert_eq!(said.code, 0, "{said:?}");
    let others: Vec<_> = said.err.lines().filter(|line| !line.contains(" IM0209 ")).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// The page is the same for all; what asks for data is not given it for an answer.
#[test]
fn ironmesh_answers_for_addons() {
    let Some(mesh) = mesh(&["client/client.yaml", "addons/addons.yaml"]) else { return };
    for (url, name) in [
        ("kiali.istio-system:20001/kiali/", "kiali"),
        ("grafana.istio-system:3000/", "grafana"),
        ("tracing.istio-system/", "all-in-one"),
        ("zipkin.istio-system:9411/", "all-in-one"),
    ] {
        let page = client(&mesh, &["curl", "-s", "-m", "10", url]);
        assert!(page.contains(&format!("This is ironmesh in place of {name}")), "{url}: {page}");
    }
    let code = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"];
    let query = "prometheus.istio-system:9090/api/v1/query?query=up";
    assert_eq!(client(&mesh, &[&code[..], &[query]].concat()), "501");
    let log = mesh.ok(&["logs", "-n", "istio-system", "deploy/kiali"]);
    assert!(log.contains("ironmesh in place of kiali"), "{log}");
}

/// Votes go to a real Redis, and each version of the analytics reads them.
#[test]
fn votes_are_kept_in_redis() {
    let given = ["client/client.yaml", "voting/voting.yaml", "voting/analytics-1.1.yaml"];
    if !Path::new("/usr/bin/redis-server").exists() {
        println!("SKIPPED: this machine has no redis-server");
        return;
    }
    let Some(mesh) = mesh(&given) else { return };
    for vote in ["vote=Cats", "vote=Dogs", "vote=Dogs"] {
        client(&mesh, &["curl", "-s", "-d", vote, "voting-app:8080/"]);
    }
    for text in ["> Cats: 1 | Dogs: 2 <", "> Cats: 1/3 (33%) | Dogs: 2/3 (67%) <"] {
        let page = || client(&mesh, &["curl", "-s", "voting-app:8080/"]);
        await_some(text, || page().contains(text).then_some(()));
    }
}

/// The same by another database, whose server speaks first.
#[test]
fn votes_of_the_second_release_are_kept_in_mariadb() {
    if !Path::new("/usr/sbin/mariadbd").exists() {
        println!("SKIPPED: this machine has no mariadbd");
        return;
    }
    let manifest = ["client/client.yaml", "voting/voting-2.0.yaml"].map(sample).join("\n");
    as_every_user(&manifest, &[], vote_in_mariadb);
}

fn vote_in_mariadb(mesh: &Running) {
    let app =
        mesh.ok(&["get", "pods", "-l", "app=voting-app", "-o=jsonpath={.items[0].status.podIP}"]);
    let vote = || {
        client(
            mesh,
            &["curl", "-s", "-w", "%{http_code}", "-d", "vote=Cats", &format!("{app}:8080/")],
        )
    };
    await_some("a vote", || vote().ends_with("302").then_some(()));
    let counts = mesh.ok(&[
        "exec",
        "deploy/voting-storage-2-0",
        "--",
        "mariadb",
        "-uroot",
        "-pnot-a-secret",
        "-S",
        "/run/mysqld/mysqld.sock",
        "votes",
        "-Ne",
        "SELECT COUNT(*) FROM azurevote",
    ]);
    assert_ne!(counts.trim(), "0");
}

#[test]
fn nginx_serves_its_welcome_page_as_every_user() {
    if !Path::new("/usr/sbin/nginx").exists() {
        println!("SKIPPED: this machine has no nginx");
        return;
    }
    let manifest = ["client/client.yaml", "nginx/nginx.yaml"].map(sample).join("\n");
    as_every_user(&manifest, &[], |mesh| {
        let page = || client(mesh, &["curl", "-s", "nginx"]);
        await_some("nginx", || page().contains("<title>Welcome to nginx!").then_some(()));
    });
}

/// What a page or an application of samples answers, once it answers that.
fn answers(mesh: &Running, url: &[&str], text: &str) {
    let said = || client(mesh, &[&["curl", "-s", "-m", "10"], url].concat());
    await_some(&format!("{text:?} of {url:?}"), || said().contains(text).then_some(()));
}

/// Whether the machine has a program; says so where it has none.
fn has(program: &str) -> bool {
    let there =
        ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    if !there {
        println!("SKIPPED in part: this machine has no {program}");
    }
    there
}

/// Everything that needs no database: with sidecars and mutual TLS only, through the gateway and beside it.
#[test]
fn all_samples_work_together() {
    let mut files = vec![
        "client/client.yaml",
        "bookinfo/bookinfo.yaml",
        "bookinfo/gateway.yaml",
        "bookinfo/destination-rules.yaml",
        "bookinfo/routing/all-v1.yaml",
        "helloworld/helloworld.yaml",
        "helloworld/gateway.yaml",
        "podinfo/podinfo.yaml",
        "podinfo/gateway.yaml",
        "myweb/myweb.yaml",
        "myweb/destination-rule.yaml",
        "myweb/routing/cookie.yaml",
        "retry/retry.yaml",
        "retry/timeout.yaml",
        "fortio/fortio.yaml",
        "httpbin/httpbin.yaml",
        "sleep/sleep.yaml",
        "security/strict-mtls.yaml",
    ];
    for (file, program) in [("nginx/nginx.yaml", "nginx"), ("siege/siege.yaml", "siege")] {
        if has(program) {
            files.push(file);
        }
    }
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let injected = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {istio-injection: enabled}}\n---\n";
    let manifests: Vec<_> = files.iter().map(|path| sample(path)).collect();
    let manifest = format!("{injected}{}", manifests.join("\n---\n"));
    let Some(mesh) = Running::start(&manifest, &[]) else { return };
    let gateway = |path: &str| format!("istio-ingressgateway.istio-system{path}");
    for (url, text) in [
        (gateway("/productpage"), "<title>Simple Bookstore App</title>"),
        (gateway("/hello"), "Hello version: v"),
        (gateway("/podinfo"), "greetings from podinfo v1.7."),
        ("details:9080/details/0".to_owned(), "William Shakespeare"),
        ("ratings:9080/ratings/0".to_owned(), "\"Reviewer1\":5"),
        ("reviews:9080/reviews/0".to_owned(), "\"reviewer\":\"Reviewer1\""),
        ("myweb".to_owned(), "Welcome to Version 1"),
        ("retry-service/?failRate=1".to_owned(), "OK"),
        ("fortio:8080/".to_owned(), ""),
        ("httpbin:8000/get".to_owned(), "\"Host\": \"httpbin:8000\""),
    ] {
        answers(&mesh, &[&url], text);
    }
    answers(&mesh, &["--cookie", "usertype=tester", "myweb"], "Welcome to Version 2");
    if files.contains(&"nginx/nginx.yaml") {
        answers(&mesh, &["nginx"], "Welcome to nginx!");
    }
    if files.contains(&"siege/siege.yaml") {
        let siege = ["exec", "deploy/siege", "-c", "siege", "--"];
        let said =
            mesh.run(&[&siege[..], &["siege", "-r1", "-c1", "http://httpbin:8000/get"]].concat());
        assert!(said.out.to_lowercase().contains("availability"), "{said:?}");
    }
    let sleep =
        ["exec", "deploy/sleep", "-c", "sleep", "--", "curl", "-s", "helloworld:5000/hello"];
    assert!(mesh.ok(&sleep).starts_with("Hello version: v"));
}

/// Who has the cookie has the second release, on its own database; all others the first.
#[test]
fn a_cookie_leads_to_the_release_with_the_other_database() {
    if !has("redis-server") || !has("mariadbd") {
        return;
    }
    let files = [
        "client/client.yaml",
        "voting/voting.yaml",
        "voting/gateway.yaml",
        "voting/voting-2.0.yaml",
        "voting/routing/feature-flag.yaml",
    ];
    let Some(mesh) = mesh(&files) else { return };
    let page = "istio-ingressgateway.istio-system/";
    answers(&mesh, &[page], "store: redis");
    answers(&mesh, &["--cookie", "featureflag=on", page], "store: mysql");
    answers(&mesh, &["--cookie", "featureflag=", page], "store: redis");
    answers(
        &mesh,
        &["-i", "-d", "", &format!("{page}featureflag/set")],
        "set-cookie: featureflag=on",
    );
    answers(&mesh, &["--cookie", "featureflag=on", "-i", "-d", "vote=Cats", page], " 302 ");
    answers(&mesh, &["--cookie", "featureflag=on", page], "Cats: 1/1 (100%)");
    answers(&mesh, &[page], "Cats: 0 | Dogs: 0");
}

/// The ratings of Bookinfo from its two databases, by the manifests of Istio's samples.
#[test]
fn bookinfo_has_its_ratings_from_mysql() {
    if !has("mariadbd") {
        return;
    }
    let manifest = sample("client/client.yaml") + "---" + RATINGS_OF_MYSQL;
    as_every_user(&manifest, &[], |mesh| {
        let stars = r#"{"id":3,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#;
        answers(mesh, &["ratings:9080/ratings/3"], stars);
    });
}

/// As `platform/kube/bookinfo-mysql.yaml` and `bookinfo-ratings-v2-mysql.yaml` say it.
const RATINGS_OF_MYSQL: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: mysqldb}
spec: {selector: {app: mysqldb}, ports: [{name: tcp, port: 3306}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: mysqldb-v1}
spec:
  selector: {matchLabels: {app: mysqldb}}
  template:
    metadata: {labels: {app: mysqldb}}
    spec:
      containers:
      - name: mysqldb
        image: docker.io/istio/examples-bookinfo-mysqldb:1.20.2
        env: [{name: MYSQL_ROOT_PASSWORD, value: password}]
        args: ["--default-authentication-plugin", "mysql_native_password"]
        volumeMounts: [{name: var-lib-mysql, mountPath: /var/lib/mysql}]
      volumes: [{name: var-lib-mysql, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: ratings}
spec: {selector: {app: ratings}, ports: [{name: http, port: 9080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings-v2-mysql}
spec:
  selector: {matchLabels: {app: ratings}}
  template:
    metadata: {labels: {app: ratings}}
    spec:
      containers:
      - name: ratings
        image: docker.io/istio/examples-bookinfo-ratings-v2:1.20.2
        env:
        - {name: DB_TYPE, value: mysql}
        - {name: MYSQL_DB_HOST, value: mysqldb}
        - {name: MYSQL_DB_PORT, value: "3306"}
        - {name: MYSQL_DB_USER, value: root}
        - {name: MYSQL_DB_PASSWORD, value: password}
"#;

/// Other images of well-known applications: each with its port, its other program, its options.
#[test]
fn other_images_of_well_known_applications_work() {
    let pod = |name: &str, image: &str, port: u16, more: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{selector: {{app: {name}}}, ports: [{{name: tcp, port: {port}}}]}}\n---\n\
             apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\n\
             spec: {{containers: [{{name: app, image: {image}{more}}}]}}\n"
        )
    };
    let probe = "exec: {command: [podcli, check, http, \"localhost:9898/readyz\"]}";
    let options = format!(
        ", command: [./podinfo, --port=9898, --port-metrics=9797, --grpc-port=9999], \
         readinessProbe: {{{probe}, periodSeconds: 1}}"
    );
    let manifest = sample("client/client.yaml")
        + &pod("httpbin", "docker.io/mccutchen/go-httpbin:v2.15.0", 8080, "")
        + &pod("podinfo", "ghcr.io/stefanprodan/podinfo:6.9.2", 9898, &options)
        + &pod(
            "echo",
            "docker.io/istio/tcp-echo-server:1.3",
            9001,
            ", args: [\"9000,9001\", hello]",
        );
    if !samples().exists() {
        println!("SKIPPED: {} is not built", samples().display());
        return;
    }
    let Some(mesh) = Running::start(&manifest, &[]) else { return };
    answers(&mesh, &["httpbin:8080/get"], "\"Host\": \"httpbin:8080\"");
    answers(&mesh, &["podinfo:9898/version"], "\"version\": \"6.9.2\"");
    let metrics =
        mesh.ok(&["get", "pod", "podinfo", "-o=jsonpath={.status.podIP}"]) + ":9797/metrics";
    answers(&mesh, &[&metrics], "http_requests_total");
    let talk = "exec 3<>/dev/tcp/echo/9001; echo world >&3; head -1 <&3";
    assert_eq!(client(&mesh, &["bash", "-c", talk]), "hello world\n");
    // What is not there is said by its status.
    let broken = ["exec", "podinfo", "--", "podcli", "check", "http", "localhost:9898/none"];
    assert_ne!(mesh.run(&broken).code, 0);
}
