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
