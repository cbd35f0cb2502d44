//! What makes pods, in real meshes: Jobs, DaemonSets, StatefulSets with their claims; and what pods say at
//! their end.

use crate::running::{Running, as_every_user, await_some};

const JOBS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: meshed, labels: {istio-injection: enabled}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: pair, namespace: meshed}
spec:
  completions: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: app, image: busybox, command: [sh, -c, "echo done"]}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: again, namespace: meshed}
spec:
  backoffLimit: 1
  template:
    spec:
      restartPolicy: OnFailure
      containers: [{name: app, image: busybox, command: [sh, -c, "exit 3"]}]
"#;

fn jsonpath(mesh: &Running, of: &[&str], path: &str) -> String {
    let path = format!("jsonpath={path}");
    mesh.run(&[&["get", "-n", "meshed"], of, &["-o", &path]].concat()).out
}

const ENDS: &str = "{.status.conditions[?(@.status==\"True\")].reason}";

#[test]
fn a_job_ends_together_with_its_sidecars_and_is_not_done_again_after_a_restart() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("state");
    let options = ["--state", folder.to_str().unwrap()];
    let Some(mesh) = Running::start(JOBS, &options) else { return };
    let complete =
        ["wait", "-n", "meshed", "--for=condition=complete", "job/pair", "--timeout=60s"];
    mesh.ok(&complete);
    let pods = mesh.ok(&["get", "pods", "-n", "meshed", "-l", "job-name=pair", "--no-headers"]);
    assert_eq!(pods.lines().filter(|line| line.contains("0/2")).count(), 2, "{pods}");
    assert_eq!(mesh.ok(&["logs", "-n", "meshed", "job/pair", "-c", "app"]), "done\n");
    assert!(mesh.ok(&["describe", "-n", "meshed", "job", "pair"]).contains("2 Succeeded"));
    await_some("the end of the other", || {
        jsonpath(&mesh, &["job/again"], ENDS).contains("BackoffLimitExceeded").then_some(())
    });
    let time = jsonpath(&mesh, &["job/pair"], "{.status.completionTime}");
    mesh.ok(&["down"]);
    mesh.ok(&[&["up", "--detach", "mesh.yaml"], &options[..]].concat());
    mesh.ok(&complete);
    assert_eq!(jsonpath(&mesh, &["job/pair"], "{.status.completionTime}"), time);
    let row = mesh.ok(&["get", "job", "pair", "-n", "meshed", "--no-headers"]);
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row[..3], ["pair", "Complete", "2/2"]);
    assert_eq!(jsonpath(&mesh, &["pods"], "{.items[*].status.phase}"), "Succeeded Succeeded");
}

const SHARDS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: shards}
spec: {clusterIP: None, selector: {job-name: shard}, ports: [{name: tcp-x, port: 6500}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: shard}
spec:
  completions: 3
  parallelism: 2
  completionMode: Indexed
  backoffLimitPerIndex: 0
  podFailurePolicy:
    rules:
    - {action: FailIndex, onExitCodes: {operator: In, values: [3]}}
  template:
    spec:
      restartPolicy: Never
      subdomain: shards
      containers:
      - name: app
        image: busybox
        command: [sh, -c, 'echo "shard $JOB_COMPLETION_INDEX of $(hostname)"; test $JOB_COMPLETION_INDEX != 1 || exit 3']
"#;

#[test]
fn each_pod_of_an_indexed_job_knows_its_index() {
    as_every_user(SHARDS, &[], |mesh| {
        mesh.ok(&["wait", "--for=condition=failed", "job/shard", "--timeout=60s"]);
        let status = mesh.ok(&[
            "get",
            "job",
            "shard",
            "-o",
            "jsonpath={.status.completedIndexes}/{.status.failedIndexes}",
        ]);
        assert_eq!(status, "0,2/1");
        let logs = mesh.ok(&["logs", "-l", "job-name=shard"]);
        let mut lines: Vec<&str> = logs.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["shard 0 of shard-0", "shard 1 of shard-1", "shard 2 of shard-2"]);
        let said = mesh.ok(&["describe", "job", "shard"]);
        assert!(said.contains("Indexed") && said.contains("0,2"), "{said}");
    });
}

const HELD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: before}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: busybox, command: [sleep, '1000']}]}
";

#[test]
fn a_cordoned_node_takes_no_further_pods() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("state");
    let options = ["--state", folder.to_str().unwrap()];
    let Some(mesh) = Running::start(HELD, &options) else { return };
    let phase = |pod: &str| mesh.run(&["get", "pod", pod, "-o", "jsonpath={.status.phase}"]).out;
    let cordon = |value: &str| {
        let patch = format!(r#"{{"spec":{{"unschedulable":{value}}}}}"#);
        mesh.ok(&["patch", "node", "ironmesh", "--type=merge", "-p", &patch]);
    };
    cordon("true");
    // What ran before runs again at the next start; what comes then waits.
    mesh.ok(&["down"]);
    mesh.ok(&[&["up", "--detach", "--empty"], &options[..]].concat());
    mesh.ok(&["wait", "--for=condition=ready", "pod/before", "--timeout=60s"]);
    mesh.write("held.yaml", &HELD.replace("before", "held"));
    mesh.ok(&["apply", "-f", "held.yaml"]);
    await_some("the reason", || {
        let said = mesh.ok(&["describe", "pod", "held"]);
        said.contains("1 node(s) were unschedulable").then_some(())
    });
    assert_eq!((phase("before"), phase("held")), ("Running".to_owned(), "Pending".to_owned()));
    cordon("false");
    mesh.ok(&["wait", "--for=condition=ready", "pod/held", "--timeout=60s"]);
}

const SETS: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: vault}
spec: {clusterIP: None, selector: {app: ledger}, ports: [{name: tcp-x, port: 6500}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: ledger}
spec:
  serviceName: vault
  replicas: 2
  selector: {matchLabels: {app: ledger}}
  template:
    metadata: {labels: {app: ledger}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: busybox
        command: [sh, -c, 'echo "born $(hostname)" >> /data/born; umask 077; echo secret > /data/own; trap exit TERM; while :; do sleep 0.1; done']
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 10Mi}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {disk: fast}
      containers: [{name: app, image: busybox, command: [sh, -c, "trap exit TERM; while :; do sleep 0.1; done"]}]
"#;

fn born(mesh: &Running, pod: &str) -> usize {
    let read = mesh.run(&["exec", pod, "--", "cat", "/data/born", "/data/own"]);
    assert!(!read.out.contains("born") || read.out.contains("secret"), "{read:?}");
    read.out.matches("born ledger-").count()
}

#[test]
fn the_claims_of_a_set_outlive_its_pods() {
    as_every_user(SETS, &[], |mesh| {
        mesh.ok(&["rollout", "status", "statefulset/ledger", "--timeout=60s"]);
        mesh.ok(&["rollout", "status", "ds/agent", "--timeout=60s"]);
        assert!(mesh.ok(&["describe", "statefulset", "ledger"]).contains("IM0206"));
        assert!(mesh.ok(&["describe", "ds", "agent"]).contains("disk=fast"));
        let found = mesh.run(&["exec", "ledger-0", "--", "getent", "hosts", "ledger-1.vault"]);
        let address = mesh.ok(&["get", "pod", "ledger-1", "-o", "jsonpath={.status.podIP}"]);
        assert!(found.out.starts_with(&address), "{found:?}");
        mesh.ok(&["delete", "pod", "ledger-1"]);
        // The other user of the pod that follows finds and reads what the one before kept to itself.
        await_some("the second birth", || (born(mesh, "ledger-1") == 2).then_some(()));
        assert_eq!(born(mesh, "ledger-0"), 1);
        let claims = mesh.ok(&["get", "pvc", "--no-headers"]);
        assert_eq!(claims.matches(" Bound ").count(), 2, "{claims}");
    });
}

#[test]
fn the_claims_of_a_set_outlive_the_mesh_with_its_state_and_go_with_their_objects() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("state");
    let options = ["--state", folder.to_str().unwrap()];
    let Some(mesh) = Running::start(SETS, &options) else { return };
    let folders = || std::fs::read_dir(folder.join("volumes")).unwrap().count();
    mesh.ok(&["rollout", "status", "statefulset/ledger", "--timeout=60s"]);
    assert!(!mesh.ok(&["describe", "statefulset", "ledger"]).contains("IM0206"));
    assert_eq!(folders(), 2);
    mesh.ok(&["down"]);
    mesh.ok(&[&["up", "--detach", "mesh.yaml"], &options[..]].concat());
    mesh.ok(&["rollout", "status", "statefulset/ledger", "--timeout=60s"]);
    await_some("the second birth", || (born(&mesh, "ledger-0") == 2).then_some(()));
    mesh.ok(&["delete", "pvc", "data-ledger-0", "--wait=false"]);
    mesh.ok(&["delete", "statefulset", "ledger"]);
    await_some("the end of what nobody uses", || (folders() == 1).then_some(()));
    mesh.ok(&["delete", "pvc", "data-ledger-1"]);
    await_some("the end of the other", || (folders() == 0).then_some(()));
}

const HOST_PORTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: first}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: kennethreitz/httpbin
    ports: [{containerPort: 80, hostPort: 4140}]
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: busybox, command: [sh, -c, "trap exit TERM; while :; do sleep 0.1; done"]}]
"#;

#[test]
fn a_port_of_the_node_leads_to_one_pod_and_the_next_waits_for_it() {
    let Some(mesh) = Running::start(HOST_PORTS, &[]) else { return };
    let url = "http://10.77.0.1:4140/status/200";
    let call = || {
        let arguments =
            ["exec", "caller", "--", "curl", "-s", "-m", "5", "-w", "%{http_code}", url];
        mesh.run(&arguments).out
    };
    await_some("an answer of the first", || (call() == "200").then_some(()));
    // On the host it is at the mesh's own address.
    let node = mesh.status()["node_address"].as_str().unwrap().to_owned();
    let at: std::net::SocketAddr = format!("{node}:4140").parse().unwrap();
    await_some("a port on the host", || std::net::TcpStream::connect(at).ok());
    let second = &HOST_PORTS[..HOST_PORTS.find("---").unwrap()];
    mesh.write("second.yaml", &second.replace("first", "second"));
    mesh.ok(&["apply", "-f", "second.yaml"]);
    await_some("the reason why the second waits", || {
        mesh.ok(&["describe", "pod", "second"]).contains("didn't have free ports").then_some(())
    });
    let row = mesh.ok(&["get", "pod", "second", "--no-headers"]);
    assert_eq!(row.split_whitespace().nth(2), Some("Pending"), "{row}");
    mesh.ok(&["delete", "pod", "first"]);
    mesh.ok(&["wait", "--for=condition=ready", "pod/second", "--timeout=60s"]);
    await_some("an answer of the second", || (call() == "200").then_some(()));
    mesh.ok(&["delete", "pod", "second"]);
    await_some("a port that is closed", || std::net::TcpStream::connect(at).err());
}

const LAST_WORDS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: words}
spec:
  restartPolicy: Never
  containers:
  - {name: file, image: busybox, command: [sh, -c, "echo because > /dev/termination-log; exit 3"]}
  - name: elsewhere
    image: busybox
    terminationMessagePath: /tmp/why/said
    command: [sh, -c, "echo of this > /tmp/why/said"]
  - name: log
    image: busybox
    terminationMessagePolicy: FallbackToLogsOnError
    command: [sh, -c, "echo last words; exit 4"]
  - name: well
    image: busybox
    terminationMessagePolicy: FallbackToLogsOnError
    command: [sh, -c, "echo all is well"]
  - name: flood
    image: busybox
    command: [sh, -c, "head -c 9000000 /dev/zero | tr '\\0' x > /dev/termination-log; exit 5"]
---
apiVersion: v1
kind: Pod
metadata: {name: changing}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: "busybox:1", command: [sh, -c, "trap exit TERM; while :; do sleep 0.1; done"]}]
"#;

#[test]
fn containers_say_why_they_ended_in_a_file_or_by_their_log() {
    as_every_user(LAST_WORDS, &[], |mesh| {
        await_some("the end of the pod", || {
            let phase = mesh.ok(&["get", "pod", "words", "-o", "jsonpath={.status.phase}"]);
            (phase == "Failed").then_some(())
        });
        let message = |container: &str| {
            let path = format!(
                "jsonpath={{.status.containerStatuses[?(@.name==\"{container}\")].state.terminated.message}}"
            );
            mesh.ok(&["get", "pod", "words", "-o", &path])
        };
        assert_eq!(message("file").trim(), "because");
        assert_eq!(message("elsewhere").trim(), "of this");
        assert_eq!(message("log").trim(), "last words");
        assert_eq!(message("well"), "");
        // Who writes more than there is room for takes it from nobody else.
        assert_eq!(message("flood").len(), 4_096);
    });
}

#[test]
fn a_container_whose_image_is_changed_is_started_again_with_it() {
    let Some(mesh) = Running::start(LAST_WORDS, &[]) else { return };
    let of = |field: &str| {
        let path = format!("jsonpath={{.status.containerStatuses[0].{field}}}");
        mesh.ok(&["get", "pod", "changing", "-o", &path])
    };
    assert_eq!((of("image").as_str(), of("restartCount").as_str()), ("busybox:1", "0"));
    mesh.write("new.yaml", &LAST_WORDS.replace("busybox:1", "nowhere.test/none:1"));
    mesh.ok(&["apply", "-f", "new.yaml"]);
    await_some("an image that nobody has", || {
        of("state.waiting.reason").contains("Image").then_some(())
    });
    // It need not wait for the next try.
    mesh.write("new.yaml", &LAST_WORDS.replace("busybox:1", "busybox:2"));
    mesh.ok(&["apply", "-f", "new.yaml"]);
    await_some("the new image", || (of("ready") == "true").then_some(()));
    assert_eq!(of("image"), "busybox:2");
    assert_eq!(of("restartCount"), "1");
}

const TALKER: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: talker}
spec:
  selector: {matchExpressions: [{key: app, operator: In, values: [talker]}]}
  template:
    metadata: {labels: {app: talker}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - {name: c, image: busybox, command: [sh, -c, 'echo first; while ! [ -e /tmp/go ]; do sleep 0.1; done; echo second; sleep 1000']}
";

#[test]
fn logs_are_shown_since_a_time_and_with_their_times() {
    let Some(mesh) = Running::start(TALKER, &[]) else { return };
    let logs = |options: &[&str]| mesh.ok(&[&["logs", "deploy/talker"], options].concat());
    assert_eq!(
        await_some("the first line", || Some(logs(&[])).filter(|log| !log.is_empty())),
        "first\n"
    );
    let stamped = logs(&["--timestamps"]);
    let (first, rest) = stamped.split_once(' ').unwrap();
    assert_eq!((first.len(), rest), ("2026-01-01T00:00:00.000000000Z".len(), "first\n"));
    assert_eq!(logs(&["--since=1h"]), "first\n");
    // Times are exact to a tenth of a second.
    std::thread::sleep(std::time::Duration::from_millis(300));
    mesh.ok(&["exec", "deploy/talker", "--", "touch", "/tmp/go"]);
    await_some("the second line", || logs(&[]).contains("second").then_some(()));
    let second = logs(&["--timestamps", "--tail=1"]);
    let (second, rest) = second.split_once(' ').unwrap();
    assert!(second > first && rest == "second\n", "{first} {second}");
    assert_eq!(logs(&["--since-time", second]), "second\n");
    assert_eq!(logs(&["--since-time", first, "--tail=1"]), "second\n");
    assert_eq!(logs(&["--since-time", "2100-01-01T00:00:00Z"]), "");
    for bad in [["--since-time", "yesterday"], ["--since", "soon"]] {
        assert_eq!(mesh.run(&[&["logs", "deploy/talker"], &bad[..]].concat()).code, 2, "{bad:?}");
    }
}

#[test]
fn a_mesh_with_a_pod_that_crashes_again_and_again_is_not_ready() {
    let crashes = TALKER.replace("echo first;", "exit 3;");
    let mesh = Running::new();
    mesh.write("mesh.yaml", &crashes);
    let line = ["up", "-d", "mesh.yaml", "--set", "limits.platform.progress_timeout=3s"];
    let up = mesh.run(&line);
    if up.err.contains("does not let ironmesh run") {
        println!("SKIPPED: {}", up.err.trim());
        return;
    }
    assert_eq!(up.code, 1, "{up:?}");
    assert!(up.out.contains("talker") && up.out.contains("is not ready"), "{up:?}");
    // Of sidecars it has none, and is told how to get them.
    assert!(up.err.contains("istio-injection=enabled"), "{up:?}");
}
