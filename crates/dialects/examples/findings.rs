//! Says what is found about the manifests on standard input, a line of JSON for each object.
//!
//! `findings validate` looks at each object alone, as admission does; `findings analyze` at all of them
//! together, as `ironmesh analyze` does with files. A line is `{"object": "KIND NAMESPACE/NAME",
//! "findings": [{"code", "severity", "path", "message"}]}`, in the order of the manifests.

use std::io::{Read, Write, stdin, stdout};

use ironmesh_dialects::object::normalize;
use ironmesh_dialects::{Object, manifest, translate, validate};
use ironmesh_model::settings::Settings;
use ironmesh_model::{Finding, Snapshot};
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let together = match std::env::args().nth(1).as_deref() {
        Some("validate") => false,
        Some("analyze") => true,
        _ => return Err("usage: findings validate|analyze < MANIFESTS".into()),
    };
    let mut text = String::new();
    stdin().read_to_string(&mut text)?;
    let mut objects = Vec::new();
    for document in manifest::parse(&text).documents {
        let mut value = document.value;
        if value["metadata"]["namespace"].is_null() && value["kind"] != "Namespace" {
            value["metadata"]["namespace"] = json!("default");
        }
        let old_form = normalize(&mut value);
        objects.push((Object::new(value).map_err(|bad| format!("{bad:?}"))?, old_form));
    }
    let all = if together { of_all(&objects) } else { Vec::new() };
    let mut out = stdout().lock();
    for (object, old_form) in &objects {
        let id = object.id();
        let own: Vec<Value> = match together {
            true => all.iter().filter(|found| found.object == *id).map(as_json).collect(),
            false => old_form.iter().chain(&validate(object)).map(as_json).collect(),
        };
        let name = format!("{} {}/{}", object.kind(), id.namespace, id.name);
        writeln!(out, "{}", json!({ "object": name, "findings": own }))?;
    }
    Ok(())
}

fn of_all(objects: &[(Object, Option<Finding>)]) -> Vec<Finding> {
    let alone: Vec<Object> = objects.iter().map(|(object, _)| object.clone()).collect();
    let translation = translate(&alone, &Settings::default());
    let (_, together) = Snapshot::new(translation.objects);
    translation.findings.into_iter().chain(together).collect()
}

fn as_json(found: &Finding) -> Value {
    json!({
        "code": found.code, "severity": found.code.severity(),
        "path": found.path, "message": found.message,
    })
}
