//! Every manifest of the workshops is read and translated. They are not part of the project: the
//! tests run where `IRONMESH_WORKSHOPS` names their folder.

use std::path::{Path, PathBuf};

use ironmesh_dialects::{Object, manifest, object, translate};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Severity, Snapshot};

/// The YAML files of the workshops but for charts' own files, which are no manifests.
fn files() -> Option<Vec<PathBuf>> {
    let Some(root) = std::env::var_os("IRONMESH_WORKSHOPS") else {
        println!(
            "SKIPPED: IRONMESH_WORKSHOPS does not name the folder of the workshops' manifests"
        );
        return None;
    };
    let mut files = Vec::new();
    collect(Path::new(&root), &mut files);
    files.sort();
    assert!(files.len() > 80, "only {} files in {root:?}", files.len());
    Some(files)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "yaml" || e == "yml")
            && !path.components().any(|c| c.as_os_str() == "helm-charts")
        {
            files.push(path);
        }
    }
}

#[test]
fn every_manifest_parses_and_translates() {
    let Some(files) = files() else { return };
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let parsed = manifest::parse(&text);
        let name = file.display();
        assert!(parsed.errors.is_empty(), "{name}: {}", parsed.errors[0]);
        assert!(!parsed.documents.is_empty(), "{name} is empty");
        let objects: Vec<Object> = parsed
            .documents
            .into_iter()
            // A file for `istioctl install`: no object, and without a name.
            .filter(|document| document.value["kind"] != "IstioOperator")
            .map(|mut document| {
                object::normalize(&mut document.value);
                Object::new(document.value).unwrap_or_else(|e| panic!("{name}: {e}"))
            })
            .collect();
        let translation = translate(&objects, &Settings::default());
        for finding in &translation.findings {
            assert_ne!(finding.code.severity(), Severity::Error, "{name}: {finding:?}");
        }
        Snapshot::new(translation.objects);
    }
}
