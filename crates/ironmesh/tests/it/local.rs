//! Meshes on this machine: real namespaces, real processes, the agent and the control plane.
//!
//! Needs namespaces, as root or not; where they are forbidden the tests say so and return.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::running::{Running, Said, as_every_user, await_some, kill};

const EVERYTHING: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: look}
data: {color: red}
---
apiVersion: v1
kind: Secret
metadata: {name: login}
stringData: {user: alice}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: nobody}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: all, labels: {app: all}}
spec:
  initContainers:
  - name: first
    image: busybox
    command: [sh, -c, "echo from-init > /data/file"]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c]
    args:
    - |
      trap 'exit 0' TERM
      echo "file: $(cat /data/file)"
      echo "secret: $(cat /login/user)"
      echo "env: $GREETING"
      echo "host: $(hostname) $(cat /etc/hostname)"
      for name in web web.default web.default.svc web.default.svc.cluster.local; do
        getent hosts $name > /dev/null && echo "resolved $name"
      done
      getent hosts web.nowhere > /dev/null || echo "unknown web.nowhere"
      echo end
      while true; do sleep 0.1; done
    env:
    - {name: COLOR, valueFrom: {configMapKeyRef: {name: look, key: color}}}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: GREETING, value: "$(POD) is $(COLOR) $$(POD)"}
    livenessProbe:
      exec: {command: [sh, -c, "test ! -e /tmp/ill"]}
      periodSeconds: 1
      failureThreshold: 1
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: login, mountPath: /login}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: login, secret: {secretName: login}}
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "while true; do sleep 0.1; done"]
    resources: {limits: {cpu: 0.5, memory: 64Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: strange}
spec:
  containers:
  - {name: main, image: "example.com/strange:1"}
"#;

#[test]
fn a_pod_is_as_its_manifest_says() {
    as_every_user(EVERYTHING, &[], look_at_everything);
}

fn look_at_everything(mesh: &Running) {
    let log = mesh.await_log("all", "end");
    for line in [
        "file: from-init",
        "secret: alice",
        "env: all is red $(POD)",
        "host: all all",
        "resolved web",
        "resolved web.default",
        "resolved web.default.svc",
        "resolved web.default.svc.cluster.local",
        "unknown web.nowhere",
    ] {
        assert!(log.lines().any(|other| other == line), "{line:?} is missing in {log}");
    }

    // What one container writes, another does not see.
    mesh.ok(&["exec", "all", "--", "sh", "-c", "echo x > /data/mine"]);
    let said = mesh.run(&["exec", "other", "--", "ls", "/data/mine"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(!Path::new("/data/mine").exists());

    // A command's exit status is passed on, and both its outputs.
    let said = mesh.run(&["exec", "all", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((said.code, said.out.as_str()), (7, "out\n"));
    assert!(said.err.starts_with("err\n"), "{said:?}");

    // A failed liveness probe restarts the container, which keeps its volumes.
    let before = mesh.pid("all").unwrap();
    mesh.ok(&["exec", "all", "--", "touch", "/tmp/ill"]);
    await_some("a restart of pod all", || {
        let status = mesh.status();
        let pod = status["pods"].as_array()?.iter().find(|pod| pod["name"] == "all")?.clone();
        (pod["restarts"] == 1 && pod["ready"] == "1/1").then_some(())
    });
    assert_ne!(mesh.pid("all").unwrap(), before);
    mesh.await_log("all", "file: from-init");

    // An unknown image says how to map it.
    let events = mesh.ok(&["get", "events"]);
    assert!(events.contains("image map 'example.com/strange=COMMAND'"), "{events}");
    mesh.ok(&["delete", "pod", "all"]);
    assert!(mesh.pid("all").is_none());
}

#[test]
fn the_gateway_is_published_and_answers() {
    let Some(mesh) = Running::start("", &[]) else { return };
    // A port that no Gateway names is not open.
    assert_eq!(mesh.status()["urls"], serde_json::json!([]));
    let gateway = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: any}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
";
    mesh.write("gateway.yaml", gateway);
    mesh.ok(&["apply", "-f", "gateway.yaml"]);
    let address = await_some("the published port", || {
        let status = mesh.status();
        let urls = status["urls"].as_array()?;
        assert!(urls.iter().all(|url| url["port"] == 80), "{urls:?}");
        urls.first()?["address"].as_str()?.parse::<std::net::SocketAddr>().ok()
    });
    // Nothing is routed yet: the gateway says so itself.
    let answer = await_some("an answer of the gateway", || {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        (!answer.is_empty()).then_some(answer)
    });
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");

    // Without a gateway the port is closed, and it is open again with the next one.
    let scale = |replicas: &str| {
        let gateway = "deployment/istio-ingressgateway";
        mesh.ok(&["-n", "istio-system", "scale", gateway, replicas]);
    };
    let connect = || std::net::TcpStream::connect(address);
    scale("--replicas=0");
    await_some("a closed port", || connect().is_err().then_some(()));
    assert_eq!(mesh.status()["urls"], serde_json::json!([]));
    scale("--replicas=1");
    await_some("the port again", || {
        let status = mesh.status();
        status["urls"].as_array().is_some_and(|urls| !urls.is_empty()).then_some(())
    });
}

#[test]
fn a_name_has_one_mesh_and_can_be_used_again() {
    let Some(mesh) = Running::start("", &[]) else { return };
    // The second start of a name is no start: what it is given is applied.
    let said = mesh.run(&["up", "--empty"]);
    assert!(said.code == 0 && said.err.contains("runs already"), "{said:?}");
    mesh.write("more.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\n");
    assert_eq!(mesh.run(&["up", "more.yaml"]).out, "configmap/more created\n");
    let said = mesh.run(&["up", "more.yaml", "--set", "mtlsMode=STRICT"]);
    assert!(said.code == 1 && said.err.contains("--set can be given when"), "{said:?}");
    mesh.ok(&["down"]);
    assert_ne!(mesh.run(&["status"]).code, 0);
    mesh.ok(&["up", "--detach", "--empty"]);
    mesh.ok(&["status"]);
}

#[test]
fn pods_run_on_while_the_control_plane_is_restarted() {
    let Some(mesh) = Running::start(EVERYTHING, &[]) else { return };
    let (control, pod) = (mesh.status()["control_pid"].as_i64().unwrap(), mesh.pid("other"));
    kill(control);
    await_some("another control plane", || {
        let next = mesh.status()["control_pid"].as_i64();
        next.filter(|next| *next != control)
    });
    await_some("the API", || (mesh.run(&["get", "pods"]).code == 0).then_some(()));
    assert_eq!(mesh.pid("other"), pod);
    // What is asked of the new one happens.
    mesh.ok(&["delete", "pod", "other"]);
    assert!(mesh.pid("other").is_none());
}

#[test]
fn a_mesh_with_state_begins_where_it_ended() {
    let Some(mesh) = Running::start(EVERYTHING, &["--state", "kept"]) else { return };
    // The same line again says that it runs; another folder cannot become its own.
    let said = mesh.run(&["up", "--detach", "mesh.yaml", "--state", "kept"]);
    assert!(said.code == 0 && said.err.contains("runs already"), "{said:?}");
    let said = mesh.run(&["up", "--detach", "--empty", "--state", "other"]);
    assert!(said.code == 1 && said.err.contains("--state can be given when"), "{said:?}");
    mesh.ok(&["down"]);
    mesh.ok(&["up", "--detach", "--empty", "--state", "kept"]);
    mesh.await_log("all", "env: all is red $(POD)");
    mesh.ok(&["exec", "all", "--", "true"]);
}

const VOLUMES: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: look}
data: {color: red, shape: round}
---
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  containers:
  - name: main
    image: busybox
    command: [sh, -c]
    args:
    - |
      echo x > /look/new || echo read-only
      head -c 2000000 /dev/zero > /small/big || echo full
      echo x > /part/file && cat /data/made/here/file
      echo end
      while true; do sleep 0.1; done
    volumeMounts:
    - {name: look, mountPath: /look}
    - {name: small, mountPath: /small}
    - {name: data, mountPath: /data}
    - {name: data, mountPath: /part, subPath: made/here}
    - {name: look, mountPath: /shape, subPath: shape}
  volumes:
  - {name: look, configMap: {name: look}}
  - {name: small, emptyDir: {sizeLimit: 1Mi}}
  - {name: data, emptyDir: {}}
---
apiVersion: v1
kind: Pod
metadata: {name: climber}
spec:
  initContainers:
  - name: first
    image: busybox
    command: [ln, -s, /, /data/out]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: main
    image: busybox
    command: [ls, /out]
    volumeMounts: [{name: data, mountPath: /out, subPath: out}]
  volumes: [{name: data, emptyDir: {}}]
"#;

#[test]
fn volumes_are_bounded_current_and_lead_nowhere_else() {
    as_every_user(VOLUMES, &[], look_at_volumes);
}

fn look_at_volumes(mesh: &Running) {
    let log = mesh.await_log("reader", "end");
    for line in ["read-only", "full", "x"] {
        assert!(log.lines().any(|other| other == line), "{line:?} is missing in {log}");
    }
    let events = mesh.ok(&["get", "events"]);
    assert!(events.contains("subPath \"out\" leads over a symbolic link"), "{events}");

    let changed = VOLUMES.replace("{color: red, shape: round}", "{color: blue, shape: square}");
    mesh.write("mesh.yaml", &changed);
    mesh.ok(&["apply", "-f", "mesh.yaml"]);
    let cat = |path: &str| mesh.ok(&["exec", "reader", "--", "cat", path]);
    await_some("the new color", || (cat("/look/color") == "blue").then_some(()));
    // A file that is mounted alone stays, as in Kubernetes.
    assert_eq!(cat("/shape"), "round");
}

const STAYING: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: pair}
spec:
  restartPolicy: Never
  initContainers:
  - name: beside
    image: busybox
    restartPolicy: Always
    command: [sh, -c, "trap 'cat /data/ended; echo told; exit 0' TERM; sleep 0.2; touch /dev/shm/mine /data/there; while true; do sleep 0.05; done"]
    startupProbe: {exec: {command: [test, -e, /data/there]}, periodSeconds: 1}
    volumeMounts: [{name: data, mountPath: /data}]
  - name: second
    image: busybox
    restartPolicy: Always
    command: [sh, -c, "trap 'sleep 0.3; echo second >/data/ended; exit 0' TERM; while true; do sleep 0.05; done"]
    volumeMounts: [{name: data, mountPath: /data}]
  containers:
  - name: main
    image: busybox
    command: [sh, -c, "test -e /data/there && test -e /dev/shm/mine && echo found; while test ! -e /data/go; do sleep 0.05; done"]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"#;

#[test]
fn init_containers_that_stay_begin_first_and_end_last_in_reverse_order() {
    let Some(mesh) = Running::start(STAYING, &[]) else { return };
    mesh.await_log("pair", "found");
    let status = mesh.status();
    assert_eq!(status["pods"][0]["ready"], "3/3", "{status}");
    let table = mesh.ok(&["get", "pod", "pair", "--no-headers"]);
    let words: Vec<&str> = table.split_whitespace().take(3).collect();
    assert_eq!(words, ["pair", "3/3", "Running"]);
    mesh.ok(&["exec", "pair", "-c", "main", "--", "touch", "/data/go"]);
    await_some("the end of the pod", || {
        let pod = mesh.ok(&["get", "pod", "pair", "-o", "jsonpath={.status.phase}"]);
        (pod == "Succeeded").then_some(())
    });
    assert_eq!(mesh.ok(&["logs", "pair", "-c", "beside"]), "second\ntold\n");
}

#[test]
fn a_shorter_grace_period_ends_a_pod_that_ends_slowly() {
    let stubborn = "
apiVersion: v1
kind: Pod
metadata: {name: stubborn}
spec:
  terminationGracePeriodSeconds: 600
  containers:
  - {name: main, image: busybox, command: [sh, -c, \"trap '' TERM; while true; do sleep 0.05; done\"]}
";
    let Some(mesh) = Running::start(stubborn, &[]) else { return };
    mesh.ok(&["delete", "pod", "stubborn", "--wait=false"]);
    assert!(mesh.pid("stubborn").is_some());
    // It waits until the pod is gone.
    mesh.ok(&["delete", "pod", "stubborn", "--grace-period=1"]);
    assert!(mesh.pid("stubborn").is_none());
}

#[test]
fn two_meshes_do_not_share_a_state_folder() {
    let Some(mesh) = Running::start("", &["--state", "kept"]) else { return };
    let second = Running::new();
    let folder = mesh.folder.path().join("kept");
    let said = second.run(&["up", "--empty", "--state", folder.to_str().unwrap()]);
    assert_ne!(said.code, 0);
    let holder = format!("another mesh uses it (mesh {:?}", mesh.name);
    assert!(said.err.contains(&holder), "{said:?}");
}

/// A state folder that everybody may look into, at a place that containers see.
#[test]
fn containers_do_not_see_the_folders_of_other_meshes() {
    let place = tempfile::tempdir_in("/var/tmp").unwrap();
    let (kept, seen) = (place.path().join("kept"), place.path().join("seen"));
    for folder in [place.path(), &kept, &seen] {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(seen.join("file"), "").unwrap();
    let Some(_other) = Running::start("", &["--state", kept.to_str().unwrap()]) else { return };
    assert!(kept.join("control").is_dir());
    let looker = "
apiVersion: v1
kind: Pod
metadata: {name: looker}
spec: {containers: [{name: main, image: busybox, command: [sleep, 1h]}]}
";
    let Some(mesh) = Running::start(looker, &[]) else { return };
    let listed = |folder: &Path| {
        mesh.run(&["exec", "looker", "--", "ls", "-a", folder.to_str().unwrap()]).out
    };
    assert!(listed(&seen).contains("file"));
    assert!(!listed(&kept).contains("control"), "{}", listed(&kept));
}

#[test]
fn a_pod_made_again_after_a_forced_delete_stays() {
    let Some(mesh) = Running::start(EVERYTHING, &[]) else { return };
    let before = mesh.pid("other").unwrap();
    mesh.ok(&["delete", "pod", "other", "--grace-period=0", "--force"]);
    mesh.ok(&["apply", "-f", "mesh.yaml"]);
    await_some("the other pod of the name", || mesh.pid("other").filter(|pid| *pid != before));
    mesh.ok(&["wait", "--for=condition=Ready", "pod/other"]);
}

/// A script in the user's home, which containers do not see.
#[test]
fn an_image_is_a_program_of_the_folder_where_the_mesh_was_started() {
    let shop = "
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  containers: [{name: main, image: 'example.com/shop:1', args: [--port, '80']}]
";
    let mesh = Running::new();
    mesh.write(
        "app.sh",
        "#!/bin/sh\necho given $@\nls $HOME/app.sh\nwhile true; do sleep 0.1; done\n",
    );
    let script = mesh.folder.path().join("app.sh");
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let mapping = "example.com/shop=./app.sh --name a";
    let Some(mesh) = mesh.started(shop, &["--image", mapping]) else { return };
    let log = mesh.await_log("shop", "given --name a --port 80");
    assert!(!log.lines().any(|line| line.starts_with('/')), "{log}");
}

#[test]
fn up_does_not_wait_for_ever_for_what_is_never_ready() {
    let never = "
apiVersion: v1
kind: Pod
metadata: {name: never}
spec:
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'while true; do sleep 0.1; done']
    readinessProbe: {exec: {command: ['false']}, periodSeconds: 1}
";
    let mesh = Running::new();
    mesh.write("never.yaml", never);
    let said =
        mesh.run(&["up", "--detach", "never.yaml", "--set", "limits.platform.progress_timeout=3s"]);
    if said.err.contains("does not let ironmesh run") {
        return;
    }
    assert_eq!(said.code, 1, "{said:?}");
    let told = "pod default/never is not ready: Unhealthy: Readiness probe failed";
    assert!(said.out.contains(told), "{said:?}");
    // The mesh is there, so that one can look.
    assert!(mesh.ok(&["get", "pods"]).contains("never"));
}

#[test]
fn an_application_that_listens_a_little_late_need_not_wait_a_whole_period() {
    let late = "
apiVersion: v1
kind: Pod
metadata: {name: late}
spec:
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'sleep 0.3; touch /tmp/there; while true; do sleep 0.1; done']
    readinessProbe: {exec: {command: [test, -e, /tmp/there]}, periodSeconds: 3600}
";
    let Some(mesh) = Running::start(late, &[]) else { return };
    assert_eq!(mesh.status()["pods"][0]["ready"], "1/1", "{}", mesh.status());
}

#[test]
fn a_command_with_a_terminal_may_write_elsewhere() {
    use nix::pty::openpty;
    let Some(mesh) = Running::start(EVERYTHING, &[]) else { return };
    let terminal = openpty(None, None).unwrap();
    let mut command =
        mesh.command(&["exec", "-it", "other", "--", "sh", "-c", "test -t 1 && echo shown"]);
    command.stdin(terminal.slave);
    let said = Said::of(command);
    assert_eq!((said.code, said.out.as_str()), (0, "shown\r\n"), "{said:?}");
}

#[test]
fn nothing_is_left_when_up_or_the_agent_is_killed() {
    for victim in ["up_pid", "agent_pid"] {
        let Some(mesh) = Running::start(EVERYTHING, &[]) else { return };
        let status = mesh.status();
        let processes = descendants(status["up_pid"].as_i64().unwrap());
        assert!(processes.len() > 5, "{processes:?}");
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        kill(status[victim].as_i64().unwrap());
        await_some("the end of every process", || {
            processes.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        assert_eq!(std::fs::read_to_string("/proc/self/mounts").unwrap(), mounts);
        assert_ne!(mesh.run(&["status"]).code, 0);
    }
}

/// A process and all that it started, directly or not.
fn descendants(root: i64) -> Vec<i64> {
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let children = format!("/proc/{0}/task/{0}/children", found[next]);
        let children = std::fs::read_to_string(children).unwrap_or_default();
        found.extend(children.split_whitespace().map(|pid| pid.parse::<i64>().unwrap()));
        next += 1;
    }
    found
}

/// Whether a process is there and not just waiting to be waited for.
fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
