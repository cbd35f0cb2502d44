//! Containers have roots of their own.

use std::fs;

use super::mesh::Stage;
use super::{Options, ensure, fact};

/// Two pods write different files to /data, /etc and /usr and see only their own; the host's tree
/// does not change.
pub(super) fn files(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let tops = ["/", "/etc", "/usr", "/var", "/opt", "/home", "/tmp"];
    let listing = || -> Vec<Vec<String>> {
        tops.iter()
            .map(|top| {
                let entries = fs::read_dir(top).into_iter().flatten().flatten();
                let mut names: Vec<String> =
                    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
                names.sort();
                names
            })
            .collect()
    };
    let before = listing();
    let mesh = stage.up(&["--empty"])?;
    stage.apply(PODS)?;
    mesh.wait_ready("default", 2)?;
    for pod in ["one", "two"] {
        let script = format!(
            "mkdir -p /data && echo {pod} > /data/{pod} && echo {pod} > /etc/{pod} && cat /data/*"
        );
        let seen = stage.run(&["exec", pod, "--", "sh", "-c", &script])?;
        ensure(seen.trim() == pod, || format!("pod {pod} saw {seen:?} in /data"))?;
    }
    let listed = stage.run(&["exec", "one", "--", "sh", "-c", "ls /data /etc"])?;
    ensure(!listed.lines().any(|line| line == "two"), || "one sees files of two".to_owned())?;
    ensure(listing() == before, || "the host's tree changed".to_owned())?;
    fact("each pod sees its own files alone, and the host none");
    mesh.stop()
}

const PODS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: default}
spec: {containers: [{name: app, image: curlimages/curl, command: [sleep, infinity]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: default}
spec: {containers: [{name: app, image: curlimages/curl, command: [sleep, infinity]}]}
";
