//! What a mesh does when the machine or its files fail it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::running::{Running, await_some, kill};

#[test]
fn a_control_plane_that_cannot_start_ends_up_with_the_reason() {
    let Some(mesh) = Running::start("", &["--state", "kept"]) else { return };
    mesh.ok(&["down"]);
    let journal = mesh.folder.path().join("kept/control/journal");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    for options in [&["up", "--empty", "--detach"][..], &["up", "--empty"]] {
        let said = mesh.run(&[options, &["--state", "kept"]].concat());
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("the control plane cannot start: "), "{said:?}");
        assert!(said.err.contains("journal"), "{said:?}");
    }
    fs::remove_dir(&journal).unwrap();
    mesh.ok(&["up", "--empty", "--detach", "--state", "kept"]);
}

const TALKATIVE: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: talkative}
spec:
  containers:
  - name: main
    image: busybox
    command: [bash, -c]
    args:
    - |
      set -e
      echo begin
      printf -v line '%04000d' 7
      while true; do echo "$line"; sleep 0.05; done
"#;

#[test]
fn a_full_disk_costs_log_lines_and_nothing_else() {
    let mesh = Running::new();
    let Some(disk) = SmallDisk::mount(mesh.folder.path().join("disk")) else { return };
    let Some(mesh) = mesh.started(TALKATIVE, &["--state", "disk"]) else { return };
    mesh.await_log("talkative", "begin");
    disk.fill();
    let before = mesh.pid("talkative");
    assert!(before.is_some());
    // The control plane, whose own log cannot be written, is started again.
    let control = mesh.status()["control_pid"].as_i64().unwrap();
    kill(control);
    await_some("another control plane", || {
        mesh.status()["control_pid"].as_i64().filter(|next| *next != control)
    });
    await_some("the API", || (mesh.run(&["get", "pods"]).code == 0).then_some(()));
    disk.free();
    // The application has not noticed anything, and its log says what it lacks.
    await_some("word of the loss", || {
        let log = mesh.run(&["logs", "talkative"]).out;
        let told = log.lines().position(|line| line.contains("bytes of this log were lost"))?;
        log.lines().skip(told + 1).any(|line| line.ends_with("007")).then_some(())
    });
    assert_eq!(mesh.pid("talkative"), before);
    mesh.ok(&["down"]);
}

const CROWD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: victim, labels: {sidecar.istio.io/inject: "true"}}
spec:
  containers:
  - {name: main, image: busybox, command: [sleep, "1000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: hostile}
spec:
  containers:
  - {name: main, image: busybox, command: [sleep, "1000"]}
---
apiVersion: v1
kind: Pod
metadata: {name: caller}
spec:
  containers:
  - {name: main, image: busybox, command: [sleep, "1000"]}
"#;

#[test]
fn who_holds_connections_keeps_nobody_else_out() {
    let Some(mesh) = Running::start(CROWD, &[]) else { return };
    let ip = mesh.pod("victim").unwrap()["ip"].as_str().unwrap().to_owned();
    // More of each kind than there are places, held by one pod that says nothing.
    let places =
        [(&*ip, 15021), (&*ip, 15020), (&*ip, 15090), ("10.77.0.1", 53), ("10.77.0.1", 15012)];
    let hold = places.map(|(ip, port)| {
        format!("for i in $(seq 100); do exec {{fd}}<>/dev/tcp/{ip}/{port} || exit; done")
    });
    let script = format!("{}; echo held; sleep 1000", hold.join("\n"));
    let mut hostile = mesh.command(&["exec", "hostile", "--", "bash", "-c", &script]);
    let mut hostile = hostile.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = [0; 5];
    hostile.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"held\n");
    for (port, path) in
        [(15021, "/healthz/ready"), (15020, "/metrics"), (15090, "/stats/prometheus")]
    {
        let ask = format!(
            "exec 3<>/dev/tcp/{ip}/{port}; printf 'GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&3; \
             timeout 20 head -1 <&3"
        );
        let answer = mesh.ok(&["exec", "caller", "--", "bash", "-c", &ask]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{port}: {answer}");
    }
    // Names over TCP, and a new proxy, which must reach the control plane.
    mesh.ok(&["exec", "caller", "--", "bash", "-c", "exec 3<>/dev/tcp/10.77.0.1/53; printf '\\0\\x11\\0\\x1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\0\\0\\1\\0\\1' >&3; timeout 20 head -c 2 <&3 | grep -q ."]);
    mesh.write("late.yaml", &CROWD.split("---").next().unwrap().replace("victim", "late"));
    mesh.ok(&["apply", "-f", "late.yaml"]);
    mesh.ok(&["wait", "--for=condition=Ready", "pod/late", "--timeout=60s"]);
    assert_eq!(mesh.pod("victim").unwrap()["ready"], "2/2");
    hostile.kill().unwrap();
    hostile.wait().unwrap();
}

/// A disk of 4 MiB. Only root can have one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=4m", "small"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(at)),
            other => {
                println!("SKIPPED: no small disk can be mounted: {other:?}");
                None
            }
        }
    }

    fn filling(&self) -> PathBuf {
        self.0.join("fill")
    }

    fn fill(&self) {
        let script = format!("cat /dev/zero >> {}", quoted(&self.filling()));
        let filled = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(!filled.status.success(), "it is full");
    }

    fn free(&self) {
        fs::remove_file(self.filling()).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}
