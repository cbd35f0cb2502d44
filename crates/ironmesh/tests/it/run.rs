//! `run`, and what `up` and `status` say of applications that end.

use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::running::{Running, Said, await_some};

const EMPTY: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nothing}\n";

/// Runs a command with a text on its standard input.
fn with_input(mesh: &Running, line: &[&str], input: &str) -> Said {
    let mut command = mesh.command(line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn an_image_runs_from_the_command_line() {
    let Some(mesh) = Running::start(EMPTY, &[]) else { return };
    let there = |name: &str| mesh.run(&["get", "pod", name]).code == 0;
    let said = mesh.ok(&["run", "web", "--image=busybox", "--command", "--", "sleep", "1000"]);
    assert_eq!(said, "pod/web created\n");
    assert_eq!(mesh.ok(&["get", "pod", "web", "-o", "jsonpath={.metadata.labels.run}"]), "web");

    // Into a pod, with what is typed, and with the command's exit code; nothing is left.
    let inside = ["run", "-i", "--rm", "client", "--image=busybox", "--", "sh", "-c"];
    let script = "read x; echo got $x; exit 7";
    let said = with_input(&mesh, &[&inside[..], &[script]].concat(), "hello\n");
    assert_eq!(said.code, 7, "{said:?}");
    assert!(
        said.out.contains("got hello\n") && said.out.contains("pod \"client\" deleted"),
        "{said:?}"
    );
    assert!(!there("client"));

    // To its end.
    let once = |script: &str| {
        let line = ["run", "once", "--image=busybox", "--restart=Never", "--attach", "--rm", "-q"];
        mesh.run(&[&line[..], &["--command", "--", "sh", "-c", script]].concat())
    };
    let said = once("echo done");
    assert_eq!((said.code, said.out.as_str()), (0, "done\n"), "{said:?}");
    let said = once("echo gone; exit 3");
    assert_eq!((said.code, said.out.as_str()), (3, "gone\n"), "{said:?}");
    assert!(!there("once"));

    // One of the name that is there is another's, and stays.
    let taken = mesh.run(&["run", "-i", "--rm", "web", "--image=busybox", "--", "true"]);
    assert!(taken.code == 1 && taken.err.contains("already exists"), "{taken:?}");
    assert!(there("web"));
    // An image that cannot be had is said at once, and its pod goes.
    let line = ["run", "-i", "--rm", "none", "--image=127.0.0.1:9/none:1", "--", "true"];
    let none = mesh.run(&line);
    assert!(none.code == 1 && none.err.contains("does not start: ErrImagePull"), "{none:?}");
    assert!(!there("none"));
    let dry = mesh.ok(&["run", "dry", "--image=busybox", "--dry-run=client", "-o", "yaml"]);
    assert!(dry.contains("kind: Pod") && !there("dry"), "{dry}");
}

const SOON: &str = "
apiVersion: v1
kind: Pod
metadata: {name: soon}
spec:
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'while [ ! -e /tmp/end ]; do sleep 0.1; done; exit 5']
";

#[test]
fn a_second_up_waits_as_the_first_and_status_tells_who_crashed() {
    let Some(mesh) = Running::start(SOON, &[]) else { return };
    assert_eq!(mesh.status()["troubles"], Value::Array(Vec::new()));
    // It was ready, and ends a while after.
    mesh.ok(&["exec", "soon", "--", "touch", "/tmp/end"]);
    let ended = "container main ended with 5 at ";
    await_some("that it crashed", || {
        let status = mesh.status();
        let told = status["troubles"][0].as_str().map(str::to_owned);
        told.filter(|told| told.contains("pod default/soon") && told.contains(ended))
    });
    assert!(mesh.ok(&["status"]).contains("\npod default/soon "));
    mesh.ok(&["delete", "pod", "soon"]);

    // What is applied by a second `up -d` is ready when that returns.
    let late = SOON.replace("soon", "late").replace(
        "image: busybox",
        "image: busybox\n    readinessProbe: {exec: {command: [test, -e, /tmp/there]}, periodSeconds: 1}",
    );
    let late = late.replace("while [", "sleep 1; touch /tmp/there; while [");
    mesh.write("late.yaml", &late);
    let up = mesh.run(&["up", "-d", "late.yaml"]);
    assert_eq!(up.code, 0, "{up:?}");
    assert!(
        up.err.contains("runs already") && up.out.contains("pod default/late is ready"),
        "{up:?}"
    );
    let ready = "jsonpath={.status.containerStatuses[0].ready}";
    assert_eq!(mesh.ok(&["get", "pod", "late", "-o", ready]), "true");
    // And what never is ready is said.
    let never = late.replace("name: late", "name: never").replace("/tmp/there;", "/tmp/nowhere;");
    mesh.write("never.yaml", &never);
    mesh.ok(&["down"]);
    let options = ["--set", "limits.platform.progress_timeout=2s"];
    let Some(mesh) = mesh.started(EMPTY, &options) else { return };
    let up = mesh.run(&["up", "-d", "never.yaml"]);
    assert!(up.code == 1 && up.out.contains("pod default/never is not ready"), "{up:?}");
}
