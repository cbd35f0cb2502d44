use std::collections::BTreeSet;

use super::*;

fn whole() -> Value {
    let parts: Vec<u8> = text().flatten().collect();
    serde_json::from_slice(&parts).unwrap()
}

/// A message, read without knowing what it is: its fields in their order.
fn fields(mut bytes: &[u8]) -> Vec<(u32, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            1 => 8,
            2 => varint(&mut bytes) as usize,
            other => panic!("wire type {other}"),
        };
        let (field, rest) = bytes.split_at(length);
        bytes = rest;
        all.push(((key >> 3) as u32, field.to_vec()));
    }
    all
}

/// The field of a number in a message, the first one.
fn field(bytes: &[u8], number: u32) -> Vec<u8> {
    let found = fields(bytes).into_iter().find(|(at, _)| *at == number);
    found.unwrap_or_else(|| panic!("no field {number}")).1
}

/// The message of a name in what stands for a map.
fn named(bytes: &[u8], number: u32, name: &str) -> Vec<u8> {
    let mut entries = fields(bytes).into_iter().filter(|(at, _)| *at == number);
    let entry = entries.find(|(_, entry)| field(entry, 1) == name.as_bytes());
    field(&entry.unwrap_or_else(|| panic!("no {name}")).1, 2)
}

#[test]
fn the_document_is_json_and_has_each_kind_once_with_all_its_versions() {
    let whole = whole();
    assert_eq!(whole["swagger"], "2.0");
    let deployment = &whole["definitions"]["apps.v1.Deployment"];
    let versions = deployment["x-kubernetes-group-version-kind"].as_array().unwrap();
    let is_old = |names: &Value| names["group"] == "extensions" && names["version"] == "v1beta1";
    assert!(versions.iter().any(is_old), "{versions:?}");
    assert_eq!(deployment["properties"]["spec"]["properties"]["replicas"]["type"], "integer");
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let parameters = whole["paths"][path]["patch"]["parameters"].as_array().unwrap();
    assert_eq!(parameters[0]["name"], "dryRun");
    assert_eq!(parameters[1]["name"], "fieldValidation");
}

#[test]
fn nothing_in_a_schema_is_lost_in_protobuf() {
    fn keys(value: &Value, all: &mut BTreeSet<String>) {
        for (key, inner) in object_of(value) {
            all.insert(key.clone());
            match key.as_str() {
                "properties" => object_of(inner).for_each(|(_, value)| keys(value, all)),
                "items" | "additionalProperties" => keys(inner, all),
                _ => {}
            }
        }
    }
    let mut all = BTreeSet::new();
    for (_, definition) in definitions() {
        keys(&definition, &mut all);
    }
    all.retain(|key| !key.starts_with("x-"));
    let written = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maximum",
        "minimum",
        "properties",
        "required",
        "type",
    ];
    assert_eq!(all.iter().map(String::as_str).collect::<Vec<_>>(), written);
}

#[test]
fn protobuf_says_what_json_says() {
    let document: Vec<u8> = protobuf().flatten().collect();
    assert_eq!(field(&document, document::SWAGGER), b"2.0");
    // Messages that come twice are one.
    let merged = |number| -> Vec<u8> {
        let parts = fields(&document).into_iter().filter(|(at, _)| *at == number);
        parts.flat_map(|(_, part)| part).collect()
    };
    let whole = whole();
    let definitions = merged(document::DEFINITIONS);
    assert_eq!(fields(&definitions).len(), whole["definitions"].as_object().unwrap().len());
    let pod = named(&definitions, 1, "core.v1.Pod");
    let spec = named(&field(&pod, 25), 1, "spec");
    let policy = named(&field(&spec, 25), 1, "restartPolicy");
    assert_eq!(field(&field(&policy, 22), 1), b"string");
    let described = &whole["definitions"]["core.v1.Pod"]["properties"]["spec"]["properties"];
    let text = described["restartPolicy"]["description"].as_str().unwrap();
    assert_eq!(field(&policy, 4), text.as_bytes());
    // Items of a list, and what a map holds.
    let containers = named(&field(&spec, 25), 1, "containers");
    let container = field(&field(&containers, 23), 1);
    named(&field(&container, 25), 1, "image");
    let labels = named(&field(&named(&field(&pod, 25), 1, "metadata"), 25), 1, "labels");
    assert_eq!(field(&field(&field(&field(&labels, 21), 1), 22), 1), b"string");
    let kinds = named(&pod, 31, "x-kubernetes-group-version-kind");
    let kinds: Value = serde_json::from_slice(&field(&kinds, 2)).unwrap();
    assert_eq!(kinds, json!([{"group": "", "version": "v1", "kind": "Pod"}]));

    let paths = merged(document::PATHS);
    assert_eq!(fields(&paths).len(), whole["paths"].as_object().unwrap().len());
    let item = named(&paths, 2, "/api/v1/namespaces/{namespace}/pods/{name}");
    let parameter = field(&field(&item, 8), 8);
    let query = field(&field(&field(&parameter, 1), 2), 3);
    assert_eq!(field(&query, 4), b"dryRun");
}

#[test]
fn each_part_is_small_beside_the_whole() {
    let parts: Vec<usize> = protobuf().map(|part| part.len()).collect();
    let (longest, all) = (parts.iter().max().unwrap(), parts.iter().sum::<usize>());
    assert!(longest * 4 < all, "{longest} of {all} bytes");
}
