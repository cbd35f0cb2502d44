//! Real images: loaded from files, and run as containers do.

use std::fs;

use serde_json::Value;
use tar::EntryType;

use crate::image_files::{Files, Layer, gzip, program};
use crate::running::{Running, Said, as_every_user, await_some};

const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: meshed, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: meshed, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: web, image: "example.com/shop/web:1.0", ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: meshed}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: other}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: other
    image: example.com/shop/web:1.0
    command: [/usr/bin/app]
    args: ["/etc/hostname", "/config/$(COLOR)"]
    workingDir: /made/here
    env: [{name: COLOR, value: red}]
    securityContext: {runAsUser: 0}
    volumeMounts: [{name: config, mountPath: /config}]
  volumes: [{name: config, configMap: {name: config}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {red: of a volume}
---
apiVersion: v1
kind: Pod
metadata: {name: caller, namespace: meshed}
spec: {terminationGracePeriodSeconds: 0, containers: [{name: caller, image: ironmesh/sleep}]}
"#;

/// Writes a file of bytes into the folder of a mesh.
fn write(mesh: &Running, name: &str, bytes: &[u8]) {
    fs::write(mesh.folder.path().join(name), bytes).unwrap();
}

fn log(mesh: &Running, namespace: &str, pod: &str, last: &str) -> String {
    await_some(&format!("the log of {pod}"), || {
        let log = mesh.run(&["logs", "-n", namespace, pod, "-c", pod]).out;
        log.contains(last).then_some(log)
    })
}

#[test]
fn an_image_that_is_loaded_runs_as_its_configuration_says() {
    let Some(program) = program() else { return };
    as_every_user(PODS, &[], |mesh| {
        let waiting =
            "jsonpath={.status.containerStatuses[?(@.name==\"web\")].state.waiting.reason}";
        await_some("a pod without an image", || {
            let reason = mesh.ok(&["get", "pod", "web", "-n", "meshed", "-o", waiting]);
            matches!(&*reason, "ErrImagePull" | "ImagePullBackOff").then_some(())
        });
        let files = Files::of_program(program, "blue");
        write(mesh, "web.tar.gz", &gzip(&files.docker_save("example.com/shop/web:1.0")));
        let said = mesh.ok(&["image", "load", "web.tar.gz"]);
        assert_eq!(said, "image/example.com/shop/web:1.0 loaded\n");
        let log_of_web = log(mesh, "meshed", "web", "written");
        let is_root = mesh.is_of_root();
        let user = if is_root { "user 1000 100" } else { "user 0 0" };
        assert!(
            log_of_web.contains(&format!("{user} in /home/ann home /home/ann")),
            "{log_of_web}"
        );
        for line in [
            "color blue",
            "/data/kept says kept",
            "/data/gone is not there",
            "/old/hidden is not there",
            "/old/new says new",
            "/data/again says kept",
            "/data/linked says kept",
            "written true",
        ] {
            assert!(log_of_web.contains(line), "{line}: {log_of_web}");
        }
        let log_of_other = log(mesh, "default", "other", "written");
        for line in [
            "user 0 0 in /made/here home /root",
            "args [/etc/hostname /config/red] color red",
            "/etc/hostname says other\n",
            "/config/red says of a volume",
            "written true",
        ] {
            assert!(log_of_other.contains(line), "{line}: {log_of_other}");
        }
        await_some("an answer through the sidecars", || {
            let curl =
                ["exec", "-n", "meshed", "caller", "-c", "caller", "--", "curl", "-s", "web"];
            (mesh.run(&curl).out == "hello from blue\n").then_some(())
        });
        let described = mesh.ok(&["describe", "pod", "web", "-n", "meshed"]);
        assert!(described.contains("Image ID:") && described.contains("sha256:"), "{described}");
        assert_eq!(described.contains("there is one user only"), !is_root, "{described}");
        assert!(mesh.ok(&["image", "list"]).contains("example.com/shop/web:1.0"));
        mesh.ok(&["image", "rm", "example.com/shop/web:1.0"]);
        let gone = mesh.run(&["image", "rm", "example.com/shop/web:1.0"]);
        assert!(gone.code == 1 && gone.err.contains("image list"), "{gone:?}");
        // What runs keeps its files.
        let kept = ["exec", "-n", "meshed", "caller", "-c", "caller", "--", "curl", "-s", "web"];
        assert_eq!(mesh.ok(&kept), "hello from blue\n");
    });
}

#[test]
fn what_is_wrong_is_said_once_and_the_help_lists_each_verb_in_a_line() {
    let mesh = Running::new();
    let said = mesh.run(&["image", "load", "nosuch.tar"]);
    assert!(said.code == 1 && said.err.matches("No such file").count() == 1, "{said:?}");
    mesh.write("config.json", "{");
    let mut pull = mesh.command(&["image", "pull", "127.0.0.1:9/a:1"]);
    pull.env("DOCKER_CONFIG", mesh.folder.path());
    let said = Said::of(pull);
    assert!(said.err.contains("registry 127.0.0.1:9 is not asked: "), "{said:?}");
    let help = mesh.ok(&["image", "--help"]);
    let pull = help.lines().position(|line| line.starts_with("  pull ")).unwrap();
    assert!(help.lines().nth(pull + 1).unwrap().starts_with("  list "), "{help}");
}

#[test]
fn a_layout_is_loaded_from_a_folder_under_the_name_that_it_is_given() {
    let mesh = Running::new();
    let files = Files { layers: vec![Layer::new().file("a", b"a").tar()], config: Value::Null };
    files.write_layout(&mesh.folder.path().join("layout"));
    let said = mesh.run(&["image", "load", "layout"]);
    assert!(said.code == 1 && said.err.contains("--name NAME:TAG"), "{said:?}");
    mesh.ok(&["image", "load", "layout", "--name", "example.com/a:1"]);
    let list = mesh.ok(&["image", "list", "-o", "json"]);
    assert!(list.contains("\"example.com/a:1\"") && list.contains("\"loaded\": true"), "{list}");
    // A layer whose content is another than its digest says.
    let blob = files.blobs().pop().unwrap();
    let path = mesh.folder.path().join("layout/blobs/sha256").join(blob.0.hex());
    fs::write(path, gzip(&Layer::new().file("a", b"evil").tar())).unwrap();
    mesh.ok(&["image", "rm", "example.com/a:1"]);
    let said = mesh.run(&["image", "load", "layout", "--name", "example.com/a:1"]);
    assert!(said.code == 1 && said.err.contains("has the digest"), "{said:?}");
    assert!(!mesh.ok(&["image", "list"]).contains("example.com"));
}

#[test]
fn a_hostile_image_is_refused_with_the_reason_and_writes_nothing_outside() {
    let mesh = Running::new();
    let secret = mesh.folder.path().join("secret");
    fs::write(&secret, "untouched").unwrap();
    let outside = secret.display().to_string();
    let deep = format!("{}secret", "../".repeat(12));
    let hostile = |name: &str, layer: Layer, reason: &str| {
        let files = Files { layers: vec![layer.tar()], config: Value::Null };
        write(&mesh, "hostile.tar", &files.docker_save("example.com/hostile:1"));
        let said = mesh.run(&["image", "load", "hostile.tar"]);
        assert!(said.code == 1 && said.err.contains(reason), "{name}: {said:?}");
    };
    let leads_out = "leads out of the image";
    hostile("dots", Layer::new().file(&deep, b"x"), leads_out);
    hostile("a link up", Layer::new().link("up", "../../..").file("up/secret", b"x"), leads_out);
    hostile("a hard link", Layer::new().hard_link("x", &deep), leads_out);
    let hard = Layer::new().hard_link("x", &outside).file("x", b"x");
    hostile("a hard link to a path of the host", hard, "not there");
    let dots = Layer::new().file(".wh...", b"");
    hostile("a whiteout of what is above", dots, "takes away what has no name");
    let unknown = Layer::new().add(EntryType::new(b'Q'), ("x", ""), (0o644, 0), b"");
    hostile("an unknown type", unknown, "not known");
    // The archive itself.
    write(&mesh, "hostile.tar", &Layer::new().file("../secret", b"x").tar());
    let said = mesh.run(&["image", "load", "hostile.tar"]);
    assert!(said.code == 1 && said.err.contains(leads_out), "{said:?}");
    let set = ["--set", "limits.images.unpacked_bytes_max=1KiB"];
    let files =
        Files { layers: vec![Layer::new().file("a", &[0; 4096]).tar()], config: Value::Null };
    write(&mesh, "large.tar", &files.docker_save("example.com/large:1"));
    let said = mesh.run(&[&["image", "load", "large.tar"], &set[..]].concat());
    assert!(said.code == 1 && said.err.contains("limits.images.unpacked_bytes_max"), "{said:?}");
    assert_eq!(fs::read_to_string(secret).unwrap(), "untouched");
    assert!(mesh.ok(&["image", "list", "-o", "json"]).trim() == "[]");
    // Nothing half done stays.
    let store = mesh.folder.path().join(".cache/ironmesh/images");
    assert_eq!(fs::read_dir(store.join("layers")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(store.join("work")).unwrap().count(), 0);
}

#[test]
fn images_are_mapped_to_commands_while_the_mesh_runs_and_beside_the_manifests() {
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  \
             terminationGracePeriodSeconds: 0\n  \
             containers: [{{name: {name}, image: example.com/{name}, imagePullPolicy: Never}}]\n"
        )
    };
    let mesh = Running::new();
    mesh.write("images.yaml", "example.com/early: /bin/sh -c 'echo early; sleep 1000'\n");
    let manifest = [pod("early"), pod("late")].join("---\n");
    let Some(mesh) = mesh.started(&manifest, &[]) else { return };
    log(&mesh, "default", "early", "early");
    await_some("a pod without an image", || {
        mesh.ok(&["get", "pods"]).contains("ErrImageNeverPull").then_some(())
    });
    mesh.ok(&["image", "map", "example.com/late=/bin/sh -c 'echo late; sleep 1000'"]);
    log(&mesh, "default", "late", "late");
    let all = mesh.ok(&["image", "map", "-o", "json"]);
    assert!(all.contains("example.com/late") && all.contains("example.com/early"), "{all}");
    assert!(!mesh.ok(&["image", "map", "example.com/late-"]).contains("late"));
    // Beside manifests that are given to a mesh that runs they count, too.
    mesh.write("images.yaml", "example.com/added: /bin/sh -c 'echo added; sleep 1000'\n");
    mesh.write("added.yaml", &pod("added"));
    mesh.ok(&["up", "./added.yaml", "--image", "example.com/other=/bin/true"]);
    log(&mesh, "default", "added", "added");
    assert!(mesh.ok(&["image", "map"]).contains("example.com/other "));
    for (change, reason) in [
        ("example.com/late-", "is mapped"),
        ("nothing", "is not PATTERN=COMMAND"),
        ("localhost:5000/a=/bin/true", "never mapped"),
    ] {
        let said = mesh.run(&["image", "map", change]);
        assert!(said.code == 1 && said.err.contains(reason), "{said:?}");
    }
}
