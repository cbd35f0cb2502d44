use std::fs;
use std::path::{Path, PathBuf};

use crate::mesh::Mesh;

/// Folders whose files can be applied on their own, as they are.
const FOLDERS: [&str; 3] = [
    "002-istio1.14/samples/bookinfo",
    "000-istio1.11-linkerd2.10/Istio/Examples/BookInfo",
    "000-istio1.11-linkerd2.10/Istio/Examples/HelloWorld",
];

#[test]
fn manifests_of_the_workshops_apply_and_are_then_unchanged() {
    let Some(workshops) = std::env::var_os("IRONMESH_WORKSHOPS").map(PathBuf::from) else {
        println!("SKIPPED: IRONMESH_WORKSHOPS names no folder with the workshops' manifests");
        return;
    };
    let mesh = Mesh::start();
    for folder in FOLDERS {
        let mut files = Vec::new();
        manifests(&workshops.join(folder), &mut files);
        assert!(!files.is_empty(), "{folder} has no manifests");
        for file in files {
            mesh.run(&format!("apply -f {}", file.display())).ok();
            let again = mesh.run(&format!("apply -f {}", file.display())).ok();
            let changed = again.lines().find(|line| !line.ends_with(" unchanged"));
            assert_eq!(changed, None, "{}", file.display());
        }
    }
}

fn manifests(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            manifests(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
}
