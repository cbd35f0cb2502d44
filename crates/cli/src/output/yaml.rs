//! YAML as `kubectl` writes it: lists not indented, strings quoted where a reader could take them
//! for something else (`"1.0"`, `"on"`).

use serde_json::Value;

/// A value as a YAML document, with a final newline.
pub(crate) fn to_yaml(value: &Value) -> anyhow::Result<String> {
    let mut options = serde_saphyr::SerializerOptions::default();
    // Long lines stay lines; folding helps no one who searches or copies.
    options.folded_wrap_chars = usize::MAX;
    let mut text = serde_saphyr::to_string_with_options(value, options)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_looks_as_kubectl_writes_it() {
        let value = json!({
            "apiVersion": "v1",
            "metadata": { "labels": { "version": "1.0", "a": "on", "b": "null", "c": "0x1", "d": "" } },
            "spec": {
                "ports": [{ "name": "http", "port": 80 }, { "port": 443 }],
                "none": [],
                "nothing": {},
                "text": "two\nlines\n",
                "long": "word ".repeat(40).trim_end(),
                "ok": true,
                "void": null,
            }
        });
        let text = to_yaml(&value).unwrap();
        let expected = format!(
            r#"apiVersion: v1
metadata:
  labels:
    version: "1.0"
    a: "on"
    b: "null"
    c: "0x1"
    d: ""
spec:
  ports:
  - name: http
    port: 80
  - port: 443
  none: []
  nothing: {{}}
  text: |
    two
    lines
  long: {}
  ok: true
  void: null
"#,
            "word ".repeat(40).trim_end()
        );
        assert_eq!(text, expected);
    }
}
