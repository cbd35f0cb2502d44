//! Limits of memory.

use std::path::{Path, PathBuf};

use crate::running::{Running, as_every_user, await_some, kill};

/// One that takes 200 MB where 32 are allowed, and one that keeps to what is.
const TWO: &str = "
apiVersion: v1
kind: Pod
metadata: {name: greedy}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'head -c 200000000 /dev/zero | tail > /dev/null']
    resources: {limits: {memory: 32Mi}}
---
apiVersion: v1
kind: Pod
metadata: {name: modest}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'head -c 200000 /dev/zero | tail | wc -c; sleep 1h']
    resources: {limits: {memory: 32Mi}}
";

#[test]
fn a_container_has_no_more_memory_than_its_limit() {
    as_every_user(TWO, &[], |mesh| {
        let state = "{.status.containerStatuses[0].state.terminated.reason}";
        let reason = await_some("the end of the greedy one", || {
            let said = mesh.run(&["get", "pod", "greedy", "-o", &format!("jsonpath={state}")]);
            Some(said.out).filter(|reason| !reason.is_empty())
        });
        mesh.await_log("modest", "200000");
        let events = mesh.ok(&["get", "events"]);
        if events.contains("MemoryNotLimited") {
            // Where no cgroup can be made that is said, and the program goes on.
            println!("not enforced here: {events}");
            assert_eq!(reason, "Completed");
            return;
        }
        assert_eq!(reason, "OOMKilled");
        let code = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode}";
        assert_eq!(mesh.ok(&["get", "pod", "greedy", "-o", code]), "137");
        assert!(!cgroups(mesh).is_empty());
        // A command in a container has no memory beside its container's.
        let greedy = "head -c 200000000 /dev/zero | tail > /dev/null";
        let said = mesh.run(&["exec", "modest", "--", "sh", "-c", greedy]);
        assert_eq!(said.code, 137, "{said:?}");
        mesh.ok(&["down"]);
        assert!(cgroups(mesh).is_empty(), "{:?}", cgroups(mesh));
    });
}

#[test]
fn no_cgroup_is_left_when_up_is_killed() {
    let Some(mesh) = Running::start(TWO, &[]) else { return };
    mesh.await_log("modest", "200000");
    let is_limited = !mesh.ok(&["get", "events"]).contains("MemoryNotLimited");
    assert_eq!(!cgroups(&mesh).is_empty(), is_limited);
    kill(mesh.status()["up_pid"].as_i64().unwrap());
    await_some("the end of its cgroups", || cgroups(&mesh).is_empty().then_some(()));
}

/// The cgroups of a mesh.
fn cgroups(mesh: &Running) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().ends_with(&format!(".{}", mesh.name)) {
                    found.push(entry.path());
                }
                folders.push(entry.path());
            }
        }
    }
    found
}
