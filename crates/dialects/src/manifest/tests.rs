//! Tests of manifest reading.

use serde_json::{Value, json};

use super::*;

fn values(text: &str) -> Vec<Value> {
    let parsed = parse(text);
    assert_eq!(parsed.errors, [], "{text}");
    parsed.documents.into_iter().map(|document| document.value).collect()
}

/// Trap 46: all that is found around documents in the wild.
#[test]
fn trap_46_oddities_of_documents() {
    let one = [json!({ "kind": "A", "apiVersion": "v1" })];
    for text in [
        "kind: A\napiVersion: v1",
        "---\nkind: A\napiVersion: v1\n---\n",
        "---\n---\n\n---\nkind: A\napiVersion: v1\n---\n# only a comment\n---",
        "# first\n---\n# second\nkind: A\napiVersion: \"v1\"\n...\n",
        "kind: A\napiVersion: v1\n...\n---\n...\n",
        "kind: A   \napiVersion: v1  \t\n   \n",
        "kind: A\r\napiVersion: v1\r\n---\r\n",
        "\u{feff}kind: A\napiVersion: v1\n",
        "---   # comment\nkind: A # another\napiVersion: v1\n",
        "%YAML 1.2\n---\nkind: A\napiVersion: v1\n",
        "{\"kind\": \"A\", \"apiVersion\": \"v1\"}",
        "{\n\t\"kind\": \"A\",\n\t\"apiVersion\": \"v1\"\n}\n",
    ] {
        assert_eq!(values(text), one, "{text:?}");
    }
    for text in ["", "\n\n", "---", "---\n---\n", "# nothing", "null", "~\n---\n", "...\n"] {
        assert_eq!(values(text), [] as [Value; 0], "{text:?}");
    }
}

#[test]
fn traps_22_and_46_quoted_versions_nulls_and_numbers_like_texts() {
    let text = r#"
apiVersion: "authentication.istio.io/v1alpha1"
kind: Policy
metadata:
  labels:
    version: "1.0"
    other: '1.0'
    bare: 1.0
spec:
  protocol:
  mode: 0644
  list:
  - mtls: 
      mode: STRICT
  block: |
    a: 1

    b
  folded: >-
    one
    two
"#;
    assert_eq!(
        values(text),
        [json!({
            "apiVersion": "authentication.istio.io/v1alpha1",
            "kind": "Policy",
            "metadata": { "labels": { "version": "1.0", "other": "1.0", "bare": 1 } },
            "spec": {
                "protocol": null,
                "mode": 420,
                "list": [{ "mtls": { "mode": "STRICT" } }],
                "block": "a: 1\n\nb\n",
                "folded": "one two",
            },
        })]
    );
}

#[test]
fn trap_46_carriage_returns_do_not_reach_texts() {
    let text = "kind: A\r\nspec:\r\n  script: |\r\n    one\r\n    two\r\n  name: x\r\n";
    assert_eq!(
        values(text),
        [json!({ "kind": "A", "spec": { "script": "one\ntwo\n", "name": "x" } })]
    );
}

#[test]
fn trap_46_lists_are_taken_apart_with_their_lines() {
    let text =
        "apiVersion: v1\nkind: List\nitems:\n- kind: A\n  spec:\n    x: 1\n-\n  kind: B\n- null\n";
    let documents = parse(text).documents;
    let summary: Vec<_> =
        documents.iter().map(|d| (d.value["kind"].as_str().unwrap(), d.line)).collect();
    assert_eq!(summary, [("A", 4), ("B", 8)]);
    assert_eq!(documents[0].lines.of("spec.x"), Some(6));
    assert_eq!(documents[0].lines.of("spec.y.z"), Some(5), "what is not there: what is around it");
    assert_eq!(values("{apiVersion: v1, kind: PodList, items: []}"), [] as [Value; 0]);
}

#[test]
fn lines_point_at_fields_and_items() {
    let text = "# c\n---\nkind: A\nmetadata:\n  labels:\n    a.b/c: x\nspec:\n  http:\n  - match:\n    - uri: {exact: /}\n  - route: []\n";
    let parsed = parse(text);
    let document = &parsed.documents[0];
    assert_eq!(document.line, 3);
    for (path, line) in [
        ("kind", 3),
        ("metadata.labels[\"a.b/c\"]", 6),
        ("spec.http", 8),
        ("spec.http[0].match[0].uri.exact", 10),
        ("spec.http[1]", 11),
        ("spec.http[1].route[3].weight", 11),
    ] {
        assert_eq!(document.lines.of(path), Some(line), "{path}");
    }
}

#[test]
fn anchors_and_merge_keys() {
    let text =
        "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nlist: [*b, *b]\nmany: {<<: [*b, {z: 4}]}\n";
    assert_eq!(
        values(text),
        [json!({
            "base": { "x": 1, "y": 2 },
            "use": { "y": 3, "x": 1 },
            "list": [{ "x": 1, "y": 2 }, { "x": 1, "y": 2 }],
            "many": { "x": 1, "y": 2, "z": 4 },
        })]
    );
}

#[test]
fn aliases_cannot_blow_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..9 {
        let of = format!("*a{}", n - 1);
        let many = vec![of; 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{many}]\n"));
    }
    let parsed = parse(&text);
    assert_eq!(parsed.documents, []);
    assert!(parsed.errors[0].message.contains("more than"), "{}", parsed.errors[0]);
}

#[test]
fn depth_is_limited() {
    let text = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(parse(&text).errors.len(), 1);
}

#[test]
fn a_broken_document_does_not_hide_the_others() {
    let text = "kind: A\n---\nkind: B\n  bad: x\n---\nkind: C\n---\n- a list\n---\nkind: D\n";
    let parsed = parse(text);
    let kinds: Vec<_> =
        parsed.documents.iter().map(|d| d.value["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["A", "C", "D"]);
    assert_eq!(parsed.errors.len(), 2, "{:?}", parsed.errors);
    let shown = parsed.errors[0].to_string();
    assert!(shown.starts_with("line 4, column "), "{shown}");
    assert!(shown.contains("    4 |   bad: x\n"), "{shown}");
}

#[test]
fn tabs_as_indentation_are_an_error_with_its_place() {
    let parsed = parse("kind: A\nspec:\n\tname: x\n");
    assert_eq!(parsed.documents, []);
    assert_eq!(parsed.errors[0].line, 3, "{}", parsed.errors[0]);
}

#[test]
fn of_a_key_that_stands_twice_the_last_counts() {
    let parsed = parse("apiVersion: v1\nkind: A\napiVersion: v2\n");
    assert_eq!(parsed.documents[0].value, json!({ "apiVersion": "v2", "kind": "A" }));
    assert_eq!((parsed.warnings.len(), parsed.warnings[0].line), (1, 3));
}

#[test]
fn json_with_what_yaml_does_not_have() {
    assert_eq!(values("{\"kind\": \"\\ud83d\\ude00\"}"), [json!({ "kind": "😀" })]);
    assert_eq!(values("{\"kind\": \"A\"}\n{\"kind\": \"B\"}\n").len(), 2);
}
