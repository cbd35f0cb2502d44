//! Containers have roots of their own.

use std::fs;
use std::path::Path;

use super::mesh::Stage;
use super::{Options, ensure, fact};

/// Two pods write files in many folders and see only their own; nothing appears on the host.
pub(super) fn files(stage: &Stage, _: &Options) -> anyhow::Result<()> {
    let mesh = stage.up(&["--empty"])?;
    stage.apply(PODS)?;
    mesh.wait_ready("default", 2)?;
    let name = format!("ironmesh-accept-{}", std::process::id());
    for pod in ["one", "two"] {
        let mut script = "mkdir -p /data".to_owned();
        for folder in FOLDERS {
            script += &format!(" && echo {pod} > {folder}/{name}-{pod}");
        }
        stage.run(&["exec", pod, "--", "sh", "-c", &script])?;
    }
    for (pod, other) in [("one", "two"), ("two", "one")] {
        for folder in FOLDERS {
            let seen = stage.run(&["exec", pod, "--", "ls", folder])?;
            let has = |whose: &str| seen.lines().any(|line| line == format!("{name}-{whose}"));
            ensure(has(pod), || format!("{pod} lost its file in {folder}"))?;
            ensure(!has(other), || format!("{pod} sees the file of {other} in {folder}"))?;
        }
    }
    for folder in FOLDERS {
        for pod in ["one", "two"] {
            let path = Path::new(folder).join(format!("{name}-{pod}"));
            ensure(!fs::exists(&path)?, || format!("the host has {}", path.display()))?;
        }
    }
    ensure(!fs::exists(Path::new("/data").join(&name))?, || "the host has /data".to_owned())?;
    fact(format!("each pod sees its own files alone in {}; the host none", FOLDERS.join(" ")));
    mesh.stop()
}

/// Where the pods write.
const FOLDERS: [&str; 7] = ["/data", "/etc", "/usr", "/usr/local/bin", "/var", "/opt", "/tmp"];

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
