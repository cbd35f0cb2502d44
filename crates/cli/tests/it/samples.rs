//! The applications of `samples/`, each by its own manifest in a mesh.

use std::fs;
use std::path::Path;

use crate::running::{Running, await_some, samples};

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
