//! `tests/golden/NAME.yaml` gives `NAME.txt` (all findings, with lines) and `NAME.json` (the model).
//! With `UPDATE=1` in the environment the expected files are written anew.

use std::path::{Path, PathBuf};

use ironmesh_dialects::manifest::{self, Document, Parsed};
use ironmesh_dialects::{Object, object, translate};
use ironmesh_model::finding::joined;
use ironmesh_model::settings::Settings;
use ironmesh_model::snapshot::Objects;
use ironmesh_model::{Finding, ObjectId, Snapshot};
use serde_json::{Value, json};

#[test]
fn translations_are_as_expected() {
    let mut inputs: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty());
    for input in inputs {
        let (findings, model) = outcome(&std::fs::read_to_string(&input).unwrap());
        let name = input.file_stem().unwrap().to_str().unwrap();
        check(&format!("{name}.txt"), &findings);
        check(&format!("{name}.json"), &model);
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// Compares with the expected file of that name, or writes it.
pub(crate) fn check(name: &str, actual: &str) {
    let path = folder().join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs =
        actual.lines().zip(expected.lines().chain(std::iter::repeat(""))).find(|(a, b)| a != b);
    assert!(
        expected == actual,
        "{} is not as expected (UPDATE=1 accepts); first difference: {differs:?}",
        path.display()
    );
}

/// Findings and model of a manifest, as text.
fn outcome(text: &str) -> (String, String) {
    let Parsed { mut documents, errors, warnings } = manifest::parse(text);
    let mut lines: Vec<String> = errors.iter().map(|e| format!("error: {e}\n")).collect();
    lines.extend(warnings.iter().map(|w| format!("warning: {w}\n")));
    let old: Vec<Finding> =
        documents.iter_mut().filter_map(|d| object::normalize(&mut d.value)).collect();
    let (documents, objects): (Vec<Document>, Vec<Object>) = documents
        .into_iter()
        .filter_map(|document| {
            let object = Object::new(document.value.clone());
            object
                .map_err(|e| lines.push(format!("line {}: {e}\n", document.line)))
                .ok()
                .map(|o| (document, o))
        })
        .collect();
    let translation = translate(&objects, &Settings::default());
    let model = model(&translation.objects);
    let (_, together) = Snapshot::new(translation.objects);
    let line = |id: &ObjectId, path: &str| {
        let at = objects.iter().position(|object| object.id() == id)?;
        documents[at].lines.of(path).or(Some(documents[at].line))
    };
    let (of_all, together) = (translation.findings.iter(), together.iter());
    for finding in old.iter().chain(joined(of_all, together)) {
        let Finding { object, path, code, message } = finding;
        let severity = format!("{:?}", code.severity()).to_lowercase();
        let line = line(object, path).unwrap_or(0);
        lines.push(format!("{line}: {severity} {code} {object} {path}: {message}\n"));
    }
    (lines.concat(), model)
}

fn model(objects: &Objects) -> String {
    let Objects {
        services,
        workloads,
        routes,
        destination_policies,
        inbound_policies,
        gateways,
        ..
    } = objects;
    let value = json!({
        "services": list(services, |s| json!({ "service": s.service, "endpoints": s.endpoints })),
        "workloads": list(workloads, |(ip, workload)| json!({ "ip": ip, "workload": workload })),
        "routes": list(routes, |r| json!({
            "hosts": r.hosts,
            "gateways": r.gateways,
            "export_to": r.export_to,
            "created": r.created,
            "route": r.route,
        })),
        "destination_policies": list(destination_policies, |p| json!({
            "host": p.host,
            "export_to": p.export_to,
            "created": p.created,
            "policy": p.policy,
        })),
        "inbound_policies": list(inbound_policies, |p| json!({
            "selectors": p.selectors,
            "created": p.created,
            "policy": p.policy,
        })),
        "gateways": list(gateways, |g| json!({
            "id": g.id,
            "selector": g.selector,
            "created": g.created,
            "servers": list(&g.servers, |s| json!({
                "port": s.port,
                "name": s.name,
                "protocol": format!("{:?}", s.protocol),
                "hosts": s.hosts,
            })),
        })),
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    text
}

fn list<T>(items: &[T], show: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(show).collect()
}
